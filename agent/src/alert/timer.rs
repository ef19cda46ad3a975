//! Pure: when rules are due. Rules with the same pause are due together, at its multiples since the boot, so that one wake serves many.
//! Beside `alert`.

use std::collections::{BTreeMap, BTreeSet};

/// Nothing is due: it is looked again after this.
const IDLE_MS: u64 = 3_600_000;

/// By pause: when it is over; all in ms, times since the boot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Timer(BTreeMap<u64, u64>);

impl Timer {
    /// From now on these pauses. One that was there goes on, a new one is over at once.
    pub fn set(&mut self, pauses: impl Iterator<Item = u64>, now: u64) {
        let before = std::mem::take(&mut self.0);
        self.0 = pauses
            .filter(|pause| *pause > 0)
            .map(|pause| (pause, before.get(&pause).copied().unwrap_or(now)))
            .collect();
    }

    /// Those that are over, which begin anew.
    pub fn due(&mut self, now: u64) -> BTreeSet<u64> {
        let mut due = BTreeSet::new();
        for (pause, at) in self.0.iter_mut().filter(|(_, at)| **at <= now) {
            *at = (now / pause).saturating_add(1).saturating_mul(*pause);
            due.insert(*pause);
        }
        due
    }

    /// These are over again at once: nobody could look.
    pub fn again(&mut self, pauses: &BTreeSet<u64>, now: u64) {
        for (_, at) in self.0.iter_mut().filter(|(pause, _)| pauses.contains(pause)) {
            *at = now;
        }
    }

    /// When the next one is over; `sooner`: something else that is due.
    #[must_use]
    pub fn next(&self, now: u64, sooner: Option<u64>) -> u64 {
        self.0.values().copied().chain(sooner).min().unwrap_or_else(|| now.saturating_add(IDLE_MS))
    }
}

#[cfg(test)]
mod tests {
    //! Pauses fall together.
    use super::*;

    #[test]
    fn pauses_fall_together_and_go_on_over_a_change() {
        let mut timer = Timer::default();
        assert_eq!(timer.next(7, None), IDLE_MS + 7);
        timer.set([10_000, 1000, 10_000].into_iter(), 123_456);
        assert_eq!((timer.next(0, None), timer.due(123_456)), (123_456, [1000, 10_000].into()));
        assert_eq!((timer.next(0, None), timer.next(0, Some(5))), (124_000, 5));
        assert_eq!(timer.due(123_999), [].into());
        assert_eq!(timer.due(129_999), [1000].into(), "what was missed is not made up for");
        assert_eq!(timer.due(130_000), [1000, 10_000].into());
        timer.again(&[10_000, 7].into(), 130_500);
        assert_eq!((timer.next(0, None), timer.due(130_500)), (130_500, [10_000].into()));
        timer.set([10_000, 60_000].into_iter(), 131_000);
        assert_eq!(timer.due(131_000), [60_000].into());
        assert_eq!(timer.next(0, None), 140_000);
    }
}
