//! `handover: blue_green`: another release, a restart or a failure, under a load of which no request is lost; and everything
//! that may come in between.

mod container;
mod socket;

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually},
    load::{EVERY_KIND, Load, Shape, Tally},
    tiny::Tiny,
};
use serde_json::Value;

use crate::newest_rollout;

const UPSTREAM: &str = "/etc/nginx/conf.d/drover-shop-shop.conf";
const SOON: Duration = Duration::from_secs(30);

/// What the site answers; `Null` when it does not.
fn shop_says(host: &Host) -> Value {
    let output = host.exec(&["curl", "-s", "-m", "5", "http://127.0.0.1/"]);
    serde_json::from_str(&output.stdout).unwrap_or(Value::Null)
}

/// The port that the upstream leads to.
fn port(host: &Host) -> u16 {
    let text = String::from_utf8(host.read_file(UPSTREAM)).expect("text");
    let port = text.lines().find_map(|line| line.trim().strip_prefix("server 127.0.0.1:")?.strip_suffix(';'));
    port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// The instances that systemd knows.
fn instances(host: &Host) -> Vec<String> {
    let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "shop@*"];
    let said = host.exec(&list).stdout;
    said.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[track_caller]
fn assert_one_instance(host: &Host) -> u16 {
    let port = port(host);
    let name = format!("shop@{port}.service");
    assert_eq!(instances(host).join(" "), name);
    let enabled = host.exec(&["systemctl", "list-unit-files", "--plain", "--no-legend", "shop@*"]).stdout;
    let enabled: Vec<&str> = enabled.lines().map(str::trim).collect();
    assert!(enabled.len() == 1 && enabled[0].starts_with(&name) && enabled[0].contains("enabled"), "{enabled:?}");
    let files = host.sh("cd /etc/systemd/system; ls -d shop@* multi-user.target.wants/shop@*");
    assert_eq!(files.split_whitespace().collect::<Vec<_>>(), [&format!("multi-user.target.wants/{name}"), &name]);
    port
}

#[track_caller]
fn assert_nothing_lost(tally: &Tally) {
    assert_eq!(tally.lost, 0, "{tally:#?}");
    assert!(tally.kept > 500 && tally.fresh > 500 && tally.long > 5, "a load of every kind: {tally:#?}");
}

#[test]
fn a_deploy_a_rollback_a_restart_and_failed_deploys_lose_no_request() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let shop = Tiny::shop();
    fleet.alice.apply(&shop.manifest()).ok();
    let first = assert_one_instance(host);
    assert_eq!(shop_says(host)["version"], "1");

    let load = Load::on(host.ip(), EVERY_KIND);
    let answered = |what: &str, version: &str| {
        eventually(what, SOON, || load.so_far().versions.contains_key(version).then_some(()));
    };
    answered("the load runs", "1");
    let shop = shop.version("2");
    let planned = fleet.alice.run(&["plan", "-f", &shop.manifest().display().to_string()]);
    assert_eq!(planned.status, 2, "{planned}");
    let order = [
        "start shop@20001.service",
        "wait until shop@20001.service is healthy on port 20001",
        "server 127.0.0.1:20001;",
    ]
    .into_iter()
    .chain([
        "reload nginx.service",
        "wait for what shop@20000.service has begun, at most 30s",
        "stop shop@20000.service",
    ])
    .map(|words| planned.stdout.find(words).unwrap_or_else(|| panic!("{words}: {planned}")));
    assert!(order.collect::<Vec<_>>().is_sorted(), "{planned}");
    fleet.alice.apply(&shop.manifest()).ok();
    answered("the new release answers", "2");
    let second = assert_one_instance(host);
    assert_ne!(first, second, "another instance");

    fleet.alice.run(&["rollback", "shop"]).ok();
    assert_eq!(
        (assert_one_instance(host), &shop_says(host)["version"]),
        (first, &"1".into()),
        "the port is free again"
    );
    fleet.alice.run(&["restart", "shop", "--rolling"]).ok();
    assert_eq!(assert_one_instance(host), second, "a restart is another instance, too");

    // One that is never healthy is never sent anything.
    let inode = || host.sh(&format!("stat -c %i {UPSTREAM}; systemctl show -p ActiveEnterTimestamp --value nginx"));
    let before = inode();
    let broken = shop.version("3").behave("500").edit("healthy_deadline: 20s", "healthy_deadline: 8s");
    assert_eq!(fleet.alice.apply(&broken.manifest()).status, 1);
    assert_eq!((inode(), assert_one_instance(host)), (before, second), "the upstream never moved");

    // One that is healthy, in a release that fails after it was sent requests: they are led back.
    let late = broken.version("4").behave("ok").edit("healthy_deadline: 8s", "healthy_deadline: 20s");
    let late = late.append("hooks: { after_switch: [{ run: [/bin/false], user: root }] }");
    let failed = fleet.alice.apply(&late.manifest());
    assert_eq!(failed.status, 1, "{failed}");
    assert_eq!((assert_one_instance(host), &shop_says(host)["version"]), (second, &"1".into()));
    assert_eq!(newest_rollout(&fleet.alice, "shop")["state"]["state"], "rolled_back");

    let (rate, tally) = (load.rate(), load.stop());
    println!("{rate:.0} requests a second: {tally:?}");
    assert_nothing_lost(&tally);
    assert!(!tally.versions.contains_key("3"), "{tally:#?}");
    assert!(tally.versions.contains_key("4"), "it had been sent requests: {tally:#?}");
}

