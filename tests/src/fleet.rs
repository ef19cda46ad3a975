//! drover itself on lab hosts, installed as a user would: packages by dpkg, the operator's login, tokens, enrolment.
//!
//! `Fleet` is one coordinator with some hosts; `Cli` is the operator's command on this machine. What the tests deploy
//! is made by `tiny`.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use crate::lab::{Host, Lab, Output, eventually, run};

/// A coordinator and enrolled hosts, all of this test's own.
pub struct Fleet {
    /// The network; more hosts can come from it.
    pub lab: Lab,
    /// The machine with the coordinator.
    pub coordinator: Host,
    /// The enrolled hosts, in the order of their names.
    pub hosts: Vec<Host>,
    /// The operator `alice`, logged in.
    pub alice: Cli,
}

/// Where `make deb-dev` puts the packages; `DROVER_PACKAGES` names another place, such as that of `make deb`.
pub fn packages() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debian/dev");
    std::env::var_os("DROVER_PACKAGES").map_or_else(built, PathBuf::from)
}

/// Copies a package into a host and installs it.
#[track_caller]
pub fn install(host: &Host, package: &str) {
    let file = packages().join(format!("{package}.deb"));
    let to = host.share().join(format!("{package}.deb"));
    std::fs::copy(&file, &to).unwrap_or_else(|error| panic!("{}: {error}; run make deb-dev", file.display()));
    host.exec(&["dpkg", "-i", &format!("/lab/{package}.deb")]).ok();
}

impl Fleet {
    /// A coordinator and these hosts, enrolled with the labels `role=web`.
    pub fn start(names: &[&str]) -> Fleet {
        Fleet::start_with(names, Lab::host)
    }

    /// The same with hosts of another kind.
    pub fn start_with(names: &[&str], boot: impl Fn(&Lab, &str) -> Host + Sync) -> Fleet {
        let fleet = Fleet::start_empty_with(names, boot);
        fleet.enroll_all("role=web");
        fleet
    }

    /// A coordinator with a logged-in operator, and hosts with the agent installed but not enrolled.
    pub fn start_empty(names: &[&str]) -> Fleet {
        Fleet::start_empty_with(names, Lab::host)
    }

