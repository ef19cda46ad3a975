//! A coordinator that says what a test has it say: a real agent enrols with it and opens its streams, and the test is at the
//! other end. The artifacts and the spec that it has are those that were captured of a protocol (tests/fixtures).

use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

use drover_coordinator::{ca::Ca, listen};
use drover_proto::{
    digest::Digest,
    name::HostId,
    spec::HostSpec,
    tls,
    token::{Token, TokenKind},
    wire::{
        BlobChunk, Certificate, EnrollHostRequest, FetchBlobRequest, FromAgent, Hello, HostSpecDocument,
        LoginOperatorRequest, RenewRequest, ToAgent, Welcome,
        agent_link_server::{AgentLink, AgentLinkServer},
        enrolment_server::{Enrolment, EnrolmentServer},
        from_agent, to_agent,
    },
};
use drover_tests::{
    fleet::install,
    lab::{Host, Lab, RUNNER},
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// How the coordinator calls the host.
pub const HOST: &str = "h-0123456789abcdef";
/// For one answer of the agent.
const PATIENCE: Duration = Duration::from_secs(40);

/// The messages of one captured file.
fn captured<M: Message + Default>(protocol: u32, name: &str) -> Vec<M> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/protocol-{protocol}/{name}.grpc"));
    let bytes = std::fs::read(path).expect("a fixture");
    let (mut rest, mut messages) = (bytes.as_slice(), Vec::new());
    while let [0, a, b, c, d, tail @ ..] = rest {
        let (message, after) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        messages.push(M::decode(message).expect("a message"));
        rest = after;
    }
    messages
}

/// The first captured host spec with an app in it, for the host of this test.
pub fn spec(protocol: u32) -> HostSpec {
    let stream = if protocol == 1 { "first" } else { "1" };
    let messages: Vec<ToAgent> = captured(protocol, &format!("AgentLink.Session.{stream}.down"));
    let mut specs = messages.into_iter().filter_map(|message| match message.message {
        Some(to_agent::Message::HostSpec(document)) => {
            Some(serde_json::from_slice::<HostSpec>(&document.document_json).expect("a host spec"))
        }
        _ => None,
    });
    let spec = specs.find(|spec| !spec.apps.is_empty()).expect("a spec with an app");
    HostSpec { host: HOST.parse().expect("an id"), ..spec }
}

/// The coordinator, and a host that is enrolled with it.
pub struct Scripted {
    /// With the agent.
    pub host: Host,
    talks: mpsc::UnboundedReceiver<Talk>,
    _lab: Lab,
    _directory: tempfile::TempDir,
    _stop: DropGuard,
}

impl Scripted {
    /// Starts both, with the artifacts of a protocol.
    pub async fn start(protocol: u32) -> Scripted {
        tls::install();
        let (lab, host) = tokio::task::block_in_place(|| {
            let lab = Lab::start();
            let host = lab.host("web-1");
            install(&host, "drover-agent");
            (lab, host)
        });
        let directory = tempfile::tempdir().expect("a directory");
        let ca = Arc::new(Ca::create(&directory.path().join("ca")).expect("a CA"));
        let stop = CancellationToken::new();
        let config = listen::server_config(&ca).expect("a TLS configuration");
        let (address, connections) = listen::bind((RUNNER, 0).into(), config, stop.clone()).await.expect("an address");
        let (new_talk, talks) = mpsc::unbounded_channel();
        let doors = Doors { ca: ca.clone(), new_talk, protocol };
        let served = Server::builder()
            .add_service(EnrolmentServer::new(doors.clone()))
            .add_service(AgentLinkServer::new(doors))
            .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
        tokio::spawn(served);
        let random = |bytes: &mut [u8]| {
            bytes.fill(7);
            Ok::<(), ()>(())
        };
        let token = Token::generate(TokenKind::Join, ca.fingerprint(), random).expect("a token");
        let (address, token) = (address.to_string(), token.reveal());
        let enroll = ["drover-agent", "enroll", "--coordinator", &address, "--token", &token];
        tokio::task::block_in_place(|| host.exec(&enroll)).ok();
        Scripted { host, talks, _lab: lab, _directory: directory, _stop: stop.drop_guard() }
    }

