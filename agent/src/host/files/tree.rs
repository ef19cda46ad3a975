//! What is under some paths, and which directories tell of changes there. No symbolic link is followed that is in what is
//! watched: where it leads is part of what is seen. Beside `files`; `reconcile/watching` asks.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::Path,
    time::Duration,
};

use drover_proto::name::AbsPath;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::walk::{self, DIRECTORY, Missing};
use crate::{
    host::notice::Interest,
    watch::{Entry, Seen},
};

/// Files, directories and links under the paths of one part.
const MAX_ENTRIES: usize = 10_000;
/// Directories of those.
const MAX_DIRECTORIES: usize = 1000;
/// Levels below a path.
const MAX_DEPTH: usize = 32;
/// Reasons why something is left out that are told one by one.
const MAX_REASONS: usize = 3;

/// Called for each directory before it is read.
type Listen<'a> = &'a mut dyn FnMut(BorrowedFd<'_>, Interest) -> io::Result<()>;

/// Looks under all paths. Blocking.
pub fn seen(paths: &BTreeSet<AbsPath>, listen: Listen<'_>) -> Seen {
    let mut look = Look { seen: Seen::default(), directories: 0, left_out: 0, listen };
    for path in paths {
        look.root(path);
    }
    if look.left_out > MAX_REASONS {
        look.seen.left_out.push(format!("{} more are left out", look.left_out - MAX_REASONS));
    }
    look.seen
}

struct Look<'a> {
    seen: Seen,
    directories: usize,
    left_out: usize,
    listen: Listen<'a>,
}

impl Look<'_> {
    fn leave_out(&mut self, path: &Path, why: impl std::fmt::Display) {
        self.left_out += 1;
        if self.left_out <= MAX_REASONS {
            self.seen.left_out.push(format!("{}: {why}", path.display()));
        }
    }

    fn root(&mut self, path: &AbsPath) {
        match walk::parent(path, Missing::Tell) {
            Ok(Some((directory, name))) => {
                self.hear(path.as_path(), &directory, Interest::Name(name.clone()));
                match fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => self.entry(path.as_path(), &directory, &name, &stat, 0),
                    Err(rustix::io::Errno::NOENT) => self.seen.missing = true,
                    Err(error) => self.leave_out(path.as_path(), error),
                }
            }
            Ok(None) => {
                self.seen.missing = true;
                self.wait_for(path);
            }
            Err(error) => self.leave_out(path.as_path(), error),
        }
    }

    /// Listens for the first directory on the way that is not there.
    fn wait_for(&mut self, path: &AbsPath) {
        let above = path.as_path().ancestors().skip(1).filter_map(|above| above.to_str()?.parse::<AbsPath>().ok());
        for above in above {
            match walk::parent(&above, Missing::Tell) {
                Ok(Some((directory, name))) => {
                    return self.hear(path.as_path(), &directory, Interest::Name(name));
                }
                Ok(None) => {}
                Err(error) => return self.leave_out(path.as_path(), error),
            }
        }
    }

    fn hear(&mut self, path: &Path, directory: &OwnedFd, interest: Interest) {
        if let Err(error) = (self.listen)(directory.as_fd(), interest) {
            self.leave_out(path, format!("changes are noticed late: the kernel watches no more directories ({error})"));
        }
    }

    fn entry(&mut self, path: &Path, parent: &OwnedFd, name: &OsStr, stat: &Stat, depth: usize) {
        if self.seen.entries.len() >= MAX_ENTRIES {
            return self.leave_out(path, format!("no more than {MAX_ENTRIES} files are watched"));
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let stamp = match kind {
            FileType::Directory => format!("{kind:?} {}", stat.st_ino).into_bytes(),
            FileType::Symlink => match fs::readlinkat(parent, name, Vec::new()) {
                Ok(target) => [format!("{kind:?} {} ", stat.st_ino).as_bytes(), target.to_bytes()].concat(),
                Err(error) => return self.leave_out(path, error),
            },
            _ => written(stat),
        };
        let changed = changed(stat);
        self.seen.entries.insert(path.to_owned(), Entry { stamp, changed });
        if kind == FileType::Directory {
            self.directory(path, parent, name, depth);
        }
    }

    fn directory(&mut self, path: &Path, parent: &OwnedFd, name: &OsStr, depth: usize) {
        if depth >= MAX_DEPTH {
            return self.leave_out(path, format!("it lies deeper than {MAX_DEPTH} levels"));
        }
        if self.directories >= MAX_DIRECTORIES {
            return self.leave_out(path, format!("no more than {MAX_DIRECTORIES} directories are watched"));
        }
        self.directories += 1;
        let directory = match fs::openat(parent, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            // It went, or became something else, just now: that is told.
            Err(error) => return self.leave_out(path, error),
        };
        self.hear(path, &directory, Interest::All);
        for name in self.names(path, &directory) {
            let below = path.join(&name);
            match fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.entry(&below, &directory, &name, &stat, depth + 1),
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => self.leave_out(&below, error),
            }
        }
    }

    /// In their order, so that too many are always cut at the same place.
    fn names(&mut self, path: &Path, directory: &OwnedFd) -> Vec<OsString> {
        let mut names = Vec::new();
        let read = Dir::read_from(directory).and_then(|entries| {
            for entry in entries {
                let name = entry?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." && names.len() <= MAX_ENTRIES {
                    names.push(OsString::from_vec(name));
                }
            }
            Ok(())
        });
        if let Err(error) = read {
            self.leave_out(path, error);
        }
        names.sort();
        names
    }
}

