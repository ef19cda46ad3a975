//! Alerts of a host: a unit that fails and a disk that is full are seen there, told as events, survive the agent's restart, end, and
//! keep a release from being healthy.

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually},
    tiny::Tiny,
};
use serde_json::Value;

use crate::tiny_says;

const SOON: Duration = Duration::from_secs(20);
/// The status file is written at most once a second.
const AT_ONCE: Duration = Duration::from_secs(4);
const RULES: &str = r#"
# The kernel counts these for all hosts of the lab together.
off = ["oom"]
[rules.full]
when = "disk /mnt/full > 90% for 2s"
clear = "50%"
every = "1s"
severity = "critical"

[rules.full-for-long]
when = "disk /mnt/full > 90% for 5m"
"#;

/// What the agent reports of an alert.
#[track_caller]
fn alert(host: &Host, name: &str) -> Option<Value> {
    let said = host.exec(&["drover-agent", "status"]).ok();
    let (_, json) = said.split_once('\n').unwrap_or_else(|| panic!("{said}"));
    let status: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {said}"));
    status["alerts"].as_array().into_iter().flatten().find(|alert| alert["alert"] == name).cloned()
}

#[track_caller]
pub fn firing(host: &Host, name: &str, within: Duration) -> Value {
    eventually(&format!("alert {name} fires"), within, || match alert(host, name) {
        Some(alert) if alert["state"] == "firing" => Ok(alert),
        other => Err(format!("{other:?}")),
    })
}

#[track_caller]
fn over(host: &Host, name: &str, within: Duration) {
    eventually(&format!("alert {name} is over"), within, || match alert(host, name) {
        None => Ok(()),
        Some(alert) => Err(alert.to_string()),
    });
}

/// Which events of alerts the coordinator has of the host, oldest first.
pub fn told(fleet: &Fleet) -> Vec<(String, String)> {
    let all = fleet.alice.json(&["events", "--host", "web-1", "-n", "10000"]);
    let word = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let all = all.as_array().into_iter().flatten().map(|event| (word(event, "kind"), word(event, "message")));
    all.filter(|(kind, _)| kind.starts_with("alert-")).collect()
}

#[test]
fn a_failed_unit_and_a_full_disk_are_told_once_and_keep_releases_back() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    host.write_file("/etc/systemd/system/bad.service", b"[Service]\nExecStart=/bin/false\n");
    fleet.coordinator.write_file("/etc/drover/alerting.toml", RULES.as_bytes());
    fleet.coordinator.exec(&["systemctl", "reload", "drover-coordinator"]).ok();
    host.sh("mkdir -p /mnt/full; mount -t tmpfs -o size=8m full /mnt/full");
    host.sh("systemctl daemon-reload; systemctl start bad || true");
    let unit = firing(host, "unit", SOON);
    assert_eq!((&unit["subject"], &unit["summary"]), (&"bad.service".into(), &"unit bad.service has failed".into()));

    host.sh("head -c 7800000 /dev/zero > /mnt/full/x");
    let full = firing(host, "full", SOON);
    assert_eq!((&full["subject"], &full["severity"]), (&"/mnt/full".into(), &"critical".into()));
    let summary = full["summary"].as_str().unwrap_or_default();
    assert!(summary.starts_with("disk /mnt/full is 9") && summary.ends_with("% full, more than 90% for 2s"), "{full}");
    // One that takes its time.
    let pending = eventually("it is pending", SOON, || alert(host, "full-for-long").ok_or("not yet"));
    assert_eq!((&pending["state"], &pending["subject"]), (&"pending".into(), &"/mnt/full".into()));
    // What is in memory anybody may fill: no rule counts it that does not name it, such as those that are built in.
    assert_eq!((alert(host, "disk"), alert(host, "disk-critical")), (None, None));
    let metrics = host.exec(&["curl", "-fsS", "http://127.0.0.1:7444/metrics"]).ok();
    let line = r#"drover_alerts{alert="full",app="",severity="critical",state="firing",subject="/mnt/full"} 1"#;
    assert!(metrics.lines().any(|other| other == line), "{metrics}");

    // Neither told anew nor forgotten.
    let kill = |signal| {
        host.sh(&format!("systemctl kill -s {signal} drover-agent; sleep 4; systemctl is-active drover-agent"))
    };
    kill("KILL");
    kill("TERM");
    assert_eq!(
        (alert(host, "full"), alert(host, "unit"), alert(host, "full-for-long")),
        (Some(full), Some(unit), Some(pending))
    );

    let tiny = Tiny::new().edit("healthy_deadline: 12s", "healthy_deadline: 6s");
    let failed = fleet.alice.apply(&tiny.manifest()).fails();
    let cause = "the critical alert full of the host fires, already before this activation began: disk /mnt/full is 9";
    assert!(failed.contains(cause), "{failed}");
    assert_eq!(tiny_says(host), Value::Null, "it is gone again");

    host.sh("rm /mnt/full/x");
    over(host, "full", AT_ONCE);
    host.sh("systemctl reset-failed bad");
    over(host, "unit", AT_ONCE);
    over(host, "full-for-long", SOON);
    fleet.alice.apply(&tiny.version("2").manifest()).ok();
    let told = eventually("all is told", SOON, || match told(&fleet) {
        told if told.len() >= 4 => Ok(told),
        told => Err(format!("{told:?}")),
    });
    let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["alert-firing", "alert-firing", "alert-resolved", "alert-resolved"], "{told:#?}");
    assert!(told[2].1.starts_with("alert full of /mnt/full is over after "), "{told:#?}");
}
