//! Pure: how alerts go from inactive to pending to firing and back, look by look. `lasts` is counted by the time since the boot, which
//! nobody can set. Beside `alert`; `judge` says what a look found.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    alert::{AlertKey, AlertState, AlertStatus, Condition, Severity, Test},
    duration::Span,
    limits::MAX_ALERTS_PER_HOST,
    name::{AlertName, AppName},
};
use serde::{Deserialize, Serialize};

use super::rules::{Active, RuleId};

/// Alerts that are remembered at one time; what comes past them is not.
const MAX_HELD: usize = 1000;
/// Of all apps together, so that none takes the host's own places, …
const MAX_OF_APPS: usize = 800;
/// … and of one rule about one of them, or about the host, so that none takes the places of another.
const MAX_OF_RULE: usize = 100;
/// What stands in a report for those that have no room in it, or may have none here.
pub const REST: &str = "further-alerts";

/// When a look was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Since the boot, ms; suspended time counts.
    pub boot_ms: u64,
    /// By the wall clock: only for people.
    pub unix_ms: i64,
}

/// What a look says of one subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The condition holds.
    Holds,
    /// It does not, but what fires goes on.
    Between,
    /// It does not.
    Clear,
    /// Nobody can say: all stays as it is.
    Unknown,
}

/// What a look found of one subject of a rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// Whose it is.
    pub app: Option<AppName>,
    /// What it is about.
    pub subject: String,
    /// Of which service of which compose project it is, if it is a container of one and that is known.
    pub service: Option<String>,
    /// How it is.
    pub verdict: Verdict,
    /// The same in words, such as `disk / is 93.4% full`.
    pub said: String,
}

/// An alert that is pending or fires.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Whose rule it is of; `None` = of the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<AppName>,
    /// In this state since then, ms since the boot.
    pub since_boot_ms: u64,
    /// What its rule looked at, as the rule says it; none: an older agent has kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// As its finding has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// As it is reported, but for `held`.
    pub status: AlertStatus,
}

impl Held {
    /// Its rule.
    #[must_use]
    pub fn rule(&self) -> RuleId {
        RuleId { app: self.of.clone(), alert: self.status.key.alert.clone() }
    }
}

/// Something to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turned {
    /// Which alert.
    pub key: AlertKey,
    /// It fires; otherwise it did, and does no more.
    pub fires: bool,
    /// One sentence.
    pub message: String,
}

/// All alerts of a host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    alerts: BTreeMap<AlertKey, Held>,
    changed: bool,
}

impl Machine {
    /// As they were when the agent ended. `same_boot`: the host has not been booted since; otherwise what was pending begins anew.
    #[must_use]
    pub fn resumed(kept: Vec<Held>, same_boot: bool) -> Self {
        let of_now = |mut held: Held| match held.status.state {
            AlertState::Pending => same_boot.then_some(held),
            AlertState::Firing => {
                held.since_boot_ms = if same_boot { held.since_boot_ms } else { 0 };
                Some(held)
            }
        };
        let alerts = kept.into_iter().filter_map(of_now).take(MAX_HELD);
        Self { alerts: alerts.map(|held| (held.status.key.clone(), held)).collect(), changed: false }
    }

