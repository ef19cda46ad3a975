//! Takes every alert along the routes to the groups of its receivers, and stores what `group` decides. Part of `engine`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use aws_lc_rs::rand;
use drover_proto::{duration::Span, name::NotifierName};

use super::{
    Alerting,
    book::Active,
    config::Route,
    group::{Decision, Group, Seen, Timing, decide},
    matcher::holds,
};
use crate::{
    notify::{Notification, target::NotifierConfig},
    store::{GroupChange, NewNotification, Result, Store, StoreError},
};

/// Notifications that wait for one receiver; while there are so many its groups gather what is new.
const MAX_WAITING: usize = 100;
/// What a receiver wants that counts on being told again.
const RESENT_EVERY_MS: i64 = 60_000;
const MINUTE_MS: i64 = 60_000;

/// What every receiver was told.
pub(super) struct Teller {
    groups: BTreeMap<String, Group>,
    /// When each receiver was told something in the last minute, Unix ms.
    lately: BTreeMap<NotifierName, VecDeque<i64>>,
    /// The clock was set: what the store has of the groups is by the one before.
    is_shifted: bool,
    /// When a group that waits for others to join has waited for long enough, Unix ms.
    due_unix_ms: Option<i64>,
}

/// One receiver of one route.
struct Line<'a> {
    notifier: &'a NotifierName,
    /// Alerts come to it when they have been firing for so long, ms.
    after: i64,
    /// Tells its groups from those of others.
    name: String,
    timing: Timing,
    /// Takes what is not said again for over: it is told of all that fires, as often as it takes.
    is_resent: bool,
}

/// The alerts of one group.
#[derive(Default)]
struct Bucket<'a> {
    labels: BTreeMap<String, String>,
    firing: Vec<&'a Active>,
    /// The same, and those that are held back.
    ids: BTreeSet<&'a str>,
}

impl Teller {
    /// As the store remembers it.
    pub(super) async fn open(store: &Store) -> Result<Self> {
        let groups = store.alert_groups().await?.into_iter();
        let read = groups.map(|(key, text)| {
            let group = serde_json::from_str(&text).map_err(|_| StoreError::Damaged("what was told of alerts"))?;
            Ok((key, group))
        });
        Ok(Self { groups: read.collect::<Result<_>>()?, lately: BTreeMap::new(), is_shifted: false, due_unix_ms: None })
    }

    /// The clock was set by so much.
    pub(super) fn shift(&mut self, by_ms: i64) {
        for group in self.groups.values_mut() {
            let times = [&mut group.since_unix_ms, &mut group.sent_unix_ms];
            times.into_iter().flatten().for_each(|time| *time += by_ms);
        }
        self.lately.values_mut().flatten().for_each(|time| *time += by_ms);
        self.is_shifted = true;
    }

    /// How long until there is something to decide, if nothing happens; no more than `most`.
    pub(super) fn pause(&mut self, most: Duration, now_ms: i64) -> Duration {
        let left =
            self.due_unix_ms.take().map(|due| Duration::from_millis(due.saturating_sub(now_ms).max(1).unsigned_abs()));
        left.map_or(most, |left| left.min(most))
    }

    fn is_due(&mut self, due_unix_ms: Option<i64>) {
        self.due_unix_ms = self.due_unix_ms.into_iter().chain(due_unix_ms).min();
    }

