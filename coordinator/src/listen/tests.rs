//! Who gets in, as whom, and that a silent peer holds up nobody.

use drover_proto::{
    name::HostId,
    tls::{Identity, NewKey, SERVER_NAME, Trust},
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;

use super::*;

const HOST: &str = "h-0123456789abcdef";
const SHORT: Duration = Duration::from_secs(5);

struct Server {
    _dir: tempfile::TempDir,
    ca: Ca,
    address: SocketAddr,
    connections: ReceiverStream<Result<Connection, io::Error>>,
}

fn new_ca() -> (tempfile::TempDir, Ca) {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::create(&dir.path().join("ca")).unwrap();
    (dir, ca)
}

async fn server() -> Server {
    let (dir, ca) = new_ca();
    let config = server_config(&ca).unwrap();
    let (address, connections) = bind("127.0.0.1:0".parse().unwrap(), config, CancellationToken::new()).await.unwrap();
    Server { _dir: dir, ca, address, connections }
}

fn host_identity(ca: &Ca) -> (Identity, String) {
    let NewKey { key_der, csr_der } = tls::new_key().unwrap();
    let issued = ca.sign_host(&csr_der, &HOST.parse::<HostId>().unwrap()).unwrap();
    (Identity { certificate_der: issued.der, key_der }, issued.serial)
}

/// Dials, and says one byte so that the server's verdict on the certificate comes back.
async fn dial(address: SocketAddr, trust: Trust, identity: Option<&Identity>) -> io::Result<()> {
    let config = tls::client_config(&trust, identity).unwrap();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    stream.write_all(b"?").await?;
    let mut answer = [0];
    // A server that accepted us says nothing, one that refused us sends an alert.
    match tokio::time::timeout(Duration::from_millis(300), stream.read(&mut answer)).await {
        Ok(Err(e)) => Err(e),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

async fn next(server: &mut Server) -> Option<Connection> {
    tokio::time::timeout(SHORT, server.connections.next()).await.ok().flatten().map(|c| c.unwrap())
}

#[tokio::test]
async fn a_host_is_known_by_its_certificate() {
    let mut server = server().await;
    let (identity, serial) = host_identity(&server.ca);
    let trust = Trust::Ca(server.ca.certificate().to_vec());
    let dialed = tokio::spawn(async move { dial(server.address, trust, Some(&identity)).await });
    let connection = next(&mut server).await.unwrap();
    assert_eq!(connection.peer().caller, Caller::Host { id: HOST.parse().unwrap(), serial });
    dialed.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_a_certificate_it_is_anonymous_and_the_fingerprint_suffices() {
    let mut server = server().await;
    let address = server.address;
    let right = Trust::Fingerprint(server.ca.fingerprint());
    let dialed = tokio::spawn(async move { dial(address, right, None).await });
    let connection = next(&mut server).await.unwrap();
    assert_eq!(connection.peer().caller, Caller::Anonymous);
    dialed.await.unwrap().unwrap();
    let (_dir, other) = new_ca();
    let said = dial(address, Trust::Fingerprint(other.fingerprint()), None).await.unwrap_err().to_string();
    assert!(said.contains("fingerprint"), "{said}");
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let mut server = server().await;
    let (_dir, other) = new_ca();
    let (identity, _) = host_identity(&other);
    let trust = Trust::Ca(server.ca.certificate().to_vec());
    let refused = dial(server.address, trust, Some(&identity)).await;
    assert!(refused.is_err());
    let waited = tokio::time::timeout(Duration::from_millis(200), server.connections.next()).await;
    assert!(waited.is_err(), "it was let in");
}

#[tokio::test]
async fn silent_peers_hold_up_nobody_and_are_cut_off() {
    let mut server = server().await;
    let address = server.address;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let trust = Trust::Ca(server.ca.certificate().to_vec());
    let dialed = tokio::spawn(async move { dial(address, trust, None).await });
    let _connection = next(&mut server).await.expect("a silent peer holds up the others");
    dialed.await.unwrap().unwrap();
    let limit = Duration::from_millis(HANDSHAKE_TIMEOUT_MS) + SHORT;
    let cut = tokio::time::timeout(limit, silent[0].read(&mut [0])).await.expect("a silent peer stays for ever");
    assert!(matches!(cut, Ok(0) | Err(_)));
}
