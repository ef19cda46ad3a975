//! Hooks: those that run once, whoever dies in their middle, and what they said.

use std::time::Duration;

use drover_tests::{fleet::Fleet, lab::eventually, tiny::Tiny};

use crate::{assert_serving, newest_rollout};

const SOON: Duration = Duration::from_secs(40);
const HOSTS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// A tiny app with one hook before the switch that leaves a line in a file, and is then `rest`.
fn with_migration(version: &str, rest: &str) -> Tiny {
    let hook = format!(
        "hooks:\n  before_switch:\n    - name: migrate\n      run_once: true\n      user: root\n      env: [KEY]\n      \
         run: [/bin/sh, -c, 'echo {version} >> /var/tmp/migrations; {rest}']"
    );
    Tiny::new()
        .version(version)
        .edit("max_parallel: 1", "max_parallel: 3, max_failures: 2")
        .edit("GREETING: hello }", "GREETING: hello }\n  secrets: { KEY: { generate: 32 } }")
        .append(&hook)
}

/// How often the migration of a version was begun, over all hosts.
fn migrations(fleet: &Fleet, version: &str) -> usize {
    let on = |host: &drover_tests::lab::Host| host.exec(&["cat", "/var/tmp/migrations"]).stdout;
    fleet.hosts.iter().map(|host| on(host).lines().filter(|line| *line == version).count()).sum()
}

fn apply_detached(fleet: &Fleet, tiny: &Tiny) {
    fleet.alice.run(&["apply", "--detach", "-f", &tiny.manifest().display().to_string()]).ok();
}

#[track_caller]
fn wait_for_rollout(fleet: &Fleet, state: &str) -> String {
    let mut reason = String::new();
    eventually(&format!("the rollout is {state}"), SOON, || {
        let output = fleet.alice.run(&["rollout", "list", "tiny", "-o", "json"]);
        if !output.success() {
            return Err(output.to_string());
        }
        let view = newest_rollout(&fleet.alice, "tiny");
        reason = view["state"]["cause"].as_str().unwrap_or_default().to_owned();
        if view["state"]["state"] == state { Ok(()) } else { Err(format!("{view:#}")) }
    });
    reason
}

#[test]
fn a_migration_that_fails_ran_once_though_the_coordinator_was_killed() {
    let fleet = Fleet::start(&HOSTS);
    fleet.alice.apply(&Tiny::new().manifest()).ok();

    apply_detached(&fleet, &with_migration("2", "echo half done; sleep 3; exit 3"));
    eventually("the migration runs", SOON, || migrations(&fleet, "2") == 1);
    fleet.coordinator.exec(&["systemctl", "kill", "-s", "KILL", "drover-coordinator"]).ok();
    let reason = wait_for_rollout(&fleet, "rolled_back");
    assert!(reason.contains("exit code 3") && reason.contains("run on no other host"), "{reason}");
    assert_eq!(migrations(&fleet, "2"), 1, "on one host, once");
    assert_serving(&fleet, "1");
    let said = fleet.alice.run(&["logs", "tiny", "--hook", "migrate"]).ok();
    assert!(said.contains("half done") && said.contains("of tiny/2") && said.contains("exit code 3"), "{said}");

    // One that works: one host runs it, all get the release, and its output tells no secret.
    let good = with_migration("3", "echo migrated with $KEY");
    let plan = fleet.alice.run(&["plan", "-f", &good.manifest().display().to_string()]).stdout;
    assert_eq!(plan.matches("on this host only").count(), 1, "{plan}");
    fleet.alice.apply(&good.manifest()).ok();
    assert_eq!(migrations(&fleet, "3"), 1);
    assert_serving(&fleet, "3");
    let said = fleet.alice.run(&["logs", "tiny", "--hook"]).ok();
    assert!(said.contains("migrated with [secret]") && said.contains("exit code 0"), "{said}");
    let older = fleet.alice.run(&["logs", "tiny", "--hook", "migrate", "--release", "2"]).ok();
    assert!(older.contains("half done") && !older.contains("migrated with"), "{older}");

    // Going back and forth migrates nothing.
    fleet.alice.run(&["rollback", "tiny"]).ok();
    fleet.alice.run(&["rollback", "tiny", "--to", "3"]).ok();
    assert_serving(&fleet, "3");
    assert_eq!(migrations(&fleet, "3"), 1);
}

#[test]
fn a_migration_in_whose_middle_the_agent_is_killed_is_not_run_again() {
    let fleet = Fleet::start(&HOSTS[..2]);
    fleet.alice.apply(&Tiny::new().manifest()).ok();
    apply_detached(&fleet, &with_migration("2", "sleep 30"));
    eventually("the migration runs", SOON, || migrations(&fleet, "2") == 1);
    let one = fleet.hosts.iter().find(|host| host.exists("/var/tmp/migrations")).expect("a host that migrates");
    one.exec(&["systemctl", "kill", "-s", "KILL", "drover-agent"]).ok();
    let reason = wait_for_rollout(&fleet, "rolled_back");
    assert!(reason.contains("interrupted in the middle of hook migrate"), "{reason}");
    assert_eq!(migrations(&fleet, "2"), 1);
    assert_serving(&fleet, "1");
    let said = fleet.alice.run(&["logs", "tiny", "--hook", "migrate", "--host", one.name()]).ok();
    assert!(said.contains("interrupted; the agent was killed"), "{said}");
}
