//! A real client at a real port.

use std::{
    io::Read as _,
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::text::Text;

/// Tells how often it was asked, and has a document.
#[derive(Default)]
pub(crate) struct Counting(AtomicU32);

impl Source for Counting {
    const PROGRAM: &'static str = "counting";
    const SETTINGS: &'static str = "counting.toml";

    async fn scrape<T: Send + 'static>(
        self: Arc<Self>,
        format: Format,
        finish: impl FnOnce(String) -> T + Send + 'static,
    ) -> Option<T> {
        // As long as many readers take to come.
        sleep(Duration::from_millis(20)).await;
        let mut text = Text::new(format, 0);
        text.counter("scrapes_total", "Of it.").value(self.0.fetch_add(1, Relaxed) + 1);
        Some(finish(text.finish()))
    }

    fn document(self: Arc<Self>, path: &str) -> Option<impl Future<Output = Option<Vec<u8>>> + Send + use<>> {
        (path == "/sd").then_some(async { Some(b"[]".to_vec()) })
    }
}

async fn served() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(accept(listener, Arc::new(Counting::default()), Web::new(None)));
    address
}

/// The head, in lower case, and the body.
async fn ask(address: SocketAddr, request: &str) -> (String, Vec<u8>) {
    try_to_ask(address, request).await.unwrap()
}

/// `None`: the connection was closed without an answer.
async fn try_to_ask(address: SocketAddr, request: &str) -> Option<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let asked = format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let body = answer.split_off(end + 4);
    Some((String::from_utf8(answer).ok()?.to_lowercase(), body))
}

#[tokio::test]
async fn what_is_asked_for_is_answered() {
    let address = served().await;
    let (head, body) = ask(address, "GET /metrics HTTP/1.1").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("# TYPE scrapes_total counter\nscrapes_total 1\n"), "{text}");

    let (head, body) =
        ask(address, "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0,*/*;q=0.1").await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("# TYPE scrapes counter\n") && text.ends_with("# EOF\n"), "{text}");

    let (head, body) = ask(address, "GET /metrics HTTP/1.1\r\nAccept-Encoding: br, gzip").await;
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
    assert!(text.contains("scrapes_total "), "{text}");
    let (head, _) = ask(address, "GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip;q=0").await;
    assert!(!head.contains("content-encoding"), "{head}");

    let (head, body) = ask(address, "GET /sd?x=1 HTTP/1.1").await;
    assert!(head.contains("content-type: application/json") && body == b"[]", "{head}");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let address = served().await;
    let (head, body) = ask(address, "HEAD /metrics HTTP/1.1").await;
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}");
    for (request, status) in [
        ("GET / HTTP/1.1", "200"),
        ("GET /../etc/passwd HTTP/1.1", "404"),
        ("POST /sd HTTP/1.1\r\nContent-Length: 0", "405"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0", "405"),
        ("nonsense", "400"),
    ] {
        let (head, _) = ask(address, request).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{request}: {head}");
    }
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(64 << 10));
    let (head, _) = ask(address, &long).await;
    assert!(head.starts_with("http/1.1 431"), "{head}");
}

#[tokio::test]
async fn those_who_only_sit_there_are_few() {
    let address = served().await;
    let mut idle = Vec::new();
    for _ in 0..4 * MAX_CONNECTIONS_OF_ONE {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    // Those over the limit are closed at once.
    let mut closed = 0;
    for stream in &mut idle {
        let mut byte = [0];
        let read = timeout(Duration::from_millis(20), stream.read(&mut byte)).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert!(closed > 0 && closed <= 3 * MAX_CONNECTIONS_OF_ONE, "{closed}");
    assert!(try_to_ask(address, "GET / HTTP/1.1").await.is_none(), "there is no place left");
    drop(idle);
    let again = async {
        while try_to_ask(address, "GET / HTTP/1.1").await.is_none() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), again).await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_tried_again() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    let waiting = tokio::spawn(bound(address, Duration::from_millis(10), "x.toml"));
    sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    drop(taken);
    let listener = timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    assert_eq!(listener.local_addr().unwrap(), address);
}

#[tokio::test]
async fn many_at_once_are_one_scrape() {
    let address = served().await;
    let asked = (0..6).map(|_| ask(address, "GET /metrics HTTP/1.1"));
    let bodies: Vec<_> = futures_util::future::join_all(asked).await.into_iter().map(|(_, body)| body).collect();
    assert!(bodies.iter().any(|body| *body == bodies[0]) && bodies.iter().all(|body| !body.is_empty()));
    let different: std::collections::BTreeSet<_> = bodies.iter().collect();
    assert!(different.len() < bodies.len(), "the count in each would differ");
}
