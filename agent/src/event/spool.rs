//! Events on the disk, until the coordinator has them: files of lines, oldest first, within a limit of bytes.
//!
//! `outbox` owns the one spool; `part` is one of its files, and `segment` knows what is in it. A file belongs to one run of the agent, whose random id
//! and own count make a number that is never given twice, whatever a crash leaves behind: the coordinator counts by it.
//! So what has been handed out need not be on the disk, and what was acknowledged need not be forgotten before a crash.
//! Nothing here fails: without a disk the newest events are kept in memory, and what does not fit is counted and told.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use drover_proto::{
    event::{Event, EventKind},
    limits::{MAX_BATCH_BYTES, MAX_BATCH_EVENTS},
};

use self::part::{Part, part_bytes};
use super::{
    Unsent,
    segment::{Dropped, Record},
};
use crate::{host::files, report::now_unix_ms};

mod part;

/// What waits in memory while the disk cannot be written.
const MAX_WAITING_BYTES: usize = 256 << 10;
/// Full files that wait for a sync.
const MAX_UNSYNCED: usize = 4;
/// Damaged files that are kept for people.
const KEEP_DAMAGED: usize = 4;

/// Events to be sent, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The run that they are of.
    pub spool: String,
    /// Of the first; the others count on from it.
    pub first_seq: u64,
    /// What happened; at least one.
    pub events: Vec<Event>,
}

impl Batch {
    /// The number of the last.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.first_seq + self.events.len() as u64 - 1
    }
}

/// See above.
pub struct Spool {
    directory: PathBuf,
    limit_bytes: u64,
    /// Of this run.
    id: String,
    next_seq: u64,
    next_number: u64,
    /// Oldest first.
    files: VecDeque<Part>,
    /// The newest file, while it can be written.
    open: Option<File>,
    is_synced: bool,
    /// Full ones that were not synced yet.
    full: Vec<File>,
    /// Not on the disk yet, oldest first.
    waiting: VecDeque<Record>,
    waiting_bytes: usize,
    /// Dropped, and not told yet.
    dropped: Dropped,
}

impl Spool {
    /// Takes over what earlier runs left in `directory`, which is made if it is missing. `id`: random, of this run.
    #[must_use]
    pub fn open(directory: &Path, limit_bytes: u64, id: String) -> Self {
        let mut spool = Self {
            directory: directory.to_owned(),
            limit_bytes,
            id,
            next_seq: 1,
            next_number: 1,
            files: VecDeque::new(),
            open: None,
            is_synced: true,
            full: Vec::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            dropped: Dropped::default(),
        };
        if let Err(error) = spool.take_over() {
            tracing::error!(%error, directory = %directory.display(), "the spool of events cannot be read; they are kept in memory");
        }
        spool
    }

    fn take_over(&mut self) -> io::Result<()> {
        if !self.directory.is_dir() {
            fs::create_dir(&self.directory)?;
        }
        let mut names: Vec<String> =
            fs::read_dir(&self.directory)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        for name in names {
            let Some((number, mut part)) = Part::found(&self.directory, &name) else { continue };
            self.next_number = self.next_number.max(number + 1);
            let read = part.check();
            match read {
                Ok(()) if part.unsent.count == 0 => self.remove(&part),
                Ok(()) => self.files.push_back(part),
                Err(error) => self.set_aside(&part, &error),
            }
        }
        self.keep_limit();
        Ok(())
    }

    /// Adds an event.
    pub fn push(&mut self, event: Event) {
        self.push_record(event, None);
        while self.waiting_bytes > MAX_WAITING_BYTES {
            let Some(oldest) = self.pop_waiting() else { break };
            self.dropped = self.dropped.and(oldest.as_dropped());
        }
    }
    /// Counts events that never got here.
    pub fn lost(&mut self, dropped: Dropped) {
        self.dropped = self.dropped.and(dropped);
    }

    fn push_record(&mut self, event: Event, tells: Option<Dropped>) {
        self.waiting_bytes += size(&event);
        self.waiting.push_back(Record { seq: self.next_seq, event, tells });
        self.next_seq += 1;
    }
    fn pop_waiting(&mut self) -> Option<Record> {
        let record = self.waiting.pop_front()?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(size(&record.event));
        Some(record)
    }

