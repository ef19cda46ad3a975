//! The wall clock, read only at the edges: `session`, `rollout::driver`, `alert::engine`, `rpc`, `admin`. Everything else is given the time.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// How what is tried with other clocks reads it.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Now, Unix ms.
#[must_use]
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
