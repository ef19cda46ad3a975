//! How much one caller may have open: calls at one time, and answers that it does not read. `authorise` takes a place before
//! anything is looked up for a call; the place is free when the answer has been read to its end, or is given up.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use drover_proto::{
    code::{self, Code},
    name::{HostId, OperatorName},
};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, http},
};

use crate::{
    caller::{Caller, Peer},
    counts::{Counted, Counts},
    session::Sessions,
};

/// How many of what at one time, and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Calls of one host, its stream and its downloads among them; the next one is refused.
    pub per_host: usize,
    /// Calls of one operator, from wherever they are logged in.
    pub per_operator: usize,
    /// Calls from one address without a certificate.
    pub per_address: usize,
    /// For a caller to read what is there of an answer; then its connection is cut.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_host: 32, per_operator: 64, per_address: 32, patience: Duration::from_secs(60) }
    }
}

/// Whose calls are counted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    Host(HostId),
    Operator(OperatorName),
    Address(IpAddr),
}

/// All calls under way; clones share them.
#[derive(Clone)]
pub struct Calls {
    limits: Limits,
    counts: Counts<Key>,
    /// Says how quickly a host may go on.
    sessions: Sessions,
}

/// A call's place among its caller's.
pub(super) type Place = Counted<Key>;

impl Calls {
    pub(super) fn new(sessions: Sessions, limits: Limits) -> Self {
        Self { limits, counts: Counts::default(), sessions }
    }

    /// A place for one more call of this caller.
    pub(super) fn begin(&self, peer: &Peer) -> Result<Place, Status> {
        let limits = &self.limits;
        let (key, most) = match &peer.caller {
            Caller::Host { id, .. } => (Key::Host(id.clone()), limits.per_host),
            Caller::Operator { name, .. } => (Key::Operator(name.clone()), limits.per_operator),
            Caller::Anonymous => (Key::Address(peer.address.ip()), limits.per_address),
        };
        let full = || code::status(Code::Limit, format!("{most} calls of yours are under way: let some of them end"));
        self.counts.take(key, most).ok_or_else(full)
    }

    /// Has a host wait that calls without end, as long as it can be waited for: every call costs the store something.
    pub(super) async fn paced(&self, peer: &Peer) -> Result<(), Status> {
        let Caller::Host { id, .. } = &peer.caller else { return Ok(()) };
        self.sessions.paced(id).await
    }

    /// The answer, which keeps the place while it lasts. Who does not read it is cut off, with all that the connection has
    /// open: there is no other way to be rid of what is on its way.
    pub(super) fn hold(&self, answer: http::Response<Body>, place: Place, peer: &Peer) -> http::Response<Body> {
        let unread = Unread::default();
        let ended = CancellationToken::new();
        let watch = cut_off(unread.clone(), self.limits.patience, peer.clone());
        tokio::spawn(ended.clone().run_until_cancelled_owned(watch));
        answer.map(|inner| Body::new(Held { inner, unread, _place: place, _ended: ended.drop_guard() }))
    }
    /// How many calls are under way.
    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        self.counts.total()
    }
}

/// Since when there is something that the caller has not asked for: set at the beginning and with each part of the answer,
/// and not while the answer itself has nothing to say.
#[derive(Clone)]
struct Unread(Arc<Mutex<Option<Instant>>>);

impl Default for Unread {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(Instant::now()))))
    }
}

impl Unread {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts the connection when something has not been read for too long.
async fn cut_off(unread: Unread, patience: Duration, peer: Peer) {
    loop {
        match unread.since() {
            Some(since) if since.elapsed() >= patience => break,
            Some(since) => tokio::time::sleep_until(since + patience).await,
            None => tokio::time::sleep(patience).await,
        }
    }
    tracing::info!(address = %peer.address, caller = ?peer.caller, "cut off: it does not read what it has asked for");
    peer.line.cancel();
}

/// An answer under way.
struct Held {
    inner: Body,
    unread: Unread,
    _place: Place,
    _ended: DropGuard,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    // Only called when the caller has made room for more.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.unread.set(polled.is_ready().then(Instant::now));
        polled
    }
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
