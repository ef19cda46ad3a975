//! The alerting file, `/etc/drover/alerting.toml`: rules for all hosts, routes, receivers, maintenance windows. `engine` follows it;
//! `app` reads it again on SIGHUP.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::LazyLock,
};

use drover_proto::{
    alert::{AlertRule, Condition, RuleSet, Severity, Threshold},
    duration::Span,
    limits::{MAX_ALERT_RULES, MAX_ALERTS_PER_HOST},
    name::{AlertName, LabelKey, LabelValue, NotifierName},
};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{maintenance::Window, matcher::Matcher};
use crate::{
    config::{self, ConfigError},
    notify::target::{Notifier, NotifierConfig},
};

/// Where the file is unless `alerting` in `coordinator.toml` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/drover/alerting.toml";

/// The default rules that the coordinator looks at itself.
static OWN: LazyLock<BTreeSet<AlertName>> = LazyLock::new(|| {
    let rules = RuleSet::default().effective().into_iter();
    rules.filter(|(_, rule)| rule.when.test.is_of_coordinator()).map(|(name, _)| name).collect()
});

/// The whole file; empty = the default rules, and nobody is told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerting {
    /// Default rules that do not count.
    pub off: BTreeSet<AlertName>,
    /// Further rules, and those that take the place of a default.
    pub rules: BTreeMap<AlertName, FleetRule>,
    /// Who can be told.
    pub notifiers: BTreeMap<NotifierName, NotifierConfig>,
    /// Who is told of what; the first that matches. Without any, every notifier is told of everything.
    pub routes: Vec<Route>,
    /// When nobody is told.
    pub maintenance: Vec<Window>,
    /// How much one receiver is told.
    pub limits: Limits,
}

/// `[rules.NAME]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetRule {
    /// Only on hosts with all of these labels.
    #[serde(default)]
    pub hosts: BTreeMap<LabelKey, LabelValue>,
    /// As in a manifest.
    pub when: Condition,
    /// As in a manifest.
    pub clear: Option<Threshold>,
    /// As in a manifest.
    pub every: Option<Span>,
    /// As in a manifest.
    pub severity: Option<Severity>,
    /// As in a manifest.
    #[serde(default)]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// As in a manifest.
    #[serde(default)]
    pub annotations: BTreeMap<LabelKey, String>,
}

impl FleetRule {
    /// The rule as hosts get it.
    #[must_use]
    pub fn rule(&self) -> AlertRule {
        let usual = AlertRule::new(self.when.clone());
        AlertRule {
            clear: self.clear,
            every: self.every.unwrap_or(usual.every),
            severity: self.severity.unwrap_or(usual.severity),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            ..usual
        }
    }

    fn is_for(&self, labels: &BTreeMap<LabelKey, LabelValue>) -> bool {
        self.hosts.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// `[[routes]]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Of the alerts that take it; none = all.
    #[serde(default, rename = "match")]
    pub matchers: Vec<Matcher>,
    /// Who is told; none = nobody.
    #[serde(default, deserialize_with = "each_once")]
    pub notify: Vec<NotifierName>,
    /// Alerts that have these labels in common are told together.
    #[serde(default = "group_by")]
    pub group_by: Vec<String>,
    /// From the first alert of a group until it is told, for others to join.
    #[serde(default = "group_wait")]
    pub group_wait: Span,
    /// Until a group is told again, when there is something new.
    #[serde(default = "group_interval")]
    pub group_interval: Span,
    /// Until it is told again, when there is not.
    #[serde(default = "repeat")]
    pub repeat: Span,
    /// Who is told when it goes on for too long.
    #[serde(default)]
    pub escalate: Vec<Escalation>,
    /// Later routes are looked at, too.
    #[serde(default, rename = "continue")]
    pub goes_on: bool,
}

/// `escalate = [{ after = "30m", notify = ["boss"] }]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// An alert has been firing for so long.
    pub after: Span,
    /// Who is told then.
    #[serde(deserialize_with = "each_once")]
    pub notify: Vec<NotifierName>,
}

