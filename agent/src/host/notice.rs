//! The kernel's word that something in a directory has changed (inotify). Who is told is a key of the caller's own.
//! Directories are named by what is open, so that nobody can put another in the place of one. Used by `reconcile/watching`.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// Something is written, or names change. What is written by somebody who never closes it is not told.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Events that are read at once; the longest name fits several times.
const BUFFER_BYTES: usize = 16 << 10;
/// Of an event, before its name.
const HEADER_BYTES: usize = 16;

/// What somebody wants to know of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Interest {
    /// All that is in it.
    All,
    /// What has this name.
    Name(OsString),
}

/// Whom to tell of what, by the kernel's number of the directory.
type Listeners<K> = HashMap<i32, BTreeSet<(K, Interest)>>;

/// Directories that are watched.
pub struct Notices<K> {
    /// The kernel's queue is read as a pipe is: what is in it comes, or nothing is there yet.
    queue: Receiver,
    listeners: Mutex<Listeners<K>>,
}

/// Who has to look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told<K> {
    /// These.
    Some(BTreeSet<K>),
    /// Everybody: too much has happened at once.
    All,
}

impl<K: Ord + Clone> Notices<K> {
    /// None yet.
    pub fn open() -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let queue = Receiver::from_owned_fd_unchecked(queue)?;
        Ok(Self { queue, listeners: Mutex::default() })
    }

    /// From now on `key` is told of changes in `directory`. The number is for [`Self::keep`].
    pub fn add(&self, key: &K, directory: BorrowedFd<'_>, interest: Interest) -> io::Result<i32> {
        // Held, so that nothing can be told between the kernel's answer and the entry.
        let mut listeners = self.listeners();
        let place = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let number = inotify::add_watch(&self.queue, place, CHANGES)?;
        listeners.entry(number).or_default().insert((key.clone(), interest));
        Ok(number)
    }

    /// Of what `key` is told, only these directories are left.
    pub fn keep(&self, key: &K, numbers: &BTreeSet<i32>) {
        self.listeners().retain(|number, listeners| {
            if !numbers.contains(number) {
                listeners.retain(|(other, _)| other != key);
            }
            let wanted = !listeners.is_empty();
            // A directory that is gone has taken its number along.
            if !wanted && let Err(error) = inotify::remove_watch(&self.queue, *number) {
                tracing::debug!(%error, "a directory was not watched any more");
            }
            wanted
        });
    }

    /// Waits for something to have changed.
    pub async fn next(&self) -> io::Result<Told<K>> {
        loop {
            self.queue.readable().await?;
            let mut buffer = [0; BUFFER_BYTES];
            match self.queue.try_read(&mut buffer) {
                Ok(read) => match self.told(buffer.get(..read).unwrap_or_default()) {
                    Told::Some(keys) if keys.is_empty() => {}
                    told => return Ok(told),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn told(&self, bytes: &[u8]) -> Told<K> {
        let (mut keys, mut all) = (BTreeSet::new(), false);
        let mut listeners = self.listeners();
        for event in events(bytes) {
            all |= event.what.contains(ReadFlags::QUEUE_OVERFLOW);
            if let Some(told) = listeners.get(&event.number) {
                let meant = told.iter().filter(|(_, interest)| match interest {
                    Interest::Name(wanted) => event.name.is_empty() || wanted == event.name,
                    Interest::All => true,
                });
                keys.extend(meant.map(|(key, _)| key.clone()));
            }
            if event.what.contains(ReadFlags::IGNORED) {
                listeners.remove(&event.number);
            }
        }
        if all { Told::All } else { Told::Some(keys) }
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners<K>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel says.
struct Event<'a> {
    /// Of the directory; none has -1.
    number: i32,
    what: ReadFlags,
    /// Of what is in the directory; empty: of itself.
    name: &'a OsStr,
}

/// As the kernel writes them: number, what, cookie and the length of the name; the name, filled up with NULs.
fn events(mut bytes: &[u8]) -> impl Iterator<Item = Event<'_>> {
    std::iter::from_fn(move || {
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
        let word = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let (name, rest) = rest.split_at_checked(usize::try_from(word(12)?).ok()?)?;
        bytes = rest;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let what = ReadFlags::from_bits_retain(word(4)?);
        Some(Event { number: word(0)?.cast_signed(), what, name: OsStr::from_bytes(name) })
    })
}

#[cfg(test)]
mod tests {
    //! On a real file system.
    use std::{fs, os::fd::AsFd};

    use super::*;

    #[tokio::test]
    async fn who_wants_to_know_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let open = fs::File::open(directory.path()).unwrap();
        let notices = Notices::open().unwrap();
        let first = notices.add(&"all", open.as_fd(), Interest::All).unwrap();
        let second = notices.add(&"name", open.as_fd(), Interest::Name("a".into())).unwrap();
        assert_eq!(first, second, "one directory is watched once");
        fs::write(directory.path().join("a"), "x").unwrap();
        assert_eq!(notices.next().await.unwrap(), Told::Some(["all", "name"].into()));
        fs::write(directory.path().join("b"), "x").unwrap();
        assert_eq!(notices.next().await.unwrap(), Told::Some(["all"].into()));
        notices.keep(&"all", &BTreeSet::new());
        fs::write(directory.path().join("b"), "y").unwrap();
        fs::remove_file(directory.path().join("a")).unwrap();
        assert_eq!(notices.next().await.unwrap(), Told::Some(["name"].into()));
        // It is there as long as somebody has it open.
        drop(open);
        fs::remove_dir_all(directory.path()).unwrap();
        assert_eq!(notices.next().await.unwrap(), Told::Some(["name"].into()), "it is gone itself");
        notices.keep(&"name", &BTreeSet::new());
        assert!(notices.listeners().is_empty());
    }

    #[test]
    fn what_is_no_whole_event_ends_the_reading() {
        let word = |value: u32| value.to_ne_bytes();
        let one = [word(7), word(ReadFlags::CREATE.bits()), word(0), word(4), *b"abc\0"].concat();
        for (bytes, count) in [(&one[..], 1), (&[&one[..], &one[..]].concat(), 2), (&one[..19], 0), (&one[..3], 0)] {
            let names: Vec<_> = events(bytes).map(|event| (event.number, event.name.to_owned())).collect();
            assert_eq!(names, vec![(7, OsString::from("abc")); count]);
        }
        let overflow = [word(u32::MAX), word(ReadFlags::QUEUE_OVERFLOW.bits()), word(0), word(0)].concat();
        let event = events(&overflow).next().unwrap();
        assert!(event.number == -1 && event.name.is_empty() && event.what.contains(ReadFlags::QUEUE_OVERFLOW));
    }
}
