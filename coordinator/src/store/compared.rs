//! After a restore from a backup: which hosts hold what nobody has compared with this store yet, and what was asked of them
//! meanwhile. `session/ahead` compares; beside `specs`, which keeps what comes of it. Restores are counted by their line in
//! the audit, not by a clock.

use std::collections::BTreeSet;

use drover_proto::name::{AppName, HostId, RolloutId};
use sqlx::{Sqlite, Transaction};

use super::{Result, Store, StoreError, commit, from_int, numbers::RESTORED, parse};

impl Store {
    /// Up to which number rollouts are from before this store was restored, if the host has not been compared since. Where
    /// that was not noted, all are.
    pub async fn uncompared_since(&self, host: &HostId) -> Result<Option<RolloutId>> {
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT COALESCE((SELECT highest FROM numbers WHERE app = $2), $3) FROM hosts h
             WHERE h.id = $1 AND EXISTS (SELECT 1 FROM audit WHERE action = 'restore' AND id > h.compared)",
        )
        .bind(host.as_str())
        .bind(RESTORED)
        .bind(i64::MAX)
        .fetch_optional(&self.read)
        .await
        .map_err(|e| StoreError::Sql("look for a restore", e))?;
        row.map(|(highest,)| from_int(highest, "a rollout's number")).transpose()
    }
    /// The apps of which something was asked of a host since this store was restored, before it was compared: what is
    /// stored of them is newer than what the host holds.
    pub async fn asked_since_restore(&self, host: &HostId) -> Result<BTreeSet<AppName>> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT app FROM host_asked WHERE host = $1 AND restore = (SELECT MAX(id) FROM audit WHERE action = 'restore')",
        )
        .bind(host.as_str())
        .fetch_all(&self.read)
        .await
        .map_err(|e| StoreError::Sql("read what a host was asked", e))?;
        rows.iter().map(|(app,)| parse(app, "an app's name")).collect()
    }
    /// The host has been compared, and what is to be kept of it is kept: from now on the store knows better.
    pub async fn set_compared(&self, host: &HostId) -> Result<()> {
        let failed = |e| StoreError::Sql("note that a host was compared", e);
        let mut tx = self.begin().await?;
        sqlx::query(
            "UPDATE hosts SET compared = (SELECT COALESCE(MAX(id), 0) FROM audit WHERE action = 'restore') WHERE id = $1",
        )
        .bind(host.as_str())
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        sqlx::query("DELETE FROM host_asked WHERE host = $1")
            .bind(host.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        commit(tx).await
    }
}

/// Notes that something is asked of a host, if it is still to be compared.
pub(super) async fn note_asked(tx: &mut Transaction<'static, Sqlite>, host: &HostId, app: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO host_asked (host, app, restore)
         SELECT h.id, $2, MAX(a.id) FROM hosts h, audit a WHERE h.id = $1 AND a.action = 'restore'
         GROUP BY h.id HAVING MAX(a.id) > h.compared ON CONFLICT (host, app, restore) DO NOTHING",
    )
    .bind(host.as_str())
    .bind(app)
    .execute(&mut **tx)
    .await
    .map_err(|e| StoreError::Sql("note what a host is asked", e))?;
    Ok(())
}
