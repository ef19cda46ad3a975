//! What happened: told by hosts, each event once, and recorded by the coordinator itself. The newest are kept.
//!
//! `session` brings the hosts' events, none of which has a kind of the coordinator's; `rpc/operator` lists and follows
//! them. A change of hosts or rollouts records its own event in its own transaction. Those are not for hosts to push out.

use std::collections::BTreeSet;

use drover_proto::{
    event::{Event, EventKind},
    name::{AppName, HostId, HostName},
    view::EventView,
};
use sqlx::{Sqlite, Transaction};
use tokio::sync::watch;

use super::{Result, Store, StoreError, commit, parse, to_int};

/// Spools of one host whose numbers are remembered: each run of its agent has one, and only the last few can be sent
/// from again.
const SPOOLS_PER_HOST: i64 = 16;

/// How many events are kept, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Of all together.
    pub max_total: u32,
    /// Of one host.
    pub max_per_host: u32,
    /// In ms, by the coordinator's clock.
    pub max_age_ms: i64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_total: 100_000, max_per_host: 10_000, max_age_ms: 90 * 86_400_000 }
    }
}

/// Which host's events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OfHost {
    /// The one with this id.
    Id(HostId),
    /// Of those that had this name.
    Name(HostName),
}

/// Which events are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventFilter {
    /// Only of it.
    pub host: Option<OfHost>,
    /// Only of it.
    pub app: Option<AppName>,
    /// Only what happened then or later, Unix ms.
    pub since_ms: Option<i64>,
}

macro_rules! select {
    ($order:literal) => {
        concat!(
            "SELECT id, at_ms, received_ms, host, host_name, app, kind, message FROM events
             WHERE id > $1 AND id <= $2 AND ($3 IS NULL OR host = $3) AND ($4 IS NULL OR host_name = $4)
             AND ($5 IS NULL OR app = $5) AND ($6 IS NULL OR at_ms >= $6) ORDER BY id ",
            $order,
            " LIMIT $7"
        )
    };
}

type Row = (i64, i64, i64, Option<String>, Option<String>, Option<String>, String, String);

