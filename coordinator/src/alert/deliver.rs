//! Sends what is stored for each receiver, in order, until it is taken. One task per receiver: one that hangs holds up no other. Part
//! of `engine`; `notify` knows how each is spoken to.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use drover_proto::name::NotifierName;
use tokio::{sync::Notify, task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use crate::{
    clock::Clock,
    notify::{
        Notification,
        target::{Notifier, NotifierConfig, SendError, Taken},
    },
    store::{Again, Attempt, Result, Store, StoreError, StoredNotification},
};

/// Before something is tried again: first, and at most.
const AGAIN_MS: (i64, i64) = (1_000, 300_000);
/// What has not been taken then is given up: with the pauses in between that is a day, whatever the clock says meanwhile.
const MAX_ATTEMPTS: u64 = 296;
/// What some of a receiver's people have not taken; of more than that they are not told.
const MAX_RESTS: u64 = 100;
const MINUTE: Duration = Duration::from_secs(60);
/// When the store fails.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// How long a stop waits for what is being sent just then: for more than a notifier takes unless its settings say otherwise, and
/// less than systemd waits.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// The receivers' tasks.
pub(super) struct Deliveries {
    store: Store,
    clock: Clock,
    stop: CancellationToken,
    running: Mutex<BTreeMap<NotifierName, Running>>,
    tasks: TaskTracker,
    per_minute: Arc<AtomicU32>,
}

struct Running {
    config: NotifierConfig,
    wake: Arc<Notify>,
    /// It begins nothing more.
    quit: CancellationToken,
    task: JoinHandle<()>,
}

impl Deliveries {
    pub(super) fn new(store: Store, clock: Clock, stop: CancellationToken) -> Self {
        Self { store, clock, stop, running: Mutex::default(), tasks: TaskTracker::new(), per_minute: Arc::default() }
    }

    /// These are the receivers from now on; those that are as before go on undisturbed. Of one that is another, what is being sent
    /// ends first: it would be sent twice. Each is sent `per_minute` notifications at most.
    pub(super) fn follow(&self, notifiers: &BTreeMap<NotifierName, NotifierConfig>, per_minute: u32) {
        self.per_minute.store(per_minute, Ordering::Relaxed);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, other) in running.iter().filter(|(name, one)| notifiers.get(*name) != Some(&one.config)) {
            other.quit.cancel();
        }
        for (name, config) in notifiers {
            let former = match running.remove(name) {
                Some(same) if !same.quit.is_cancelled() => {
                    running.insert(name.clone(), same);
                    continue;
                }
                former => former.map(|former| former.task),
            };
            running.insert(name.clone(), self.begin(name, config, former));
        }
        running.retain(|_, one| !one.quit.is_cancelled() || !one.task.is_finished());
    }

    fn begin(&self, name: &NotifierName, config: &NotifierConfig, former: Option<JoinHandle<()>>) -> Running {
        let (wake, quit) = (Arc::new(Notify::new()), self.stop.child_token());
        let one = One {
            name: name.clone(),
            config: config.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            wake: wake.clone(),
            quit: quit.clone(),
            stop: self.stop.clone(),
            per_minute: self.per_minute.clone(),
        };
        let task = self.tasks.spawn(async move {
            if let Some(former) = former {
                // However it ended, it sends nothing any more.
                drop(former.await);
            }
            one.run().await;
        });
        Running { config: config.clone(), wake, quit, task }
    }

    /// Waits until what was being sent is sent, and written down; after `stop` was cancelled.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        if tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await.is_err() {
            warn!("notifications under way were cut off: they are sent again");
        }
    }

    /// There is something new for it.
    pub(super) fn wake(&self, name: &NotifierName) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = running.get(name) {
            one.wake.notify_one();
        }
    }
}