/// The load would see it: without a drain what is under way is cut off.
#[test]
fn what_an_instance_has_begun_is_lost_without_a_drain() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let shop = Tiny::shop().edit("handover: blue_green", "handover: blue_green\n    drain: 0s");
    fleet.alice.apply(&shop.manifest()).ok();
    // Longer than the rest of the activation, however slow the machine is.
    let asks = ["curl", "-s", "-m", "120", "-o", "/dev/null", "-w", "%{http_code}\n", "http://127.0.0.1/longest"];
    host.exec(&[&["systemd-run", "-q", "--unit", "ask"], &asks[..]].concat()).ok();
    connected(host, port(host));
    let shop = shop.version("2");
    fleet.alice.apply(&shop.manifest()).ok();
    eventually("nginx says that it is lost", SOON, || {
        let said = host.journal("ask");
        if said.contains("502") { Ok(()) } else { Err(said) }
    });
}

/// A connection to an instance that nobody ends: it is drained for as long as it may be.
fn hold(host: &Host, port: u16) {
    let script = format!("import socket, time; s = socket.create_connection((\"127.0.0.1\", {port})); time.sleep(600)");
    host.exec(&["systemd-run", "-q", "--unit", "hold", "python3", "-c", &script]).ok();
    connected(host, port);
}

/// Waits until somebody on the host is connected to this port.
#[track_caller]
fn connected(host: &Host, port: u16) {
    eventually("it is connected", SOON, || {
        let open = host.exec(&["ss", "-Htn", "state", "established", &format!("dport = :{port}")]).stdout;
        if open.contains(&port.to_string()) { Ok(()) } else { Err(open) }
    });
}

/// Begins a rollout and waits until its host is doing what these words say.
#[track_caller]
fn begin(fleet: &Fleet, shop: &Tiny, words: &str) {
    fleet.alice.run(&["apply", "--detach", "-f", &shop.manifest().display().to_string()]).ok();
    eventually(words, SOON, || {
        let phase = fleet.alice.app_on("shop", "web-1")["status"]["phase"].to_string();
        if phase.contains(words) { Ok(()) } else { Err(phase) }
    });
}

#[track_caller]
fn ends(fleet: &Fleet, state: &str) {
    eventually(&format!("the rollout is {state}"), Duration::from_secs(90), || {
        let view = newest_rollout(&fleet.alice, "shop");
        if view["state"]["state"] == state { Ok(()) } else { Err(format!("{view:#}")) }
    });
}

