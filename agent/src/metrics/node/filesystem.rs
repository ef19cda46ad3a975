//! Room on file systems, as node_exporter tells it. One that hangs (a dead server behind a network mount) is asked on a thread of
//! its own, waited for a moment, and not asked again until it has answered. A collector of `node`; `mounts` says which there are.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    Root,
    mounts::{Mount, mounts},
};
use crate::metrics::text::Text;

/// For one file system. A disk answers within microseconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// For all that hang at one scrape together.
const HANG_FOR: Duration = Duration::from_secs(2);
/// So many that lie elsewhere may hang at the same time, each with its thread; further ones of that kind are not asked.
const MAX_HANGING: usize = 8;
const STACK_BYTES: usize = 64 << 10;

/// In bytes and in files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    /// All of it.
    pub(crate) size: u64,
    /// Not in use.
    pub(crate) free: u64,
    /// Of that, what everybody may use.
    pub(crate) available: u64,
    /// All inodes.
    pub(crate) files: u64,
    /// Not in use.
    pub(crate) files_free: u64,
}

/// Asks a file system; may take for ever.
type Ask = fn(&Path) -> io::Result<Room>;

/// Asks for the room, and remembers who has not answered.
pub struct Filesystems {
    ask: Ask,
    worker: Option<Worker>,
    /// Asked, and not answered yet.
    asked: Arc<Mutex<BTreeSet<PathBuf>>>,
}

struct Worker {
    points: mpsc::Sender<PathBuf>,
    answers: mpsc::Receiver<io::Result<Room>>,
}

impl Default for Filesystems {
    fn default() -> Self {
        Self::asking(statfs)
    }
}

impl Filesystems {
    fn asking(ask: Ask) -> Self {
        Self { ask, worker: None, asked: Arc::default() }
    }

    pub(super) fn collect(&mut self, root: &Root, text: &mut Text) -> io::Result<()> {
        let rooms = self.rooms(root)?;
        let rows: Vec<(&Mount, Option<Room>)> = rooms.iter().map(|(mount, room)| (mount, *room)).collect();
        write(&rows, text);
        Ok(())
    }

    /// The file systems that are told, with their room; `None`: it does not answer.
    pub(crate) fn rooms(&mut self, root: &Root) -> io::Result<Vec<(Mount, Option<Room>)>> {
        let told = mounts(root)?;
        let mut patience = HANG_FOR;
        let with_room = |mount: Mount| {
            let room = self.room(&mount, &mut patience).ok();
            (mount, room)
        };
        Ok(told.into_iter().map(with_room).collect())
    }

    /// How much of the fullest disk is used, of 100 and as `df` counts: what only root may still fill is not there.
    pub(in crate::metrics) fn fullest(&mut self, root: &Root) -> io::Result<f64> {
        let (mut patience, mut fullest, mut seen) = (HANG_FOR, 0.0_f64, BTreeSet::new());
        for mount in mounts(root)?.iter().filter(|mount| mount.is_disk()) {
            if seen.insert(mount.device.as_str())
                && let Ok(room) = self.room(mount, &mut patience)
            {
                let used = room.size.saturating_sub(room.free);
                let usable = used.saturating_add(room.available);
                let share = if usable == 0 { 0.0 } else { used as f64 / usable as f64 * 100.0 };
                fullest = fullest.max(share);
            }
        }
        Ok(fullest)
    }