    /// Decides for all groups, and stores it. Answers who has something new.
    pub(super) async fn step(
        &mut self,
        store: &Store,
        alerting: &Alerting,
        alerts: &[Active],
        now_ms: i64,
    ) -> Result<BTreeSet<NotifierName>> {
        if self.groups.is_empty() && !alerts.iter().any(Active::is_firing) {
            return Ok(BTreeSet::new());
        }
        let lines = lines(alerting);
        let buckets = buckets(&lines, alerting, alerts, now_ms);
        let alive = alive(alerts);
        let waiting = store.groups_waiting().await?;
        let (mut changes, mut after, mut told) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (key, (line, bucket)) in self.with_those_told(buckets, &lines) {
            let group = self.groups.get(&key).cloned().unwrap_or(Group { labels: bucket.labels, ..Group::default() });
            let is_waiting = waiting.iter().any(|(_, waits)| *waits == key);
            let decision = match line {
                Some(line) => {
                    let seen = line.seen(&bucket.firing, &alive, is_waiting, alerting.limits.alerts);
                    decide(group.clone(), &seen, line.timing, now_ms)
                }
                // Its route or receiver is gone.
                None => Decision::Forget,
            };
            let (next, notification) = match (decision, line) {
                (Decision::Tell(next, notification), Some(line)) => {
                    let backlog = waiting.iter().filter(|(notifier, _)| notifier == line.notifier).count();
                    let per_minute = if line.is_resent { u32::MAX } else { alerting.limits.per_minute };
                    if backlog >= MAX_WAITING || !self.may_tell(line.notifier, per_minute, now_ms) {
                        // It is decided again, with all that has come by then.
                        after.push((key, Some(Group { since_unix_ms: group.since_unix_ms.or(Some(now_ms)), ..group })));
                        continue;
                    }
                    told.insert(line.notifier.clone());
                    (Some(next), Some(line.write(notification)?))
                }
                (Decision::Tell(..) | Decision::Forget, _) => (None, None),
                (Decision::Wait(next), line) => {
                    self.is_due(line.and_then(|line| next.due_unix_ms(line.timing)));
                    (Some(next), None)
                }
            };
            // Waiting for others to join is not worth a write: after a restart it waits once more.
            let is_shifted = self.is_shifted && group.sent_unix_ms.is_some();
            let is_durable = notification.is_some() || is_shifted || (next.is_none() && self.groups.contains_key(&key));
            if is_durable {
                changes.push(GroupChange {
                    key: key.clone(),
                    group: next.as_ref().map(json).transpose()?,
                    notification,
                });
            }
            after.push((key, next));
        }
        if !changes.is_empty() {
            store.change_groups(&changes, now_ms).await?;
        }
        self.is_shifted = false;
        for (key, next) in after {
            match next {
                Some(group) => self.groups.insert(key, group),
                None => self.groups.remove(&key),
            };
        }
        Ok(told)
    }

    /// Beside what fires, the groups of which nothing does any more.
    fn with_those_told<'l, 'a>(
        &self,
        buckets: BTreeMap<String, (usize, Bucket<'a>)>,
        lines: &'l [Line<'l>],
    ) -> Vec<(String, (Option<&'l Line<'l>>, Bucket<'a>))> {
        let over = self.groups.keys().filter(|key| !buckets.contains_key(*key));
        let over = over.map(|key| {
            let line = lines.iter().find(|line| key.starts_with(&line.name));
            (key.clone(), (line, Bucket::default()))
        });
        let over: Vec<_> = over.collect();
        let live = buckets.into_iter().map(|(key, (line, bucket))| (key, (lines.get(line), bucket)));
        let mut all: Vec<_> = live.chain(over).collect();
        // What has waited longest for something new comes first, what is only said again last: none is passed by for ever.
        all.sort_by_key(|(key, _)| self.groups.get(key).and_then(|group| group.since_unix_ms).unwrap_or(i64::MAX));
        all
    }

    /// Whether a receiver may be told one more thing in this minute; if so, that counts.
    fn may_tell(&mut self, notifier: &NotifierName, per_minute: u32, now_ms: i64) -> bool {
        let lately = self.lately.entry(notifier.clone()).or_default();
        lately.retain(|at| (now_ms - MINUTE_MS..=now_ms).contains(at));
        let has_room = lately.len() < per_minute as usize;
        if has_room {
            lately.push_back(now_ms);
        }
        has_room
    }
}

impl Line<'_> {
    /// What its receiver is to be told of, `most` alerts in one message.
    fn seen<'a>(
        &self,
        firing: &'a [&'a Active],
        alive: &'a BTreeSet<&'a str>,
        is_waiting: bool,
        most: usize,
    ) -> Seen<'a> {
        let most = if self.is_resent { usize::MAX } else { most };
        Seen { firing, alive, is_waiting, most, is_whole: self.is_resent }
    }

    /// What is sent to its receiver.
    fn write(&self, notification: Notification) -> Result<NewNotification> {
        let reason = if self.after > 0 && notification.reason.is_empty() {
            format!("escalated after {}", Span::from_ms(self.after.unsigned_abs()))
        } else {
            notification.reason
        };
        let document = json(&Notification { id: id()?, reason, ..notification })?;
        Ok(NewNotification { notifier: self.notifier.clone(), document })
    }
}

