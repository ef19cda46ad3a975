//! What alerts leave behind: silences, what each receiver was told, and the notifications that wait for delivery. `alert` calls it.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    event::EventKind,
    name::{HostId, NotifierName},
};

use super::{Result, Store, StoreError, audit, commit, events, from_int, from_json, parse, to_json};

/// A silence, as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSilence {
    /// Random.
    pub id: String,
    /// As they were written.
    pub matchers: Vec<String>,
    /// Unix ms.
    pub starts_ms: i64,
    /// Unix ms.
    pub ends_ms: i64,
    /// Who.
    pub created_by: String,
    /// Why.
    pub reason: String,
}

/// What the coordinator itself knows of the alerts of one host from now on.
#[derive(Clone, Debug)]
pub struct FleetChange {
    /// Which.
    pub host: HostId,
    /// All of it, as JSON.
    pub document: String,
    /// What began and ended, as events.
    pub told: Vec<(EventKind, String)>,
}

/// What becomes of one group of alerts at one receiver.
#[derive(Clone, Debug)]
pub struct GroupChange {
    /// Which.
    pub key: String,
    /// What it was told from now on; `None`: nothing that needs remembering.
    pub group: Option<String>,
    /// What it is told now.
    pub notification: Option<NewNotification>,
}

/// Something to be sent.
#[derive(Clone, Debug)]
pub struct NewNotification {
    /// To whom.
    pub notifier: NotifierName,
    /// `notify::Notification`, as JSON.
    pub document: String,
}

/// Something that waits to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredNotification {
    /// In this order, per receiver.
    pub seq: i64,
    /// `notify::Notification`, as JSON.
    pub document: String,
    /// So many have failed.
    pub attempts: u64,
    /// Not before this, Unix ms.
    pub next_ms: i64,
    /// Some have taken it: it is for the others alone, and nothing waits behind it.
    pub is_rest: bool,
}

/// What became of an attempt to deliver one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attempt {
    /// Somebody took it.
    pub is_taken: bool,
    /// Why not everybody did.
    pub failure: Option<String>,
    /// What is told of it as an event.
    pub event: Option<String>,
    /// `None`: it is not tried again.
    pub again: Option<Again>,
}

/// Another attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Again {
    /// Not before this, Unix ms.
    pub next_ms: i64,
    /// What is left of it, since some have taken it; `None`: it is as it was.
    pub rest: Option<String>,
}

/// How a receiver is doing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NotifierState {
    /// Unix ms of the last one that was taken.
    pub delivered_ms: Option<i64>,
    /// Why the last attempt failed, or who did not take it then; `None` = it did not.
    pub failure: Option<String>,
}

