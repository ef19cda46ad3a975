//! Instances of a template and timers, on real systemd: the workers of `examples/`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually, run},
};
use serde_json::Value;

/// A copy of the example to change text in.
struct Worker {
    directory: tempfile::TempDir,
}

impl Worker {
    fn new() -> Worker {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/worker/.");
        run(Command::new("cp").arg("-r").arg(from).arg(directory.path()), None).ok();
        Worker { directory }
    }

    fn manifest(&self) -> PathBuf {
        self.directory.path().join("drover.yaml")
    }

    #[track_caller]
    fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.manifest()).expect("the manifest");
        assert!(text.contains(from), "the manifest has no {from:?}");
        std::fs::write(self.manifest(), text.replacen(from, to, 1)).expect("the manifest");
    }
}

fn pids(host: &Host, instances: &[&str]) -> Vec<u32> {
    instances.iter().map(|instance| host.main_pid(&format!("worker@{instance}.service"))).collect()
}

/// A part as the host last reported it.
#[track_caller]
fn part(fleet: &Fleet, name: &str) -> Value {
    let app = fleet.alice.app_on("worker", "web-1");
    let parts = app["status"]["parts"].as_array().cloned().unwrap_or_default();
    parts.iter().find(|part| part["name"] == name).cloned().unwrap_or_else(|| panic!("no part {name} in {app:#}"))
}

#[test]
fn scaling_starts_and_stops_only_the_difference() {
    let fleet = Fleet::start(&["web-1"]);
    let (host, worker) = (&fleet.hosts[0], Worker::new());
    fleet.alice.apply(&worker.manifest()).ok();
    host.sh("install -o worker -m 0600 /dev/null /var/spool/worker/a.job");
    eventually("a worker does the job", Duration::from_secs(10), || host.exists("/var/spool/worker/a.done"));
    let two = pids(host, &["1", "2"]);
    assert!(two.iter().all(|pid| *pid != 0), "{two:?}");
    assert_eq!(part(&fleet, "worker@2.service")["in_sync"], true);

    worker.edit("instances: [\"1\", \"2\"]", "instances: [\"1\", \"2\", \"3\"]");
    fleet.alice.apply(&worker.manifest()).ok();
    assert_eq!(pids(host, &["1", "2"]), two, "those that ran go on");
    assert!(host.is_active("worker@3.service"));
    let logs = fleet.alice.run(&["logs", "worker", "--lines", "50"]).ok();
    assert!(logs.contains("worker 3 waits for jobs"), "the log of each instance: {logs}");

    worker.edit("instances: [\"1\", \"2\", \"3\"]", "instances: [\"2\"]");
    fleet.alice.apply(&worker.manifest()).ok();
    assert_eq!(pids(host, &["1", "2", "3"]), [0, two[1], 0], "only those that are left out are stopped");
    let enabled = host.sh("ls /etc/systemd/system/multi-user.target.wants");
    assert!(enabled.contains("worker@2.service") && !enabled.contains("worker@1.service"), "{enabled}");

    worker.edit("description: does one job", "description: does each job");
    fleet.alice.apply(&worker.manifest()).ok();
    assert_ne!(pids(host, &["2"]), [two[1]], "another template restarts its instances");
    assert_eq!(host.property("worker@2.service", "Description"), "does each job after another");

    // The second instance of a release that cannot run takes the first one with it, back to what was there.
    let before = pids(host, &["2"]);
    worker.edit("instances: [\"2\"]", "instances: [\"2\", \"4\"]");
    worker.edit("restart: always", "exec_start_pre: \"/usr/bin/test %i = 2\"\n    restart: always");
    worker.edit("healthy_deadline: 30s", "healthy_deadline: 6s");
    let said = fleet.alice.apply(&worker.manifest()).fails();
    assert!(said.contains("worker@4.service"), "{said}");
    assert!(host.is_active("worker@2.service") && !host.is_active("worker@4.service"));
    assert_ne!(pids(host, &["2"]), before, "its text had changed");
    let enabled = host.sh("ls /etc/systemd/system/multi-user.target.wants");
    assert!(!enabled.contains("worker@4.service"), "{enabled}");

    fleet.alice.run(&["remove", "worker", "--yes"]).ok();
    assert_eq!(pids(host, &["2"]), [0]);
    assert!(!host.sh("ls /etc/systemd/system /etc/systemd/system/multi-user.target.wants").contains("worker"));
}

