//! Pure: what a unit's state means for the gate, in one plain sentence. Beside `gate`; `report` uses the words too.

use std::time::Duration;

use drover_proto::name::UnitName;

use crate::host::systemd::UnitState;

/// How a unit stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// As it should be; the text changes with every new process.
    Healthy(String),
    /// Not yet.
    Waiting(String),
    /// Its process ended; systemd tries again.
    Broken(String),
    /// It ended well enough for systemd, but it does not run.
    Ended(String),
    /// systemd does not try again.
    GaveUp(String),
}

/// Judges one unit that should be running.
#[must_use]
pub fn judge(name: &UnitName, state: &UnitState) -> Standing {
    if !matches!(state.load_state.as_str(), "loaded" | "") {
        return Standing::GaveUp(format!("systemd cannot load {name} ({})", state.load_state));
    }
    match state.active_state.as_str() {
        "active" | "reloading" | "refreshing" => {
            Standing::Healthy(format!("{}/{}/{}", state.invocation_id, state.main_pid, state.n_restarts))
        }
        "activating" if state.sub_state.starts_with("auto-restart") => {
            Standing::Broken(format!("{}; systemd starts it again and again", ended(name, state)))
        }
        "activating" if is_notify(state) => {
            Standing::Waiting(format!("{name} has not reported that it is ready yet (Type=notify)"))
        }
        "activating" => Standing::Waiting(format!("{name} is starting ({})", state.sub_state)),
        "deactivating" => Standing::Waiting(format!("{name} is stopping ({})", state.sub_state)),
        "failed" => Standing::GaveUp(ended(name, state)),
        _ if is_done(state) => Standing::Healthy(state.invocation_id.clone()),
        _ => Standing::Ended(ended(name, state)),
    }
}

/// So many automatic restarts are no teething trouble, e.g. while another unit of the app comes up …
const LOOP_RESTARTS: u32 = 3;
/// … if they go on for so long.
const LOOP_TIME: Duration = Duration::from_secs(10);

/// Tells a unit that crashes in a loop, which systemd may restart for ever, from one that had to try twice.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    first: Option<u32>,
    last: u32,
    began: Option<Duration>,
    ended: Option<String>,
}

impl Restarts {
    /// Takes a look, `at` after the gate began. `Some` says how it crashes: waiting on is no use.
    pub fn see(&mut self, name: &UnitName, state: &UnitState, at: Duration) -> Option<String> {
        if state.exec_main_code != 0 {
            self.ended = Some(ended(name, state));
        }
        // Fewer than before: it was started by hand, and the count begins anew.
        if state.n_restarts < self.last {
            *self = Self::default();
        }
        let first = *self.first.get_or_insert(state.n_restarts);
        let before = std::mem::replace(&mut self.last, state.n_restarts);
        let grown = state.n_restarts.saturating_sub(first);
        if grown == 0 || state.n_restarts == before {
            return None;
        }
        let began = *self.began.get_or_insert(at);
        if grown < LOOP_RESTARTS || at.saturating_sub(began) < LOOP_TIME {
            return None;
        }
        Some(match &self.ended {
            Some(ended) => format!("{ended}; systemd has started it again {grown} times"),
            None => format!("{name} was started again, or failed, between two looks"),
        })
    }
}

fn is_notify(state: &UnitState) -> bool {
    state.unit_type.starts_with("notify")
}

/// A oneshot that ran and succeeded.
fn is_done(state: &UnitState) -> bool {
    state.unit_type == "oneshot" && state.result == "success" && state.exec_main_code != 0
}

/// How a unit ended, e.g. `mono.service exited with code 3, 2.9 s after it started`.
#[must_use]
pub fn ended(name: &UnitName, state: &UnitState) -> String {
    if state.result == "timeout" && is_notify(state) {
        let waited = if state.timeout_start_us == u64::MAX {
            String::new()
        } else {
            format!(" {}", seconds(state.timeout_start_us))
        };
        return never_ready(name, &format!("systemd waited{waited} and stopped it"));
    }
    let how = match (state.result.as_str(), state.exec_main_code) {
        ("oom-kill", _) => "was killed because the memory ran out".to_owned(),
        ("watchdog", _) => "was killed because it stopped answering systemd's watchdog".to_owned(),
        (_, 1) => format!("exited with code {}{}", state.exec_main_status, meaning(state.exec_main_status)),
        (_, 2) => format!("was killed by signal {}", signal(state.exec_main_status)),
        (_, 3) => format!("crashed with signal {}", signal(state.exec_main_status)),
        ("success" | "", _) => format!("is not running ({})", state.active_state),
        (result, _) => format!("failed ({result})"),
    };
    let lived = state.exec_main_exit_us.checked_sub(state.exec_main_start_us);
    let after = match lived {
        Some(us) if state.exec_main_start_us > 0 && state.exec_main_code != 0 => {
            format!(", {} after it started", seconds(us))
        }
        _ => String::new(),
    };
    let limit = if state.result == "start-limit-hit" { "; it ended so often that systemd gave up" } else { "" };
    format!("{name} {how}{after}{limit}")
}

/// A `Type=notify` unit that stays silent.
#[must_use]
pub fn never_ready(name: &UnitName, waited: &str) -> String {
    format!("{name} never reported that it is ready (Type=notify); {waited}")
}

/// One line with a unit's state, for evidence and status.
#[must_use]
pub fn line(state: &UnitState) -> String {
    let mut text = format!("{} ({})", state.active_state, state.sub_state);
    if !matches!(state.result.as_str(), "" | "success") {
        text.push_str(&format!(", result {}", state.result));
    }
    if state.main_pid != 0 {
        text.push_str(&format!(", process {}", state.main_pid));
    }
    if state.n_restarts > 0 {
        text.push_str(&format!(", restarted {} times by systemd", state.n_restarts));
    }
    text
}

/// systemd's own exit codes, for programs that never began.
fn meaning(code: i32) -> &'static str {
    match code {
        200 => " (its working directory cannot be entered)",
        203 => " (its program cannot be executed)",
        209 | 218 => " (systemd could not set it up)",
        216 | 217 => " (its user or group does not exist)",
        226 => " (its sandbox cannot be made)",
        _ => "",
    }
}

fn signal(number: i32) -> String {
    let name = match number {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return number.to_string(),
    };
    format!("{number} ({name})")
}

fn seconds(us: u64) -> String {
    format!("{:.1} s", us as f64 / 1_000_000.0)
}

/// How the main process ended last, for evidence.
#[must_use]
pub fn ended_line(state: &UnitState) -> String {
    match state.exec_main_code {
        1 => format!("main process exited with code {}{}", state.exec_main_status, meaning(state.exec_main_status)),
        2 | 3 => format!("main process ended by signal {}", signal(state.exec_main_status)),
        _ => "main process has not ended".to_owned(),
    }
}