struct One {
    name: NotifierName,
    config: NotifierConfig,
    store: Store,
    clock: Clock,
    wake: Arc<Notify>,
    /// Nothing more is begun; `stop` ends what waits for the store, too.
    quit: CancellationToken,
    stop: CancellationToken,
    per_minute: Arc<AtomicU32>,
}

impl One {
    async fn run(self) {
        // Which was tried here, and until when it rests: the clock may be set meanwhile.
        let mut rests: Option<(i64, Instant)> = None;
        let mut lately = VecDeque::new();
        loop {
            let next = match self.store.next_notification(&self.name, (self.clock)()).await {
                Ok(next) => next,
                Err(failed) => {
                    self.tell(&failed);
                    tokio::select! {
                        () = self.quit.cancelled() => return,
                        () = tokio::time::sleep(STORE_PAUSE) => continue,
                    }
                }
            };
            let Some(next) = next else {
                tokio::select! {
                    () = self.quit.cancelled() => return,
                    () = self.wake.notified() => continue,
                }
            };
            let until = match rests {
                Some((seq, until)) if seq == next.seq => until,
                _ => Instant::now() + pause(&next, (self.clock)()),
            };
            tokio::select! {
                biased;
                () = self.quit.cancelled() => return,
                () = tokio::time::sleep_until(until.max(self.has_room(&mut lately))) => {}
                // What is left for some keeps nothing new from the others.
                () = self.wake.notified(), if next.is_rest => continue,
            }
            lately.push_back(Instant::now());
            let sent = self.send(&next).await;
            // Until it is written down nothing else is sent: it would be sent again and again.
            let rest = loop {
                match self.note(&next, &sent).await {
                    Ok(rest) => break rest,
                    Err(failed) => self.tell(&failed),
                }
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep(STORE_PAUSE) => {}
                }
            };
            rests = Some((next.seq, Instant::now() + rest));
        }
    }

    /// From when on it may be sent another one: after it was away it is not sent all at once.
    fn has_room(&self, lately: &mut VecDeque<Instant>) -> Instant {
        let (now, most) = (Instant::now(), self.per_minute.load(Ordering::Relaxed) as usize);
        lately.retain(|at| now.duration_since(*at) < MINUTE);
        match lately.len().checked_sub(most).and_then(|over| lately.get(over)) {
            Some(at) if !self.config.is_resent() => *at + MINUTE,
            _ => now,
        }
    }

    async fn send(&self, next: &StoredNotification) -> std::result::Result<Taken, SendError> {
        let Ok(notification) = serde_json::from_str::<Notification>(&next.document) else {
            let said = "what the store holds of it is damaged".to_owned();
            return Err(SendError { is_permanent: true, retry_after: None, said });
        };
        Notifier::new(self.name.clone(), &self.config).send(&notification, (self.clock)()).await
    }

    /// Writes down what became of it. Answers how long it rests, if it is to be tried again.
    async fn note(&self, next: &StoredNotification, sent: &std::result::Result<Taken, SendError>) -> Result<Duration> {
        let now_ms = (self.clock)();
        let attempt = match sent {
            Ok(taken) if taken.is_whole() => Attempt { is_taken: true, ..Attempt::default() },
            Ok(taken) => self.taken_by_some(next, taken, now_ms).await?,
            Err(failed) => {
                let next_ms = again_at(next, failed, now_ms);
                warn!(notifier = %self.name, attempt = next.attempts + 1, gives_up = next_ms.is_none(), "not delivered: {}", failed.said);
                let given_up = || format!("a notification for {} was given up: {}", self.name, failed.said);
                let event = if next_ms.is_none() { Some(given_up()) } else { None };
                let again = next_ms.map(|next_ms| Again { next_ms, rest: None });
                Attempt { is_taken: false, failure: Some(failed.said.clone()), event, again }
            }
        };
        self.store.notification_tried(&self.name, next.seq, &attempt, now_ms).await?;
        let rest = attempt.again.map_or(0, |again| again.next_ms.saturating_sub(now_ms));
        Ok(Duration::from_millis(rest.unsigned_abs()))
    }

    /// Those who have it are not told again: what is left is for the others alone.
    async fn taken_by_some(&self, next: &StoredNotification, taken: &Taken, now_ms: i64) -> Result<Attempt> {
        warn!(notifier = %self.name, "not delivered to all: {}", taken.said);
        let Taken { said, refused, left } = taken;
        let mut attempt = Attempt { is_taken: true, failure: Some(said.clone()), ..Attempt::default() };
        let told = |why: &String| format!("a notification for {} was not taken by all: {why}", self.name);
        attempt.event = refused.as_ref().map(told);
        if !left.is_empty() {
            let damaged = |_| StoreError::Damaged("a notification");
            let whole: Notification = serde_json::from_str(&next.document).map_err(damaged)?;
            let document = serde_json::to_string(&Notification { only: left.clone(), ..whole }).map_err(damaged)?;
            let has_room = next.is_rest || self.store.rests_waiting(&self.name).await? < MAX_RESTS;
            attempt.again = again_at(next, &SendError::again(said), now_ms)
                .filter(|_| has_room)
                .map(|next_ms| Again { next_ms, rest: Some(document) });
            if attempt.again.is_none() {
                attempt.event = Some(told(said));
            }
        }
        Ok(attempt)
    }

    fn tell(&self, failed: &StoreError) {
        let source = std::error::Error::source(failed).map(ToString::to_string);
        error!(notifier = %self.name, error = %failed, source, "notifications");
    }
}

