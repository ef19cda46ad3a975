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
    server_with(Limits::default()).await
}

async fn server_with(limits: Limits) -> Server {
    let (dir, ca) = new_ca();
    let config = server_config(&ca).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let (address, connections) = bind_with(any, config, CancellationToken::new(), limits).await.unwrap();
    Server { _dir: dir, ca, address, connections }
}

fn host_identity(ca: &Ca) -> (Identity, String) {
    let NewKey { key_der, csr_der } = tls::new_key().unwrap();
    let issued = ca.sign_host(&csr_der, &HOST.parse::<HostId>().unwrap()).unwrap();
    (Identity { certificate_der: issued.der, key_der }, issued.serial)
}

/// Dials, and says one byte.
async fn connect(
    address: SocketAddr,
    trust: &Trust,
    identity: Option<&Identity>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let config = tls::client_config(trust, identity).unwrap();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    stream.write_all(b"?").await?;
    Ok(stream)
}

/// Dials, and waits for the server's verdict on the certificate.
async fn dial(address: SocketAddr, trust: Trust, identity: Option<&Identity>) -> io::Result<()> {
    let mut stream = connect(address, &trust, identity).await?;
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
    let trust = Trust::Roots(server.ca.trusted());
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
    let trust = Trust::Roots(server.ca.trusted());
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
    let trust = Trust::Roots(server.ca.trusted());
    let dialed = tokio::spawn(async move { dial(address, trust, None).await });
    let _connection = next(&mut server).await.expect("a silent peer holds up the others");
    dialed.await.unwrap().unwrap();
    let limit = Duration::from_millis(HANDSHAKE_TIMEOUT_MS) + SHORT;
    let cut = tokio::time::timeout(limit, silent[0].read(&mut [0])).await.expect("a silent peer stays for ever");
    assert!(matches!(cut, Ok(0) | Err(_)));
}

/// Open files of this process: both ends of every connection.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn handshakes_that_are_not_finished_take_no_more_than_their_places() {
    let limits = Limits { handshakes: 20, handshakes_per_address: 8, ..Limits::default() };
    let server = server_with(limits).await;
    let before = open_files();
    let mut held = Vec::new();
    for n in 0..100 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("127.0.0.{}:0", 10 + n % 20).parse().unwrap()).unwrap();
        let mut tcp = socket.connect(server.address).await.unwrap();
        if n % 2 == 0 {
            // The beginning of a ClientHello; the rest never comes.
            tcp.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await.unwrap();
        }
        held.push(tcp);
    }
    let taken = || open_files() - before - 100;
    let all = async {
        while taken() < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SHORT, all).await.expect("handshakes do not begin");
    let more = async {
        while taken() <= 21 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let more = tokio::time::timeout(Duration::from_millis(300), more).await;
    assert!(more.is_err(), "{} connections are open on the server's side", taken());
    drop(held);
    let gone = async {
        while open_files() > before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SHORT, gone).await.expect("the peers are gone, and their places not");
    let trust = Trust::Roots(server.ca.trusted());
    dial(server.address, trust, None).await.unwrap();
}

