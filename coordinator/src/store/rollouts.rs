//! Rollouts, each with its state as one JSON document that only `rollout` reads.

use drover_proto::{
    event::EventKind,
    name::{AppName, RolloutId},
};

use super::{Result, Store, StoreError, audit, commit, events, from_int, numbers, parse, to_int};

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

/// How a rollout has ended, for the audit log and the events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RolloutEnd<'a> {
    /// Of which app.
    pub app: &'a AppName,
    /// Who began it.
    pub who: &'a str,
    /// One word.
    pub state: &'a str,
    /// Why it is not well.
    pub reason: Option<&'a str>,
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
    /// Stores a new, active rollout, and tells of it: `who` began `what`. `document` makes its state from the number it
    /// gets.
    pub async fn create_rollout(
        &self,
        app: &AppName,
        who: &str,
        what: &str,
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
        let subject = format!("{id}: {what}");
        audit::record(&mut tx, who, "rollout begin", &subject, now_ms).await?;
        let said = format!("rollout {subject}, by {who}");
        events::record(&mut tx, None, Some(app), EventKind::RolloutStarted, said, now_ms).await?;
        commit(tx).await?;
        self.tally.rollout_started();
        self.events_changed();
        Ok(id)
    }
    /// Stores a rollout's new state; with `active` false it has ended, at `now_ms` unless it had before. `end` is told
    /// with it: give it only with the state after which it is not due any more, so that it is told once.
    pub async fn save_rollout(
        &self,
        id: RolloutId,
        document: &str,
        active: bool,
        end: Option<RolloutEnd<'_>>,
        now_ms: i64,
    ) -> Result<()> {
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
        if let Some(RolloutEnd { app, who, state, reason }) = end {
            audit::record(&mut tx, who, "rollout end", &format!("{id} ({app}): {state}"), now_ms).await?;
            let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let said = format!("rollout {id}: {state}{why}");
            events::record(&mut tx, None, Some(app), EventKind::RolloutEnded, said, now_ms).await?;
        }
        commit(tx).await?;
        if let Some(end) = end {
            self.tally.rollout_ended(end.state);
            self.events_changed();
        }
        Ok(())
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
