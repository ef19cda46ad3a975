//! What a host answers to its spec: accepted, refused for good, or to be sent again. Part of `stream`.

use std::time::Duration;

use drover_proto::{
    name::Generation,
    wire::{SpecAck, spec_ack::Outcome},
};
use tokio::time::Instant;
use tonic::Status;
use tracing::{debug, error, warn};

use super::{
    HostEvent,
    report::{MAX_SENTENCE_CHARS, one_line},
    stream::{AGAIN_FIRST, Stream, failed},
};

/// Between two times that a spec is sent, at most.
const AGAIN_MOST: Duration = Duration::from_secs(300);

impl Stream {
    pub(super) async fn acknowledged(&mut self, ack: SpecAck) -> Result<(), Status> {
        let (host, generation) = (self.host.clone(), ack.generation);
        let message = one_line(&ack.message, MAX_SENTENCE_CHARS);
        if generation > self.sent {
            warn!(%host, generation, sent = self.sent, "an answer to a spec that was not sent is left out");
            return Ok(());
        }
        match ack.outcome() {
            Outcome::Accepted | Outcome::Duplicate => {
                debug!(%host, generation, "spec accepted");
                (self.again_at, self.again_in) = (None, AGAIN_FIRST);
                return self.all.store.set_accepted(&host, generation).await.map_err(failed);
            }
            Outcome::Stale => {
                error!(%host, generation, reason = ?message, "the host holds a newer spec: was this coordinator restored from a backup?");
            }
            Outcome::Conflict => {
                error!(%host, generation, reason = ?message, "the host holds another spec of this generation")
            }
            Outcome::Invalid => error!(%host, generation, reason = ?message, "the host refused its spec"),
            // Not by its content: it may be taken the next time, and that is no failure of a rollout before its deadline.
            Outcome::Unspecified => {
                warn!(%host, generation, reason = ?message, wait = ?self.again_in, "the host could not take its spec: it is sent again");
                self.again_at = Some(Instant::now() + self.again_in);
                self.again_in = AGAIN_MOST.min(self.again_in * 2);
                return self.all.store.set_refused(&host, generation, &message).await.map_err(failed);
            }
        }
        self.refused(generation, message).await
    }

    /// Kept for people until the host accepts a spec, and told to the rollout that wrote it.
    pub(super) async fn refused(&self, generation: Generation, message: String) -> Result<(), Status> {
        self.all.store.set_refused(&self.host, generation, &message).await.map_err(failed)?;
        self.tell(HostEvent::Refused { host: self.host.clone(), generation, message }).await;
        Ok(())
    }
}
