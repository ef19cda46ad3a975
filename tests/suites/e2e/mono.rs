//! The example of the mono runbook: a real Flask app under gunicorn behind nginx, built on the host from carried wheels.

use std::{path::Path, process::Command};

use drover_tests::{fleet::Fleet, lab::run};

use crate::host_in_rollout;

fn example(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/mono");
    run(&mut Command::new(from.join("fetch-wheels")), None).ok();
    run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to), None).ok();
}

#[test]
fn mono_is_deployed_upgraded_broken_and_reverted() {
    let fleet = Fleet::start(&["web-1", "web-2", "web-3"]);
    let folder = tempfile::tempdir().expect("a temporary directory");
    example(folder.path());
    let manifest = folder.path().join("drover.yaml");
    let version = folder.path().join("backend/VERSION");

    fleet.alice.apply(&manifest).ok();
    for host in &fleet.hosts {
        let site = host.exec(&["curl", "-s", "-m", "5", "-H", "Host: example.test", "http://127.0.0.1/health"]).ok();
        assert!(site.contains("\"ok\""), "{}: {site}", host.name());
        assert_eq!(host.property("mono-api.service", "User"), "www-data");
        assert_eq!(host.sh("stat -c %U:%a /var/log/mono").trim(), "www-data:750");
        let writable = host
            .exec(&[
                "find",
                "/var/lib/drover/releases/mono",
                "!",
                "-type",
                "l",
                "(",
                "!",
                "-user",
                "root",
                "-o",
                "-perm",
                "/022",
                ")",
            ])
            .ok();
        assert_eq!(writable, "", "the run user cannot write its release");
    }

    std::fs::write(&version, "2.0.0\n").expect("a new version");
    fleet.alice.apply(&manifest).ok();
    let answer = fleet.hosts[2].exec(&["curl", "-s", "http://127.0.0.1:5000/"]).ok();
    assert!(answer.contains("2.0.0"), "{answer}");

    std::fs::copy(folder.path().join("broken/app.py"), folder.path().join("backend/app.py")).expect("a bug");
    let text = std::fs::read_to_string(&manifest).expect("the manifest");
    std::fs::write(&manifest, text.replace("healthy_deadline: 60s", "healthy_deadline: 20s")).expect("the manifest");
    let output = fleet.alice.apply(&manifest);
    let said = output.clone().fails();
    assert_eq!(output.status, 1);
    assert!(said.contains("500"), "the cause is said: {said}");
    for host in &fleet.hosts {
        let answer = host.exec(&["curl", "-s", "http://127.0.0.1:5000/"]).ok();
        assert!(answer.contains("2.0.0") && answer.contains("\"ok\""), "{}: {answer}", host.name());
    }
    let first = ["web-1", "web-2", "web-3"]
        .iter()
        .filter(|h| host_in_rollout(&fleet.alice, "mono", h)["state"]["state"] == "reverted")
        .count();
    assert_eq!(first, 1, "one host was tried, the others never touched");
}

#[test]
fn mono_builds_from_the_package_index() {
    let fleet = Fleet::start(&["web-1"]);
    fleet.lab.internet();
    let host = &fleet.hosts[0];
    // The mirror of a machine behind a proxy may have a CA of its own; the host trusts what this machine trusts.
    if let Ok(bundle) = std::fs::read("/etc/ssl/certs/ca-certificates.crt") {
        host.write_file("/etc/ssl/certs/ca-certificates.crt", &bundle);
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    example(folder.path());
    std::fs::remove_dir_all(folder.path().join("backend/wheels")).expect("the wheels");
    let manifest = folder.path().join("drover.yaml");
    let text = std::fs::read_to_string(&manifest).expect("the manifest");
    let online = text.replace("--no-index, --find-links, wheels, ", "--cert, /etc/ssl/certs/ca-certificates.crt, ");
    assert_ne!(text, online, "the example installs from carried wheels");
    std::fs::write(&manifest, online).expect("the manifest");
    fleet.alice.apply(&manifest).ok();
    let answer = host.exec(&["curl", "-s", "http://127.0.0.1:5000/"]).ok();
    assert!(answer.contains("\"ok\""), "{answer}");
}
