//! One connection: hello, then specs and jobs in, acknowledgements, reports, figures and events out, until it breaks.

use std::{sync::Arc, time::Duration};

use drover_proto::{
    MIN_PROTOCOL_VERSION, PROTOCOL_VERSION,
    alert::AlertStatus,
    code::{self, Code},
    limits,
    name::{AppName, HostId},
    spec::DesiredApp,
    status::HostStatus,
    wire::{
        Events, EventsAck, Figures, FromAgent, HeldApp, Hello, HostSpecDocument, MetricsEndpoint, Report, SpecAck,
        ToAgent, Welcome, agent_link_client::AgentLinkClient, from_agent::Message as Out,
        spec_ack::Outcome as WireOutcome, to_agent::Message as In,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::{Link, figures::Ticker, jobs::Jobs, renewal::Renewal};
use crate::{desired::Outcome, event::Batch, host::facts, identity::Identity, report};

/// Messages waiting to be sent; then senders wait.
const OUTBOX_MESSAGES: usize = 64;
/// A report at most so often: live progress is for people …
const REPORT_PAUSE: Duration = Duration::from_millis(200);
/// … who are waiting to be told of other alerts.
const ALERT_PAUSE: Duration = Duration::from_millis(20);
/// The first protocol that knows of figures, and of where metrics are.
const FIGURES_SINCE: u32 = 5;
/// For the coordinator's first word.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// How a connection ended.
pub enum End {
    /// It broke, or never was.
    Closed {
        /// Whether the coordinator had welcomed this host.
        was_up: bool,
        /// Why.
        why: String,
    },
    /// The coordinator does not want this host.
    Refused(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Closed { why, .. } | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

/// What became of a stream.
pub(super) enum Served<'a> {
    /// A newer one, with a renewed certificate, is up in its place.
    Replaced(Box<Session<'a>>),
    /// It is over.
    Ended(End),
}

/// Opens a stream and has it welcomed, with the newest protocol that both sides know. A coordinator of an older version
/// refuses the newest, and is asked again with the one before.
pub(super) async fn open<'a>(link: &'a Link, identity: Identity, channel: Channel) -> Result<Session<'a>, End> {
    let mut protocol = PROTOCOL_VERSION;
    loop {
        match greet(link, &identity, &channel, protocol).await {
            Ok((out, inbound, welcome)) => {
                tracing::info!(
                    coordinator = identity.coordinator,
                    version = welcome.coordinator_version,
                    protocol = welcome.protocol_version,
                    host = welcome.host_name,
                    "connected"
                );
                let jobs = Jobs::new(link.reconcile.clone(), out.clone(), link.answered.clone());
                link.outbox.bind(identity.host.clone()).await;
                let takes_events = welcome.takes_events;
                let figures = (welcome.protocol_version >= FIGURES_SINCE).then(|| Ticker::new(link.gauge.clone()));
                let renewal = Renewal::new(link, identity.clone(), channel.clone());
                return Ok(Session {
                    link,
                    identity,
                    jobs,
                    out,
                    inbound,
                    channel,
                    renewal,
                    takes_events,
                    figures,
                    unacked: None,
                });
            }
            Err(status) if code::of_status(&status) == Some(Code::Protocol) && protocol > MIN_PROTOCOL_VERSION => {
                protocol -= 1;
            }
            Err(status) => return Err(judge(&status, false)),
        }
    }
}

type Greeted = (mpsc::Sender<FromAgent>, Streaming<ToAgent>, Welcome);

/// Says hello with this protocol, and waits for the welcome, which is the coordinator's first word.
async fn greet(link: &Link, identity: &Identity, channel: &Channel, protocol: u32) -> Result<Greeted, tonic::Status> {
    let (out, outbox) = mpsc::channel(OUTBOX_MESSAGES);
    let hello = FromAgent { message: Some(Out::Hello(hello(link, &identity.host, protocol))) };
    out.send(hello).await.map_err(|_| tonic::Status::unavailable("the stream closed at once"))?;
    let mut client = AgentLinkClient::new(channel.clone())
        .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES);
    let greeting = async {
        let mut inbound = client.session(ReceiverStream::new(outbox)).await?.into_inner();
        let first = inbound.message().await?.and_then(|first| first.message);
        Ok::<_, tonic::Status>((inbound, first))
    };
    let (inbound, first) = tokio::time::timeout(WELCOME_TIMEOUT, greeting)
        .await
        .map_err(|_| tonic::Status::unavailable("the coordinator does not answer"))??;
    match first {
        Some(In::Welcome(welcome)) if (MIN_PROTOCOL_VERSION..=protocol).contains(&welcome.protocol_version) => {
            Ok((out, inbound, welcome))
        }
        Some(In::Welcome(welcome)) => Err(code::status(
            Code::Protocol,
            format!(
                "the coordinator speaks protocol {}, this agent {MIN_PROTOCOL_VERSION} to {PROTOCOL_VERSION}: install the \
                 same version of both",
                welcome.protocol_version
            ),
        )),
        Some(_) => Err(code::status(Code::Protocol, "the coordinator's first word is not a welcome")),
        None => Err(tonic::Status::unavailable("the coordinator closed the stream at once")),
    }
}

/// A stream on which this host is welcome.
pub(super) struct Session<'a> {
    link: &'a Link,
    identity: Identity,
    jobs: Jobs,
    out: mpsc::Sender<FromAgent>,
    inbound: Streaming<ToAgent>,
    channel: Channel,
    renewal: Renewal<'a>,
    /// The coordinator understands events.
    takes_events: bool,
    /// What the host is doing, now and then; `None`: the coordinator does not know of it.
    figures: Option<Ticker>,
    /// The last event of the batch that is under way: its run, and its number there.
    unacked: Option<(String, u64)>,
}