    /// Tells what was dropped, when there is room for it again.
    fn tell_dropped(&mut self) {
        if self.dropped.count == 0 || self.waiting_bytes > MAX_WAITING_BYTES / 2 {
            return;
        }
        let Dropped { count, from_unix_ms, to_unix_ms } = std::mem::take(&mut self.dropped);
        let message = format!(
            "{count} events from {} to {} were dropped: there was no room to keep them until the coordinator was back",
            time(from_unix_ms),
            time(to_unix_ms)
        );
        tracing::warn!("{message}");
        let event = Event { at_unix_ms: now_unix_ms(), app: None, kind: EventKind::EventsDropped, message };
        self.push_record(event, Some(Dropped { count, from_unix_ms, to_unix_ms }));
    }

    /// Writes what waits, not yet synced. After an error it waits on, and may be tried again.
    pub fn write(&mut self) -> io::Result<()> {
        self.tell_dropped();
        while !self.waiting.is_empty() {
            let mut file = self.writable()?;
            let Some(part) = self.files.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
            let room = part_bytes(self.limit_bytes).saturating_sub(part.bytes);
            let (mut bytes, mut count) = (Vec::new(), 0);
            for record in &self.waiting {
                if count > 0 && bytes.len() as u64 >= room {
                    break;
                }
                bytes.extend(record.line()?);
                count += 1;
            }
            if let Err(error) = file.write_all(&bytes) {
                // A torn line would spoil the next one. If it cannot be cut off, the next one goes to another file.
                if file.set_len(part.bytes).is_ok() {
                    self.open = Some(file);
                }
                return Err(error);
            }
            part.bytes += bytes.len() as u64;
            let written: Vec<Record> = (0..count).map_while(|_| self.pop_waiting()).collect();
            if let Some(part) = self.files.back_mut() {
                part.note(&written);
            }
            self.open = Some(file);
            self.is_synced = false;
            self.keep_limit();
            self.tell_dropped();
        }
        Ok(())
    }