    /// All that are pending or fire.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.alerts.values()
    }

    /// Whether something is another than at the last time that this was asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Takes what a look found for a rule; `None`: it could not look. A subject that is not among them is gone.
    pub fn look(&mut self, active: &Active, found: Option<&[Finding]>, now: Now) -> Vec<Turned> {
        let mut turned = Vec::new();
        let Some(found) = found else { return turned };
        let mut seen = BTreeSet::new();
        for finding in found {
            let alert = active.id.alert.clone();
            let key = AlertKey { alert, app: finding.app.clone(), subject: finding.subject.clone() };
            // Two things that are called the same are one alert: the first of them.
            if seen.insert(key.clone()) {
                turned.extend(self.see(key, active, finding, now));
            }
        }
        let of_rule = |held: &Held| held.of == active.id.app && held.status.key.alert == active.id.alert;
        turned.extend(self.end(now, |key, held| of_rule(held) && !seen.contains(key)));
        turned
    }

    /// Ends what no rule is about any more.
    pub fn keep_rules(&mut self, rules: &BTreeSet<RuleId>, now: Now) -> Vec<Turned> {
        self.end(now, |_, held| !rules.contains(&held.rule()))
    }

    /// When something that is pending has lasted long enough, of the rules that `lasts` knows and after `after`: what could not be
    /// seen then is not asked for over and over. All in ms since the boot.
    #[must_use]
    pub fn next_due(&self, lasts: impl Fn(&RuleId) -> Option<Span>, after: u64) -> Option<u64> {
        let pending = self.alerts.values().filter(|held| held.status.state == AlertState::Pending);
        let due = |held: &Held| Some(held.since_boot_ms.saturating_add(lasts(&held.rule())?.as_ms()));
        pending.filter_map(due).filter(|due| *due > after).min()
    }

    fn see(&mut self, key: AlertKey, active: &Active, finding: &Finding, now: Now) -> Option<Turned> {
        let lasts = active.rule.when.lasts;
        // What was pending for what the rule looked at before says nothing of what it looks at now.
        if self.alerts.get(&key).is_some_and(|held| held.is_pending_for_another(active)) {
            self.alerts.remove(&key);
            self.changed = true;
        }
        let Some(held) = self.alerts.get_mut(&key) else {
            if finding.verdict != Verdict::Holds || !self.has_room(&key) {
                return None;
            }
            let state = if lasts == Span::default() { AlertState::Firing } else { AlertState::Pending };
            let held = begun(key.clone(), active, finding, state, now);
            let turned = (state == AlertState::Firing).then(|| fires(&held.status));
            self.alerts.insert(key, held);
            self.changed = true;
            return turned;
        };
        self.changed |= held.follow(active, finding);
        match (held.status.state, finding.verdict) {
            (AlertState::Pending, Verdict::Holds)
                if now.boot_ms.saturating_sub(held.since_boot_ms) >= lasts.as_ms() =>
            {
                *held = begun(key, active, finding, AlertState::Firing, now);
                self.changed = true;
                Some(fires(&held.status))
            }
            (AlertState::Pending, Verdict::Between | Verdict::Clear) => {
                self.alerts.remove(&key);
                self.changed = true;
                None
            }
            (AlertState::Firing, Verdict::Clear) => {
                let over = over(held, &finding.said, now);
                self.alerts.remove(&key);
                self.changed = true;
                Some(over)
            }
            (AlertState::Pending, Verdict::Holds | Verdict::Unknown)
            | (AlertState::Firing, Verdict::Holds | Verdict::Between | Verdict::Unknown) => None,
        }
    }

    fn has_room(&self, key: &AlertKey) -> bool {
        let count = |counts: &dyn Fn(&AlertKey) -> bool| self.alerts.keys().filter(|other| counts(other)).count();
        self.alerts.len() < MAX_HELD
            && count(&|other| other.alert == key.alert && other.app == key.app) < MAX_OF_RULE
            && (key.app.is_none() || count(&|other| other.app.is_some()) < MAX_OF_APPS)
    }

    fn end(&mut self, now: Now, ends: impl Fn(&AlertKey, &Held) -> bool) -> Vec<Turned> {
        let gone: Vec<AlertKey> =
            self.alerts.iter().filter(|(key, held)| ends(key, held)).map(|(key, _)| key.clone()).collect();
        let mut turned = Vec::new();
        for held in gone.iter().filter_map(|key| self.alerts.remove(key)) {
            self.changed = true;
            if held.status.state == AlertState::Firing {
                turned.push(over(&held, "there is nothing left that it is about", now));
            }
        }
        turned
    }

    /// As they are reported, in the order of their keys. `in_flight`: apps that are being activated here. With too many the worst
    /// are told, and one that says so; so it does of a rule that has all the places it may have.
    #[must_use]
    pub fn reported(&self, in_flight: &BTreeSet<AppName>) -> Vec<AlertStatus> {
        let is_held = |key: &AlertKey| key.app.as_ref().is_some_and(|app| in_flight.contains(app));
        let all = self.alerts.values().map(|held| &held.status);
        let mut all: Vec<AlertStatus> =
            all.map(|status| AlertStatus { held: is_held(&status.key), ..status.clone() }).collect();
        let mut counts: BTreeMap<(&AlertName, &Option<AppName>), usize> = BTreeMap::new();
        for key in self.alerts.keys() {
            *counts.entry((&key.alert, &key.app)).or_default() += 1;
        }
        let is_full = |key: &AlertKey| counts.get(&(&key.alert, &key.app)).is_some_and(|count| *count >= MAX_OF_RULE);
        let mut rest: Vec<AlertStatus> = all.iter().filter(|status| is_full(&status.key)).cloned().collect();
        if all.len() + usize::from(!rest.is_empty()) > MAX_ALERTS_PER_HOST {
            all.sort_by_key(|status| std::cmp::Reverse((status.state, status.severity)));
            rest.extend(all.split_off(MAX_ALERTS_PER_HOST.saturating_sub(1)));
        }
        all.extend(one_of(&rest));
        all.sort_by(|one, other| one.key.cmp(&other.key));
        all
    }
}

