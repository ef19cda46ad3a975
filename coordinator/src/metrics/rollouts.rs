//! Rollouts, as Prometheus is told of them: how many, and the newest one by one. Part of `metrics`.

use std::collections::BTreeMap;

use drover_exposition::text::{Kind, Text};
use drover_proto::{name::ReleaseNumber, view::RolloutSummary};

use crate::{rollout::state::Rollout, store::Tallied};

/// Of those that have not ended.
const STATES: [&str; 4] = ["planned", "running", "paused", "rolling_back"];

/// What the samples of one rollout are labelled with.
struct Row {
    summary: RolloutSummary,
    id: String,
    release: String,
}

pub(super) fn write(active: &[Rollout], newest: &[Rollout], tallied: &Tallied, text: &mut Text) {
    let (mut states, mut hosts) = (BTreeMap::from(STATES.map(|state| (state.to_owned(), 0_u64))), BTreeMap::new());
    for summary in active.iter().map(Rollout::summary).filter(|summary| !summary.state.is_final()) {
        *states.entry(summary.state.word().to_owned()).or_default() += 1;
        for (state, count) in summary.hosts {
            *hosts.entry(state).or_default() += count as u64;
        }
    }
    let help = "Rollouts that have not ended, by state.";
    by_state(text, Kind::Gauge, "drover_coordinator_rollouts", help, &states);
    let help = "Hosts of rollouts that have not ended, by state.";
    by_state(text, Kind::Gauge, "drover_coordinator_rollout_hosts", help, &hosts);
    text.counter("drover_coordinator_rollouts_started_total", "Rollouts that were begun.")
        .value(tallied.rollouts_started);
    let help = "Rollouts that have ended, by their last state.";
    by_state(text, Kind::Counter, "drover_coordinator_rollouts_ended_total", help, &tallied.rollouts_ended);
    one_by_one(newest, text);
}

fn by_state(text: &mut Text, kind: Kind, name: &str, help: &str, counts: &BTreeMap<String, u64>) {
    let mut family = text.family(kind, name, help);
    for (state, count) in counts {
        family.sample(&[("state", state)], count);
    }
}

fn one_by_one(newest: &[Rollout], text: &mut Text) {
    let release = |number: Option<ReleaseNumber>| number.map(|number| number.to_string()).unwrap_or_default();
    let rows: Vec<Row> = newest
        .iter()
        .map(Rollout::summary)
        .map(|summary| Row { id: summary.id.to_string(), release: release(summary.release), summary })
        .collect();
    let help = "The newest rollouts, each with the state that it is in; always 1.";
    let mut family = text.gauge("drover_rollout_state", help);
    for Row { summary, id, release } in &rows {
        let labels = [
            ("app", summary.app.as_str()),
            ("kind", &summary.kind),
            ("release", release),
            ("rollout", id),
            ("state", summary.state.word()),
        ];
        family.sample(&labels, 1);
    }
    let help = "Hosts of the newest rollouts, by state.";
    let mut family = text.gauge("drover_rollout_hosts", help);
    for Row { summary, id, .. } in &rows {
        for (state, count) in &summary.hosts {
            family.sample(&[("app", summary.app.as_str()), ("rollout", id), ("state", state)], count);
        }
    }
    fn labels(row: &Row) -> [(&'static str, &str); 2] {
        [("app", row.summary.app.as_str()), ("rollout", &row.id)]
    }
    let seconds = |unix_ms: i64| unix_ms as f64 / 1000.0;
    let help = "When a rollout began, in unixtime.";
    text.column((Kind::Gauge, "drover_rollout_started_timestamp_seconds", help), &rows, labels, |row| {
        Some(seconds(row.summary.started_unix_ms))
    });
    let help = "When a rollout ended, in unixtime.";
    text.column((Kind::Gauge, "drover_rollout_ended_timestamp_seconds", help), &rows, labels, |row| {
        row.summary.ended_unix_ms.map(seconds)
    });
}
