//! What the agent tells without being asked. Whoever does something by itself calls `Events::emit`; `link` sends the
//! events up in their order.
//!
//! Read `repeats` (what is said over and over), `segment` and `spool` (events on the disk), `outbox` (the task between
//! them and `link`). Here: the end that everybody has, which never waits.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use drover_proto::{
    event::{Event, EventKind},
    limits::MAX_EVENT_MESSAGE_BYTES,
    name::AppName,
};
use tokio::sync::{mpsc, watch};

pub use outbox::Outbox;
pub use spool::Batch;

use self::{outbox::Writer, segment::Dropped, spool::Spool};
use crate::report::now_unix_ms;

mod outbox;
mod repeats;
mod segment;
mod spool;

/// Events on their way to the spool; more are counted and told as dropped.
const QUEUE: usize = 1024;
/// Within the agent's state directory.
const DIRECTORY: &str = "events";
/// A disk that takes longer holds nobody up.
const KEPT_WITHIN: Duration = Duration::from_secs(2);

/// What the coordinator does not have yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unsent {
    /// Events to be sent.
    pub events: u64,
    /// When the oldest of them happened, Unix ms; `None`: there are none.
    pub since_unix_ms: Option<i64>,
    /// There was no room for these, which is not told yet.
    pub dropped: u64,
}

/// How many events of a kind there were since the agent started, of an app or of the host.
pub type Counts = BTreeMap<(Option<AppName>, EventKind), u64>;

/// Takes events from every part of the agent. Cheap to clone; never waits. The default only logs.
#[derive(Clone, Default)]
pub struct Events(Option<Queue>);

#[derive(Clone)]
struct Queue {
    events: mpsc::Sender<Event>,
    missed: Arc<Mutex<Dropped>>,
    counts: Arc<Mutex<Counts>>,
    /// Events that were put into the queue.
    emitted: Arc<AtomicU64>,
    /// How many of them no crash takes along any more: on the disk for good, or with the coordinator.
    kept: watch::Receiver<u64>,
}

impl Events {
    /// Something happened. `message`: one plain sentence, without secrets; `app`: none = of the host.
    pub fn emit(&self, app: Option<&AppName>, kind: EventKind, message: impl Into<String>) {
        let event = Event { at_unix_ms: now_unix_ms(), app: app.cloned(), kind, message: one_line(message.into()) };
        let app = event.app.as_ref().map(AppName::as_str);
        tracing::info!(app, kind = %event.kind, "{}", event.message);
        let Some(queue) = &self.0 else { return };
        let counted = (event.app.clone(), event.kind.clone());
        *queue.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(counted).or_default() += 1;
        queue.emitted.fetch_add(1, Ordering::SeqCst);
        let Err(refused) = queue.events.try_send(event) else { return };
        queue.emitted.fetch_sub(1, Ordering::SeqCst);
        // Otherwise the agent is stopping.
        if let mpsc::error::TrySendError::Full(event) = refused {
            let mut missed = queue.missed.lock().unwrap_or_else(PoisonError::into_inner);
            *missed = missed.and(Dropped::one(event.at_unix_ms));
        }
    }

    /// What was emitted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Some(queue) = &self.0 else { return Counts::new() };
        queue.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until no crash can take along what was emitted before; `false`: it takes too long, or the agent is stopping.
    pub async fn kept(&self) -> bool {
        let Some(queue) = &self.0 else { return true };
        if queue.events.is_closed() {
            return false;
        }
        let (emitted, mut kept) = (queue.emitted.load(Ordering::SeqCst), queue.kept.clone());
        let all = kept.wait_for(|kept| *kept >= emitted);
        tokio::time::timeout(KEPT_WITHIN, all).await.is_ok_and(|kept| kept.is_ok())
    }
}

/// The ends of the spool below `state_dir`, and its task, which runs until the agent stops.
pub fn open(state_dir: &Path, max_bytes: u64) -> (Events, Outbox, impl Future<Output = ()> + Send + 'static) {
    let directory = state_dir.join(DIRECTORY);
    let spool = Spool::open(&directory, max_bytes, run_id());
    let (sender, events) = mpsc::channel(QUEUE);
    let missed = Arc::<Mutex<Dropped>>::default();
    let (outbox, kept, writer) = Writer::new(directory, spool, events, missed.clone());
    let queue = Queue { events: sender, missed, counts: Arc::default(), emitted: Arc::default(), kept };
    (Events(Some(queue)), outbox, writer.run())
}

/// Random, for this run of the agent.
fn run_id() -> String {
    match fs::read_to_string("/proc/sys/kernel/random/uuid") {
        Ok(id) => id.trim().to_owned(),
        // Without /proc; as good as random for one host.
        Err(_) => format!("{}-{}", now_unix_ms(), std::process::id()),
    }
}

/// Within its limit, and without line breaks.
fn one_line(mut text: String) -> String {
    if text.len() > MAX_EVENT_MESSAGE_BYTES {
        let end = (0..=MAX_EVENT_MESSAGE_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    if text.contains(|c: char| c.is_control()) {
        text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    }
    text
}

#[cfg(test)]
mod tests {
    //! What is emitted fits.
    use super::*;

    #[test]
    fn a_message_is_one_line_within_its_limit() {
        assert_eq!(one_line("a\nb\x1bc".to_owned()), "a b c");
        let long = one_line("\u{20ac}".repeat(1000));
        assert!(long.len() <= MAX_EVENT_MESSAGE_BYTES && long.len() > MAX_EVENT_MESSAGE_BYTES - 3);
        assert_ne!(run_id(), run_id());
    }
}
