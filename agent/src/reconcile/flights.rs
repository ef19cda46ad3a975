//! Which apps are being activated, reverted, removed or put right just now, and a door in front of that: while a clean-up decides and
//! removes nobody else begins. Whoever begins then looks anew at what is there. Beside `reconcile`; `workers` enters, `prune` closes.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use drover_proto::name::AppName;
use tokio::sync::{MutexGuard, Notify};

/// All that are under way.
#[derive(Default)]
pub(super) struct Flights {
    door: tokio::sync::Mutex<()>,
    /// An app is worked on by one worker at a time.
    inside: Mutex<BTreeSet<AppName>>,
    /// Rung whenever one has ended.
    pub(super) landed: Notify,
}

/// One that is under way. Dropped, it has ended.
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    app: AppName,
    /// Whether anything may have become needless by it.
    rings: bool,
}

/// While it is held nobody begins.
pub(super) struct Closed<'a> {
    _door: MutexGuard<'a, ()>,
    /// Those that had begun.
    pub(super) inside: BTreeSet<AppName>,
}

impl Flights {
    /// Begins, as soon as no clean-up is under way.
    pub(super) async fn begin(&self, app: &AppName) -> Flight<'_> {
        let _door = self.door.lock().await;
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).insert(app.clone());
        Flight { flights: self, app: app.clone(), rings: true }
    }

    /// The same for a look at what is committed, which may put something right.
    pub(super) async fn look(&self, app: &AppName) -> Flight<'_> {
        let mut flight = self.begin(app).await;
        flight.rings = false;
        flight
    }

    /// Lets nobody begin; those that have go on.
    pub(super) async fn close(&self) -> Closed<'_> {
        let door = self.door.lock().await;
        Closed { _door: door, inside: self.inside.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.inside.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.app);
        if self.rings {
            self.flights.landed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    //! Nobody begins in the middle of a clean-up.
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_the_door_is_closed_nobody_begins_and_who_has_begun_is_known() {
        let flights = Flights::default();
        let (a, b): (AppName, AppName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let first = flights.begin(&a).await;
        let closed = flights.close().await;
        assert_eq!(closed.inside, [a].into());
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, flights.begin(&b)).await.is_err());
        drop(closed);
        let second = tokio::time::timeout(soon, flights.begin(&b)).await.unwrap();
        drop(first);
        tokio::time::timeout(soon, flights.landed.notified()).await.unwrap();
        assert_eq!(flights.close().await.inside, [b].into());
        drop(second);
        assert!(flights.close().await.inside.is_empty());
    }
}