impl Held {
    fn is_pending_for_another(&self, active: &Active) -> bool {
        self.status.state == AlertState::Pending && self.test.as_ref().is_some_and(|test| *test != test_of(active))
    }

    /// What its rule says by now, and of what it is; whether that is another than before.
    fn follow(&mut self, active: &Active, finding: &Finding) -> bool {
        let (status, rule) = (&mut self.status, &active.rule);
        let test = Some(test_of(active));
        let same = self.of == active.id.app
            && self.test == test
            && self.service == finding.service
            && status.severity == rule.severity
            && status.labels == rule.labels
            && status.annotations == rule.annotations;
        if !same {
            self.of.clone_from(&active.id.app);
            self.test = test;
            self.service.clone_from(&finding.service);
            status.severity = rule.severity;
            status.labels.clone_from(&rule.labels);
            status.annotations.clone_from(&rule.annotations);
        }
        !same
    }
}

fn begun(key: AlertKey, active: &Active, finding: &Finding, state: AlertState, now: Now) -> Held {
    let rule = &active.rule;
    let status = AlertStatus {
        key,
        state,
        severity: rule.severity,
        since_unix_ms: now.unix_ms,
        summary: summary(active, &finding.said, state),
        held: false,
        labels: rule.labels.clone(),
        annotations: rule.annotations.clone(),
    };
    let (of, test, service) = (active.id.app.clone(), Some(test_of(active)), finding.service.clone());
    Held { of, since_boot_ms: now.boot_ms, test, service, status }
}

/// In words, so that one which an older agent does not know makes nothing unreadable for it. For how long is not part of it.
fn test_of(active: &Active) -> String {
    Condition { test: active.rule.when.test.clone(), lasts: Span::default() }.to_string()
}

/// `disk / is 93.4% full, more than 90% for 5m`.
fn summary(active: &Active, said: &str, state: AlertState) -> String {
    let when = &active.rule.when;
    let beyond = match &when.test {
        Test::Level(level) => {
            let side = if level.above { "more" } else { "less" };
            format!(", {side} than {}", level.threshold.shown(level.metric))
        }
        _ => String::new(),
    };
    let lasts = match (state, when.lasts == Span::default(), beyond.is_empty()) {
        (AlertState::Pending, ..) | (_, true, _) => String::new(),
        (AlertState::Firing, false, true) => format!(", for {}", when.lasts),
        (AlertState::Firing, false, false) => format!(" for {}", when.lasts),
    };
    super::judge::shortened(&format!("{said}{beyond}{lasts}"), drover_proto::limits::MAX_ALERT_TEXT_BYTES)
}

fn fires(status: &AlertStatus) -> Turned {
    let message = format!("alert {} ({}): {}", status.key.alert, status.severity.word(), status.summary);
    Turned { key: status.key.clone(), fires: true, message }
}

fn over(held: &Held, said: &str, now: Now) -> Turned {
    let seconds = now.boot_ms.saturating_sub(held.since_boot_ms) / 1000;
    let key = &held.status.key;
    let subject = if key.subject.is_empty() { String::new() } else { format!(" of {}", key.subject) };
    let message = format!("alert {}{subject} is over after {}: {said}", key.alert, Span::from_secs(seconds));
    Turned { key: key.clone(), fires: false, message }
}

/// One alert for many; `None`: for none.
fn one_of(rest: &[AlertStatus]) -> Option<AlertStatus> {
    Some(AlertStatus {
        key: AlertKey { alert: REST.parse().ok()?, app: None, subject: String::new() },
        state: rest.iter().map(|status| status.state).max()?,
        severity: rest.iter().map(|status| status.severity).max().unwrap_or(Severity::Info),
        since_unix_ms: rest.iter().map(|status| status.since_unix_ms).min()?,
        summary: format!(
            "there may be more alerts than are told: at most {MAX_ALERTS_PER_HOST} of a host, and {MAX_OF_RULE} of one rule"
        ),
        held: rest.iter().all(|status| status.held),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests;
