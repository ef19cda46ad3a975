//! From something that goes wrong on a host to somebody who is told, over real hosts: units that fail, a host that is gone, a coordinator
//! that is away, a receiver that is.

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually},
    tiny::Tiny,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// Keeps every body that it is sent, a line each, with the time.
const RECEIVER: &str = r#"
import http.server, json, time
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with open("/run/told", "a") as told:
            told.write(json.dumps({"at": time.time(), "body": body}) + "\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 9000), Hook).serve_forever()
"#;
const ALERTING: &str = r#"
# The kernel counts these for all hosts of the lab together.
off = ["oom"]
[rules.unreachable]
when = "host unreachable for 5s"
severity = "critical"

[notifiers.hook]
type = "webhook"
url = "http://127.0.0.1:9000/"

[[routes]]
notify = ["hook"]
group_by = ["alert", "host"]
group_interval = "1s"
"#;

fn fleet(names: &[&str]) -> Fleet {
    let fleet = Fleet::start(names);
    let coordinator = &fleet.coordinator;
    coordinator.write_file("/usr/local/bin/receiver.py", RECEIVER.as_bytes());
    receiver(coordinator, true);
    coordinator.write_file("/etc/drover/alerting.toml", ALERTING.as_bytes());
    coordinator.exec(&["drover-coordinator", "check-alerting"]).ok();
    coordinator.exec(&["systemctl", "reload", "drover-coordinator"]).ok();
    eventually("the receiver is there", SOON, || {
        let tested = fleet.alice.run(&["notify", "test", "hook"]);
        if tested.status == 0 { Ok(()) } else { Err(tested.to_string()) }
    });
    coordinator.sh("rm -f /run/told");
    fleet
}

fn receiver(coordinator: &Host, up: bool) {
    if up {
        coordinator.exec(&["systemd-run", "--unit=receiver", "python3", "/usr/local/bin/receiver.py"]).ok();
    } else {
        coordinator.exec(&["systemctl", "stop", "receiver"]).ok();
    }
}

/// What was told so far: of each alert, `+alert host subject` or `-alert host subject`, in order.
fn told(coordinator: &Host) -> Vec<String> {
    let text = coordinator.sh("cat /run/told 2>/dev/null || true");
    let bodies = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line"));
    let alerts = bodies.flat_map(|line| line["body"]["alerts"].as_array().cloned().unwrap_or_default());
    let word = |alert: Value| {
        let sign = if alert["status"] == "resolved" { '-' } else { '+' };
        let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        format!("{sign}{} {} {}", label("alert"), label("host"), label("subject")).trim_end().to_owned()
    };
    alerts.map(word).collect()
}

#[track_caller]
fn wait_for(coordinator: &Host, wanted: &[&str]) {
    eventually(&format!("{wanted:?} is told"), SOON, || {
        let said = told(coordinator);
        if said == wanted { Ok(()) } else { Err(format!("{said:?}")) }
    });
}

fn fails(host: &Host, unit: &str) {
    host.sh(&format!("systemd-run --unit={unit} false"));
}

fn forgives(host: &Host, unit: &str) {
    host.exec(&["systemctl", "reset-failed", unit]).ok();
}

#[test]
fn what_goes_wrong_is_told_once_whoever_is_away_meanwhile() {
    let fleet = fleet(&["web-1", "web-2"]);
    let (coordinator, [one, two]) = (&fleet.coordinator, &fleet.hosts[..2]) else { panic!("two hosts") };
    fails(one, "broken");
    let mut all = vec!["+unit web-1 broken.service"];
    wait_for(coordinator, &all);
    let listed = fleet.alice.run(&["alerts"]);
    assert!(listed.status == 1 && listed.stdout.contains("broken.service"), "{listed}");
    forgives(one, "broken");
    all.push("-unit web-1 broken.service");
    wait_for(coordinator, &all);
    assert_eq!(fleet.alice.run(&["alerts"]).status, 0);

    // The coordinator is away: the host sees it all the same, and it is told when the coordinator is back.
    coordinator.exec(&["systemctl", "stop", "drover-coordinator"]).ok();
    fails(two, "worse");
    eventually("the host knows", SOON, || {
        let status = two.sh("drover-agent status");
        if status.contains("worse.service") { Ok(()) } else { Err(status) }
    });
    coordinator.exec(&["systemctl", "start", "drover-coordinator"]).ok();
    all.push("+unit web-2 worse.service");
    wait_for(coordinator, &all);
    // An agent and a coordinator that start anew resolve nothing and tell nothing twice.
    two.exec(&["systemctl", "restart", "drover-agent"]).ok();
    coordinator.exec(&["systemctl", "kill", "-s", "KILL", "drover-coordinator"]).ok();
    std::thread::sleep(Duration::from_secs(12));
    wait_for(coordinator, &all);

    // The receiver is away.
    receiver(coordinator, false);
    forgives(two, "worse");
    eventually("the failure shows", SOON, || {
        let listed = fleet.alice.run(&["notify", "list"]);
        if listed.stdout.contains("failing") { Ok(()) } else { Err(listed.to_string()) }
    });
    receiver(coordinator, true);
    all.push("-unit web-2 worse.service");
    wait_for(coordinator, &all);

    // A host that is gone, and back.
    two.exec(&["systemctl", "stop", "drover-agent"]).ok();
    all.push("+unreachable web-2");
    wait_for(coordinator, &all);
    let shown = fleet.alice.run(&["hosts", "show", "web-2"]).ok();
    assert!(shown.contains("unreachable") && shown.contains("firing"), "{shown}");
    two.exec(&["systemctl", "start", "drover-agent"]).ok();
    all.push("-unreachable web-2");
    wait_for(coordinator, &all);
    let events = fleet.alice.run(&["events"]).ok();
    for kind in ["alert-firing", "alert-resolved", "fleet-alert-firing", "fleet-alert-resolved"] {
        assert!(events.contains(kind), "{kind}: {events}");
    }
}

#[test]
fn silences_hold_back_and_a_file_that_is_wrong_changes_nothing() {
    let fleet = fleet(&["web-1"]);
    let (coordinator, host) = (&fleet.coordinator, &fleet.hosts[0]);
    let silence = fleet.alice.json(&["silence", "add", "host=web-1", "--for", "1h", "--reason", "a test"]);
    fails(host, "broken");
    eventually("it is listed, and held back", SOON, || {
        let listed = fleet.alice.run(&["alerts"]);
        let held = |line: &str| line.contains("broken.service") && line.contains("a test");
        if listed.status == 0 && listed.stdout.lines().any(held) { Ok(()) } else { Err(listed.to_string()) }
    });
    let shown = fleet.alice.run(&["hosts", "show", "web-1"]).ok();
    assert!(shown.contains("broken.service") && shown.contains("muted") && shown.contains("a test"), "{shown}");
    let shown = fleet.alice.json(&["hosts", "show", "web-1"]);
    assert!(shown["alerts"].to_string().contains("broken.service"), "{shown:#}");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(told(coordinator), [""; 0]);
    // A file with a mistake is refused whole, and what counted goes on.
    coordinator.write_file("/etc/drover/alerting.toml", b"[rules.x]\nwhen = \"cpuu > 80%\"\n");
    let said = coordinator.exec(&["drover-coordinator", "check-alerting"]).fails();
    assert!(said.contains("line 2") && said.contains("no such metric"), "{said}");
    coordinator.exec(&["systemctl", "reload", "drover-coordinator"]).ok();
    fleet.alice.run(&["silence", "end", silence["id"].as_str().expect("an id")]).ok();
    wait_for(coordinator, &["+unit web-1 broken.service"]);
}

#[test]
fn a_critical_alert_of_the_host_fails_the_gate_and_is_the_cause() {
    let fleet = fleet(&["web-1"]);
    let (coordinator, host) = (&fleet.coordinator, &fleet.hosts[0]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let critical = format!("{ALERTING}\n[rules.unit]\nwhen = \"unit failed\"\nseverity = \"critical\"\n");
    coordinator.write_file("/etc/drover/alerting.toml", critical.as_bytes());
    coordinator.exec(&["systemctl", "reload", "drover-coordinator"]).ok();
    fails(host, "broken");
    wait_for(coordinator, &["+unit web-1 broken.service"]);
    let tiny = tiny.version("2");
    let refused = fleet.alice.apply(&tiny.manifest());
    assert!(refused.status == 1 && refused.to_string().contains("broken.service"), "{refused}");
    forgives(host, "broken");
    wait_for(coordinator, &["+unit web-1 broken.service", "-unit web-1 broken.service"]);
    let tiny = tiny.version("3");
    fleet.alice.apply(&tiny.manifest()).ok();
}
