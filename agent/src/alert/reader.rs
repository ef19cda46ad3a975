//! Reads what rules are about, in one go per look, and remembers what the next look needs. May wait for a moment where a file system
//! hangs. Beside `alert`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use drover_proto::{
    alert::{Metric, Test},
    name::AppName,
};

use super::{
    forecast,
    numbers::{Raw, Source},
    rules::Active,
    scene::{Disk, Expiry, Room},
};
use crate::{
    host::certificate,
    identity::Identity,
    metrics::node::{
        Root,
        filesystem::{self, Filesystems},
    },
};

/// How the agent's own certificate is called.
const OWN: &str = "agent";

/// What is to be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// By the pause of the rules that want it, ms: what counts up is told for just that pause.
    pub groups: BTreeMap<u64, BTreeSet<Source>>,
    /// File systems.
    pub disks: bool,
    /// And when they are full.
    pub forecast: bool,
    /// Certificates: who reads which.
    pub certificates: Option<Vec<(AppName, String)>>,
}

impl Wanted {
    /// What these rules want to know; and whether certificates, which are not named yet, are among it.
    #[must_use]
    pub fn of<'a>(rules: impl Iterator<Item = &'a Active>) -> (Self, bool) {
        let (mut wanted, mut certificates) = (Self::default(), false);
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
                Test::CertificateExpires(_) => certificates = true,
                Test::CheckFailing(_)
                | Test::UnitFailed(_)
                | Test::ContainerRestarting(_)
                | Test::ContainerGone(_)
                | Test::ClockSkew(_)
                | Test::HostUnreachable
                | Test::VersionSkew => {}
            }
        }
        (wanted, certificates)
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
    /// Certificates, if they were wanted.
    pub certificates: Option<Arc<Vec<Expiry>>>,
}

/// Reads.
pub struct Reader {
    root: Root,
    state_dir: PathBuf,
    filesystems: Filesystems,
    rooms: BTreeMap<PathBuf, forecast::Room>,
    before: BTreeMap<u64, Raw>,
    oom_kills: Option<u64>,
    oom_kill: Option<u64>,
}

impl Reader {
    /// Under `root`: `/` on a host. `oom_kill`: when a process was killed last, as far as that is remembered.
    #[must_use]
    pub fn new(root: Root, state_dir: &Path, oom_kill: Option<u64>) -> Self {
        Self {
            root,
            state_dir: state_dir.to_owned(),
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
        if sources.contains(&Source::Vmstat) {
            read.oom_kill = raw.oom_kills.map(|kills| self.killed(kills, boot_ms));
        }
        if wanted.disks {
            read.disks = self.disks(wanted.forecast, boot_ms);
        }
        read.certificates = wanted.certificates.as_deref().map(|wanted| Arc::new(self.certificates(wanted)));
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
            // What has no device is called the same everywhere.
            let is_further = mount.device.starts_with('/') && !devices.insert(mount.device);
            let rooms = self.rooms.entry(mount.point.clone()).or_default();
            if let (true, Some(room)) = (forecast, &room) {
                rooms.add(boot_ms, room.available);
            }
            let forecast = rooms.forecast();
            let room = room.map(|room| told(room, forecast));
            disks.push(Disk { point: mount.point.to_string_lossy().into_owned(), is_further, room });
        }
        Some(disks)
    }

    fn certificates(&self, wanted: &[(AppName, String)]) -> Vec<Expiry> {
        let of_app = |(app, path): &(AppName, String)| {
            let chain = certificate::read(Path::new(path)).inspect_err(|why| tracing::debug!(why, "is not read"));
            let until_s = chain.ok().and_then(|chain| certificate::until(&chain));
            Expiry { app: Some(app.clone()), subject: path.clone(), until_s }
        };
        let mut all: Vec<Expiry> = wanted.iter().map(of_app).collect();
        // A host that is not enrolled has none.
        if let Ok(Some(identity)) = Identity::load(&self.state_dir) {
            let until_s = Some(identity.not_after_unix_ms / 1000);
            all.push(Expiry { app: None, subject: OWN.to_owned(), until_s });
        }
        all
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
            "/dev/a / ext4 rw 0 0\n/dev/a /b ext4 rw 0 0\nx /ro ext4 ro 0 0\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("proc/vmstat"), vmstat).unwrap();
        dir
    }

    #[test]
    fn a_kill_is_one_that_comes_after_the_first_look() {
        let dir = host("oom_kill 4\n");
        let mut reader = Reader::new(Root::new(dir.path()), dir.path(), None);
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
        let mut reader = Reader::new(Root::new(dir.path()), dir.path(), None);
        let wanted = Wanted { disks: true, forecast: true, ..Wanted::default() };
        let disks = reader.read(&wanted, 1000).disks.unwrap();
        let told: Vec<_> = disks.iter().map(|disk| (disk.point.as_str(), disk.is_further)).collect();
        assert_eq!(told[0], ("/", false));
        assert!(!told.iter().any(|(point, _)| *point == "/ro"), "{told:?}");
        let used = disks[0].room.unwrap().used.unwrap();
        assert!(
            (0.0..=100.0).contains(&used) && disks[0].room.unwrap().forecast == forecast::Forecast::Unknown,
            "{used}"
        );
        std::fs::remove_file(dir.path().join("proc/1/mounts")).unwrap();
        assert_eq!(reader.read(&wanted, 2000).disks, None);
    }

    #[test]
    fn certificates_that_cannot_be_read_are_told_as_such() {
        let dir = host("");
        let mut reader = Reader::new(Root::new(dir.path()), dir.path(), None);
        let (app, path) = ("mono".parse().unwrap(), dir.path().join("none").display().to_string());
        let wanted = Wanted { certificates: Some(vec![(app, path)]), ..Wanted::default() };
        let read = reader.read(&wanted, 1000).certificates.unwrap();
        assert_eq!(read.iter().map(|expiry| expiry.until_s).collect::<Vec<_>>(), [None]);
    }
}
