//! One agent's stream: hello, welcome, then specs and jobs down, acknowledgements, reports and answers up.
//!
//! `rpc/link` opens it for a host whose certificate it has checked; `registry` is how others reach it; what the host says
//! goes to the store, and as a `HostEvent` to `rollout`.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use drover_proto::{
    MIN_PROTOCOL_VERSION, PROTOCOL_VERSION,
    alert::RuleSet,
    code::{self, Code},
    common_protocol, limits,
    name::{AppName, HostId},
    status::HostStatus,
    wire::{
        AlertRules, FromAgent, Hello, HostSpecDocument, RenewCertificate, Report, ToAgent, Welcome, from_agent,
        to_agent,
    },
};
use tokio::{
    sync::{Mutex, MutexGuard, mpsc},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, error, info, warn};

use super::{
    Document, HostEvent, Sessions,
    ahead::MAX_UNKNOWN_APPS,
    document,
    registry::Connection,
    report::{MAX_NAME_CHARS, one_line, trim, trim_reply},
};
use crate::{
    alert::Alerts,
    ca::Ca,
    clock,
    figures::Figures,
    renewal,
    store::{Store, StoreError},
};

/// For the hello, and for an agent to read one message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before a spec that the host could not keep is sent again; doubled each time.
pub(super) const AGAIN_FIRST: Duration = Duration::from_secs(1);
/// Messages between this task and the connection; each may be as large as a whole spec.
const OUTGOING: usize = 4;
/// What a message needs beside its document.
const ENVELOPE_BYTES: usize = 1024;

/// What every stream needs; clones share it.
#[derive(Clone)]
pub struct AgentStreams {
    /// Where facts and reports are kept.
    pub store: Store,
    /// Whose certificates hosts hold.
    pub ca: Arc<Ca>,
    /// Hears what hosts say, and has their rules.
    pub alerts: Alerts,
    /// Who is connected.
    pub sessions: Sessions,
    /// What hosts are doing.
    pub figures: Figures,
    /// To `rollout`.
    pub events: mpsc::Sender<HostEvent>,
    /// The coordinator stops.
    pub stop: CancellationToken,
}

/// What goes down a stream.
pub type Outgoing = ReceiverStream<Result<ToAgent, Status>>;

impl AgentStreams {
    /// Takes over a stream of this host, which comes from `peer`; answers what goes down it.
    #[must_use]
    pub fn open(&self, host: HostId, peer: Option<IpAddr>, incoming: Streaming<FromAgent>) -> Outgoing {
        let (sender, receiver) = mpsc::channel(OUTGOING);
        let stream = Stream {
            all: self.clone(),
            host,
            peer,
            out: sender,
            sent: 0,
            again_at: None,
            again_in: AGAIN_FIRST,
            keeps_unknown: false,
            takes_rules: false,
            rules_sent: None,
        };
        tokio::spawn(stream.run(incoming));
        ReceiverStream::new(receiver)
    }
}

pub(super) struct Stream {
    pub(super) all: AgentStreams,
    pub(super) host: HostId,
    /// From where it comes.
    pub(super) peer: Option<IpAddr>,
    out: mpsc::Sender<Result<ToAgent, Status>>,
    /// The newest generation that was sent on this stream.
    pub(super) sent: u64,
    /// When the newest spec goes once more, since the host could not keep it; and how long to wait the next time.
    pub(super) again_at: Option<Instant>,
    pub(super) again_in: Duration,
    /// The host held a spec that this coordinator has not written: it may speak of any app.
    pub(super) keeps_unknown: bool,
    /// The agent knows of alerts.
    takes_rules: bool,
    /// The rules that it was sent last.
    rules_sent: Option<RuleSet>,
}