impl Store {
    /// All silences, those that are over for less than a day among them, in the order of their ends.
    pub async fn silences(&self) -> Result<Vec<StoredSilence>> {
        type Row = (String, String, i64, i64, String, String);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, matchers, starts_ms, ends_ms, created_by, reason FROM silences ORDER BY ends_ms, id",
        )
        .fetch_all(&self.read)
        .await
        .map_err(|e| StoreError::Sql("list silences", e))?;
        let read = |(id, matchers, starts_ms, ends_ms, created_by, reason): Row| {
            let matchers = from_json(&matchers, "a silence")?;
            Ok(StoredSilence { id, matchers, starts_ms, ends_ms, created_by, reason })
        };
        rows.into_iter().map(read).collect()
    }

    /// Keeps a new silence, and forgets those that were over before `old_ms`.
    pub async fn add_silence(&self, silence: &StoredSilence, old_ms: i64, now_ms: i64) -> Result<()> {
        let failed = |e| StoreError::Sql("keep a silence", e);
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM silences WHERE ends_ms < $1").bind(old_ms).execute(&mut *tx).await.map_err(failed)?;
        sqlx::query(
            "INSERT INTO silences (id, matchers, starts_ms, ends_ms, created_by, reason) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&silence.id)
        .bind(to_json(&silence.matchers, "a silence")?)
        .bind(silence.starts_ms)
        .bind(silence.ends_ms)
        .bind(&silence.created_by)
        .bind(&silence.reason)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        let subject = format!("{} ({}): {}", silence.id, silence.matchers.join(","), silence.reason);
        audit::record(&mut tx, &silence.created_by, "silence add", &subject, now_ms).await?;
        commit(tx).await
    }

    /// Ends a silence now; one that is over stays as it is. `NotFound` when there is none.
    pub async fn end_silence(&self, id: &str, who: &str, now_ms: i64) -> Result<()> {
        let failed = |e| StoreError::Sql("end a silence", e);
        let mut tx = self.begin().await?;
        let ended = sqlx::query(
            "UPDATE silences SET ends_ms = $2, starts_ms = MIN(starts_ms, $2) WHERE id = $1 AND ends_ms > $2",
        )
        .bind(id)
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        if ended.rows_affected() == 0 {
            let known: Option<(String,)> = sqlx::query_as("SELECT id FROM silences WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
            return known.map(|_| ()).ok_or_else(|| StoreError::NotFound(format!("silence {id}")));
        }
        audit::record(&mut tx, who, "silence end", id, now_ms).await?;
        commit(tx).await
    }

    /// By host, what the coordinator itself knows of its alerts, as JSON.
    pub async fn fleet_alerts(&self) -> Result<BTreeMap<HostId, String>> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT host, document FROM fleet_alerts")
            .fetch_all(&self.read)
            .await
            .map_err(|e| StoreError::Sql("read the alerts of hosts", e))?;
        rows.into_iter().map(|(host, document)| Ok((parse(&host, "a host's alerts")?, document))).collect()
    }

    /// Keeps those of these hosts, and tells what began and ended as events, all in one write.
    pub async fn save_fleet_alerts(&self, changes: &[FleetChange], now_ms: i64) -> Result<()> {
        let failed = |e| StoreError::Sql("keep the alerts of hosts", e);
        let mut tx = self.begin().await?;
        for FleetChange { host, document, told } in changes {
            let name: Option<(String,)> = sqlx::query_as("SELECT name FROM hosts WHERE id = $1")
                .bind(host.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
            // It was removed a moment ago.
            let Some((name,)) = name else { continue };
            sqlx::query(
                "INSERT INTO fleet_alerts (host, document) VALUES ($1, $2) ON CONFLICT (host) DO UPDATE SET document = $2",
            )
            .bind(host.as_str())
            .bind(document)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
            for (kind, message) in told {
                events::record(&mut tx, Some((host, &name)), None, kind.clone(), message.clone(), now_ms).await?;
            }
        }
        commit(tx).await?;
        if changes.iter().any(|change| !change.told.is_empty()) {
            self.events_changed();
        }
        Ok(())
    }

    /// By key, what was told of every group.
    pub async fn alert_groups(&self) -> Result<BTreeMap<String, String>> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT key, document FROM alert_groups")
            .fetch_all(&self.read)
            .await
            .map_err(|e| StoreError::Sql("read what was told of alerts", e))?;
        Ok(rows.into_iter().collect())
    }

    /// What was told, and what is to be sent, in one: neither is lost, and nothing is told twice.
    pub async fn change_groups(&self, changes: &[GroupChange], now_ms: i64) -> Result<()> {
        let failed = |e| StoreError::Sql("keep a notification", e);
        let mut tx = self.begin().await?;
        for GroupChange { key, group, notification } in changes {
            match group {
                Some(document) => sqlx::query(
                    "INSERT INTO alert_groups (key, document) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET document = $2",
                )
                .bind(key)
                .bind(document),
                None => sqlx::query("DELETE FROM alert_groups WHERE key = $1").bind(key),
            }
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
            let Some(NewNotification { notifier, document }) = notification else { continue };
            sqlx::query(
                "INSERT INTO notifications (notifier, group_key, document, created_ms, attempts, next_ms)
                 VALUES ($1, $2, $3, $4, 0, 0)",
            )
            .bind(notifier.as_str())
            .bind(key)
            .bind(document)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        }
        commit(tx).await
    }

    /// The keys of the groups that have a notification waiting, once for each; not what is left for those who did not take it.
    pub async fn groups_waiting(&self) -> Result<Vec<(NotifierName, String)>> {
        let sql = "SELECT notifier, group_key FROM notifications WHERE is_rest = 0 ORDER BY seq";
        let rows: Vec<(String, String)> =
            sqlx::query_as(sql).fetch_all(&self.read).await.map_err(|e| StoreError::Sql("list notifications", e))?;
        rows.into_iter().map(|(notifier, key)| Ok((parse(&notifier, "a notification")?, key))).collect()
    }

    /// How many wait for each receiver.
    pub async fn notifications_waiting(&self) -> Result<BTreeMap<NotifierName, u64>> {
        let sql = "SELECT notifier, COUNT(*) FROM notifications GROUP BY notifier";
        let rows: Vec<(String, i64)> =
            sqlx::query_as(sql).fetch_all(&self.read).await.map_err(|e| StoreError::Sql("count notifications", e))?;
        let read = |(notifier, count): (String, _)| {
            Ok((parse(&notifier, "a notification")?, from_int(count, "a number of notifications")?))
        };
        rows.into_iter().map(read).collect()
    }

    /// How many were taken by some of a receiver's people, and wait for the others.
    pub async fn rests_waiting(&self, notifier: &NotifierName) -> Result<u64> {
        let sql = "SELECT COUNT(*) FROM notifications WHERE notifier = $1 AND is_rest = 1";
        let (count,): (i64,) = sqlx::query_as(sql)
            .bind(notifier.as_str())
            .fetch_one(&self.read)
            .await
            .map_err(|e| StoreError::Sql("count notifications", e))?;
        from_int(count, "a number of notifications")
    }

    /// The oldest that waits for a receiver; of what is left for some, only what is due then comes before the others.
    pub async fn next_notification(&self, notifier: &NotifierName, now_ms: i64) -> Result<Option<StoredNotification>> {
        type Row = (i64, String, i64, i64, bool);
        let row: Option<Row> = sqlx::query_as(
            "SELECT seq, document, attempts, next_ms, is_rest FROM notifications WHERE notifier = $1
             ORDER BY is_rest AND next_ms > $2, CASE WHEN is_rest AND next_ms > $2 THEN next_ms ELSE seq END LIMIT 1",
        )
        .bind(notifier.as_str())
        .bind(now_ms)
        .fetch_optional(&self.read)
        .await
        .map_err(|e| StoreError::Sql("read a notification", e))?;
        row.map(|(seq, document, attempts, next_ms, is_rest)| {
            let attempts = from_int(attempts, "a notification")?;
            Ok(StoredNotification { seq, document, attempts, next_ms, is_rest })
        })
        .transpose()
    }

    /// Somebody was asked to take it.
    pub async fn notification_tried(
        &self,
        notifier: &NotifierName,
        seq: i64,
        attempt: &Attempt,
        now_ms: i64,
    ) -> Result<()> {
        let failed = |e| StoreError::Sql("note a delivery", e);
        let mut tx = self.begin().await?;
        let query = match &attempt.again {
            Some(Again { next_ms, rest }) => sqlx::query(
                "UPDATE notifications SET attempts = attempts + 1, next_ms = $2, document = COALESCE($3, document),
                 is_rest = is_rest OR $3 IS NOT NULL WHERE seq = $1",
            )
            .bind(seq)
            .bind(next_ms)
            .bind(rest),
            None => sqlx::query("DELETE FROM notifications WHERE seq = $1").bind(seq),
        };
        if query.execute(&mut *tx).await.map_err(failed)?.rows_affected() == 0 {
            // Its notifier was forgotten while it was being sent.
            return Ok(());
        }
        if let Some(said) = &attempt.event {
            events::record(&mut tx, None, None, EventKind::NotificationFailed, said.clone(), now_ms).await?;
        }
        sqlx::query(
            "INSERT INTO notifier_states (notifier, delivered_ms, failure) VALUES ($1, $2, $3)
             ON CONFLICT (notifier) DO UPDATE SET delivered_ms = COALESCE($2, delivered_ms), failure = $3",
        )
        .bind(notifier.as_str())
        .bind(attempt.is_taken.then_some(now_ms))
        .bind(&attempt.failure)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        commit(tx).await?;
        if attempt.event.is_some() {
            self.events_changed();
        }
        Ok(())
    }

    /// By receiver, how it is doing.
    pub async fn notifier_states(&self) -> Result<BTreeMap<NotifierName, NotifierState>> {
        let rows: Vec<(String, Option<i64>, Option<String>)> =
            sqlx::query_as("SELECT notifier, delivered_ms, failure FROM notifier_states")
                .fetch_all(&self.read)
                .await
                .map_err(|e| StoreError::Sql("read how notifiers do", e))?;
        let read = |(notifier, delivered_ms, failure): (String, _, _)| {
            Ok((parse(&notifier, "a notifier")?, NotifierState { delivered_ms, failure }))
        };
        rows.into_iter().map(read).collect()
    }

    /// Drops what waits for receivers that there are no more. Answers how much.
    pub async fn forget_notifiers_but(&self, known: &BTreeSet<NotifierName>) -> Result<u64> {
        let failed = |e| StoreError::Sql("forget notifiers", e);
        let known = to_json(known, "the names of notifiers")?;
        let mut tx = self.begin().await?;
        let gone = sqlx::query("DELETE FROM notifications WHERE notifier NOT IN (SELECT value FROM json_each($1))")
            .bind(&known)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        sqlx::query("DELETE FROM notifier_states WHERE notifier NOT IN (SELECT value FROM json_each($1))")
            .bind(&known)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        commit(tx).await?;
        Ok(gone.rows_affected())
    }
}
