//! What a file of the spool holds: one JSON line per event, numbered upwards. Pure; `spool` reads and writes the files.

use drover_proto::event::Event;
use serde::{Deserialize, Serialize};

/// Events that are gone, and were not told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Dropped {
    /// How many.
    pub count: u64,
    /// When the first of them happened, Unix ms.
    pub from_unix_ms: i64,
    /// And the last.
    pub to_unix_ms: i64,
}

impl Dropped {
    /// One event of that time.
    #[must_use]
    pub fn one(at_unix_ms: i64) -> Self {
        Self { count: 1, from_unix_ms: at_unix_ms, to_unix_ms: at_unix_ms }
    }
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.count, other.count) {
            (_, 0) => self,
            (0, _) => other,
            _ => Self {
                count: self.count.saturating_add(other.count),
                from_unix_ms: self.from_unix_ms.min(other.from_unix_ms),
                to_unix_ms: self.to_unix_ms.max(other.to_unix_ms),
            },
        }
    }
}

/// One event in the spool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Counts up within one run of the agent.
    pub seq: u64,
    /// What happened.
    pub event: Event,
    /// When it tells of dropped events: of which. If it is dropped itself, these count on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tells: Option<Dropped>,
}

impl Record {
    /// Its line.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
    /// What is gone if it is dropped.
    #[must_use]
    pub fn as_dropped(&self) -> Dropped {
        self.tells.unwrap_or_else(|| Dropped::one(self.event.at_unix_ms))
    }
}

/// A file holds something that the spool never wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damaged;

/// The records of a file. An end that was being written when the host died is left out: it is torn, or was never synced.
pub fn decode(bytes: &[u8]) -> Result<Vec<Record>, Damaged> {
    let mut records: Vec<Record> = Vec::new();
    let mut unreadable = false;
    // What is behind the last line break is torn; it is not looked at.
    for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        match serde_json::from_slice::<Record>(line) {
            Ok(_) if unreadable => return Err(Damaged),
            Ok(record) if records.last().is_some_and(|last| last.seq >= record.seq) => return Err(Damaged),
            Ok(record) => records.push(record),
            Err(_) => unreadable = true,
        }
    }
    if unreadable && records.is_empty() { Err(Damaged) } else { Ok(records) }
}

#[cfg(test)]
mod tests {
    //! Whole lines, torn ends, and what is neither.
    use drover_proto::event::EventKind;

    use super::*;

    fn record(seq: u64) -> Record {
        let event = Event { at_unix_ms: 5, app: None, kind: EventKind::AgentStarted, message: "x".to_owned() };
        Record { seq, event, tells: None }
    }

    fn file(seqs: &[u64]) -> Vec<u8> {
        seqs.iter().flat_map(|seq| record(*seq).line().unwrap()).collect()
    }

    #[test]
    fn torn_ends_are_left_out_and_damage_is_told() {
        let whole = file(&[3, 4, 9]);
        let torn = whole[..whole.len() - 4].to_vec();
        let zeros = [whole.clone(), vec![0; 4096]].concat();
        let garbage_at_the_end = [whole.clone(), b"{\"seq\":\x00\x00\n".to_vec()].concat();
        let garbage_inside = [file(&[3]), b"?\n".to_vec(), file(&[4])].concat();
        for (name, bytes, expected) in [
            ("empty", Vec::new(), Ok(vec![])),
            ("whole", whole, Ok(vec![3, 4, 9])),
            ("torn", torn, Ok(vec![3, 4])),
            ("zeros", zeros, Ok(vec![3, 4, 9])),
            ("garbage at the end", garbage_at_the_end, Ok(vec![3, 4, 9])),
            ("garbage inside", garbage_inside, Err(Damaged)),
            ("foreign", b"hello\nworld\n".to_vec(), Err(Damaged)),
            ("backwards", file(&[4, 3]), Err(Damaged)),
            ("twice", file(&[4, 4]), Err(Damaged)),
        ] {
            let seqs = decode(&bytes).map(|records| records.iter().map(|r| r.seq).collect::<Vec<_>>());
            assert_eq!(seqs, expected, "{name}");
        }
    }

    #[test]
    fn what_is_dropped_adds_up() {
        let all = [Dropped::one(7), Dropped::default(), Dropped { count: 3, from_unix_ms: 2, to_unix_ms: 4 }];
        let sum = all.into_iter().fold(Dropped::default(), Dropped::and);
        assert_eq!(sum, Dropped { count: 4, from_unix_ms: 2, to_unix_ms: 7 });
    }
}