#[test]
fn a_timer_runs_its_service_and_the_status_tells_how_it_went() {
    let fleet = Fleet::start(&["web-1"]);
    let (host, worker) = (&fleet.hosts[0], Worker::new());
    // A time that systemd does not know is found by the plan, not by the host whose turn it is.
    worker.edit("on_calendar: hourly", "on_calendar: [daily, whenever]");
    let said = fleet.alice.run(&["plan", "-f", &worker.manifest().display().to_string()]);
    assert!(said.to_string().contains("on_calendar \"whenever\" of worker-report.timer is no time"), "{said}");
    worker.edit("on_calendar: [daily, whenever]", "on_calendar: hourly");
    // The example's hour may be full at any moment.
    worker.edit("on_calendar: hourly", "on_calendar: \"2099-01-01 00:00:00\"");
    fleet.alice.apply(&worker.manifest()).ok();
    assert!(host.is_active("worker-report.timer") && !host.is_active("worker-report.service"));
    let seen = part(&fleet, "worker-report.timer");
    let observed = seen["observed"].as_str().unwrap_or_default().to_owned();
    assert!(observed.contains("has not run yet") && observed.contains("next run"), "{seen}");

    let workers = pids(host, &["1", "2"]);
    worker.edit(
        "on_calendar: \"2099-01-01 00:00:00\"",
        "on_calendar: \"*:*:0/2\"\n    options: { Timer: { AccuracySec: 1ms } }",
    );
    worker.edit("randomized_delay_sec: 5m", "on_boot_sec: 1d");
    fleet.alice.apply(&worker.manifest()).ok();
    eventually("the timer fires", Duration::from_secs(15), || host.exists("/var/spool/worker/report"));
    assert_eq!(pids(host, &["1", "2"]), workers, "another time of the timer restarts only the timer");

    // The job is still running when its app gets a new release: it is left alone, and the next run has the new text.
    let report = worker.directory.path().join("app/report.py");
    std::fs::write(&report, "import time\ntime.sleep(600)\n").expect("a file");
    fleet.alice.apply(&worker.manifest()).ok();
    let pid = eventually("the next run is under way", Duration::from_secs(15), || {
        Some(host.main_pid("worker-report.service")).filter(|pid| *pid != 0)
    });
    std::fs::write(&report, "import sys\nsys.exit(\"no paper\")\n").expect("a file");
    fleet.alice.apply(&worker.manifest()).ok();
    assert_eq!(host.main_pid("worker-report.service"), pid, "a job that runs is not interrupted");
    let observed = part(&fleet, "worker-report.timer")["observed"].as_str().unwrap_or_default().to_owned();
    assert!(observed.contains(": running"), "{observed}");

    host.sh("systemctl kill worker-report.service");
    eventually("the new text has run", Duration::from_secs(15), || {
        host.journal("worker-report.service").contains("no paper")
    });
    // Any release makes the agent look again.
    worker.edit("description: does one job", "description: does each job");
    fleet.alice.apply(&worker.manifest()).ok();
    let observed = part(&fleet, "worker-report.timer")["observed"].as_str().unwrap_or_default().to_owned();
    assert!(observed.contains("last run") && observed.contains("exited with code 1"), "{observed}");

    // Its app is not well until it has run well, which is told once.
    let phase = || fleet.alice.app_on("worker", "web-1")["status"]["phase"].clone();
    let soon = Duration::from_secs(60);
    eventually("the app is degraded", soon, || {
        let phase = phase();
        let why = "its last run failed: main process exited with code 1";
        if phase["state"] == "degraded" && phase.to_string().contains(why) { Ok(()) } else { Err(phase.to_string()) }
    });
    let said = fleet.alice.run(&["why", "web-1"]).ok();
    assert!(said.contains("What worker-report.service said last:") && said.contains("no paper"), "{said}");
    std::fs::write(&report, "print(\"all is well\")\n").expect("a file");
    fleet.alice.apply(&worker.manifest()).ok();
    eventually("it has run well", Duration::from_secs(15), || {
        host.journal("worker-report.service").contains("all is well")
    });
    eventually("the app is healthy", soon, || phase()["state"] == "healthy");
    let events = fleet.alice.json(&["events", "--app", "worker", "-n", "100"]);
    let told = |event: &&Value| event["kind"] == "job-failed" && event.to_string().contains("exited with code 1");
    assert_eq!(events.as_array().into_iter().flatten().filter(told).count(), 1, "{events:#}");
}
