//! Pure: what one receiver is told of alerts that belong together, and when. A group remembers what it has told, so that each alert is
//! told once, its end too, and a flood becomes one message. `engine` calls it and stores what follows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::book::Active;
use crate::notify::{Notification, Told};

/// How long a group waits, in ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timing {
    /// Before the first message.
    pub wait: i64,
    /// Between two messages with something new.
    pub interval: i64,
    /// Before it is said again when nothing is.
    pub repeat: i64,
}

/// What a receiver was told of a group. A document of the store.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Group {
    /// What its alerts have in common.
    pub labels: BTreeMap<String, String>,
    /// Told as firing, by the alert's id.
    pub told: BTreeMap<String, Told>,
    /// When something that is not told yet was first seen, Unix ms.
    pub since_unix_ms: Option<i64>,
    /// When the last message was made, Unix ms.
    pub sent_unix_ms: Option<i64>,
}

impl Group {
    /// When what is not told yet may be told; `None`: there is nothing.
    pub(super) fn due_unix_ms(&self, timing: Timing) -> Option<i64> {
        let rests_until = self.sent_unix_ms.map_or(i64::MIN, |sent| sent.saturating_add(timing.interval));
        Some(self.since_unix_ms?.saturating_add(timing.wait).max(rests_until))
    }
}

/// What is to be done with a group.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Decision {
    /// Nothing now.
    Wait(Group),
    /// This is told, and the group is so from then on.
    Tell(Group, Notification),
    /// There is nothing to remember.
    Forget,
}

/// What there is of a group's alerts just now.
pub(super) struct Seen<'a> {
    /// Firing, and to be told.
    pub firing: &'a [&'a Active],
    /// Firing, here or in another group, whether it is to be told or not.
    pub alive: &'a BTreeSet<&'a str>,
    /// Another message of this group has not been delivered yet.
    pub is_waiting: bool,
    /// Alerts that one message lists.
    pub most: usize,
    /// Each message has all that fires, and not only what is new.
    pub is_whole: bool,
}

/// Decides for one group.
pub(super) fn decide(mut group: Group, seen: &Seen<'_>, timing: Timing, now_ms: i64) -> Decision {
    let new: Vec<&Active> = seen.firing.iter().copied().filter(|alert| !group.told.contains_key(&alert.id)).collect();
    let over: Vec<String> = group.told.keys().filter(|id| !seen.alive.contains(id.as_str())).cloned().collect();
    if new.is_empty() && over.is_empty() {
        group.since_unix_ms = None;
        return repeat(group, seen, timing, now_ms);
    }
    group.since_unix_ms.get_or_insert(now_ms);
    if group.due_unix_ms(timing).is_some_and(|due| now_ms < due) && !is_of_the_future(&group, now_ms) {
        return Decision::Wait(group);
    }
    let firing = if seen.is_whole { seen.firing.to_vec() } else { new.clone() };
    let mut told: Vec<Told> = firing.iter().map(|alert| alert.told()).collect();
    for alert in &new {
        group.told.insert(alert.id.clone(), alert.told());
    }
    for id in over {
        told.extend(group.told.remove(&id).map(|told| Told { ended_unix_ms: Some(now_ms), ..told }));
    }
    group.since_unix_ms = None;
    tell(group, told, String::new(), seen.most, now_ms)
}

/// Nothing is new: what still fires is said again now and then, and a group of which all is over is forgotten after its rest.
fn repeat(group: Group, seen: &Seen<'_>, timing: Timing, now_ms: i64) -> Decision {
    let Some(sent) = group.sent_unix_ms else { return Decision::Forget };
    if group.told.is_empty() {
        let rests = now_ms < sent.saturating_add(timing.interval) && !is_of_the_future(&group, now_ms);
        return if rests { Decision::Wait(group) } else { Decision::Forget };
    }
    let is_due = now_ms >= sent.saturating_add(timing.repeat) || is_of_the_future(&group, now_ms);
    // What waits to be delivered says the same.
    if !is_due || seen.firing.is_empty() || seen.is_waiting {
        return Decision::Wait(group);
    }
    let still = seen.firing.iter().map(|alert| alert.told()).collect();
    tell(group, still, "still firing".to_owned(), seen.most, now_ms)
}

/// The clock was set back: nothing may wait for a time that was never.
fn is_of_the_future(group: &Group, now_ms: i64) -> bool {
    group.sent_unix_ms.is_some_and(|sent| sent > now_ms)
}

