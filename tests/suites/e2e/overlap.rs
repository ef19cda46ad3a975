//! A real agent and a coordinator of protocol 1: one that says what was captured in tests/fixtures/protocol-1, and refuses
//! every other number as that one did. The other direction is in coordinator/src/rpc/tests/overlap.rs.

use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

use drover_coordinator::{ca::Ca, listen};
use drover_proto::{
    code::{self, Code},
    digest::Digest,
    name::HostId,
    spec::HostSpec,
    status::{HostStatus, Phase},
    tls,
    token::{Token, TokenKind},
    wire::{
        BlobChunk, Certificate, EnrollHostRequest, FetchBlobRequest, FromAgent, HostSpecDocument, LoginOperatorRequest,
        RenewRequest, ToAgent, Welcome,
        agent_link_server::{AgentLink, AgentLinkServer},
        enrolment_server::{Enrolment, EnrolmentServer},
        from_agent, spec_ack, to_agent,
    },
};
use drover_tests::{
    fleet::install,
    lab::{Lab, RUNNER},
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Server};

const HOST: &str = "h-0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(40);

/// The messages of one captured file.
fn captured<M: Message + Default>(name: &str) -> Vec<M> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/protocol-1/{name}.grpc"));
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
fn spec() -> HostSpec {
    let messages: Vec<ToAgent> = captured("AgentLink.Session.first.down");
    let mut specs = messages.into_iter().filter_map(|message| match message.message {
        Some(to_agent::Message::HostSpec(document)) => {
            Some(serde_json::from_slice::<HostSpec>(&document.document_json).expect("a host spec"))
        }
        _ => None,
    });
    let spec = specs.find(|spec| !spec.apps.is_empty()).expect("a spec with an app");
    HostSpec { host: HOST.parse().expect("an id"), ..spec }
}

/// A coordinator of protocol 1.
#[derive(Clone)]
struct Old {
    ca: Arc<Ca>,
    /// Everything that the agent said after a hello with protocol 1, and the protocol of each hello.
    heard: mpsc::UnboundedSender<Heard>,
}

#[derive(Debug)]
enum Heard {
    Hello(u32),
    Said(FromAgent),
}

#[tonic::async_trait]
impl Enrolment for Old {
    async fn enroll_host(&self, request: Request<EnrollHostRequest>) -> Result<Response<Certificate>, Status> {
        let host: HostId = HOST.parse().expect("an id");
        let issued = self.ca.sign_host(&request.into_inner().csr_der, &host).expect("a certificate");
        #[allow(clippy::needless_update, reason = "later protocols have more fields")]
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
impl AgentLink for Old {
    type SessionStream = Outgoing<ToAgent>;
    type FetchBlobStream = Outgoing<BlobChunk>;

    async fn session(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let (out, outgoing) = mpsc::channel(16);
        let heard = self.heard.clone();
        tokio::spawn(async move {
            let say = async |message| out.send(Ok(ToAgent { message: Some(message) })).await.is_ok();
            let Ok(Some(FromAgent { message: Some(from_agent::Message::Hello(hello)) })) = incoming.message().await
            else {
                return;
            };
            drop(heard.send(Heard::Hello(hello.protocol_version)));
            if hello.protocol_version != 1 {
                let refusal = code::status(Code::Protocol, "this coordinator speaks protocol 1");
                drop(out.send(Err(refusal)).await);
                return;
            }
            #[allow(clippy::needless_update, reason = "later protocols have more fields")]
            let welcome = Welcome {
                protocol_version: 1,
                coordinator_version: "0.1.0".to_owned(),
                host_name: "web-1".to_owned(),
                ..Welcome::default()
            };
            say(to_agent::Message::Welcome(welcome)).await;
            let spec = spec();
            let document_json = serde_json::to_vec(&spec).expect("a document");
            say(to_agent::Message::HostSpec(HostSpecDocument { generation: spec.generation, document_json })).await;
            while let Ok(Some(message)) = incoming.message().await {
                drop(heard.send(Heard::Said(message)));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<Certificate>, Status> {
        Err(Status::unimplemented("not in protocol 1"))
    }

    async fn fetch_blob(&self, request: Request<FetchBlobRequest>) -> Result<Response<Self::FetchBlobStream>, Status> {
        let wanted = request.into_inner().digest;
        let all: Vec<BlobChunk> = captured("AgentLink.FetchBlob.down");
        let chunk = all.into_iter().find(|chunk| Digest::of(&chunk.data).to_string() == wanted);
        Ok(Response::new(Box::pin(tokio_stream::once(chunk.ok_or_else(|| Status::not_found("no such blob"))))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_deploys_with_a_coordinator_of_protocol_1() {
    tls::install();
    let lab = Lab::start();
    let host = lab.host("web-1");
    install(&host, "drover-agent");
    let directory = tempfile::tempdir().expect("a directory");
    let ca = Arc::new(Ca::create(&directory.path().join("ca")).expect("a CA"));
    let stop = CancellationToken::new();
    let config = listen::server_config(&ca).expect("a TLS configuration");
    let (address, connections) = listen::bind((RUNNER, 0).into(), config, stop.clone()).await.expect("an address");
    let (heard, mut hears) = mpsc::unbounded_channel();
    let old = Old { ca: ca.clone(), heard };
    let served = Server::builder()
        .add_service(EnrolmentServer::new(old.clone()))
        .add_service(AgentLinkServer::new(old))
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

    let mut refused = Vec::new();
    let (mut accepted, mut healthy) = (false, false);
    let listening = async {
        while !healthy {
            match hears.recv().await.expect("the coordinator ended") {
                Heard::Hello(protocol) => refused.push(protocol),
                Heard::Said(FromAgent { message: Some(from_agent::Message::SpecAck(ack)) }) => {
                    assert_eq!(ack.outcome(), spec_ack::Outcome::Accepted, "{}", ack.message);
                    accepted = true;
                }
                Heard::Said(FromAgent { message: Some(from_agent::Message::Report(report)) }) => {
                    let status: HostStatus = serde_json::from_slice(&report.host_status_json).expect("a report");
                    healthy = status.apps.values().any(|app| matches!(app.phase, Phase::Healthy { .. }));
                }
                Heard::Said(other) => panic!("protocol 1 knows no {other:?}"),
            }
        }
    };
    let done = tokio::time::timeout(PATIENCE, listening).await;
    let journal = tokio::task::block_in_place(|| host.journal("drover-agent"));
    assert!(done.is_ok(), "the agent did not deploy: {journal}");
    // A stream that is cut later begins with both again.
    assert!(accepted && refused.starts_with(&[2, 1]), "it said hello with {refused:?}: {journal}");
    stop.cancel();
    let output = tokio::task::block_in_place(|| host.exec(&["curl", "-s", "-m", "2", "http://127.0.0.1:8000/"]));
    assert!(output.stdout.contains("\"version\""), "{output}");
}
