//! What others may ask of the coordinator. Every call goes through `authorise` first.
//!
//! Read `authorise` (one table: who may call what), `enrolment` (getting a certificate), `link` (agents), `operator`
//! (people). `lease` ends what a revoked caller has open, `calls` says how much one may have open. Here: what the calls share, and how errors become statuses. `app`
//! serves the routes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use drover_proto::{
    code::{self, Code},
    limits::MAX_MESSAGE_BYTES,
    name::HostId,
    wire::{agent_link_server::AgentLinkServer, enrolment_server::EnrolmentServer, operator_server::OperatorServer},
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};
use tracing::error;

use crate::{
    alert::{Alerting, Alerts},
    blob::{BlobError, Blobs},
    ca::{Ca, CaError},
    clock,
    figures::Figures,
    metrics::Metrics,
    rollout::Rollouts,
    session::{AgentStreams, Sessions},
    store::{Store, StoreError},
};

pub mod authorise;
mod calls;
mod enrolment;
mod lease;
mod link;
mod operator;
mod renew;

use calls::{Calls, Limits};
use lease::Revocations;

/// Events of hosts that wait for `rollout`.
const HOST_EVENTS: usize = 1024;
/// Between two looks for old events: in between there may be more than are kept.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// One request of somebody without a certificate: a token, a name and a CSR.
const MAX_ENROLMENT_BYTES: usize = 64 << 10;

/// What the calls need; clones share it.
#[derive(Clone)]
pub struct Services {
    store: Store,
    blobs: Blobs,
    ca: Arc<Ca>,
    sessions: Sessions,
    figures: Figures,
    rollouts: Rollouts,
    alerts: Alerts,
    agents: AgentStreams,
    stop: CancellationToken,
    revocations: Revocations,
    calls: Calls,
}

impl Services {
    /// Takes up the rollouts that had not ended, and listens to hosts until `stop`.
    pub async fn start(
        store: Store,
        blobs: Blobs,
        ca: Arc<Ca>,
        alerting: Alerting,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        Self::start_with(store, blobs, ca, alerting, stop, Limits::default()).await
    }

    async fn start_with(
        store: Store,
        blobs: Blobs,
        ca: Arc<Ca>,
        alerting: Alerting,
        stop: CancellationToken,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        let sessions = Sessions::new(clock::unix_ms());
        let figures = Figures::default();
        tokio::spawn(figures.clone().keep(store.clone(), stop.clone()));
        let rollouts = Rollouts::new(store.clone(), sessions.clone(), stop.clone());
        rollouts.resume().await?;
        let (events, heard) = mpsc::channel(HOST_EVENTS);
        tokio::spawn(rollouts.clone().listen(heard));
        let skews = figures.clone();
        let skew = Box::new(move |host: &HostId| skews.skew_ms(host));
        let wall = Arc::new(clock::unix_ms);
        let alerts = Alerts::start(store.clone(), sessions.clone(), alerting, skew, wall, stop.clone()).await?;
        let agents = AgentStreams {
            store: store.clone(),
            alerts: alerts.clone(),
            ca: ca.clone(),
            sessions: sessions.clone(),
            figures: figures.clone(),
            events,
            stop: stop.clone(),
        };
        let revocations = Revocations::new(store.clone());
        tokio::spawn(sweep_events(store.clone(), stop.clone()));
        let calls = Calls::new(sessions.clone(), limits);
        Ok(Self { store, blobs, ca, sessions, figures, rollouts, alerts, agents, stop, revocations, calls })
    }
    /// What is wrong on hosts, and who is told.
    #[must_use]
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }
    /// Waits until every rollout has stored where it is, figures are stored, and what was being sent of alerts is sent; after `stop`
    /// was cancelled.
    pub async fn ended(&self) {
        tokio::join!(self.rollouts.ended(), self.alerts.ended());
        self.figures.write(&self.store).await;
    }
    /// What Prometheus reads; the store is the file `database`.
    #[must_use]
    pub fn metrics(&self, database: PathBuf) -> Metrics {
        let (store, sessions) = (self.store.clone(), self.sessions.clone());
        Metrics::new(store, sessions, self.figures.clone(), self.ca.clone(), database)
    }
    /// Every service, each behind the authorisation table.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let enrolment = EnrolmentServer::new(enrolment::Enrolment(self.clone()));
        let link = AgentLinkServer::new(link::Link(self.clone()));
        let operator = OperatorServer::new(operator::Operator(self.clone()));
        let most = MAX_MESSAGE_BYTES;
        let (revocations, calls) = (|| self.revocations.clone(), || self.calls.clone());
        let enrolment = enrolment.max_decoding_message_size(MAX_ENROLMENT_BYTES);
        let link = link.max_decoding_message_size(most).max_encoding_message_size(most);
        let operator = operator.max_decoding_message_size(most).max_encoding_message_size(most);
        Routes::new(authorise::Guard::new(revocations(), calls(), enrolment))
            .add_service(authorise::Guard::new(revocations(), calls(), link))
            .add_service(authorise::Guard::new(revocations(), calls(), operator))
    }
}

/// Drops old events now and then, until `stop`.
async fn sweep_events(store: Store, stop: CancellationToken) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = store.sweep_events(clock::unix_ms()).await {
            error!(%error, source = std::error::Error::source(&error).map(ToString::to_string), "store");
        }
    }
}

/// What a caller is told of an error of the store: never what is inside it.
fn store_failed(error: StoreError) -> Status {
    let code = error.code();
    match &error {
        StoreError::SecretMissing(names) => {
            let commands: Vec<String> = names.iter().map(|name| secret_command(name)).collect();
            code::status(code, format!("a secret has not been stored: {}", commands.join("; ")))
        }
        _ if matches!(code, Code::Store | Code::Internal) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            error!(%error, source, "store");
            code::status(code, "the coordinator's store failed; its log says why")
        }
        _ => code::status(code, error.to_string()),
    }
}

/// `name` or `name for environment`, as the command that stores it.
fn secret_command(shown: &str) -> String {
    match shown.split_once(" for ") {
        Some((name, environment)) => format!("run `drover secret set {name}` (or with --environment {environment})"),
        None => format!("run `drover secret set {shown}`"),
    }
}

fn blob_failed(error: BlobError) -> Status {
    if matches!(error, BlobError::Busy(_) | BlobError::Offset { .. }) {
        // Without a code, like a connection that was lost: who pushes asks again where to go on.
        return Status::unavailable(error.to_string());
    }
    let code = error.code();
    if code == Code::Internal {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        error!(%error, source, "artifacts");
        return code::status(code, "the coordinator's disk failed; its log says why");
    }
    code::status(code, error.to_string())
}

fn ca_failed(error: CaError) -> Status {
    if matches!(error, CaError::Request) {
        return code::status(Code::Invalid, error.to_string());
    }
    let source = std::error::Error::source(&error).map(ToString::to_string);
    error!(%error, source, "certificate authority");
    code::status(Code::Internal, "the coordinator could not make a certificate; its log says why")
}

fn invalid(message: impl Into<String>) -> Status {
    code::status(Code::Invalid, message)
}

fn not_found(what: impl std::fmt::Display) -> Status {
    code::status(Code::NotFound, format!("there is no {what}"))
}

/// Reads a name out of a request.
fn name<T: std::str::FromStr<Err = drover_proto::name::NameError>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: drover_proto::name::NameError| invalid(error.to_string()))
}

/// Reads a document out of a request.
fn document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(bytes).map_err(|error| code::status(Code::Manifest, format!("the app's document: {error}")))
}

#[cfg(test)]
mod tests;