/// Looks at files, wherever links lead: those of certbot lead to others with every renewal. Blocking.
pub fn followed(paths: &BTreeSet<AbsPath>, listen: Listen<'_>) -> Seen {
    let mut look = Look { seen: Seen::default(), directories: 0, left_out: 0, listen };
    for path in paths {
        look.follow(path.as_path());
    }
    look.seen
}

impl Look<'_> {
    fn follow(&mut self, path: &Path) {
        self.hear_beside(path);
        let read = || {
            let (link, target) = (fs::lstat(path)?, std::fs::canonicalize(path)?);
            let stat = fs::stat(&target)?;
            io::Result::Ok((target, changed(&link).max(changed(&stat)), stat))
        };
        match read() {
            Ok((target, changed, stat)) => {
                if target != path {
                    self.hear_beside(&target);
                }
                self.seen.entries.insert(path.to_owned(), Entry { stamp: written(&stat), changed });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.seen.missing = true,
            Err(error) => self.leave_out(path, error),
        }
    }

    /// Of a file its directory tells.
    fn hear_beside(&mut self, path: &Path) {
        let Some((directory, name)) = path.parent().zip(path.file_name()) else { return };
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        // Where there is none the file is missing, too.
        if let Ok(directory) = fs::open(directory, flags, Mode::empty()) {
            self.hear(path, &directory, Interest::Name(name.to_owned()));
        }
    }
}

/// Another one with every writing.
fn written(stat: &Stat) -> Vec<u8> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    format!("{kind:?} {} {} {}.{}", stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec).into_bytes()
}

/// Since 1970.
fn changed(stat: &Stat) -> Duration {
    let nanoseconds = u32::try_from(stat.st_ctime_nsec).unwrap_or(0);
    Duration::new(u64::try_from(stat.st_ctime).unwrap_or(0), nanoseconds)
}

#[cfg(test)]
mod tests {
    //! On a real file system.
    use std::{fs as std_fs, os::unix::fs::symlink, path::PathBuf};

    use super::*;

    fn look(root: &Path, names: &[&str]) -> (Seen, usize) {
        let paths = names.iter().map(|name| root.join(name).to_str().unwrap().parse().unwrap()).collect();
        let mut heard = 0;
        let seen = seen(&paths, &mut |_, _| {
            heard += 1;
            Ok(())
        });
        (seen, heard)
    }

