//! Brings the database file forward, one numbered SQL file at a time, after a copy of it. Never backward.

use std::{fs, io, os::unix::fs::OpenOptionsExt, path::Path};

use sqlx::SqlitePool;

use super::{Result, StoreError, Upgrade};

/// Each brings the file from the version before to its own; what has been released is never changed.
const MIGRATIONS: &[(i64, &str)] = &[(1, include_str!("migrations/0001_first.sql"))];

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
    let from = version(pool).await?;
    let wrong = |hint| Err(StoreError::Version { found: from, wanted: SCHEMA_VERSION, hint });
    if from == SCHEMA_VERSION {
        return Ok(());
    }
    if from > SCHEMA_VERSION {
        return wrong("it was written by a newer drover-coordinator; install that, or restore a backup");
    }
    if upgrade == Upgrade::Refuse {
        return wrong("restart the coordinator, which migrates it");
    }
    let failed = |source| StoreError::Migrate { from, to: SCHEMA_VERSION, source };
    if from > 0 {
        let copy_path = path.with_added_extension(format!("before-v{SCHEMA_VERSION}"));
        // An earlier attempt that failed left it; the database has not changed since.
        if copy_path.exists() {
            fs::remove_file(&copy_path).map_err(|e| failed(sqlx::Error::Io(e)))?;
        }
        copy(pool, &copy_path).await.map_err(failed)?;
        tracing::info!(copy = %copy_path.display(), from, to = SCHEMA_VERSION, "migrating the store");
    }
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    for (number, text) in MIGRATIONS.iter().filter(|(number, _)| *number > from) {
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
