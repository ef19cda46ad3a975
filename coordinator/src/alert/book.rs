//! Which alerts there are, over all hosts, and why nobody is told of some. Filled by `engine` from reports and from `fleet`.

use std::collections::BTreeMap;

use drover_proto::{
    alert::{AlertKey, AlertState, AlertStatus, Severity},
    name::{HostId, HostName, LabelKey, LabelValue},
    view::AlertView,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Alerting,
    maintenance::Window,
    matcher::{Matcher, holds},
};
use crate::notify::Told;

/// A host, and what is wrong there.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// People's name for it.
    pub name: HostName,
    /// Its labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Of its agent.
    pub agent_version: String,
    /// Unix ms of the last word from it; `None` = it has never been connected.
    pub last_seen_ms: Option<i64>,
    /// As it last said.
    pub reported: Vec<AlertStatus>,
    /// What the coordinator itself knows.
    pub known: Known,
    /// From when on it has not been connected: by what no clock changes, and Unix ms. `None` = it is.
    pub away: Option<(Instant, i64)>,
}

/// What the coordinator itself knows of a host's alerts, by its own clock. A document of the store.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    /// Those that only it can tell.
    pub own: Vec<AlertStatus>,
    /// Since when each that the host tells has been firing, as far as the coordinator has seen; Unix ms.
    pub seen: Vec<(AlertKey, i64)>,
}

impl Known {
    /// The clock was set by so much.
    fn shift(&mut self, by_ms: i64) {
        self.own.iter_mut().for_each(|status| status.since_unix_ms += by_ms);
        self.seen.iter_mut().for_each(|(_, since)| *since += by_ms);
    }
    /// As the store has it. Before there was `seen`, `own` was all of it; what cannot be read is as good as nothing.
    pub(super) fn read(document: &str) -> Self {
        let of_old = || Some(Self { own: serde_json::from_str(document).ok()?, ..Self::default() });
        serde_json::from_str(document).ok().or_else(of_old).unwrap_or_default()
    }
}

impl Entry {
    /// All that is wrong there. What the host says of what only the coordinator can tell is left out: it would hide that it is away, or
    /// take the place of that. An alert of an app has the app in its key, and is another.
    pub(super) fn alerts<'a>(&'a self, alerting: &'a Alerting) -> impl Iterator<Item = &'a AlertStatus> {
        self.told(alerting).chain(&self.known.own)
    }

    /// Those of them that the host tells.
    fn told<'a>(&'a self, alerting: &'a Alerting) -> impl Iterator<Item = &'a AlertStatus> {
        let is_own =
            |status: &AlertStatus| status.key.app.is_none() && alerting.is_own(&status.key.alert, &self.labels);
        self.reported.iter().filter(move |status| !is_own(status))
    }

    /// The clock was set by so much.
    pub(super) fn shift(&mut self, by_ms: i64) {
        self.known.shift(by_ms);
        if let Some((_, since)) = &mut self.away {
            *since += by_ms;
        }
    }

    /// What is to be known from now on of when those that the host tells began. The host's own clock may be any.
    pub(super) fn seen(&self, alerting: &Alerting, now_ms: i64) -> Vec<(AlertKey, i64)> {
        let before: BTreeMap<&AlertKey, i64> = self.known.seen.iter().map(|(key, since)| (key, *since)).collect();
        let firing = self.told(alerting).filter(|status| status.state == AlertState::Firing);
        let since = |key: &AlertKey| before.get(key).map_or(now_ms, |since| now_ms.min(*since));
        firing.map(|status| (status.key.clone(), since(&status.key))).collect()
    }
}

/// A silence that counts now or will.
#[derive(Clone, Debug)]
pub struct Silence {
    /// To end it by.
    pub id: String,
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Unix ms.
    pub starts_ms: i64,
    /// Unix ms.
    pub ends_ms: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Silence {
    /// Whether it counts at a time.
    #[must_use]
    pub fn is_active(&self, now_ms: i64) -> bool {
        self.starts_ms <= now_ms && now_ms < self.ends_ms
    }
}

/// An alert, pending or firing, as it concerns people.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Active {
    /// Host, rule, app and subject: what tells it apart from all others.
    pub id: String,
    /// On which host.
    pub host: HostId,
    /// As the host or `fleet` says.
    pub status: AlertStatus,
    /// All of them.
    pub labels: BTreeMap<String, String>,
    /// When it came into its state, as who told it says; Unix ms, not after the coordinator saw it.
    pub since_unix_ms: i64,
    /// When it began to fire, as far as the coordinator has seen; Unix ms.
    pub seen_unix_ms: i64,
    /// Why nobody is told.
    pub muted: Option<String>,
}

