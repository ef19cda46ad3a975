//! Gives a tree to another owner: a finished release to root, a fresh one to the user who builds there. Follows no link.
//! Beside `archive`; `exec` calls it.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use drover_proto::limits::MAX_UNPACKED_BYTES;
use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::ArchiveError;

/// Makes a whole tree root's and readable by all: directories 0755, files 0644 or, if anyone could execute them, 0755.
/// Links are kept as they are. Returns once it is on the disk.
///
/// `fresh`: somebody else wrote here (a build), and a process that they left behind may have files open for writing or
/// hard links elsewhere; every file is replaced by a copy that only root has ever had open. Sizes are bounded as in
/// `unpack`.
pub fn seal(dir: &Path, fresh: bool) -> Result<(), ArchiveError> {
    let top = give(dir, (Uid::ROOT, Gid::ROOT), fresh)?;
    fs::syncfs(&top).map_err(|e| ArchiveError::write(dir.display(), e))
}

/// Makes a whole tree that nobody has open any more `owner`'s (uid, gid), modes as in `seal`.
pub fn hand_over(dir: &Path, owner: (u32, u32)) -> Result<(), ArchiveError> {
    give(dir, (Uid::from_raw(owner.0), Gid::from_raw(owner.1)), false).map(drop)
}

fn give(dir: &Path, owner: (Uid, Gid), fresh: bool) -> Result<OwnedFd, ArchiveError> {
    let shown = dir.display().to_string();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = fs::open(dir, flags, Mode::empty()).map_err(|e| ArchiveError::write(&shown, e))?;
    let mut seal = Seal { owner, fresh, left: MAX_UNPACKED_BYTES };
    seal.directory(&top, &shown, 0)?;
    Ok(top)
}

/// What a copy is called until it stands in its file's place; root's directory has no such file.
const FRESH: &str = ".drover-fresh";
/// Deeper trees are refused rather than run out of open files.
const MAX_DEPTH: usize = 200;

/// A tree that gets another owner.
struct Seal {
    owner: (Uid, Gid),
    fresh: bool,
    /// Bytes that copies may still have.
    left: u64,
}

impl Seal {
    fn directory(&mut self, directory: &OwnedFd, shown: &str, depth: usize) -> Result<(), ArchiveError> {
        if depth > MAX_DEPTH {
            return Err(ArchiveError::entry(shown, "lies too deep"));
        }
        let failed = |e: rustix::io::Errno| ArchiveError::write(shown, e);
        // The directory first: from then on its old owner cannot swap what is in it.
        self.own(directory, 0o755).map_err(failed)?;
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
                    let (uid, gid) = (Some(self.owner.0), Some(self.owner.1));
                    fs::chownat(directory, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                }
                FileType::Directory => {
                    let next =
                        fs::openat(directory, &name, flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
                    self.directory(&next, &below, depth + 1)?;
                }
                FileType::RegularFile => {
                    let file = fs::openat(directory, &name, flags, Mode::empty()).map_err(failed)?;
                    let stat = fs::fstat(&file).map_err(failed)?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                        return Err(ArchiveError::entry(&below, "changed while the release was sealed"));
                    }
                    let mode = if stat.st_mode & 0o111 == 0 { 0o644 } else { 0o755 };
                    if self.fresh {
                        self.replace(directory, &name, (File::from(file), &stat), mode, &below)?;
                    } else {
                        self.own(&file, mode).map_err(failed)?;
                    }
                }
                _ => return Err(ArchiveError::entry(&below, "is a device, socket or pipe that the build left")),
            }
        }
        Ok(())
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
        self.own(&new, mode)
            .and_then(|()| fs::futimens(&new, &times))
            .and_then(|()| fs::renameat(directory, FRESH, directory, name))
            .map_err(|e| failed(e.into()))
    }

    fn own(&self, fd: &OwnedFd, mode: u32) -> rustix::io::Result<()> {
        fs::fchown(fd, Some(self.owner.0), Some(self.owner.1))?;
        fs::fchmod(fd, Mode::from_raw_mode(mode))
    }
}
