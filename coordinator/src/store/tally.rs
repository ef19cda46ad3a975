//! How much was stored since the coordinator started, for `metrics`. The nouns count themselves, each after its commit.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Store;

/// What was counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tallied {
    /// Of hosts.
    pub reports: u64,
    /// Of hosts.
    pub events: u64,
    /// Rollouts.
    pub rollouts_started: u64,
    /// Rollouts, by the word of their state.
    pub rollouts_ended: BTreeMap<String, u64>,
}

/// Counts; clones share it.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Tallied>>);

impl Tally {
    fn counted(&self) -> MutexGuard<'_, Tallied> {
        // Nothing panics while it holds the lock, so the state is whole in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn reports(&self, more: u64) {
        self.counted().reports += more;
    }
    pub(super) fn events(&self, more: usize) {
        self.counted().events += more as u64;
    }
    pub(super) fn rollout_started(&self) {
        self.counted().rollouts_started += 1;
    }
    pub(super) fn rollout_ended(&self, state: &str) {
        *self.counted().rollouts_ended.entry(state.to_owned()).or_default() += 1;
    }
}

impl Store {
    /// What was stored since it was opened.
    #[must_use]
    pub fn tallied(&self) -> Tallied {
        self.tally.counted().clone()
    }
}
