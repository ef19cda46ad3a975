//! The host as prometheus-node-exporter tells it: the same names, labels and types, so that its dashboards and rules work. One
//! collector per source, under node_exporter's name for it; `filesystem` asks the disks. Read anew at every scrape.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use rustix::{buffer::spare_capacity, io::pread};

use super::text::Text;

pub(super) mod cpu;
pub(super) mod disk;
pub(crate) mod filesystem;
pub(super) mod memory;
mod mounts;
pub(super) mod net;
mod sockets;
pub(super) mod system;
mod time;

/// The kernel counts in hundredths of a second for everybody, whatever it counts in itself.
pub(super) const TICKS_PER_SECOND: f64 = 100.0;
/// Of one file; the longest is /proc/interrupts-like, and none of those is read.
const MAX_BYTES: usize = 4 << 20;
/// Of nearly all of them.
const USUAL_BYTES: usize = 8 << 10;
/// The kernel fills at least so much with lines before it gives them to who has room for them.
const FILLED_BYTES: usize = 4 << 10;

/// Where `/proc`, `/sys`, `/etc` and `/run` are.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    kept: Option<Kept>,
}

/// Files of the kernel that stay open, by their path: read again from their beginning it writes them anew, and to find and to open
/// them would take nearly as long as that.
type Kept = Arc<Mutex<BTreeMap<Vec<u8>, Arc<File>>>>;

impl Root {
    /// Under this directory: `/` on a host.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), kept: None }
    }
    /// For who reads the same files again and again.
    #[must_use]
    pub(super) fn keeping(self) -> Self {
        Self { kept: Some(Kept::default()), ..self }
    }
    /// A path under it; `path` has no `/` at its beginning.
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path.join(path)
    }
    /// A whole file. Bytes that are no text are replaced.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> io::Result<String> {
        self.with(path.as_ref(), |file| whole(file, 0))
    }
    /// A whole file whose lines are of fewer than `width` bytes, and dear: the kernel walks a large table to find that there is
    /// no further one.
    fn rows(&self, path: impl AsRef<Path>, width: usize) -> io::Result<String> {
        self.with(path.as_ref(), |file| whole(file, FILLED_BYTES - width))
    }
    /// Of a file that is kept, or is now; one that has gone since then may be there again.
    fn with<T>(&self, path: &Path, read: impl Fn(&File) -> io::Result<T>) -> io::Result<T> {
        let Some(kept) = self.kept.as_ref().filter(|_| is_kept(path)) else {
            return read(&File::open(self.at(path))?);
        };
        let (key, files) = (path.as_os_str().as_bytes(), || kept.lock().unwrap_or_else(PoisonError::into_inner));
        let there = files().get(key).cloned();
        if let Some(Ok(text)) = there.map(|file| read(&file)) {
            return Ok(text);
        }
        files().remove(key);
        let file = Arc::new(File::open(self.at(path))?);
        let text = read(&file)?;
        files().insert(key.to_owned(), file);
        Ok(text)
    }
    pub(super) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).exists()
    }
    pub(super) fn metadata(&self, path: impl AsRef<Path>) -> io::Result<fs::Metadata> {
        self.at(path).metadata()
    }
    /// A file with one word or line; `None` also where the kernel has no answer.
    pub(super) fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        self.with(path.as_ref(), first_line).ok()
    }
    /// The names in a directory, in order.
    pub(super) fn names(&self, path: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.at(path))?;
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }
}

/// Those that are there as long as the kernel, and not more with every interface or group.
fn is_kept(path: &Path) -> bool {
    path.starts_with("proc") || path.starts_with("sys/devices/system/clocksource")
}

/// From the beginning. `end`: so many bytes at once, or fewer, are the last ones.
fn whole(file: &File, end: usize) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    while bytes.len() < MAX_BYTES {
        bytes.reserve(USUAL_BYTES / 2);
        let from = bytes.len() as u64;
        if pread(file, spare_capacity(&mut bytes), from)? <= end {
            break;
        }
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The kernel gives a file of one line at once.
fn first_line(file: &File) -> io::Result<String> {
    let mut bytes = [0; 4096];
    let length = pread(file, &mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
}

/// A collector: writes its families, or says why it cannot.
type Collect = fn(&Root, &mut Text) -> io::Result<()>;

/// By node_exporter's names, in their order.
const COLLECTORS: [(&str, Collect); 19] = [
    ("arp", net::arp),
    ("conntrack", sockets::conntrack),
    ("diskstats", disk::diskstats),
    ("entropy", system::entropy),
    ("filefd", system::filefd),
    ("loadavg", system::loadavg),
    ("meminfo", memory::meminfo),
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
    interfaces: net::Interfaces,
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
    // One list for both.
    let mut devices = Ok(Vec::new());
    note("netclass", &mut || {
        devices = memory.interfaces.look(root);
        devices.as_deref().map(|devices| net::netclass(devices, text)).map_err(again)
    });
    note("netdev", &mut || devices.as_deref().map(|devices| net::netdev(devices, text)).map_err(again));
    // It sums up every interrupt of every processor: once for both.
    let stat = root.read("proc/stat");
    note("cpu", &mut || stat.as_deref().map_err(again).and_then(|stat| memory.processors.collect(stat, text)));
    note("stat", &mut || stat.as_deref().map(|stat| cpu::stat(stat, text)).map_err(again));
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

/// The same error, for each who needed what could not be read.
fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
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