impl<'a> Session<'a> {
    /// Until the stream ends, or a newer one has taken its place.
    pub(super) async fn serve(mut self) -> Served<'a> {
        let end = match self.run().await {
            Ok(newer) => return Served::Replaced(newer),
            Err(end) => end,
        };
        // The coordinator ends this stream when the newer one is up, perhaps before that one knows.
        match self.renewal.finish().await {
            Some(newer) => Served::Replaced(newer),
            None => Served::Ended(end),
        }
    }

    async fn run(&mut self) -> Result<Box<Session<'a>>, End> {
        let closed = |why: &str| End::Closed { was_up: true, why: why.to_owned() };
        self.link.connection.send_replace(Some(self.channel.clone()));
        let mut status = self.link.reconcile.status();
        status.mark_changed();
        let mut alerts = (self.link.reconcile.status(), Vec::new());
        let mut reported = None;
        loop {
            tokio::select! {
                message = self.inbound.message() => match message {
                    Ok(Some(message)) => {
                        let Some(message) = message.message else { continue };
                        self.take(message).await?;
                    }
                    Ok(None) => return Err(closed("the coordinator closed the stream")),
                    Err(error) => return Err(judge(&error, true)),
                },
                changed = to_report(&mut status, &mut alerts, reported) => {
                    if changed.is_err() { return Err(closed("the agent is stopping")); }
                    let now = status.borrow_and_update().clone();
                    self.report(self.document(&now)).await?;
                    (alerts.1, reported) = (now.alerts.clone(), Some(Instant::now()));
                }
                figures = next(&mut self.figures) => self.send(Out::Figures(figures)).await?,
                newer = self.renewal.next(self.jobs.is_idle()) => if let Some(newer) = newer {
                    return Ok(newer);
                },
                batch = self.link.outbox.next(), if self.takes_events && self.unacked.is_none() => {
                    self.events(batch).await?;
                }
            }
        }
    }

    async fn take(&mut self, message: In) -> Result<(), End> {
        match message {
            In::Welcome(_) => {
                tracing::warn!("the coordinator said welcome twice");
                Ok(())
            }
            In::HostSpec(document) => self.accept(document).await,
            In::Job(job) => {
                self.jobs.start(job).await;
                Ok(())
            }
            In::CancelJob(cancel) => {
                self.jobs.cancel(&cancel.job_id);
                Ok(())
            }
            In::EventsAck(ack) => self.acked(ack).await,
            In::RenewCertificate(renew) => {
                self.renewal.due_in(Duration::from_millis(renew.in_ms));
                Ok(())
            }
            In::AlertRules(rules) => {
                self.link.alerts.accept(&rules.rules_json);
                Ok(())
            }
        }
    }

    async fn accept(&mut self, document: HostSpecDocument) -> Result<(), End> {
        let accepted = self.link.desired.accept(&document.document_json, &self.identity.host);
        tracing::info!(generation = document.generation, outcome = ?accepted.outcome, "host spec: {}", accepted.message);
        let outcome = match accepted.outcome {
            Outcome::Accepted => WireOutcome::Accepted,
            Outcome::Duplicate => WireOutcome::Duplicate,
            Outcome::Stale => WireOutcome::Stale,
            Outcome::Conflict => WireOutcome::Conflict,
            Outcome::Invalid => WireOutcome::Invalid,
            // No answer: it is offered again at the next connection, and the pauses before it grow.
            Outcome::Unkept => return Err(End::Closed { was_up: false, why: accepted.message }),
        };
        let ack = SpecAck { generation: document.generation, outcome: outcome.into(), message: accepted.message };
        self.send(Out::SpecAck(ack)).await
    }

    /// The status as the coordinator that knows this host by its present id may read it: a generation of an id that the
    /// host had before means nothing there.
    fn document(&self, status: &HostStatus) -> Vec<u8> {
        let generation = status.generation.min(self.link.desired.held(&self.identity.host).0);
        report::within(HostStatus { generation, ..status.clone() }, limits::MAX_REPORT_BYTES)
    }

    async fn report(&mut self, host_status_json: Vec<u8>) -> Result<(), End> {
        self.send(Out::Report(Report { host_status_json })).await
    }

    async fn events(&mut self, batch: Batch) -> Result<(), End> {
        let events_json = serde_json::to_vec(&batch.events).unwrap_or_default();
        self.unacked = Some((batch.spool.clone(), batch.last_seq()));
        self.send(Out::Events(Events { spool_id: batch.spool, first_seq: batch.first_seq, events_json })).await
    }

    async fn acked(&mut self, ack: EventsAck) -> Result<(), End> {
        let acked = (ack.spool_id, ack.up_to_seq);
        match self.unacked.take() {
            Some(unacked) if unacked == acked => {
                self.link.outbox.acked(acked.0, acked.1).await;
                Ok(())
            }
            Some(_) | None => {
                let why = "the coordinator acknowledged events that were not sent".to_owned();
                Err(End::Closed { was_up: false, why })
            }
        }
    }

    async fn send(&mut self, message: Out) -> Result<(), End> {
        let closed = |_| End::Closed { was_up: true, why: "the stream closed".to_owned() };
        self.out.send(FromAgent { message: Some(message) }).await.map_err(closed)
    }
}

