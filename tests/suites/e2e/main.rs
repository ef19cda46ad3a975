//! drover from end to end on real hosts: packages installed by dpkg, the operator's own command, real systemd and nginx.

mod alerting;
mod checks;
mod alerts_apps;
mod alerts_host;
mod cordon;
mod certificates;
mod compose;
mod containers;
mod deploy;
mod events;
mod examples;
mod failures;
mod files;
mod fleet_metrics;
mod git;
mod handover;
mod hooks;
mod identity;
mod imported;
mod interruptions;
mod jobs;
mod luck;
mod metrics;
mod mono;
mod notifiers;
mod operations;
mod restart;
mod sources;
mod overlap;
mod preflight;
mod replayed;
mod scripted;
mod selfcare;
mod usage;
mod watched;

use drover_tests::{
    fleet::{Cli, Fleet},
    lab::Host,
};
use serde_json::Value;

/// What the tiny app on a host answers; `Null` when it does not.
fn tiny_says(host: &Host) -> Value {
    let output = host.exec(&["curl", "-s", "-m", "2", "http://127.0.0.1:8000/"]);
    serde_json::from_str(&output.stdout).unwrap_or(Value::Null)
}

/// The newest rollout of an app.
#[track_caller]
fn newest_rollout(cli: &Cli, app: &str) -> Value {
    let list = cli.json(&["rollout", "list", app]);
    let newest = list.as_array().into_iter().flatten().max_by_key(|r| r["id"].as_u64());
    newest.cloned().unwrap_or_else(|| panic!("{app} has no rollout: {list}"))
}

/// The state of one host in the newest rollout of an app.
#[track_caller]
fn host_in_rollout(cli: &Cli, app: &str, host: &str) -> Value {
    let id = newest_rollout(cli, app)["id"].to_string();
    let view = cli.json(&["rollout", "status", &id]);
    let found = view["targets"].as_array().into_iter().flatten().find(|t| t["host"] == host);
    found.cloned().unwrap_or_else(|| panic!("{host} is not in rollout {id}: {view:#}"))
}

/// The version that every host of the fleet serves.
#[track_caller]
fn assert_serving(fleet: &Fleet, version: &str) {
    for host in &fleet.hosts {
        let says = tiny_says(host);
        assert_eq!(says["version"], version, "{} says {says}", host.name());
        assert_eq!(says["status"], "ok", "{} says {says}", host.name());
    }
}
