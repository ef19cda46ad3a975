//! The one task that owns the spool: takes events from `Events`, writes them, and hands them to `link` batch by batch.
//!
//! An event is written at once and synced a moment later, unless the coordinator has it by then: a connected host syncs
//! nothing. While the disk cannot be written, it is tried again and again, and nobody waits for it.

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drover_proto::{event::Event, name::HostId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Unsent,
    repeats::Repeats,
    segment::Dropped,
    spool::{Batch, Spool},
};
use crate::host::files;

/// Between an event and its sync.
const SYNC_AFTER: Duration = Duration::from_millis(200);
/// Before the disk is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(2);
/// For the last write of a stopping agent.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Events taken from the queue at once.
const TAKEN_AT_ONCE: usize = 256;
const ORDERS: usize = 8;
/// For which host the spool is.
const OWNER: &str = "owner";

/// The sending end of the spool. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    orders: mpsc::Sender<Order>,
    /// Changes when there may be something to send.
    more: watch::Receiver<()>,
    unsent: watch::Receiver<Unsent>,
}

enum Order {
    Bind(HostId),
    Next(oneshot::Sender<Option<Batch>>),
    Acked { spool: String, up_to_seq: u64 },
    Close(oneshot::Sender<()>),
}

impl Outbox {
    /// What is sent from now on goes to the coordinator that knows this host by that id. What was spooled for another is
    /// forgotten: it is not this one's to know.
    pub async fn bind(&self, host: HostId) {
        self.order(Order::Bind(host)).await;
    }
    /// The oldest events that are not acknowledged, as soon as there are any. May be dropped and asked again.
    pub async fn next(&self) -> Batch {
        let mut more = self.more.clone();
        loop {
            more.mark_unchanged();
            let (answer, batch) = oneshot::channel();
            self.order(Order::Next(answer)).await;
            if let Ok(Some(batch)) = batch.await {
                return batch;
            }
            if more.changed().await.is_err() {
                // The agent is stopping.
                return std::future::pending().await;
            }
        }
    }
    /// The coordinator has them for good.
    pub async fn acked(&self, spool: String, up_to_seq: u64) {
        self.order(Order::Acked { spool, up_to_seq }).await;
    }
    /// How much it does not have.
    #[must_use]
    pub fn unsent(&self) -> Unsent {
        *self.unsent.borrow()
    }
    /// Puts everything on the disk, before the end.
    pub async fn close(&self) {
        let (answer, done) = oneshot::channel();
        self.order(Order::Close(answer)).await;
        if tokio::time::timeout(CLOSE_LIMIT, done).await.is_err() {
            tracing::warn!("the newest events could not be written in time");
        }
    }
    async fn order(&self, order: Order) {
        if self.orders.send(order).await.is_err() {
            tracing::debug!("the agent is stopping: the spool is closed");
        }
    }
}

/// The task's own data.
pub(super) struct Writer {
    directory: PathBuf,
    owner: Option<HostId>,
    events: mpsc::Receiver<Event>,
    /// What did not fit into the queue.
    missed: Arc<Mutex<Dropped>>,
    orders: mpsc::Receiver<Order>,
    more: watch::Sender<()>,
    unsent: watch::Sender<Unsent>,
    spool: Spool,
    repeats: Repeats,
    began: Instant,
    sync_at: Option<Instant>,
    syncing: Option<JoinHandle<io::Result<()>>>,
    write_at: Option<Instant>,
    /// Events that came out of the queue.
    taken: u64,
    /// Those of them that the sync under way makes durable; none that only wait in memory for a disk that takes nothing.
    syncing_up_to: u64,
    /// Those that no crash takes along any more.
    kept: watch::Sender<u64>,
}

impl Writer {
    pub(super) fn new(
        directory: PathBuf,
        spool: Spool,
        events: mpsc::Receiver<Event>,
        missed: Arc<Mutex<Dropped>>,
    ) -> (Outbox, watch::Receiver<u64>, Self) {
        let (sender, orders) = mpsc::channel(ORDERS);
        let (more, receiver) = watch::channel(());
        // Not there before the first enrolment; one that cannot be read is as good as none.
        let owner = std::fs::read_to_string(directory.join(OWNER)).ok().and_then(|text| text.trim().parse().ok());
        let mut spool = spool;
        if owner.is_none() {
            // Whose they are that an earlier run has left, nobody can say: they are not sent to just anyone.
            spool.forget_all();
        }
        let writer = Self {
            directory,
            owner,
            events,
            missed,
            orders,
            more,
            unsent: watch::Sender::new(spool.unsent()),
            spool,
            repeats: Repeats::default(),
            began: Instant::now(),
            sync_at: None,
            syncing: None,
            write_at: None,
            taken: 0,
            syncing_up_to: 0,
            kept: watch::Sender::new(0),
        };
        let outbox = Outbox { orders: sender, more: receiver, unsent: writer.unsent.subscribe() };
        (outbox, writer.kept.subscribe(), writer)
    }

