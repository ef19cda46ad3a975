//! Enrolled hosts, their certificates, and what they last reported. Their desired state is in `specs`.

use std::collections::BTreeMap;

use drover_proto::{
    event::EventKind,
    name::{Generation, HostId, HostName, LabelKey, LabelValue},
    token::TokenKind,
    view::{Cordoned, RefusedSpec},
};
use sqlx::{Row, sqlite::SqliteRow};

use super::certificates::{add_certificate, revoke_certificates};
use super::{Result, Store, StoreError, audit, commit, events, from_int, from_json, parse, to_json, tokens};

/// A host that is being enrolled; its labels come from its token.
#[derive(Clone, Debug)]
pub struct NewHost {
    /// Random, never used before.
    pub id: HostId,
    /// Unique among enrolled hosts.
    pub name: HostName,
    /// Of its agent.
    pub agent_version: String,
    /// Of its certificate, lower-case hex.
    pub serial: String,
    /// Unix ms; of its certificate.
    pub not_after_ms: i64,
}

/// An enrolled host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// The coordinator's name for it.
    pub id: HostId,
    /// People's name for it.
    pub name: HostName,
    /// By which rollouts find it.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// It came with this.
    pub token_id: String,
    /// Who made that token.
    pub enrolled_by: String,
    /// Unix ms.
    pub enrolled_ms: i64,
    /// Of its certificate, lower-case hex.
    pub serial: String,
    /// Unix ms; of its certificate.
    pub not_after_ms: i64,
    /// Unix ms of the last word from it.
    pub last_seen_ms: Option<i64>,
    /// Of its agent.
    pub agent_version: String,
    /// E.g. `Debian GNU/Linux 12 (bookworm)`; empty before its first hello.
    pub os: String,
    /// Written for it; 0 = none yet.
    pub generation: Generation,
    /// Accepted by it.
    pub accepted: Generation,
    /// The newest that it did not accept; `None` once it accepts one.
    pub refused: Option<RefusedSpec>,
    /// Unix ms; since then none of its certificates counts.
    pub revoked_ms: Option<i64>,
    /// An operator keeps rollouts away from it.
    pub cordoned: Option<Cordoned>,
}

/// What a host last said about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredReport {
    /// The JSON document `drover_proto::status::HostStatus`.
    pub status_json: String,
    /// Unix ms, by the coordinator's clock.
    pub at_ms: i64,
}

const SELECT: &str =
    "SELECT h.id, h.name, h.labels, h.token_id, h.enrolled_by, h.enrolled_ms, h.serial, c.not_after_ms,
    h.last_seen_ms, h.agent_version, h.os, h.generation, h.accepted, h.refused, h.refused_why,
    h.cordoned_ms, h.cordoned_by, h.revoked_ms
    FROM hosts h JOIN certificates c ON c.serial = h.serial ORDER BY h.name";
const SELECT_ONE: &str = "SELECT h.id, h.name, h.labels, h.token_id, h.enrolled_by, h.enrolled_ms, h.serial,
    c.not_after_ms, h.last_seen_ms, h.agent_version, h.os, h.generation, h.accepted, h.refused, h.refused_why,
    h.cordoned_ms, h.cordoned_by, h.revoked_ms
    FROM hosts h JOIN certificates c ON c.serial = h.serial WHERE h.id = $1 OR h.name = $1
    ORDER BY CASE WHEN h.id = $1 THEN 0 ELSE 1 END LIMIT 1";

