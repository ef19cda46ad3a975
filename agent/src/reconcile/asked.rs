//! What one task asks another to look at soon: a set, so that asking twice is asking once, and a bell. Beside `reconcile`.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

/// Things asked for and not taken yet.
pub(super) struct Asked<T> {
    things: Mutex<BTreeSet<T>>,
    bell: Notify,
}

impl<T: Ord> Asked<T> {
    pub(super) fn new() -> Self {
        Self { things: Mutex::default(), bell: Notify::new() }
    }

    pub(super) fn ask(&self, thing: T) {
        self.things.lock().unwrap_or_else(PoisonError::into_inner).insert(thing);
        self.bell.notify_one();
    }

    /// Waits until there is something, and takes all of it. Dropped while it waits it takes nothing.
    pub(super) async fn take(&self) -> BTreeSet<T> {
        loop {
            let taken = std::mem::take(&mut *self.things.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.bell.notified().await;
        }
    }
}
