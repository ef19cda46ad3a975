//! The packages on real hosts: install, upgrade, remove, purge, and what workloads notice of it, which is nothing.
//!
//! Uses the packages of `make deb-dev`; a later version is made of the same binaries by `packaging/build-deb`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use drover_tests::{
    fleet::{Fleet, install, packages},
    lab::{Host, Lab, Output, eventually, run},
    tiny::Tiny,
};

const SOON: Duration = Duration::from_secs(20);
const APP: &str = "tiny.service";
/// Higher than any version that the workspace may have.
const LATER: &str = "99.0.0";

#[test]
fn the_three_packages_install_and_the_daemons_start() {
    let host = Lab::start().host("one");
    for package in ["drover-coordinator", "drover-agent", "drover"] {
        install(&host, package);
        assert_eq!(host.exec(&["dpkg-query", "-W", "-f", "${db:Status-Status}", package]).ok(), "installed");
        let program = format!("/usr/bin/{package}");
        let version = host.exec(&[&program, "--version"]).ok();
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{program} --version says {version:?}");
    }
    for daemon in ["drover-coordinator.service", "drover-agent.service"] {
        assert_eq!(host.exec(&["systemctl", "is-enabled", daemon]).ok(), "enabled");
        // An agent that is not enrolled waits; it does not fail.
        assert!(host.is_active(daemon), "{daemon}: {}", host.journal(daemon));
        assert_eq!(host.property(daemon, "NRestarts"), "0", "{}", host.journal(daemon));
        assert_ne!(host.property(daemon, "WatchdogUSec"), "0", "{daemon} has a watchdog");
    }
    let owner_and_mode = |path: &str| host.exec(&["stat", "-c", "%U %a", path]).ok();
    assert_eq!(owner_and_mode("/var/lib/drover/agent"), "root 700");
    assert_eq!(owner_and_mode("/var/lib/drover-coordinator"), "drover-coordinator 700");
    for file in [
        "/etc/drover/agent.toml",
        "/etc/drover/coordinator.toml",
        "/etc/drover/alerting.toml",
        "/usr/share/bash-completion/completions/drover",
    ] {
        assert!(host.exists(file), "{file}");
    }
    let schema = host.read_file("/usr/share/drover/manifest.schema.json");
    let schema: serde_json::Value = serde_json::from_slice(&schema).expect("the schema is JSON");
    assert!(schema["properties"]["app"].is_object(), "{schema:#}");
    host.reboot();
    for daemon in ["drover-coordinator.service", "drover-agent.service"] {
        assert!(host.is_active(daemon), "{daemon} after a reboot: {}", host.journal(daemon));
    }
}

#[test]
fn the_binaries_need_no_glibc_newer_than_2_31() {
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/check-glibc");
    let debs = ["drover-agent", "drover-coordinator", "drover"].map(|name| packages().join(format!("{name}.deb")));
    let said = run(Command::new(check).args(&debs), None).ok();
    assert_eq!(said.matches("(allowed: 2.31)").count(), 3, "one line for each binary: {said}");
}

