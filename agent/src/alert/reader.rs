//! Reads what rules are about, in one go per look, and remembers what the next look needs. May wait for a moment where a file system
//! hangs. Beside `alert`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use drover_proto::alert::{Metric, Test};

use super::{
    forecast,
    numbers::{Raw, Source},
    rules::Active,
    scene::{Disk, Room},
};
use crate::metrics::node::{
    Root,
    filesystem::{self, Filesystems},
};

/// What a look found is of no use when the next one is so late.
const FORGOTTEN_MS: u64 = 60 * 60_000;

/// What is to be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// By the pause of the rules that want it, ms: what counts up is told for just that pause.
    pub groups: BTreeMap<u64, BTreeSet<Source>>,
    /// File systems.
    pub disks: bool,
    /// And when they are full.
    pub forecast: bool,
}

impl Wanted {
    /// What these rules want to know.
    #[must_use]
    pub fn of<'a>(rules: impl Iterator<Item = &'a Active>) -> Self {
        let mut wanted = Self::default();
        for Active { rule, .. } in rules {
            let mut group = |source| {
                wanted.groups.entry(rule.every.as_ms()).or_default().insert(source);
            };
            match &rule.when.test {
                Test::Level(level) => match Source::of(level.metric) {
                    Some(source) => group(source),
                    None => wanted.disks = true,
                },
                Test::DiskFull { .. } => (wanted.disks, wanted.forecast) = (true, true),
                Test::OomKill => group(Source::Vmstat),
                Test::CertificateExpires(_)
                | Test::CheckFailing(_)
                | Test::UnitFailed(_)
                | Test::ContainerRestarting(_)
                | Test::ContainerGone(_)
                | Test::ClockSkew(_)
                | Test::HostUnreachable
                | Test::VersionSkew => {}
            }
        }
        wanted
    }
}

/// What was read.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Read {
    /// By the pause, as it was wanted.
    pub numbers: BTreeMap<u64, BTreeMap<Metric, f64>>,
    /// File systems, if they were wanted and can be listed.
    pub disks: Option<Vec<Disk>>,
    /// The last process that was killed for want of memory, if that was wanted and is told.
    pub oom_kill: Option<Option<u64>>,
}

/// Reads.
pub struct Reader {
    root: Root,
    filesystems: Filesystems,
    rooms: BTreeMap<PathBuf, forecast::Room>,
    before: BTreeMap<u64, Raw>,
    oom_kills: Option<u64>,
    oom_kill: Option<u64>,
}

impl Reader {
    /// Under `root`: `/` on a host. `oom_kill`: when a process was killed last, as far as that is remembered.
    #[must_use]
    pub fn new(root: Root, oom_kill: Option<u64>) -> Self {
        Self {
            root,
            filesystems: Filesystems::default(),
            rooms: BTreeMap::new(),
            before: BTreeMap::new(),
            oom_kills: None,
            oom_kill,
        }
    }

    /// One look at `boot_ms`.
    pub fn read(&mut self, wanted: &Wanted, boot_ms: u64) -> Read {
        let sources: BTreeSet<Source> = wanted.groups.values().flatten().copied().collect();
        let raw = Raw::read(&self.root, &sources, boot_ms);
        let mut read = Read::default();
        for group in wanted.groups.keys() {
            read.numbers.insert(*group, raw.values(self.before.get(group)));
            self.before.insert(*group, raw.clone());
        }
        // Of pauses that no rule has any more.
        self.before.retain(|pause, raw| boot_ms.saturating_sub(raw.at_boot_ms) <= pause.saturating_add(FORGOTTEN_MS));
        if sources.contains(&Source::Vmstat) {
            read.oom_kill = raw.oom_kills.map(|kills| self.killed(kills, boot_ms));
        }
        if wanted.disks {
            read.disks = self.disks(wanted.forecast, boot_ms);
        }
        read
    }

    fn killed(&mut self, kills: u64, boot_ms: u64) -> Option<u64> {
        if self.oom_kills.replace(kills).is_some_and(|before| before < kills) {
            self.oom_kill = Some(boot_ms);
        }
        self.oom_kill
    }

