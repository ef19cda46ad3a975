//! What must not come back with a backup: tokens that somebody may have used or revoked since. For `admin/restore`, on a
//! database file that nobody has open.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

use super::{Result, StoreError, audit, commit};

/// Revokes every token that could still be used, and records who restored; answers how many tokens that were.
pub async fn revoke_unused_tokens(path: &Path, who: &str, now_ms: i64) -> Result<u64> {
    let failed = |e| StoreError::Sql("revoke the tokens of a backup", e);
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
    let revoked = done.rows_affected();
    audit::record(&mut tx, who, "restore", &format!("{revoked} unused tokens revoked"), now_ms).await?;
    commit(tx).await?;
    pool.close().await;
    Ok(revoked)
}