/// `[limits]`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Notifications that one receiver gets in a minute; what is more is told later, together.
    pub per_minute: u32,
    /// Alerts that one notification lists.
    pub alerts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_minute: 20, alerts: 50 }
    }
}

/// Refused here, where the place in the file is known.
fn each_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NotifierName>, D::Error> {
    let names = Vec::<NotifierName>::deserialize(deserializer)?;
    match twice(&names) {
        Some(name) => Err(D::Error::custom(format!("notify: {name} stands in it twice"))),
        None => Ok(names),
    }
}

/// The first that was there before.
fn twice<'a>(names: impl IntoIterator<Item = &'a NotifierName>) -> Option<&'a NotifierName> {
    let mut known = BTreeSet::new();
    names.into_iter().find(|name| !known.insert(*name))
}

fn group_by() -> Vec<String> {
    vec!["alert".to_owned(), "app".to_owned()]
}
fn group_wait() -> Span {
    Span::from_ms(100)
}
fn group_interval() -> Span {
    Span::from_secs(60)
}
fn repeat() -> Span {
    Span::from_secs(4 * 3600)
}

impl Route {
    /// Everything to everybody.
    fn to_all(notify: Vec<NotifierName>) -> Self {
        Self {
            matchers: vec![],
            notify,
            group_by: group_by(),
            group_wait: group_wait(),
            group_interval: group_interval(),
            repeat: repeat(),
            escalate: vec![],
            goes_on: false,
        }
    }
}

/// With all that is wrong, if anything is.
fn refuse(path: &Path, wrong: &[String]) -> Result<(), ConfigError> {
    if wrong.is_empty() {
        return Ok(());
    }
    Err(ConfigError::Refused { path: path.display().to_string(), reason: wrong.join("; ") })
}