/// Until there is something to report that may be reported; `alerts` as they were at the last time, which was at `reported`.
async fn to_report(
    status: &mut watch::Receiver<Arc<HostStatus>>,
    alerts: &mut (watch::Receiver<Arc<HostStatus>>, Vec<AlertStatus>),
    reported: Option<Instant>,
) -> Result<(), watch::error::RecvError> {
    let pause = |pause: Duration| async move {
        if let Some(at) = reported {
            sleep_until(at + pause).await;
        }
    };
    let (alerting, told) = alerts;
    tokio::select! {
        changed = async { pause(REPORT_PAUSE).await; status.changed().await } => changed,
        other = async { pause(ALERT_PAUSE).await; alerting.wait_for(|now| now.alerts != *told).await.map(drop) } => other,
    }
}

/// Never, if there is none.
async fn next(ticker: &mut Option<Ticker>) -> Figures {
    match ticker {
        Some(ticker) => ticker.next().await,
        None => std::future::pending().await,
    }
}

fn hello(link: &Link, host: &HostId, protocol_version: u32) -> Hello {
    let (generation, digest) = link.desired.held(host);
    Hello {
        protocol_version,
        min_protocol_version: MIN_PROTOCOL_VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        generation,
        spec_digest: digest.map(|d| d.to_string()).unwrap_or_default(),
        os: facts::os_name(),
        apps: held_apps(link, host),
        metrics: (protocol_version >= FIGURES_SINCE).then(|| endpoint(link)).flatten(),
    }
}

/// Where Prometheus may read. While nobody knows who may, nobody can.
fn endpoint(link: &Link) -> Option<MetricsEndpoint> {
    let (listen, web) = link.metrics.as_ref()?;
    let tls = web.now().is_ok_and(|access| access.tls.is_some());
    Some(MetricsEndpoint { listen: listen.to_string(), tls })
}

/// What the coordinator compares with its store: after a restore from a backup that one may know less.
fn held_apps(link: &Link, host: &HostId) -> Vec<HeldApp> {
    let spec = link.desired.subscribe().borrow().clone();
    let apps = spec.iter().filter(|spec| spec.host == *host).flat_map(|spec| &spec.apps);
    let held = |(app, desired): (&AppName, &DesiredApp)| HeldApp {
        app: app.to_string(),
        release: desired.release.number,
        rollout: desired.rollout,
    };
    apps.map(held).collect()
}

/// Which gRPC codes mean "come back later" and which "you are not wanted". One place, no wildcard.
fn judge(status: &tonic::Status, was_up: bool) -> End {
    use tonic::Code::{
        Aborted, AlreadyExists, Cancelled, DataLoss, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument,
        NotFound, Ok, OutOfRange, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable, Unimplemented,
        Unknown,
    };
    let why = reason(status);
    match status.code() {
        Unauthenticated | PermissionDenied | FailedPrecondition | Unimplemented => End::Refused(why),
        Ok | Aborted | AlreadyExists | Cancelled | DataLoss | DeadlineExceeded | Internal | InvalidArgument
        | NotFound | OutOfRange | ResourceExhausted | Unavailable | Unknown => End::Closed { was_up, why },
    }
}

/// What the coordinator said; for a broken connection, the innermost cause, and for TLS alerts what to do.
fn reason(status: &tonic::Status) -> String {
    if std::error::Error::source(status).is_none() {
        return status.message().to_owned();
    }
    let cause = super::innermost(status);
    let advice = if cause.contains("CertificateExpired") {
        "this host's certificate has expired (or a clock is wrong); enroll again with --replace"
    } else if cause.contains("CertificateRevoked") || cause.contains("UnknownCA") {
        "the coordinator does not accept this host's certificate; enroll again with --replace"
    } else {
        return cause;
    };
    format!("{advice} ({cause})")
}
