//! The HTTP half: `GET /metrics` for whoever may connect, in the format that is asked for, compressed if that is asked
//! for. Few connections at a time, each of them bounded in time; a port that is taken is tried again.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderMap, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Format, Source,
    web::{Access, Web},
};

/// At the same time; whoever comes then is turned away. A pair of Prometheus servers and some people fit in.
const MAX_CONNECTIONS: usize = 32;
/// From one address, or one network of version 6.
const MAX_CONNECTIONS_OF_ONE: usize = 8;
/// For the first request to begin.
const SPEAKS_WITHIN: Duration = Duration::from_secs(10);
/// From one request to the next, and for a request to arrive: Prometheus asks once a minute or more often.
const REQUEST_WITHIN: Duration = Duration::from_secs(90);
/// For what is sent to be taken.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);
/// However it goes, a connection does not live longer.
const CONNECTION_LIFE: Duration = Duration::from_secs(600);
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Scrapes that are asked for within so much of each other are one: nobody makes systemd and the disks work without end.
const SAME_WITHIN: Duration = Duration::from_millis(250);
/// As Prometheus waits for an answer if it is not told otherwise.
const SCRAPED_WITHIN: Duration = Duration::from_secs(10);
/// Before a port that is taken is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(15);
const MAX_HEADER_BYTES: usize = 16 << 10;

/// Serves for ever.
pub async fn serve<S: Source>(address: SocketAddr, source: Arc<S>, web: Web) {
    // Said at once if nobody can read them.
    drop(web.now());
    accept(bound(address, BIND_AGAIN, S::SETTINGS).await, source, web).await
}

/// A port that is taken is free one day.
async fn bound(address: SocketAddr, pause: Duration, settings: &str) -> TcpListener {
    let mut is_told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "serving metrics");
                return listener;
            }
            Err(error) if !is_told => {
                tracing::error!(%address, %error, "metrics cannot be served there; it is tried again (metrics.listen in {settings})");
                is_told = true;
            }
            Err(_) => {}
        }
        sleep(pause).await;
    }
}

/// What all connections share.
struct Served<S> {
    source: Arc<S>,
    web: Web,
    /// The last scrape.
    last: Mutex<Option<Scraped>>,
}

struct Scraped {
    at: Instant,
    /// In which format, and whether compressed.
    how: (Format, bool),
    body: Bytes,
}

/// Serves for ever whoever comes.
pub async fn accept<S: Source>(listener: TcpListener, source: Arc<S>, web: Web) {
    let served = Arc::new(Served { source, web, last: Mutex::new(None) });
    let mut open: JoinSet<IpAddr> = JoinSet::new();
    let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
    loop {
        tokio::select! {
            Some(ended) = open.join_next() => {
                // Without unwinding, which is how it ships, a panic ends the agent anyhow.
                let Ok(peer) = ended else { continue };
                if let Some(count) = counts.get_mut(&peer) {
                    *count -= 1;
                }
                counts.retain(|_, count| *count > 0);
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let peer = network(peer.ip());
                    let count = counts.entry(peer).or_default();
                    if *count >= MAX_CONNECTIONS_OF_ONE || open.len() >= MAX_CONNECTIONS {
                        counts.retain(|_, count| *count > 0);
                        continue;
                    }
                    *count += 1;
                    let served = served.clone();
                    open.spawn(async move {
                        connection(stream, served).await;
                        peer
                    });
                }
                Err(error) => {
                    // Of one connection, or there are no descriptors left: a moment later there may be.
                    tracing::debug!(%error, "a connection for metrics could not be accepted");
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// Who has one address of version 6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        },
        IpAddr::V4(_) => address,
    }
}

async fn connection<S: Source>(stream: TcpStream, served: Arc<Served<S>>) {
    // Without it a reader that has stopped reading would hold its place for as long as a connection may live.
    let taken_within = u32::try_from(TAKEN_WITHIN.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = sockopt::set_tcp_user_timeout(&stream, taken_within) {
        tracing::debug!(%error, "a reader that stops reading is not noticed");
    }
    if timeout(SPEAKS_WITHIN, stream.readable()).await.is_err() {
        return;
    }
    // Without a word to those who cannot be told apart.
    let Ok(access) = served.web.now() else { return };
    match &access.tls {
        None => requests(stream, served, access).await,
        Some(config) => match timeout(SPEAKS_WITHIN, TlsAcceptor::from(config.clone()).accept(stream)).await {
            Ok(Ok(stream)) => requests(stream, served, access).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS connection for metrics was not made"),
            Err(_) => {}
        },
    }
}

/// `made_under`: what was asked for when the connection was made.
async fn requests<S: Source>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    served: Arc<Served<S>>,
    made_under: Arc<Access>,
) {
    let service = service_fn(|request| {
        let (served, made_under) = (served.clone(), made_under.clone());
        async move { answer(request, &served, &made_under).await }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_WITHIN).max_buf_size(MAX_HEADER_BYTES);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = match timeout(CONNECTION_LIFE, serving.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            serving.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection for metrics ended");
    }
}

/// The answer, with the headers that every answer has. An error ends the connection without one.
async fn answer<S: Source>(
    request: Request<Incoming>,
    served: &Arc<Served<S>>,
    made_under: &Access,
) -> Result<Response<Full<Bytes>>, io::Error> {
    // Read anew: a connection may be older than what holds now.
    let Ok(access) = served.web.now() else {
        return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "who may read is not known just now"));
    };
    if !access.has_the_same_tls(made_under) {
        return Err(io::Error::other("it was made under another configuration"));
    }
    let mut response = if served.web.allows(&access, request.headers()).await {
        answer_to_reader(request, served).await
    } else {
        let mut response = plain(StatusCode::UNAUTHORIZED, "a user and a password are asked for");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        response
    };
    response.headers_mut().extend(access.headers.iter().cloned());
    Ok(response)
}

async fn answer_to_reader<S: Source>(request: Request<Incoming>, served: &Arc<Served<S>>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => scrape(request.headers(), served).await,
        "/" => respond(StatusCode::OK, "text/html; charset=utf-8", landing(S::PROGRAM).into()),
        other => match served.source.clone().document(other) {
            Some(document) => match document.await {
                Some(json) => respond(StatusCode::OK, "application/json", json.into()),
                None => plain(StatusCode::INTERNAL_SERVER_ERROR, "that failed; see the log"),
            },
            None => plain(StatusCode::NOT_FOUND, "metrics are at /metrics"),
        },
    }
}

