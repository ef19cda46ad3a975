//! Pure: when a file system is full if it goes on as in the last hours, by least squares. Beside `alert`; `numbers` brings the room.

use std::collections::VecDeque;

/// One sample in so much time.
const EVERY_MS: u64 = 60_000;
/// What is remembered.
const KEPT_MS: u64 = 6 * 3_600_000;
/// Nothing is said before.
const LEAST_MS: u64 = 30 * 60_000;
/// So many samples at least: a host that was suspended has gaps.
const LEAST_SAMPLES: usize = 20;

/// What is to be expected.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Forecast {
    /// Too little is known yet.
    Unknown,
    /// It does not fill.
    Never,
    /// Seconds.
    FullIn(f64),
}

/// The room of one file system over the last hours: ms since the boot, and bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Room(VecDeque<(u64, u64)>);

impl Room {
    /// Takes a sample, unless the last one is fresh.
    pub fn add(&mut self, boot_ms: u64, available: u64) {
        if self.0.back().is_some_and(|(at, _)| boot_ms < at.saturating_add(EVERY_MS)) {
            return;
        }
        self.0.push_back((boot_ms, available));
        while self.0.front().is_some_and(|(at, _)| at.saturating_add(KEPT_MS) < boot_ms) {
            self.0.pop_front();
        }
    }

    /// As it goes now.
    #[must_use]
    pub fn forecast(&self) -> Forecast {
        let (Some((first, _)), Some((last, available))) = (self.0.front(), self.0.back()) else {
            return Forecast::Unknown;
        };
        if last.saturating_sub(*first) < LEAST_MS || self.0.len() < LEAST_SAMPLES {
            return Forecast::Unknown;
        }
        // From the first sample on, and from the last one's room: sums of small numbers.
        let point =
            |(at, room): &(u64, u64)| (at.saturating_sub(*first) as f64 / 1000.0, *room as f64 - *available as f64);
        let count = self.0.len() as f64;
        let (times, rooms) = self.0.iter().map(point).fold((0.0, 0.0), |(t, r), (time, room)| (t + time, r + room));
        let (mean_time, mean_room) = (times / count, rooms / count);
        let (mut above, mut below) = (0.0, 0.0);
        for (time, room) in self.0.iter().map(point) {
            above += (time - mean_time) * (room - mean_room);
            below += (time - mean_time) * (time - mean_time);
        }
        let per_second = above / below;
        // NaN is no decline, either.
        if per_second < 0.0 { Forecast::FullIn(*available as f64 / -per_second) } else { Forecast::Never }
    }
}

#[cfg(test)]
mod tests {
    //! Lines, noise, and too little of both.
    use super::*;

    fn room(minutes: u64, of: impl Fn(u64) -> u64) -> Room {
        let mut room = Room::default();
        (0..=minutes).for_each(|minute| room.add(minute * 60_000, of(minute)));
        room
    }

    #[test]
    fn what_fills_is_foretold() {
        let hours = |forecast| match forecast {
            Forecast::FullIn(seconds) => seconds / 3600.0,
            other => panic!("{other:?}"),
        };
        // 1 GB of 100 in a minute.
        assert!((hours(room(60, |minute| (100 - minute) * 1_000_000_000).forecast()) - 40.0 / 60.0).abs() < 0.01);
        let noisy = room(360, |minute| 100_000_000_000 - minute * 100_000_000 + minute % 7 * 50_000_000);
        assert!((hours(noisy.forecast()) - 10.6).abs() < 0.3, "{:?}", noisy.forecast());
        for steady in [room(60, |_| 5), room(60, |minute| minute), room(60, |minute| 1000 + minute % 2)] {
            assert!(matches!(steady.forecast(), Forecast::Never), "{steady:?}");
        }
        assert_eq!(room(60, |minute| 60 - minute).forecast(), Forecast::FullIn(0.0));
    }

    #[test]
    fn too_little_says_nothing_and_old_samples_go() {
        assert_eq!(Room::default().forecast(), Forecast::Unknown);
        assert_eq!(room(29, |minute| 1000 - minute).forecast(), Forecast::Unknown);
        let mut gap = Room::default();
        gap.add(0, 9);
        gap.add(3_600_000, 1);
        assert_eq!(gap.forecast(), Forecast::Unknown);
        let mut long = room(1000, |minute| 1_000_000 - minute);
        long.add(1000 * 60_000 + 59_999, 3);
        assert_eq!((long.0.len(), long.0.back()), (361, Some(&(60_000_000, 999_000))));
    }
}
