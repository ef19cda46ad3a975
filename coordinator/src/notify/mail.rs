//! One letter to one mail server: connect, encrypt, sign in, hand it over. A recipient that the server does not know keeps no
//! letter from the others. `smtp` writes the letter, `target` has it sent.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::ClientId,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, error::Elapsed, timeout, timeout_at},
};

use super::{
    target::{SendError, Taken},
    words::{cut, plain},
};

/// Of all that a server says in one connection.
const MAX_READ_BYTES: usize = 1024 * 1024;
const MAX_SAID_CHARS: usize = 300;
/// What has been taken counts, whether or not the server says good-bye.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// How what is sent is protected.
pub(super) enum Security {
    /// Not at all.
    Plain,
    /// By STARTTLS; a server that does not offer it gets nothing.
    StartTls(TlsParameters),
    /// From the first byte.
    Tls(TlsParameters),
}

/// A letter that is ready to be sent.
pub(super) struct Letter {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    pub(super) credentials: Option<Credentials>,
    pub(super) from: Address,
    pub(super) to: Vec<Address>,
    /// Headers and body, ASCII.
    pub(super) bytes: Vec<u8>,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = String::from_utf8_lossy(&self.bytes);
        f.debug_struct("Letter").field("to", &self.to).field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl Letter {
    /// Sends it: what was answered, in one line. What says whether it was taken must be there by then.
    pub(super) async fn send(self, until: Instant) -> Result<Result<Taken, SendError>, Elapsed> {
        if self.to.is_empty() {
            // Those who had not taken it yet are not in the settings any more.
            return Ok(Ok(Taken::by_all("nobody is left to be told".to_owned())));
        }
        let handed_over = async {
            let mut connection = self.connect(until.saturating_duration_since(Instant::now())).await?;
            let taken = self.hand_over(&mut connection).await;
            Ok((connection, taken))
        };
        let (mut connection, taken) = match timeout_at(until, handed_over).await? {
            Ok(handed_over) => handed_over,
            Err(failed) => return Ok(Err(failed)),
        };
        // A failure here changes nothing any more.
        drop(timeout(QUIT_TIMEOUT, connection.quit()).await);
        Ok(taken)
    }

    async fn connect(&self, timeout: Duration) -> Result<AsyncSmtpConnection, SendError> {
        let (server, hello) = ((self.host.as_str(), self.port), hello());
        let mut connection = match &self.security {
            Security::Tls(tls) => {
                let tls = Some(tls.clone());
                AsyncSmtpConnection::connect_tokio1(server, Some(timeout), &hello, tls, None).await.map_err(failed)?
            }
            Security::Plain | Security::StartTls(_) => {
                let stream = TcpStream::connect(server).await;
                let stream = stream.map_err(|e| SendError::again(format!("cannot connect: {e}")))?;
                let stream = Bounded { stream, left: MAX_READ_BYTES, is_upgrading: false };
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await.map_err(failed)?
            }
        };
        if let Security::StartTls(tls) = &self.security {
            connection.starttls(tls.clone(), &hello).await.map_err(failed)?;
        }
        if let Some(credentials) = &self.credentials {
            // Not in the server's own words, which may have in them what it was sent.
            let refused = |error: Error| {
                let code = error.status().map(|code| format!(" ({code})")).unwrap_or_default();
                // A password that was changed there first is changed here, too, before long.
                SendError::again(format!("the server does not let this user in{code}"))
            };
            connection.auth(DEFAULT_MECHANISMS, credentials).await.map_err(refused)?;
        }
        Ok(connection)
    }

    async fn hand_over(&self, connection: &mut AsyncSmtpConnection) -> Result<Taken, SendError> {
        connection.command(Mail::new(Some(self.from.clone()), Vec::new())).await.map_err(failed)?;
        let mut refused = Vec::new();
        for to in &self.to {
            match connection.command(Rcpt::new(to.clone(), Vec::new())).await {
                Ok(_) => {}
                Err(error) if error.status().is_some() => refused.push((to, failed(error))),
                Err(error) => return Err(failed(error)),
            }
        }
        let told = told(&refused);
        if refused.len() == self.to.len() {
            let is_permanent = refused.iter().all(|(_, why)| why.is_permanent);
            let said = cut(&format!("nobody gets it; {told}"), MAX_SAID_CHARS);
            return Err(SendError { is_permanent, retry_after: None, said });
        }
        connection.command(Data).await.map_err(failed)?;
        let answer = connection.message(&self.bytes).await.map_err(failed)?;
        let words: Vec<&str> = answer.message().collect();
        let separator = if told.is_empty() { "" } else { "; " };
        let said = cut(&format!("{} {}{separator}{told}", answer.code(), plain(&words.join(" "))), MAX_SAID_CHARS);
        let (for_good, for_now): (Vec<_>, Vec<_>) = refused.into_iter().partition(|(_, why)| why.is_permanent);
        let refused = (!for_good.is_empty()).then(|| cut(&self::told(&for_good), MAX_SAID_CHARS));
        Ok(Taken { said, refused, left: for_now.iter().map(|(to, _)| to.to_string()).collect() })
    }
}

/// Who refused it, and why.
fn told(refused: &[(&Address, SendError)]) -> String {
    let told: Vec<String> = refused.iter().map(|(to, why)| format!("not for {to}: {}", why.said)).collect();
    told.join("; ")
}

/// This machine's name where it is one that the world knows, as mail servers want it.
fn hello() -> ClientId {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    if is_plain && name.contains('.') { ClientId::Domain(name) } else { ClientId::default() }
}

fn failed(error: Error) -> SendError {
    let said = cut(&plain(&error.to_string()), MAX_SAID_CHARS);
    SendError { is_permanent: error.is_permanent(), retry_after: None, said }
}

/// A stream of which so much is read and no more: a line of a server has no end before its end. And what comes behind the answer
/// to STARTTLS, before anything is encrypted, is from somebody else.
#[derive(Debug)]
struct Bounded {
    stream: TcpStream,
    /// Bytes.
    left: usize,
    /// STARTTLS is said, and not answered yet.
    is_upgrading: bool,
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        let Some(left) = self.left.checked_sub(read.len()) else {
            return Poll::Ready(Err(io::Error::other("the server says more than can be meant")));
        };
        self.left = left;
        if self.is_upgrading
            && let Some(end) = read.iter().position(|byte| *byte == b'\n')
        {
            if end + 1 != read.len() {
                return Poll::Ready(Err(io::Error::other("more than the answer to STARTTLS came unencrypted")));
            }
            self.is_upgrading = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_upgrading |= bytes == b"STARTTLS\r\n";
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Bounded {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
