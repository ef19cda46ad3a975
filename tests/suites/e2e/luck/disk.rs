//! Disks that are full, have no inodes left, are read-only or fail: what runs is not touched, the cause is said in plain
//! words, the agent lives, and all is well when the disk is.

use std::time::Duration;

use drover_tests::{
    fleet::{Fleet, install},
    lab::{Host, eventually},
    tiny::Tiny,
};

use super::{Plain, SOON, STATE, connected, healthy};
use crate::tiny_says;

/// A fleet of one whose disk is a tmpfs with these options.
fn fleet_with_disk(options: &str) -> Fleet {
    let mut fleet = Fleet::start_empty(&[]);
    let host = fleet.lab.host_with_disk("web-1", options);
    install(&host, "drover-agent");
    fleet.hosts.push(host);
    fleet.enroll_all("role=web");
    fleet
}

/// What must not change while the disk is bad: the process that serves, and the agent.
#[track_caller]
fn pids(host: &Host) -> [u32; 2] {
    ["tiny.service", "drover-agent.service"].map(|unit| host.main_pid(unit))
}

/// Lines in the agent's journal.
fn lines(host: &Host) -> usize {
    host.journal("drover-agent").lines().count()
}

/// Applies what cannot be carried out, and expects these words.
#[track_caller]
fn refused(fleet: &Fleet, tiny: &Tiny, words: &[&str]) {
    let before = pids(&fleet.hosts[0]);
    let said = fleet.alice.apply(&tiny.manifest()).fails();
    assert!(words.iter().any(|word| said.contains(word)), "none of {words:?} is said:\n{said}");
    assert_eq!(pids(&fleet.hosts[0]), before, "what serves and the agent go on");
    assert_eq!(tiny_says(&fleet.hosts[0])["status"], "ok");
}

#[test]
fn a_full_disk_and_no_inodes_touch_nothing_that_runs() {
    let fleet = fleet_with_disk("400m,nr_inodes=40000");
    let host = &fleet.hosts[0];
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();

    // No room for the artifact, but for what the agent keeps.
    let noise = host.exec(&["head", "-c", "12000000", "/dev/urandom"]).bytes;
    std::fs::write(tiny.path().join("app/noise"), noise).expect("a file");
    let tiny = tiny.version("2");
    host.sh("dd if=/dev/zero of=/fill bs=64k 2>/dev/null || true; truncate -s -6M /fill");
    refused(&fleet, &tiny, &["the disk is full", "No space left", "free"]);
    host.sh("rm /fill");

    // No inode for its files.
    for number in 0..60 {
        tiny.write(&format!("app/file-{number}"), "x");
    }
    host.sh("mkdir /fill; cd /fill; i=0; while true > $i; do i=$((i+1)); done 2>/dev/null; rm 1 2 3 4 5 6 7 8 9 1? 2?");
    refused(&fleet, &tiny, &["the disk is full", "No space left", "inode"]);
    host.sh("rm -r /fill");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_eq!(tiny_says(host)["version"], "2");

    // No room for anything: the new desired state itself cannot be kept. It is said, and offered again until it can. The host
    // is away while it is asked for, or its plan would refuse.
    let tiny = tiny.version("3");
    let before = pids(host);
    host.unplug();
    eventually("it is away", SOON, || fleet.alice.json(&["hosts", "show", "web-1"])["connected"] == false);
    fleet.alice.run(&["apply", "--detach", "-f", &tiny.manifest().display().to_string()]).ok();
    eventually("its spec is written all the same", SOON, || {
        let rollouts = fleet.alice.json(&["rollout", "list"]);
        if rollouts[0]["ended_unix_ms"].is_i64() { Ok(()) } else { Err(rollouts.to_string()) }
    });
    host.sh("dd if=/dev/zero of=/fill bs=4k 2>/dev/null || true; i=0; while echo xxxxxxxx >> /fill.$((i/50)); do i=$((i+1)); done 2>/dev/null || true");
    host.plug();
    eventually("it is said that the disk is full", SOON, || {
        let said = host.journal("drover-agent");
        if said.contains("cannot keep it") && said.contains("No space left") { Ok(()) } else { Err(said) }
    });
    assert_eq!(pids(host), before, "what serves and the agent go on");
    host.sh("rm /fill /fill.*");
    eventually("it converges by itself", SOON, || {
        let says = tiny_says(host);
        if says["version"] == "3" { Ok(()) } else { Err(says.to_string()) }
    });
    assert_eq!(pids(host)[1], before[1], "the agent never ended");
}