impl Alerting {
    /// Reads the file, and the files that it names.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        if let Err(source) = path.metadata() {
            return Err(ConfigError::Read { path: path.display().to_string(), source });
        }
        let (alerting, mut wrong) = Self::parse(path)?;
        wrong.extend(alerting.check_files());
        refuse(path, &wrong)?;
        Ok(alerting)
    }

    /// For a start, which must not fail for a file that one notifier needs: that is read anew for each notification, and said then.
    /// Without the alerting file itself every default counts.
    pub fn begin(path: &Path) -> Result<Self, ConfigError> {
        let (alerting, wrong) = Self::parse(path)?;
        refuse(path, &wrong)?;
        for wrong in alerting.check_files() {
            tracing::error!(path = %path.display(), "nobody is told by one notifier: {wrong}");
        }
        Ok(alerting)
    }

    /// And what is wrong with it by itself.
    fn parse(path: &Path) -> Result<(Self, Vec<String>), ConfigError> {
        let mut alerting: Self = config::read(path)?;
        let wrong = alerting.check();
        if alerting.routes.is_empty() && !alerting.notifiers.is_empty() {
            alerting.routes = vec![Route::to_all(alerting.notifiers.keys().cloned().collect())];
        }
        Ok((alerting, wrong))
    }

    /// What is wrong with the files that notifiers need.
    fn check_files(&self) -> Vec<String> {
        let check = |(name, config): (&NotifierName, &NotifierConfig)| {
            let checked = Notifier::new(name.clone(), config).check();
            checked.err().map(|e| format!("notifiers.{name}: {}", e.problem))
        };
        self.notifiers.iter().filter_map(check).collect()
    }

    /// What one field's type cannot hold, each with its place.
    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, rule) in &self.rules {
            wrong.extend(rule.rule().check().into_iter().map(|(field, what)| format!("rules.{name}.{field}: {what}")));
        }
        if self.rules.len() > MAX_ALERT_RULES {
            wrong.push(format!("rules: at most {MAX_ALERT_RULES}"));
        }
        let known = RuleSet::default().effective();
        for name in self.off.iter().filter(|name| !known.contains_key(*name)) {
            let names: Vec<&str> = known.keys().map(AlertName::as_str).collect();
            wrong.push(format!("off: there is no default rule {name}; there are {}", names.join(", ")));
        }
        for (at, route) in self.routes.iter().enumerate() {
            self.check_route(route, &format!("routes[{at}]"), &mut wrong);
        }
        for (at, window) in self.maintenance.iter().enumerate() {
            wrong.extend(window.check().map(|what| format!("maintenance[{at}] ({}): {what}", window.name)));
        }
        if self.limits.per_minute == 0 || !(1..=MAX_ALERTS_PER_HOST).contains(&self.limits.alerts) {
            wrong.push(format!("limits: per_minute is at least 1, and alerts 1 to {MAX_ALERTS_PER_HOST}"));
        }
        wrong
    }

    fn check_route(&self, route: &Route, place: &str, wrong: &mut Vec<String>) {
        let told = || route.notify.iter().chain(route.escalate.iter().flat_map(|step| &step.notify));
        if let Some(name) = twice(told()) {
            wrong.push(format!("{place}.escalate: {name} is told by this route already"));
        }
        for name in told().filter(|name| !self.notifiers.contains_key(*name)) {
            let names: Vec<&str> = self.notifiers.keys().map(NotifierName::as_str).collect();
            wrong.push(format!("{place}: there is no notifier {name}; there are: {}", names.join(", ")));
        }
        if route.group_interval < Span::from_secs(1) || route.repeat < Span::from_secs(60) {
            wrong.push(format!("{place}: group_interval is at least 1s, and repeat at least 1m"));
        }
        if route.escalate.iter().any(|step| step.after == Span::default()) {
            wrong.push(format!("{place}: escalate after 0s is the same as notify"));
        }
    }

    /// What is in it, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let Self { off, rules, notifiers, routes, maintenance, .. } = self;
        let (rules, notifiers) = (rules.len(), notifiers.len());
        let rest = format!("{} routes, {} maintenance windows", routes.len(), maintenance.len());
        format!("good: {rules} rules ({} defaults off), {notifiers} notifiers, {rest}", off.len())
    }

    /// The rules of a host with these labels.
    #[must_use]
    pub fn rules_of(&self, labels: &BTreeMap<LabelKey, LabelValue>) -> RuleSet {
        let rules = self.rules.iter().filter(|(_, rule)| rule.is_for(labels));
        RuleSet { rules: rules.map(|(name, rule)| (name.clone(), rule.rule())).collect(), off: self.off.clone() }
    }

    /// Whether only the coordinator tells alerts of this name, of a host with these labels; also while their rule is off.
    #[must_use]
    pub fn is_own(&self, name: &AlertName, labels: &BTreeMap<LabelKey, LabelValue>) -> bool {
        match self.rules.get(name).filter(|rule| rule.is_for(labels)) {
            Some(rule) => rule.when.test.is_of_coordinator(),
            None => OWN.contains(name),
        }
    }
}

#[cfg(test)]
mod tests {
    //! What is read, and mistakes told with their place.
    use std::fs;

    use super::*;

    fn read(text: &str) -> Result<Alerting, String> {
        drover_proto::tls::install();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerting.toml");
        fs::write(&path, text).unwrap();
        Alerting::read(&path).map_err(|e| e.to_string())
    }

    const HOOK: &str = "[notifiers.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n";

    #[test]
    fn a_missing_file_has_the_default_rules_and_tells_nobody() {
        let none = Alerting::begin(Path::new("/nonexistent/alerting.toml")).unwrap();
        assert!(Alerting::read(Path::new("/nonexistent/alerting.toml")).is_err());
        assert!(
            none.routes.is_empty()
                && none.rules_of(&BTreeMap::new()).effective().contains_key(&"disk".parse().unwrap())
        );
        let all = read(HOOK).unwrap();
        assert_eq!(all.routes.len(), 1, "without routes every notifier is told of everything");
    }

