//! Reads and writes single files and directories for apps, never led astray by symbolic links, and the agent's own
//! private state. `walk` finds the directory; `exec` and `observe` call this. Blocking, and quick.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use drover_proto::{
    code::Code,
    digest::{Digest, Hasher},
    limits,
    name::AbsPath,
};
use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
};

pub use known::Known;
use walk::Missing;

use crate::report::now_unix_ms;

mod known;
pub mod tree;
mod walk;

/// A file larger than this is not read to be compared; drover writes none nearly as large.
const MAX_HASHED_BYTES: u64 = 16 * limits::MAX_FILE_BYTES as u64;

/// How the names of files begin that are written beside the one that they will replace.
pub const TEMPORARY: &str = ".drover-";
/// Names that are tried for one of them.
const MAX_TEMPORARY: u32 = 4;

/// What is at a path. Owner and group are numbers; the mode has the permission bits (0o7777) only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileState {
    /// Nothing, or a directory on the way is missing.
    Missing,
    /// A regular file.
    File {
        /// Of its content; `None` = it is too large to be anything of drover's, and was not read.
        digest: Option<Digest>,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// In bytes.
        size: u64,
    },
    /// A directory.
    Directory {
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link, wherever it leads.
    Symlink,
    /// A device, a socket, a pipe.
    Other,
}

/// Why a path could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Something is in the way that drover does not follow or replace.
    #[error("{path}: {why}")]
    Unsafe {
        /// Of the file that was asked for.
        path: String,
        /// What is in the way.
        why: String,
    },
    /// It is larger than the caller can take.
    #[error("{path}: larger than {max} bytes")]
    TooLarge {
        /// Of the file.
        path: String,
        /// In bytes.
        max: usize,
    },
    /// The system said no.
    #[error("{path}: cannot {doing}: {source}")]
    Io {
        /// Of the file that was asked for.
        path: String,
        /// What was being done, an infinitive.
        doing: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl FileError {
    /// The code that a report carries for it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unsafe { .. } => Code::UnsafePath,
            Self::TooLarge { .. } => Code::Limit,
            Self::Io { .. } => Code::Write,
        }
    }
    fn unsafe_path(path: &AbsPath, why: impl Into<String>) -> Self {
        Self::Unsafe { path: path.to_string(), why: why.into() }
    }
    fn io(path: &AbsPath, doing: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_string(), doing, source: source.into() }
    }
    fn private(path: &Path, doing: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.display().to_string(), doing, source: source.into() }
    }
}

/// What is at `path`, its last component not followed.
pub fn state(path: &AbsPath) -> Result<FileState, FileError> {
    let Some((directory, name)) = walk::parent(path, Missing::Tell)? else { return Ok(FileState::Missing) };
    let stat = match fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(FileState::Missing),
        Err(error) => return Err(FileError::io(path, "look at it", error)),
    };
    let (uid, gid, mode) = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(FileState::Directory { uid, gid, mode }),
        FileType::Symlink => Ok(FileState::Symlink),
        FileType::RegularFile => {
            let Some(mut file) = open_regular(path, &directory, &name)? else { return Ok(FileState::Missing) };
            let stat = fs::fstat(&file).map_err(|e| FileError::io(path, "look at it", e))?;
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            let digest = digest(&mut file, size).map_err(|e| FileError::io(path, "read it", e))?;
            Ok(FileState::File { digest, uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777, size })
        }
        _ => Ok(FileState::Other),
    }
}

/// `None`: larger than anything is hashed, `size` bytes or because it grows all the while.
fn digest(file: &mut File, size: u64) -> io::Result<Option<Digest>> {
    if size > MAX_HASHED_BYTES {
        return Ok(None);
    }
    let (mut hasher, mut left, mut buffer) = (Hasher::new(), MAX_HASHED_BYTES, vec![0; 64 << 10]);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(Some(hasher.finish()));
        }
        let Some(rest) = left.checked_sub(n as u64) else { return Ok(None) };
        left = rest;
        hasher.update(&buffer[..n]);
    }
}