#[test]
fn whatever_dies_in_between_it_goes_on_or_back() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let shop = Tiny::shop();
    fleet.alice.apply(&shop.manifest()).ok();
    let load = Load::on(host.ip(), Shape { kept: 2, fresh: 2, long: 2 });
    let kill = || drop(host.exec(&["systemctl", "kill", "-s", "KILL", "drover-agent"]).ok());

    // While the new instance serves nobody yet.
    let times = "min_healthy_time: 4s, healthy_deadline: 60s";
    let shop = shop.version("2").edit("min_healthy_time: 1s, healthy_deadline: 20s", times);
    begin(&fleet, &shop, "serves nobody yet");
    let new: Vec<String> = instances(host);
    assert_eq!(new.len(), 2, "{new:?}");
    kill();
    ends(&fleet, "succeeded");
    assert!(new.contains(&format!("shop@{}.service", assert_one_instance(host))), "it is gone on with: {new:?}");
    assert_eq!(shop_says(host)["version"], "2");

    // While the one before finishes what it has begun; then something newer is wanted, which waits for nothing.
    let old = port(host);
    hold(host, old);
    let shop = shop.version("3");
    begin(&fleet, &shop, "has begun");
    assert_ne!(port(host), old);
    kill();
    begin(&fleet, &shop, "has begun");
    let shop = shop.version("4");
    begin(&fleet, &shop, "serves nobody yet");
    assert_eq!(instances(host).len(), 3, "nobody is stopped before it has finished");
    host.exec(&["systemctl", "stop", "hold"]).ok();
    ends(&fleet, "succeeded");
    assert_one_instance(host);
    assert_eq!(shop_says(host)["version"], "4");

    // A newer release that fails, while the one before is still being drained, with the agent killed on the way back.
    let broken = shop.version("5").behave("500").edit("healthy_deadline: 60s", "healthy_deadline: 10s");
    begin(&fleet, &broken, "waiting for");
    kill();
    ends(&fleet, "rolled_back");
    assert_one_instance(host);
    assert_eq!(shop_says(host)["version"], "4");
    assert_nothing_lost(&load.stop());

    // A host that is cut off from its power while the one before is drained.
    let shop = broken.version("6").behave("ok").edit("healthy_deadline: 10s", "healthy_deadline: 60s");
    hold(host, port(host));
    begin(&fleet, &shop, "has begun");
    host.power_cut();
    host.boot();
    ends(&fleet, "succeeded");
    let port = assert_one_instance(host);
    assert_eq!(shop_says(host)["version"], "6");
    host.reboot();
    eventually("the instance is started at boot", SOON, || (shop_says(host)["port"] == port).then_some(()));
    assert_eq!(assert_one_instance(host), port, "and no other");
}

#[test]
fn what_is_changed_by_hand_is_put_right_and_all_of_it_goes_with_the_app() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let shop = Tiny::shop();
    fleet.alice.apply(&shop.manifest()).ok();
    let (port, pid) = (assert_one_instance(host), shop_says(host)["pid"].clone());
    let view = fleet.alice.app_on("shop", "web-1");
    let parts = view["status"]["parts"].as_array().cloned().unwrap_or_default();
    let unit = parts.iter().find(|part| part["kind"] == "unit").expect("a unit");
    assert_eq!(unit["desired"], format!("active, serves shop on port {port}"), "{unit}");

    // While nobody looks: a reload goes on after it has ended, and the agent may be quicker.
    host.sh(&format!("systemctl stop drover-agent; sed -i s/{port}/1/ {UPSTREAM}; systemctl reload nginx"));
    eventually("nginx leads astray", SOON, || (shop_says(host) == Value::Null).then_some(()));
    host.sh("systemctl start drover-agent");
    let put_right = Duration::from_secs(60);
    // In one answer: the next may come from a worker that nginx has not ended yet, and that one leads astray.
    let says = eventually("the upstream is put right, and nginx told", put_right, || {
        Some(shop_says(host)).filter(|says| says["port"] == port)
    });
    assert_eq!(says["pid"], pid, "and nothing else");
    host.exec(&["systemctl", "stop", &format!("shop@{port}.service")]).ok();
    eventually("it is started again", SOON, || (shop_says(host)["port"] == port).then_some(()));
    assert_one_instance(host);

    // Somebody else has the next port: it is passed over.
    host.exec(&["systemd-run", "-q", "--unit", "squatter", "python3", "-m", "http.server", "20001"]).ok();
    eventually("it listens", SOON, || host.exec(&["curl", "-s", "http://127.0.0.1:20001/"]).success());
    let shop = shop.version("2");
    fleet.alice.apply(&shop.manifest()).ok();
    assert_eq!((port, assert_one_instance(host)), (20000, 20002));

    fleet.alice.run(&["remove", "shop", "--yes"]).ok();
    assert_eq!(instances(host), [""; 0]);
    assert!(!host.exists(UPSTREAM) && !host.exists("/etc/nginx/sites-enabled/shop"));
    host.exec(&["nginx", "-t"]).ok();
}
