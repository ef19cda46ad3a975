//! The rules that every host has when nobody has said anything. Part of `alert`.

use std::{collections::BTreeMap, sync::LazyLock};

use super::{AlertRule, Severity};
use crate::name::AlertName;

/// Name, condition, the threshold at which it ends, severity.
const RULES: [(&str, &str, &str, Severity); 18] = [
    ("cpu", "cpu > 90% for 15m", "80%", Severity::Warning),
    ("memory", "memory > 90% for 5m", "85%", Severity::Warning),
    ("swap", "swap > 80% for 15m", "70%", Severity::Warning),
    ("disk", "disk > 90% for 5m", "88%", Severity::Warning),
    ("disk-critical", "disk > 97% for 1m", "95%", Severity::Critical),
    ("disk-filling", "disk full in < 24h for 30m", "", Severity::Warning),
    ("inodes", "inodes > 90% for 5m", "88%", Severity::Warning),
    ("load", "load15 > 4 for 15m", "3", Severity::Warning),
    ("memory-pressure", "pressure memory > 20% for 5m", "10%", Severity::Warning),
    ("check", "check failing for 30s", "", Severity::Warning),
    ("unit", "unit failed", "", Severity::Warning),
    ("container-restarting", "container restarting", "", Severity::Warning),
    ("container-gone", "container gone for 10s", "", Severity::Warning),
    ("oom", "oom kill", "", Severity::Warning),
    ("certificate", "certificate expires in < 14d", "", Severity::Warning),
    ("clock-skew", "clock skew > 5s for 1m", "", Severity::Warning),
    ("agent-version", "agent version skew for 1h", "", Severity::Info),
    ("unreachable", "host unreachable for 2m", "", Severity::Critical),
];

/// All of them. They are read once: a coordinator asks for those of each of its hosts again and again.
pub(super) fn rules() -> BTreeMap<AlertName, AlertRule> {
    static READ: LazyLock<BTreeMap<AlertName, AlertRule>> = LazyLock::new(|| {
        let rule = |(name, when, clear, severity): (&str, &str, &str, Severity)| {
            let rule = AlertRule { clear: clear.parse().ok(), severity, ..AlertRule::new(when.parse().ok()?) };
            Some((name.parse().ok()?, rule))
        };
        RULES.into_iter().filter_map(rule).collect()
    });
    READ.clone()
}

#[cfg(test)]
mod tests {
    //! They can be read.
    use super::*;

    #[test]
    fn every_default_is_a_good_rule() {
        let rules = rules();
        assert_eq!(rules.len(), RULES.len());
        for (name, _, clear, _) in RULES {
            let rule = &rules[&name.parse().unwrap()];
            assert!(rule.check().is_empty(), "{name}: {:?}", rule.check());
            assert_eq!(rule.clear.is_some(), !clear.is_empty(), "{name}");
        }
    }
}
