//! Connected agents: host specs go down their streams, reports come up, jobs are asked and answered.
//!
//! Read `registry` (who is connected, and how to reach it), then `stream` (one agent's stream from hello to end; `report`, `events` and `figures` keep what it says within limits). Here:
//! the host spec as a document, with the values of its secrets. `rpc/link` opens streams; `rollout` hears what hosts say
//! as `HostEvent`s.

use std::{collections::BTreeMap, sync::Arc};

use drover_proto::{
    name::{Generation, HostId},
    spec::{DesiredApp, HostSpec},
    status::HostStatus,
};

use crate::store::{Store, StoreError};

mod ahead;
mod acks;
mod events;
mod figures;
pub mod registry;
pub(crate) mod report;
pub mod stream;

pub use registry::{Answers, AskError, Sessions};
pub use stream::AgentStreams;

/// What `rollout` hears of hosts, in order per host.
#[derive(Clone, Debug)]
pub enum HostEvent {
    /// Its stream is up, and its newest spec was sent.
    Connected(HostId),
    /// Its stream is down.
    Lost(HostId),
    /// Its newest report, already stored.
    Report(HostId, Arc<HostStatus>),
    /// It does not accept its spec.
    Refused {
        /** Which. */
        host: HostId,
        /** Of the spec. */
        generation: Generation,
        /** Why. */
        message: String,
    },
}

/// A host spec ready to be sent; holds the values of secrets, so it has no `Debug`.
pub struct Document {
    /// Of the spec.
    pub generation: Generation,
    /// `HostSpec` as JSON; the same bytes for the same generation.
    pub json: Vec<u8>,
}

/// Why a host's spec cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The store failed.
    #[error("the host spec could not be read")]
    Store(#[from] StoreError),
    /// A release that the spec names is not there.
    #[error("the host spec names {0}, which is not in the store")]
    NoRelease(String),
    /// It cannot be written as JSON.
    #[error("the host spec cannot be written")]
    Json(#[from] serde_json::Error),
}

/// The newest spec of a host; `None` when it has none yet, or is not welcome any more: what is left of the spec of a revoked
/// host names no app, and the host would remove all that it has.
pub async fn document(store: &Store, host: &HostId) -> Result<Option<Document>, DocumentError> {
    // Labels come from one read and apps from another: both must be of the same generation.
    let (host, stored) = loop {
        let Some(row) = store.host(host.as_str()).await? else { return Ok(None) };
        let stored = store.spec(host).await?;
        if row.revoked_ms.is_some() {
            return Ok(None);
        }
        if row.generation == stored.generation {
            break (row, stored);
        }
    };
    if stored.generation == 0 {
        return Ok(None);
    }
    let (mut apps, mut releases) = (BTreeMap::new(), store.releases_on(&host.id).await?);
    for (app, wanted) in stored.apps.into_iter().filter(|(app, _)| !stored.keep.contains(app)) {
        let id = drover_proto::name::ReleaseId { app: app.clone(), number: wanted.release };
        let release = match releases.remove(&app).filter(|release| release.number == wanted.release) {
            Some(release) => Some(release),
            // Another is wanted since.
            None => store.release(&app, wanted.release).await?,
        };
        let release = release.ok_or_else(|| DocumentError::NoRelease(id.to_string()))?;
        let desired = DesiredApp {
            release: id,
            rollout: wanted.rollout,
            paused: wanted.paused,
            run_once: wanted.run_once,
            restart: wanted.restart,
            spec: release.spec()?,
            secrets: store.secret_values(&app, &release.secrets).await?,
        };
        apps.insert(app, desired);
    }
    let generation = stored.generation;
    let spec =
        HostSpec { host: host.id, host_name: host.name, labels: host.labels, generation, apps, keep: stored.keep };
    Ok(Some(Document { generation, json: serde_json::to_vec(&spec)? }))
}
