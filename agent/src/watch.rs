//! Pure: what is under the watched paths of a part, what of it has changed, and whether the part has to be restarted or
//! told. `host/files/tree` looks, `reconcile/watching` acts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use drover_proto::{
    app::Watch,
    digest::{Digest, Hasher},
};
use serde::{Deserialize, Serialize};

/// The kernel stamps a change by a clock that is up to one tick late, and a start by one that is not.
const SLACK: Duration = Duration::from_millis(10);

/// One file, directory or link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Another one whenever the content, or what it is, has changed: kind, inode, size, time of the last writing; of a link
    /// where it leads.
    pub stamp: Vec<u8>,
    /// When anything about it was last changed, since 1970: nobody can write another time there.
    pub changed: Duration,
}

/// What is under the watched paths.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// By path.
    pub entries: BTreeMap<PathBuf, Entry>,
    /// A path that is watched is not there: when it went nobody can say.
    pub missing: bool,
    /// Why not all is watched, in words.
    pub left_out: Vec<String>,
}

impl Seen {
    /// Of all that is there.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        for (path, entry) in &self.entries {
            for part in [path.as_os_str().as_encoded_bytes(), &entry.stamp] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        hasher.finish()
    }

    /// When it last changed, since 1970; `None` = nobody knows.
    #[must_use]
    pub fn newest(&self) -> Option<Duration> {
        self.entries.values().map(|entry| entry.changed).max().filter(|_| !self.missing)
    }

    /// What is different from `before`, or what was changed last if that is not known: `/srv/a was changed, and 2 more`.
    #[must_use]
    pub fn reason(&self, before: Option<&Self>) -> String {
        let changes: Vec<(&Path, &str)> = before.map(|before| self.changes(before)).unwrap_or_default();
        let newest = || self.entries.iter().max_by_key(|(_, entry)| entry.changed);
        match changes.as_slice() {
            [] => newest().map_or_else(
                || "what it watches is gone".to_owned(),
                |(path, _)| format!("{} was changed", path.display()),
            ),
            [(path, how)] => format!("{} {how}", path.display()),
            [(path, how), more @ ..] => format!("{} {how}, and {} more", path.display(), more.len()),
        }
    }

    fn changes<'a>(&'a self, before: &'a Self) -> Vec<(&'a Path, &'static str)> {
        let now = self.entries.iter().filter_map(|(path, entry)| match before.entries.get(path) {
            None => Some((path.as_path(), "was added")),
            Some(old) if old.stamp != entry.stamp => Some((path.as_path(), "was changed")),
            Some(_) => None,
        });
        let gone = before.entries.keys().filter(|path| !self.entries.contains_key(*path));
        now.chain(gone.map(|path| (path.as_path(), "was removed"))).collect()
    }
}

/// What a part has been started, restarted or told for last. Durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Applied {
    /// Of the paths: of others nothing is known.
    of: Digest,
    seen: Digest,
}

impl Applied {
    /// `seen` under the paths of `watch`.
    #[must_use]
    pub fn new(watch: &Watch, seen: &Seen) -> Self {
        let mut of = Hasher::new();
        for path in &watch.paths {
            of.update(path.as_str().as_bytes());
            of.update(b"\0");
        }
        Self { of: of.finish(), seen: seen.digest() }
    }
}

/// How a part stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It does not run: when it starts it reads what is there.
    Down,
    /// It is about to run, or to end.
    Between,
    /// It runs, since this time after 1970.
    Since(Duration),
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing has changed.
    Nothing,
    /// The part has read what is there, or will: only remember it.
    Remember,
    /// Ask again.
    Later,
    /// Restart it, or tell it.
    Act,
}

