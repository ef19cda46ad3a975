//! What must not come back with a backup: tokens that somebody may have used or revoked since, and rollouts that were under
//! way, which would take hosts back to what was wanted then. For `admin/restore`, on a database file that nobody has open.

use std::path::Path;

use sqlx::{
    Sqlite, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};

use super::{Result, StoreError, audit, commit, numbers};

/// What was put to rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rested {
    /// Tokens that could still be used, now revoked.
    pub tokens: u64,
    /// Rollouts that had not ended, now ended.
    pub rollouts: usize,
}

/// Revokes every token that could still be used, ends every rollout that had not ended (`end` makes its last document
/// from the one that is stored), has the numbers of rollouts go on from above those of the backup and of the store at
/// `former`, if there is one, and records who restored.
pub async fn put_to_rest(
    path: &Path,
    former: &Path,
    who: &str,
    now_ms: i64,
    end: impl Fn(&str) -> Option<String>,
) -> Result<Rested> {
    let lost = if former.exists() { numbers::highest_rollout(former).await } else { 0 };
    let failed = |e| StoreError::Sql("put what a backup had under way to rest", e);
    // No write-ahead log: the file alone is moved to its place.
    let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Delete);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .map_err(|source| StoreError::Open { path: path.display().to_string(), source })?;
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let done =
        sqlx::query("UPDATE tokens SET revoked_ms = $1 WHERE revoked_ms IS NULL AND uses_left > 0 AND expires_ms > $1")
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    let rollouts = end_rollouts(&mut tx, now_ms, end).await?;
    // What was paused with a rollout would stand still for ever.
    sqlx::query(
        "UPDATE hosts SET generation = generation + 1 WHERE id IN (SELECT host FROM host_apps WHERE paused = 1)",
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    sqlx::query("UPDATE host_apps SET paused = 0").execute(&mut *tx).await.map_err(failed)?;
    numbers::leap(&mut tx, lost).await?;
    let rested = Rested { tokens: done.rows_affected(), rollouts };
    let subject = format!("{} unused tokens revoked, {} rollouts aborted", rested.tokens, rested.rollouts);
    audit::record(&mut tx, who, "restore", &subject, now_ms).await?;
    commit(tx).await?;
    pool.close().await;
    Ok(rested)
}

/// Answers how many.
async fn end_rollouts(
    tx: &mut Transaction<'static, Sqlite>,
    now_ms: i64,
    end: impl Fn(&str) -> Option<String>,
) -> Result<usize> {
    let failed = |e| StoreError::Sql("end what a backup had under way", e);
    let active: Vec<(i64, String)> = sqlx::query_as("SELECT id, document FROM rollouts WHERE active = 1")
        .fetch_all(&mut **tx)
        .await
        .map_err(failed)?;
    for (id, document) in &active {
        let ended = end(document).ok_or(StoreError::Damaged("a rollout"))?;
        sqlx::query("UPDATE rollouts SET document = $2, active = 0, ended_ms = $3 WHERE id = $1")
            .bind(id)
            .bind(ended)
            .bind(now_ms)
            .execute(&mut **tx)
            .await
            .map_err(failed)?;
    }
    Ok(active.len())
}

#[cfg(test)]
impl super::Store {
    /// As `put_to_rest`, in a store that is in use.
    pub async fn seem_restored(&self, now_ms: i64) {
        let mut tx = self.begin().await.unwrap();
        numbers::leap(&mut tx, 0).await.unwrap();
        audit::record(&mut tx, "root", "restore", "", now_ms).await.unwrap();
        commit(tx).await.unwrap();
    }
}
