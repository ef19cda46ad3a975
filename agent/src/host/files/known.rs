//! Remembers the content of files that were read before, so that a file which has not changed since is not read again.
//! Beside `files`; `observe` keeps one for the looks at what is committed.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use drover_proto::name::AbsPath;
use rustix::fs::{self, AtFlags, FileType, Stat};

use super::{FileError, FileState, state, walk};

/// A file that was changed less than this ago may change once more without its times showing it.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What was read, by path.
#[derive(Default)]
pub struct Known(HashMap<AbsPath, (Stamp, FileState)>);

/// Another one with every change of content, owner or mode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Since 1970.
    fn changed_at(&self) -> Duration {
        let (seconds, nanoseconds) = self.changed;
        Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0))
    }
}

impl Known {
    /// What is at `path`, and whether that is known from before.
    pub fn state(&mut self, path: &AbsPath) -> Result<(FileState, bool), FileError> {
        self.state_at(path, SystemTime::now())
    }

    fn state_at(&mut self, path: &AbsPath, now: SystemTime) -> Result<(FileState, bool), FileError> {
        let stamp = stamp(path)?;
        if let (Some(stamp), Some((known, state))) = (stamp, self.0.get(path))
            && stamp == *known
        {
            return Ok((state.clone(), true));
        }
        let state = state(path)?;
        match (stamp.filter(|stamp| is_settled(stamp, now)), &state) {
            (Some(stamp), FileState::File { digest: Some(_), .. }) => {
                self.0.insert(path.clone(), (stamp, state.clone()));
            }
            _ => drop(self.0.remove(path)),
        }
        Ok((state, false))
    }

    /// Whatever was read: it will be read again.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// Of the regular file at `path`, if there is one.
fn stamp(path: &AbsPath) -> Result<Option<Stamp>, FileError> {
    let Some((directory, name)) = walk::parent(path, walk::Missing::Tell)? else { return Ok(None) };
    let Ok(stat) = fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(None) };
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then(|| of(&stat)))
}

fn of(stat: &Stat) -> Stamp {
    Stamp {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: stat.st_size,
        modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
    }
}

fn is_settled(stamp: &Stamp, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(stamp.changed_at()).is_some_and(|ago| ago > SETTLED_AFTER)
}

#[cfg(test)]
mod tests {
    //! On a real file system.
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_read_again_when_anything_about_it_changed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        let path: AbsPath = file.to_str().unwrap().parse().unwrap();
        let mut known = Known::default();
        assert_eq!(known.state(&path).unwrap(), (FileState::Missing, false));
        std::fs::write(&file, "one").unwrap();
        let after = |ms| UNIX_EPOCH + stamp(&path).unwrap().unwrap().changed_at() + Duration::from_millis(ms);
        let (first, _) = known.state_at(&path, after(1)).unwrap();
        assert!(!known.state_at(&path, after(2000)).unwrap().1, "it has only just changed");
        let mut held = Known::default();
        assert!(!held.state_at(&path, after(2001)).unwrap().1, "it was not read before");
        assert_eq!(held.state(&path).unwrap(), (first.clone(), true));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let (other, from_before) = held.state(&path).unwrap();
        assert!(!from_before && other != first);
        held.0.insert(path.clone(), (stamp(&path).unwrap().unwrap(), first));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(held.state(&path).unwrap(), (FileState::Missing, false));
        assert!(held.0.is_empty());
    }
}