/// What fires, in whatever group: what has come to another one, since its labels or the routes are others, is not over.
fn alive(alerts: &[Active]) -> BTreeSet<&str> {
    alerts.iter().filter(|alert| alert.is_firing()).map(|alert| alert.id.as_str()).collect()
}

/// Every receiver of every route, route by route.
fn lines(alerting: &Alerting) -> Vec<Line<'_>> {
    alerting.routes.iter().flat_map(|route| lines_of(alerting, route)).collect()
}

fn lines_of<'a>(alerting: &'a Alerting, route: &'a Route) -> Vec<Line<'a>> {
    let at_once = route.notify.iter().map(|notifier| (notifier, 0));
    let later = route.escalate.iter().flat_map(|step| step.notify.iter().map(|notifier| (notifier, ms(step.after))));
    let line = |(notifier, after): (&'a NotifierName, i64)| {
        let is_resent = alerting.notifiers.get(notifier).is_some_and(NotifierConfig::is_resent);
        // Nothing that is new makes it wait for longer than it takes for alerts to be over.
        let most = if is_resent { RESENT_EVERY_MS } else { i64::MAX };
        let [wait, interval, repeat] =
            [route.group_wait, route.group_interval, route.repeat].map(|span| ms(span).min(most));
        let timing = Timing { wait, interval, repeat };
        let matchers: Vec<String> = route.matchers.iter().map(ToString::to_string).collect();
        // Not by its place in the file: what was told is not told again because a route was put before it.
        let name = format!("{notifier}+{after}|{}|{}|", matchers.join(","), route.group_by.join(","));
        Line { notifier, after, name, timing, is_resent }
    };
    at_once.chain(later).map(line).collect()
}

/// By key, each with the place of its line in `lines`.
fn buckets<'a>(
    lines: &[Line<'_>],
    alerting: &Alerting,
    alerts: &'a [Active],
    now_ms: i64,
) -> BTreeMap<String, (usize, Bucket<'a>)> {
    let mut buckets = BTreeMap::<String, (usize, Bucket<'a>)>::new();
    for alert in alerts.iter().filter(|alert| alert.is_firing()) {
        let mut first = 0;
        for route in &alerting.routes {
            let count = route.notify.len() + route.escalate.iter().map(|step| step.notify.len()).sum::<usize>();
            let of_route = first..first + count;
            first += count;
            if !holds(&route.matchers, &alert.labels) {
                continue;
            }
            let labels = route.group_by.iter().filter_map(|label| alert.labels.get_key_value(label));
            let labels: BTreeMap<String, String> = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
            for (at, line) in of_route.clone().zip(lines.get(of_route).unwrap_or_default()) {
                let words: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
                let (_, bucket) = buckets
                    .entry(format!("{}{}", line.name, words.join(",")))
                    .or_insert_with(|| (at, Bucket { labels: labels.clone(), ..Bucket::default() }));
                // Another route may lead to the same receiver.
                let is_new = bucket.ids.insert(&alert.id);
                if is_new && alert.muted.is_none() && now_ms.saturating_sub(alert.seen_unix_ms) >= line.after {
                    bucket.firing.push(alert);
                }
            }
            if !route.goes_on {
                break;
            }
        }
    }
    buckets
}

fn ms(span: Span) -> i64 {
    i64::try_from(span.as_ms()).unwrap_or(i64::MAX)
}

fn id() -> Result<String> {
    let mut random = [0; 12];
    rand::fill(&mut random).map_err(|_| StoreError::Damaged("random bytes"))?;
    Ok(hex::encode(random))
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|_| StoreError::Damaged("a notification"))
}
