//! What bad releases get: the old one serves, and the message says why.

use std::time::{Duration, Instant};

use drover_tests::{fleet::Fleet, lab::eventually, tiny::Tiny};

use crate::{assert_serving, host_in_rollout, newest_rollout, tiny_says};

/// A fleet of one with version 1 healthy.
fn running() -> (Fleet, Tiny) {
    let fleet = Fleet::start(&["web-1"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_serving(&fleet, "1");
    (fleet, tiny)
}

/// Applies and expects the failure to be told with these words, the old release running, and (when the switch was never
/// reached) its very process untouched.
#[track_caller]
fn refused(fleet: &Fleet, tiny: &Tiny, words: &[&str], untouched: bool) {
    let before = fleet.hosts[0].main_pid("tiny.service");
    let output = fleet.alice.apply(&tiny.manifest());
    assert_eq!(output.status, 1, "{output}");
    let said = output.fails();
    for word in words {
        assert!(said.contains(word), "{word:?} is not said:\n{said}");
    }
    if untouched {
        assert_eq!(fleet.hosts[0].main_pid("tiny.service"), before, "the old release was never touched");
    }
    assert_serving(fleet, "1");
}

#[test]
fn what_fails_before_the_switch_leaves_the_old_process_alone() {
    let (fleet, tiny) = running();
    let build = |step: &str, timeout: &str| {
        format!("artifact:\n  path: ./app\n  build: {{ user: www-data, timeout: {timeout}, run: [{step}] }}")
    };
    let tiny = tiny.version("2").edit("artifact:\n  path: ./app", &build("[/bin/ls, /no/such/place]", "30s"));
    refused(&fleet, &tiny, &["/no/such/place", "build"], true);

    let tiny = tiny.edit("[/bin/ls, /no/such/place]", "[/bin/sleep, \"600\"]").edit("timeout: 30s", "timeout: 2s");
    let begun = Instant::now();
    refused(&fleet, &tiny, &["2s", "sleep"], true);
    assert!(begun.elapsed().as_secs() < 30, "a build that hangs is ended");
    assert!(!fleet.hosts[0].exec(&["pgrep", "-f", "sleep 600"]).success(), "nothing of it is left");

    let tiny = Tiny::new().version("2").append(
        "files:\n  - { path: /etc/nginx/sites-enabled/tiny, content: \"server { lisssten 80; }\", validate: [nginx, -t], reload: nginx.service }",
    );
    let nginx = fleet.hosts[0].main_pid("nginx.service");
    refused(&fleet, &tiny, &["nginx -t", "lisssten"], true);
    assert!(!fleet.hosts[0].exists("/etc/nginx/sites-enabled/tiny"), "the bad site is gone again");
    assert_eq!(fleet.hosts[0].main_pid("nginx.service"), nginx);
    fleet.hosts[0].exec(&["nginx", "-t"]).ok();

    let tiny = Tiny::new()
        .version("2")
        .append("hooks:\n  before_switch:\n    - { run: [/bin/false], user: www-data, timeout: 5s }");
    refused(&fleet, &tiny, &["/bin/false"], true);
}

#[test]
fn what_fails_in_the_gate_is_reverted_with_its_cause() {
    let (fleet, tiny) = running();
    let host = &fleet.hosts[0];

    let tiny = tiny.version("2").behave("500").edit("healthy_deadline: 12s", "healthy_deadline: 7s");
    refused(&fleet, &tiny, &["check web", "500"], false);
    let why = fleet.alice.run(&["why", "web-1", "tiny"]).ok();
    assert!(
        why.contains("tiny/2") && why.contains("broken"),
        "the refused release and the body it answered with: {why}"
    );
    let failed = host_in_rollout(&fleet.alice, "tiny", "web-1");
    assert_eq!(failed["state"]["state"], "reverted", "{failed:#}");
    assert_eq!(newest_rollout(&fleet.alice, "tiny")["state"]["state"], "rolled_back");

    let tiny = tiny
        .version("3")
        .behave("exit-after-3s")
        .edit("min_healthy_time: 1s, healthy_deadline: 7s", "min_healthy_time: 5s, healthy_deadline: 12s");
    refused(&fleet, &tiny, &["exited with code 7", "the database is not there"], false);

    let tiny = tiny.version("4").behave("ok-then-500");
    refused(&fleet, &tiny, &["500"], false);

    let tiny = tiny.version("5").behave("never-notify");
    refused(&fleet, &tiny, &["never", "ready"], false);

    let tiny = tiny.version("6").behave("ok");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_serving(&fleet, "6");
    assert!(host.journal("drover-agent").contains("tiny"), "the agent's log tells of it");
}

#[test]
fn a_first_release_that_fails_leaves_nothing_but_its_cause() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = Tiny::new().behave("500").edit("healthy_deadline: 12s", "healthy_deadline: 5s");
    fleet.alice.apply(&tiny.manifest()).fails();
    eventually("its unit is gone", Duration::from_secs(10), || !host.exists("/etc/systemd/system/tiny.service"));
    assert!(!host.is_active("tiny.service"));
    let why = fleet.alice.run(&["why", "web-1", "tiny"]).ok();
    assert!(why.contains("tiny/1") && why.contains("500"), "{why}");
}

#[test]
fn a_failed_release_stops_the_rollout_and_takes_the_first_hosts_back() {
    let fleet = Fleet::start(&["web-1", "web-2", "web-3"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    // Only the second host cannot run the new release: something else holds the port that it needs.
    let tiny = tiny.version("2").edit("PORT: \"8000\"", "PORT: \"8001\"").edit("127.0.0.1:8000", "127.0.0.1:8001");
    let second = fleet.host("web-2");
    second.sh("systemd-run --quiet --unit=squatter python3 -m http.server 8001 --bind 0.0.0.0");
    let said = fleet.alice.apply(&tiny.manifest()).fails();
    assert!(said.contains("web-2"), "{said}");
    assert_serving(&fleet, "1");
    assert_eq!(host_in_rollout(&fleet.alice, "tiny", "web-2")["state"]["state"], "reverted");
    for other in ["web-1", "web-3"] {
        // Moved before it and taken back, or never reached: the order among equals is that of their random ids.
        let view = host_in_rollout(&fleet.alice, "tiny", other);
        assert!(view["state"]["state"] == "reverted" || view["state"]["state"] == "skipped", "{view:#}");
    }
    let list = fleet.alice.json(&["status", "tiny"]);
    assert_eq!(list[0]["last_good"], 1, "{list:#}");

    let tiny = tiny.edit("on_failure: rollback", "on_failure: continue");
    let output = fleet.alice.apply(&tiny.manifest());
    assert_eq!(output.status, 1, "{output}");
    assert_eq!(newest_rollout(&fleet.alice, "tiny")["state"]["state"], "failed");
    assert_eq!(tiny_says(second)["version"], "1");
    let third = fleet.host("web-3").exec(&["curl", "-s", "http://127.0.0.1:8001/"]).ok();
    assert!(third.contains("\"2\""), "the others went on: {third}");
}
