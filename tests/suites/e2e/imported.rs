//! What was made by hand is imported, taken over without a restart, changed, and given back.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, Image, Registry, eventually},
};

/// A host with things that nobody but its owner made, and a place for manifests.
struct ByHand {
    fleet: Fleet,
    folder: tempfile::TempDir,
    _registry: Registry,
}

const UNIT: &str = "[Unit]\nDescription=By hand\n\n[Service]\nExecStart=/usr/bin/sleep infinity\nUser=www-data\n\n\
                    [Install]\nWantedBy=multi-user.target\n";
const STRATEGY: &str = "strategy: { min_healthy_time: 1s, healthy_deadline: 20s }\n";

impl ByHand {
    fn make() -> ByHand {
        let fleet = Fleet::start_with(&["web-1"], |lab, name| lab.docker_host(name));
        let registry = Registry::start();
        registry.push("shop/web:1", &Image::web("one"));
        let host = &fleet.hosts[0];
        let image = registry.name("shop/web:1");
        host.docker(&[
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "8080:8080",
            "-e",
            "GREETING=hello",
            "-e",
            "DB_PASSWORD=hunter2",
            "-v",
            "web-data:/data",
            "--restart",
            "always",
            "--add-host",
            "db:10.0.0.9",
            "--memory",
            "64m",
            "-l",
            "team=shop",
            &image,
        ])
        .ok();
        host.write_file("/etc/systemd/system/byhand.service", UNIT.as_bytes());
        host.write_file("/lib/systemd/system/packaged.service", UNIT.replace("By hand", "Packaged").as_bytes());
        host.exec(&["systemctl", "daemon-reload"]).ok();
        host.exec(&["systemctl", "enable", "--now", "byhand.service", "packaged.service"]).ok();
        ByHand { fleet, folder: tempfile::tempdir().expect("a temporary directory"), _registry: registry }
    }

    fn host(&self) -> &Host {
        &self.fleet.hosts[0]
    }

    /// The file that was written of it, and what it says.
    #[track_caller]
    fn import(&self, kind: &str, name: &str) -> (PathBuf, String) {
        let path = self.folder.path().join(format!("{name}.yaml"));
        let file = path.to_str().expect("text");
        self.fleet.alice.run(&["import", kind, name, "--host", "web-1", "-f", file]).ok();
        let again = self.fleet.alice.run(&["import", kind, name, "--host", "web-1", "-f", file]).fails();
        assert!(again.contains("is there already"), "{again}");
        let text = std::fs::read_to_string(&path).expect("a manifest");
        std::fs::write(&path, format!("{text}{STRATEGY}")).expect("a manifest");
        (path, text)
    }

    fn with(&self, path: &Path, from: &str, to: &str) -> PathBuf {
        let text = std::fs::read_to_string(path).expect("a manifest");
        assert!(text.contains(from), "no {from:?} in {text}");
        let other = self.folder.path().join("other.yaml");
        std::fs::write(&other, text.replacen(from, to, 1)).expect("a manifest");
        other
    }

    /// Its id, its process, and when the engine starts it again.
    fn container(&self) -> String {
        let format = "{{.Id}} {{.State.Pid}} {{.HostConfig.RestartPolicy.Name}}";
        self.host().docker(&["inspect", "-f", format, "web"]).ok().trim().to_owned()
    }

    fn names(&self) -> String {
        self.host().docker(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok()
    }
}

fn id(container: &str) -> &str {
    container.split(' ').next().unwrap_or_default()
}

#[test]
fn a_container_is_imported_taken_over_changed_and_given_back() {
    let hand = ByHand::make();
    let alice = &hand.fleet.alice;
    let (manifest, text) = hand.import("container", "web");
    assert!(!text.contains("hunter2") && text.contains("drover secret set web-DB_PASSWORD"), "{text}");
    assert!(text.contains("extra_hosts") && text.contains("GREETING: hello") && text.contains("adopt: true"), "{text}");
    alice.run_with_stdin(&["secret", "set", "web-DB_PASSWORD"], b"hunter2\n").ok();

    // A first release that differs, and fails: what was there is there again, and nobody's but its owner's.
    let born = hand.container();
    let crash = hand.with(&manifest, "GREETING: hello", "GREETING: hello\n      BEHAVIOUR: crash");
    let plan = alice.run(&["plan", "-f", crash.to_str().expect("text")]);
    assert!(plan.stdout.contains("environment (BEHAVIOUR)"), "{plan}");
    alice.apply(&crash).fails();
    let back = hand.container();
    assert!(id(&back) == id(&born) && back.ends_with(" always"), "{born}: {back}");
    assert_eq!(hand.names().trim(), "web running");

    let plan = alice.run(&["plan", "-f", manifest.to_str().expect("text")]);
    assert!(plan.stdout.contains("take container web over as it is"), "{plan}");
    alice.apply(&manifest).ok();
    assert_eq!(hand.container(), back, "it was not touched");
    let status = alice.app_on("web", "web-1");
    assert!(
        status["status"]["parts"].as_array().into_iter().flatten().all(|part| part["in_sync"] == true),
        "{status:#}"
    );
    hand.host().exec(&["systemctl", "restart", "drover-agent"]).ok();
    // As soon as the coordinator has heard of it.
    eventually("there is nothing to do for it", Duration::from_secs(30), || {
        let again = alice.apply(&manifest).ok();
        if again.contains("nothing to do") { Ok(()) } else { Err(again) }
    });
    assert_eq!(hand.container(), back, "nor by an agent that began anew");

    let bad = hand.with(&manifest, "GREETING: hello", "GREETING: hello\n      BEHAVIOUR: crash");
    alice.apply(&bad).fails();
    assert_eq!(id(&hand.container()), id(&born), "the very one is back");
    assert_eq!(hand.names().trim(), "web running");
    alice.apply(&hand.with(&manifest, "GREETING: hello", "GREETING: bye")).ok();
    assert_ne!(id(&hand.container()), id(&born), "it is another one now");
    assert!(hand.names().contains("web.drover-before exited"), "{}", hand.names());
    alice.run(&["remove", "web", "--yes"]).ok();
    let back = hand.container();
    assert!(id(&back) == id(&born) && back.ends_with(" always"), "{back}");
    assert_eq!(hand.names().trim(), "web running");
}

#[test]
fn units_are_imported_and_taken_over_without_a_restart() {
    let hand = ByHand::make();
    let host = hand.host();
    for (name, file) in
        [("byhand", "/etc/systemd/system/byhand.service"), ("packaged", "/lib/systemd/system/packaged.service")]
    {
        let unit = format!("{name}.service");
        let before = host.main_pid(&unit);
        let (manifest, text) = hand.import("unit", &unit);
        assert!(text.contains("adopt: true") && text.contains("ExecStart=/usr/bin/sleep infinity"), "{text}");
        hand.fleet.alice.apply(&manifest).ok();
        assert!(before != 0 && host.main_pid(&unit) == before, "{unit} was restarted");
        assert!(host.exists(file) && host.exists(&format!("/etc/systemd/system/{unit}")), "{unit}");
        let status = hand.fleet.alice.app_on(name, "web-1");
        assert_eq!(status["status"]["phase"]["state"].as_str().unwrap_or("healthy"), "healthy", "{status:#}");
    }
    let unknown = hand.fleet.alice.run(&["import", "unit", "none.service", "--host", "web-1"]).fails();
    assert!(unknown.contains("there is no unit none.service"), "{unknown}");
}
