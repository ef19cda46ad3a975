//! Writes a tree below one open directory, without ever passing through a symbolic link. Names come judged from `entry`.

use std::{
    io::{Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::{ArchiveError, Limits, Unpacked, entry::Name};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A tree in the making.
pub(super) struct Tree {
    top: OwnedFd,
    limits: Limits,
    done: Unpacked,
}

impl Tree {
    /// Fills the directory, which must be empty.
    pub(super) fn open(at: &Path, limits: Limits) -> Result<Self, ArchiveError> {
        let top = fs::open(at, DIRECTORY, Mode::empty()).map_err(|e| ArchiveError::write(at.display(), e))?;
        let mut entries = fs::Dir::read_from(&top).map_err(|e| ArchiveError::write(at.display(), e))?;
        let dots = [c".", c".."];
        if entries.any(|entry| entry.is_ok_and(|entry| !dots.contains(&entry.file_name()))) {
            return Err(ArchiveError::write(at.display(), Errno::NOTEMPTY));
        }
        Ok(Self { top, limits, done: Unpacked { bytes: 0, entries: 0 } })
    }

    /// What was written.
    pub(super) fn finish(self) -> Unpacked {
        self.done
    }

    pub(super) fn file(&mut self, name: &Name, from: &mut impl Read, executable: bool) -> Result<(), ArchiveError> {
        let (directory, last) = self.way_to(name)?;
        self.count()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&directory, last, flags, Mode::from_raw_mode(0o600)).map_err(|e| refused(name, e))?;
        let mut file = std::fs::File::from(fd);
        let mut buffer = [0; 32 << 10];
        loop {
            let n = from.read(&mut buffer).map_err(ArchiveError::Damaged)?;
            if n == 0 {
                break;
            }
            self.done.bytes += n as u64;
            if self.done.bytes > self.limits.bytes {
                return Err(ArchiveError::TooLarge(format!("{} bytes", self.limits.bytes)));
            }
            file.write_all(&buffer[..n]).map_err(|e| ArchiveError::write(name, e))?;
        }
        set_mode(&file, if executable { 0o755 } else { 0o644 }).map_err(|e| ArchiveError::write(name, e))
    }

    pub(super) fn directory(&mut self, name: &Name) -> Result<(), ArchiveError> {
        if name.split().is_none() {
            return Ok(());
        }
        let (directory, last) = self.way_to(name)?;
        self.enter(name, &directory, last).map(drop)
    }

    pub(super) fn symlink(&mut self, name: &Name, target: &str) -> Result<(), ArchiveError> {
        let (directory, last) = self.way_to(name)?;
        self.count()?;
        fs::symlinkat(target, &directory, last).map_err(|e| refused(name, e))
    }

    /// A second name for a file that came before.
    pub(super) fn hard_link(&mut self, name: &Name, target: &Name) -> Result<(), ArchiveError> {
        let nothing = || ArchiveError::entry(name, format!("links to {target}, which is no file that came before it"));
        let (way, last_of_target) = target.split().ok_or_else(nothing)?;
        let mut from = self.top.try_clone().map_err(|e| ArchiveError::write(name, e))?;
        for part in way {
            from = fs::openat(&from, part, DIRECTORY, Mode::empty()).map_err(|_| nothing())?;
        }
        let stat = fs::statat(&from, last_of_target, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| nothing())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(nothing());
        }
        let (directory, last) = self.way_to(name)?;
        self.count()?;
        fs::linkat(&from, last_of_target, &directory, last, AtFlags::empty()).map_err(|e| refused(name, e))
    }

    /// The directory that `name` lies in, made if it is missing, and the last part of the name.
    fn way_to<'n>(&mut self, name: &'n Name) -> Result<(OwnedFd, &'n str), ArchiveError> {
        let Some((way, last)) = name.split() else {
            return Err(ArchiveError::entry(name, "would stand in place of the whole tree"));
        };
        let mut here = self.top.try_clone().map_err(|e| ArchiveError::write(name, e))?;
        for part in way {
            here = self.enter(name, &here, part)?;
        }
        Ok((here, last))
    }

    /// Opens a directory, made if it is missing.
    fn enter(&mut self, name: &Name, here: &OwnedFd, part: &str) -> Result<OwnedFd, ArchiveError> {
        let made = match fs::mkdirat(here, part, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(ArchiveError::write(name, error)),
        };
        let next = fs::openat(here, part, DIRECTORY, Mode::empty()).map_err(|e| refused(name, e))?;
        if made {
            self.count()?;
            set_mode(&next, 0o755).map_err(|e| ArchiveError::write(name, e))?;
        }
        Ok(next)
    }

    fn count(&mut self) -> Result<(), ArchiveError> {
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            return Err(ArchiveError::TooLarge(format!("{} entries", self.limits.entries)));
        }
        Ok(())
    }
}

fn set_mode(fd: impl std::os::fd::AsFd, mode: u32) -> rustix::io::Result<()> {
    fs::fchmod(&fd, Mode::from_raw_mode(mode))
}

/// What it means when something is in the way already.
fn refused(name: &Name, error: Errno) -> ArchiveError {
    match error {
        Errno::EXIST => ArchiveError::entry(name, "is there twice"),
        Errno::LOOP | Errno::NOTDIR => {
            ArchiveError::entry(name, "lies below, or replaces, a link or file that came before it")
        }
        other => ArchiveError::write(name, other),
    }
}
