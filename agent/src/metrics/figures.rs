//! What the host is doing just now, in a few numbers: for the coordinator, to which `link` sends them. From the same files of the
//! kernel as `node`, and so that a look costs next to nothing.

use std::time::Instant;

use super::node::{
    Root, cpu, disk,
    filesystem::Filesystems,
    memory, net,
    system::{self, Waiting},
};

/// Just now. Shares are of 100; what the kernel does not tell is 0.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Reading {
    /// Not idle, of all cores.
    pub cpu: f64,
    /// Not available.
    pub memory: f64,
    /// Used of what there is.
    pub swap: f64,
    /// Used of the fullest disk, as `df` counts.
    pub disk: f64,
    /// Of one minute, not per core.
    pub load1: f64,
    /// How many.
    pub cores: u32,
    /// Bytes per second, all interfaces but loopback.
    pub received: f64,
    /// Bytes per second.
    pub sent: f64,
    /// Bytes per second, all disks.
    pub disk_read: f64,
    /// Bytes per second.
    pub disk_written: f64,
    /// In which something waited for a CPU, of the last 10 s.
    pub pressure_cpu: f64,
    /// … for memory.
    pub pressure_memory: f64,
    /// … for disks.
    pub pressure_io: f64,
    /// All there is.
    pub memory_bytes: u64,
    /// Since the boot.
    pub uptime_s: f64,
}

/// Reads, and remembers what was counted the last time.
pub struct Gauge {
    root: Root,
    filesystems: Filesystems,
    before: Option<(Instant, Counted)>,
}

/// What only grows.
struct Counted {
    /// Ticks: those that were not idle, and all.
    busy: u64,
    ticks: u64,
    /// Bytes.
    received: u64,
    sent: u64,
    read: u64,
    written: u64,
}

impl Default for Gauge {
    fn default() -> Self {
        Self::at(Root::new("/"))
    }
}

impl Gauge {
    fn at(root: Root) -> Self {
        Self { root, filesystems: Filesystems::default(), before: None }
    }

    /// `None` at the first look, from which rates begin, or if the kernel does not even tell what the processors do.
    pub fn look(&mut self, now: Instant) -> Option<Reading> {
        let root = &self.root;
        let used = cpu::used(root)?;
        let (received, sent) = net::moved(root).unwrap_or_default();
        let (read, written) = disk::moved(root).unwrap_or_default();
        let counted = Counted { busy: used.busy, ticks: used.ticks, received, sent, read, written };
        let (then, before) = self.before.replace((now, counted))?;
        let (_, counted) = self.before.as_ref()?;
        let seconds = now.saturating_duration_since(then).as_secs_f64();
        // An interface or disk that has gone takes what it had counted with it.
        let rate = |now: u64, then: u64| if seconds > 0.0 { now.saturating_sub(then) as f64 / seconds } else { 0.0 };
        let room = memory::room(root).unwrap_or_default();
        Some(Reading {
            cpu: share(counted.busy.saturating_sub(before.busy), counted.ticks.saturating_sub(before.ticks)),
            memory: share(room.memory.saturating_sub(room.available), room.memory),
            swap: share(room.swap.saturating_sub(room.swap_free), room.swap),
            disk: self.filesystems.fullest(root).unwrap_or_default(),
            load1: system::first_number(root, "proc/loadavg").unwrap_or_default(),
            cores: used.cores,
            received: rate(counted.received, before.received),
            sent: rate(counted.sent, before.sent),
            disk_read: rate(counted.read, before.read),
            disk_written: rate(counted.written, before.written),
            pressure_cpu: system::waiting(root, Waiting::Cpu).unwrap_or_default(),
            pressure_memory: system::waiting(root, Waiting::Memory).unwrap_or_default(),
            pressure_io: system::waiting(root, Waiting::Io).unwrap_or_default(),
            memory_bytes: room.memory,
            uptime_s: system::first_number(root, "proc/uptime").unwrap_or_default(),
        })
    }
}

/// Of 100.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 100.0).min(100.0) }
}

#[cfg(test)]
mod tests {
    //! Files of a kernel, twice; and this host.
    use std::{fs, time::Duration};

    use super::*;

    fn write(dir: &tempfile::TempDir, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn shares_and_rates_are_of_what_happened_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let net = |received: u64, sent: u64| {
            format!(
                "h\nh\n lo: 9000 1 0 0 0 0 0 0 9000 1 0 0 0 0 0 0\n eth0: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"
            )
        };
        let disks = |read: u64| {
            format!(
                "8 0 sda 1 0 {read} 1 1 0 20 1 0 1 1\n8 1 sda1 1 0 {read} 1 1 0 20 1 0 1 1\n254 0 dm-0 1 0 {read} 1 1 0 20 1 0 1 1\n"
            )
        };
        write(
            &dir,
            &[
                (
                    "proc/stat",
                    "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 50 0 50 400 0 0 0 0 0 0\ncpu1 50 0 50 400 0 0 0 0 0 0\n",
                ),
                ("proc/net/dev", &net(1000, 2000)),
                ("proc/diskstats", &disks(10)),
                ("proc/loadavg", "0.75 0.5 0.2 1/100 7\n"),
                ("proc/uptime", "3600.25 7000.00\n"),
                ("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 250 kB\nSwapTotal: 100 kB\nSwapFree: 90 kB\n"),
                (
                    "proc/pressure/io",
                    "some avg10=2.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.00 avg60=0 avg300=0 total=1\n",
                ),
            ],
        );
        let mut gauge = Gauge::at(Root::new(dir.path()));
        let begin = Instant::now();
        assert_eq!(gauge.look(begin), None);
        // Ten seconds later 25 of 100 ticks were not idle; waiting for a disk is idle.
        write(
            &dir,
            &[
                ("proc/stat", "cpu  115 0 110 865 10 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\n"),
                ("proc/net/dev", &net(6000, 1000)),
                ("proc/diskstats", &disks(30)),
            ],
        );
        let reading = gauge.look(begin + Duration::from_secs(10)).unwrap();
        let expected = Reading {
            cpu: 25.0,
            memory: 75.0,
            swap: 10.0,
            disk: 0.0,
            load1: 0.75,
            cores: 2,
            received: 500.0,
            sent: 0.0,
            disk_read: 1024.0,
            disk_written: 0.0,
            pressure_cpu: 0.0,
            pressure_memory: 0.0,
            pressure_io: 2.5,
            memory_bytes: 1_024_000,
            uptime_s: 3600.25,
        };
        assert_eq!(reading, expected);
    }

    #[test]
    fn this_host_is_read_and_that_costs_little() {
        let mut gauge = Gauge::default();
        gauge.look(Instant::now());
        let begin = Instant::now();
        let reading = gauge.look(begin + Duration::from_secs(1)).unwrap();
        let took = begin.elapsed();
        assert!((0.0..=100.0).contains(&reading.cpu) && (0.0..=100.0).contains(&reading.disk), "{reading:?}");
        assert!(reading.memory > 0.0 && reading.memory < 100.0 && reading.cores > 0, "{reading:?}");
        assert!(reading.uptime_s > 0.0 && reading.memory_bytes > 1 << 20, "{reading:?}");
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}
