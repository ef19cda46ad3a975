//! `drover restart`: other processes, the same release, host by host and gated.

use drover_tests::{fleet::Fleet, tiny::Tiny};

use crate::{assert_serving, newest_rollout};

const UNIT: &str = "tiny.service";

#[test]
fn a_restart_goes_host_by_host_and_stops_at_one_that_is_not_healthy_again() {
    let fleet = Fleet::start(&["web-1", "web-2"]);
    let tiny = Tiny::new().edit("max_parallel: 1", "max_parallel: 2");
    fleet.alice.apply(&tiny.manifest()).ok();
    let pids = || fleet.hosts.iter().map(|host| host.main_pid(UNIT)).collect::<Vec<_>>();
    // By the wall clock, in µs: the other clock of each host begins when it boots.
    let started = |host: &drover_tests::lab::Host| -> u64 {
        let object = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1/unit/tiny_2eservice"];
        let property = ["org.freedesktop.systemd1.Service", "ExecMainStartTimestamp"];
        let said = host.exec(&[&["busctl", "get-property"], &object[..], &property[..]].concat()).ok();
        said.trim().strip_prefix("t ").and_then(|time| time.parse().ok()).unwrap_or_else(|| panic!("no time: {said}"))
    };
    let before = pids();
    let said = fleet.alice.run(&["restart", "tiny", "--rolling"]).ok();
    assert!(said.contains("restart of tiny"), "{said}");
    assert!(before.iter().zip(pids()).all(|(was, is)| *was != is), "{before:?} {:?}", pids());
    assert_serving(&fleet, "1");
    assert_eq!(newest_rollout(&fleet.alice, "tiny")["kind"], "restart");
    // The second began after the first had been healthy for min_healthy_time.
    let mut times: Vec<u64> = fleet.hosts.iter().map(started).collect();
    times.sort_unstable();
    assert!(times[1] - times[0] >= 1_000_000, "{times:?}");

    // Nothing is left to do, and the next release restarts once.
    let settled = pids();
    assert_eq!(fleet.alice.run(&["plan", "-f", &tiny.manifest().display().to_string()]).status, 0);
    fleet.alice.run(&["restart", "tiny", "--host", "web-2"]).ok();
    assert_eq!(fleet.host("web-1").main_pid(UNIT), settled[0], "only the host that was named");
    assert_ne!(fleet.host("web-2").main_pid(UNIT), settled[1]);

    // The release's own files change under it: what is started now is ill. Nobody is told that all is well.
    let web = fleet.host("web-1");
    web.sh("for f in /var/lib/drover/releases/tiny/*/behaviour; do echo 500 > $f; done");
    let web_2 = fleet.host("web-2").main_pid(UNIT);
    let failed = fleet.alice.run(&["restart", "tiny", "--rolling"]);
    assert_eq!(failed.status, 1, "{failed}");
    assert_eq!(newest_rollout(&fleet.alice, "tiny")["state"]["state"], "failed");
    assert_eq!(fleet.host("web-2").main_pid(UNIT), web_2, "{failed}");
}
