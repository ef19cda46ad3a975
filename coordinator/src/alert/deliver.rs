//! Sends what is stored for each receiver, in order, until it is taken. One task per receiver: one that hangs holds up no other. Part
//! of `engine`; `notify` knows how each is spoken to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
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
/// What has not been taken for so long is given up.
const GIVEN_UP_AFTER_MS: i64 = 24 * 3600 * 1000;
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
        Self { store, clock, stop, running: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// These are the receivers from now on; those that are as before go on undisturbed. Of one that is another, what is being sent
    /// ends first: it would be sent twice.
    pub(super) fn follow(&self, notifiers: &BTreeMap<NotifierName, NotifierConfig>) {
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
}

impl One {
    async fn run(self) {
        // Which was tried here, and until when it rests: the clock may be set meanwhile.
        let mut rests: Option<(i64, Instant)> = None;
        loop {
            let next = match self.store.next_notification(&self.name).await {
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
                () = tokio::time::sleep_until(until) => {}
            }
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
            Ok(taken) => self.taken_by_some(next, taken, now_ms)?,
            Err(failed) => {
                let next_ms = again_at(next, failed, now_ms);
                warn!(notifier = %self.name, attempt = next.attempts + 1, gives_up = next_ms.is_none(), "not delivered: {}", failed.said);
                let given_up = || format!("a notification for {} was given up: {}", self.name, failed.said);
                let event = if next_ms.is_none() { Some(given_up()) } else { None };
                let again = next_ms.map(|next_ms| Again { next_ms, document: None });
                Attempt { is_taken: false, failure: Some(failed.said.clone()), event, again }
            }
        };
        self.store.notification_tried(&self.name, next.seq, &attempt, now_ms).await?;
        let rest = attempt.again.map_or(0, |again| again.next_ms.saturating_sub(now_ms));
        Ok(Duration::from_millis(rest.unsigned_abs()))
    }

    /// Those who have it are not told again: what is left is for the others alone.
    fn taken_by_some(&self, next: &StoredNotification, taken: &Taken, now_ms: i64) -> Result<Attempt> {
        warn!(notifier = %self.name, "not delivered to all: {}", taken.said);
        let Taken { said, refused, left } = taken;
        let mut attempt = Attempt { is_taken: true, failure: Some(said.clone()), ..Attempt::default() };
        let told = |why: &String| format!("a notification for {} was not taken by all: {why}", self.name);
        attempt.event = refused.as_ref().map(told);
        if !left.is_empty() {
            let damaged = |_| StoreError::Damaged("a notification");
            let whole: Notification = serde_json::from_str(&next.document).map_err(damaged)?;
            let document = serde_json::to_string(&Notification { only: left.clone(), ..whole }).map_err(damaged)?;
            attempt.again = again_at(next, &SendError::again(said), now_ms)
                .map(|next_ms| Again { next_ms, document: Some(document) });
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
    if failed.is_permanent || now_ms.saturating_sub(next.created_ms) > GIVEN_UP_AFTER_MS {
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
        let at = |attempts, created_ms, is_permanent, retry_after| {
            let next = StoredNotification { seq: 1, document: String::new(), created_ms, attempts, next_ms: 0 };
            let failed = SendError { is_permanent, retry_after, said: String::new() };
            again_at(&next, &failed, 100_000_000)
        };
        let asked = Some(Duration::from_secs(7));
        assert_eq!(at(0, 99_000_000, false, None), Some(100_001_000));
        assert_eq!(at(3, 99_000_000, false, None), Some(100_008_000));
        assert_eq!(at(60, 99_000_000, false, None), Some(100_300_000));
        assert_eq!((at(0, 99_000_000, false, asked), at(0, 99_000_000, true, asked)), (Some(100_007_000), None));
        assert_eq!(at(5, 100_000_000 - GIVEN_UP_AFTER_MS - 1, false, None), None);
        let late =
            StoredNotification { seq: 1, document: String::new(), created_ms: 0, attempts: 1, next_ms: i64::MAX };
        assert_eq!(pause(&late, 0), Duration::from_millis(900_000));
    }
}
