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
use http_body::Frame;
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

/// What is given out at once of an answer.
const PIECE_BYTES: usize = 16 << 10;

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
    Certificate(String),
    Host(HostId),
    Operator(OperatorName),
    Address(IpAddr),
}

/// All calls under way; clones share them.
#[derive(Clone)]
pub struct Calls {
    limits: Limits,
    /// Of a certificate, or an address without one.
    counts: Counts<Key>,
    /// Of those let in: of their owner.
    owners: Counts<Key>,
    /// Says how quickly a host may go on.
    sessions: Sessions,
}

/// A call's place among its caller's.
pub(super) struct Place {
    _counted: Counted<Key>,
    owner: Option<Counted<Key>>,
}

impl Calls {
    pub(super) fn new(sessions: Sessions, limits: Limits) -> Self {
        Self { limits, counts: Counts::default(), owners: Counts::default(), sessions }
    }

    /// A place for one more call with this certificate. Whether that is still good is not known yet: it takes nothing from
    /// its owner.
    pub(super) fn begin(&self, peer: &Peer) -> Result<Place, Status> {
        let key = match &peer.caller {
            Caller::Host { serial, .. } | Caller::Operator { serial, .. } => Key::Certificate(serial.clone()),
            Caller::Anonymous => Key::Address(peer.address.ip()),
        };
        Ok(Place { _counted: self.take(&self.counts, key, peer)?, owner: None })
    }

    /// Counts the call among its owner's: the certificate is good.
    pub(super) fn admit(&self, place: &mut Place, peer: &Peer) -> Result<(), Status> {
        let key = match &peer.caller {
            Caller::Host { id, .. } => Key::Host(id.clone()),
            Caller::Operator { name, .. } => Key::Operator(name.clone()),
            Caller::Anonymous => return Ok(()),
        };
        place.owner = Some(self.take(&self.owners, key, peer)?);
        Ok(())
    }

    fn take(&self, counts: &Counts<Key>, key: Key, peer: &Peer) -> Result<Counted<Key>, Status> {
        let most = match &peer.caller {
            Caller::Host { .. } => self.limits.per_host,
            Caller::Operator { .. } => self.limits.per_operator,
            Caller::Anonymous => self.limits.per_address,
        };
        let full = || code::status(Code::Limit, format!("{most} calls of yours are under way: let some of them end"));
        counts.take(key, most).ok_or_else(full)
    }

    /// Has a certificate of a host wait with which calls are made without end, as long as it can be waited for: every call
    /// costs the store something.
    pub(super) async fn paced(&self, peer: &Peer) -> Result<(), Status> {
        let Caller::Host { serial, .. } = &peer.caller else { return Ok(()) };
        self.sessions.paced(serial).await
    }

    /// Has the host itself wait, whichever certificate it comes with.
    pub(super) async fn paced_owner(&self, peer: &Peer) -> Result<(), Status> {
        let Caller::Host { id, .. } = &peer.caller else { return Ok(()) };
        self.sessions.paced(id.as_str()).await
    }

    /// The answer, which keeps the place while it lasts. Who does not read it is cut off, with all that the connection has
    /// open: there is no other way to be rid of what is on its way.
    pub(super) fn hold(&self, answer: http::Response<Body>, place: Place, peer: &Peer) -> http::Response<Body> {
        let unread = Unread::default();
        let ended = CancellationToken::new();
        let watch = cut_off(unread.clone(), self.limits.patience, peer.clone());
        tokio::spawn(ended.clone().run_until_cancelled_owned(watch));
        answer.map(|inner| {
            Body::new(Held { inner, rest: Bytes::new(), unread, _place: place, _ended: ended.drop_guard() })
        })
    }
    /// How many calls are under way.
    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        self.counts.total()
    }
}

/// Since when there is something that the caller has not asked for: set at the beginning and with each piece of the answer,
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

/// An answer under way, in pieces. HTTP/2 takes a whole piece as soon as the caller has asked for one byte, so a piece is
/// small; and the last byte goes for itself: when that is taken, all before it is on its way, and no sooner is the answer at
/// its end.
struct Held {
    inner: Body,
    /// Of the part that is being given out.
    rest: Bytes,
    unread: Unread,
    _place: Place,
    _ended: DropGuard,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    // Only called when the caller has made room for what was given out before.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            let polled = Pin::new(&mut self.inner).poll_frame(cx);
            self.unread.set(polled.is_ready().then(Instant::now));
            match polled.map_ok(Frame::into_data) {
                Poll::Ready(Some(Ok(Ok(data)))) => self.rest = data,
                Poll::Ready(Some(Ok(Err(other)))) => return Poll::Ready(Some(Ok(other))),
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(Err(status))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        } else {
            self.unread.set(Some(Instant::now()));
        }
        let length = match self.rest.len() {
            length @ 0..=1 => length,
            length => PIECE_BYTES.min(length - 1),
        };
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }
    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    //! In what pieces an answer goes.
    use http_body::Body as _;

    use super::*;

    #[tokio::test]
    async fn an_answer_goes_in_small_pieces_and_its_last_byte_for_itself() {
        let content: String = (0..20_000).map(|n| format!("{n:05}")).collect();
        let calls = Calls::new(Sessions::new(0), Limits::default());
        let peer = Peer {
            caller: Caller::Anonymous,
            address: "127.0.0.1:1".parse().unwrap(),
            line: CancellationToken::new(),
            refused: CancellationToken::new(),
        };
        let place = calls.begin(&peer).unwrap();
        let whole = Body::new(content.clone());
        let mut held = calls.hold(http::Response::new(whole), place, &peer).into_body();
        let mut pieces = Vec::new();
        while !held.is_end_stream() {
            let piece = std::future::poll_fn(|cx| Pin::new(&mut held).poll_frame(cx)).await.unwrap().unwrap();
            pieces.push(piece.into_data().unwrap());
        }
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(pieces.last().unwrap().len(), 1);
        assert_eq!(pieces.concat(), content.as_bytes());
    }
}
