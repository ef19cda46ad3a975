//! The same with a container, whose instances Docker publishes.

use std::path::PathBuf;

use drover_tests::{
    fleet::Fleet,
    lab::{Host, Registry, eventually},
    load::{EVERY_KIND, Load},
    shop,
};

use super::{SOON, UPSTREAM, assert_nothing_lost, port, shop_says};
use crate::newest_rollout;

/// The only container that there is, whatever it does, and the only one that has secrets.
#[track_caller]
fn assert_one_instance(host: &Host) -> u16 {
    let port = port(host);
    let name = format!("shop-{port}");
    assert_eq!(host.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok().trim(), name);
    let secrets = host.sh("find /var/lib/drover/env/shop -type f");
    assert_eq!(secrets.trim(), format!("/var/lib/drover/env/shop/{name}/KEY"));
    port
}

#[test]
fn a_container_is_replaced_and_no_request_is_lost() {
    let fleet = Fleet::start_with(&["web-1"], |lab, name| lab.docker_host(name));
    let (host, registry) = (&fleet.hosts[0], Registry::start());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let manifest = |version: &str, behaviour: &str, more: &str| -> PathBuf {
        let name = format!("shop/web:{version}");
        registry.push(&name, &shop::image(version, behaviour, 1));
        let path = folder.path().join(format!("{version}.yaml"));
        let mut text = format!("{}{more}", shop::CONTAINER.replace("IMAGE", &registry.name(&name)));
        if behaviour == "500" {
            text = text.replace("healthy_deadline: 25s", "healthy_deadline: 8s");
        }
        std::fs::write(&path, text).expect("a manifest");
        path
    };
    fleet.alice.apply(&manifest("1", "ok", "")).ok();
    let first = assert_one_instance(host);
    assert_eq!(shop_says(host)["version"], "1");

    let load = Load::on(host.ip(), EVERY_KIND);
    eventually("the load runs", SOON, || load.so_far().versions.contains_key("1").then_some(()));
    fleet.alice.apply(&manifest("2", "ok", "")).ok();
    eventually("the new release answers", SOON, || load.so_far().versions.contains_key("2").then_some(()));
    let second = assert_one_instance(host);
    assert_ne!(first, second, "another instance");
    fleet.alice.run(&["rollback", "shop"]).ok();
    assert_eq!((assert_one_instance(host), &shop_says(host)["version"]), (first, &"1".into()));

    // One that is never healthy is never sent anything, although Docker accepts connections for it at once.
    let before = host.sh(&format!("stat -c %i {UPSTREAM}"));
    assert_eq!(fleet.alice.apply(&manifest("3", "500", "")).status, 1);
    assert_eq!(newest_rollout(&fleet.alice, "shop")["state"]["state"], "rolled_back");
    assert_eq!((host.sh(&format!("stat -c %i {UPSTREAM}")), assert_one_instance(host)), (before, first));

    // One that is healthy, in a release that fails after it was sent requests: they are led back.
    let late = manifest("4", "ok", "hooks: { after_switch: [{ run: [/bin/false], user: root }] }\n");
    let failed = fleet.alice.apply(&late);
    assert_eq!(failed.status, 1, "{failed}");
    assert_eq!((assert_one_instance(host), &shop_says(host)["version"]), (first, &"1".into()));
    assert_eq!(newest_rollout(&fleet.alice, "shop")["state"]["state"], "rolled_back");

    let (rate, tally) = (load.rate(), load.stop());
    println!("{rate:.0} requests a second: {tally:?}");
    assert_nothing_lost(&tally);
    assert!(!tally.versions.contains_key("3"), "{tally:#?}");

    host.docker(&["rm", "-f", &format!("shop-{first}")]).ok();
    eventually("it is made again under its name", SOON, || (shop_says(host)["version"] == "1").then_some(()));
    assert_eq!(assert_one_instance(host), first);
    fleet.alice.run(&["remove", "shop", "--yes"]).ok();
    assert_eq!(host.docker(&["ps", "-aq"]).ok().trim(), "");
    assert!(!host.exists(UPSTREAM));
}
