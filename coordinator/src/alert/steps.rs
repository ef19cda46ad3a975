//! Sees when the coordinator's clock is set. How long something has lasted is then what it was, so every time that is kept goes along.
//! Part of `engine`.

use tokio::time::Instant;

/// What a clock is off by less than this is not a step: it is being led, or this program was not quick.
const STEP_MS: i64 = 1_000;

/// The last look at the clock.
pub(super) struct Steps {
    at: Instant,
    unix_ms: i64,
}

impl Steps {
    pub(super) fn begin(unix_ms: i64) -> Self {
        Self { at: Instant::now(), unix_ms }
    }

    /// By how much it was set since the last look, ms; 0 = it was not.
    pub(super) fn look(&mut self, unix_ms: i64) -> i64 {
        let passed = i64::try_from(self.at.elapsed().as_millis()).unwrap_or(i64::MAX);
        let by = unix_ms.saturating_sub(self.unix_ms.saturating_add(passed));
        *self = Self::begin(unix_ms);
        if by.saturating_abs() >= STEP_MS { by } else { 0 }
    }
}
