//! Unpacks artifacts, which anyone may have made: refused as a whole when an entry could reach outside the tree, is no
//! file, directory or link, has SUID bits, or the whole is too large. `entry` reads and judges names; `tree` writes.
//! `seal` makes a finished release root's. Blocking; `exec` calls it.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::fd::OwnedFd,
    path::Path,
};

use drover_proto::limits::{MAX_ARCHIVE_ENTRIES, MAX_UNPACKED_BYTES};
use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use tar::EntryType;

use entry::{Extensions, Name};
use tree::Tree;

mod entry;
mod tree;

/// What an archive held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unpacked {
    /// In files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// Why an archive was not unpacked, or a tree not sealed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// An entry is not allowed.
    #[error("entry {entry:?} {why}")]
    Entry {
        /// Its name, as far as it can be shown.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is too much in it.
    #[error("the archive holds more than {0}")]
    TooLarge(String),
    /// It is cut off, damaged or of another format.
    #[error("the archive cannot be read: {0}")]
    Damaged(io::Error),
    /// The tree could not be written.
    #[error("{path}: {source}")]
    Write {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl ArchiveError {
    fn entry(name: impl std::fmt::Display, why: impl Into<String>) -> Self {
        Self::Entry { entry: name.to_string(), why: why.into() }
    }
    fn write(path: impl std::fmt::Display, source: impl Into<io::Error>) -> Self {
        Self::Write { path: path.to_string(), source: source.into() }
    }
}

/// How much an archive may hold.
#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: u64,
    entries: u64,
}

/// Unpacks a tar archive (plain, gzip or zstd) into `into`, which must not exist and is removed again on failure. All
/// belongs to `owner` (uid, gid), modes are 0755 or 0644, times are now.
pub fn unpack(archive: &Path, into: &Path, owner: (u32, u32)) -> Result<Unpacked, ArchiveError> {
    let limits = Limits { bytes: MAX_UNPACKED_BYTES, entries: MAX_ARCHIVE_ENTRIES };
    unpack_within(archive, into, owner, limits)
}

fn unpack_within(archive: &Path, into: &Path, owner: (u32, u32), limits: Limits) -> Result<Unpacked, ArchiveError> {
    let reader = open(archive).map_err(ArchiveError::Damaged)?;
    // Headers and padding count too, but are never more than this beside the content.
    let reader = reader.take(limits.bytes.saturating_add(limits.entries.saturating_mul(4096)));
    let tree = Tree::create(into, owner, limits)?;
    let unpacked = read_into(reader, tree);
    if unpacked.is_err()
        && let Err(error) = std::fs::remove_dir_all(into)
    {
        tracing::warn!(into = %into.display(), %error, "what was unpacked of a bad archive stays behind");
    }
    unpacked
}

fn open(archive: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = File::open(archive)?;
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(match magic.as_slice() {
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(file)?),
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))),
        _ => Box::new(BufReader::new(file)),
    })
}

/// Raw entries: what the format's own extensions say about names is read here, within bounds, not in the library, which
/// would take them however large they are.
fn read_into(reader: impl Read, mut tree: Tree) -> Result<Unpacked, ArchiveError> {
    let mut archive = tar::Archive::new(reader);
    let mut extensions = Extensions::default();
    let mut seen_any = false;
    for raw in archive.entries().map_err(ArchiveError::Damaged)?.raw(true) {
        let mut raw = raw.map_err(ArchiveError::Damaged)?;
        seen_any = true;
        if extensions.take(&mut raw)? {
            continue;
        }
        let found = std::mem::take(&mut extensions);
        let name = found.name(&raw)?;
        let kind = raw.header().entry_type();
        let mode = raw.header().mode().map_err(ArchiveError::Damaged)?;
        if mode & 0o6000 != 0 {
            return Err(ArchiveError::entry(&name, "has the SUID or SGID bit"));
        }
        match kind {
            EntryType::Regular | EntryType::Continuous => tree.file(&name, &mut raw, mode & 0o111 != 0)?,
            EntryType::Directory => tree.directory(&name)?,
            EntryType::Symlink => {
                let target = found.link(&raw, &name)?;
                name.check_link(&target)?;
                tree.symlink(&name, &target)?;
            }
            EntryType::Link => {
                let target = found.link(&raw, &name)?;
                let target = Name::parse(target.as_bytes())
                    .map_err(|_| ArchiveError::entry(&name, format!("links to {target:?}, outside the tree")))?;
                tree.hard_link(&name, &target)?;
            }
            other => return Err(ArchiveError::entry(&name, format!("is {}", what_it_is(other)))),
        }
    }
    if !seen_any || !extensions.is_empty() {
        return Err(ArchiveError::Damaged(io::ErrorKind::UnexpectedEof.into()));
    }
    tree.finish()
}

fn what_it_is(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char | EntryType::Block => "a device node, which an artifact may not hold",
        EntryType::Fifo => "a named pipe, which an artifact may not hold",
        EntryType::GNUSparse => "a sparse file: make the archive without --sparse",
        _ => "neither file, directory nor link",
    }
}

/// Makes a whole tree root's and readable by all: directories 0755, files 0644 or, if anyone could execute them, 0755.
/// Links are kept as they are. Returns once it is on the disk.
///
/// `fresh`: somebody else wrote here (a build), and a process that they left behind may have files open for writing or
/// hard links elsewhere; every file is replaced by a copy that only root has ever had open. Sizes are bounded as in
/// `unpack`.
pub fn seal(dir: &Path, fresh: bool) -> Result<(), ArchiveError> {
    let shown = dir.display().to_string();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = fs::open(dir, flags, Mode::empty()).map_err(|e| ArchiveError::write(&shown, e))?;
    let mut seal = Seal { fresh, left: MAX_UNPACKED_BYTES };
    seal.directory(&top, &shown, 0)?;
    fs::syncfs(&top).map_err(|e| ArchiveError::write(&shown, e))
}

/// What a copy is called until it stands in its file's place; root's directory has no such file.
const FRESH: &str = ".drover-fresh";
/// Deeper trees are refused rather than run out of open files.
const MAX_DEPTH: usize = 200;

/// A tree being sealed.
struct Seal {
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
        root_owns(directory, 0o755).map_err(failed)?;
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
                    let (root, group) = (Some(Uid::ROOT), Some(Gid::ROOT));
                    fs::chownat(directory, &name, root, group, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
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
                        root_owns(&file, mode).map_err(failed)?;
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
        root_owns(&new, mode)
            .and_then(|()| fs::futimens(&new, &times))
            .and_then(|()| fs::renameat(directory, FRESH, directory, name))
            .map_err(|e| failed(e.into()))
    }
}

fn root_owns(fd: &OwnedFd, mode: u32) -> rustix::io::Result<()> {
    fs::fchown(fd, Some(Uid::ROOT), Some(Gid::ROOT))?;
    fs::fchmod(fd, Mode::from_raw_mode(mode))
}

#[cfg(test)]
mod tests;
