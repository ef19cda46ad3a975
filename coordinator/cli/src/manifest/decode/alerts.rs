//! Reads `alerts`: a list of conditions, or rules by name.

use std::collections::BTreeMap;

use drover_proto::{
    alert::{AlertRule, Condition, ConditionError, Level, Metric, Severity, Test, Threshold},
    name::AlertName,
};

use super::{Decoder, span};
use crate::manifest::{
    diagnostic::did_you_mean,
    yaml::{Node, Value},
};

/// How conditions begin that have no number of a metric.
const STATES: [&str; 9] = [
    "disk full in",
    "check failing",
    "unit failed",
    "container restarting",
    "container gone",
    "oom kill",
    "certificate expires in",
    "host unreachable",
    "clock skew",
];

impl Decoder<'_> {
    pub(super) fn alerts(&mut self, root: &Node) -> BTreeMap<AlertName, AlertRule> {
        let mut alerts = BTreeMap::new();
        let Some(node) = root.get("alerts") else { return alerts };
        for item in node.items() {
            let Some(when) = self.condition(item) else { continue };
            let Some(name) = named(&when.test) else {
                self.reports.at(item, "no short name can be made of it", "write alerts: { NAME: condition }");
                continue;
            };
            if alerts.contains_key(&name) {
                let hint = "two rules of one name: write alerts: { NAME: condition, … } instead of a list";
                self.reports.at(item, format!("there is a rule {name} already"), hint);
                continue;
            }
            self.origin(format!("alerts.{name}"), item);
            alerts.insert(name, AlertRule::new(when));
        }
        for (key, item) in node.entries() {
            let name = self.parse_at(key.at, &item.path, &key.text);
            let rule = match &item.value {
                Value::Map(_) => self.rule(item),
                _ => self.condition(item).map(AlertRule::new),
            };
            if let (Some(name), Some(rule)) = (name, rule) {
                alerts.insert(name, rule);
            }
        }
        alerts
    }

    fn rule(&mut self, node: &Node) -> Option<AlertRule> {
        let when = node.get("when").and_then(|when| self.condition(when));
        let clear = match node.get("clear") {
            None => None,
            Some(clear) => {
                let text = self.plain(clear)?;
                let read = text.parse::<Threshold>();
                if let Err(error) = &read {
                    self.reports.at(clear, format!("{text:?} is no number"), error.what.clone());
                }
                Some(read.ok()?)
            }
        };
        let mut labels = BTreeMap::new();
        for (key, value) in node.get("labels").into_iter().flat_map(Node::entries) {
            let name = self.parse_at(key.at, &value.path, &key.text);
            if let (Some(name), Some(value)) = (name, self.name(value)) {
                labels.insert(name, value);
            }
        }
        let mut annotations = BTreeMap::new();
        for (key, value) in node.get("annotations").into_iter().flat_map(Node::entries) {
            let name = self.parse_at(key.at, &value.path, &key.text);
            if let (Some(name), Some(text)) = (name, self.plain(value)) {
                annotations.insert(name, text);
            }
        }
        let severity = match node.get("severity").and_then(Node::scalar).map(|it| it.text.as_str()) {
            Some("info") => Severity::Info,
            Some("critical") => Severity::Critical,
            _ => Severity::Warning,
        };
        let rule = AlertRule::new(when?);
        let every = span(node, "every").unwrap_or(rule.every);
        Some(AlertRule { clear, every, severity, labels, annotations, ..rule })
    }

    fn condition(&mut self, node: &Node) -> Option<Condition> {
        let text = self.plain(node)?;
        match text.parse() {
            Ok(condition) => Some(condition),
            Err(ConditionError { word, what }) => {
                let hint = meant(&text).map_or(what, |known| format!("did you mean {known}?"));
                self.reports.at(node, format!("{word:?} is not understood"), hint);
                None
            }
        }
    }
}

/// The metric or state that a condition was perhaps meant to be about; `None` also when it is one of them.
fn meant(text: &str) -> Option<&'static str> {
    let said = text.split(['<', '>']).next().unwrap_or_default();
    let words: Vec<&str> =
        said.split_whitespace().take_while(|word| *word != "for" && !word.starts_with('/')).collect();
    let said = words.join(" ");
    let known = Metric::ALL.map(|(_, word)| word).into_iter().chain(STATES);
    if said.is_empty() || known.clone().any(|word| word == said) {
        return None;
    }
    did_you_mean(&said, known)
}

/// A name for a rule that was given none: what it is about.
fn named(test: &Test) -> Option<AlertName> {
    let of = |kind: &str, name: &Option<String>| match name {
        Some(name) => format!("{kind}-{name}"),
        None => kind.to_owned(),
    };
    let at = |mount: &Option<drover_proto::name::MountPoint>| mount.as_ref().map(|mount| mount.as_str().to_owned());
    let text = match test {
        Test::Level(Level { metric, mount, .. }) => of(metric.word(), &at(mount)),
        Test::DiskFull { mount, .. } => of("disk-full", &at(mount)),
        Test::CheckFailing(name) => of("check", name),
        Test::UnitFailed(name) => of("unit", name),
        Test::ContainerRestarting(name) => of("container-restarting", name),
        Test::ContainerGone(name) => of("container-gone", name),
        Test::OomKill => "oom".to_owned(),
        Test::CertificateExpires(_) => "certificate".to_owned(),
        Test::ClockSkew(_) => "clock-skew".to_owned(),
        Test::HostUnreachable => "unreachable".to_owned(),
        Test::VersionSkew => "agent-version".to_owned(),
    };
    let plain = text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "-");
    let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
    words.join("-").parse().ok()
}
