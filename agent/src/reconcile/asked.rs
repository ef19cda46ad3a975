//! What one task asks another to look at, soon or at a time: a set, so that asking twice is asking once, and a bell. Beside
//! `reconcile`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Things asked for and not taken yet, each with the time at which it is due.
pub(super) struct Asked<T> {
    things: Mutex<BTreeMap<T, Instant>>,
    bell: Notify,
}

impl<T: Ord> Asked<T> {
    pub(super) fn new() -> Self {
        Self { things: Mutex::default(), bell: Notify::new() }
    }

    pub(super) fn ask(&self, thing: T) {
        self.ask_at(thing, Instant::now());
    }

    /// Asked for twice it is due at the earlier of the two.
    pub(super) fn ask_at(&self, thing: T, at: Instant) {
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        let due = things.entry(thing).or_insert(at);
        *due = at.min(*due);
        self.bell.notify_one();
    }

    /// Waits until something is due, and takes all of that. Dropped while it waits it takes nothing.
    pub(super) async fn take(&self) -> BTreeSet<T> {
        loop {
            let (due, next) = self.due(Instant::now());
            if !due.is_empty() {
                return due;
            }
            let timer = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.bell.notified() => {}
                () = timer => {}
            }
        }
    }

    fn due(&self, now: Instant) -> (BTreeSet<T>, Option<Instant>) {
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        let later = std::mem::take(&mut *things).into_iter();
        let (due, later): (BTreeMap<_, _>, BTreeMap<_, _>) = later.partition(|(_, at)| *at <= now);
        *things = later;
        (due.into_keys().collect(), things.values().min().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_due_is_taken_once_and_the_rest_when_its_time_comes() {
        let (asked, begun) = (Asked::new(), Instant::now());
        asked.ask_at("later", begun + Duration::from_secs(20));
        asked.ask_at("sooner", begun + Duration::from_secs(10));
        asked.ask_at("sooner", begun + Duration::from_secs(30));
        asked.ask("now");
        assert_eq!(asked.take().await, ["now"].into());
        assert_eq!((asked.take().await, begun.elapsed().as_secs()), (["sooner"].into(), 10));
        assert_eq!((asked.take().await, begun.elapsed().as_secs()), (["later"].into(), 20));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_something_late_hears_what_is_asked_meanwhile() {
        let asked = Asked::new();
        asked.ask_at("later", Instant::now() + Duration::from_secs(20));
        let (taken, ()) = tokio::join!(asked.take(), async { asked.ask("now") });
        assert_eq!(taken, ["now"].into());
    }
}