impl Store {
    /// Stores a batch of a host's events, oldest first. `first_seq`: of the first within `spool`. Those that are in
    /// already are left out; `None` stands for one that could not be read. All or nothing.
    pub async fn add_events(
        &self,
        host: &HostId,
        spool: &str,
        first_seq: u64,
        events: &[Option<Event>],
        now_ms: i64,
    ) -> Result<()> {
        let failed = |e| StoreError::Sql("keep events", e);
        let Some(last_seq) = first_seq.checked_add(events.len() as u64).and_then(|end| end.checked_sub(1)) else {
            return Err(StoreError::Damaged("the numbers of events"));
        };
        let last_seq = to_int(last_seq, "the numbers of events")?;
        let mut tx = self.begin().await?;
        let (name,): (String,) = sqlx::query_as("SELECT name FROM hosts WHERE id = $1")
            .bind(host.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?
            .ok_or_else(|| StoreError::NotFound(format!("host {host}")))?;
        let known: Option<(i64,)> = sqlx::query_as("SELECT highest FROM event_spools WHERE host = $1 AND spool = $2")
            .bind(host.as_str())
            .bind(spool)
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?;
        let highest = known.map_or(0, |(highest,)| highest.unsigned_abs());
        for (seq, event) in (first_seq..).zip(events) {
            if let Some(event) = event.as_ref().filter(|_| seq > highest) {
                insert(&mut tx, Some((host, &name)), event, now_ms).await?;
            }
        }
        sqlx::query(
            "INSERT INTO event_spools (host, spool, highest, used_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (host, spool) DO UPDATE SET highest = MAX(highest, $3), used_ms = $4",
        )
        .bind(host.as_str())
        .bind(spool)
        .bind(last_seq)
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        self.sweep_host(&mut tx, host).await?;
        commit(tx).await?;
        self.tally.events((first_seq..).zip(events).filter(|(seq, event)| *seq > highest && event.is_some()).count());
        self.events_changed();
        Ok(())
    }

    /// The apps of which a host has told something that is still kept.
    pub async fn apps_told(&self, host: &HostId) -> Result<BTreeSet<AppName>> {
        let rows: Vec<(String,)> =
            sqlx::query_as("SELECT DISTINCT app FROM events WHERE host = $1 AND app IS NOT NULL")
                .bind(host.as_str())
                .fetch_all(&self.read)
                .await
                .map_err(|e| StoreError::Sql("read the apps that a host told of", e))?;
        rows.iter().map(|(app,)| parse(app, "an event's app")).collect()
    }

    /// What the coordinator itself recorded about the host stays.
    async fn sweep_host(&self, tx: &mut Transaction<'static, Sqlite>, host: &HostId) -> Result<()> {
        let failed = |e| StoreError::Sql("drop old events", e);
        sqlx::query(
            "DELETE FROM events WHERE host = $1 AND id <=
             (SELECT id FROM events WHERE host = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)
             AND kind NOT IN (SELECT value FROM json_each($3))",
        )
        .bind(host.as_str())
        .bind(i64::from(self.retention.max_per_host))
        .bind(own_kinds()?)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
        sqlx::query(
            "DELETE FROM event_spools WHERE host = $1 AND spool NOT IN
             (SELECT spool FROM event_spools WHERE host = $1 ORDER BY used_ms DESC, rowid DESC LIMIT $2)",
        )
        .bind(host.as_str())
        .bind(SPOOLS_PER_HOST)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
        Ok(())
    }

    /// Drops what is too old or too much; of that, first what hosts told.
    pub async fn sweep_events(&self, now_ms: i64) -> Result<()> {
        let failed = |e| StoreError::Sql("drop old events", e);
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM events WHERE received_ms < $1")
            .bind(now_ms.saturating_sub(self.retention.max_age_ms))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        let (count,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM events").fetch_one(&mut *tx).await.map_err(failed)?;
        let too_many = (count - i64::from(self.retention.max_total)).max(0);
        sqlx::query(
            "DELETE FROM events WHERE id IN (SELECT id FROM events
             WHERE kind NOT IN (SELECT value FROM json_each($1)) ORDER BY id LIMIT $2)",
        )
        .bind(own_kinds()?)
        .bind(too_many)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        sqlx::query("DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET $1)")
            .bind(i64::from(self.retention.max_total))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        commit(tx).await
    }

    /// The number of the newest event; 0 = there is none.
    pub async fn newest_event(&self) -> Result<i64> {
        let (newest,): (Option<i64>,) = sqlx::query_as("SELECT MAX(id) FROM events")
            .fetch_one(&self.read)
            .await
            .map_err(|e| StoreError::Sql("list events", e))?;
        Ok(newest.unwrap_or(0))
    }
    /// The newest `limit` events up to number `up_to`, oldest first.
    pub async fn events_before(&self, filter: &EventFilter, up_to: i64, limit: u32) -> Result<Vec<EventView>> {
        let mut events = self.read_events(select!("DESC"), filter, (0, up_to), limit).await?;
        events.reverse();
        Ok(events)
    }
    /// The first events after number `after`, up to number `up_to`, oldest first; at most `limit`.
    pub async fn events_between(
        &self,
        filter: &EventFilter,
        after: i64,
        up_to: i64,
        limit: u32,
    ) -> Result<Vec<EventView>> {
        self.read_events(select!("ASC"), filter, (after, up_to), limit).await
    }
    /// Changes with every event.
    #[must_use]
    pub fn watch_events(&self) -> watch::Receiver<()> {
        self.events.subscribe()
    }

    async fn read_events(
        &self,
        select: &'static str,
        filter: &EventFilter,
        (after, up_to): (i64, i64),
        limit: u32,
    ) -> Result<Vec<EventView>> {
        let (id, name) = match &filter.host {
            Some(OfHost::Id(id)) => (Some(id.as_str()), None),
            Some(OfHost::Name(name)) => (None, Some(name.as_str())),
            None => (None, None),
        };
        let rows: Vec<Row> = sqlx::query_as(select)
            .bind(after)
            .bind(up_to)
            .bind(id)
            .bind(name)
            .bind(filter.app.as_ref().map(AppName::as_str))
            .bind(filter.since_ms)
            .bind(i64::from(limit))
            .fetch_all(&self.read)
            .await
            .map_err(|e| StoreError::Sql("list events", e))?;
        rows.into_iter().map(view).collect()
    }

    /// Wakes those who follow; after the commit.
    pub(super) fn events_changed(&self) {
        self.events.send_replace(());
    }
}

/// The kinds of the coordinator's own events, as a JSON list.
fn own_kinds() -> Result<String> {
    serde_json::to_string(&EventKind::OF_COORDINATOR).map_err(|_| StoreError::Damaged("the kinds of events"))
}

fn view((id, at_unix_ms, received_unix_ms, host, name, app, kind, message): Row) -> Result<EventView> {
    Ok(EventView {
        id,
        at_unix_ms,
        received_unix_ms,
        host: name,
        host_id: host.map(|host| parse(&host, "an event's host")).transpose()?,
        app: app.map(|app| parse(&app, "an event's app")).transpose()?,
        kind,
        message,
    })
}

/// An event of the coordinator's own, in a transaction that is under way; call `events_changed` after its commit.
pub(super) async fn record(
    tx: &mut Transaction<'static, Sqlite>,
    host: Option<(&HostId, &str)>,
    app: Option<&AppName>,
    kind: EventKind,
    message: String,
    now_ms: i64,
) -> Result<()> {
    debug_assert!(EventKind::OF_COORDINATOR.contains(&kind), "{kind} would be swept as a host's");
    let event = Event { at_unix_ms: now_ms, app: app.cloned(), kind, message };
    insert(tx, host, &event, now_ms).await
}

async fn insert(
    tx: &mut Transaction<'static, Sqlite>,
    host: Option<(&HostId, &str)>,
    event: &Event,
    now_ms: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO events (host, host_name, at_ms, received_ms, app, kind, message)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(host.map(|(id, _)| id.as_str()))
    .bind(host.map(|(_, name)| name))
    .bind(event.at_unix_ms)
    .bind(now_ms)
    .bind(event.app.as_ref().map(AppName::as_str))
    .bind(event.kind.to_string())
    .bind(&event.message)
    .execute(&mut **tx)
    .await
    .map_err(|e| StoreError::Sql("keep an event", e))?;
    Ok(())
}

#[cfg(test)]
mod tests;