impl Store {
    /// Consumes one use of a join token and enrols the host with the token's labels, both or neither.
    ///
    /// Fails with `Token` or, when another host has the name, with `Exists`. A revoked host of that name makes way, and
    /// leaves nothing to the new one.
    pub async fn enroll_host(&self, token_id: &str, secret: &[u8], new: NewHost, now_ms: i64) -> Result<Host> {
        if new.name.as_str().parse::<HostId>().is_ok() {
            return Err(StoreError::Exists(format!("{} has the form of a host's id: choose another name", new.name)));
        }
        let mut tx = self.begin().await?;
        let grant = tokens::take(&mut tx, TokenKind::Join, token_id, secret, now_ms).await?;
        sqlx::query("DELETE FROM hosts WHERE name = $1 AND revoked_ms IS NOT NULL")
            .bind(new.name.as_str())
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("forget a revoked host", e))?;
        let taken: Option<(String,)> = sqlx::query_as("SELECT id FROM hosts WHERE name = $1")
            .bind(new.name.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("look for the host's name", e))?;
        if taken.is_some() {
            return Err(StoreError::Exists(format!(
                "there is a host {0} already: revoke or remove it (drover hosts revoke {0}), or enrol with another --name",
                new.name
            )));
        }
        add_certificate(&mut tx, &new.serial, "host", new.id.as_str(), new.not_after_ms, now_ms).await?;
        sqlx::query(
            "INSERT INTO hosts (id, name, labels, token_id, enrolled_by, enrolled_ms, serial, agent_version, os,
             generation, accepted, compared) SELECT $1, $2, $3, $4, $5, $6, $7, $8, '', 0, 0,
             (SELECT COALESCE(MAX(id), 0) FROM audit WHERE action = 'restore')",
        )
        .bind(new.id.as_str())
        .bind(new.name.as_str())
        .bind(to_json(&grant.labels, "a token's labels")?)
        .bind(token_id)
        .bind(&grant.created_by)
        .bind(now_ms)
        .bind(&new.serial)
        .bind(&new.agent_version)
        .execute(&mut *tx)
        .await
        .map_err(|e| StoreError::Sql("enrol a host", e))?;
        let subject = format!("{} ({}) with token {token_id}", new.name, new.id);
        audit::record(&mut tx, &grant.created_by, "host enroll", &subject, now_ms).await?;
        let said = format!("enrolled with a token of {}", grant.created_by);
        events::record(&mut tx, Some((&new.id, new.name.as_str())), None, EventKind::HostEnrolled, said, now_ms)
            .await?;
        commit(tx).await?;
        self.events_changed();
        self.host(new.id.as_str()).await?.ok_or(StoreError::Damaged("a host"))
    }
    /// The host with this id or, failing that, this name.
    pub async fn host(&self, id_or_name: &str) -> Result<Option<Host>> {
        sqlx::query(SELECT_ONE)
            .bind(id_or_name)
            .fetch_optional(&self.read)
            .await
            .map_err(|e| StoreError::Sql("read a host", e))?
            .map(|row| read_host(&row))
            .transpose()
    }
    /// All that are welcome, by name.
    pub async fn hosts(&self) -> Result<Vec<Host>> {
        let mut hosts = self.listed_hosts().await?;
        hosts.retain(|host| host.revoked_ms.is_none());
        Ok(hosts)
    }
    /// All of them, also those that were revoked, by name.
    pub async fn listed_hosts(&self) -> Result<Vec<Host>> {
        let rows = sqlx::query(SELECT).fetch_all(&self.read).await.map_err(|e| StoreError::Sql("list hosts", e))?;
        rows.iter().map(read_host).collect()
    }
    /// Replaces a host's labels; the generation grows when they change, since they are part of the host spec.
    pub async fn set_labels(
        &self,
        id: &HostId,
        labels: &BTreeMap<LabelKey, LabelValue>,
        who: &str,
        now_ms: i64,
    ) -> Result<Generation> {
        let mut tx = self.begin().await?;
        let text = to_json(labels, "labels")?;
        sqlx::query("UPDATE hosts SET labels = $2, generation = generation + 1 WHERE id = $1 AND labels <> $2")
            .bind(id.as_str())
            .bind(&text)
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("label a host", e))?;
        let (name, generation): (String, i64) = sqlx::query_as("SELECT name, generation FROM hosts WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("label a host", e))?
            .ok_or_else(|| StoreError::NotFound(format!("host {id}")))?;
        let said: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        audit::record(&mut tx, who, "host label", &format!("{name}: {}", said.join(",")), now_ms).await?;
        commit(tx).await?;
        from_int(generation, "a host's generation")
    }
    /// Forgets a host with its spec and report, and revokes its certificates.
    pub async fn remove_host(&self, id: &HostId, who: &str, now_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        let (name,): (String,) = sqlx::query_as("DELETE FROM hosts WHERE id = $1 RETURNING name")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("remove a host", e))?
            .ok_or_else(|| StoreError::NotFound(format!("host {id}")))?;
        revoke_certificates(&mut tx, "host", id.as_str(), now_ms).await?;
        audit::record(&mut tx, who, "host remove", &format!("{name} ({id})"), now_ms).await?;
        let said = format!("removed by {who}");
        events::record(&mut tx, Some((id, &name)), None, EventKind::HostRemoved, said, now_ms).await?;
        commit(tx).await?;
        self.events_changed();
        Ok(())
    }
    /// Takes a host's certificates and its desired state away. It stays listed, with its last report.
    pub async fn revoke_host(&self, id: &HostId, who: &str, now_ms: i64) -> Result<()> {
        let failed = |e| StoreError::Sql("revoke a host", e);
        let mut tx = self.begin().await?;
        let (name,): (String,) = sqlx::query_as(
            "UPDATE hosts SET revoked_ms = COALESCE(revoked_ms, $2), generation = generation + 1 WHERE id = $1
             RETURNING name",
        )
        .bind(id.as_str())
        .bind(now_ms)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?
        .ok_or_else(|| StoreError::NotFound(format!("host {id}")))?;
        sqlx::query("DELETE FROM host_apps WHERE host = $1")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        revoke_certificates(&mut tx, "host", id.as_str(), now_ms).await?;
        audit::record(&mut tx, who, "host revoke", &format!("{name} ({id})"), now_ms).await?;
        let said = format!("revoked by {who}");
        events::record(&mut tx, Some((id, &name)), None, EventKind::HostRevoked, said, now_ms).await?;
        commit(tx).await?;
        self.events_changed();
        Ok(())
    }
    /// Keeps what a host says of itself when it connects.
    pub async fn set_hello(&self, id: &HostId, agent_version: &str, os: &str, now_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE hosts SET agent_version = $2, os = $3, last_seen_ms = $4 WHERE id = $1")
            .bind(id.as_str())
            .bind(agent_version)
            .bind(os)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("keep a host's hello", e))?;
        commit(tx).await
    }
    /// Keeps a host's report (`HostStatus` as JSON) in place of the one before.
    pub async fn save_report(&self, id: &HostId, status_json: &str, at_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE hosts SET report = $2, reported_ms = $3, last_seen_ms = $3 WHERE id = $1")
            .bind(id.as_str())
            .bind(status_json)
            .bind(at_ms)
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("keep a report", e))?;
        commit(tx).await?;
        self.tally.reports(1);
        Ok(())
    }
    /// A host's last report.
    pub async fn report(&self, id: &HostId) -> Result<Option<StoredReport>> {
        let row: Option<(Option<String>, Option<i64>)> =
            sqlx::query_as("SELECT report, reported_ms FROM hosts WHERE id = $1")
                .bind(id.as_str())
                .fetch_optional(&self.read)
                .await
                .map_err(|e| StoreError::Sql("read a report", e))?;
        Ok(row.and_then(|(json, at)| json.zip(at)).map(|(status_json, at_ms)| StoredReport { status_json, at_ms }))
    }
    /// Every host's last report.
    pub async fn reports(&self) -> Result<BTreeMap<HostId, StoredReport>> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT id, report, reported_ms FROM hosts WHERE report IS NOT NULL")
                .fetch_all(&self.read)
                .await
                .map_err(|e| StoreError::Sql("read the reports", e))?;
        rows.into_iter()
            .map(|(id, status_json, at_ms)| Ok((parse(&id, "a host's id")?, StoredReport { status_json, at_ms })))
            .collect()
    }
    /// Whether a host is enrolled and has not been revoked, whatever its certificate.
    pub async fn is_welcome(&self, id: &HostId) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM hosts WHERE id = $1 AND revoked_ms IS NULL")
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await
            .map_err(|e| StoreError::Sql("look for a host", e))?;
        Ok(row.is_some())
    }
    /// Whether the certificate `serial` is this host's, unrevoked, and the host still enrolled.
    pub async fn live_host(&self, id: &HostId, serial: &str) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT 1 FROM hosts h JOIN certificates c ON c.owner_kind = 'host' AND c.owner = h.id
             WHERE h.id = $1 AND c.serial = $2 AND c.revoked_ms IS NULL AND h.revoked_ms IS NULL",
        )
        .bind(id.as_str())
        .bind(serial)
        .fetch_optional(&self.read)
        .await
        .map_err(|e| StoreError::Sql("look for a host's certificate", e))?;
        Ok(row.is_some())
    }
}

