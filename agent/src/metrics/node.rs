//! The host as prometheus-node-exporter tells it: the same names, labels and types, so that its dashboards and rules work. One
//! collector per source, under node_exporter's name for it; `filesystem` asks the disks. Read anew at every scrape.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::fs::{Mode, OFlags};

use super::text::Text;

pub(super) mod cpu;
pub(super) mod disk;
pub(crate) mod filesystem;
pub(super) mod memory;
pub(super) mod net;
mod sockets;
pub(super) mod system;
mod time;

/// The kernel counts in hundredths of a second for everybody, whatever it counts in itself.
pub(super) const TICKS_PER_SECOND: f64 = 100.0;
/// Of one file; the longest is /proc/interrupts-like, and none of those is read.
const MAX_BYTES: u64 = 4 << 20;

/// Where `/proc`, `/sys`, `/etc` and `/run` are.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// Under this directory: `/` on a host.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
    /// A path under it; `path` has no `/` at its beginning.
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }
    /// A whole file. Bytes that are no text are replaced.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> io::Result<String> {
        let mut bytes = Vec::with_capacity(4096);
        File::open(self.at(path))?.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
    pub(super) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).exists()
    }
    pub(super) fn metadata(&self, path: impl AsRef<Path>) -> io::Result<fs::Metadata> {
        self.at(path).metadata()
    }
    /// A file with one word or line; `None` also where the kernel has no answer.
    pub(super) fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        first_line(File::open(self.at(path)).ok()?)
    }
    /// A directory of such files: from it they are found more quickly than by their whole path.
    pub(super) fn directory(&self, path: impl AsRef<Path>) -> io::Result<Directory> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Directory(rustix::fs::open(self.at(path), flags, Mode::empty())?))
    }
    /// The names in a directory, in order.
    pub(super) fn names(&self, path: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.at(path))?;
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }
}

/// One that is open.
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// As of `Root`.
    pub(super) fn line(&self, name: &str) -> Option<String> {
        first_line(File::from(rustix::fs::openat(&self.0, name, OFlags::CLOEXEC, Mode::empty()).ok()?))
    }
}

/// The kernel gives a file of one line at once.
fn first_line(mut file: File) -> Option<String> {
    let mut bytes = [0; 4096];
    let length = file.read(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(bytes.get(..length)?).trim().to_owned())
}

/// A collector: writes its families, or says why it cannot.
type Collect = fn(&Root, &mut Text) -> io::Result<()>;

/// By node_exporter's names, in their order.
const COLLECTORS: [(&str, Collect); 21] = [
    ("arp", net::arp),
    ("conntrack", sockets::conntrack),
    ("diskstats", disk::diskstats),
    ("entropy", system::entropy),
    ("filefd", system::filefd),
    ("loadavg", system::loadavg),
    ("meminfo", memory::meminfo),
    ("netclass", net::netclass),
    ("netdev", net::netdev),
    ("netstat", sockets::netstat),
    ("os", system::os),
    ("pressure", system::pressure),
    ("schedstat", cpu::schedstat),
    ("selinux", system::selinux),
    ("sockstat", sockets::sockstat),
    ("softnet", cpu::softnet),
    ("time", time::time),
    ("timex", time::timex),
    ("udp_queues", sockets::udp_queues),
    ("uname", system::uname),
    ("vmstat", memory::vmstat),
];

/// What is remembered from one scrape to the next.
#[derive(Default)]
pub struct Memory {
    processors: cpu::Processors,
    filesystems: filesystem::Filesystems,
}

/// How a collector did: its name, seconds, and whether it could read what it reads.
pub type Outcome = (&'static str, f64, bool);

/// Writes all of it but what systemd says, which was asked already (`units`). What this kernel does not have is left out; which
/// collectors that concerns is told by them. `before`: those that have done already.
pub fn collect(root: &Root, memory: &mut Memory, before: Option<Outcome>, text: &mut Text) {
    let mut outcomes: Vec<Outcome> = before.into_iter().collect();
    let mut note = |name, collect: &mut dyn FnMut() -> io::Result<()>| {
        let begun = Instant::now();
        let result = collect();
        // One that is missing is what it is on this kernel; what else there is to know is in the log.
        if let Err(error) = result.as_ref()
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(collector = name, %error, "a collector failed");
        }
        outcomes.push((name, begun.elapsed().as_secs_f64(), result.is_ok()));
    };
    for (name, collect) in COLLECTORS {
        note(name, &mut || collect(root, text));
    }
    // It sums up every interrupt of every processor: once for both.
    let mut stat = root.read("proc/stat");
    note("cpu", &mut || match &mut stat {
        Ok(stat) => memory.processors.collect(stat, text),
        Err(error) => Err(std::mem::replace(error, odd("proc/stat"))),
    });
    note("stat", &mut || stat.as_deref().map(|stat| cpu::stat(stat, text)).map_err(|_| odd("proc/stat")));
    note("filesystem", &mut || memory.filesystems.collect(root, text));
    let mut durations =
        text.gauge("node_scrape_collector_duration_seconds", "node_exporter: Duration of a collector scrape.");
    for (name, seconds, _) in &outcomes {
        durations.sample(&[("collector", name)], seconds);
    }
    let mut successes = text.gauge("node_scrape_collector_success", "node_exporter: Whether a collector succeeded.");
    for (name, _, is_good) in &outcomes {
        successes.sample(&[("collector", name)], u8::from(*is_good));
    }
}

/// What the kernel wrote is not what it writes.
fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is not as expected"))
}

/// The next number of a line.
fn number<'t>(words: &mut impl Iterator<Item = &'t str>) -> Option<u64> {
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests;
