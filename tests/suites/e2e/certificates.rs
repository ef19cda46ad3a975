//! Certificates that are renewed, and a CA that takes over from another, while workloads and streams notice nothing.

use std::time::Duration;

use drover_tests::{
    fleet::{Cli, Fleet},
    lab::{Host, eventually},
    tiny::Tiny,
};

/// Restarts the coordinator with certificates of this life, and waits until it answers.
fn with_life(fleet: &Fleet, life: &str) {
    let text = format!("certificate_life = \"{life}\"\n");
    fleet.coordinator.write_file("/etc/drover/coordinator.toml", text.as_bytes());
    restart(fleet);
}

fn restart(fleet: &Fleet) {
    fleet.coordinator.exec(&["systemctl", "restart", "drover-coordinator"]).ok();
    eventually("the coordinator answers", Duration::from_secs(20), || {
        let output = fleet.alice.run(&["hosts"]);
        if output.success() { Ok(()) } else { Err(output.to_string()) }
    });
}

fn certificate(host: &Host) -> String {
    let identity = host.read_file("/var/lib/drover/agent/identity.json");
    let identity: serde_json::Value = serde_json::from_slice(&identity).expect("json");
    identity["certificate"].as_str().expect("a certificate").to_owned()
}

#[test]
fn certificates_are_renewed_at_half_life_and_the_stream_stays() {
    let fleet = Fleet::start_empty(&["web-1"]);
    with_life(&fleet, "16s");
    fleet.enroll_all("role=web");
    let bob = Cli::login(&fleet.coordinator, "bob");
    let host = &fleet.hosts[0];
    fleet.alice.apply(&Tiny::new().manifest()).ok();
    let (pid, first) = (host.main_pid("tiny"), certificate(host));
    // By then the first certificates have expired: bob's, too, who renews by calling.
    eventually("the host has renewed twice", Duration::from_secs(40), || {
        let events = bob.json(&["events", "--host", "web-1"]).to_string();
        if events.matches("certificate-renewed").count() >= 2 { Ok(()) } else { Err(events) }
    });
    assert_ne!(certificate(host), first);
    assert_eq!(host.main_pid("tiny"), pid);
    assert_eq!(fleet.alice.json(&["hosts"])[0]["connected"], true);
    let said = fleet.coordinator.journal("drover-coordinator");
    assert!(!said.contains(" lost"), "the host was away for a moment: {said}");
    let log = host.journal("drover-agent");
    assert!(!log.contains("not connected"), "{log}");
    bob.run(&["hosts"]).ok();
}

#[test]
fn a_ca_takes_over_from_another_without_a_hand_on_the_host() {
    let fleet = Fleet::start_empty(&["web-1"]);
    with_life(&fleet, "100s");
    fleet.enroll_all("role=web");
    let host = &fleet.hosts[0];
    fleet.alice.apply(&Tiny::new().manifest()).ok();
    let pid = host.main_pid("tiny");
    let ca = |verb: &str| fleet.coordinator.exec(&["drover-coordinator", "ca", verb]);
    let status = |wanted: &str| {
        eventually(wanted, Duration::from_secs(20), || {
            let said = ca("status").ok();
            if said.contains(wanted) { Ok(()) } else { Err(said) }
        });
    };
    let before = ca("status").ok();
    ca("switch").fails();
    ca("rotate").ok();
    let said = ca("switch").fails();
    assert!(said.contains("web-1"), "a step that would cut a host off: {said}");
    restart(&fleet);
    status("1 of 1 hosts know the next CA");
    fleet.alice.run(&["hosts"]).ok();
    status("1 of 1 operators know the next CA");
    ca("switch").ok();
    restart(&fleet);
    fleet.alice.run(&["hosts"]).ok();
    status("1 of 1 hosts have a certificate of the new CA");
    status("1 of 1 operators have a certificate of the new CA");
    ca("retire").ok();
    restart(&fleet);
    eventually("the host is connected", Duration::from_secs(20), || {
        let hosts = fleet.alice.json(&["hosts"]);
        if hosts[0]["connected"] == true { Ok(()) } else { Err(format!("{hosts:#}")) }
    });
    let after = ca("status").ok();
    assert!(after.contains("no change is under way") && after != before, "{before}\n{after}");
    assert_eq!(host.main_pid("tiny"), pid, "what runs went on running");
}