/// How long it is not tried yet. A clock that was set back holds nothing up for longer than it would have waited.
fn pause(next: &StoredNotification, now_ms: i64) -> Duration {
    let (_, most) = AGAIN_MS;
    Duration::from_millis(next.next_ms.saturating_sub(now_ms).clamp(0, 3 * most).unsigned_abs())
}

/// When it is tried again; `None`: never.
fn again_at(next: &StoredNotification, failed: &SendError, now_ms: i64) -> Option<i64> {
    if failed.is_permanent || next.attempts + 1 >= MAX_ATTEMPTS {
        return None;
    }
    let (first, most) = AGAIN_MS;
    let doubled = first.saturating_mul(1_i64 << next.attempts.min(20)).min(most);
    let asked = failed.retry_after.map_or(0, |after| i64::try_from(after.as_millis()).unwrap_or(most));
    Some(now_ms.saturating_add(doubled.max(asked.min(3 * most))))
}

#[cfg(test)]
mod tests {
    //! When something is tried again, and when no more.
    use super::*;

    #[test]
    fn pauses_grow_and_end_after_a_day() {
        let at = |attempts, is_permanent, retry_after| {
            let next = StoredNotification { seq: 1, document: String::new(), attempts, next_ms: 0, is_rest: false };
            let failed = SendError { is_permanent, retry_after, said: String::new() };
            again_at(&next, &failed, 100_000_000)
        };
        let asked = Some(Duration::from_secs(7));
        assert_eq!(at(0, false, None), Some(100_001_000));
        assert_eq!(at(3, false, None), Some(100_008_000));
        assert_eq!(at(60, false, None), Some(100_300_000));
        assert_eq!((at(0, false, asked), at(0, true, asked)), (Some(100_007_000), None));
        assert_eq!((at(MAX_ATTEMPTS - 2, false, None).is_some(), at(MAX_ATTEMPTS - 1, false, None)), (true, None));
        let day_ms: i64 =
            (0..MAX_ATTEMPTS - 1).filter_map(|attempts| Some(at(attempts, false, None)? - 100_000_000)).sum();
        assert!((86_100_000..=86_700_000).contains(&day_ms), "{day_ms}");
        let late =
            StoredNotification { seq: 1, document: String::new(), attempts: 1, next_ms: i64::MAX, is_rest: false };
        assert_eq!(pause(&late, 0), Duration::from_millis(900_000));
    }
}
