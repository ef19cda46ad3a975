//! Things that die or go away in the middle.

use std::{process::Stdio, time::Duration};

use drover_tests::{fleet::Fleet, lab::eventually, tiny::Tiny};

use crate::{assert_serving, host_in_rollout, newest_rollout, tiny_says};

const SOON: Duration = Duration::from_secs(40);

/// Waits until a host of the newest rollout is in a state.
#[track_caller]
fn wait_for(fleet: &Fleet, host: &str, state: &str) {
    eventually(&format!("{host} is {state}"), SOON, || {
        let view = host_in_rollout(&fleet.alice, "tiny", host);
        if view["state"]["state"] == state { Ok(()) } else { Err(format!("{view:#}")) }
    });
}

/// Waits until the newest rollout is in a state.
#[track_caller]
fn wait_for_rollout(fleet: &Fleet, state: &str) {
    eventually(&format!("the rollout is {state}"), Duration::from_secs(90), || {
        let view = newest_rollout(&fleet.alice, "tiny");
        if view["state"]["state"] == state { Ok(()) } else { Err(format!("{view:#}")) }
    });
}

#[test]
fn an_agent_killed_in_the_gate_goes_on_with_it() {
    let fleet = Fleet::start(&["web-1"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let tiny = tiny.version("2").edit("min_healthy_time: 1s", "min_healthy_time: 4s");
    fleet.alice.run(&["apply", "--detach", "-f", &tiny.manifest().display().to_string()]).ok();
    wait_for(&fleet, "web-1", "gating");
    let host = &fleet.hosts[0];
    let workload = host.main_pid("tiny.service");
    host.exec(&["systemctl", "kill", "-s", "KILL", "drover-agent"]).ok();
    wait_for_rollout(&fleet, "succeeded");
    assert_serving(&fleet, "2");
    assert_eq!(host.main_pid("tiny.service"), workload, "going on restarts nothing");
    assert!(host.journal("drover-agent").contains("going on"), "it says that it goes on");

    // The same with a release that is broken: it is reverted all the same.
    let tiny = tiny.version("3").behave("500");
    fleet.alice.run(&["apply", "--detach", "-f", &tiny.manifest().display().to_string()]).ok();
    wait_for(&fleet, "web-1", "gating");
    host.exec(&["systemctl", "kill", "-s", "KILL", "drover-agent"]).ok();
    wait_for_rollout(&fleet, "rolled_back");
    assert_serving(&fleet, "2");
}

#[test]
fn a_host_rebooted_in_the_gate_ends_well() {
    let fleet = Fleet::start(&["web-1"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let tiny = tiny
        .version("2")
        .edit("min_healthy_time: 1s", "min_healthy_time: 6s")
        .edit("healthy_deadline: 12s", "healthy_deadline: 30s");
    fleet.alice.run(&["apply", "--detach", "-f", &tiny.manifest().display().to_string()]).ok();
    wait_for(&fleet, "web-1", "gating");
    fleet.hosts[0].power_cut();
    fleet.hosts[0].boot();
    wait_for_rollout(&fleet, "succeeded");
    assert_serving(&fleet, "2");
}

#[test]
fn a_coordinator_killed_in_a_rollout_resumes_it() {
    let fleet = Fleet::start(&["web-1", "web-2", "web-3"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let first = fleet.host("web-1").main_pid("tiny.service");
    fleet.coordinator.exec(&["systemctl", "restart", "drover-coordinator"]).ok();
    eventually("all are back", SOON, || {
        let up = fleet.alice.run(&["hosts", "-o", "json"]).stdout.matches("\"connected\": true").count();
        if up == 3 { Ok(()) } else { Err(format!("{up} are connected")) }
    });
    assert_eq!(fleet.host("web-1").main_pid("tiny.service"), first, "no workload is restarted");

    let tiny = tiny.version("2").edit("min_healthy_time: 1s", "min_healthy_time: 3s");
    let mut watcher = fleet.alice.command(&["apply", "-f", &tiny.manifest().display().to_string()]);
    let watcher = watcher.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command runs");
    wait_for(&fleet, "web-1", "gating");
    fleet.coordinator.exec(&["systemctl", "kill", "-s", "KILL", "drover-coordinator"]).ok();
    let output = watcher.wait_with_output().expect("the command ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the operator's command watches through it:\n{said}");
    assert_serving(&fleet, "2");
    assert_eq!(newest_rollout(&fleet.alice, "tiny")["state"]["state"], "succeeded");
}

#[test]
fn a_host_cut_off_in_the_middle_finishes_alone_and_is_believed_when_back() {
    let fleet = Fleet::start(&["web-1", "web-2"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let tiny = tiny.version("2").edit("min_healthy_time: 1s", "min_healthy_time: 3s");
    fleet.alice.run(&["apply", "--detach", "-f", &tiny.manifest().display().to_string()]).ok();
    wait_for(&fleet, "web-1", "gating");
    let cut = fleet.host("web-1");
    cut.cut(&fleet.coordinator);
    eventually("the host finishes alone", SOON, || {
        let says = tiny_says(cut);
        if says["version"] == "2" { Ok(()) } else { Err(says.to_string()) }
    });
    cut.heal(&fleet.coordinator);
    wait_for_rollout(&fleet, "succeeded");
    assert_serving(&fleet, "2");
}

#[test]
fn an_offline_host_is_skipped_and_converges_when_it_is_back() {
    let fleet = Fleet::start(&["web-1", "web-2"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    fleet.host("web-2").cut(&fleet.coordinator);
    eventually("the coordinator sees it go", SOON, || {
        fleet.alice.json(&["hosts", "show", "web-2"])["connected"] == false
    });
    let tiny = tiny.version("2");
    let manifest = tiny.manifest().display().to_string();
    let plan = fleet.alice.run(&["plan", "-f", &manifest]);
    assert_eq!(plan.status, 2);
    assert!(plan.stdout.contains("unknown"), "an offline host is unknown: {plan}");
    let said = fleet.alice.apply(&tiny.manifest()).ok();
    assert!(said.contains("skipped"), "{said}");
    assert_eq!(tiny_says(fleet.host("web-1"))["version"], "2");
    assert_eq!(tiny_says(fleet.host("web-2"))["version"], "1", "the cut off host serves on");
    fleet.host("web-2").heal(&fleet.coordinator);
    eventually("it converges", SOON, || {
        let says = tiny_says(fleet.host("web-2"));
        if says["version"] == "2" { Ok(()) } else { Err(says.to_string()) }
    });
}
