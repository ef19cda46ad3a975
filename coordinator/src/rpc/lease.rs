//! A call ends when its caller is revoked or removed: the call itself (`authorise` holds it), and the stream that it was
//! answered with (`operator` and `link` wrap theirs).

use std::{pin::Pin, time::Duration};

use drover_proto::code::{self, Code};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tonic::{Request, Status};

use crate::{
    caller::{Caller, Peer},
    store::{Result, Store},
};

/// Between two looks at the store, should nobody say that something was revoked.
const RECHECK: Duration = Duration::from_secs(30);

/// A stream down to somebody who may be revoked.
pub(super) type Leased<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

/// Where revocations are told; clones share it.
#[derive(Clone)]
pub struct Revocations {
    /// Says who is welcome.
    pub(super) store: Store,
    told: watch::Sender<()>,
}

impl Revocations {
    /// Nobody is revoked yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, told: watch::Sender::new(()) }
    }
    /// Has every open call look again.
    pub fn tell(&self) {
        self.told.send_replace(());
    }
    /// A lease for this caller, to be taken before it is asked whether the caller is welcome.
    pub(super) fn lease(&self, peer: &Peer) -> Lease {
        Lease { store: self.store.clone(), caller: peer.caller.clone(), told: self.told.subscribe() }
    }
}

/// Whose call it is.
#[derive(Clone)]
pub(super) struct Lease {
    store: Store,
    caller: Caller,
    told: watch::Receiver<()>,
}

impl Lease {
    /// Of who makes this call.
    pub fn of<T>(request: &Request<T>) -> std::result::Result<Self, Status> {
        let lease = request.extensions().get::<Self>().cloned();
        lease.ok_or_else(|| code::status(Code::Forbidden, "neither a host nor an operator"))
    }

    /// The stream, until it ends or the caller is revoked.
    pub fn hold<T: Send + 'static>(
        self,
        inner: impl Stream<Item = std::result::Result<T, Status>> + Send + 'static,
    ) -> Leased<T> {
        let state = Some((Box::pin(inner), Box::pin(self.revoked())));
        let held = stream::unfold(state, async |state| {
            let (mut inner, mut revoked) = state?;
            tokio::select! {
                biased;
                status = &mut revoked => Some((Err(status), None)),
                item = inner.next() => Some((item?, Some((inner, revoked)))),
            }
        });
        held.boxed()
    }

    /// Waits until the caller is welcome no more; answers what to say then.
    pub async fn revoked(mut self) -> Status {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RECHECK) => {}
                said = self.told.changed() => {
                    if said.is_err() {
                        return code::status(Code::HostOffline, "the coordinator is stopping");
                    }
                }
            }
            match self.welcome().await {
                Ok(true) => {}
                Ok(false) => return unwelcome(&self.caller),
                // The next look tells.
                Err(error) => tracing::error!(%error, "store"),
            }
        }
    }

    async fn welcome(&self) -> Result<bool> {
        match &self.caller {
            Caller::Anonymous => Ok(true),
            // Not by the certificate: that may have been renewed since.
            Caller::Host { id, .. } => self.store.is_welcome(id).await,
            Caller::Operator { name, .. } => self.store.is_operator(name).await,
        }
    }
}

/// What somebody is told who is not welcome any more.
pub(super) fn unwelcome(caller: &Caller) -> Status {
    let message = match caller {
        Caller::Host { .. } => "this host has been removed or revoked: enrol it again with a new token",
        Caller::Operator { .. } | Caller::Anonymous => "this login has been revoked: ask for a new one",
    };
    code::status(Code::Revoked, message)
}
