//! Brings the database file forward, one numbered SQL file at a time, after a copy of it. Never backward.

use std::{fs, io, os::unix::fs::OpenOptionsExt, path::Path};

use sqlx::SqlitePool;

use super::{Result, StoreError, Upgrade};

/// A version, and the SQL that brings the file to it from the version before.
type Migration = (i64, &'static str);

/// In order; what has been released is never changed.
const MIGRATIONS: &[Migration] = &[
    (1, include_str!("migrations/0001_first.sql")),
    (2, include_str!("migrations/0002_numbers.sql")),
    (3, include_str!("migrations/0003_refused.sql")),
    (4, include_str!("migrations/0004_events.sql")),
    (5, include_str!("migrations/0005_once_restart_cordon.sql")),
    (6, include_str!("migrations/0006_keeps.sql")),
    (7, include_str!("migrations/0007_revoked_hosts.sql")),
    (8, include_str!("migrations/0008_renewal.sql")),
    (9, include_str!("migrations/0009_compared.sql")),
    (10, include_str!("migrations/0010_figures.sql")),
    (11, include_str!("migrations/0011_alerts.sql")),
];

/// The version that this program reads and writes.
pub const SCHEMA_VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Makes an empty file that only its owner can read, unless it is there. SQLite gives its own side files the same mode.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Migrates `path`, which `pool` has open, to `SCHEMA_VERSION`; a copy stays at `<path>.before-v<N>`.
pub(super) async fn run(pool: &SqlitePool, path: &Path, upgrade: Upgrade) -> Result<()> {
    bring_to_newest(pool, path, upgrade, MIGRATIONS).await
}

async fn bring_to_newest(pool: &SqlitePool, path: &Path, upgrade: Upgrade, migrations: &[Migration]) -> Result<()> {
    let from = version(pool).await?;
    let to = migrations.last().map_or(0, |(number, _)| *number);
    let wrong = |hint| Err(StoreError::Version { found: from, wanted: to, hint });
    if from == to {
        return Ok(());
    }
    if from > to {
        return wrong("it was written by a newer drover-coordinator; install that, or restore a backup");
    }
    if upgrade == Upgrade::Refuse {
        return wrong("restart the coordinator, which migrates it");
    }
    let failed = |source| StoreError::Migrate { from, to, source };
    if from > 0 {
        let copy_path = path.with_added_extension(format!("before-v{to}"));
        // An earlier attempt that failed left it; the database has not changed since.
        if copy_path.exists() {
            fs::remove_file(&copy_path).map_err(|e| failed(sqlx::Error::Io(e)))?;
        }
        copy(pool, &copy_path).await.map_err(failed)?;
        tracing::info!(copy = %copy_path.display(), from, to, "migrating the store");
    }
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    for (number, text) in migrations.iter().filter(|(number, _)| *number > from) {
        sqlx::raw_sql(*text).execute(&mut *tx).await.map_err(failed)?;
        sqlx::query("INSERT INTO schema_version (version) VALUES ($1)")
            .bind(number)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    tx.commit().await.map_err(failed)
}

/// Writes one consistent copy to `path`, which must not exist, with mode 0600.
pub(super) async fn copy(pool: &SqlitePool, path: &Path) -> std::result::Result<(), sqlx::Error> {
    if path.exists() {
        return Err(sqlx::Error::Io(io::ErrorKind::AlreadyExists.into()));
    }
    // VACUUM INTO accepts an empty file, which then keeps its mode.
    create_private(path).map_err(sqlx::Error::Io)?;
    sqlx::query("VACUUM INTO $1").bind(path.to_string_lossy()).execute(pool).await?;
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(sqlx::Error::Io)
}

/// The newest migration in the file; 0 when it is empty.
pub(super) async fn version(pool: &SqlitePool) -> Result<i64> {
    let failed = |e| StoreError::Sql("read its version", e);
    let known: Option<(String,)> = sqlx::query_as("SELECT name FROM sqlite_master WHERE name = 'schema_version'")
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
    if known.is_none() {
        return Ok(0);
    }
    let (newest,): (Option<i64>,) =
        sqlx::query_as("SELECT MAX(version) FROM schema_version").fetch_one(pool).await.map_err(failed)?;
    Ok(newest.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    //! Going forward from a version that has data.
    use std::os::unix::fs::PermissionsExt as _;

    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;

    const FIRST: Migration = MIGRATIONS[0];
    const SECOND: Migration = (2, "CREATE TABLE later (name TEXT NOT NULL); INSERT INTO later VALUES ('x');");
    const BROKEN: Migration = (2, "CREATE TABLE later (name TEXT NOT NULL); INSERT INTO nowhere VALUES (1);");

    async fn open(path: &Path) -> SqlitePool {
        SqlitePool::connect_with(SqliteConnectOptions::new().filename(path)).await.unwrap()
    }

    #[tokio::test]
    async fn a_copy_is_kept_before_the_file_goes_forward() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coordinator.db");
        create_private(&path).unwrap();
        let pool = open(&path).await;
        bring_to_newest(&pool, &path, Upgrade::Migrate, &[FIRST]).await.unwrap();
        let copy_path = dir.path().join("coordinator.db.before-v2");
        assert!(!copy_path.exists(), "an empty file needs no copy");

        let failed = bring_to_newest(&pool, &path, Upgrade::Migrate, &[FIRST, BROKEN]).await;
        assert!(matches!(failed, Err(StoreError::Migrate { from: 1, to: 2, .. })), "{failed:?}");
        assert_eq!(version(&pool).await.unwrap(), 1, "a migration that fails changes nothing");

        bring_to_newest(&pool, &path, Upgrade::Migrate, &[FIRST, SECOND]).await.unwrap();
        assert_eq!(version(&pool).await.unwrap(), 2);
        assert_eq!(fs::metadata(&copy_path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(version(&open(&copy_path).await).await.unwrap(), 1, "the copy is as it was before");
    }

    #[tokio::test]
    async fn hosts_of_a_restored_store_are_compared_unless_they_have_been() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coordinator.db");
        create_private(&path).unwrap();
        let pool = open(&path).await;
        bring_to_newest(&pool, &path, Upgrade::Migrate, &MIGRATIONS[..8]).await.unwrap();
        sqlx::raw_sql(
            "PRAGMA foreign_keys = off;
             INSERT INTO audit (at_ms, who, action, subject) VALUES (50, 'root', 'restore', ''), (60, 'ada', 'release', '');
             INSERT INTO hosts (id, name, labels, token_id, enrolled_by, enrolled_ms, serial, agent_version, os, generation,
             accepted, reported_ms) VALUES ('away', 'a', '{}', '', '', 1, '', '', '', 0, 0, 40),
             ('back', 'b', '{}', '', '', 1, '', '', '', 0, 0, 55), ('new', 'c', '{}', '', '', 52, '', '', '', 0, 0, NULL);
             INSERT INTO rollouts (id, app, active, started_ms, document) VALUES
             (1, 'old', 0, 40, '{\"hosts\":[{\"id\":\"away\",\"asked\":{}}]}'),
             (2, 'mono', 0, 53, '{\"hosts\":[{\"id\":\"away\",\"asked\":{}},{\"id\":\"back\",\"asked\":{}}]}'),
             (3, 'blog', 0, 54, '{\"hosts\":[{\"id\":\"away\",\"asked\":null}]}');",
        )
        .execute(&pool)
        .await
        .unwrap();
        bring_to_newest(&pool, &path, Upgrade::Migrate, &MIGRATIONS[..9]).await.unwrap();
        let hosts: Vec<(String, i64)> =
            sqlx::query_as("SELECT id, compared FROM hosts ORDER BY id").fetch_all(&pool).await.unwrap();
        assert_eq!(hosts, [("away".to_owned(), 0), ("back".to_owned(), 1), ("new".to_owned(), 1)]);
        let asked: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT host, app, restore FROM host_asked").fetch_all(&pool).await.unwrap();
        assert_eq!(asked, [("away".to_owned(), "mono".to_owned(), 1)]);
    }
}