impl Stream {
    async fn run(mut self, mut incoming: Streaming<FromAgent>) {
        let greeting = self.all.sessions.greeting(&self.host);
        let Ok(turn) = self.turn(&greeting).await else { return };
        let (hello, spoken) = match self.hello(&mut incoming).await {
            Ok(both) => both,
            Err(status) => return self.end(status).await,
        };
        self.all.figures.connected(&self.host);
        let mut connection = self.all.sessions.connect(&self.host, spoken);
        info!(host = %self.host, agent = hello.agent_version, generation = hello.generation, "connected");
        let begun = self.begin(&hello, spoken).await;
        drop(turn);
        let status = match begun {
            Ok(()) => self.serve(&mut incoming, &mut connection).await,
            Err(status) => status,
        };
        debug!(host = %self.host, reason = status.message(), "stream ended");
        self.end(status).await;
        if self.all.sessions.disconnect(&self.host, connection.number, clock::unix_ms()) {
            info!(host = %self.host, "lost");
            self.tell(HostEvent::Lost(self.host.clone())).await;
        }
    }

    /// Waits until no other stream of the host is being greeted. Each of those has its own limit of time, and how many may
    /// wait is limited with the calls. Err: the host has given this one up.
    async fn turn<'a>(&self, greeting: &'a Mutex<()>) -> Result<MutexGuard<'a, ()>, ()> {
        tokio::select! {
            turn = greeting.lock() => Ok(turn),
            () = self.out.closed() => Err(()),
        }
    }

    /// The hello, and which protocol is spoken from here on.
    async fn hello(&self, incoming: &mut Streaming<FromAgent>) -> Result<(Hello, u32), Status> {
        let first = tokio::time::timeout(PATIENCE, incoming.message())
            .await
            .map_err(|_| code::status(Code::HostTimeout, "the agent did not say hello"))??;
        let Some(from_agent::Message::Hello(mut hello)) = first.and_then(|first| first.message) else {
            return Err(code::status(Code::Protocol, "the agent must say hello first"));
        };
        let theirs = hello.protocol_version;
        let Some(spoken) = common_protocol(theirs, hello.min_protocol_version) else {
            let ours = format!("this coordinator speaks protocols {MIN_PROTOCOL_VERSION} to {PROTOCOL_VERSION}");
            let message = format!("{ours}, the agent {theirs}: install the same version of both");
            return Err(code::status(Code::Protocol, message));
        };
        self.all.sessions.paced(self.host.as_str()).await?;
        hello.agent_version = one_line(&hello.agent_version, MAX_NAME_CHARS);
        hello.os = one_line(&hello.os, MAX_NAME_CHARS);
        let now_ms = clock::unix_ms();
        self.all.store.set_hello(&self.host, &hello.agent_version, &hello.os, now_ms).await.map_err(failed)?;
        Ok((hello, spoken))
    }

    async fn begin(&mut self, hello: &Hello, spoken: u32) -> Result<(), Status> {
        let row = self.all.store.host(self.host.as_str()).await.map_err(failed)?;
        // Asked again here: it may have happened since the call was let in, when there was no stream to close.
        let row = row.filter(|row| row.revoked_ms.is_none()).ok_or_else(unwelcome)?;
        self.compare(&row, hello, spoken).await?;
        self.keep_endpoint(hello.metrics.as_ref()).await?;
        let welcome = Welcome {
            protocol_version: spoken,
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            host_name: row.name.to_string(),
            takes_events: true,
        };
        self.send(to_agent::Message::Welcome(welcome)).await?;
        self.send_spec(false).await?;
        self.takes_rules = spoken >= 5;
        self.send_rules().await?;
        if spoken >= 2 {
            self.send_renewal(&row.serial).await?;
        }
        self.tell(HostEvent::Connected(self.host.clone())).await;
        Ok(())
    }

    /// Tells the host when to renew the certificate that it came with.
    async fn send_renewal(&self, serial: &str) -> Result<(), Status> {
        let Some(held) = self.all.store.certificate(serial).await.map_err(failed)? else { return Ok(()) };
        let in_ms = renewal::due_in_ms(&held, &self.all.ca, self.host.as_str(), clock::unix_ms());
        self.send(to_agent::Message::RenewCertificate(RenewCertificate { in_ms })).await
    }

    /// Until the stream ends; answers why it did.
    async fn serve(&mut self, incoming: &mut Streaming<FromAgent>, connection: &mut Connection) -> Status {
        let mut alerting = self.all.alerts.alerting();
        // They may have become others since they were sent.
        alerting.mark_changed();
        loop {
            let done = tokio::select! {
                // A host that is shown the door gets nothing more, whatever else is due.
                biased;
                () = self.all.stop.cancelled() => Err(code::status(Code::HostOffline, "the coordinator is stopping")),
                () = connection.closed.cancelled() => Err(self.closed().await),
                () = connection.spec_changed.notified() => match self.send_spec(false).await {
                    // Its labels may be others, and with them its rules.
                    Ok(()) => self.send_rules().await,
                    Err(status) => Err(status),
                },
                Ok(()) = alerting.changed() => self.send_rules().await,
                () = due(self.again_at) => self.send_spec(true).await,
                Some(order) = connection.orders.recv() => self.send_message(order).await,
                message = incoming.message() => match message {
                    Ok(Some(message)) => self.take(message, connection.number).await,
                    Ok(None) => Err(Status::cancelled("the agent ended the stream")),
                    Err(status) => Err(status),
                },
            };
            if let Err(status) = done {
                return status;
            }
        }
    }

    /// Why the stream was closed from our side.
    async fn closed(&self) -> Status {
        match self.all.store.is_welcome(&self.host).await {
            Ok(true) => code::status(Code::HostOffline, "the host has opened a newer stream"),
            Ok(false) => unwelcome(),
            Err(error) => failed(error),
        }
    }

    async fn take(&mut self, message: FromAgent, number: u64) -> Result<(), Status> {
        match message.message {
            Some(from_agent::Message::SpecAck(ack)) => self.acknowledged(ack).await,
            Some(from_agent::Message::Report(report)) => self.reported(report).await,
            Some(from_agent::Message::JobReply(mut reply)) => {
                trim_reply(&mut reply);
                self.all.sessions.answer(&self.host, number, reply);
                Ok(())
            }
            Some(from_agent::Message::Events(events)) => self.happened(events).await,
            Some(from_agent::Message::Figures(figures)) => self.figured(&figures).await,
            Some(from_agent::Message::Hello(_)) => Err(code::status(Code::Protocol, "hello is said once")),
            None => Err(code::status(Code::Protocol, "the agent sent a message that this coordinator does not know")),
        }
    }

    async fn reported(&self, report: Report) -> Result<(), Status> {
        self.all.sessions.paced(self.host.as_str()).await?;
        let bytes = report.host_status_json.len();
        if bytes > limits::MAX_REPORT_BYTES {
            warn!(host = %self.host, bytes, most = limits::MAX_REPORT_BYTES, "a report that is too large is left out");
            return Ok(());
        }
        let mut status: HostStatus = match serde_json::from_slice(&report.host_status_json) {
            Ok(status) => status,
            Err(error) => {
                let error = error.to_string();
                warn!(host = %self.host, ?error, "a report that cannot be read is left out");
                return Ok(());
            }
        };
        self.all.store.see_numbers(&status).await.map_err(failed)?;
        let apps = self.apps(Some(&status)).await?;
        trim(&mut status, &apps);
        let text = serde_json::to_string(&status).map_err(|error| {
            error!(host = %self.host, %error, "a report cannot be written");
            code::status(Code::Internal, "a fault of drover's own; its log says more")
        })?;
        self.all.store.save_report(&self.host, &text, clock::unix_ms()).await.map_err(failed)?;
        self.tell(HostEvent::Report(self.host.clone(), Arc::new(status))).await;
        Ok(())
    }

    /// What the host may speak of: the apps of its spec, and those that it had and is getting rid of; some that nobody
    /// knows in its `report`, when it is ahead.
    pub(super) async fn apps(&self, report: Option<&HostStatus>) -> Result<BTreeSet<AppName>, Status> {
        let store = &self.all.store;
        let spec = store.spec(&self.host).await.map_err(failed)?;
        let known: BTreeSet<AppName> = spec.apps.into_keys().chain(spec.keep).collect();
        let before = store.report(&self.host).await.map_err(failed)?;
        // One that cannot be read (an older coordinator stored it) is as good as none.
        let before: Option<HostStatus> = before.and_then(|before| serde_json::from_str(&before.status_json).ok());
        let mut apps: BTreeSet<AppName> = before.unwrap_or_default().apps.into_keys().collect();
        let room = MAX_UNKNOWN_APPS.saturating_sub(apps.difference(&known).count());
        apps.extend(known);
        if let Some(report) = report.filter(|_| self.keeps_unknown) {
            let new: Vec<AppName> = report.apps.keys().filter(|app| !apps.contains(*app)).take(room).cloned().collect();
            apps.extend(new);
        }
        Ok(apps)
    }

    /// Sends the newest spec; unless this stream has it already, or then `again`.
    async fn send_spec(&mut self, again: bool) -> Result<(), Status> {
        self.again_at = None;
        let Document { generation, json } = match document(&self.all.store, &self.host).await {
            Ok(Some(document)) => document,
            Ok(None) => return Ok(()),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                error!(host = %self.host, %error, source, "the host spec cannot be sent");
                return Ok(());
            }
        };
        if generation == self.sent && !again {
            return Ok(());
        }
        if json.len() + ENVELOPE_BYTES > limits::MAX_MESSAGE_BYTES {
            let message = format!("the host spec has {} bytes, more than one message may have", json.len());
            error!(host = %self.host, generation, message);
            return self.refused(generation, message).await;
        }
        debug!(host = %self.host, generation, "spec sent");
        self.send(to_agent::Message::HostSpec(HostSpecDocument { generation, document_json: json })).await?;
        self.sent = generation;
        Ok(())
    }

    /// Sends the host's rules of alerts, unless it has them.
    async fn send_rules(&mut self) -> Result<(), Status> {
        if !self.takes_rules {
            return Ok(());
        }
        let Some(row) = self.all.store.host(self.host.as_str()).await.map_err(failed)? else { return Ok(()) };
        let rules = self.all.alerts.rules_of(&row.labels);
        if self.rules_sent.as_ref() == Some(&rules) {
            return Ok(());
        }
        let rules_json = serde_json::to_vec(&rules).map_err(|error| {
            error!(host = %self.host, %error, "the rules of alerts cannot be written");
            code::status(Code::Internal, "a fault of drover's own; its log says more")
        })?;
        self.send(to_agent::Message::AlertRules(AlertRules { rules_json })).await?;
        self.rules_sent = Some(rules);
        Ok(())
    }

    pub(super) async fn send(&self, message: to_agent::Message) -> Result<(), Status> {
        self.send_message(ToAgent { message: Some(message) }).await
    }

    async fn send_message(&self, message: ToAgent) -> Result<(), Status> {
        match self.out.send_timeout(Ok(message), PATIENCE).await {
            Ok(()) => Ok(()),
            Err(_) => Err(code::status(Code::HostTimeout, "the agent does not read its stream")),
        }
    }

    async fn end(&self, status: Status) {
        if self.out.send_timeout(Err(status), Duration::from_secs(1)).await.is_err() {
            debug!(host = %self.host, "the agent was gone before it could be told why");
        }
    }

    pub(super) async fn tell(&self, event: HostEvent) {
        self.all.alerts.heard(&event);
        if self.all.events.send(event).await.is_err() {
            debug!(host = %self.host, "the coordinator is stopping: nobody listens to hosts any more");
        }
    }
}

/// At that time; never, if there is none.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn unwelcome() -> Status {
    code::status(Code::Revoked, "this host has been removed or revoked: enrol it again with a new token")
}

/// What the agent is told when the store fails; the rest is for our log.
pub(super) fn failed(error: StoreError) -> Status {
    if matches!(error, StoreError::NotFound(_)) {
        return unwelcome();
    }
    error!(%error, source = std::error::Error::source(&error).map(ToString::to_string), "store");
    code::status(Code::Store, "the coordinator's store failed; its log says why")
}