    /// The next stream that the agent opens.
    pub async fn talk(&mut self) -> Talk {
        match tokio::time::timeout(PATIENCE, self.talks.recv()).await {
            Ok(talk) => talk.expect("the coordinator is there"),
            Err(_) => panic!("the agent opens no stream: {}", self.journal()),
        }
    }

    /// What the agent says in its journal.
    pub fn journal(&self) -> String {
        tokio::task::block_in_place(|| self.host.journal("drover-agent"))
    }
}

/// One stream of the agent.
pub struct Talk {
    /// Its first word.
    pub hello: Hello,
    incoming: Streaming<FromAgent>,
    out: mpsc::Sender<Result<ToAgent, Status>>,
}

impl Talk {
    /// Says something.
    pub async fn say(&self, message: to_agent::Message) {
        self.out.send(Ok(ToAgent { message: Some(message) })).await.expect("the agent listens");
    }

    /// Ends the stream.
    pub async fn refuse(self, status: Status) {
        self.out.send(Err(status)).await.expect("the agent listens");
    }

    /// Bids the agent welcome.
    pub async fn welcome(&self, protocol_version: u32) {
        let (coordinator_version, host_name) = ("0.1.0".to_owned(), "web-1".to_owned());
        let welcome = Welcome { protocol_version, coordinator_version, host_name, ..Welcome::default() };
        self.say(to_agent::Message::Welcome(welcome)).await;
    }

    /// Sends a host spec.
    pub async fn send_spec(&self, spec: &HostSpec) {
        let document_json = serde_json::to_vec(spec).expect("a document");
        let document = HostSpecDocument { generation: spec.generation, document_json };
        self.say(to_agent::Message::HostSpec(document)).await;
    }

    /// Listens until the agent says what `wanted` takes.
    pub async fn hear<T>(&mut self, what: &str, mut wanted: impl FnMut(from_agent::Message) -> Option<T>) -> T {
        let listening = async {
            loop {
                let message = self.incoming.message().await.expect("the stream is whole").expect("it goes on");
                if let Some(heard) = message.message.and_then(&mut wanted) {
                    return heard;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, listening).await {
            Ok(heard) => heard,
            Err(_) => panic!("not within {PATIENCE:?}: {what}"),
        }
    }
}

/// What it serves.
#[derive(Clone)]
struct Doors {
    ca: Arc<Ca>,
    new_talk: mpsc::UnboundedSender<Talk>,
    protocol: u32,
}

#[tonic::async_trait]
impl Enrolment for Doors {
    async fn enroll_host(&self, request: Request<EnrollHostRequest>) -> Result<Response<Certificate>, Status> {
        let host: HostId = HOST.parse().expect("an id");
        let issued = self.ca.sign_host(&request.into_inner().csr_der, &host).expect("a certificate");
        let certificate = Certificate {
            certificate_der: issued.der,
            ca_der: self.ca.certificate().to_vec(),
            subject_id: HOST.to_owned(),
            not_after_unix_ms: issued.not_after_ms,
            ..Certificate::default()
        };
        Ok(Response::new(certificate))
    }
    async fn login_operator(&self, _: Request<LoginOperatorRequest>) -> Result<Response<Certificate>, Status> {
        Err(Status::unimplemented("no operators here"))
    }
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AgentLink for Doors {
    type SessionStream = Outgoing<ToAgent>;
    type FetchBlobStream = Outgoing<BlobChunk>;

    async fn session(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let (out, outgoing) = mpsc::channel(16);
        let new_talk = self.new_talk.clone();
        tokio::spawn(async move {
            if let Ok(Some(FromAgent { message: Some(from_agent::Message::Hello(hello)) })) = incoming.message().await {
                // Err: the test is over.
                drop(new_talk.send(Talk { hello, incoming, out }));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<Certificate>, Status> {
        Err(Status::unimplemented("no certificate is renewed here"))
    }

    async fn fetch_blob(&self, request: Request<FetchBlobRequest>) -> Result<Response<Self::FetchBlobStream>, Status> {
        let wanted = request.into_inner().digest;
        let all: Vec<BlobChunk> = captured(self.protocol, "AgentLink.FetchBlob.down");
        let chunk = all.into_iter().find(|chunk| Digest::of(&chunk.data).to_string() == wanted);
        Ok(Response::new(Box::pin(tokio_stream::once(chunk.ok_or_else(|| Status::not_found("no such blob"))))))
    }
}
