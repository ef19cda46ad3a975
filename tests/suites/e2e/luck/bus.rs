//! The bus restarted and systemd executed anew in the middle of an activation, and a second agent on the host.

use std::path::PathBuf;

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually},
};

use super::{Plain, SOON, healthy};

/// An app whose unit is not started before there is /run/go.
fn slow(plain: &Plain, content: &str) -> PathBuf {
    let path = plain.app("slow", content);
    let text = std::fs::read_to_string(&path).expect("the manifest");
    let at = text.find("units:").expect("units");
    let unit = "units:\n  slow.service:\n    text: |\n      [Service]\n      ExecStartPre=/bin/sh -c 'until test -e /run/go; do sleep 0.1; done'\n      \
                ExecStart=/bin/sleep infinity\n      Environment=CONF=/etc/slow.conf\n      [Install]\n      \
                WantedBy=multi-user.target\n";
    std::fs::write(&path, format!("{}{unit}", &text[..at])).expect("a file");
    path
}

fn starts(host: &Host) -> usize {
    host.exec(&["journalctl", "-o", "cat", "-u", "slow.service"]).stdout.matches("Started slow.service").count()
}

#[test]
fn an_activation_survives_the_bus_and_systemd_itself() {
    let fleet = Fleet::start(&["web-1"]);
    let (host, plain) = (&fleet.hosts[0], Plain::new());
    host.sh("touch /run/go");
    fleet.alice.apply(&slow(&plain, "0")).ok();
    let agent = host.main_pid("drover-agent.service");
    for (number, script) in
        ["systemctl restart dbus", "systemctl daemon-reexec", "systemctl stop dbus; sleep 2; systemctl start dbus"]
            .iter()
            .enumerate()
    {
        let before = starts(host);
        let content = (number + 1).to_string();
        let manifest = slow(&plain, &content);
        host.sh("rm /run/go");
        fleet.alice.run(&["apply", "--detach", "-f", &manifest.display().to_string()]).ok();
        eventually("its unit is being started", SOON, || host.property("slow.service", "SubState") == "start-pre");
        host.sh(script);
        host.sh("touch /run/go");
        eventually("the release is committed", SOON, || {
            let seen = fleet.alice.app_on("slow", "web-1");
            let at = (&seen["status"]["running"]["number"], &seen["status"]["phase"]["state"]);
            if at == (&(number + 2).into(), &"healthy".into()) { Ok(()) } else { Err(format!("{script}: {seen:#}")) }
        });
        assert_eq!(host.read_file("/etc/slow.conf"), content.as_bytes(), "{script}");
        assert_eq!(starts(host), before + 1, "started once: {script}");
    }
    healthy(&fleet.alice, "slow", "web-1");
    assert_eq!(host.main_pid("drover-agent.service"), agent, "the agent went on");
}

#[test]
fn a_second_agent_says_so_and_ends() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let second = host.exec(&["timeout", "20", "drover-agent", "run"]);
    assert!(!second.success() && second.stderr.contains("another drover-agent is running"), "{second}");
    // Nor with a state of its own: two would undo each other's work.
    host.write_file("/root/second.toml", b"state_dir = \"/root/second\"\n");
    let second = host.exec(&["timeout", "20", "drover-agent", "--config", "/root/second.toml", "run"]);
    assert!(!second.success() && second.stderr.contains("another drover-agent is running"), "{second}");
    assert!(host.is_active("drover-agent"));
}
