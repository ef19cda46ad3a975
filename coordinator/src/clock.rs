//! The wall clock, read only at the edges: `session`, `rollout::driver`, `rpc`, `admin`. Everything else is given the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, Unix ms.
#[must_use]
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