/// The content of the regular file at `path`; `None`: there is none. More than `max` bytes is an error.
pub fn read(path: &AbsPath, max: usize) -> Result<Option<Vec<u8>>, FileError> {
    let Some((directory, name)) = walk::parent(path, Missing::Tell)? else { return Ok(None) };
    let Some(file) = open_regular(path, &directory, &name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|e| FileError::io(path, "read it", e))?;
    if bytes.len() > max {
        return Err(FileError::TooLarge { path: path.to_string(), max });
    }
    Ok(Some(bytes))
}

/// Opens for reading what must be a regular file. Never waits for a pipe's other end.
fn open_regular(path: &AbsPath, directory: &OwnedFd, name: &OsStr) -> Result<Option<File>, FileError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match fs::openat(directory, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(FileError::unsafe_path(path, "a symbolic link is in its place")),
        Err(error) => return Err(FileError::io(path, "open it", error)),
    };
    let stat = fs::fstat(&fd).map_err(|e| FileError::io(path, "look at it", e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FileError::unsafe_path(path, "something that is not a regular file is in its place"));
    }
    Ok(Some(File::from(fd)))
}

/// Puts `bytes` at `path` so that a reader, or a power cut, sees the old content or the new and nothing between. Missing
/// directories are made (root's, 0755). Only a regular file is replaced.
pub fn write_atomic(path: &AbsPath, bytes: &[u8], uid: u32, gid: u32, mode: u32) -> Result<(), FileError> {
    let Some((directory, name)) = walk::parent(path, Missing::Create)? else {
        return Err(FileError::io(path, "make its directory", Errno::NOENT));
    };
    refuse_unless_regular(path, &directory, &name)?;
    let (temporary, file) = temporary(path, &directory, &name)?;
    let written = fill(file, bytes, uid, gid, mode)
        .and_then(|()| fs::renameat(&directory, &temporary, &directory, &name))
        .and_then(|()| fs::fsync(&directory));
    if let Err(error) = written {
        if let Err(left) = fs::unlinkat(&directory, &temporary, AtFlags::empty()) {
            tracing::warn!(%path, %temporary, %left, "a temporary file stays behind");
        }
        return Err(FileError::io(path, "write it", error));
    }
    Ok(())
}

fn refuse_unless_regular(path: &AbsPath, directory: &OwnedFd, name: &OsStr) -> Result<(), FileError> {
    let kind = match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(FileError::io(path, "look at it", error)),
    };
    let what = match kind {
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => "a symbolic link",
        FileType::Directory => "a directory",
        _ => "a device, socket or pipe",
    };
    Err(FileError::unsafe_path(path, format!("{what} is in its place; remove it if a file may stand there")))
}

/// The name of the file that is written beside the one named `name` to replace it: always the same, so that what a crash
/// left can be found and is in nobody's way. Another `attempt` has another name.
fn temporary_name(name: &OsStr, attempt: u32) -> String {
    let hash = Digest::of(name.as_bytes()).hex();
    format!("{TEMPORARY}{}-{attempt}", &hash[..16])
}

fn temporary(path: &AbsPath, directory: &OwnedFd, name: &OsStr) -> Result<(String, File), FileError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for attempt in 0..MAX_TEMPORARY {
        let name = temporary_name(name, attempt);
        // Of a write that a crash cut short. What cannot be removed, such as a directory, keeps its name.
        let (Ok(()) | Err(_)) = fs::unlinkat(directory, &name, AtFlags::empty());
        match fs::openat(directory, &name, flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => return Ok((name, File::from(fd))),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(FileError::io(path, "make a temporary file beside it", error)),
        }
    }
    Err(FileError::io(path, "make a temporary file beside it", Errno::EXIST))
}