fn tell(mut group: Group, mut alerts: Vec<Told>, reason: String, most: usize, now_ms: i64) -> Decision {
    group.sent_unix_ms = Some(now_ms);
    alerts.sort_by(|a, b| {
        let order =
            |told: &Told| (told.ended_unix_ms.is_some(), std::cmp::Reverse(told.severity), told.started_unix_ms);
        order(a).cmp(&order(b))
    });
    let more = alerts.len().saturating_sub(most);
    alerts.truncate(most);
    let notification =
        Notification { id: String::new(), group: group.labels.clone(), alerts, more, reason, only: vec![] };
    Decision::Tell(group, notification)
}

#[cfg(test)]
mod tests {
    //! What is told over time.
    use drover_proto::alert::Severity;

    use super::*;

    const TIMING: Timing = Timing { wait: 100, interval: 60_000, repeat: 3_600_000 };

    fn alert(id: &str) -> Active {
        Active::example(id, Severity::Warning)
    }

    /// Lets time go by; `firing` and `muted` are what there is. Answers what is told.
    fn step(group: &mut Option<Group>, firing: &[&str], muted: &[&str], now: i64) -> Option<String> {
        let alerts: Vec<Active> = firing.iter().map(|id| alert(id)).collect();
        let firing: Vec<&Active> = alerts.iter().collect();
        let alive = firing.iter().map(|alert| alert.id.as_str()).chain(muted.iter().copied()).collect();
        let seen = Seen { firing: &firing, alive: &alive, is_waiting: false, most: 50, is_whole: false };
        match decide(group.clone().unwrap_or_default(), &seen, TIMING, now) {
            Decision::Forget => *group = None,
            Decision::Wait(next) => *group = Some(next),
            Decision::Tell(next, told) => {
                *group = Some(next);
                let word = |told: &Told| {
                    format!("{}{}", if told.ended_unix_ms.is_some() { "-" } else { "+" }, told.labels["subject"])
                };
                let words: Vec<String> = told.alerts.iter().map(word).collect();
                return Some(format!("{}{}", words.join(" "), told.reason));
            }
        }
        None
    }

    /// When; what fires, what is held back; what is told.
    type Row = (i64, &'static [&'static str], &'static [&'static str], Option<&'static str>);

    #[test]
    fn each_alert_is_told_once_and_its_end_too() {
        let mut group = None;
        let rows: [Row; 13] = [
            (0, &["a"], &[], None),
            (50, &["a", "b"], &[], None),
            (100, &["a", "b"], &[], Some("+a +b")),
            (200, &["a", "b", "c"], &[], None),
            (60_099, &["a", "b", "c"], &[], None),
            (60_100, &["a", "b", "c"], &[], Some("+c")),
            (60_200, &["b"], &["c"], None),
            (120_100, &["b"], &["c"], Some("-a")),
            (200_000, &["b", "c"], &[], None),
            (120_100 + 3_600_000, &["b", "c"], &[], Some("+b +cstill firing")),
            (5_000_000, &[], &[], None),
            (5_000_100, &[], &[], Some("-b -c")),
            (5_060_100, &[], &[], None),
        ];
        for (now, firing, muted, told) in rows {
            assert_eq!(step(&mut group, firing, muted, now).as_deref(), told, "at {now}");
        }
        assert_eq!(group, None, "and then there is nothing to remember");
    }

    #[test]
    fn what_comes_and_goes_before_it_is_told_is_not() {
        let mut group = None;
        for (now, firing) in [(0, &["a"][..]), (50, &[]), (100, &[]), (200, &[])] {
            assert_eq!(step(&mut group, firing, &[], now), None, "at {now}");
        }
        assert_eq!(group, None);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up_and_a_flood_is_cut() {
        let mut group = None;
        step(&mut group, &["a"], &[], 10_000_000);
        assert!(step(&mut group, &["a"], &[], 10_000_100).is_some());
        assert_eq!(step(&mut group, &["a", "b"], &[], 6_400_000), Some("+b".to_owned()));
        let alerts: Vec<Active> = (0..200).map(|n| alert(&format!("x{n}"))).collect();
        let firing: Vec<&Active> = alerts.iter().collect();
        let alive = firing.iter().map(|alert| alert.id.as_str()).collect();
        let seen = Seen { firing: &firing, alive: &alive, is_waiting: false, most: 50, is_whole: false };
        let group = Group { since_unix_ms: Some(0), ..Group::default() };
        let Decision::Tell(group, told) = decide(group, &seen, TIMING, 100) else { panic!() };
        assert_eq!((told.alerts.len(), told.more, group.told.len()), (50, 150, 200));
    }
}