/// Whether a part is to be restarted or told: `before` is what it was last, `now` how it is.
#[must_use]
pub fn due(before: Option<&Applied>, now: &Applied, newest: Option<Duration>, standing: Standing) -> Due {
    match before {
        // From here on.
        None => Due::Remember,
        Some(before) if before.of != now.of => Due::Remember,
        Some(before) if before == now => Due::Nothing,
        Some(_) => match standing {
            Standing::Down => Due::Remember,
            Standing::Between => Due::Later,
            Standing::Since(start) if newest.is_some_and(|newest| start > newest + SLACK) => Due::Remember,
            Standing::Since(_) => Due::Act,
        },
    }
}

#[cfg(test)]
mod tests {
    //! Who has read what.
    use super::*;

    fn seen(entries: &[(&str, &str, u64)]) -> Seen {
        let entry = |(path, stamp, at): &(&str, &str, u64)| {
            (PathBuf::from(path), Entry { stamp: stamp.as_bytes().to_vec(), changed: Duration::from_secs(*at) })
        };
        Seen { entries: entries.iter().map(entry).collect(), ..Seen::default() }
    }

    fn watch(path: &str) -> Watch {
        Watch {
            paths: [path.parse().unwrap()].into(),
            signal: None,
            debounce: drover_proto::duration::Span::from_secs(1),
        }
    }

    #[test]
    fn a_part_is_due_when_it_was_started_before_the_last_change() {
        let (old, new) = (seen(&[("/a", "1", 10)]), seen(&[("/a", "2", 20)]));
        let (before, now) = (Applied::new(&watch("/a"), &old), Applied::new(&watch("/a"), &new));
        let at = |seconds| Standing::Since(Duration::from_secs(seconds));
        let table = [
            ("never seen", None, new.newest(), at(15), Due::Remember),
            ("nothing new", Some(&now), new.newest(), at(15), Due::Nothing),
            ("started before", Some(&before), new.newest(), at(15), Due::Act),
            ("in the same tick", Some(&before), new.newest(), at(20), Due::Act),
            ("started since", Some(&before), new.newest(), at(21), Due::Remember),
            ("nobody knows when", Some(&before), None, at(21), Due::Act),
            ("not running", Some(&before), new.newest(), Standing::Down, Due::Remember),
            ("starting", Some(&before), new.newest(), Standing::Between, Due::Later),
        ];
        for (name, before, newest, standing, expected) in table {
            assert_eq!(due(before, &now, newest, standing), expected, "{name}");
        }
        let others = Applied::new(&watch("/b"), &new);
        assert_eq!(due(Some(&before), &others, new.newest(), at(15)), Due::Remember, "other paths begin anew");
    }

    #[test]
    fn a_reason_names_what_changed() {
        let old = seen(&[("/d", "d", 30), ("/d/a", "1", 10), ("/d/b", "1", 10)]);
        let new = seen(&[("/d", "d", 30), ("/d/a", "2", 20), ("/d/c", "1", 20)]);
        assert_eq!(new.reason(Some(&old)), "/d/a was changed, and 2 more");
        assert_eq!(old.reason(Some(&seen(&[("/d", "d", 30), ("/d/a", "1", 10)]))), "/d/b was added");
        assert_eq!(
            seen(&[("/d", "d", 40)]).reason(Some(&seen(&[("/d", "d", 1), ("/d/a", "1", 1)]))),
            "/d/a was removed"
        );
        assert_eq!(new.reason(None), "/d was changed", "the last one, if it is not known how it was");
        assert_eq!(Seen::default().reason(None), "what it watches is gone");
    }

    #[test]
    fn the_digest_tells_paths_and_stamps_apart() {
        assert_ne!(seen(&[("/a", "bc", 1)]).digest(), seen(&[("/ab", "c", 1)]).digest());
        assert_eq!(seen(&[("/a", "b", 1)]).digest(), seen(&[("/a", "b", 2)]).digest(), "only rights were changed");
        let gone = Seen { missing: true, ..seen(&[("/a", "b", 1)]) };
        assert_eq!(gone.newest(), None);
    }
}
