//! A rollout in words: the final table, the failures with their evidence, and what to do next. Used by `cmd/rollout` and at
//! the end of `cmd/watch`.

use comfy_table::Cell;
use drover_proto::{
    rollout::{HostState, RolloutState},
    status::{Evidence, Failure},
    view::{RolloutHostView, RolloutView},
};
use owo_colors::OwoColorize as _;

use super::{
    count, plain, short,
    table::{finish, paint, state_cell, table},
};
use crate::fault::Exit;

/// How a command that watched a rollout to this state ends.
#[must_use]
pub fn exit(state: &RolloutState) -> Exit {
    match state {
        RolloutState::Succeeded => Exit::Done,
        RolloutState::Planned
        | RolloutState::Running
        | RolloutState::Paused { .. }
        | RolloutState::RollingBack { .. }
        | RolloutState::RolledBack { .. }
        | RolloutState::RollbackFailed { .. }
        | RolloutState::Failed { .. }
        | RolloutState::Superseded { .. }
        | RolloutState::Aborted { .. } => Exit::Error,
    }
}

/// `mono/17`, or `removal of mono`.
#[must_use]
pub fn subject(view: &RolloutView) -> String {
    let summary = &view.summary;
    match summary.release {
        Some(_) if summary.kind == "restart" => format!("restart of {}", summary.app),
        Some(number) => format!("{}/{number}", summary.app),
        None => format!("removal of {}", summary.app),
    }
}

/// One word for a host: where an app was taken away, a host that is done is `removed`.
#[must_use]
pub fn state_word(view: &RolloutView, target: &RolloutHostView) -> &'static str {
    match (view.summary.release, &target.state) {
        (None, HostState::Healthy) => "removed",
        _ => target.state.word(),
    }
}

/// Everything about it: a line, the hosts, failures, what to do next.
#[must_use]
pub fn text(view: &RolloutView) -> String {
    let mut out = hosts(view);
    for target in &view.targets {
        if let Some(failure) = &target.failure {
            push(&mut out, "");
            push(&mut out, &failure_text(target.host.as_str(), failure));
        } else if short(&target.state.detail()) != plain(&target.state.detail()) {
            push(&mut out, "");
            push(&mut out, &format!("{}: {}", target.host.bold(), plain(&target.state.detail())));
        }
    }
    push(&mut out, "");
    push(&mut out, &verdict(view));
    let next = next_steps(view);
    if !next.is_empty() {
        push(&mut out, "Next:");
        next.iter().for_each(|step| push(&mut out, &format!("  {step}")));
    }
    out
}

/// `rollout 7: mono/17 rolled_back: cause`.
#[must_use]
pub fn verdict(view: &RolloutView) -> String {
    let word = view.summary.state.word();
    let reason = view.summary.state.reason().map(|r| format!(": {}", short(&r))).unwrap_or_default();
    format!("rollout {}: {} {}{reason}", view.summary.id, subject(view), paint(word, word))
}

fn hosts(view: &RolloutView) -> String {
    let mut rows = table(&["HOST", "STATE", "BEFORE", "DETAIL"]);
    for target in &view.targets {
        let before = target.before.map_or_else(|| "-".to_owned(), |number| number.to_string());
        rows.add_row(vec![
            Cell::new(&target.host),
            state_cell(state_word(view, target)),
            Cell::new(before),
            Cell::new(short(&target.state.detail())),
        ]);
    }
    finish(&rows, "no hosts")
}

/// The cause and the evidence of a failure, indented.
#[must_use]
pub fn failure_text(host: &str, failure: &Failure) -> String {
    let mut out = format!("{}: {}\n", host.bold(), plain(&failure.cause).red());
    push(&mut out, &format!("  {} failed at step: {} [{}]", failure.release, plain(&failure.step), failure.code));
    failure.evidence.iter().for_each(|evidence| evidence_text(&mut out, evidence));
    out.truncate(out.trim_end().len());
    out
}

fn evidence_text(out: &mut String, evidence: &Evidence) {
    push(out, &format!("  {}", plain(&evidence.title).cyan()));
    for text in &evidence.lines {
        push(out, &format!("    {}", plain(text)));
    }
}

/// What an operator would type next.
#[must_use]
pub fn next_steps(view: &RolloutView) -> Vec<String> {
    let (id, app) = (view.summary.id, &view.summary.app);
    let mut steps = Vec::new();
    if let RolloutState::Paused { .. } = view.summary.state {
        steps.push(format!("drover rollout resume {id}    go on"));
        steps.push(format!("drover rollout abort {id}     end it and leave the hosts as they are"));
    }
    if let Some(host) = view.targets.iter().find(|t| is_bad(t)).map(|t| &t.host) {
        steps.push(format!("drover why {host} {app}"));
        steps.push(format!("drover logs {app} --host {host}"));
    }
    if matches!(
        view.summary.state,
        RolloutState::Failed { .. } | RolloutState::Aborted { .. } | RolloutState::RollbackFailed { .. }
    ) {
        steps.push(format!("drover rollback {app}"));
    }
    if !steps.is_empty() {
        steps.push(format!("drover rollout status {id}"));
    }
    steps
}

fn is_bad(target: &RolloutHostView) -> bool {
    target.failure.is_some()
        || match &target.state {
            HostState::Failed { .. } | HostState::Reverting { .. } | HostState::Unreachable { .. } => true,
            HostState::Reverted { .. }
            | HostState::Pending
            | HostState::Fetching { .. }
            | HostState::Staged { .. }
            | HostState::Activating { .. }
            | HostState::Gating { .. }
            | HostState::Healthy
            | HostState::Skipped { .. } => false,
        }
}

/// `2 healthy, 1 pending`: how the hosts are spread over the states.
#[must_use]
pub fn spread(view: &RolloutView) -> String {
    let mut words: Vec<(&str, usize)> = Vec::new();
    for target in &view.targets {
        let state = state_word(view, target);
        match words.iter_mut().find(|(word, _)| *word == state) {
            Some((_, number)) => *number += 1,
            None => words.push((state, 1)),
        }
    }
    let said: Vec<String> = words.iter().map(|(word, number)| format!("{number} {word}")).collect();
    format!("{}: {}", count(view.targets.len(), "host"), said.join(", "))
}

fn push(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
pub(crate) mod tests;
