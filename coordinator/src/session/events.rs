//! What happened on a host: a batch is read, kept within limits and stored, and only then acknowledged. Beside `stream`,
//! which calls it.

use std::{collections::BTreeSet, time::Duration};

use drover_proto::{
    code::{self, Code},
    event::{Event, EventKind},
    limits::{MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_EVENT_MESSAGE_BYTES},
    name::AppName,
    wire::{Events, EventsAck, to_agent},
};
use tokio::time::Instant;
use tonic::Status;
use tracing::warn;

use super::{
    report::one_line,
    stream::{Stream, failed},
};
use crate::clock;

/// Characters of a run's id, and of a kind.
const MAX_WORD_CHARS: usize = 64;
/// The agent's own limit counts differently; what it may send is not told from much more than that.
const MAX_BYTES: usize = 2 * MAX_BATCH_BYTES;

/// Messages (hellos, reports, batches) and calls of one host that are taken without a pause, and the pause of which each later
/// one needs its own: a host that is full of events, or wants to be, does not keep the store from the others.
const BURST: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// The longest wait. One stream never comes near it, since it waits before it reads on.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How quickly the messages of one host may follow each other, on all its streams.
pub(super) struct Pace {
    /// When the burst is whole again.
    whole_at: Instant,
}

impl Pace {
    /// At its beginning.
    pub(super) fn new(now: Instant) -> Self {
        Self { whole_at: now }
    }
    /// Whether it is as at its beginning.
    pub(super) fn is_whole(&self, now: Instant) -> bool {
        self.whole_at <= now
    }
    /// How long the message that came `now` has to wait; `None`: too long, so it is not taken at all.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        let wait = self.whole_at.saturating_duration_since(now).saturating_sub(PAUSE * (BURST - 1));
        if wait > MAX_WAIT {
            return None;
        }
        self.whole_at = self.whole_at.max(now) + PAUSE;
        Some(wait)
    }
}

impl Stream {
    /// Acknowledged only when it is stored.
    pub(super) async fn happened(&mut self, events: Events) -> Result<(), Status> {
        let mut batch = Batch::read(events)?;
        self.all.sessions.paced(self.host.as_str()).await?;
        let store = &self.all.store;
        let mut apps = self.apps(None).await?;
        if batch.events.iter().flatten().filter_map(|event| event.app.as_ref()).any(|app| !apps.contains(app)) {
            // What it did to an app that has gone since, told late.
            apps.extend(store.apps_told(&self.host).await.map_err(failed)?);
        }
        batch.keep_to(&apps);
        store
            .add_events(&self.host, &batch.spool, batch.first_seq, &batch.events, clock::unix_ms())
            .await
            .map_err(failed)?;
        self.send(to_agent::Message::EventsAck(batch.ack())).await
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

    /// An event of an app that is not the host's is one of the host.
    fn keep_to(&mut self, apps: &BTreeSet<AppName>) {
        for event in self.events.iter_mut().flatten() {
            event.app.take_if(|app| !apps.contains(app));
        }
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
    event.kind = told_by_host(event.kind);
    Some(event)
}

/// The coordinator's own words, and what only looks like them, are marked as the host's.
fn told_by_host(kind: EventKind) -> EventKind {
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' { c } else { '?' };
    match kind {
        EventKind::Other(word) => EventKind::Other(word.chars().take(MAX_WORD_CHARS).map(plain).collect()),
        kind if EventKind::OF_COORDINATOR.contains(&kind) => EventKind::Other(format!("host-said:{kind}")),
        kind => kind,
    }
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
            assert_eq!(pace.wait(began), Some(Duration::ZERO));
        }
        let mut now = began;
        for _ in 0..100 {
            let wait = pace.wait(now).unwrap();
            assert_eq!(wait, PAUSE, "one by one");
            now += wait;
        }
        now += PAUSE * BURST * 2;
        for _ in 0..BURST {
            assert_eq!(pace.wait(now), Some(Duration::ZERO), "rested");
        }
        assert_eq!(pace.wait(now), Some(PAUSE));
        // Many at once, over streams that do not wait for each other.
        let taken = (0..1000).filter(|_| pace.wait(now).is_some()).count();
        assert_eq!(taken, 99, "as many as can be waited for");
        assert_eq!(pace.wait(now + MAX_WAIT), Some(PAUSE), "what was turned away is not waited for");
    }

    #[test]
    fn a_host_speaks_neither_for_the_coordinator_nor_of_what_is_not_its_own() {
        let said = |kind: &str| {
            let kind = serde_json::from_value(kind.into()).unwrap();
            told_by_host(kind).to_string()
        };
        for kind in EventKind::OF_COORDINATOR {
            assert_eq!(said(&kind.to_string()), format!("host-said:{kind}"));
        }
        for (told, kept) in [
            ("drift-found", "drift-found"),
            ("reactor-scrammed", "reactor-scrammed"),
            ("host_enrolled", "host?enrolled"),
            ("host-enrolled\n", "host-enrolled?"),
            ("host-enr\u{43e}lled", "host-enr?lled"),
        ] {
            assert_eq!(said(told), kept);
        }
        let json = r#"[{"at_unix_ms":1,"app":"mine","kind":"drift-found","message":""},
                       {"at_unix_ms":1,"app":"theirs","kind":"drift-found","message":""}]"#;
        let mut batch = batch("a", 1, json).unwrap();
        batch.keep_to(&["mine".parse().unwrap()].into());
        let apps: Vec<_> = batch.events.iter().flatten().map(|event| event.app.as_ref().map(AppName::as_str)).collect();
        assert_eq!(apps, [Some("mine"), None]);
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
