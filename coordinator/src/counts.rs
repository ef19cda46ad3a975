//! How many of something each caller, address … has at one time, none more than it may. `listen/places` counts connections,
//! `rpc/calls` calls.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The counts by key; clones share them. A key without any takes no room.
pub struct Counts<K>(Arc<Mutex<HashMap<K, usize>>>);

/// One of a key's; free again when it is dropped.
pub struct Counted<K: Eq + Hash> {
    counts: Counts<K>,
    key: K,
}

impl<K> Clone for Counts<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> Counts<K> {
    fn locked(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // Nothing panics while it holds the lock, so the counts are right in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Counts<K> {
    /// One more of this key, unless it has enough.
    #[must_use]
    pub fn take(&self, key: K, most: usize) -> Option<Counted<K>> {
        let mut counts = self.locked();
        let count = counts.entry(key.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Counted { counts: self.clone(), key })
    }
    /// How many there are of all keys.
    #[cfg(test)]
    pub fn total(&self) -> usize {
        self.locked().values().sum()
    }
}

impl<K: Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.locked();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}