/// Removes what a write of `path` that a crash cut short has left beside it; `true`: there was something.
pub fn remove_temporary(path: &AbsPath) -> Result<bool, FileError> {
    let Some((directory, name)) = walk::parent(path, Missing::Tell)? else { return Ok(false) };
    let mut removed = false;
    for attempt in 0..MAX_TEMPORARY {
        match fs::unlinkat(&directory, temporary_name(&name, attempt), AtFlags::empty()) {
            Ok(()) => removed = true,
            Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(error) => return Err(FileError::io(path, "remove a temporary file beside it", error)),
        }
    }
    Ok(removed)
}

fn fill(mut file: File, bytes: &[u8], uid: u32, gid: u32, mode: u32) -> rustix::io::Result<()> {
    file.write_all(bytes).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    own(&file, uid, gid, mode)?;
    fs::fsync(&file)
}

/// Owner first: a change of owner takes SUID bits away, and before it the new mode must not apply to the old owner.
fn own(fd: impl AsFd, uid: u32, gid: u32, mode: u32) -> rustix::io::Result<()> {
    fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777))
}

/// Removes the file or symbolic link at `path`; `false`: there was none. A directory is an error.
pub fn remove(path: &AbsPath) -> Result<bool, FileError> {
    let Some((directory, name)) = walk::parent(path, Missing::Tell)? else { return Ok(false) };
    match fs::unlinkat(&directory, &name, AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::ISDIR) => return Err(FileError::unsafe_path(path, "a directory is in its place")),
        Err(error) => return Err(FileError::io(path, "remove it", error)),
    }
    fs::fsync(&directory).map_err(|e| FileError::io(path, "sync its directory", e))?;
    Ok(true)
}

/// Makes sure that a directory is at `path` with this owner, group and mode; `true`: something was changed. Missing
/// directories on the way are root's, 0755.
pub fn ensure_directory(path: &AbsPath, uid: u32, gid: u32, mode: u32) -> Result<bool, FileError> {
    let Some((parent, name)) = walk::parent(path, Missing::Create)? else {
        return Err(FileError::io(path, "make its directory", Errno::NOENT));
    };
    let created = match fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o700)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(FileError::io(path, "make it", error)),
    };
    let directory = match fs::openat(&parent, &name, walk::DIRECTORY, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::LOOP | Errno::NOTDIR) => {
            return Err(FileError::unsafe_path(path, "something that is not a directory is in its place"));
        }
        Err(error) => return Err(FileError::io(path, "open it", error)),
    };
    let stat = fs::fstat(&directory).map_err(|e| FileError::io(path, "look at it", e))?;
    let right = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (uid, gid, mode & 0o7777);
    if right && !created {
        return Ok(false);
    }
    own(&directory, uid, gid, mode)
        .and_then(|()| fs::fsync(&directory))
        .and_then(|()| fs::fsync(&parent))
        .map_err(|e| FileError::io(path, "set its owner and mode", e))?;
    Ok(true)
}

/// Puts a damaged file of the agent's own aside, beside where it was; answers its new name, NAME.damaged-UNIX_MS.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", now_unix_ms()));
    let aside = PathBuf::from(name);
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Writes a file of the agent's own state: mode 0600, whole or not at all, on the disk when this returns. Its directory
/// must exist and be the agent's.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let directory: PathBuf = path.parent().unwrap_or(Path::new("/")).to_owned();
    let write = || -> io::Result<()> {
        let name: String = path.file_name().unwrap_or_default().to_string_lossy().chars().take(32).collect();
        let prefix = format!("{TEMPORARY}{name}-");
        let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(&directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        sync_directory(&directory)
    };
    write().map_err(|e| FileError::private(path, "write it", e))
}

/// Removes a file of the agent's own state, for good when this returns; one that is not there is as good as removed.
pub fn remove_private(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_directory(path.parent().unwrap_or(Path::new("/"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What was made, renamed or removed in a directory is on the disk when this returns.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