impl Active {
    /// As it is told.
    pub(super) fn told(&self) -> Told {
        Told {
            labels: self.labels.clone(),
            summary: self.status.summary.clone(),
            annotations: self.status.annotations.iter().map(|(key, text)| (key.to_string(), text.clone())).collect(),
            severity: self.status.severity,
            started_unix_ms: self.since_unix_ms,
            ended_unix_ms: None,
        }
    }
    /// Whether it fires.
    pub(super) fn is_firing(&self) -> bool {
        self.status.state == AlertState::Firing
    }
    /// For operators.
    pub(super) fn view(&self, host: &HostName) -> AlertView {
        let told = self.told();
        AlertView {
            alert: self.status.key.alert.clone(),
            host: host.clone(),
            host_id: self.host.clone(),
            app: self.status.key.app.clone(),
            subject: self.status.key.subject.clone(),
            state: self.status.state,
            severity: self.status.severity,
            since_unix_ms: self.since_unix_ms,
            summary: told.summary,
            muted: self.muted.clone(),
            labels: told.labels,
            annotations: told.annotations,
        }
    }
}

/// All alerts of these hosts, in the order of their ids.
pub(super) fn alerts(
    hosts: &BTreeMap<HostId, Entry>,
    alerting: &Alerting,
    silences: &[Silence],
    now_ms: i64,
) -> Vec<Active> {
    let windows: Vec<&Window> =
        alerting.maintenance.iter().filter(|window| window.open_until(now_ms).is_some()).collect();
    let silences: Vec<&Silence> = silences.iter().filter(|silence| silence.is_active(now_ms)).collect();
    let of_host = |(id, entry): (&HostId, &Entry)| -> Vec<Active> {
        let seen: BTreeMap<&AlertKey, i64> = entry.known.seen.iter().map(|(key, since)| (key, *since)).collect();
        let own = entry.known.own.iter().map(|status| (status, status.since_unix_ms.min(now_ms)));
        let told = entry.told(alerting).map(|status| (status, seen.get(&status.key).copied().unwrap_or(now_ms)));
        told.chain(own).map(|(status, seen)| active(id, entry, (status, seen), (&silences, &windows))).collect()
    };
    hosts.iter().flat_map(of_host).collect()
}

fn active(
    host: &HostId,
    entry: &Entry,
    (status, seen_unix_ms): (&AlertStatus, i64),
    (silences, windows): (&[&Silence], &[&Window]),
) -> Active {
    let labels = labels(entry, status);
    let app = status.key.app.as_ref().map(AsRef::as_ref).unwrap_or_default();
    let id = [host.as_str(), status.key.alert.as_str(), app, &status.key.subject].join("|");
    let muted = if status.held {
        Some(format!("a rollout of {app} works on this host"))
    } else if let Some(silence) = silences.iter().find(|silence| holds(&silence.matchers, &labels)) {
        Some(format!("silenced by {} ({}): {}", silence.by, silence.id, silence.reason))
    } else {
        let window = windows.iter().find(|window| holds(&window.matchers, &labels));
        window.map(|window| format!("in the maintenance window {:?}", window.name))
    };
    let since_unix_ms = status.since_unix_ms.min(seen_unix_ms);
    Active { id, host: host.clone(), status: status.clone(), labels, since_unix_ms, seen_unix_ms, muted }
}

/// Those of the host, over them those of the rule, over them drover's own: nobody can take those from it.
fn labels(entry: &Entry, status: &AlertStatus) -> BTreeMap<String, String> {
    let words = |labels: &BTreeMap<LabelKey, LabelValue>| -> Vec<(String, String)> {
        labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    };
    let mut labels: BTreeMap<String, String> = words(&entry.labels).into_iter().chain(words(&status.labels)).collect();
    for own in drover_proto::alert::OWN_LABELS {
        labels.remove(own);
    }
    labels.insert("alert".to_owned(), status.key.alert.to_string());
    labels.insert("host".to_owned(), entry.name.to_string());
    labels.insert("severity".to_owned(), status.severity.word().to_owned());
    if let Some(app) = &status.key.app {
        labels.insert("app".to_owned(), app.to_string());
    }
    if !status.key.subject.is_empty() {
        labels.insert("subject".to_owned(), status.key.subject.clone());
    }
    labels
}

/// The worst first, then the oldest.
pub(super) fn order(a: &Active, b: &Active) -> std::cmp::Ordering {
    let key = |active: &Active| {
        let worst: (AlertState, Severity) = (active.status.state, active.status.severity);
        (std::cmp::Reverse(worst), active.since_unix_ms)
    };
    key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
}