    #[test]
    fn everything_below_is_seen_and_no_link_is_followed() {
        let at = tempfile::tempdir().unwrap();
        let root = at.path().canonicalize().unwrap();
        std_fs::create_dir_all(root.join("lib/deep")).unwrap();
        std_fs::write(root.join("lib/deep/a"), "1").unwrap();
        std_fs::write(root.join("secret"), "1").unwrap();
        symlink(root.join("secret"), root.join("lib/link")).unwrap();
        symlink("/", root.join("lib/all")).unwrap();
        let (first, heard) = look(&root, &["lib"]);
        let names: Vec<&str> =
            first.entries.keys().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["lib", "lib/all", "lib/deep", "lib/deep/a", "lib/link"]);
        assert_eq!((heard, first.missing, first.left_out.len()), (3, false, 0), "around it, and both directories");
        std_fs::write(root.join("secret"), "2 and more").unwrap();
        assert_eq!(look(&root, &["lib"]).0.digest(), first.digest(), "what a link leads to is not watched");
        std_fs::write(root.join("lib/deep/a"), "2 and more").unwrap();
        let (second, _) = look(&root, &["lib"]);
        assert!(second.reason(Some(&first)).ends_with("lib/deep/a was changed"));
        std_fs::remove_file(root.join("lib/link")).unwrap();
        symlink(root.join("other"), root.join("lib/link")).unwrap();
        assert!(look(&root, &["lib"]).0.reason(Some(&second)).ends_with("lib/link was changed"));
    }

    #[test]
    fn what_is_not_there_yet_is_waited_for_and_what_cannot_be_watched_is_said() {
        let at = tempfile::tempdir().unwrap();
        let root = at.path().canonicalize().unwrap();
        let (seen, heard) = look(&root, &["not/yet/here"]);
        assert_eq!((seen.missing, seen.newest(), heard), (true, None, 1));
        std_fs::write(root.join("file"), "1").unwrap();
        let (seen, heard) = look(&root, &["file"]);
        assert_eq!((seen.entries.len(), heard, seen.missing), (1, 1, false), "a file is heard of by its directory");
        let (seen, _) = look(&root, &["file/below"]);
        assert!(seen.left_out[0].contains("is not a directory"), "{:?}", seen.left_out);
        let deep: PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 2).collect();
        std_fs::create_dir_all(root.join("top").join(&deep)).unwrap();
        let (seen, _) = look(&root, &["top"]);
        assert_eq!(seen.entries.len(), MAX_DEPTH + 1);
        assert!(seen.left_out[0].contains("levels"), "{:?}", seen.left_out);
    }

    #[test]
    fn too_many_are_cut_and_said() {
        let at = tempfile::tempdir().unwrap();
        let root = at.path().canonicalize().unwrap();
        for number in 0..MAX_DIRECTORIES + 5 {
            std_fs::create_dir_all(root.join(format!("top/{number:05}/x"))).unwrap();
        }
        let (seen, heard) = look(&root, &["top"]);
        assert_eq!(heard, MAX_DIRECTORIES + 1);
        assert_eq!(seen.left_out.len(), MAX_REASONS + 1, "{:?}", seen.left_out);
        assert_eq!(seen.digest(), look(&root, &["top"]).0.digest());
    }

    #[test]
    fn links_of_certbot_are_followed() {
        let at = tempfile::tempdir().unwrap();
        let root = at.path().canonicalize().unwrap();
        for directory in ["live", "archive"] {
            std_fs::create_dir(root.join(directory)).unwrap();
        }
        let path = root.join("live/cert.pem");
        let look = || {
            let mut heard = 0;
            let seen = followed(&[path.to_str().unwrap().parse().unwrap()].into(), &mut |_, _| {
                heard += 1;
                Ok(())
            });
            (seen, heard)
        };
        let (seen, heard) = look();
        assert_eq!((seen.missing, heard), (true, 1));
        std_fs::write(root.join("archive/cert1.pem"), "1").unwrap();
        std_fs::write(root.join("archive/cert2.pem"), "2").unwrap();
        symlink("../archive/cert1.pem", &path).unwrap();
        let (first, heard) = look();
        assert_eq!((first.entries.len(), first.missing, heard), (1, false, 2), "both directories tell");
        std_fs::remove_file(&path).unwrap();
        symlink("../archive/cert2.pem", &path).unwrap();
        let (second, _) = look();
        assert!(second.reason(Some(&first)).ends_with("live/cert.pem was changed"));
        std_fs::write(root.join("archive/cert2.pem"), "2 in its place").unwrap();
        assert_ne!(look().0.digest(), second.digest());
    }
}
