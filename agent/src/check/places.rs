//! Looks at files and file systems. May hang where these are of a network: `check` calls it on threads of its own.

use std::{
    fs::{self, Metadata},
    path::{Path, PathBuf},
    time::SystemTime,
};

use drover_proto::{
    app::{DiskProbe, FileProbe},
    bytes::Bytes,
    duration::Span,
};

use super::Probed;

/// Names of one directory that are looked at.
const MAX_NAMES: usize = 10_000;

pub(super) fn file(wanted: &FileProbe, now: SystemTime) -> Probed {
    let shown = wanted.path.as_str();
    let (path, metadata) = match newest(wanted.path.as_path()) {
        Ok(Some(found)) => found,
        Ok(None) => return Probed::bad(format!("{shown}: there is no file, wanted one")),
        Err(why) => return Probed::bad(format!("{shown}: {why}")),
    };
    // Of a directory's files others may have chosen the names.
    let name = path.display().to_string().replace(char::is_control, "\u{fffd}");
    let Ok(written) = metadata.modified() else { return Probed::bad(format!("{name}: its age is not known")) };
    // A clock that was put back makes nothing old.
    let age = now.duration_since(written).unwrap_or_default();
    let old = Span::from_secs(age.as_secs());
    if old > wanted.max_age {
        return Probed::bad(format!("{name} is {old} old, wanted at most {}", wanted.max_age));
    }
    match wanted.min_size_bytes {
        Some(least) if metadata.len() < least => {
            Probed::bad(format!("{name} has {}, wanted at least {}", Bytes(metadata.len()), Bytes(least)))
        }
        // Without its age, which would make every answer another one.
        _ => Probed::good(format!("{name} is not older than {}", wanted.max_age)),
    }
}

/// The file itself, or the newest that a directory or a pattern stands for.
fn newest(path: &Path) -> Result<Option<(PathBuf, Metadata)>, String> {
    let (directory, pattern) = match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(directory), Some(name)) if name.contains(['*', '?']) => (directory, name),
        _ => match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => (path, "*"),
            Ok(metadata) if metadata.is_file() => return Ok(Some((path.to_owned(), metadata))),
            Ok(_) => return Err("is no regular file".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        },
    };
    let mut newest: Option<(PathBuf, Metadata)> = None;
    for (count, entry) in fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?.enumerate() {
        if count >= MAX_NAMES {
            return Err(format!("{} has more than {MAX_NAMES} names", directory.display()));
        }
        let entry = entry.map_err(|e| e.to_string())?;
        if !entry.file_name().to_str().is_some_and(|name| fits(name.as_bytes(), pattern.as_bytes())) {
            continue;
        }
        // One that is gone again, or leads nowhere, is none.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        let is_newer = |(_, held): &(PathBuf, Metadata)| {
            metadata.modified().ok().zip(held.modified().ok()).is_some_and(|(this, other)| this > other)
        };
        if metadata.is_file() && newest.as_ref().is_none_or(is_newer) {
            newest = Some((entry.path(), metadata));
        }
    }
    Ok(newest)
}

/// Whether a name is meant by a pattern: `*` any text, `?` one byte. A name that begins with a dot is not meant by `*`.
fn fits(name: &[u8], pattern: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // Where the last star was, and which byte of the name comes after what it stands for.
    let (mut at, mut of, mut star) = (0, 0, None::<(usize, usize)>);
    while at < name.len() {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(byte) if *byte == b'?' || name.get(at) == Some(byte) => (at, of) = (at + 1, of + 1),
            _ => match star {
                Some((back, begun)) => {
                    star = Some((back, begun + 1));
                    (at, of) = (begun + 1, back + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(of..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

pub(super) fn disk(wanted: &DiskProbe) -> Probed {
    let (path, most) = (&wanted.path, wanted.max_used);
    let stat = match rustix::fs::statvfs(path.as_str()) {
        Ok(stat) => stat,
        Err(error) => return Probed::bad(format!("{path}: {error}")),
    };
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let Some(percent) = used_percent(used, stat.f_bavail) else {
        return Probed::bad(format!("{path} is on a file system without blocks"));
    };
    if percent > u64::from(most) {
        Probed::bad(format!("{path} is {percent}% full, wanted at most {most}%"))
    } else {
        Probed::good(format!("{path} is at most {most}% full"))
    }
}

/// As `df` counts: of what is used and what programs may still use, rounded up.
fn used_percent(used: u64, available: u64) -> Option<u64> {
    let (used, all) = (u128::from(used), u128::from(used) + u128::from(available));
    (all > 0).then(|| u64::try_from((used * 100).div_ceil(all)).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    //! Old and young files, patterns, disks.
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_newest_file_counts() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, age: u64, bytes: usize| {
            let path = directory.path().join(name);
            fs::write(&path, vec![b'x'; bytes]).unwrap();
            let at = SystemTime::now() - Duration::from_secs(age);
            fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        };
        let look = |name: &str, least: Option<u64>| {
            let path = directory.path().join(name);
            let path = path.to_str().unwrap().trim_end_matches('/').parse().unwrap();
            let wanted = FileProbe { path, max_age: Span::from_secs(3600), min_size_bytes: least };
            file(&wanted, SystemTime::now())
        };
        assert!(look("*.sql", None).answer.ends_with("there is no file, wanted one"));
        assert!(!look("a.sql", None).ok);
        write("a.sql", 7200, 10);
        let old = look("*.sql", None);
        assert!(!old.ok && old.answer.contains("a.sql is 2h old, wanted at most 1h"), "{old:?}");
        write("b.txt", 60, 10);
        assert!(!look("*.sql", None).ok, "another name");
        assert!(look("", None).ok, "the directory's newest");
        write("b.sql", 60, 10);
        assert!(look("*.sql", None).ok && look("?.sql", Some(10)).ok);
        let small = look("*.sql", Some(11));
        assert!(!small.ok && small.answer.contains("b.sql has 10 B, wanted at least 11 B"), "{small:?}");
        assert!(look("none/*.sql", None).answer.contains("No such file"));
        fs::create_dir(directory.path().join("c.sql")).unwrap();
        assert!(look("*.sql", None).answer.contains("b.sql"), "directories are no files");
    }

    #[test]
    fn patterns_mean_what_they_mean_to_a_shell() {
        let rows = [
            ("a.sql", "*.sql", true),
            (".a.sql", "*.sql", false),
            (".a.sql", ".*", true),
            ("aXbXc", "a*X*c", true),
            ("aXb", "a*X*c", false),
            ("dump-1", "dump-?", true),
            ("dump-12", "dump-?", false),
            ("", "*", true),
            ("abc", "a*", true),
            ("abc", "*b", false),
        ];
        for (name, pattern, expected) in rows {
            assert_eq!(fits(name.as_bytes(), pattern.as_bytes()), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn disks_are_counted_as_df_does() {
        assert_eq!((used_percent(50, 50), used_percent(1, 999), used_percent(0, 0)), (Some(50), Some(1), None));
        let look = |most| disk(&DiskProbe { path: "/".parse().unwrap(), max_used: most });
        assert!(look(100).ok);
        let full = look(0);
        assert!(!full.ok && full.answer.contains("% full, wanted at most 0%"), "{full:?}");
        let none = disk(&DiskProbe { path: "/none".parse().unwrap(), max_used: 90 });
        assert!(none.answer.contains("No such file"), "{none:?}");
    }
}
