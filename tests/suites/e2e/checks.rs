//! Checks go on after the gate: one that turns is told within seconds, by the command, the status and the metrics; one bad answer is
//! no news.

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually},
    tiny::Tiny,
};
use serde_json::Value;

/// Asked every ten seconds while it passes, and confirmed after one.
const TURNED: Duration = Duration::from_secs(20);

fn passing(fleet: &Fleet) -> Vec<(String, bool)> {
    let checks = fleet.alice.run(&["checks", "tiny", "-o", "json"]);
    let rows: Value = serde_json::from_str(&checks.stdout).unwrap_or_else(|error| panic!("{error}: {checks}"));
    let row = |row: &Value| (row["check"].as_str().unwrap_or_default().to_owned(), row["passing"] == true);
    rows.as_array().into_iter().flatten().map(row).collect()
}

fn metric(host: &Host, check: &str) -> String {
    let line = format!("drover_check_passing{{app=\"tiny\",check=\"{check}\"}} ");
    let text = host.exec(&["curl", "-fsS", "http://127.0.0.1:7444/metrics"]).ok();
    text.lines().find_map(|other| other.strip_prefix(&line)).unwrap_or("none").to_owned()
}

#[test]
fn a_check_that_turns_is_told_within_seconds() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    host.sh("touch /run/flag");
    // It counts how often it is asked, and answers what the flag says.
    let script = "#!/bin/sh\necho >> /run/asked\nexec test -e /run/flag\n";
    host.write_file("/usr/local/bin/flag", script.as_bytes());
    host.sh("chmod 755 /usr/local/bin/flag");
    let tiny = Tiny::new()
        .edit("checks:\n", "checks:\n  flag: { command: [/usr/local/bin/flag], user: root, interval: 200ms }\n");
    fleet.alice.apply(&tiny.manifest()).ok();
    let pid = host.main_pid("tiny.service");
    let (flag, web) = (|ok| ("flag".to_owned(), ok), ("web".to_owned(), true));
    assert_eq!(passing(&fleet), [flag(true), web.clone()]);
    assert_eq!(fleet.alice.run(&["checks"]).status, 0);

    host.sh("rm /run/flag");
    eventually("it fails", TURNED, || {
        let now = passing(&fleet);
        if now == [flag(false), web.clone()] { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let failing = fleet.alice.run(&["checks", "--failing"]);
    assert_eq!(failing.status, 1, "{failing}");
    assert!(
        failing.stdout.contains("/usr/local/bin/flag: exit code 1") && !failing.stdout.contains("web "),
        "{failing}"
    );
    assert_eq!((metric(host, "flag").as_str(), metric(host, "web").as_str()), ("0", "1"));
    let phase = fleet.alice.app_on("tiny", "web-1")["status"]["phase"].clone();
    assert_eq!(phase["state"], "degraded", "{phase}");

    host.sh("touch /run/flag");
    eventually("it passes again", TURNED, || {
        let now = passing(&fleet);
        if now == [flag(true), web.clone()] { Ok(()) } else { Err(format!("{now:?}")) }
    });
    assert_eq!(host.main_pid("tiny.service"), pid, "and nothing was restarted");

    // While it passes it is asked every ten seconds, whatever the gate's interval is.
    let asked = || host.sh("wc -l < /run/asked").trim().parse::<u32>().expect("a number");
    let before = asked();
    std::thread::sleep(Duration::from_secs(21));
    let times = asked() - before;
    assert!((1..=4).contains(&times), "{times}");

    fleet.alice.run(&["remove", "tiny", "--yes"]).ok();
    let before = asked();
    assert_eq!(metric(host, "flag"), "none");
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(asked(), before, "nobody asks for an app that is gone");
}

/// How often each kind of event was told of the host.
fn events(fleet: &Fleet, kind: &str) -> usize {
    let events = fleet.alice.json(&["events", "--host", "web-1", "-n", "10000"]);
    events.as_array().into_iter().flatten().filter(|event| event["kind"] == kind).count()
}

#[test]
fn a_check_restarts_its_unit_within_the_budget_and_then_leaves_it() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    host.sh("touch /run/flag");
    let check = "checks:\n  flag: { command: [/usr/bin/test, -e, /run/flag], user: root, interval: 200ms, restart: tiny.service }\n";
    let tiny =
        Tiny::new().edit("checks:\n", check).append("restart_budget: { attempts: 2, window: 10m, backoff: 500ms }\n");
    fleet.alice.apply(&tiny.manifest()).ok();
    let first = host.main_pid("tiny.service");
    host.sh("rm /run/flag");
    let spent = Duration::from_secs(60);
    eventually("the budget is spent", spent, || match events(&fleet, "restarts-spent") {
        1 => Ok(()),
        other => Err(other.to_string()),
    });
    let last = host.main_pid("tiny.service");
    assert_ne!(first, last, "it was restarted");
    std::thread::sleep(Duration::from_secs(25));
    assert_eq!(host.main_pid("tiny.service"), last, "and then left");
    assert_eq!((events(&fleet, "unit-restarted"), events(&fleet, "restarts-spent")), (2, 1));
    let failing = fleet.alice.run(&["checks", "--failing"]);
    assert!(failing.status == 1 && failing.stdout.contains("flag"), "{failing}");

    host.sh("touch /run/flag");
    eventually("it passes again", TURNED, || {
        let now = fleet.alice.run(&["checks"]);
        if now.status == 0 { Ok(()) } else { Err(now.to_string()) }
    });
}

#[test]
fn a_name_that_leads_to_the_clouds_metadata_is_not_asked() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    host.sh("echo 169.254.169.254 metadata.example >> /etc/hosts");
    let tiny = Tiny::new()
        .edit("healthy_deadline: 12s", "healthy_deadline: 4s")
        .edit("checks:\n", "checks:\n  cloud: { http: \"http://metadata.example/latest\", interval: 200ms }\n");
    let refused = fleet.alice.apply(&tiny.manifest()).fails();
    assert!(refused.contains("169.254.169.254") && refused.contains("policy"), "{refused}");
}
