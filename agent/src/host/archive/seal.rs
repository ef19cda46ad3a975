//! Gives a tree to another owner: a finished release to root, a fresh one to the user who builds there. Follows no link.
//! Beside `archive`; `exec` calls it.

use std::{
    collections::BTreeSet,
    ffi::CStr,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use drover_proto::limits::MAX_UNPACKED_BYTES;
use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::ArchiveError;

/// Makes a whole tree of user `from` root's and readable by all: directories 0755, files 0644 or, if anyone could execute
/// them, 0755. Links are kept as they are. Returns once it is on the disk. What somebody else owns in it is refused: who
/// wrote there could bring in a file that they cannot read.
///
/// `fresh`: somebody else wrote here (a build), and a process that they left behind may have files open for writing or
/// hard links elsewhere; every file is replaced by a copy that only root has ever had open. Sizes are bounded as in
/// `unpack`.
pub fn seal(dir: &Path, from: u32, fresh: bool) -> Result<(), ArchiveError> {
    let top = give(dir, from, (Uid::ROOT, Gid::ROOT), fresh)?;
    fs::syncfs(&top).map_err(|e| ArchiveError::write(dir.display(), e))
}

/// Makes a whole tree of user `from` that nobody has open any more `owner`'s (uid, gid), modes and refusals as in `seal`.
/// Until all of it is theirs the new owner cannot get in.
pub fn hand_over(dir: &Path, from: u32, owner: (u32, u32)) -> Result<(), ArchiveError> {
    give(dir, from, (Uid::from_raw(owner.0), Gid::from_raw(owner.1)), false).map(drop)
}

fn give(dir: &Path, from: u32, owner: (Uid, Gid), fresh: bool) -> Result<OwnedFd, ArchiveError> {
    let shown = dir.display().to_string();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = fs::open(dir, flags, Mode::empty()).map_err(|e| ArchiveError::write(&shown, e))?;
    let mut seal = Seal { from, owner, fresh, left: MAX_UNPACKED_BYTES, given: BTreeSet::new() };
    seal.directory(&top, &shown, 0)?;
    Ok(top)
}

/// What a copy is called until it stands in its file's place; root's directory has no such file.
const FRESH: &str = ".drover-fresh";
/// Deeper trees are refused rather than run out of open files.
const MAX_DEPTH: usize = 200;

/// A tree that gets another owner.
struct Seal {
    from: u32,
    owner: (Uid, Gid),
    fresh: bool,
    /// Bytes that copies may still have.
    left: u64,
    /// What has several names and was seen under one of them: device and inode.
    given: BTreeSet<(u64, u64)>,
}

impl Seal {
    fn directory(&mut self, directory: &OwnedFd, shown: &str, depth: usize) -> Result<(), ArchiveError> {
        if depth > MAX_DEPTH {
            return Err(ArchiveError::entry(shown, "lies too deep"));
        }
        let failed = |e: rustix::io::Errno| ArchiveError::write(shown, e);
        self.is_theirs(&fs::fstat(directory).map_err(failed)?, shown)?;
        // Root's alone while it is walked: its old owner cannot swap what is in it any more, and the new one not yet.
        own(directory, (Uid::ROOT, Gid::ROOT), 0o700).map_err(failed)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_owned();
            if name.as_bytes() != b"." && name.as_bytes() != b".." {
                names.push(name);
            }
        }
        for name in names {
            let below = format!("{shown}/{}", name.to_string_lossy());
            let failed = |e: rustix::io::Errno| ArchiveError::write(&below, e);
            let stat = fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    let itself = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let link = fs::openat(directory, &name, itself, Mode::empty()).map_err(failed)?;
                    let stat = checked(&link, FileType::Symlink, &below)?;
                    self.is_theirs(&stat, &below)?;
                    let (uid, gid) = (Some(self.owner.0), Some(self.owner.1));
                    fs::chownat(&link, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(failed)?;
                }
                FileType::Directory => {
                    let next =
                        fs::openat(directory, &name, flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
                    self.directory(&next, &below, depth + 1)?;
                }
                FileType::RegularFile => {
                    let file = fs::openat(directory, &name, flags, Mode::empty()).map_err(failed)?;
                    let stat = checked(&file, FileType::RegularFile, &below)?;
                    self.is_theirs(&stat, &below)?;
                    let mode = if stat.st_mode & 0o111 == 0 { 0o644 } else { 0o755 };
                    if self.fresh {
                        self.replace(directory, &name, (File::from(file), &stat), mode, &below)?;
                    } else {
                        own(&file, self.owner, mode).map_err(failed)?;
                    }
                }
                _ => return Err(ArchiveError::entry(&below, "is a device, socket or pipe that the build left")),
            }
        }
        own(directory, self.owner, 0o755).map_err(failed)
    }

    /// Refuses what was not `from`'s when the walk began.
    fn is_theirs(&mut self, stat: &fs::Stat, shown: &str) -> Result<(), ArchiveError> {
        let id = (stat.st_dev, stat.st_ino);
        if stat.st_uid == self.from {
            if stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                self.given.insert(id);
            }
            return Ok(());
        }
        if self.given.contains(&id) {
            return Ok(());
        }
        let why = format!(
            "belongs to user {}, not to user {} who wrote the release; only copies can be part of it",
            stat.st_uid, self.from
        );
        Err(ArchiveError::entry(shown, why))
    }

    /// Puts a copy of `old`, which is `name` in `directory`, in its place.
    fn replace(
        &mut self,
        directory: &OwnedFd,
        name: &CStr,
        (old, stat): (File, &fs::Stat),
        mode: u32,
        shown: &str,
    ) -> Result<(), ArchiveError> {
        let failed = |e: io::Error| ArchiveError::write(shown, e);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let new = fs::openat(directory, FRESH, flags, Mode::from_raw_mode(0o600)).map_err(|e| failed(e.into()))?;
        let mut new = File::from(new);
        // Between two files this is the kernel's own copy; one that grows all the while ends at the bound.
        let copied = io::copy(&mut old.take(self.left.saturating_add(1)), &mut new).map_err(failed)?;
        if copied > self.left {
            return Err(ArchiveError::TooLarge(format!("{MAX_UNPACKED_BYTES} bytes")));
        }
        self.left -= copied;
        // Compiled Python, for one, goes by its source's time.
        let modified = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
        let times = Timestamps { last_access: modified, last_modification: modified };
        let new = OwnedFd::from(new);
        own(&new, self.owner, mode)
            .and_then(|()| fs::futimens(&new, &times))
            .and_then(|()| fs::renameat(directory, FRESH, directory, name))
            .map_err(|e| failed(e.into()))
    }
}

/// What is open, if it is still of the type that its name was of.
fn checked(fd: &OwnedFd, wanted: FileType, shown: &str) -> Result<fs::Stat, ArchiveError> {
    let stat = fs::fstat(fd).map_err(|e| ArchiveError::write(shown, e))?;
    if FileType::from_raw_mode(stat.st_mode) != wanted {
        return Err(ArchiveError::entry(shown, "changed while the release was sealed"));
    }
    Ok(stat)
}

fn own(fd: &OwnedFd, owner: (Uid, Gid), mode: u32) -> rustix::io::Result<()> {
    fs::fchown(fd, Some(owner.0), Some(owner.1))?;
    fs::fchmod(fd, Mode::from_raw_mode(mode))
}
