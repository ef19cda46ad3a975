//! A hundred apps on one host: each rollout ends well, a restart of the agent touches none, and all leave and come back at
//! once, also with the agent killed in the middle. And two hundred containers of somebody else's, with odd names, in `/metrics`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, Image, Registry, eventually},
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
    let begun = Instant::now();
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

const CONTAINERS: usize = 200;

#[test]
fn two_hundred_containers_with_odd_names_are_told_one_by_one() {
    let fleet = Fleet::start_with(&["web-1"], |lab, name| lab.docker_host(name));
    let (host, registry) = (&fleet.hosts[0], Registry::start());
    let image = format!("{}@{}", registry.name("crowd"), registry.push("crowd:1", &Image::busybox()));
    host.docker(&["pull", "-q", &image]).ok();
    // All that Docker lets a name be: dots, words that are metrics or labels, and one that is very long.
    let odd = ["node_load1", "a..b", "x-", "__name__", "le", "NaN", "quantile.0.99", &"n".repeat(250)];
    let odd = odd.map(|name| format!("0{name}"));
    let rest = (odd.len()..CONTAINERS).map(|n| format!("crowd_{n}.x-y"));
    let names: BTreeSet<String> = odd.into_iter().chain(rest).collect();
    host.write_file("/tmp/names", (names.iter().cloned().collect::<Vec<_>>().join("\n") + "\n").as_bytes());
    let label = "odd=a\"b\\c\nd";
    let run = format!(
        "xargs -P 8 -I NAME docker run -d --network none --log-driver none --label '{label}' --name NAME '{image}' \
         sleep 3600 < /tmp/names > /dev/null"
    );
    host.sh(&run);

    eventually("all are told", Duration::from_secs(60), || {
        let text = host.exec(&["curl", "-fsS", "http://127.0.0.1:7444/metrics"]).ok();
        let of = |family: &str| -> BTreeSet<String> {
            let start = format!("{family}{{");
            let samples = text.lines().filter(|line| line.starts_with(&start));
            samples.filter_map(|line| Some(line.split_once("name=\"")?.1.split_once('"')?.0.to_owned())).collect()
        };
        for family in
            ["container_cpu_usage_seconds_total", "container_memory_usage_bytes", "container_start_time_seconds"]
        {
            let told = of(family);
            if told != names {
                return Err(format!("{family}: {} told, {:?} not", told.len(), names.difference(&told).take(5)));
            }
        }
        Ok(())
    });
    let begun = Instant::now();
    host.exec(&["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:7444/metrics"]).ok();
    println!("a scrape with {CONTAINERS} containers took {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    // What is gone is told no more.
    host.sh("docker rm -f 0NaN 0le > /dev/null");
    eventually("two are gone", Duration::from_secs(20), || {
        let text = host.exec(&["curl", "-fsS", "http://127.0.0.1:7444/metrics"]).ok();
        let told = text.lines().filter(|line| line.starts_with("container_memory_usage_bytes{")).count();
        if told == CONTAINERS - 2 && !text.contains("\"0NaN\"") { Ok(()) } else { Err(told) }
    });
}
