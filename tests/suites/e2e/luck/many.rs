//! A hundred apps on one host: each rollout ends well, a restart of the agent touches none, and all leave and come back at
//! once, also with the agent killed in the middle.

use std::{collections::BTreeMap, time::Duration};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually},
};

use super::{Plain, connected};

const APPS: usize = 100;
/// For all of them together; one after another, each with its gate, they would take longer.
const PATIENCE: Duration = Duration::from_secs(150);

#[test]
fn a_hundred_apps_come_leave_and_come_back_on_one_host() {
    let fleet = Fleet::start(&["web-1"]);
    let (host, plain) = (&fleet.hosts[0], Plain::new());
    let manifests: Vec<_> = (0..APPS).map(|n| plain.app(&format!("app-{n:03}"), "one")).collect();
    let alice = &fleet.alice;
    std::thread::scope(|scope| {
        for some in manifests.chunks(APPS / 5) {
            scope.spawn(move || {
                for manifest in some {
                    alice.run(&["apply", "--detach", "-f", &manifest.display().to_string()]).ok();
                }
            });
        }
    });
    all(&fleet, "healthy");
    eventually("every rollout has succeeded", PATIENCE, || {
        let rollouts = fleet.alice.json(&["rollout", "list"]);
        let done = rollouts.as_array().into_iter().flatten().filter(|r| r["state"]["state"] == "succeeded").count();
        if done == APPS { Ok(()) } else { Err(format!("{done} have: {rollouts:#}")) }
    });

    let before = pids(host);
    assert_eq!(before.len(), APPS);
    host.exec(&["systemctl", "restart", "drover-agent"]).ok();
    connected(&fleet);
    all(&fleet, "healthy");
    assert_eq!(pids(host), before, "a restart of the agent touches nothing");

    fleet.alice.run(&["hosts", "drain", "web-1", "--timeout", "150s"]).ok();
    assert!(pids(host).is_empty());
    fleet.alice.run(&["hosts", "uncordon", "web-1"]).ok();
    eventually("some are back", PATIENCE, || pids(host).len() > APPS / 4);
    println!("{} of them are back when the agent is killed", pids(host).len());
    host.exec(&["systemctl", "kill", "--signal=KILL", "drover-agent"]).ok();
    all(&fleet, "healthy");
    assert_eq!(pids(host).len(), APPS);
}

/// Waits until all apps are in that phase.
#[track_caller]
fn all(fleet: &Fleet, phase: &str) {
    let begun = std::time::Instant::now();
    eventually(&format!("all are {phase}"), PATIENCE, || {
        let apps = fleet.alice.json(&["status"]);
        let states = apps.as_array().into_iter().flatten().flat_map(|app| app["hosts"].as_array()).flatten();
        let (mut counts, mut causes) = (BTreeMap::<String, usize>::new(), Vec::new());
        for now in states.map(|host| &host["status"]["phase"]) {
            *counts.entry(now["state"].as_str().unwrap_or("unknown").to_owned()).or_default() += 1;
            causes.extend(now["cause"].as_str().map(str::to_owned));
        }
        if counts.get(phase) == Some(&APPS) { Ok(()) } else { Err(format!("{counts:?} {causes:#?}")) }
    });
    println!("all {APPS} are {phase} after {:.1} s", begun.elapsed().as_secs_f64());
}

/// The main processes of their units.
fn pids(host: &Host) -> BTreeMap<String, String> {
    let units = host.sh("systemctl show -p Id -p MainPID 'app-*.service' --state=active");
    let blocks = units.split("\n\n").filter_map(|block| {
        let value = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        Some((value("Id=")?, value("MainPID=").filter(|pid| pid != "0")?))
    });
    blocks.collect()
}
