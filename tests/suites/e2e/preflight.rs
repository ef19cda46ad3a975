//! What cannot end well is refused by the plan, on every host, before anything is touched on any.

use drover_tests::{
    fleet::{Fleet, install},
    lab::Output,
    tiny::Tiny,
};

/// Plans and applies: both are refused with these words, and no rollout begins.
#[track_caller]
fn refused(fleet: &Fleet, tiny: &Tiny, words: &[&str]) {
    let manifest = tiny.manifest().display().to_string();
    let plan: Output = fleet.alice.run(&["plan", "-f", &manifest]);
    let said = plan.to_string();
    let all = fleet.alice.apply(&tiny.manifest()).fails();
    for word in words {
        assert!(said.contains(word), "the plan does not say {word:?}:\n{said}");
        assert!(all.contains(word), "apply does not say {word:?}:\n{all}");
    }
    assert!(fleet.alice.json(&["rollout", "list"]).as_array().is_some_and(Vec::is_empty), "no rollout has begun");
    for host in &fleet.hosts {
        assert!(!host.exists("/etc/systemd/system/tiny.service"), "{} was not touched", host.name());
    }
}

#[test]
fn ports_names_and_accounts_that_are_taken_or_missing_on_one_host_refuse_all() {
    let fleet = Fleet::start(&["web-1", "web-2"]);
    let second = fleet.host("web-2");
    second.sh("systemd-run --quiet --unit=squatter python3 -m http.server 8000 --bind 0.0.0.0");
    second.sh("until ss -ltn | grep -q ':8000 '; do sleep 0.1; done");
    let tiny = Tiny::new().edit("user: www-data", "user: www-data\n    ports: \"127.0.0.1:8000\"");
    refused(&fleet, &tiny, &["web-2", "[port-taken]", "0.0.0.0:8000", "squatter.service", "python3"]);

    second.sh("systemctl stop squatter; useradd --system tinyuser");
    let stranger = Tiny::new().edit("user: www-data", "user: tinyuser");
    refused(&fleet, &stranger, &["web-1", "[no-such-user]", "user tinyuser does not exist", "host.users"]);
    second.sh("userdel tinyuser");

    // The lab's hosts stand on an overlay, where the kernel takes no swap file.
    let swap = Tiny::new().append("host: { swap: 16G }");
    refused(&fleet, &swap, &["web-1", "[host-need]", "overlayfs", "host.swap"]);

    second.sh("ln -s /lib/systemd/system/cron.service /etc/systemd/system/tiny.service; systemctl daemon-reload");
    let plan = fleet.alice.run(&["plan", "-f", &tiny.manifest().display().to_string()]);
    assert!(plan.to_string().contains("web-2") && plan.to_string().contains("refused["), "{plan}");
    second.sh("rm /etc/systemd/system/tiny.service; systemctl daemon-reload");

    fleet.alice.apply(&tiny.manifest()).ok();
    let pid = second.main_pid("tiny.service");
    let tiny = tiny.edit("description: A very", "description: Another very");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_ne!(second.main_pid("tiny.service"), pid, "what the app itself listens on is no obstacle");
}

#[test]
fn a_disk_without_room_and_one_without_inodes_refuse_the_plan() {
    let mut fleet = Fleet::start_empty(&[]);
    let host = fleet.lab.host_with_disk("web-1", "96m");
    install(&host, "drover-agent");
    fleet.hosts.push(host);
    fleet.enroll_all("role=web");
    let host = &fleet.hosts[0];
    // Noise, which does not shrink: the archive takes as much again.
    let tiny = Tiny::new();
    let noise = tiny.path().join("app/noise").display().to_string();
    let dd = ["if=/dev/urandom", &format!("of={noise}"), "bs=1M", "count=50"];
    drover_tests::lab::run(std::process::Command::new("dd").args(dd), None).ok();
    refused(&fleet, &tiny, &["web-1", "[disk]", "MiB are free", "make room on that host"]);

    std::fs::remove_file(&noise).expect("the noise");
    host.sh("mount -t tmpfs -o nr_inodes=40,mode=0755 tmpfs /var/lib/drover/releases");
    for i in 0..60 {
        tiny.write(&format!("app/file-{i}"), "x");
    }
    refused(&fleet, &tiny, &["web-1", "[disk]", "no inodes left", "/var/lib/drover/releases"]);

    host.sh("umount /var/lib/drover/releases");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert!(host.is_active("tiny.service"));
}