    /// The newest file, or another when that one is full. The caller gives it back.
    fn writable(&mut self) -> io::Result<File> {
        let full = part_bytes(self.limit_bytes);
        if let Some(file) = self.open.take() {
            if self.files.back().is_some_and(|part| part.bytes < full) {
                return Ok(file);
            }
            // If the disk is that slow, the kernel brings the rest there in its own time.
            if self.full.len() < MAX_UNSYNCED {
                self.full.push(file);
            }
        }
        let part = Part::new(&self.directory, self.next_number, &self.id);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&part.path)?;
        self.next_number += 1;
        self.files.push_back(part);
        Ok(file)
    }

    /// What has to be synced for all to be durable: these files, and the directory.
    pub fn unsynced(&mut self) -> Option<(Vec<File>, PathBuf)> {
        let mut files = std::mem::take(&mut self.full);
        if !std::mem::replace(&mut self.is_synced, true) {
            files.extend(self.open.as_ref().and_then(|file| file.try_clone().ok()));
        }
        (!files.is_empty()).then(|| (files, self.directory.clone()))
    }
    /// It could not be synced; it is tried again.
    pub fn still_unsynced(&mut self) {
        self.is_synced = false;
    }

    /// How much is not acknowledged.
    #[must_use]
    pub fn unsent(&self) -> Unsent {
        let of_files = self.files.iter().map(|part| part.unsent);
        let Dropped { count, from_unix_ms, .. } =
            of_files.chain(self.waiting.iter().map(Record::as_dropped)).fold(Dropped::default(), Dropped::and);
        Unsent { events: count, since_unix_ms: (count > 0).then_some(from_unix_ms), dropped: self.dropped.count }
    }
    /// The oldest events that are not acknowledged.
    pub fn batch(&mut self) -> Option<Batch> {
        let mut index = 0;
        while let Some(part) = self.files.get(index) {
            if part.unsent.count == 0 {
                index += 1;
                continue;
            }
            match part.load() {
                Ok(records) if !records.is_empty() => return Some(first(&part.spool, records)),
                Ok(_) => self.lose(index, &io::ErrorKind::InvalidData.into()),
                Err(error) => self.lose(index, &error),
            }
        }
        let some: Vec<Record> = self.waiting.iter().take(MAX_BATCH_EVENTS).cloned().collect();
        (!some.is_empty()).then(|| first(&self.id, some))
    }

    /// The coordinator has all events of that run up to this one.
    pub fn ack(&mut self, spool: &str, up_to_seq: u64) {
        if spool == self.id {
            while self.waiting.front().is_some_and(|record| record.seq <= up_to_seq) {
                self.pop_waiting();
            }
        }
        let mut index = 0;
        while let Some(part) = self.files.get_mut(index) {
            if part.spool != spool || part.unsent.count == 0 {
                index += 1;
                continue;
            }
            part.acked_seq = part.acked_seq.max(up_to_seq);
            if part.last_seq <= up_to_seq {
                part.unsent = Dropped::default();
                self.done_with(index);
                continue;
            }
            // What comes after it is newer still.
            return match part.reload() {
                Ok(()) => {}
                Err(error) => self.lose(index, &error),
            };
        }
    }

    /// Everything in that file was acknowledged. The open one is emptied, so that few events need few files.
    fn done_with(&mut self, index: usize) {
        let is_open = index + 1 == self.files.len();
        if let Some(file) = self.open.as_ref().filter(|_| is_open)
            && file.set_len(0).is_ok()
        {
            self.is_synced = true;
            self.files[index].bytes = 0;
            return;
        }
        if let Some(part) = self.files.remove(index) {
            self.remove(&part);
        }
        if is_open {
            self.open = None;
        }
    }

    /// Forgets everything: it is not for the coordinator that this host has now.
    pub fn forget_all(&mut self) {
        self.open = None;
        for part in std::mem::take(&mut self.files) {
            self.remove(&part);
        }
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.dropped = Dropped::default();
    }

    fn keep_limit(&mut self) {
        while self.files.len() > 1 && self.files.iter().map(|part| part.bytes).sum::<u64>() > self.limit_bytes {
            let Some(oldest) = self.files.pop_front() else { return };
            self.dropped = self.dropped.and(oldest.unsent);
            self.remove(&oldest);
        }
    }

    fn lose(&mut self, index: usize, error: &io::Error) {
        let is_open = index + 1 == self.files.len();
        if let Some(part) = self.files.remove(index) {
            self.set_aside(&part, error);
        }
        if is_open {
            self.open = None;
        }
    }

    fn remove(&self, part: &Part) {
        if let Err(error) = fs::remove_file(&part.path) {
            // It is sent once more after the next start, and left out by the coordinator.
            tracing::warn!(%error, path = %part.path.display(), "a file of the spool cannot be removed");
        }
    }

    /// Puts a damaged file where people can look at it, and says so.
    fn set_aside(&mut self, part: &Part, error: &io::Error) {
        let kept = match files::set_aside(&part.path) {
            Ok(aside) => format!("it lies in {}", aside.display()),
            Err(error) => format!("it could not be put aside ({error})"),
        };
        let message =
            format!("{} with events that were still to be sent is damaged ({error}): {kept}", part.path.display());
        tracing::error!("{message}");
        self.push(Event { at_unix_ms: now_unix_ms(), app: None, kind: EventKind::StateSetAside, message });
        self.prune_damaged();
    }

    fn prune_damaged(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let mut damaged: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.to_str().is_some_and(|path| path.contains(".damaged-")))
            .collect();
        damaged.sort();
        let excess = damaged.len().saturating_sub(KEEP_DAMAGED);
        for path in damaged.drain(..excess) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "an old damaged file cannot be removed");
            }
        }
    }
}

/// The first of these, as many as one batch takes.
fn first(spool: &str, records: Vec<Record>) -> Batch {
    let first_seq = records.first().map_or(0, |record| record.seq);
    let (mut events, mut bytes) = (Vec::new(), 0);
    for record in records {
        bytes += size(&record.event);
        let is_next = record.seq == first_seq + events.len() as u64;
        if !is_next || events.len() == MAX_BATCH_EVENTS || (!events.is_empty() && bytes > MAX_BATCH_BYTES) {
            break;
        }
        events.push(record.event);
    }
    Batch { spool: spool.to_owned(), first_seq, events }
}

/// Bytes that it has as JSON, at most about; its message is the most of it, and each byte of that may need an escape.
fn size(event: &Event) -> usize {
    let escapes = event.message.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    256 + event.message.len() + escapes
}

fn time(unix_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(unix_ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{unix_ms} ms"),
    }
}

#[cfg(test)]
mod tests;