#[cfg(test)]
impl Active {
    /// One whose subject is its id.
    pub(super) fn example(id: &str, severity: Severity) -> Self {
        let status = status("disk", id, severity);
        let labels = [("alert", "disk"), ("subject", id)].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let host = "h-0000000000000001".parse().unwrap();
        Self { id: id.to_owned(), host, status, labels, since_unix_ms: 0, seen_unix_ms: 0, muted: None }
    }
}

#[cfg(test)]
pub(super) fn status(alert: &str, subject: &str, severity: Severity) -> AlertStatus {
    let key = drover_proto::alert::AlertKey { alert: alert.parse().unwrap(), app: None, subject: subject.to_owned() };
    AlertStatus {
        key,
        state: AlertState::Firing,
        severity,
        since_unix_ms: 0,
        summary: "it is full".to_owned(),
        held: false,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    //! Labels, and what holds alerts back.
    use super::*;

    fn hosts(status: AlertStatus) -> BTreeMap<HostId, Entry> {
        let labels =
            [("role", "db"), ("host", "forged")].map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap()));
        let entry = Entry {
            name: "web-1".parse().unwrap(),
            labels: labels.into(),
            agent_version: String::new(),
            last_seen_ms: None,
            reported: vec![status],
            known: Known::default(),
            away: None,
        };
        BTreeMap::from([("h-0000000000000001".parse().unwrap(), entry)])
    }

    #[test]
    fn drovers_own_labels_cannot_be_taken_from_it() {
        let mut said = status("disk", "/", Severity::Critical);
        said.labels = [("severity".parse().unwrap(), "info".parse().unwrap())].into();
        let all = alerts(&hosts(said), &Alerting::default(), &[], 5);
        let labels: Vec<(&str, &str)> =
            all[0].labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            labels,
            [("alert", "disk"), ("host", "web-1"), ("role", "db"), ("severity", "critical"), ("subject", "/")]
        );
    }

    #[test]
    fn a_host_does_not_speak_for_the_coordinator() {
        let mut rules = Alerting { off: ["clock-skew".parse().unwrap()].into(), ..Alerting::default() };
        let rule = |when: &str| toml::from_str(&format!("when = {when:?}\nhosts = {{ role = \"db\" }}")).unwrap();
        rules.rules.insert("gone".parse().unwrap(), rule("host unreachable for 1h"));
        rules.rules.insert("agent-version".parse().unwrap(), rule("cpu > 90%"));
        let heard = |name: &str, app: Option<&str>| {
            let mut said = status(name, "", Severity::Critical);
            said.key.app = app.map(|app| app.parse().unwrap());
            let mut hosts = hosts(said);
            hosts.values_mut().for_each(|entry| entry.known.own = vec![status("unreachable", "", Severity::Critical)]);
            alerts(&hosts, &rules, &[], 5).len() - 1
        };
        assert_eq!((heard("unreachable", None), heard("clock-skew", None), heard("gone", None)), (0, 0, 0));
        assert_eq!((heard("disk", None), heard("unreachable", Some("shop"))), (1, 1));
        assert_eq!(heard("agent-version", None), 1, "where a rule of the host's takes its place");
    }

    #[test]
    fn what_was_kept_before_there_was_more_to_keep_is_read() {
        let own = vec![status("unreachable", "", Severity::Critical)];
        let known = Known { own, seen: vec![(status("disk", "/", Severity::Info).key, 7)] };
        let of_old = Known::read(&serde_json::to_string(&known.own).unwrap());
        assert_eq!(of_old, Known { seen: vec![], ..known.clone() });
        assert_eq!(Known::read(&serde_json::to_string(&known).unwrap()), known);
        assert_eq!(Known::read("?"), Known::default());
    }

    #[test]
    fn silences_hold_back_what_they_match_for_as_long_as_they_last() {
        let silence = |matcher: &str| Silence {
            id: "s1".to_owned(),
            matchers: vec![matcher.parse().unwrap()],
            starts_ms: 10,
            ends_ms: 20,
            by: "ada".to_owned(),
            reason: "moving the disk".to_owned(),
        };
        let muted = |matcher: &str, now| {
            let silences = [silence(matcher)];
            let hosts = hosts(status("disk", "/", Severity::Warning));
            alerts(&hosts, &Alerting::default(), &silences, now).remove(0).muted
        };
        assert_eq!(muted("role=db", 15).as_deref(), Some("silenced by ada (s1): moving the disk"));
        assert_eq!((muted("role=db", 9), muted("role=db", 20), muted("role=web", 15)), (None, None, None));
        let held = AlertStatus { held: true, ..status("disk", "/", Severity::Warning) };
        let all = alerts(&hosts(held), &Alerting::default(), &[], 5);
        assert!(all[0].muted.as_deref().is_some_and(|why| why.contains("rollout")));
    }
}