#[tokio::test]
async fn without_a_certificate_there_are_few_places_and_not_for_long() {
    let life = Duration::from_millis(800);
    let mut server = server_with(Limits { anonymous: 2, anonymous_life: life, ..Limits::default() }).await;
    let (address, trust) = (server.address, Trust::Roots(server.ca.trusted()));
    let (mut held, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        clients.push(connect(address, &trust, None).await.unwrap());
        held.push(next(&mut server).await.expect("a place is free"));
    }
    drop(dial(address, trust.clone(), None).await);
    let third = tokio::time::timeout(Duration::from_millis(200), server.connections.next()).await;
    assert!(third.is_err(), "a third one got in");

    let (identity, _) = host_identity(&server.ca);
    let enrolled = trust.clone();
    let host = tokio::spawn(async move { dial(address, enrolled, Some(&identity)).await });
    let connection = next(&mut server).await.expect("a host has to wait for the nameless");
    assert!(matches!(connection.peer().caller, Caller::Host { .. }));
    host.await.unwrap().unwrap();

    let mut first = held.remove(0);
    let cut = async {
        loop {
            match first.read(&mut [0]).await {
                Ok(bytes) => assert!(bytes > 0, "the peer is still there"),
                Err(error) => return error,
            }
        }
    };
    let cut = tokio::time::timeout(SHORT, cut).await.expect("it stays for ever");
    assert_eq!(cut.kind(), io::ErrorKind::TimedOut);
    drop((first, held));
    let again = tokio::spawn(async move { dial(address, trust, None).await });
    let _connection = next(&mut server).await.expect("the places are free again");
    again.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_peer_that_always_has_more_to_say_lets_others_have_their_turn() {
    let mut server = server().await;
    let (address, trust) = (server.address, Trust::Roots(server.ca.trusted()));
    let sent = 1 << 20;
    let client = tokio::spawn(async move {
        let mut stream = connect(address, &trust, None).await.unwrap();
        stream.write_all(&vec![7; sent - 1]).await.unwrap();
        stream.flush().await.unwrap();
        stream
    });
    let mut connection = next(&mut server).await.unwrap();
    // As HTTP/2 reads: until there is no more.
    let (mut read, mut longest) = (0, 0);
    while read < sent {
        let row = std::future::poll_fn(|cx| {
            let (mut row, mut buffer) = (0, [0; 4096]);
            loop {
                let mut into = ReadBuf::new(&mut buffer);
                match Pin::new(&mut connection).poll_read(cx, &mut into) {
                    Poll::Ready(done) => done.unwrap(),
                    Poll::Pending if row == 0 => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(row),
                }
                row += into.filled().len();
            }
        });
        let row = tokio::time::timeout(SHORT, row).await.expect("it is not woken again");
        (read, longest) = (read + row, longest.max(row));
    }
    assert!(longest <= READ_IN_A_ROW_BYTES + 4096, "{longest} bytes in one go");
    drop(client.await.unwrap());
}

#[tokio::test]
async fn one_caller_cannot_take_every_place() {
    let places = Places::new(Limits { per_host: 2, known: 3, ..Limits::default() });
    let host = |id: &str, serial: &str| Caller::Host { id: id.parse().unwrap(), serial: serial.to_owned() };
    let (one, other) = (host(HOST, "1"), host("h-000000000000000b", "2"));
    let address: std::net::IpAddr = "127.0.0.1".parse().unwrap();
    let held = [places.take(&one, address).unwrap(), places.take(&one, address).unwrap()];
    assert_eq!(places.take(&one, address).err(), Some(places::Full::Caller));
    let third = places.take(&other, address).unwrap();
    assert_eq!(places.take(&other, address).err(), Some(places::Full::Known));
    drop(held);
    places.take(&one, address).unwrap();
    drop(third);
    let held = [places.take(&one, address).unwrap(), places.take(&one, address).unwrap()];
    places.take(&host(HOST, "3"), address).expect("one certificate takes the places of the next");
    drop(held);
    let places = Places::new(Limits::default());
    let with = |serial: &str| std::iter::from_fn(|| places.take(&host(HOST, serial), address).ok()).collect::<Vec<_>>();
    let all: Vec<_> = ["1", "3", "4", "5", "6", "7"].map(with).into_iter().flatten().collect();
    assert_eq!(all.len(), 32, "whatever it renews");
    let ada = Caller::Operator { name: "ada".parse().unwrap(), serial: "8".to_owned() };
    let commands = std::iter::from_fn(|| places.take(&ada, address).ok()).collect::<Vec<_>>();
    assert_eq!(commands.len(), 64, "each command has its own");
    let all: Vec<_> = (0..200).filter_map(|_| places.handshake_with(address)).collect();
    assert_eq!(all.len(), places.limits.handshakes_per_address);
    let strangers: Vec<_> = (0..200).map_while(|_| places.take(&Caller::Anonymous, address).ok()).collect();
    assert_eq!(strangers.len(), places.limits.anonymous_per_address);
    places.take(&Caller::Anonymous, "127.0.0.2".parse().unwrap()).expect("another address still gets in");
}
