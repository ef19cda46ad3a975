//! One connection: hello, then specs and jobs in, acknowledgements, reports and events out, until it breaks.

use std::time::Duration;

use drover_proto::{
    PROTOCOL_VERSION, limits,
    name::HostId,
    status::HostStatus,
    wire::{
        Events, EventsAck, FromAgent, Hello, HostSpecDocument, Report, SpecAck, agent_link_client::AgentLinkClient,
        from_agent::Message as Out, spec_ack::Outcome as WireOutcome, to_agent::Message as In,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{Link, jobs::Jobs};
use crate::{desired::Outcome, event::Batch, host::facts, identity::Identity};

/// Messages waiting to be sent; then senders wait.
const OUTBOX_MESSAGES: usize = 64;
/// A report at most so often: live progress is for people.
const REPORT_PAUSE: Duration = Duration::from_millis(200);
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

/// Runs one connection to its end.
pub(super) async fn run(link: &Link, identity: &Identity, channel: Channel) -> End {
    let (out, outbox) = mpsc::channel(OUTBOX_MESSAGES);
    if out.send(FromAgent { message: Some(Out::Hello(hello(link, &identity.host))) }).await.is_err() {
        return End::Closed { was_up: false, why: "the stream closed at once".to_owned() };
    }
    let mut client = AgentLinkClient::new(channel.clone())
        .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES);
    let opened = tokio::time::timeout(WELCOME_TIMEOUT, client.session(ReceiverStream::new(outbox))).await;
    let mut inbound = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return judge(&status, false),
        Err(_) => return End::Closed { was_up: false, why: "the coordinator does not answer".to_owned() },
    };
    let mut session = Session {
        link,
        identity,
        jobs: Jobs::new(link.reconcile.clone(), out.clone(), link.answered.clone()),
        out,
        channel,
        up: false,
        takes_events: false,
        unacked: None,
    };
    link.outbox.bind(identity.host.clone()).await;
    let mut status = link.reconcile.status();
    status.mark_changed();
    let mut next_report = tokio::time::Instant::now();
    loop {
        tokio::select! {
            message = inbound.message() => match message {
                Ok(Some(message)) => {
                    let Some(message) = message.message else { continue };
                    if let Err(end) = session.take(message).await { return end; }
                }
                Ok(None) => return End::Closed { was_up: session.up, why: "the coordinator closed the stream".to_owned() },
                Err(error) => return judge(&error, session.up),
            },
            changed = async { tokio::time::sleep_until(next_report).await; status.changed().await }, if session.up => {
                if changed.is_err() { return End::Closed { was_up: session.up, why: "the agent is stopping".to_owned() }; }
                let report = session.document(&status.borrow_and_update());
                if let Err(end) = session.report(report).await { return end; }
                next_report = tokio::time::Instant::now() + REPORT_PAUSE;
            }
            batch = link.outbox.next(), if session.takes_events && session.unacked.is_none() => {
                if let Err(end) = session.events(batch).await { return end; }
            }
        }
    }
}

struct Session<'a> {
    link: &'a Link,
    identity: &'a Identity,
    jobs: Jobs,
    out: mpsc::Sender<FromAgent>,
    channel: Channel,
    up: bool,
    /// The coordinator understands events.
    takes_events: bool,
    /// The last event of the batch that is under way: its run, and its number there.
    unacked: Option<(String, u64)>,
}

impl Session<'_> {
    async fn take(&mut self, message: In) -> Result<(), End> {
        match message {
            In::Welcome(welcome) => {
                if welcome.protocol_version != PROTOCOL_VERSION {
                    return Err(End::Refused(format!(
                        "it speaks protocol {}, this agent speaks {PROTOCOL_VERSION}",
                        welcome.protocol_version
                    )));
                }
                tracing::info!(
                    coordinator = self.identity.coordinator,
                    version = welcome.coordinator_version,
                    host = welcome.host_name,
                    "connected"
                );
                self.up = true;
                self.takes_events = welcome.takes_events;
                self.link.connection.send_replace(Some(self.channel.clone()));
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
        serde_json::to_vec(&HostStatus { generation, ..status.clone() }).unwrap_or_default()
    }

    async fn report(&self, host_status_json: Vec<u8>) -> Result<(), End> {
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

    async fn send(&self, message: Out) -> Result<(), End> {
        let closed = |_| End::Closed { was_up: self.up, why: "the stream closed".to_owned() };
        self.out.send(FromAgent { message: Some(message) }).await.map_err(closed)
    }
}

fn hello(link: &Link, host: &HostId) -> Hello {
    let (generation, digest) = link.desired.held(host);
    Hello {
        protocol_version: PROTOCOL_VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        generation,
        spec_digest: digest.map(|d| d.to_string()).unwrap_or_default(),
        os: facts::os_name(),
    }
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
