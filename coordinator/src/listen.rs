//! Accepts connections: TCP, then TLS 1.3 with our CA, many handshakes at once and each with a time limit, so that a
//! silent peer holds up nobody. Who may stay is `places`' to say. Each connection carries its `Peer` into `rpc`.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use drover_proto::{limits::HANDSHAKE_TIMEOUT_MS, tls};
use rustls::{CertificateError, Error as RustlsError, ServerConfig, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::{
    ca::{Ca, CaError},
    caller::{Caller, Peer},
};

mod places;

use places::{Limits, Place, Places};

/// What is read of one connection before it is another's turn: HTTP/2 goes on for as long as there is something, and a peer
/// that sends tiny frames without end would keep the others waiting.
const READ_IN_A_ROW_BYTES: usize = 16 << 10;
/// For the answer to who comes with a certificate that is good no more.
const REFUSED_LIFE: Duration = Duration::from_secs(1);
/// Before accepting again when the system refused (mostly: no file descriptor left).
const ACCEPT_RETRY_MS: u64 = 200;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /** From the settings. */
        address: SocketAddr,
        /** Why. */
        #[source]
        source: io::Error,
    },
    /// The CA does not make a usable TLS configuration.
    #[error("the CA cannot be used for TLS")]
    Tls(#[source] RustlsError),
    /// The coordinator's own certificate could not be made.
    #[error("the coordinator's own certificate could not be made")]
    Identity(#[from] CaError),
}

/// The server's side of the TLS profile: TLS 1.3, h2, a client certificate of this CA or none at all.
pub fn server_config(ca: &Ca) -> Result<ServerConfig, ListenError> {
    let provider = tls::provider();
    let roots = tls::roots(ca.trusted().into_iter().map(Into::into))
        .map_err(|e| ListenError::Tls(RustlsError::General(e.to_string())))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| ListenError::Tls(RustlsError::General(e.to_string())))?;
    let (chain, key) = ca.server_identity()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(ListenError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(ListenError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would carry an old certificate's name past its end.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Listens on `address` and answers the bound address (port 0 gets one) and the connections, until `stop`.
pub async fn bind(
    address: SocketAddr,
    config: ServerConfig,
    stop: CancellationToken,
) -> Result<(SocketAddr, ReceiverStream<Result<Connection, io::Error>>), ListenError> {
    bind_with(address, config, stop, Limits::default()).await
}

async fn bind_with(
    address: SocketAddr,
    config: ServerConfig,
    stop: CancellationToken,
    limits: Limits,
) -> Result<(SocketAddr, ReceiverStream<Result<Connection, io::Error>>), ListenError> {
    let failed = |source| ListenError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let (ready, connections) = mpsc::channel(16);
    tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), ready, stop, Places::new(limits)));
    Ok((bound, ReceiverStream::new(connections)))
}

type Ready = mpsc::Sender<Result<Connection, io::Error>>;

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, ready: Ready, stop: CancellationToken, places: Places) {
    let next = async || {
        let handshake = places.handshake().await?;
        Some((listener.accept().await, handshake))
    };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = next() => accepted,
        };
        let Some((accepted, handshake)) = accepted else { return };
        let (tcp, address) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                continue;
            }
        };
        let Some(of_address) = places.handshake_with(address.ip()) else {
            tracing::debug!(%address, "connection refused: too many handshakes with this address");
            continue;
        };
        let (acceptor, ready, places) = (acceptor.clone(), ready.clone(), places.clone());
        tokio::spawn(async move {
            let done = shake_hands(acceptor, tcp, address, &places).await;
            drop((handshake, of_address));
            if let Some(connection) = done {
                // Err: the server has ended, and this connection with it.
                drop(ready.send(Ok(connection)).await);
            }
        });
    }
}

/// One handshake; a failure is logged here, because nobody else could do anything about it.
async fn shake_hands(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    address: SocketAddr,
    places: &Places,
) -> Option<Connection> {
    if let Err(e) = tcp.set_nodelay(true) {
        tracing::debug!(%address, error = %e, "connection lost before its handshake");
        return None;
    }
    let limit = Duration::from_millis(HANDSHAKE_TIMEOUT_MS);
    let stream = match tokio::time::timeout(limit, acceptor.accept(tcp)).await {
        Err(_) => {
            tracing::debug!(%address, "no TLS handshake in time");
            return None;
        }
        Ok(Err(e)) => {
            log_refusal(address, &e);
            return None;
        }
        Ok(Ok(stream)) => stream,
    };
    let caller = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        None => Caller::Anonymous,
        Some(certificate) => match Caller::from_certificate(certificate) {
            Ok(caller) => caller,
            Err(e) => {
                tracing::warn!(%address, error = %e, "connection refused");
                return None;
            }
        },
    };
    let place = match places.take(&caller, address.ip()) {
        Ok(place) => place,
        Err(e) if caller == Caller::Anonymous => {
            tracing::debug!(%address, error = %e, "connection refused");
            return None;
        }
        Err(e) => {
            tracing::warn!(%address, ?caller, error = %e, "connection refused");
            return None;
        }
    };
    tracing::debug!(%address, ?caller, "connected");
    let life = (caller == Caller::Anonymous).then_some(places.limits.anonymous_life);
    let peer = Peer { caller, address, line: CancellationToken::new(), refused: CancellationToken::new() };
    Some(Connection { stream, end: Box::pin(end(peer.clone(), life)), peer, is_cut: false, in_a_row: 0, _place: place })
}

/// Comes when a connection is to be cut, and says why.
async fn end(peer: Peer, life: Option<Duration>) -> io::Error {
    let too_long = async {
        match life {
            Some(life) => tokio::time::sleep(life).await,
            None => std::future::pending().await,
        }
    };
    let refused = async {
        peer.refused.cancelled().await;
        tokio::time::sleep(REFUSED_LIFE).await;
    };
    let why = tokio::select! {
        () = refused => "the certificate is good no more",
        () = too_long => "without a certificate for too long",
        () = peer.line.cancelled() => "the peer does not read",
    };
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// An expired certificate needs somebody to act, so it is a warning; the rest of the world's noise is not.
fn log_refusal(address: SocketAddr, error: &io::Error) {
    let reason = error.get_ref().and_then(|e| e.downcast_ref::<RustlsError>());
    match reason {
        Some(RustlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            tracing::warn!(%address, "connection refused: the certificate has expired; enrol the host (or log in) again")
        }
        Some(RustlsError::InvalidCertificate(reason)) => {
            tracing::debug!(%address, ?reason, "connection refused: the certificate is not one of this coordinator's CA");
        }
        Some(_) | None => tracing::debug!(%address, error = %error, "TLS handshake failed"),
    }
}

/// An accepted connection: knows who is at its other end.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Then it is cut.
    end: Pin<Box<dyn Future<Output = io::Error> + Send>>,
    is_cut: bool,
    /// Bytes that were read since it last had to wait.
    in_a_row: usize,
    _place: Place,
}

impl Connection {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
    /// Fails once the connection is to be cut; until then the task is woken when it is.
    fn check_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.is_cut {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match self.end.as_mut().poll(cx) {
            Poll::Ready(error) => {
                self.is_cut = true;
                Err(error)
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_end(cx)?;
        if self.in_a_row >= READ_IN_A_ROW_BYTES {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.in_a_row = if polled.is_pending() { 0 } else { self.in_a_row + read };
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_end(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_end(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_end(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
