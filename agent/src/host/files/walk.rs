//! Finds the directory that a path lies in without being led astray: every component is opened by itself, and a symbolic
//! link is followed only where nobody but root could have put it. Used by the operations in `files`.

use std::{
    collections::VecDeque,
    ffi::OsString,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::Path,
};

use drover_proto::name::AbsPath;
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::FileError;

/// How a directory on the way is opened.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Symbolic links followed on one path, at most.
const MAX_LINKS: usize = 16;

/// What to do about a directory that is missing on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// There is nothing then.
    Tell,
    /// Make it: root's, mode 0755.
    Create,
}

/// The directory that `path` lies in, open, and the name of `path` in it. `None`: a directory on the way is missing.
pub(super) fn parent(path: &AbsPath, missing: Missing) -> Result<Option<(OwnedFd, OsString)>, FileError> {
    let mut todo: VecDeque<OsString> = names(path.as_path());
    let Some(last) = todo.pop_back() else {
        return Err(FileError::unsafe_path(path, "it names the root directory"));
    };
    let mut here = root(path)?;
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        match fs::openat(&here, &name, DIRECTORY, Mode::empty()) {
            Ok(next) => here = next,
            Err(Errno::NOENT) if missing == Missing::Create => here = create(path, &here, &name)?,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(FileError::unsafe_path(path, "too many symbolic links on the way"));
                }
                let target = trusted_link(path, &here, &name)?;
                if target.has_root() {
                    here = root(path)?;
                }
                for part in names(&target).into_iter().rev() {
                    todo.push_front(part);
                }
            }
            Err(error) => return Err(FileError::io(path, "open its directory", error)),
        }
    }
    Ok(Some((here, last)))
}

fn root(path: &AbsPath) -> Result<OwnedFd, FileError> {
    fs::open("/", DIRECTORY, Mode::empty()).map_err(|e| FileError::io(path, "open /", e))
}

/// The components that are steps: names and `..`.
fn names(path: &Path) -> VecDeque<OsString> {
    use std::path::Component;
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn create(path: &AbsPath, here: &OwnedFd, name: &OsString) -> Result<OwnedFd, FileError> {
    match fs::mkdirat(here, name, Mode::from_raw_mode(0o755)).and_then(|()| fs::fsync(here)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(FileError::io(path, "make its directory", error)),
    }
    fs::openat(here, name, DIRECTORY, Mode::empty()).map_err(|e| FileError::io(path, "open its directory", e))
}

/// Where a symbolic link leads, if only root can have made it: it is root's, in a directory that is root's and that
/// nobody else may write.
fn trusted_link(path: &AbsPath, here: &OwnedFd, name: &OsString) -> Result<std::path::PathBuf, FileError> {
    let shown = name.to_string_lossy();
    let link = fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| FileError::io(path, "look at", e))?;
    if FileType::from_raw_mode(link.st_mode) != FileType::Symlink {
        return Err(FileError::unsafe_path(path, format!("{shown:?} on the way is not a directory")));
    }
    let directory = fs::fstat(here).map_err(|e| FileError::io(path, "look at", e))?;
    if link.st_uid != 0 || directory.st_uid != 0 || directory.st_mode & 0o022 != 0 {
        let why = format!("{shown:?} on the way is a symbolic link that others than root can change");
        return Err(FileError::unsafe_path(path, why));
    }
    let target = fs::readlinkat(here, name, Vec::new()).map_err(|e| FileError::io(path, "read the link", e))?;
    Ok(OsString::from_vec(target.into_bytes()).into())
}
