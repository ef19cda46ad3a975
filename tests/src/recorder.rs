//! Stands between drover's clients and their coordinator and keeps every gRPC message, byte for byte, in both directions. To
//! either side it is the other one: it has the coordinator's CA, and the clients' own keys.
//!
//! `capture` makes fixtures of it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use drover_coordinator::{
    ca::Ca,
    caller::{Caller, Peer},
    listen,
};
use drover_proto::{
    secret::Secret,
    tls::{self, Trust},
};
use http_body_util::BodyExt as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    body::Body,
    codegen::{Service as _, http},
    transport::Server,
};

use crate::{
    fleet,
    lab::{Host, RUNNER},
};

/// Where the coordinator keeps its CA.
const CA: &str = "/var/lib/drover-coordinator/ca";
/// The one call that is kept stream by stream.
const SESSION: &str = "AgentLink.Session";

/// What was said: by `Service.Method.up` and `.down` the bodies of its calls, whole messages with their framing.
pub type Said = BTreeMap<String, Vec<u8>>;

/// Between the clients and one coordinator, until it is ended.
pub struct Recorder {
    runtime: Runtime,
    address: SocketAddr,
    wire: Arc<Wire>,
    stop: CancellationToken,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Where a client has its key and certificate.
pub enum Keys {
    /// An agent's `identity.json`.
    Agent(PathBuf),
    /// An operator's directory.
    Operator(PathBuf),
}

impl Recorder {
    /// Begins, in front of the coordinator on that host.
    pub fn start(coordinator: &Host) -> Recorder {
        tls::install();
        let directory = tempfile::tempdir().expect("a temporary directory");
        for file in ["ca.crt", "ca.key"] {
            let bytes = coordinator.read_file(&format!("{CA}/{file}"));
            std::fs::write(directory.path().join(file), bytes).expect("a file");
        }
        let ca = Ca::load(directory.path()).expect("the coordinator's CA");
        let config = listen::server_config(&ca).expect("a TLS configuration");
        let runtime = Runtime::new().expect("a runtime");
        let stop = CancellationToken::new();
        let bound = listen::bind((RUNNER, 0).into(), config, stop.clone());
        let (address, connections) = runtime.block_on(bound).expect("an address");
        let wire = Arc::new(Wire {
            coordinator: fleet::address(coordinator),
            ca: ca.certificate().to_vec(),
            keys: Mutex::default(),
            said: Mutex::default(),
            sessions: Mutex::new(0),
        });
        let to = wire.clone();
        let forward = tower::service_fn(move |request| {
            let wire = to.clone();
            async move { Ok::<_, Infallible>(wire.call(request).await.unwrap_or_else(Status::into_http)) }
        });
        let end = stop.clone().cancelled_owned();
        let served = runtime.spawn(Server::builder().serve_with_incoming_shutdown(forward, connections, end));
        Recorder { runtime, address, wire, stop, served }
    }

    /// Where clients find it.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// It can speak for this client, too, with whatever certificate the client has just then.
    pub fn speak_for(&self, keys: Keys) {
        locked(&self.wire.keys).push(keys);
    }

    /// What was said. Clients that hold a stream open must have ended it, or their last words are missing.
    pub fn end(self) -> Said {
        self.stop.cancel();
        self.runtime.block_on(self.served).expect("it goes on").expect("it served");
        std::mem::take(&mut locked(&self.wire.said))
    }
}

/// What all calls share.
struct Wire {
    coordinator: String,
    ca: Vec<u8>,
    keys: Mutex<Vec<Keys>>,
    said: Mutex<Said>,
    sessions: Mutex<u32>,
}

impl Wire {
    /// Passes one call on, with a connection of its own.
    async fn call(self: Arc<Self>, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let peer = request.extensions().get::<Peer>().cloned().ok_or_else(|| Status::internal("nobody called"))?;
        let unknown = || Status::unauthenticated("the recorder has no key of this client");
        let identity = match &peer.caller {
            Caller::Anonymous => None,
            known => Some(self.identity(known).ok_or_else(unknown)?),
        };
        let config = tls::client_config(&Trust::Roots(vec![self.ca.clone()]), identity.as_ref());
        let config = config.map_err(|error| Status::internal(error.to_string()))?;
        let dialled = tls::dial(&self.coordinator, config).await;
        let mut channel = dialled.map_err(|error| Status::unavailable(error.to_string()))?;
        let name = self.name(request.uri().path());
        let request = request.map(|body| self.clone().taped(body, format!("{name}.up")));
        let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.map_err(unavailable)?;
        let response = channel.call(request).await.map_err(unavailable)?;
        Ok(response.map(|body| self.taped(body, format!("{name}.down"))))
    }

    /// How a call's messages are filed.
    fn name(&self, path: &str) -> String {
        let name = path.trim_start_matches("/drover.v1.").replace('/', ".");
        if name != SESSION {
            return name;
        }
        let mut sessions = locked(&self.sessions);
        *sessions += 1;
        format!("{SESSION}.{sessions}")
    }

    fn taped(self: Arc<Self>, body: Body, name: String) -> Body {
        let mut tape = Tape { wire: self, name, bytes: Vec::new() };
        Body::new(body.map_frame(move |frame| {
            tape.bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            frame
        }))
    }

    /// The key of that certificate.
    fn identity(&self, caller: &Caller) -> Option<tls::Identity> {
        let of_caller = |identity: &tls::Identity| {
            Caller::from_certificate(&identity.certificate_der).is_ok_and(|of| of == *caller)
        };
        locked(&self.keys).iter().flat_map(Keys::read).find(of_caller)
    }
}

/// What goes one way in one call. Filed when that is over.
struct Tape {
    wire: Arc<Wire>,
    name: String,
    bytes: Vec<u8>,
}

impl Drop for Tape {
    fn drop(&mut self) {
        let mut whole = 0;
        while let Some([_, a, b, c, d]) = self.bytes.get(whole..whole + 5) {
            let end = whole + 5 + u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            if end > self.bytes.len() {
                break;
            }
            whole = end;
        }
        let name = std::mem::take(&mut self.name);
        locked(&self.wire.said).entry(name).or_default().extend_from_slice(&self.bytes[..whole]);
    }
}

impl Keys {
    /// All that the client holds just now: the one in use, and the one that takes its place.
    fn read(&self) -> Vec<tls::Identity> {
        let found = match self {
            Keys::Agent(file) => of_agent(file),
            Keys::Operator(directory) => of_operator(directory),
        };
        found.into_iter().flatten().collect()
    }
}

fn of_agent(file: &PathBuf) -> Vec<Option<tls::Identity>> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let identity = |of: &serde_json::Value| {
        let field = |name: &str| hex::decode(of[name].as_str()?).ok();
        Some(tls::Identity { certificate_der: field("certificate")?, key_der: Secret::new(field("key")?) })
    };
    vec![identity(&document), identity(&document["next"])]
}

fn of_operator(directory: &std::path::Path) -> Vec<Option<tls::Identity>> {
    let identity = |key: &str, certificate: &str| {
        let key = PrivateKeyDer::from_pem_file(directory.join(key)).ok()?;
        let certificate = CertificateDer::from_pem_file(directory.join(certificate)).ok()?;
        let key_der = Secret::new(key.secret_der().to_vec());
        Some(tls::Identity { certificate_der: certificate.to_vec(), key_der })
    };
    vec![identity("operator.key", "operator.crt"), identity("renewed.pem", "renewed.pem")]
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