    #[test]
    fn what_one_notifier_needs_is_asked_for_by_a_check_and_not_by_a_start() {
        drover_proto::tls::install();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerting.toml");
        let gone = dir.path().join("gone");
        fs::write(&path, format!("[notifiers.chat]\ntype = \"slack\"\nurl_file = {gone:?}\n{HOOK}")).unwrap();
        let said = Alerting::read(&path).unwrap_err().to_string();
        assert!(said.contains("notifiers.chat: `url_file`"), "{said}");
        assert_eq!(Alerting::begin(&path).unwrap().notifiers.len(), 2);
        fs::write(&path, "[notifiers.chat]\ntype = \"slack\"\n").unwrap();
        assert!(Alerting::begin(&path).is_err(), "what is wrong in the file itself is");
    }

    #[test]
    fn rules_are_for_hosts_with_their_labels_and_take_the_place_of_defaults() {
        let text = "off = [\"swap\"]\n[rules.disk]\nwhen = \"disk > 80%\"\nseverity = \"critical\"\nhosts = { role = \"db\" }\n";
        let alerting = read(text).unwrap();
        let disk = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap())).collect();
            let rules = alerting.rules_of(&labels).effective();
            assert!(!rules.contains_key(&"swap".parse().unwrap()));
            rules[&"disk".parse().unwrap()].when.to_string()
        };
        assert_eq!((disk(&[("role", "db")]).as_str(), disk(&[]).as_str()), ("disk > 80%", "disk > 90% for 5m"));
    }

    #[test]
    fn mistakes_are_told_with_line_or_place() {
        let rows = [
            ("[rules.x]\nwhen = \"cpuu > 80%\"\n", "line 2"),
            ("[rules.x]\nwhen = \"cpuu > 80%\"\n", "no such metric"),
            ("[rules.x]\nwhen = \"cpu > 80%\"\nclear = \"90%\"\n", "rules.x.clear"),
            ("[rules.x]\nwhen = \"cpu > 80%\"\nevery = \"10ms\"\n", "rules.x.every"),
            ("off = [\"swapp\"]\n", "no default rule swapp"),
            ("[[routes]]\nnotify = [\"ops\"]\n", "routes[0]: there is no notifier ops"),
            ("[[routes]]\n\nnotify = [\"a\", \"b\", \"a\"]\n", "line 3"),
            ("[[routes]]\n\nnotify = [\"a\", \"b\", \"a\"]\n", "notify: a stands in it twice"),
            ("[[routes]]\nescalate = [{ after = \"1m\", notify = [\"a\", \"a\"] }]\n", "line 2"),
            (
                "[[routes]]\nnotify = [\"a\"]\nescalate = [{ after = \"1m\", notify = [\"a\"] }]\n",
                "routes[0].escalate: a is told by this route already",
            ),
            ("[[routes]]\nmatch = [\"host\"]\n", "no matcher"),
            ("[[routes]]\nrepeat = \"1s\"\n", "routes[0]"),
            ("[[maintenance]]\nname = \"x\"\nstart = \"2\"\nlasts = \"1h\"\n", "time of day"),
            ("[[maintenance]]\nname = \"x\"\nstart = \"02:00\"\nlasts = \"100d\"\n", "maintenance[0] (x)"),
            ("[limits]\nper_minute = 0\n", "limits"),
            ("[rule.x]\n", "unknown field"),
            (&format!("{HOOK}template = \"{{{{ alerts[0].labels.subject }}}}\"\n"), "notifiers.hook: `template`"),
            (&format!("{HOOK}template = \"{{{{ alerts[0].annotations.runbook }}}}\"\n"), "notifiers.hook: `template`"),
        ];
        for (text, told) in rows {
            let said = read(text).unwrap_err();
            assert!(said.contains(told) && said.contains("alerting.toml"), "{text}: {said}");
        }
    }
}
