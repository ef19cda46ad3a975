//! What is measured: a service on a lab host, all its processes together, seen through systemd and /proc; and how peers
//! get there.

use drover_tests::lab::Host;

/// A service that is weighed.
pub struct Subject<'a> {
    host: &'a Host,
    unit: &'static str,
    /// Its processes' name as the kernel cuts it.
    comm: &'static str,
}

/// Memory of all processes.
pub struct Memory {
    /// MiB.
    pub rss: f64,
    /// MiB; shared pages counted by halves, thirds …
    pub pss: f64,
}

impl<'a> Subject<'a> {
    /// With its CPU time counted by systemd, all of its processes together.
    pub fn new(host: &'a Host, unit: &'static str, comm: &'static str) -> Self {
        host.exec(&["systemctl", "set-property", "--runtime", unit, "CPUAccounting=yes"]).ok();
        Self { host, unit, comm }
    }

    pub fn memory(&self) -> Memory {
        // A service with an init script has no main process that systemd knows of.
        let rollup =
            self.host.sh(&format!("for pid in $(pgrep -x {}); do cat /proc/$pid/smaps_rollup; done", self.comm));
        let mib = |key: &str| {
            let lines = rollup.lines().filter(|line| line.starts_with(key));
            let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
            kib.sum::<f64>() / 1024.0
        };
        Memory { rss: mib("Rss:"), pss: mib("Pss:") }
    }

    /// CPU seconds since it was started.
    pub fn cpu_seconds(&self) -> f64 {
        let nanoseconds = self.host.property(self.unit, "CPUUsageNSec");
        nanoseconds.parse::<f64>().unwrap_or_else(|_| panic!("no CPU time of {}: {nanoseconds}", self.unit)) / 1e9
    }
}

/// Installs Debian's own packages.
pub fn install_peers(host: &Host, packages: &[&str]) {
    let install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends"];
    host.exec(&["apt-get", "update", "-qq"]).ok();
    host.exec(&[&["env", "DEBIAN_FRONTEND=noninteractive"], &install[..], packages].concat()).ok();
}

/// The versions of Debian's packages, for the record.
pub fn versions(host: &Host, packages: &[&str]) -> String {
    let query = ["dpkg-query", "-W", "-f", "${Package} ${Version}, "];
    host.exec(&[&query[..], packages].concat()).ok().trim_end_matches(", ").to_owned()
}