    fn room(&mut self, mount: &Mount, patience: &mut Duration) -> io::Result<Room> {
        if mount.is_at_hand {
            return (self.ask)(&mount.point);
        }
        let (hangs, point) = (|| io::Error::from(io::ErrorKind::TimedOut), mount.point.as_path());
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let too_many = mount.is_elsewhere() && (asked.len() >= MAX_HANGING || patience.is_zero());
            if too_many || !asked.insert(point.to_owned()) {
                return Err(hangs());
            }
        }
        let begun = Instant::now();
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => self.begin().inspect_err(|_| forget(&self.asked, point))?,
        };
        if worker.points.send(point.to_owned()).is_err() {
            forget(&self.asked, point);
            return Err(hangs());
        }
        let answer = worker.answers.recv_timeout(ANSWERS_WITHIN).map_err(|_| {
            tracing::warn!(?point, "the file system does not answer; it is asked again when it has");
            *patience = patience.saturating_sub(begun.elapsed());
            hangs()
        })?;
        // One that hangs keeps its worker, which ends with the answer.
        self.worker = Some(worker);
        answer
    }

    fn begin(&self) -> io::Result<Worker> {
        let (points, to_ask) = mpsc::channel::<PathBuf>();
        let (answered, answers) = mpsc::channel();
        let (ask, asked) = (self.ask, self.asked.clone());
        thread::Builder::new().name("statfs".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            while let Ok(point) = to_ask.recv() {
                let answer = ask(&point);
                forget(&asked, &point);
                if answered.send(answer).is_err() {
                    return;
                }
            }
        })?;
        Ok(Worker { points, answers })
    }
}

fn forget(asked: &Mutex<BTreeSet<PathBuf>>, point: &Path) {
    asked.lock().unwrap_or_else(PoisonError::into_inner).remove(point);
}

fn statfs(point: &Path) -> io::Result<Room> {
    let stat = rustix::fs::statfs(point)?;
    let block = u64::try_from(stat.f_bsize).unwrap_or_default();
    let bytes = |blocks: u64| blocks.saturating_mul(block);
    Ok(Room {
        size: bytes(stat.f_blocks),
        free: bytes(stat.f_bfree),
        available: bytes(stat.f_bavail),
        files: stat.f_files,
        files_free: stat.f_ffree,
    })
}

fn write(rows: &[(&Mount, Option<Room>)], text: &mut Text) {
    let points: Vec<_> = rows.iter().map(|(mount, _)| mount.point.to_string_lossy()).collect();
    let mut family = |name: &str, help: &str, value: fn(&Mount, Option<&Room>) -> Option<u64>| {
        let mut family = text.gauge(name, help);
        for ((mount, room), point) in rows.iter().zip(&points) {
            let labels = [("device", mount.device.as_str()), ("fstype", mount.kind.as_str()), ("mountpoint", point)];
            if let Some(value) = value(mount, room.as_ref()) {
                family.sample(&labels, value);
            }
        }
    };
    family("node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes.", |_, room| {
        Some(room?.available)
    });
    let help = "Whether an error occurred while getting statistics for the given device.";
    family("node_filesystem_device_error", help, |_, room| Some(u64::from(room.is_none())));
    family("node_filesystem_files", "Filesystem total file nodes.", |_, room| Some(room?.files));
    family("node_filesystem_files_free", "Filesystem total free file nodes.", |_, room| Some(room?.files_free));
    family("node_filesystem_free_bytes", "Filesystem free space in bytes.", |_, room| Some(room?.free));
    family("node_filesystem_readonly", "Filesystem read-only status.", |mount, room| {
        room.map(|_| u64::from(mount.is_read_only))
    });
    family("node_filesystem_size_bytes", "Filesystem size in bytes.", |_, room| Some(room?.size));
}

#[cfg(test)]
mod tests {
    //! Which mounts, names that somebody else chose, and a file system that hangs.
    use super::*;
    use crate::metrics::text::Format;