async fn scrape<S: Source>(headers: &HeaderMap, served: &Arc<Served<S>>) -> Response<Full<Bytes>> {
    let format = if asks_for(headers, header::ACCEPT, "application/openmetrics-text") {
        Format::OpenMetrics
    } else {
        Format::Prometheus
    };
    let how = (format, asks_for(headers, header::ACCEPT_ENCODING, "gzip"));
    // In a task of its own: whoever goes away meanwhile does not let the next one begin beside it.
    let Ok(Some(body)) = tokio::spawn(served.clone().scraped(how)).await else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the scrape failed; see the log");
    };
    let mut response = respond(StatusCode::OK, format.content_type(), body);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if how.1 {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

impl<S: Source> Served<S> {
    /// One at a time, or the last one, if that is new enough.
    async fn scraped(self: Arc<Self>, how: (Format, bool)) -> Option<Bytes> {
        // The one before may hang: who comes meanwhile does not wait for ever.
        let mut last = timeout(SCRAPED_WITHIN, self.last.lock()).await.ok()?;
        if let Some(last) = last.as_ref().filter(|last| last.how == how && last.at.elapsed() <= SAME_WITHIN) {
            return Some(last.body.clone());
        }
        let finish = move |text: String| if how.1 { compressed(text.as_bytes()) } else { Ok(text.into_bytes()) };
        let body: Bytes = self.source.clone().scrape(how.0, finish).await?.ok()?.into();
        *last = Some(Scraped { at: Instant::now(), how, body: body.clone() });
        Some(body)
    }
}

fn landing(program: &str) -> String {
    format!("<!DOCTYPE html><title>{program}</title><h1>{program}</h1><p><a href=\"/metrics\">Metrics</a></p>\n")
}

/// Quick rather than small: it is sent to the same machine, or one nearby.
fn compressed(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 6), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

/// Whether one of the alternatives of a header is this one, and not with the weight 0.
fn asks_for(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let mut alternatives = values.flat_map(|value| value.split(','));
    alternatives.any(|alternative| {
        let mut parts = alternative.split(';').map(str::trim);
        parts.next().is_some_and(|first| first.eq_ignore_ascii_case(wanted)) && !parts.any(is_weight_zero)
    })
}

fn is_weight_zero(parameter: &str) -> bool {
    parameter.strip_prefix("q=").is_some_and(|weight| weight.trim().parse() == Ok(0.0))
}

fn plain(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", Bytes::from(format!("{words}\n")))
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
pub(crate) mod tests;
