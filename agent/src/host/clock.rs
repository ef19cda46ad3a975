//! Time over restarts of the agent: a clock that nobody can set, as long as the host is not booted again. `ledger` keeps
//! such a moment, `reconcile` asks how long ago it was.

use std::{fs, time::Duration};

use serde::{Deserialize, Serialize};

use crate::host::facts;

/// How far two readings of the wall clock around a boot may lie apart and still be believed.
const BELIEVED: Duration = Duration::from_secs(12 * 3600);

/// Time since the boot, ms. Suspended time counts, and nobody can set it.
#[must_use]
pub fn since_boot_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, ns) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1000).saturating_add(ns / 1_000_000)
}

/// A moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// In which life of the host; empty: unknown.
    pub boot: String,
    /// Since that boot, ms. Suspended time counts.
    pub boot_ms: i64,
    /// By the wall clock, which anybody may set.
    pub unix_ms: i64,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let uptime = fs::read_to_string("/proc/uptime").ok();
        let seconds = uptime.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
        let boot = if seconds.is_some() { facts::boot_id() } else { String::new() };
        #[expect(clippy::cast_possible_truncation, reason = "ms of uptime fit")]
        let boot_ms = (seconds.unwrap_or(0.0) * 1000.0) as i64;
        Self { boot, boot_ms, unix_ms: crate::report::now_unix_ms() }
    }

    /// The time since `earlier`. Within one boot nothing that is done to the clock changes it. Over a boot it is what the
    /// wall clock says, unless that is absurd for a host that was off: it is nothing then, and what is measured with it
    /// has all of its time again.
    #[must_use]
    pub fn since(&self, earlier: &Self, patience: Duration) -> Duration {
        if !self.boot.is_empty() && self.boot == earlier.boot {
            return ms(self.boot_ms.saturating_sub(earlier.boot_ms));
        }
        let passed = ms(self.unix_ms.saturating_sub(earlier.unix_ms));
        if passed > patience.saturating_add(BELIEVED) { Duration::ZERO } else { passed }
    }

    /// The moment `passed` before this one.
    #[must_use]
    pub fn before(&self, passed: Duration) -> Self {
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        Self {
            boot: self.boot.clone(),
            boot_ms: self.boot_ms.saturating_sub(passed),
            unix_ms: self.unix_ms.saturating_sub(passed),
        }
    }
}

/// Nothing for what is negative.
fn ms(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    //! Clocks that are set, and boots.
    use super::*;

    #[test]
    fn setting_the_clock_makes_no_time_pass() {
        const DAY: i64 = 86_400_000;
        let at = |boot: &str, boot_ms, unix_ms| Moment { boot: boot.to_owned(), boot_ms, unix_ms };
        let (begun, minute) = (at("a", 1000, 5 * DAY), Duration::from_secs(60));
        let table = [
            ("goes on", at("a", 3000, 5 * DAY + 2000), 2000),
            ("set a day forward", at("a", 3000, 6 * DAY + 2000), 2000),
            ("set a day back", at("a", 3000, 4 * DAY + 2000), 2000),
            ("another boot", at("b", 500, 5 * DAY + 90_000), 90_000),
            ("another boot, set a day forward", at("b", 500, 6 * DAY + 90_000), 0),
            ("another boot, set a day back", at("b", 500, 4 * DAY + 90_000), 0),
            ("unknown boot", at("", 500, 5 * DAY + 9_000), 9_000),
        ];
        for (name, now, passed_ms) in table {
            assert_eq!(now.since(&begun, minute).as_millis(), passed_ms, "{name}");
        }
        assert_eq!(begun.since(&begun.before(minute), minute), minute);
    }

    #[test]
    fn now_is_in_this_boot() {
        let now = Moment::now();
        assert!(now.boot.len() == 36 && now.boot_ms > 0, "{now:?}");
    }
}