    fn start_empty_with(names: &[&str], boot: impl Fn(&Lab, &str) -> Host + Sync) -> Fleet {
        let lab = Lab::start();
        let boot = &boot;
        let (coordinator, hosts) = std::thread::scope(|scope| {
            let coordinator = scope.spawn(|| {
                let host = lab.host("coordinator");
                install(&host, "drover-coordinator");
                host
            });
            let hosts: Vec<_> = names
                .iter()
                .map(|name| {
                    scope.spawn(|| {
                        let host = boot(&lab, name);
                        install(&host, "drover-agent");
                        host
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Host>| {
                thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
            };
            (join(coordinator), hosts.into_iter().map(join).collect())
        });
        let alice = Cli::login(&coordinator, "alice");
        Fleet { lab, coordinator, hosts, alice }
    }

    /// `HOST:PORT` of the coordinator.
    pub fn address(&self) -> String {
        address(&self.coordinator)
    }

    /// Enrolls every host of the fleet with one token.
    #[track_caller]
    pub fn enroll_all(&self, labels: &str) {
        let token = self.alice.token(labels, self.hosts.len());
        for host in &self.hosts {
            self.enroll(host, &token);
        }
        eventually("every host is connected", Duration::from_secs(20), || {
            let hosts = self.alice.json(&["hosts"]);
            let up = hosts.as_array().into_iter().flatten().filter(|h| h["connected"] == true).count();
            if up == self.hosts.len() { Ok(()) } else { Err(format!("{hosts:#}")) }
        });
    }

    /// Enrolls one host.
    #[track_caller]
    pub fn enroll(&self, host: &Host, token: &str) {
        host.exec(&["drover-agent", "enroll", "--coordinator", &self.address(), "--token", token]).ok();
    }

    /// The host with this name.
    #[track_caller]
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|h| h.name() == name).unwrap_or_else(|| panic!("no host {name}"))
    }
}

/// `HOST:PORT` of a coordinator.
pub fn address(coordinator: &Host) -> String {
    format!("{}:7443", coordinator.ip())
}

/// The command `drover` of one operator, with a configuration directory of its own.
pub struct Cli {
    config: tempfile::TempDir,
}

/// The command as it was built beside this test.
pub fn binary(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a program knows where it is");
    let directory = exe.parent().expect("a program lies in a directory");
    // Tests lie in target/…/deps, the programs beside it.
    if directory.ends_with("deps") { directory.with_file_name(name) } else { directory.join(name) }
}

impl Cli {
    /// An operator who has not logged in.
    pub fn nobody() -> Cli {
        Cli { config: tempfile::tempdir().expect("a temporary directory") }
    }

    /// Adds the operator on the coordinator's machine and logs in here.
    #[track_caller]
    pub fn login(coordinator: &Host, name: &str) -> Cli {
        Cli::nobody().login_at(coordinator, &address(coordinator), name)
    }

    /// The same at an address that leads to that coordinator.
    #[track_caller]
    pub fn login_at(self, coordinator: &Host, address: &str, name: &str) -> Cli {
        let mut token = String::new();
        eventually("the coordinator is up", Duration::from_secs(20), || {
            let output = coordinator.exec(&["drover-coordinator", "operator", "add", name]);
            let failed = (!output.success()).then(|| output.to_string());
            token.clone_from(&output.stdout);
            failed.map_or(Ok(()), Err)
        });
        eventually("the login is accepted", Duration::from_secs(20), || {
            let output = self.run(&["login", address, "--token", token.trim()]);
            if output.success() { Ok(()) } else { Err(output.to_string()) }
        });
        self
    }

    /// Somebody who points at the coordinator of `like` with a key (PKCS#8), certificate and CA (DER) of their own.
    pub fn with_credentials(like: &Cli, key: &[u8], certificate: &[u8], ca: &[u8]) -> Cli {
        let cli = Cli::nobody();
        let put = |name: &str, text: &[u8]| {
            let path = cli.config_dir().join(name);
            std::fs::write(&path, text).and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)))
        };
        let pem = |label: &str, der: &[u8]| {
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
        };
        let config = std::fs::read(like.config_dir().join("config.toml")).expect("a login");
        put("config.toml", &config).expect("a file");
        put("operator.key", pem("PRIVATE KEY", key).as_bytes()).expect("a file");
        put("operator.crt", pem("CERTIFICATE", certificate).as_bytes()).expect("a file");
        put("ca.crt", pem("CERTIFICATE", ca).as_bytes()).expect("a file");
        cli
    }

    /// The command with these arguments, not run yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("drover"));
        command.args(args).env("DROVER_CONFIG_DIR", self.config.path()).env("NO_COLOR", "1");
        command
    }

    /// Where this operator's credentials are.
    pub fn config_dir(&self) -> &Path {
        self.config.path()
    }

    /// Runs it.
    pub fn run(&self, args: &[&str]) -> Output {
        run(&mut self.command(args), None)
    }

    /// Runs it with something on its standard input.
    pub fn run_with_stdin(&self, args: &[&str], input: &[u8]) -> Output {
        run(&mut self.command(args), Some(input))
    }

    /// Runs it with `-o json` and reads what it printed; panics unless it succeeds.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.run(&[args, &["-o", "json"]].concat()).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("drover {args:?} printed no JSON ({error}): {text}"))
    }

    /// A join token.
    #[track_caller]
    pub fn token(&self, labels: &str, uses: usize) -> String {
        let uses = uses.to_string();
        let output = self.run(&["token", "create", "--labels", labels, "--ttl", "1h", "--uses", &uses]).ok();
        let token = output.split_whitespace().find(|word| word.starts_with("drover-join-"));
        token.unwrap_or_else(|| panic!("no token in {output:?}")).to_owned()
    }

    /// Applies a manifest and waits for its end.
    pub fn apply(&self, manifest: &Path) -> Output {
        self.run(&["apply", "-f", &manifest.display().to_string()])
    }

    /// One app's state on one host, as reported.
    #[track_caller]
    pub fn app_on(&self, app: &str, host: &str) -> Value {
        let apps = self.json(&["status", app]);
        let on = apps[0]["hosts"].as_array().into_iter().flatten().find(|h| h["host"] == host).cloned();
        on.unwrap_or(Value::Null)
    }
}
