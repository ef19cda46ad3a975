//! What happened on a host: a batch is read, kept within limits and stored, and only then acknowledged. Beside `stream`,
//! which calls it.

use std::time::Duration;

use drover_proto::{
    code::{self, Code},
    event::{Event, EventKind},
    limits::{MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_EVENT_MESSAGE_BYTES},
    wire::{Events, EventsAck},
};
use tokio::time::Instant;
use tonic::Status;
use tracing::warn;

use super::report::one_line;

/// Characters of a run's id, and of a kind.
const MAX_WORD_CHARS: usize = 64;
/// The agent's own limit counts differently; what it may send is not told from much more than that.
const MAX_BYTES: usize = 2 * MAX_BATCH_BYTES;

/// Batches of one stream that are stored without a pause, and the pause of which each later one needs its own: a host that
/// is full of events, or wants to be, does not keep the store from the others.
const BURST: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// How quickly the batches of one stream may follow each other.
pub(super) struct Pace {
    /// When the burst is whole again.
    whole_at: Instant,
}

impl Pace {
    /// At its beginning.
    pub(super) fn new(now: Instant) -> Self {
        Self { whole_at: now }
    }
    /// How long the batch that came `now` has to wait.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        let wait = self.whole_at.saturating_duration_since(now).saturating_sub(PAUSE * (BURST - 1));
        self.whole_at = self.whole_at.max(now) + PAUSE;
        wait
    }
}

/// A batch that can be stored.
pub(super) struct Batch {
    /// The run of the agent that it is of.
    pub spool: String,
    /// Of the first event.
    pub first_seq: u64,
    /// Oldest first; `None`: it cannot be read.
    pub events: Vec<Option<Event>>,
}

impl Batch {
    /// Keeps what a host sent within limits. What no agent would send ends the stream: nothing of it could be acknowledged.
    pub(super) fn read(events: Events) -> Result<Self, Status> {
        let protocol = |message: &str| code::status(Code::Protocol, message);
        let Events { spool_id: spool, first_seq, events_json } = events;
        if spool.is_empty() || spool.len() > MAX_WORD_CHARS || !spool.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(protocol("the events are of no run that could be named"));
        }
        if events_json.len() > MAX_BYTES {
            return Err(protocol("a batch of events is too large"));
        }
        let all: Vec<serde_json::Value> =
            serde_json::from_slice(&events_json).map_err(|_| protocol("a batch of events cannot be read"))?;
        if all.is_empty() || all.len() > MAX_BATCH_EVENTS || first_seq == 0 {
            return Err(protocol("a batch has 1 to 200 events, which are numbered from 1"));
        }
        let last_seq = first_seq.checked_add(all.len() as u64);
        if last_seq.is_none_or(|last| i64::try_from(last).is_err()) {
            return Err(protocol("the numbers of the events are out of reach"));
        }
        Ok(Self { spool, first_seq, events: all.into_iter().map(event).collect() })
    }

    /// What is said once it is stored.
    pub(super) fn ack(&self) -> EventsAck {
        EventsAck { spool_id: self.spool.clone(), up_to_seq: self.first_seq + self.events.len() as u64 - 1 }
    }
}

fn event(value: serde_json::Value) -> Option<Event> {
    let mut event: Event = match serde_json::from_value(value) {
        Ok(event) => event,
        Err(error) => {
            let error = error.to_string();
            warn!(?error, "an event that cannot be read is left out");
            return None;
        }
    };
    event.message = one_line(&event.message, MAX_EVENT_MESSAGE_BYTES);
    if let EventKind::Other(word) = &event.kind {
        event.kind = EventKind::Other(one_line(word, MAX_WORD_CHARS));
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    //! Hostile batches.
    use super::*;

    fn batch(spool: &str, first_seq: u64, json: &str) -> Result<Batch, Status> {
        Batch::read(Events { spool_id: spool.to_owned(), first_seq, events_json: json.as_bytes().to_vec() })
    }

    #[test]
    fn what_no_agent_sends_is_refused() {
        let one = r#"[{"at_unix_ms":1,"kind":"drift-found","message":"x"}]"#;
        assert_eq!(batch("a", 7, one).map(|b| b.ack().up_to_seq).ok(), Some(7));
        let many = format!("[{}]", vec!["{}"; 201].join(","));
        let huge = format!("[\"{}\"]", "x".repeat(MAX_BYTES));
        for (spool, first_seq, json) in [
            ("", 1, one),
            ("a b", 1, one),
            (&"a".repeat(65), 1, one),
            ("a", 0, one),
            ("a", u64::MAX, one),
            ("a", i64::MAX as u64, one),
            ("a", 1, "[]"),
            ("a", 1, "{}"),
            ("a", 1, "x"),
            ("a", 1, &many),
            ("a", 1, &huge),
        ] {
            assert!(batch(spool, first_seq, json).is_err(), "{spool} {first_seq} {json:.80}");
        }
    }

    #[test]
    fn a_flood_waits_and_a_handful_does_not() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        for _ in 0..BURST {
            assert_eq!(pace.wait(began), Duration::ZERO);
        }
        let mut now = began;
        for _ in 0..100 {
            let wait = pace.wait(now);
            assert_eq!(wait, PAUSE, "one by one");
            now += wait;
        }
        now += PAUSE * BURST * 2;
        for _ in 0..BURST {
            assert_eq!(pace.wait(now), Duration::ZERO, "rested");
        }
        assert_eq!(pace.wait(now), PAUSE);
    }

    #[test]
    fn an_event_is_kept_within_limits_and_an_unreadable_one_does_not_stop_the_rest() {
        let long = "x".repeat(3000);
        let json = format!(
            r#"[{{"at_unix_ms":1,"kind":"drift-found","message":"a\nb\u001b[2J{long}"}},
                {{"at_unix_ms":1,"app":"No App","kind":"drift-found","message":""}},
                {{"at_unix_ms":1,"kind":"{long}","message":"newer","more":1}}]"#
        );
        let batch = batch("a", 1, &json).unwrap();
        assert_eq!(batch.ack().up_to_seq, 3);
        let [Some(first), None, Some(third)] = &batch.events[..] else { panic!("{:?}", batch.events) };
        assert!(first.message.starts_with("a b [2Jxxx") && first.message.len() == MAX_EVENT_MESSAGE_BYTES);
        assert_eq!((third.kind.to_string().len(), third.message.as_str()), (MAX_WORD_CHARS, "newer"));
    }
}
