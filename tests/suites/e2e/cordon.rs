//! Hosts that are kept out of rollouts, emptied, and brought back.

use std::time::Duration;

use drover_tests::{fleet::Fleet, lab::eventually, tiny::Tiny};

use crate::{host_in_rollout, tiny_says};

const SOON: Duration = Duration::from_secs(40);
const UNIT: &str = "tiny.service";

#[test]
fn a_cordoned_host_is_passed_by_a_drained_one_is_empty_and_both_come_back() {
    let fleet = Fleet::start(&["web-1", "web-2"]);
    let (one, two) = (fleet.host("web-1"), fleet.host("web-2"));
    let serves = |host: &drover_tests::lab::Host, version: &str| {
        eventually(&format!("{} serves {version}", host.name()), SOON, || tiny_says(host)["version"] == version);
    };
    fleet.alice.apply(&Tiny::new().manifest()).ok();
    let pid = two.main_pid(UNIT);
    let said = fleet.alice.run(&["hosts", "cordon", "web-2"]).ok();
    assert!(said.contains("connected, cordoned"), "{said}");

    let tiny = Tiny::new().version("2");
    let manifest = tiny.manifest().display().to_string();
    let plan = fleet.alice.run(&["plan", "-f", &manifest]);
    assert!(plan.stdout.contains("web-2: skipped: cordoned by alice"), "{plan}");
    fleet.alice.apply(&tiny.manifest()).ok();
    let skipped = host_in_rollout(&fleet.alice, "tiny", "web-2");
    assert_eq!(skipped["state"]["reason"], "cordoned by alice", "{skipped:#}");
    assert_eq!((two.main_pid(UNIT), &tiny_says(two)["version"]), (pid, &"1".into()), "what runs stays");
    let refused = fleet.alice.run(&["restart", "tiny", "--host", "web-2"]).fails();
    assert!(refused.contains("uncordon web-2"), "{refused}");

    fleet.alice.run(&["hosts", "uncordon", "web-2"]).ok();
    serves(two, "2");

    let said = fleet.alice.run(&["hosts", "drain", "web-1"]);
    assert_eq!(said.status, 0, "{said}");
    assert!(!one.exists("/etc/systemd/system/tiny.service") && !one.is_active(UNIT), "it is empty when drain returns");
    fleet.alice.apply(&Tiny::new().version("3").manifest()).ok();
    assert!(!one.exists("/etc/systemd/system/tiny.service"), "and stays so");
    fleet.alice.run(&["hosts", "uncordon", "web-1"]).ok();
    serves(one, "3");
    eventually("it is healthy", SOON, || fleet.alice.app_on("tiny", "web-1")["status"]["phase"]["state"] == "healthy");
    let audit = fleet.alice.run(&["audit"]).ok();
    assert!(audit.contains("host drain") && audit.contains("web-1: tiny"), "{audit}");

    let exec = fleet.alice.run(&["exec", "web-1", "--", "ls", "-l"]).fails();
    assert!(exec.contains("there is no `drover exec`") && exec.contains("ssh"), "{exec}");
}