#[test]
fn an_upgrade_keeps_edited_settings_and_restarts_no_workload() {
    let fleet = Fleet::start(&["web"]);
    let web = fleet.host("web");
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let workload = web.main_pid(APP);
    assert_ne!(workload, 0);

    let edited = b"# mine\nlog = \"debug\"\n";
    web.write_file("/etc/drover/agent.toml", edited);
    fleet.coordinator.write_file("/etc/drover/coordinator.toml", edited);
    let later = LaterPackages::build();

    let coordinator = fleet.coordinator.main_pid("drover-coordinator.service");
    later.upgrade(&fleet.coordinator, "drover-coordinator").ok();
    assert_ne!(fleet.coordinator.main_pid("drover-coordinator.service"), coordinator, "the new one runs");
    assert_eq!(fleet.coordinator.read_file("/etc/drover/coordinator.toml"), edited);
    assert!(fleet.coordinator.exists("/etc/drover/coordinator.toml.dpkg-dist"), "the new default lies beside it");
    wait_connected(&fleet);
    assert_eq!(web.main_pid(APP), workload, "the coordinator's upgrade restarts no workload");

    let agent = web.main_pid("drover-agent.service");
    later.upgrade(web, "drover-agent").ok();
    assert_eq!(web.exec(&["dpkg-query", "-W", "-f", "${Version}", "drover-agent"]).ok(), LATER);
    assert_ne!(web.main_pid("drover-agent.service"), agent, "the new one runs");
    assert_eq!(web.read_file("/etc/drover/agent.toml"), edited);
    wait_connected(&fleet);
    eventually("the agent has looked at the app again", SOON, || fleet.alice.app_on("tiny", "web").is_object());
    assert_eq!(web.main_pid(APP), workload, "the agent's upgrade restarts no workload");
    assert!(
        fleet.alice.run(&["plan", "-f", &tiny.manifest().display().to_string()]).success(),
        "nothing is left to do"
    );

    fleet.alice.apply(&tiny.version("2").manifest()).ok();
    assert!(answer(web).contains(r#""version": "2""#), "after the upgrade releases go out as before: {}", answer(web));
}

#[test]
fn removing_and_purging_the_agent_leaves_the_workload_running() {
    let fleet = Fleet::start(&["web"]);
    let web = fleet.host("web");
    fleet.alice.apply(&Tiny::new().manifest()).ok();
    let workload = web.main_pid(APP);
    assert_ne!(workload, 0);
    let goes_on = |when: &str| {
        assert_eq!(web.main_pid(APP), workload, "{when}");
        assert!(answer(web).contains(r#""status": "ok""#), "{when}: {}", answer(web));
    };

    web.exec(&["dpkg", "--remove", "drover-agent"]).ok();
    assert!(!web.is_active("drover-agent.service"));
    assert!(web.exists("/var/lib/drover/agent/identity.json"), "a removed agent that comes back is still enrolled");
    goes_on("after the removal");

    install(web, "drover-agent");
    assert!(web.is_active("drover-agent.service"), "{}", web.journal("drover-agent"));
    wait_connected(&fleet);
    goes_on("after it came back");

    web.exec(&["dpkg", "--purge", "drover-agent"]).ok();
    for gone in ["/var/lib/drover/agent", "/etc/drover/agent.toml", "/usr/bin/drover-agent"] {
        assert!(!web.exists(gone), "{gone} is gone");
    }
    for kept in ["/var/lib/drover/releases/tiny", "/var/lib/drover/env/tiny.env", "/etc/systemd/system/tiny.service"] {
        assert!(web.exists(kept), "{kept} is kept: the workload runs from it");
    }
    goes_on("after the purge");
    web.reboot();
    assert!(web.is_active(APP), "plain systemd starts it at boot: {}", web.journal(APP));
}

#[test]
fn purging_the_coordinator_leaves_nothing() {
    let host = Lab::start().host("coordinator");
    install(&host, "drover-coordinator");
    assert!(host.exists("/var/lib/drover-coordinator"));
    host.exec(&["dpkg", "--purge", "drover-coordinator"]).ok();
    for gone in ["/var/lib/drover-coordinator", "/etc/drover", "/usr/bin/drover-coordinator"] {
        assert!(!host.exists(gone), "{gone} is gone");
    }
    install(&host, "drover-coordinator");
    assert!(host.is_active("drover-coordinator.service"), "{}", host.journal("drover-coordinator"));
}

/// Waits until every host of the fleet is connected, by an agent that runs now.
#[track_caller]
fn wait_connected(fleet: &Fleet) {
    eventually("every agent is connected again", SOON, || {
        let hosts = fleet.alice.run(&["hosts", "-o", "json"]);
        let list: serde_json::Value = serde_json::from_str(&hosts.stdout).map_err(|_| hosts.to_string())?;
        let up = list.as_array().into_iter().flatten().filter(|h| h["connected"] == true).count();
        if up == fleet.hosts.len() { Ok(()) } else { Err(format!("{list:#}")) }
    });
}

/// What the tiny app answers, asked on its host.
fn answer(host: &Host) -> String {
    host.exec(&["curl", "-sS", "http://127.0.0.1:8000/"]).stdout
}

/// The packages once more, with a higher version and other default settings.
struct LaterPackages {
    directory: tempfile::TempDir,
}

impl LaterPackages {
    #[track_caller]
    fn build() -> LaterPackages {
        let later = LaterPackages { directory: tempfile::tempdir().expect("a temporary directory") };
        let extracted = later.path("extracted");
        for package in ["drover-agent", "drover-coordinator", "drover"] {
            let deb = packages().join(format!("{package}.deb"));
            run(Command::new("dpkg-deb").arg("--extract").args([&deb, &extracted]), None).ok();
        }
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/build-deb");
        let mut command = Command::new(build);
        command.args(["--profile", "dev", "--version", LATER, "--bin-dir"]).arg(extracted.join("usr/bin"));
        run(command.arg("--out").arg(later.path("debs")), None).ok();
        for package in ["drover-agent", "drover-coordinator"] {
            later.change_default_settings(package);
        }
        later
    }

    /// Only a conffile that differs in both, host and package, makes dpkg choose.
    #[track_caller]
    fn change_default_settings(&self, package: &str) {
        let (deb, root) = (self.deb(package), self.path(package));
        run(Command::new("dpkg-deb").arg("--raw-extract").args([&deb, &root]), None).ok();
        let settings =
            root.join("etc").join("drover").join(package.trim_start_matches("drover-")).with_extension("toml");
        let text = std::fs::read_to_string(&settings).unwrap_or_else(|error| panic!("{}: {error}", settings.display()));
        std::fs::write(&settings, text + "\n# A later version says more here.\n").expect("the settings can be written");
        run(
            Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "-z1", "--build"]).args([&root, &deb]),
            None,
        )
        .ok();
    }

    /// Installs the later version over the one that is there, as an unattended upgrade would.
    #[track_caller]
    fn upgrade(&self, host: &Host, package: &str) -> Output {
        std::fs::copy(self.deb(package), host.share().join("later.deb")).expect("the package can be copied");
        host.exec(&["dpkg", "--force-confold", "-i", "/lab/later.deb"])
    }

    fn deb(&self, package: &str) -> PathBuf {
        self.path("debs").join(format!("{package}.deb"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