fn read_host(row: &SqliteRow) -> Result<Host> {
    let failed = |e| StoreError::Sql("read a host", e);
    let text = |column: &str| row.try_get::<String, _>(column).map_err(failed);
    let int = |column: &str| row.try_get::<i64, _>(column).map_err(failed);
    let refused: Option<i64> = row.try_get("refused").map_err(failed)?;
    let why: Option<String> = row.try_get("refused_why").map_err(failed)?;
    let cordoned_ms: Option<i64> = row.try_get("cordoned_ms").map_err(failed)?;
    let cordoned_by: Option<String> = row.try_get("cordoned_by").map_err(failed)?;
    Ok(Host {
        id: parse(&text("id")?, "a host's id")?,
        name: parse(&text("name")?, "a host's name")?,
        labels: from_json(&text("labels")?, "a host's labels")?,
        token_id: text("token_id")?,
        enrolled_by: text("enrolled_by")?,
        enrolled_ms: int("enrolled_ms")?,
        serial: text("serial")?,
        not_after_ms: int("not_after_ms")?,
        last_seen_ms: row.try_get("last_seen_ms").map_err(failed)?,
        agent_version: text("agent_version")?,
        os: text("os")?,
        generation: from_int(int("generation")?, "a host's generation")?,
        accepted: from_int(int("accepted")?, "a host's generation")?,
        refused: match (refused, why) {
            (Some(generation), Some(message)) => {
                Some(RefusedSpec { generation: from_int(generation, "a refused generation")?, message })
            }
            _ => None,
        },
        revoked_ms: row.try_get("revoked_ms").map_err(failed)?,
        cordoned: match (cordoned_ms, cordoned_by) {
            (Some(at_unix_ms), Some(by)) => Some(Cordoned { by, at_unix_ms }),
            _ => None,
        },
    })
}