    /// Until the agent stops.
    pub(super) async fn run(mut self) {
        let mut taken = Vec::new();
        // What was found damaged is told like anything else.
        self.write();
        loop {
            self.unsent.send_replace(self.spool.unsent());
            let repeats_at = self.repeats.next_ms().map(|ms| self.began + Duration::from_millis(ms));
            let sync_at = self.sync_at.filter(|_| self.syncing.is_none());
            let wake = [repeats_at, sync_at, self.write_at].into_iter().flatten().min();
            tokio::select! {
                // Whose events these are is said before the first of them.
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return self.finish().await,
                },
                result = ended(&mut self.syncing), if self.syncing.is_some() => self.synced(result),
                () = due(wake) => self.tick(),
                count = self.events.recv_many(&mut taken, TAKEN_AT_ONCE) => {
                    if count == 0 {
                        return self.finish().await;
                    }
                    self.take(taken.drain(..));
                }
            }
        }
    }

    fn take(&mut self, events: impl Iterator<Item = Event>) {
        let now_ms = self.now_ms();
        for event in events {
            self.taken += 1;
            if let Some(event) = self.repeats.take(event, now_ms) {
                self.spool.push(event);
            }
        }
        self.flush_repeats(now_ms);
        self.write();
    }

    fn flush_repeats(&mut self, now_ms: u64) {
        for event in self.repeats.due(now_ms) {
            self.spool.push(event);
        }
    }

    fn write(&mut self) {
        let missed = std::mem::take(&mut *self.missed.lock().unwrap_or_else(PoisonError::into_inner));
        self.spool.lost(missed);
        let before = self.write_at.take();
        match self.spool.write() {
            Ok(()) if before.is_some() => tracing::info!("events can be written to the disk again"),
            Ok(()) => {}
            Err(error) => {
                if before.is_none() {
                    tracing::error!(%error, "events cannot be written to the disk; the newest are kept in memory");
                }
                self.write_at = Some(Instant::now() + WRITE_AGAIN);
            }
        }
        self.sync_at = self.sync_at.or(Some(Instant::now() + SYNC_AFTER));
        self.more.send_replace(());
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Bind(host) => self.bind(host),
            // Nobody waits for the answer any more: it is asked again.
            Order::Next(answer) => drop(answer.send(self.spool.batch())),
            Order::Acked { spool, up_to_seq } => self.spool.ack(&spool, up_to_seq),
            Order::Close(answer) => {
                self.events.close();
                let mut rest = Vec::new();
                while self.events.recv_many(&mut rest, TAKEN_AT_ONCE).await > 0 {}
                self.take(rest.into_iter());
                self.finish_writing().await;
                if answer.send(()).is_err() {
                    tracing::debug!("the agent has waited for long enough");
                }
            }
        }
    }

    fn bind(&mut self, host: HostId) {
        if self.owner.as_ref() == Some(&host) {
            return;
        }
        if let Some(before) = &self.owner {
            tracing::info!(%before, %host, "this host has another identity: events that were spooled for the one before are forgotten");
            self.spool.forget_all();
        }
        if let Err(error) = files::write_private(&self.directory.join(OWNER), host.as_str().as_bytes()) {
            tracing::warn!(%error, "cannot note whose events these are");
        }
        self.owner = Some(host);
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.write_at.is_some_and(|at| at <= now) || self.repeats.next_ms().is_some_and(|ms| ms <= self.now_ms()) {
            self.flush_repeats(self.now_ms());
            self.write();
        }
        if self.syncing.is_none() && self.sync_at.is_some_and(|at| at <= now) {
            self.sync();
        }
    }

    /// Begins a sync; a disk that hangs holds nobody up.
    fn sync(&mut self) {
        self.sync_at = None;
        if self.write_at.is_none() {
            self.syncing_up_to = self.taken;
        }
        let Some((files, directory)) = self.spool.unsynced() else { return self.keep() };
        self.syncing = Some(tokio::task::spawn_blocking(move || {
            files.iter().try_for_each(File::sync_data)?;
            File::open(&directory)?.sync_all()
        }));
    }

    fn synced(&mut self, result: io::Result<()>) {
        self.syncing = None;
        match result {
            Ok(()) => self.keep(),
            Err(error) => {
                tracing::warn!(%error, "events cannot be synced to the disk");
                self.spool.still_unsynced();
                self.sync_at = Some(Instant::now() + WRITE_AGAIN);
            }
        }
    }

    /// A sync has ended well.
    fn keep(&self) {
        self.kept.send_if_modified(|kept| std::mem::replace(kept, self.syncing_up_to) != self.syncing_up_to);
    }

    async fn finish_writing(&mut self) {
        for event in self.repeats.all() {
            self.spool.push(event);
        }
        self.write();
        let result = ended(&mut self.syncing).await;
        self.synced(result);
        self.sync();
        let result = ended(&mut self.syncing).await;
        self.synced(result);
    }

    async fn finish(mut self) {
        self.finish_writing().await;
        // The agent ends with its last task; this one waits for that.
        std::future::pending().await
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// How a sync ended; at once, if there is none.
async fn ended(syncing: &mut Option<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    match syncing {
        Some(task) => task.await.map_err(io::Error::other)?,
        None => Ok(()),
    }
}

/// At that time; never, if there is none.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
