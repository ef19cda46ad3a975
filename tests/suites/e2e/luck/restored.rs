//! A coordinator restored from a backup that is older than what its hosts run: said, and nothing goes back by accident.

use std::time::Duration;

use drover_tests::{fleet::Fleet, lab::eventually};

use super::{Plain, connected, healthy};

#[test]
fn a_change_after_a_restore_takes_no_other_app_back() {
    let fleet = Fleet::start(&["web-1"]);
    let plain = Plain::new();
    for app in ["one", "two"] {
        fleet.alice.apply(&plain.app(app, "old")).ok();
    }
    let coordinator = &fleet.coordinator;
    coordinator.exec(&["drover-coordinator", "backup", "/root/backup.tar"]).ok();
    for app in ["one", "two", "three"] {
        fleet.alice.apply(&plain.app(app, "new")).ok();
    }
    fleet.alice.run(&["remove", "one", "--yes"]).ok();
    let host = &fleet.hosts[0];
    let pids = || ["two.service", "three.service"].map(|unit| host.main_pid(unit));
    let before = pids();
    coordinator.exec(&["systemctl", "stop", "drover-coordinator"]).ok();
    let said = coordinator.exec(&["drover-coordinator", "restore", "--force", "/root/backup.tar"]).ok();
    assert!(said.contains("stay") || said.contains("keep such an app"), "{said}");
    coordinator.exec(&["systemctl", "start", "drover-coordinator"]).ok();
    connected(&fleet);

    // Said: what the host has, and that this coordinator does not know it. An app that was removed is not brought back.
    for (app, release) in [("two", 2), ("three", 1)] {
        healthy(&fleet.alice, app, "web-1");
        // It is connected a moment before what it says has been compared.
        eventually("it is said what the host has", Duration::from_secs(10), || {
            let seen = fleet.alice.app_on(app, "web-1");
            if seen["kept"] == true && seen["desired"] == release { Ok(()) } else { Err(format!("{seen:#}")) }
        });
    }
    let said = fleet.alice.run(&["status"]).ok();
    assert_eq!(said.matches("restored from a backup").count(), 3, "{said}");
    assert!(!host.exists("/etc/one.conf"));
    let content = |app: &str| String::from_utf8(host.read_file(&format!("/etc/{app}.conf"))).unwrap_or_default();

    // A change of one app, and of labels, moves no other.
    fleet.alice.apply(&plain.app("four", "first")).ok();
    fleet.alice.run(&["hosts", "label", "web-1", "zone=a"]).ok();
    host.exec(&["systemctl", "restart", "drover-agent"]).ok();
    connected(&fleet);
    healthy(&fleet.alice, "four", "web-1");
    assert_eq!([content("two"), content("three")], ["new", "new"]);
    assert_eq!(pids(), before, "nothing was restarted");
    assert!(!host.exists("/etc/one.conf"), "and nothing came back");

    // Applied again, an app is as any other.
    for app in ["one", "two", "three"] {
        fleet.alice.apply(&plain.app(app, "newest")).ok();
        let seen = healthy(&fleet.alice, app, "web-1");
        assert_eq!((content(app).as_str(), &seen["kept"]), ("newest", &serde_json::Value::Null), "{seen:#}");
    }
    fleet.alice.run(&["remove", "three", "--yes"]).ok();
    assert!(!host.exists("/etc/three.conf"));
    assert!(!fleet.alice.run(&["status"]).ok().contains("restored from a backup"));
}
