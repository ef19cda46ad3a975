//! What a stream down to an operator needs beside its start: it ends when the operator is revoked. `operator` wraps its
//! streams in it.

use std::{pin::Pin, time::Duration};

use drover_proto::{
    code::{self, Code},
    name::OperatorName,
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tonic::{Request, Status};

use super::{Services, authorise};
use crate::caller::{Caller, Peer};

/// Between two looks at the store, should nobody say that something was revoked.
const RECHECK: Duration = Duration::from_secs(30);

/// A stream down to an operator.
pub(super) type Leased<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Whose stream it is.
pub(super) struct Lease {
    services: Services,
    operator: OperatorName,
    serial: String,
    revocations: watch::Receiver<()>,
}

impl Lease {
    /// Of the operator who makes this call.
    pub fn of<T>(services: &Services, request: &Request<T>) -> Result<Self, Status> {
        let operator = authorise::operator(request)?;
        // From here on, so that none is missed between the call's own check and the stream's first one.
        let revocations = services.revocations.subscribe();
        match request.extensions().get::<Peer>().map(|peer| &peer.caller) {
            Some(Caller::Operator { serial, .. }) => {
                Ok(Self { services: services.clone(), operator, serial: serial.clone(), revocations })
            }
            Some(Caller::Anonymous | Caller::Host { .. }) | None => {
                Err(code::status(Code::Forbidden, "not an operator"))
            }
        }
    }

    /// The stream, until it ends or the operator is revoked.
    pub fn hold<T: Send + 'static>(self, inner: impl Stream<Item = Result<T, Status>> + Send + 'static) -> Leased<T> {
        let state = Some((Box::pin(inner), Box::pin(self.revoked())));
        let held = stream::unfold(state, async |state| {
            let (mut inner, mut revoked) = state?;
            tokio::select! {
                biased;
                () = &mut revoked => {
                    Some((Err(code::status(Code::Revoked, "this login has been revoked: ask for a new one")), None))
                }
                item = inner.next() => Some((item?, Some((inner, revoked)))),
            }
        });
        held.boxed()
    }

    async fn revoked(mut self) {
        loop {
            match self.services.store.live_operator(&self.operator, &self.serial).await {
                Ok(true) => {}
                Ok(false) => return,
                // The next look tells.
                Err(error) => tracing::error!(%error, "store"),
            }
            tokio::select! {
                () = tokio::time::sleep(RECHECK) => {}
                said = self.revocations.changed() => {
                    // Err: the services have ended, and the stream with them.
                    if said.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
