//! Alerts: a rule as people write it, and an alert as a host reports it. `condition` is the language of `when`; `defaults` are
//! the rules that every host has. The agent evaluates them, the coordinator notifies.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    duration::Span,
    limits::{MAX_ALERT_TEXT_BYTES, MAX_ALERT_WORDS},
    name::{AlertName, AppName, LabelKey, LabelValue},
};

mod condition;
mod defaults;

pub use condition::{Condition, ConditionError, Level, Metric, Test, Threshold};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at.
    Warning,
    /// Now. On a host that a release is being activated on, its gate fails.
    Critical,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertRule {
    /// What must hold, and for how long without a break.
    pub when: Condition,
    /// Once it fires it goes on until the value is past this one; absent = past the threshold of `when`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<Threshold>,
    /// From one look to the next.
    #[serde(default = "every", skip_serializing_if = "is_every")]
    pub every: Span,
    /// How bad it is.
    #[serde(default = "severity", skip_serializing_if = "is_warning")]
    pub severity: Severity,
    /// Further labels of its alerts, for routes and silences.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// What people are told with it, e.g. `runbook`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<LabelKey, String>,
}

const EVERY: Span = Span::from_secs(10);
/// How often rules may be looked at.
const LOOKS: std::ops::RangeInclusive<Span> = Span::from_secs(1)..=Span::from_secs(3600);
/// Labels that say what an alert is; a rule cannot set them.
pub const OWN_LABELS: [&str; 5] = ["alert", "app", "host", "severity", "subject"];

fn every() -> Span {
    EVERY
}
fn is_every(every: &Span) -> bool {
    *every == EVERY
}
fn severity() -> Severity {
    Severity::Warning
}
fn is_warning(severity: &Severity) -> bool {
    *severity == Severity::Warning
}

impl AlertRule {
    /// A rule with nothing but its condition.
    #[must_use]
    pub fn new(when: Condition) -> Self {
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        Self { when, clear: None, every: EVERY, severity: Severity::Warning, labels, annotations }
    }

    /// What one field's type cannot hold: which field, and what is wrong with it.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        match (&self.when.test, self.clear) {
            (Test::Level(level), Some(clear)) if level.is_cleared_beyond(clear) => {}
            (Test::Level(level), Some(_)) => {
                let side = if level.above { "at most" } else { "at least" };
                found.push((
                    "clear",
                    format!("must be {side} {}, where it begins", level.threshold.shown(level.metric)),
                ));
            }
            (_, Some(_)) => found.push(("clear", "is for rules with a number, such as cpu > 80%".to_owned())),
            (_, None) => {}
        }
        if !LOOKS.contains(&self.every) {
            found.push(("every", format!("must be {} to {}", LOOKS.start(), LOOKS.end())));
        }
        if let Some(own) = self.labels.keys().find(|key| OWN_LABELS.contains(&key.as_str())) {
            found.push(("labels", format!("{own} is set by drover itself: take another name")));
        }
        if self.labels.len() > MAX_ALERT_WORDS || self.annotations.len() > MAX_ALERT_WORDS {
            found.push(("labels", format!("at most {MAX_ALERT_WORDS} labels, and as many annotations")));
        }
        if let Some((key, _)) = self.annotations.iter().find(|(_, text)| text.len() > MAX_ALERT_TEXT_BYTES) {
            found.push(("annotations", format!("{key} is longer than {MAX_ALERT_TEXT_BYTES} bytes")));
        }
        found
    }
}

/// The rules of one host beside those of its apps: what the coordinator sends, over the defaults. A document.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSet {
    /// Further rules, and those that take the place of a default of their name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<AlertName, AlertRule>,
    /// Defaults that do not count.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub off: BTreeSet<AlertName>,
}

impl RuleSet {
    /// All rules that count, defaults among them.
    #[must_use]
    pub fn effective(&self) -> BTreeMap<AlertName, AlertRule> {
        let mut all = defaults::rules();
        all.retain(|name, _| !self.off.contains(name));
        all.extend(self.rules.iter().map(|(name, rule)| (name.clone(), rule.clone())));
        all
    }
}

/// Where an alert is. One that is inactive, or resolved, is not reported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The condition holds, but not for long enough.
    Pending,
    /// It does.
    Firing,
}

/// What tells alerts of one host apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct AlertKey {
    /// The rule.
    pub alert: AlertName,
    /// Whose rule it is, or whose check, unit or container it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// What it is about: a mount point, a check, a unit, a container …; empty = the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
}

/// An alert of a host. Pending or firing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlertStatus {
    /// Which.
    #[serde(flatten)]
    pub key: AlertKey,
    /// Where it is.
    pub state: AlertState,
    /// Of its rule.
    pub severity: Severity,
    /// When it came into this state; Unix ms on the host's clock.
    pub since_unix_ms: i64,
    /// One plain sentence, with the value that it had then.
    pub summary: String,
    /// A rollout works on the app here: nobody is notified of it until that is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Of its rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Of its rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<LabelKey, String>,
}
