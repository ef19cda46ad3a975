//! Who did what, when. Most entries are written by the change they tell of, in its transaction; `rpc` and `rollout`
//! record the rest.

use drover_proto::view::AuditView;
use sqlx::{Sqlite, Transaction};

use super::{Result, Store, StoreError, commit};

impl Store {
    /// Notes that `who` did `action` to `subject` at `now_ms`.
    pub async fn record(&self, who: &str, action: &str, subject: &str, now_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        record(&mut tx, who, action, subject, now_ms).await?;
        commit(tx).await
    }
    /// The newest `limit` entries, newest first.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditView>> {
        let rows: Vec<(i64, String, String, String)> =
            sqlx::query_as("SELECT at_ms, who, action, subject FROM audit ORDER BY id DESC LIMIT $1")
                .bind(i64::from(limit))
                .fetch_all(&self.read)
                .await
                .map_err(|e| StoreError::Sql("list the audit log", e))?;
        Ok(rows
            .into_iter()
            .map(|(at_unix_ms, who, action, subject)| AuditView { at_unix_ms, who, action, subject })
            .collect())
    }
}

/// Notes it in a transaction that is under way.
pub(super) async fn record(
    tx: &mut Transaction<'static, Sqlite>,
    who: &str,
    action: &str,
    subject: &str,
    now_ms: i64,
) -> Result<()> {
    sqlx::query("INSERT INTO audit (at_ms, who, action, subject) VALUES ($1, $2, $3, $4)")
        .bind(now_ms)
        .bind(who)
        .bind(action)
        .bind(subject)
        .execute(&mut **tx)
        .await
        .map_err(|e| StoreError::Sql("write the audit log", e))?;
    Ok(())
}
