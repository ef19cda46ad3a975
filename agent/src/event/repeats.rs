//! Thins out what is said over and over: after the first few, the same event is held back and told as one with a count.
//! Pure: time comes in. `outbox` puts every event through it.

use std::collections::VecDeque;

use drover_proto::event::Event;

/// The same event gets through so often within one span.
const PASSES: u32 = 5;
/// The first span in which it is counted; it doubles while the event goes on.
const FIRST_SPAN_MS: u64 = 60_000;
const LONGEST_SPAN_MS: u64 = 3_600_000;
/// Events that are remembered; with more, the oldest is forgotten, and told before that.
const MAX_REMEMBERED: usize = 64;

/// What was said lately.
#[derive(Default)]
pub struct Repeats(VecDeque<Seen>);

struct Seen {
    /// The newest of its kind.
    event: Event,
    passed: u32,
    held: u64,
    span_ms: u64,
    ends_ms: u64,
}

impl Seen {
    fn is_same(&self, event: &Event) -> bool {
        self.event.kind == event.kind && self.event.app == event.app && self.event.message == event.message
    }
    /// One event for all that were held back.
    fn told(&self) -> Option<Event> {
        let mut event = (self.held > 0).then(|| self.event.clone())?;
        event.message.push_str(&format!(" ({} more of these within {} s)", self.held, self.span_ms / 1000));
        Some(event)
    }
}

impl Repeats {
    /// Takes an event at `now_ms` (of any clock that does not go back); answers what is to be told now.
    pub fn take(&mut self, event: Event, now_ms: u64) -> Option<Event> {
        if let Some(seen) = self.0.iter_mut().find(|seen| seen.is_same(&event)) {
            if seen.passed >= PASSES {
                seen.held += 1;
                seen.event = event;
                return None;
            }
            seen.passed += 1;
            return Some(event);
        }
        let seen = Seen {
            event: event.clone(),
            passed: 1,
            held: 0,
            span_ms: FIRST_SPAN_MS,
            ends_ms: now_ms.saturating_add(FIRST_SPAN_MS),
        };
        self.0.push_back(seen);
        Some(event)
    }
    /// What is due at `now_ms`: one event for each that was held back in a span that is over.
    pub fn due(&mut self, now_ms: u64) -> Vec<Event> {
        let mut told = Vec::new();
        while self.0.len() > MAX_REMEMBERED {
            told.extend(self.0.pop_front().and_then(|seen| seen.told()));
        }
        self.0.retain_mut(|seen| {
            if now_ms < seen.ends_ms {
                return true;
            }
            let event = seen.told();
            let goes_on = event.is_some();
            told.extend(event);
            seen.held = 0;
            seen.span_ms = LONGEST_SPAN_MS.min(seen.span_ms * 2);
            seen.ends_ms = now_ms.saturating_add(seen.span_ms);
            goes_on
        });
        told
    }
    /// When `due` is to be asked next.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        self.0.iter().map(|seen| seen.ends_ms).min()
    }
    /// Everything that was held back, before the end.
    pub fn all(&mut self) -> Vec<Event> {
        self.0.drain(..).filter_map(|seen| seen.told()).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Spans of one event, and many events.
    use drover_proto::event::EventKind;

    use super::*;

    fn event(message: &str, at_unix_ms: i64) -> Event {
        Event { at_unix_ms, app: None, kind: EventKind::DriftFound, message: message.to_owned() }
    }

    #[test]
    fn an_endless_repeat_is_told_a_few_times_and_then_counted() {
        let mut repeats = Repeats::default();
        // Once a second for a day.
        let told: Vec<Event> = (0..86_400)
            .flat_map(|s| {
                let due = repeats.due(s * 1000);
                due.into_iter().chain(repeats.take(event("x", s as i64), s * 1000)).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(told.iter().filter(|e| e.message == "x").count(), PASSES as usize);
        assert!((24..=32).contains(&(told.len() - PASSES as usize)), "{}", told.len());
        assert_eq!(told[5], event("x (55 more of these within 60 s)", 59));
        assert_eq!(told[6].message, "x (120 more of these within 120 s)");
        let counted = repeats.all();
        assert_eq!(counted.len(), 1, "what is held back is told at the end");
        assert_eq!(repeats.next_ms(), None);
    }

    #[test]
    fn rare_and_different_events_all_get_through() {
        let mut repeats = Repeats::default();
        for n in 0..100_u64 {
            let now = n * 20_000;
            assert!(repeats.due(now).is_empty());
            assert!(repeats.take(event("x", 0), now).is_some(), "three a minute");
            assert!(repeats.take(event(&format!("{n}"), 0), now).is_some());
        }
        let mut repeats = Repeats::default();
        for n in 0..1000 {
            assert!(repeats.take(event(&format!("{n}"), 0), 0).is_some());
            assert!(repeats.due(0).is_empty());
        }
        assert_eq!(repeats.0.len(), MAX_REMEMBERED);
        assert!(repeats.due(FIRST_SPAN_MS).is_empty() && repeats.0.is_empty());
    }
}