    fn root(mounts: &str) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        std::fs::write(dir.path().join("proc/1/mounts"), mounts).unwrap();
        let root = Root::new(dir.path());
        (dir, root)
    }
    fn written(filesystems: &mut Filesystems, root: &Root) -> String {
        let mut text = Text::new(Format::Prometheus, 0);
        filesystems.collect(root, &mut text).unwrap();
        text.finish()
    }
    const ROOM: Room = Room { size: 1000, free: 400, available: 300, files: 50, files_free: 20 };

    #[test]
    fn what_is_a_disk_is_told_once_under_its_whole_name() {
        let (_dir, root) = root(
            "/dev/vda / ext4 rw,relatime 0 0\n\
             /dev/vda / ext4 rw,relatime 0 0\n\
             proc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
             overlay /var/lib/docker/overlay2/x/merged overlay rw 0 0\ntmpfs /var/lib/docker/x tmpfs rw 0 0\n\
             /dev/vdb /mnt/a\\040b\\134\\012c xfs ro,noatime 0 0\n",
        );
        let text = written(&mut Filesystems::asking(|_| Ok(ROOM)), &root);
        let sizes: Vec<&str> = text.lines().filter(|line| line.starts_with("node_filesystem_size_bytes{")).collect();
        assert_eq!(
            sizes,
            [
                "node_filesystem_size_bytes{device=\"/dev/vda\",fstype=\"ext4\",mountpoint=\"/\"} 1000",
                "node_filesystem_size_bytes{device=\"tmpfs\",fstype=\"tmpfs\",mountpoint=\"/run\"} 1000",
                "node_filesystem_size_bytes{device=\"/dev/vdb\",fstype=\"xfs\",mountpoint=\"/mnt/a b\\\\\\nc\"} 1000",
            ]
        );
        let read_only =
            "node_filesystem_readonly{device=\"/dev/vdb\",fstype=\"xfs\",mountpoint=\"/mnt/a b\\\\\\nc\"} 1";
        assert!(text.contains(read_only), "{text}");
    }

    #[test]
    fn the_fullest_disk_is_as_df_says() {
        let (_dir, root) = root(
            "/dev/vda / ext4 rw 0 0\n/dev/vdb /data xfs rw 0 0\n/dev/vdc /cd ext4 ro 0 0\ntmpfs /run tmpfs rw 0 0\n\
             server:/x /x nfs4 rw 0 0\n",
        );
        fn ask(point: &Path) -> io::Result<Room> {
            let free = match point.to_str() {
                Some("/") => 400,
                Some("/data") => 500,
                _ => 0,
            };
            Ok(Room { free, available: free.min(300), ..ROOM })
        }
        let share = Filesystems::asking(ask).fullest(&root).unwrap();
        assert!((share - 600.0 / 900.0 * 100.0).abs() < 1e-9, "{share}");
    }

    #[test]
    fn those_that_hang_are_told_as_such_and_keep_no_other_waiting() {
        static GATE: Mutex<()> = Mutex::new(());
        fn ask(point: &Path) -> io::Result<Room> {
            if point.starts_with("/mnt") {
                drop(GATE.lock().unwrap_or_else(PoisonError::into_inner));
            }
            Ok(ROOM)
        }
        let dead: String = (0..12).map(|n| format!("server:/{n} /mnt/{n} nfs4 rw 0 0\n")).collect();
        let (_dir, root) = root(&format!("{dead}/dev/vda / ext4 rw 0 0\n/dev/vdb /data xfs rw 0 0\n"));
        let told = |text: &str| {
            let lines = |start: &str, end: &str| {
                text.lines().filter(|line| line.starts_with(start) && line.ends_with(end)).count()
            };
            (lines("node_filesystem_device_error{", " 1"), lines("node_filesystem_avail_bytes{", ""))
        };
        let mut filesystems = Filesystems::asking(ask);
        let gate = GATE.lock().unwrap();
        // The first scrape finds out about some of them, the others find out about the rest, as many as may hang.
        while filesystems.asked.lock().unwrap().len() < MAX_HANGING {
            assert_eq!(told(&written(&mut filesystems, &root)), (12, 2));
        }
        let begun = Instant::now();
        assert_eq!(told(&written(&mut filesystems, &root)), (12, 2));
        assert!(begun.elapsed() < ANSWERS_WITHIN, "none of them is asked again, and no further one");
        drop(gate);
        let patience = Instant::now();
        while !filesystems.asked.lock().unwrap().is_empty() {
            assert!(patience.elapsed() < Duration::from_secs(20), "they have answered");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(told(&written(&mut filesystems, &root)), (0, 14));
    }
}
