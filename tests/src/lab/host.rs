//! One host of the lab: commands, files and units inside it, and what can happen to it from outside.

use super::{Labhost, Output, Reply, http, output};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A running Debian host of this test's own. Dropping it wipes it, except when the test is failing and
/// `DROVER_LAB_KEEP` is set; then `labhost list` and `labhost exec` show what is left.
pub struct Host {
    script: Labhost,
    id: String,
    name: String,
    ip: Ipv4Addr,
}

impl Host {
    /// A clean host; `settings` are variables of `labhost`.
    pub(super) fn boot_new(script: &Labhost, name: &str, settings: &[(&str, &str)]) -> Host {
        let mut command = script.command(&["new", name]);
        command.envs(settings.iter().copied());
        if settings.iter().any(|(key, _)| *key == "LAB_SUITE") {
            command.env_remove("LAB_ROOTFS");
        }
        let answer = output::run(&mut command, None).ok();
        let (id, ip) = answer.split_once(' ').unwrap_or_else(|| panic!("labhost new said {answer:?}"));
        let host = Host {
            script: script.clone(),
            id: id.to_owned(),
            name: name.to_owned(),
            ip: ip.parse().unwrap_or_else(|error| panic!("address {ip:?}: {error}")),
        };
        host.wait_running();
        host
    }

    /// What the host calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `labhost` calls it: the name and the last part of the address.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its address, the same for its whole life.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    // ---- inside

    /// Runs a command as root, without a shell, and waits for its end.
    #[track_caller]
    pub fn exec(&self, argv: &[&str]) -> Output {
        self.script.run(&[&["exec", &self.id], argv].concat())
    }

    /// The same with `input` on its standard input.
    #[track_caller]
    pub fn exec_with_stdin(&self, argv: &[&str], input: &[u8]) -> Output {
        let mut command = self.script.command(&[&["exec", &self.id], argv].concat());
        output::run(&mut command, Some(input))
    }

    /// Runs a shell script; panics with everything it said unless it succeeds.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["sh", "-ec", script]).ok()
    }

    /// Runs `docker` with these arguments.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> Output {
        self.exec(&[&["docker"], args].concat())
    }

    /// Asks for a page of the host, as seen from this machine.
    ///
    /// # Errors
    /// When nothing listens there, or what does breaks off or does not speak HTTP.
    pub fn http_get(&self, port: u16, path: &str) -> std::io::Result<Reply> {
        http::ask((self.ip, port).into(), "GET", path, &[], b"")
    }

    /// Writes a file, mode 0644, and the directories above it.
    #[track_caller]
    pub fn write_file(&self, path: &str, bytes: &[u8]) {
        self.exec_with_stdin(&["install", "-D", "-m", "0644", "/dev/stdin", path], bytes).ok();
    }

    /// The bytes of a file; panics if it cannot be read.
    #[track_caller]
    pub fn read_file(&self, path: &str) -> Vec<u8> {
        let output = self.exec(&["cat", path]);
        assert!(output.success(), "{output}");
        output.bytes
    }

    /// Is there anything at `path`?
    pub fn exists(&self, path: &str) -> bool {
        self.exec(&["test", "-e", path]).success()
    }

    /// A directory of this machine that the host sees as `/lab`: the way in for packages.
    pub fn share(&self) -> PathBuf {
        self.script.home.join("hosts").join(&self.id).join("share")
    }

    /// Its PID 1 as this machine numbers it: `/proc/PID/root` is the host's file system.
    #[track_caller]
    pub fn leader(&self) -> u32 {
        let pid = self.script.run(&["pid", &self.id]).ok();
        pid.parse().unwrap_or_else(|error| panic!("pid {pid:?}: {error}"))
    }

    // ---- units

    /// A property of a unit, as `systemctl show` has it.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.exec(&["systemctl", "show", "--value", "-p", name, unit]).ok()
    }

    /// The main process of a unit, 0 when it has none.
    #[track_caller]
    pub fn main_pid(&self, unit: &str) -> u32 {
        let pid = self.property(unit, "MainPID");
        pid.parse().unwrap_or_else(|error| panic!("MainPID {pid:?} of {unit}: {error}"))
    }

    /// Is the unit active (not activating, not failed)?
    pub fn is_active(&self, unit: &str) -> bool {
        self.exec(&["systemctl", "is-active", "--quiet", unit]).success()
    }

    /// What a unit wrote to the journal since the host's first boot, one message a line.
    pub fn journal(&self, unit: &str) -> String {
        self.exec(&["journalctl", "--no-pager", "-o", "cat", "-u", unit]).stdout
    }

    // ---- from outside

    /// Drops what this host and `other` send each other.
    #[track_caller]
    pub fn cut(&self, other: &Host) {
        self.script.run(&["cut", &self.id, &other.id]).ok();
    }

    /// Undoes [`Host::cut`].
    #[track_caller]
    pub fn heal(&self, other: &Host) {
        self.script.run(&["heal", &self.id, &other.id]).ok();
    }

    /// Drops what this host and the machine that runs the tests send each other.
    #[track_caller]
    pub fn cut_runner(&self) {
        self.script.run(&["cut", &self.id, "runner"]).ok();
    }

    /// Undoes [`Host::cut_runner`].
    #[track_caller]
    pub fn heal_runner(&self) {
        self.script.run(&["heal", &self.id, "runner"]).ok();
    }

    /// Pulls its network cable.
    #[track_caller]
    pub fn unplug(&self) {
        self.script.run(&["unplug", &self.id]).ok();
    }

    /// Puts the cable back.
    #[track_caller]
    pub fn plug(&self) {
        self.script.run(&["plug", &self.id]).ok();
    }

    /// Reboots it in good order and waits until it runs again.
    #[track_caller]
    pub fn reboot(&self) {
        self.script.run(&["reboot", &self.id]).ok();
        self.wait_running();
    }

    /// Ends all its processes at once; [`Host::boot`] starts it again with what its disk had.
    /// (What was written is kept even without a sync: the page cache is this machine's.)
    #[track_caller]
    pub fn power_cut(&self) {
        self.script.run(&["kill", &self.id]).ok();
    }

    /// Starts it after a power cut and waits until it runs.
    #[track_caller]
    pub fn boot(&self) {
        self.script.run(&["up", &self.id]).ok();
        self.wait_running();
    }

    /// Waits until its systemd has started everything, and returns "running", or "degraded" if a unit failed.
    #[track_caller]
    pub fn wait_running(&self) -> String {
        self.script.run(&["wait", &self.id]).ok()
    }

    /// A name for the time between two boots; it changes with each of them.
    #[track_caller]
    pub fn boot_id(&self) -> String {
        self.exec(&["cat", "/proc/sys/kernel/random/boot_id"]).ok()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let keep = std::thread::panicking() && std::env::var_os("DROVER_LAB_KEEP").is_some();
        let verb = if keep { "keep" } else { "wipe" };
        let done = self.script.run(&[verb, &self.id]);
        if keep {
            eprintln!("kept {} at {}: tests/lab/labhost exec {} bash", self.name, self.ip, self.id);
        }
        if !done.success() {
            eprintln!("{done}");
        }
    }
}
