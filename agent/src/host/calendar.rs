//! Whether systemd on this host knows a time of a timer (`OnCalendar=`), asked of systemd itself: what it knows grows with
//! its versions. Called by `observe/preflight`.

use std::time::Duration;

use super::process::{self, Command};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Why systemd does not take it; `None`: it does, or cannot be asked.
pub async fn refused(expression: &str) -> Option<String> {
    let args = ["calendar", "--", expression].map(ToOwned::to_owned).to_vec();
    match process::run(Command::new(process::SYSTEMD_ANALYZE, args, TIMEOUT)).await {
        Ok(outcome) => (!outcome.ok()).then(|| outcome.last_line()),
        Err(error) => {
            tracing::debug!(%error, expression, "a timer's time cannot be checked before the switch");
            None
        }
    }
}