    fn disks(&mut self, forecast: bool, boot_ms: u64) -> Option<Vec<Disk>> {
        let seen = self.filesystems.rooms(&self.root).inspect_err(|error| {
            tracing::debug!(%error, "file systems cannot be listed");
        });
        // What nobody can write to is full for good.
        let seen: Vec<_> = seen.ok()?.into_iter().filter(|(mount, _)| !mount.is_read_only).collect();
        self.rooms.retain(|point, _| seen.iter().any(|(mount, _)| mount.point == *point));
        let mut devices = BTreeSet::new();
        let mut disks = Vec::new();
        for (mount, room) in seen {
            if room.is_some_and(|room| room.size == 0) {
                continue;
            }
            let is_disk = mount.is_disk();
            // What has no device is called the same everywhere, and what is no disk calls itself as it likes.
            let is_further = is_disk && mount.device.starts_with('/') && !devices.insert(mount.device);
            let rooms = self.rooms.entry(mount.point.clone()).or_default();
            if let (true, Some(room)) = (forecast, &room) {
                rooms.add(boot_ms, room.available);
            }
            let forecast = rooms.forecast();
            let room = room.map(|room| told(room, forecast));
            disks.push(Disk { point: mount.point.to_string_lossy().into_owned(), is_disk, is_further, room });
        }
        Some(disks)
    }
}

/// As `df` counts: what is in use, of that and what everybody may use.
fn told(room: filesystem::Room, forecast: forecast::Forecast) -> Room {
    let share = |used: u64, all: u64| (all > 0).then(|| 100.0 * used as f64 / all as f64);
    let used = room.size.saturating_sub(room.free);
    Room {
        used: share(used, used.saturating_add(room.available)),
        inodes: share(room.files.saturating_sub(room.files_free), room.files),
        forecast,
    }
}

#[cfg(test)]
mod tests {
    //! A host whose files are odd, and one on which a process is killed.
    use super::*;

    fn host(vmstat: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        std::fs::write(
            dir.path().join("proc/1/mounts"),
            "/dev/a /home/u/x fuse.x rw 0 0\n/dev/a / ext4 rw 0 0\n/dev/a /b ext4 rw 0 0\nx /ro ext4 ro 0 0\n\
             tmpfs /run/user/7 tmpfs rw 0 0\nserver:/x /x nfs4 rw 0 0\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("proc/vmstat"), vmstat).unwrap();
        dir
    }

    #[test]
    fn a_kill_is_one_that_comes_after_the_first_look() {
        let dir = host("oom_kill 4\n");
        let mut reader = Reader::new(Root::new(dir.path()), None);
        let wanted = Wanted { groups: [(10_000, [Source::Vmstat].into())].into(), ..Wanted::default() };
        assert_eq!(reader.read(&wanted, 1000).oom_kill, Some(None));
        std::fs::write(dir.path().join("proc/vmstat"), "oom_kill 5\n").unwrap();
        assert_eq!(reader.read(&wanted, 2000).oom_kill, Some(Some(2000)));
        assert_eq!(reader.read(&wanted, 3000).oom_kill, Some(Some(2000)));
        std::fs::write(dir.path().join("proc/vmstat"), "x\n").unwrap();
        assert_eq!(reader.read(&wanted, 4000).oom_kill, None);
    }

    #[test]
    fn disks_are_told_once_and_without_those_that_are_read_only() {
        let dir = host("");
        let mut reader = Reader::new(Root::new(dir.path()), None);
        let wanted = Wanted { disks: true, forecast: true, ..Wanted::default() };
        let disks = reader.read(&wanted, 1000).disks.unwrap();
        let told: Vec<_> = disks.iter().map(|disk| (disk.point.as_str(), disk.is_disk, disk.is_further)).collect();
        assert_eq!(
            told,
            [
                ("/home/u/x", false, false),
                ("/", true, false),
                ("/b", true, true),
                ("/run/user/7", false, false),
                ("/x", false, false)
            ]
        );
        let room = disks[1].room.unwrap();
        let used = room.used.unwrap();
        assert!((0.0..=100.0).contains(&used) && room.forecast == forecast::Forecast::Unknown, "{used}");
        std::fs::remove_file(dir.path().join("proc/1/mounts")).unwrap();
        assert_eq!(reader.read(&wanted, 2000).disks, None);
    }
}
