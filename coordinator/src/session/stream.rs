//! One agent's stream: hello, welcome, then specs and jobs down, acknowledgements, reports and answers up.
//!
//! `rpc/link` opens it for a host whose certificate it has checked; `registry` is how others reach it; what the host says
//! goes to the store, and as a `HostEvent` to `rollout`.

use std::{sync::Arc, time::Duration};

use drover_proto::{
    PROTOCOL_VERSION,
    code::{self, Code},
    limits,
    name::HostId,
    status::HostStatus,
    wire::{
        FromAgent, Hello, HostSpecDocument, Report, SpecAck, ToAgent, Welcome, from_agent, spec_ack::Outcome, to_agent,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, error, info, warn};

use super::{Document, HostEvent, Sessions, document, registry::Connection};
use crate::{clock, store::Store};

/// For the hello, and for an agent to read one message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages between this task and the connection.
const OUTGOING: usize = 16;
/// What a message needs beside its document.
const ENVELOPE_BYTES: usize = 1024;

/// What every stream needs; clones share it.
#[derive(Clone)]
pub struct AgentStreams {
    /// Where facts and reports are kept.
    pub store: Store,
    /// Who is connected.
    pub sessions: Sessions,
    /// To `rollout`.
    pub events: mpsc::Sender<HostEvent>,
    /// The coordinator stops.
    pub stop: CancellationToken,
}

/// What goes down a stream.
pub type Outgoing = ReceiverStream<Result<ToAgent, Status>>;

impl AgentStreams {
    /// Takes over a stream of this host; answers what goes down it.
    #[must_use]
    pub fn open(&self, host: HostId, incoming: Streaming<FromAgent>) -> Outgoing {
        let (sender, receiver) = mpsc::channel(OUTGOING);
        let stream = Stream { all: self.clone(), host, out: sender, sent: 0 };
        tokio::spawn(stream.run(incoming));
        ReceiverStream::new(receiver)
    }
}

struct Stream {
    all: AgentStreams,
    host: HostId,
    out: mpsc::Sender<Result<ToAgent, Status>>,
    /// The newest generation that was sent on this stream.
    sent: u64,
}

impl Stream {
    async fn run(mut self, mut incoming: Streaming<FromAgent>) {
        let hello = match self.hello(&mut incoming).await {
            Ok(hello) => hello,
            Err(status) => return self.end(status).await,
        };
        let mut connection = self.all.sessions.connect(&self.host);
        info!(host = %self.host, agent = hello.agent_version, generation = hello.generation, "connected");
        let status = match self.begin(&hello).await {
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

    async fn hello(&self, incoming: &mut Streaming<FromAgent>) -> Result<Hello, Status> {
        let first = tokio::time::timeout(PATIENCE, incoming.message())
            .await
            .map_err(|_| code::status(Code::HostTimeout, "the agent did not say hello"))??;
        let Some(from_agent::Message::Hello(hello)) = first.and_then(|first| first.message) else {
            return Err(code::status(Code::Protocol, "the agent must say hello first"));
        };
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(code::status(
                Code::Protocol,
                format!(
                    "this coordinator speaks protocol {PROTOCOL_VERSION}, the agent {}: install the same version of both",
                    hello.protocol_version
                ),
            ));
        }
        self.all
            .store
            .set_hello(&self.host, &hello.agent_version, &hello.os, clock::unix_ms())
            .await
            .map_err(failed)?;
        Ok(hello)
    }

    async fn begin(&mut self, hello: &Hello) -> Result<(), Status> {
        let row = self.all.store.host(self.host.as_str()).await.map_err(failed)?;
        let row = row.ok_or_else(|| code::status(Code::Revoked, "this host has been removed"))?;
        if hello.generation > row.generation {
            error!(
                host = %row.name, held = hello.generation, known = row.generation,
                "the host holds a newer spec than this coordinator has written: was it restored from a backup?"
            );
        } else {
            self.all.store.set_accepted(&self.host, hello.generation).await.map_err(failed)?;
        }
        let welcome = Welcome {
            protocol_version: PROTOCOL_VERSION,
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            host_name: row.name.to_string(),
        };
        self.send(to_agent::Message::Welcome(welcome)).await?;
        self.send_spec().await?;
        self.tell(HostEvent::Connected(self.host.clone())).await;
        Ok(())
    }

    /// Until the stream ends; answers why it did.
    async fn serve(&mut self, incoming: &mut Streaming<FromAgent>, connection: &mut Connection) -> Status {
        loop {
            let done = tokio::select! {
                () = self.all.stop.cancelled() => Err(code::status(Code::HostOffline, "the coordinator is stopping")),
                () = connection.closed.cancelled() => {
                    Err(code::status(Code::HostOffline, "the coordinator ends this stream"))
                }
                message = incoming.message() => match message {
                    Ok(Some(message)) => self.take(message, connection.number).await,
                    Ok(None) => Err(Status::cancelled("the agent ended the stream")),
                    Err(status) => Err(status),
                },
                () = connection.spec_changed.notified() => self.send_spec().await,
                Some(order) = connection.orders.recv() => self.send_message(order).await,
            };
            if let Err(status) = done {
                return status;
            }
        }
    }

    async fn take(&mut self, message: FromAgent, number: u64) -> Result<(), Status> {
        match message.message {
            Some(from_agent::Message::SpecAck(ack)) => self.acknowledged(ack).await,
            Some(from_agent::Message::Report(report)) => self.reported(report).await,
            Some(from_agent::Message::JobReply(reply)) => {
                self.all.sessions.answer(&self.host, number, reply);
                Ok(())
            }
            Some(from_agent::Message::Hello(_)) => Err(code::status(Code::Protocol, "hello is said once")),
            None => Err(code::status(Code::Protocol, "the agent sent a message that this coordinator does not know")),
        }
    }

    async fn acknowledged(&self, ack: SpecAck) -> Result<(), Status> {
        let (host, generation, message) = (&self.host, ack.generation, ack.message.clone());
        match ack.outcome() {
            Outcome::Accepted | Outcome::Duplicate => {
                debug!(%host, generation, "spec accepted");
                return self.all.store.set_accepted(host, generation).await.map_err(failed);
            }
            Outcome::Stale => {
                error!(%host, generation, message, "the host holds a newer spec: was this coordinator restored from a backup?");
            }
            Outcome::Conflict => error!(%host, generation, message, "the host holds another spec of this generation"),
            Outcome::Invalid | Outcome::Unspecified => error!(%host, generation, message, "the host refused its spec"),
        }
        self.tell(HostEvent::Refused { host: host.clone(), generation, message }).await;
        Ok(())
    }

    async fn reported(&self, report: Report) -> Result<(), Status> {
        let status: HostStatus = match serde_json::from_slice(&report.host_status_json) {
            Ok(status) => status,
            Err(error) => {
                warn!(host = %self.host, %error, "a report that cannot be read is left out");
                return Ok(());
            }
        };
        // Parsed, it is UTF-8.
        let text = String::from_utf8_lossy(&report.host_status_json);
        self.all.store.save_report(&self.host, &text, clock::unix_ms()).await.map_err(failed)?;
        self.tell(HostEvent::Report(self.host.clone(), Arc::new(status))).await;
        Ok(())
    }

    /// Sends the newest spec, unless this stream has it already.
    async fn send_spec(&mut self) -> Result<(), Status> {
        let Document { generation, json } = match document(&self.all.store, &self.host).await {
            Ok(Some(document)) => document,
            Ok(None) => return Ok(()),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                error!(host = %self.host, %error, source, "the host spec cannot be sent");
                return Ok(());
            }
        };
        if generation == self.sent {
            return Ok(());
        }
        if json.len() + ENVELOPE_BYTES > limits::MAX_MESSAGE_BYTES {
            let message = format!("the host spec has {} bytes, more than one message may have", json.len());
            error!(host = %self.host, generation, message);
            self.tell(HostEvent::Refused { host: self.host.clone(), generation, message }).await;
            return Ok(());
        }
        debug!(host = %self.host, generation, "spec sent");
        self.send(to_agent::Message::HostSpec(HostSpecDocument { generation, document_json: json })).await?;
        self.sent = generation;
        Ok(())
    }

    async fn send(&self, message: to_agent::Message) -> Result<(), Status> {
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

    async fn tell(&self, event: HostEvent) {
        if self.all.events.send(event).await.is_err() {
            debug!(host = %self.host, "the coordinator is stopping: nobody listens to hosts any more");
        }
    }
}

/// What the agent is told when the store fails; the rest is for our log.
fn failed(error: crate::store::StoreError) -> Status {
    error!(%error, source = std::error::Error::source(&error).map(ToString::to_string), "store");
    code::status(Code::Store, "the coordinator's store failed; its log says why")
}
