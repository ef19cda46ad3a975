//! One file of the spool: what of it is sound, and what of that is still to be sent. Beside `spool`.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::super::segment::{self, Dropped, Record};

/// The spool in so many files, at least: what is dropped is one of them.
const PARTS: u64 = 8;
/// The size of one file, least and most.
const BYTES: (u64, u64) = (2 << 10, 256 << 10);
const SUFFIX: &str = "jsonl";

/// See above.
pub(super) struct Part {
    /// Where.
    pub path: PathBuf,
    /// The run that wrote it.
    pub spool: String,
    /// What is sound; behind it there may be what is left of a write that failed.
    pub bytes: u64,
    /// The number of the last event in it.
    pub last_seq: u64,
    /// Everything up to it was acknowledged.
    pub acked_seq: u64,
    /// What would be gone with it.
    pub unsent: Dropped,
}

impl Part {
    /// An empty one, whose file the caller makes.
    pub fn new(directory: &Path, number: u64, spool: &str) -> Self {
        let path = directory.join(format!("{number:012}-{spool}.{SUFFIX}"));
        Self { path, spool: spool.to_owned(), bytes: 0, last_seq: 0, acked_seq: 0, unsent: Dropped::default() }
    }
    /// The file of that name, if it is one of a spool, and its number; `check` looks into it.
    pub fn found(directory: &Path, name: &str) -> Option<(u64, Self)> {
        let (number, spool) = name.strip_suffix(SUFFIX)?.strip_suffix('.')?.split_once('-')?;
        let number = number.parse().ok()?;
        Some((number, Self { path: directory.join(name), ..Self::new(directory, number, spool) }))
    }
    /// Takes all that the file has.
    pub fn check(&mut self) -> io::Result<()> {
        self.bytes = fs::metadata(&self.path)?.len();
        // Larger than any that was ever written here: no need to look into it.
        if self.bytes > 4 * BYTES.1 { Err(io::ErrorKind::InvalidData.into()) } else { self.reload() }
    }
    /// What is sound and not acknowledged.
    pub fn load(&self) -> io::Result<Vec<Record>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(self.bytes).read_to_end(&mut bytes)?;
        let mut records = segment::decode(&bytes).map_err(|segment::Damaged| io::ErrorKind::InvalidData)?;
        records.retain(|record| record.seq > self.acked_seq);
        Ok(records)
    }
    /// These were added.
    pub fn note(&mut self, records: &[Record]) {
        self.unsent = records.iter().map(Record::as_dropped).fold(self.unsent, Dropped::and);
        self.last_seq = records.last().map_or(self.last_seq, |record| record.seq);
    }
    /// Reads it again, to know what is left of it.
    pub fn reload(&mut self) -> io::Result<()> {
        self.unsent = Dropped::default();
        let records = self.load()?;
        self.note(&records);
        Ok(())
    }
}

/// When a file of a spool with that limit is full.
pub(super) fn part_bytes(limit_bytes: u64) -> u64 {
    (limit_bytes / PARTS).clamp(BYTES.0, BYTES.1)
}
