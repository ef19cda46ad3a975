//! The floods of `flood`, each as much as one machine gives: of an enrolled host, and of peers without a certificate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use drover_proto::{
    PROTOCOL_VERSION,
    tls::{Identity, SERVER_NAME, Trust, client_config, dial},
    wire::{FetchBlobRequest, FromAgent, Hello, RenewRequest, agent_link_client::AgentLinkClient, from_agent},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// As many as one host may have connections.
const CONNECTIONS: usize = 8;
/// Calls on each at the same time.
const CALLS: usize = 100;
/// Connections without a certificate, or that never get that far.
const STRANGERS: usize = 400;
/// Before a stranger that was turned away comes again.
const AGAIN: Duration = Duration::from_millis(10);
const MAGIC: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingping";
/// The beginning of a ClientHello.
const HALF: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

/// Who floods.
#[derive(Clone)]
pub struct Peer {
    pub address: String,
    pub trust: Trust,
    pub identity: Identity,
}

/// With what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    Nothing,
    Streams,
    Downloads,
    Renewals,
    Pings,
    Silence,
    HalfHandshakes,
    Handshakes,
}

/// In the order of the table; `Nothing` first, which the others are compared with.
pub const FLOODS: [Flood; 8] = [
    Flood::Nothing,
    Flood::Streams,
    Flood::Downloads,
    Flood::Renewals,
    Flood::Pings,
    Flood::Silence,
    Flood::HalfHandshakes,
    Flood::Handshakes,
];

impl Flood {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Streams => "streams of one host, hello said, 800 at a time",
            Self::Downloads => "`FetchBlob` of one host, 800 at a time",
            Self::Renewals => "`Renew` of one host, 800 at a time",
            Self::Pings => "HTTP/2 pings of one host, 8 connections",
            Self::Silence => "400 TCP connections that say nothing",
            Self::HalfHandshakes => "400 TLS handshakes that stop in the middle",
            Self::Handshakes => "TLS handshakes without a certificate, 400 at a time",
        }
    }

    /// Until `stop`; answers how many calls, connections or thousands of pings there were.
    pub async fn run(self, peer: Peer, stop: CancellationToken) -> u64 {
        let (count, mut tasks) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        match self {
            Self::Nothing => {}
            Self::Streams | Self::Downloads | Self::Renewals => {
                for _ in 0..CONNECTIONS {
                    let config = client_config(&peer.trust, Some(&peer.identity)).expect("a TLS configuration");
                    let channel = dial(&peer.address, config).await.expect("the coordinator");
                    for _ in 0..CALLS {
                        tasks.spawn(calls(self, AgentLinkClient::new(channel.clone()), count.clone()));
                    }
                }
            }
            Self::Pings => {
                for _ in 0..CONNECTIONS {
                    tasks.spawn(pings(peer.clone(), count.clone()));
                }
            }
            Self::Silence | Self::HalfHandshakes | Self::Handshakes => {
                for _ in 0..STRANGERS {
                    tasks.spawn(stranger(self, peer.clone(), count.clone()));
                }
            }
        }
        stop.cancelled().await;
        tasks.shutdown().await;
        count.load(Ordering::Relaxed)
    }
}

/// One call after the other, whatever becomes of it.
async fn calls(flood: Flood, mut client: AgentLinkClient<Channel>, count: Arc<AtomicU64>) {
    loop {
        // Refused or not: the next one follows.
        match flood {
            Flood::Renewals => drop(client.renew(RenewRequest::default()).await),
            Flood::Downloads => {
                let digest = format!("sha256:{}", "0".repeat(64));
                drop(client.fetch_blob(FetchBlobRequest { digest, offset: 0 }).await);
            }
            _ => {
                let hello = Hello { protocol_version: PROTOCOL_VERSION, ..Hello::default() };
                let hello = FromAgent { message: Some(from_agent::Message::Hello(hello)) };
                if let Ok(stream) = client.session(tokio_stream::iter([hello])).await {
                    drop(stream.into_inner().message().await);
                }
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn tls(peer: &Peer, identity: Option<&Identity>) -> std::io::Result<TlsStream<TcpStream>> {
    let config = client_config(&peer.trust, identity).expect("a TLS configuration");
    let name = ServerName::try_from(SERVER_NAME).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(&peer.address).await?).await
}

/// Pings as fast as they are taken; the answers are read.
async fn pings(peer: Peer, count: Arc<AtomicU64>) {
    loop {
        let Ok(stream) = tls(&peer, Some(&peer.identity)).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let (mut reader, mut writer) = tokio::io::split(stream);
        let many = PING.repeat(1000);
        let write = async {
            writer.write_all(MAGIC).await?;
            loop {
                writer.write_all(&many).await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let read = async {
            let mut buffer = vec![0; 64 << 10];
            while reader.read(&mut buffer).await? > 0 {}
            Ok(())
        };
        let ended: std::io::Result<()> = tokio::select! {
            ended = write => ended,
            ended = read => ended,
        };
        // By the other side, one way or another: it is done again.
        drop(ended);
    }
}

/// Connects again and again, and stays for as long as it is let.
async fn stranger(flood: Flood, peer: Peer, count: Arc<AtomicU64>) {
    loop {
        count.fetch_add(1, Ordering::Relaxed);
        if flood == Flood::Handshakes {
            drop(tls(&peer, None).await);
        } else if let Ok(mut tcp) = TcpStream::connect(&peer.address).await {
            let said = if flood == Flood::HalfHandshakes { tcp.write_all(HALF).await } else { Ok(()) };
            if said.is_ok() {
                // Until it is cut off.
                drop(tcp.read(&mut [0]).await);
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
