//! What an operator does besides applying: pause, abort, roll back, remove, follow logs, label, keep a backup.

use std::{process::Stdio, time::Duration};

use drover_tests::{
    fleet::{Fleet, install},
    lab::eventually,
    tiny::Tiny,
};

use crate::{assert_serving, newest_rollout, tiny_says};

const SOON: Duration = Duration::from_secs(40);

#[test]
fn a_rollout_pauses_resumes_and_aborts() {
    let fleet = Fleet::start(&["web-1", "web-2", "web-3"]);
    let tiny = Tiny::new()
        .edit("min_healthy_time: 1s", "min_healthy_time: 3s")
        .edit("progress_deadline: 60s", "progress_deadline: 20s");
    let manifest = tiny.manifest().display().to_string();
    fleet.alice.run(&["apply", "--detach", "-f", &manifest]).ok();
    let count = |state: &str| newest_rollout(&fleet.alice, "tiny")["hosts"][state].as_u64().unwrap_or(0);
    eventually("the first host is on its way", SOON, || count("pending") == 2);
    let id = newest_rollout(&fleet.alice, "tiny")["id"].to_string();
    fleet.alice.run(&["rollout", "pause", &id]).ok();
    eventually("the host in flight ends", SOON, || count("healthy") == 1);
    // Longer than the progress deadline: it stands still.
    std::thread::sleep(Duration::from_secs(22));
    let paused = newest_rollout(&fleet.alice, "tiny");
    assert_eq!(paused["state"]["state"], "paused", "{paused}");
    assert_eq!(paused["hosts"]["pending"], 2, "nothing new begins: {paused}");

    fleet.alice.run(&["rollout", "resume", &id]).ok();
    let watched = fleet.alice.run(&["rollout", "watch", &id]);
    assert_eq!(watched.status, 0, "{watched}");
    assert_serving(&fleet, "1");

    let tiny = tiny.version("2");
    fleet.alice.run(&["apply", "--detach", "-f", &manifest]).ok();
    eventually("the first host is being moved", SOON, || count("pending") == 2);
    let id = newest_rollout(&fleet.alice, "tiny")["id"].to_string();
    fleet.alice.run(&["rollout", "abort", &id]).ok();
    assert_eq!(newest_rollout(&fleet.alice, "tiny")["state"]["state"], "aborted");
    let old = fleet.hosts.iter().filter(|host| tiny_says(host)["version"] == "1").count();
    assert!(old >= 2, "the hosts whose turn had not come keep what they had");
    drop(tiny);
}

#[test]
fn rollback_goes_to_the_last_good_release_and_remove_leaves_nothing() {
    let fleet = Fleet::start(&["web-1", "web-2"]);
    let mut tiny = Tiny::new();
    for version in ["1", "2"] {
        tiny = tiny.version(version);
        fleet.alice.apply(&tiny.manifest()).ok();
    }
    fleet.alice.run(&["rollback", "tiny"]).ok();
    assert_serving(&fleet, "1");
    fleet.alice.run(&["rollback", "tiny", "--to", "2"]).ok();
    assert_serving(&fleet, "2");
    let nothing = fleet.alice.run(&["rollback", "tiny", "--to", "2"]).ok();
    assert!(nothing.contains("nothing to do"), "{nothing}");

    let host = &fleet.hosts[0];
    fleet.alice.run(&["remove", "tiny", "--yes"]).ok();
    for gone in ["/etc/systemd/system/tiny.service", "/var/lib/drover/env/tiny.env", "/var/lib/drover/releases/tiny"] {
        assert!(!host.exists(gone), "{gone} is still there");
    }
    assert!(!host.is_active("tiny.service"));
    assert_eq!(newest_rollout(&fleet.alice, "tiny")["state"]["state"], "succeeded");
}

