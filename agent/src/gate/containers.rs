//! What the state of a container means for the gate, in one plain sentence, and what goes up when it is to blame. Beside
//! `gate`; `report` uses the words too.

use std::collections::BTreeMap;

use drover_proto::{app::Restart, name::ContainerName};

use super::verdict::Standing;
use crate::{
    exec::StepFailure,
    host::docker::{ContainerState, Engine},
    plan::containers::is_made_of,
    render::{Rendered, RenderedContainer},
};

/// Lines of a container's log that go up as evidence.
const EVIDENCE_LINES: usize = 20;
/// So many starts by the engine are no teething trouble.
pub(super) const LOOP_RESTARTS: i64 = 3;

/// What the engine said of each container; why it did not.
pub(super) type Seen = BTreeMap<ContainerName, Result<Option<ContainerState>, String>>;

/// Asks for all of a release.
pub(super) async fn seen(wanted: &Rendered, engine: &Engine) -> Seen {
    let mut all = Seen::new();
    for name in wanted.containers.keys() {
        all.insert(name.clone(), engine.container(name).await.map_err(|error| error.to_string()));
    }
    all
}

/// Judges one that should be running.
#[must_use]
pub fn judge(name: &ContainerName, wanted: &RenderedContainer, state: Option<&ContainerState>) -> Standing {
    let of = format!("container {name}");
    let Some(state) = state else { return Standing::Ended(format!("{of} is not there")) };
    if !is_made_of(state, wanted) {
        return Standing::Ended(format!("container {name} is not the one that drover made"));
    }
    if !state.error.is_empty() && !state.running {
        return Standing::GaveUp(format!("Docker could not start container {name}: {}", state.error));
    }
    if is_done(wanted, state) {
        return Standing::Healthy(format!("{} {}", state.id, state.started_at));
    }
    match state.status.as_str() {
        "restarting" if state.restart_count >= LOOP_RESTARTS => Standing::GaveUp(format!(
            "{}; Docker has started it again {} times",
            ended(&of, state),
            state.restart_count
        )),
        "restarting" => Standing::Broken(format!("{}; Docker starts it again and again", ended(&of, state))),
        "running" => running(&of, state),
        "created" => Standing::Waiting(format!("container {name} is about to start")),
        "paused" => Standing::Waiting(format!("container {name} is paused; docker unpause {name} lets it go on")),
        "exited" | "dead" if wanted.spec.restart == Restart::No => Standing::GaveUp(ended(&of, state)),
        _ => Standing::Ended(ended(&of, state)),
    }
}

/// One that runs once, and has.
#[must_use]
pub fn is_done(wanted: &RenderedContainer, state: &ContainerState) -> bool {
    wanted.spec.restart == Restart::No && state.status == "exited" && state.exit_code == 0
}

/// Of one that runs; `of` = `container shop`.
pub(super) fn running(of: &str, state: &ContainerState) -> Standing {
    let identity = format!("{} {} {}", state.id, state.started_at, state.restart_count);
    match state.health.as_ref().map(|health| (health.status.as_str(), health)) {
        None | Some(("healthy", _)) => Standing::Healthy(identity),
        Some(("starting", health)) if health.output.is_empty() => {
            Standing::Waiting(format!("the healthcheck of {of} has not passed yet"))
        }
        Some(("starting", health)) => {
            Standing::Waiting(format!("the healthcheck of {of} has not passed yet: {}", health.output))
        }
        Some((_, health)) => Standing::Broken(format!(
            "{of} is unhealthy: its healthcheck failed {} times in a row: {}",
            health.failing_streak, health.output
        )),
    }
}

/// How a container ended, e.g. `container shop exited with code 3, 2.9 s after it started`.
#[must_use]
pub fn ended(of: &str, state: &ContainerState) -> String {
    let how = match (state.oom_killed, state.exit_code) {
        (true, _) => "was killed because its memory ran out".to_owned(),
        (false, 137) => "was killed (SIGKILL)".to_owned(),
        (false, code @ 129..=159) => format!("ended by signal {}", code - 128),
        (false, 127) => "exited with code 127 (its program was not found)".to_owned(),
        (false, 126) => "exited with code 126 (its program cannot be executed)".to_owned(),
        (false, code) => format!("exited with code {code}"),
    };
    let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let lived =
        at(&state.started_at).zip(at(&state.finished_at)).map(|(from, to)| to.duration_since(from).as_secs_f64());
    let after = lived.filter(|lived| *lived >= 0.0).map(|lived| format!(", {lived:.1} s after it started"));
    format!("{of} {how}{}", after.unwrap_or_default())
}

/// One line with a container's state, for evidence and status.
#[must_use]
pub fn line(state: &ContainerState) -> String {
    let mut text = state.status.clone();
    if let Some(health) = &state.health {
        text.push_str(&format!(" ({})", health.status));
    }
    if !state.running {
        text.push_str(&format!(", exit code {}", state.exit_code));
    }
    if state.oom_killed {
        text.push_str(", its memory ran out");
    }
    if state.restart_count > 0 {
        text.push_str(&format!(", restarted {} times by Docker", state.restart_count));
    }
    text
}

/// State and log of those that are to blame.
pub(super) async fn evidence(
    mut failure: StepFailure,
    seen: &Seen,
    blamed: impl Fn(&ContainerName) -> bool,
    since_unix_ms: i64,
    engine: &Engine,
) -> StepFailure {
    for (name, state) in seen.iter().filter(|(name, _)| blamed(name)) {
        failure = match state {
            Ok(Some(state)) => evidence_of(failure, name, state, since_unix_ms, engine).await,
            Ok(None) | Err(_) => failure,
        };
    }
    failure
}

/// The same of one.
pub(super) async fn evidence_of(
    mut failure: StepFailure,
    name: &ContainerName,
    state: &ContainerState,
    since_unix_ms: i64,
    engine: &Engine,
) -> StepFailure {
    let mut lines = vec![line(state)];
    lines.extend(state.health.as_ref().map(|health| format!("healthcheck: {}", health.output)));
    failure = failure.with(format!("container {name}"), lines);
    match engine.tail(name, since_unix_ms / 1000, EVIDENCE_LINES).await {
        Ok(lines) => failure = failure.with(format!("log of container {name}"), lines),
        Err(error) => tracing::debug!(%name, %error, "its log cannot be read"),
    }
    failure
}

#[cfg(test)]
mod tests;