#[test]
fn a_ledger_that_cannot_be_written_and_a_read_only_etc_touch_nothing() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();

    // One inode for the directory, and one for the ledger that is there.
    let ledger = format!("{STATE}/ledger");
    host.sh(&format!(
        "cp -a {ledger}/tiny.json /root/; mount -t tmpfs -o size=1m,nr_inodes=2,mode=700 tmpfs {ledger}; cp -a /root/tiny.json {ledger}/"
    ));
    let tiny = tiny.version("2");
    refused(&fleet, &tiny, &["the disk is full"]);
    host.sh(&format!("umount {ledger}"));

    // The unit's file would change.
    let tiny = tiny.edit("A very small web server", "Another small web server");
    host.sh("mount --bind /etc /etc; mount -o remount,ro,bind /etc");
    refused(&fleet, &tiny, &["Read-only file system"]);
    assert!(!host.sh("systemctl cat tiny.service").contains("Another"));
    host.sh("umount /etc");

    // Events have nowhere to be kept: nothing else suffers.
    host.sh(&format!("mount -t tmpfs -o size=1m,nr_inodes=1 tmpfs {STATE}/events"));
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_eq!(tiny_says(host)["version"], "2");
    host.sh(&format!("umount {STATE}/events"));
    assert!(host.sh("systemctl cat tiny.service").contains("Another"));
}

#[test]
fn a_state_directory_that_fails_is_said_and_survived() {
    let fleet = Fleet::start(&["web-1"]);
    let (host, plain) = (&fleet.hosts[0], Plain::new());
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    fleet.alice.apply(&plain.app("plain", "one")).ok();
    // A file system on a disk that is promised more than there is: when it is full, writing fails with EIO, and the
    // kernel lets nobody write any more.
    host.sh(&format!(
        "systemctl stop drover-agent
         mkdir -p /mnt/back; mount -t tmpfs -o size=24m tmpfs /mnt/back; truncate -s 96M /mnt/back/img; mkfs.ext4 -q /mnt/back/img
         [ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237
         for i in $(seq 0 63); do [ -e /dev/loop$i ] || mknod /dev/loop$i b 7 $i; done
         losetup -f --show /mnt/back/img > /root/loop
         mkdir /mnt/state; mount $(cat /root/loop) /mnt/state; cp -a {STATE}/. /mnt/state/; umount /mnt/state
         mount $(cat /root/loop) {STATE}; systemctl start drover-agent"
    ));
    connected(&fleet);
    let before = pids(host);
    host.sh("dd if=/dev/zero of=/mnt/back/fill bs=64k 2>/dev/null || true");
    let tiny = tiny
        .version("2")
        .edit("healthy_deadline: 12s", "healthy_deadline: 50s")
        .edit("progress_deadline: 60s", "progress_deadline: 120s");
    fleet.alice.run(&["apply", "--detach", "-f", &tiny.manifest().display().to_string()]).ok();
    eventually("it is said", SOON, || {
        let said = host.journal("drover-agent");
        if said.contains("Input/output error") || said.contains("Read-only file system") { Ok(()) } else { Err(said) }
    });
    // Whatever is tried again is tried with pauses.
    let (said, begun) = (lines(host), std::time::Instant::now());
    eventually("five seconds have passed", SOON, || begun.elapsed() > Duration::from_secs(5));
    assert!(lines(host) - said < 100, "{}", host.journal("drover-agent"));
    assert_eq!(pids(host), before, "what serves and the agent go on");
    assert_eq!((&tiny_says(host)["version"], host.is_active("plain.service")), (&"1".into(), true));

    host.sh(&format!(
        "systemctl stop drover-agent; rm /mnt/back/fill; umount {STATE}; mount $(cat /root/loop) {STATE}; systemctl start drover-agent"
    ));
    connected(&fleet);
    eventually("it converges by itself", SOON, || {
        let says = tiny_says(host);
        if says["version"] == "2" { Ok(()) } else { Err(says.to_string()) }
    });
    healthy(&fleet.alice, "plain", "web-1");
    host.sh(&format!("systemctl stop drover-agent; umount {STATE}; losetup -d $(cat /root/loop)"));
}
