//! Rollouts, each with its state as one JSON document that only `rollout` reads.

use drover_proto::name::{AppName, RolloutId};

use super::{Result, Store, StoreError, commit, from_int, numbers, parse, to_int};

/// A rollout as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredRollout {
    /// Its number, counted over the whole coordinator.
    pub id: RolloutId,
    /// Of which app.
    pub app: AppName,
    /// Whether it may still change.
    pub active: bool,
    /// Its state, JSON.
    pub document: String,
    /// Unix ms.
    pub started_ms: i64,
    /// Unix ms.
    pub ended_ms: Option<i64>,
}

type Row = (i64, String, i64, String, i64, Option<i64>);

fn read(row: Row) -> Result<StoredRollout> {
    let (id, app, active, document, started_ms, ended_ms) = row;
    Ok(StoredRollout {
        id: from_int(id, "a rollout's number")?,
        app: parse(&app, "an app's name")?,
        active: active != 0,
        document,
        started_ms,
        ended_ms,
    })
}

impl Store {
    /// Stores a new, active rollout; `document` makes its state from the number it gets.
    pub async fn create_rollout(
        &self,
        app: &AppName,
        now_ms: i64,
        document: impl FnOnce(RolloutId) -> std::result::Result<String, serde_json::Error> + Send,
    ) -> Result<RolloutId> {
        let failed = |e| StoreError::Sql("store a rollout", e);
        let mut tx = self.begin().await?;
        let number = numbers::next(&mut tx, None).await?;
        let id = from_int(number, "a rollout's number")?;
        let text = document(id).map_err(|_| StoreError::Damaged("a rollout"))?;
        sqlx::query("INSERT INTO rollouts (id, app, active, document, started_ms) VALUES ($1, $2, 1, $3, $4)")
            .bind(number)
            .bind(app.as_str())
            .bind(text)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        commit(tx).await?;
        Ok(id)
    }
    /// Stores a rollout's new state; with `active` false it has ended, at `now_ms` unless it had before.
    pub async fn save_rollout(&self, id: RolloutId, document: &str, active: bool, now_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "UPDATE rollouts SET document = $2, active = $3,
             ended_ms = CASE WHEN $3 = 1 THEN NULL ELSE COALESCE(ended_ms, $4) END WHERE id = $1",
        )
        .bind(to_int(id, "a rollout's number")?)
        .bind(document)
        .bind(i64::from(active))
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .map_err(|e| StoreError::Sql("store a rollout", e))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotFound(format!("rollout {id}")));
        }
        commit(tx).await
    }
    /// One rollout.
    pub async fn rollout(&self, id: RolloutId) -> Result<Option<StoredRollout>> {
        let row: Option<Row> =
            sqlx::query_as("SELECT id, app, active, document, started_ms, ended_ms FROM rollouts WHERE id = $1")
                .bind(to_int(id, "a rollout's number")?)
                .fetch_optional(&self.read)
                .await
                .map_err(|e| StoreError::Sql("read a rollout", e))?;
        row.map(read).transpose()
    }
    /// Those that have not ended, oldest first.
    pub async fn active_rollouts(&self) -> Result<Vec<StoredRollout>> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, app, active, document, started_ms, ended_ms FROM rollouts WHERE active = 1 ORDER BY id",
        )
        .fetch_all(&self.read)
        .await
        .map_err(|e| StoreError::Sql("list rollouts", e))?;
        rows.into_iter().map(read).collect()
    }
    /// The newest `limit` of one app or (`None`) of all, newest first.
    pub async fn rollouts(&self, app: Option<&AppName>, limit: u32) -> Result<Vec<StoredRollout>> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, app, active, document, started_ms, ended_ms FROM rollouts
             WHERE $1 = '' OR app = $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(app.map_or("", AppName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await
        .map_err(|e| StoreError::Sql("list rollouts", e))?;
        rows.into_iter().map(read).collect()
    }
}
