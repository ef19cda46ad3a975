//! What must not come back with a backup: tokens that somebody may have used or revoked since, and rollouts that were under
//! way, which would take hosts back to what was wanted then. For `admin/restore`, on a database file that nobody has open.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

use super::{Result, StoreError, audit, commit};

/// What was put to rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rested {
    /// Tokens that could still be used, now revoked.
    pub tokens: u64,
    /// Rollouts that had not ended, now ended.
    pub rollouts: usize,
}

/// Revokes every token that could still be used, ends every rollout that had not ended (`end` makes its last document
/// from the one that is stored), and records who restored.
pub async fn put_to_rest(path: &Path, who: &str, now_ms: i64, end: impl Fn(&str) -> Option<String>) -> Result<Rested> {
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
    let active: Vec<(i64, String)> = sqlx::query_as("SELECT id, document FROM rollouts WHERE active = 1")
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
    for (id, document) in &active {
        let ended = end(document).ok_or(StoreError::Damaged("a rollout"))?;
        sqlx::query("UPDATE rollouts SET document = $2, active = 0, ended_ms = $3 WHERE id = $1")
            .bind(id)
            .bind(ended)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    // What was paused with a rollout would stand still for ever.
    sqlx::query(
        "UPDATE hosts SET generation = generation + 1 WHERE id IN (SELECT host FROM host_apps WHERE paused = 1)",
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    sqlx::query("UPDATE host_apps SET paused = 0").execute(&mut *tx).await.map_err(failed)?;
    let rested = Rested { tokens: done.rows_affected(), rollouts: active.len() };
    let subject = format!("{} unused tokens revoked, {} rollouts aborted", rested.tokens, rested.rollouts);
    audit::record(&mut tx, who, "restore", &subject, now_ms).await?;
    commit(tx).await?;
    pool.close().await;
    Ok(rested)
}
