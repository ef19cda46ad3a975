//! The lab seen from a Rust test: real Debian hosts with systemd as PID 1, booted in about a second.
//!
//! Everything is done by the script `tests/lab/labhost`; this module gives it types, boots hosts in parallel and
//! wipes them at the end. `host` is one of them, `output` what a command there said, `eventually` how a test waits.
//! For hosts with Docker, `registry` serves what `image` makes; `http` talks to it, and to what runs in containers.
//! The API blocks, and needs no runtime.

mod eventually;
mod host;
pub mod http;
mod image;
mod output;
mod registry;

pub use eventually::{Verdict, eventually};
pub use host::Host;
pub use http::Reply;
pub use image::Image;
pub use output::{Output, run};
pub use registry::{Fault, Registry};

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The machine that runs the tests, as the hosts see it; `labhost cut NAME runner` cuts them off from it.
pub const RUNNER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The network that the hosts share. Any number of test processes may have one at a time.
pub struct Lab {
    script: Labhost,
}

impl Lab {
    /// Brings the switch up and removes what aborted test runs left behind.
    ///
    /// Panics with what to do when the machine is not ready: no root, or `tests/lab/setup` has not run.
    pub fn start() -> Lab {
        let root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
        assert!(root, "the lab boots real hosts and needs root");
        let script = Labhost::default();
        let mkrootfs = script.path.with_file_name("mkrootfs");
        let rootfs = output::run(Command::new(mkrootfs).arg("--path"), None).ok();
        assert!(
            Path::new(&rootfs).join(".complete").exists(),
            "no root file system for the hosts: run tests/lab/setup first"
        );
        script.run(&["net-up"]).ok();
        script.run(&["gc"]).ok();
        Lab { script }
    }

    /// Lets the hosts reach package mirrors through this machine.
    pub fn internet(&self) {
        self.script.run(&["net-nat"]).ok();
    }

    /// Boots a clean host that calls itself `name`, and waits until its systemd has started everything.
    /// Its address is its own; two tests at a time may both have a "web1".
    ///
    /// It is a Debian 12, or what `LAB_ROOTFS` says. Docker is installed and off.
    pub fn host(&self, name: &str) -> Host {
        Host::boot_new(&self.script, name, &[])
    }

    /// The same with a disk of `size` (as tmpfs takes it: "64m"), which really fills up.
    pub fn host_with_disk(&self, name: &str, size: &str) -> Host {
        Host::boot_new(&self.script, name, &[("LAB_DISK", size)])
    }

    /// The same with Docker running: 20.10 (API 1.41) and docker-compose 1.29.
    pub fn docker_host(&self, name: &str) -> Host {
        self.docker_host_on(Debian::Bookworm, name)
    }

    /// A host of this Debian with Docker running.
    pub fn docker_host_on(&self, debian: Debian, name: &str) -> Host {
        Host::boot_new(&self.script, name, &[("LAB_DOCKER", "yes"), ("LAB_SUITE", debian.suite())])
    }

    /// A host with Docker running, whose images and containers fill up the same small disk as everything else.
    pub fn docker_host_with_disk(&self, name: &str, size: &str) -> Host {
        let bookworm = Debian::Bookworm.suite();
        Host::boot_new(&self.script, name, &[("LAB_DOCKER", "yes"), ("LAB_SUITE", bookworm), ("LAB_DISK", size)])
    }

    /// Boots several hosts at once: `let [c, w1, w2] = lab.hosts(["c", "w1", "w2"]);`
    pub fn hosts<const N: usize>(&self, names: [&str; N]) -> [Host; N] {
        self.boot(names, |name| self.host(name))
    }

    /// Boots hosts of any kind at once: `lab.boot(["w1", "w2"], |name| lab.docker_host(name))`.
    pub fn boot<const N: usize>(&self, names: [&str; N], host: impl Fn(&str) -> Host + Sync) -> [Host; N] {
        let host = &host;
        std::thread::scope(|scope| {
            names
                .map(|name| scope.spawn(move || host(name)))
                .map(|boot| boot.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause)))
        })
    }
}

/// Which Debian a host with Docker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debian {
    /// Debian 12: Docker 20.10 (API 1.41), docker-compose 1.29.
    Bookworm,
    /// Debian 13: Docker 26 (API 1.45), compose 2 as `docker compose` and `docker-compose`.
    Trixie,
}

impl Debian {
    fn suite(self) -> &'static str {
        match self {
            Debian::Bookworm => "bookworm",
            Debian::Trixie => "trixie",
        }
    }
}

/// How to call `tests/lab/labhost`, and where it keeps its hosts.
#[derive(Clone)]
struct Labhost {
    path: PathBuf,
    home: PathBuf,
}

impl Default for Labhost {
    fn default() -> Self {
        Labhost { path: Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/labhost"), home: lab_home() }
    }
}

/// Below which all lies that the lab ever makes.
fn lab_home() -> PathBuf {
    std::env::var_os("LAB_HOME").unwrap_or_else(|| "/var/cache/drover-lab".into()).into()
}

impl Labhost {
    /// The script with its arguments; hosts it makes belong to this process, so that they go when it dies.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(args)
            .env("LAB_HOME", &self.home)
            .env("LAB_OWNER", std::process::id().to_string())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        output::run(&mut self.command(args), None)
    }
}
