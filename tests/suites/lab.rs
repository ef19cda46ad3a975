//! The lab itself: what the other suites take for granted about their hosts. `docker` is about hosts with Docker, `registry`
//! about where their images come from.

#[path = "lab/docker.rs"]
mod docker;
#[path = "lab/registry.rs"]
mod registry;

use drover_tests::lab::{Lab, eventually};
use std::process::Command;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn hosts_boot_in_seconds_with_a_name_and_an_address_of_their_own() {
    let lab = Lab::start();
    let start = Instant::now();
    let [c, w1, w2] = lab.hosts(["c", "w1", "w2"]);
    let took = start.elapsed();
    println!("three hosts in {took:?}");
    assert!(took < Duration::from_secs(10), "three hosts took {took:?}");
    for host in [&c, &w1, &w2] {
        assert_eq!(host.exec(&["hostname"]).ok(), host.name());
        assert!(host.sh("ip -br addr show eth0").contains(&host.ip().to_string()));
        assert_eq!(host.sh("cat /proc/1/comm"), "systemd");
        assert!(host.is_active("nginx.service"));
        assert_ne!(host.main_pid("nginx.service"), 0);
    }
    assert_ne!(w1.ip(), w2.ip());
    assert_ne!(w1.read_file("/etc/machine-id"), w2.read_file("/etc/machine-id"));
}

#[test]
fn commands_files_and_exit_statuses_come_through() {
    let host = Lab::start().host("web1");
    let failed = host.exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((failed.status, failed.stdout.as_str(), failed.stderr.as_str()), (7, "out\n", "err\n"));
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    host.write_file("/srv/deep/down/file", &bytes);
    assert!(host.read_file("/srv/deep/down/file") == bytes, "300 kB come back as they were");
    assert_eq!(host.exec_with_stdin(&["cat"], b"hello").ok(), "hello");
    std::fs::write(host.share().join("from-outside"), "x").expect("the share is writable");
    assert_eq!(host.sh("cat /lab/from-outside"), "x");
    assert!(!host.exists("/srv/nothing"));
}

#[test]
fn a_reboot_and_a_power_cut_keep_the_disk_and_change_the_boot_id() {
    let host = Lab::start().host("web1");
    host.sh("echo kept > /root/kept; echo gone > /run/gone");
    let first = host.boot_id();
    host.reboot();
    let second = host.boot_id();
    assert_ne!(first, second);
    let uptime: f64 = host.sh("cut -d' ' -f1 /proc/uptime").parse().expect("seconds");
    assert!(uptime < 30.0, "its clock of uptime starts again, not {uptime}");
    assert_eq!(host.sh("cat /root/kept"), "kept");
    assert!(!host.exists("/run/gone"));

    host.power_cut();
    assert!(host.exec(&["true"]).fails().contains("is down"));
    host.boot();
    assert_ne!(host.boot_id(), second);
    assert_eq!(host.sh("cat /root/kept"), "kept");
}

#[test]
fn links_can_be_cut_and_healed() {
    let lab = Lab::start();
    let [a, b] = lab.hosts(["a", "b"]);
    let reaches = |address: &str| a.exec(&["ping", "-c1", "-W1", address]).success();
    let (b_ip, runner) = (b.ip().to_string(), drover_tests::lab::RUNNER.to_string());
    assert!(reaches(&b_ip) && reaches(&runner));
    a.cut(&b);
    assert!(!reaches(&b_ip) && reaches(&runner), "only this link is cut");
    a.heal(&b);
    eventually("the healed link works", SOON, || reaches(&b_ip));
    a.cut_runner();
    assert!(!reaches(&runner) && reaches(&b_ip));
    a.heal_runner();
    eventually("the runner is back", SOON, || reaches(&runner));
    a.unplug();
    assert!(!reaches(&b_ip) && !reaches(&runner));
    a.plug();
    eventually("the cable works again", SOON, || reaches(&b_ip));
}

#[test]
fn a_small_disk_really_fills_up() {
    let host = Lab::start().host_with_disk("small", "64m");
    let filled = host.exec(&["dd", "if=/dev/zero", "of=/var/fill", "bs=1M"]).fails();
    assert!(filled.contains("No space left on device"), "{filled}");
    host.sh("rm /var/fill; echo there is room > /var/fill");
}

#[test]
fn hosts_of_a_dead_owner_go_at_the_next_start_and_named_ones_stay() {
    Lab::start();
    let mut owner = Command::new("sleep").arg("600").spawn().expect("an owner");
    let (orphan, demo) = (format!("orphan-{}", owner.id()), format!("demo-{}", owner.id()));
    let labhost = |args: &[&str], owner: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/labhost");
        let output = Command::new(script).args(args).env("LAB_OWNER", owner).output().expect("labhost runs");
        assert!(output.status.success(), "labhost {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    labhost(&["up", &orphan], &owner.id().to_string());
    labhost(&["up", &demo], "");
    Lab::start();
    assert!(labhost(&["list"], "").contains(&orphan), "its owner lives");
    owner.kill().expect("to kill the owner");
    owner.wait().expect("the owner ends");
    Lab::start();
    let left = labhost(&["list"], "");
    labhost(&["wipe", &demo], "");
    assert!(!left.contains(&orphan), "{left}");
    assert!(left.contains(&demo), "{left}");
}