#[test]
fn logs_come_from_every_host_and_follow() {
    let fleet = Fleet::start(&["web-1", "web-2"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let logs = fleet.alice.run(&["logs", "tiny", "-n", "20"]).ok();
    assert!(logs.contains("web-1") && logs.contains("web-2") && logs.contains("tiny 1 listens"), "{logs}");
    let one = fleet.alice.run(&["logs", "tiny", "--host", "web-2"]).ok();
    assert!(!one.contains("web-1") && one.contains("tiny 1 listens"), "{one}");

    let mut follower = fleet.alice.command(&["logs", "tiny", "-f", "-n", "1", "--host", "web-1"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().expect("the command runs");
    std::thread::sleep(Duration::from_millis(1500));
    fleet.hosts[0].exec(&["systemctl", "restart", "tiny.service"]).ok();
    std::thread::sleep(Duration::from_secs(3));
    follower.kill().expect("it follows until it is told to stop");
    let followed = String::from_utf8_lossy(&follower.wait_with_output().expect("its output").stdout).into_owned();
    assert!(followed.matches("listens").count() >= 1 && followed.lines().count() >= 2, "{followed}");
    eventually("the host stops following too", SOON, || !fleet.hosts[0].exec(&["pgrep", "-x", "journalctl"]).success());
}

#[test]
fn a_host_that_comes_later_gets_the_last_good_release() {
    let fleet = Fleet::start(&["web-1"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let late = fleet.lab.host("web-9");
    install(&late, "drover-agent");
    fleet.enroll(&late, &fleet.alice.token("role=db", 1));
    eventually("it is connected", SOON, || fleet.alice.json(&["hosts", "show", "web-9"])["connected"] == true);
    assert!(!late.exists("/etc/systemd/system/tiny.service"), "other labels, other apps");
    fleet.alice.run(&["hosts", "label", "web-9", "role=web"]).ok();
    eventually("it serves", SOON, || tiny_says(&late)["version"] == "1");
    eventually("it is healthy", SOON, || fleet.alice.app_on("tiny", "web-9")["status"]["phase"]["state"] == "healthy");
}

#[test]
fn a_host_that_was_removed_can_come_again() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let mut tiny = Tiny::new();
    for version in ["1", "2"] {
        tiny = tiny.version(version);
        fleet.alice.apply(&tiny.manifest()).ok();
    }
    let pid = host.main_pid("tiny.service");
    fleet.alice.run(&["hosts", "remove", "web-1"]).ok();
    assert_eq!(host.main_pid("tiny.service"), pid, "what runs goes on");
    let token = fleet.alice.token("role=web", 1);
    host.exec(&["drover-agent", "enroll", "--replace", "--coordinator", &fleet.address(), "--token", &token]).ok();
    eventually("it is back", SOON, || fleet.alice.json(&["hosts", "show", "web-1"])["connected"] == true);
    eventually("it has the last good release", SOON, || {
        let on = fleet.alice.app_on("tiny", "web-1");
        if on["status"]["phase"]["state"] == "healthy" { Ok(()) } else { Err(format!("{on:#}")) }
    });
    let tiny = tiny.version("3");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_serving(&fleet, "3");
}

#[test]
fn a_coordinator_comes_back_from_its_backup() {
    let fleet = Fleet::start(&["web-1"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let coordinator = &fleet.coordinator;
    coordinator.exec(&["drover-coordinator", "backup", "/root/backup.tar"]).ok();
    assert_eq!(coordinator.sh("stat -c %a /root/backup.tar").trim(), "600");
    // A release that the backup does not know: the host's generation is ahead of what will be restored.
    let tiny = tiny.version("1.5");
    fleet.alice.apply(&tiny.manifest()).ok();
    let pid = fleet.hosts[0].main_pid("tiny.service");
    coordinator.exec(&["systemctl", "stop", "drover-coordinator"]).ok();
    coordinator.sh("rm -rf /var/lib/drover-coordinator/*");
    coordinator.exec(&["drover-coordinator", "restore", "/root/backup.tar"]).ok();
    coordinator.exec(&["systemctl", "start", "drover-coordinator"]).ok();
    eventually("the host is back", SOON, || {
        fleet.alice.run(&["hosts", "-o", "json"]).stdout.contains("\"connected\": true")
    });
    assert_eq!(fleet.hosts[0].main_pid("tiny.service"), pid, "no workload notices");
    let tiny = tiny.version("2");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_serving(&fleet, "2");
}
