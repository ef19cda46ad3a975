//! Pure: the alerts that only the coordinator can tell: a host that it does not hear of, whose clock is another, whose agent is of
//! another version. `engine` asks it for each host, and stores what follows.

use std::collections::BTreeMap;

use drover_proto::{
    alert::{AlertKey, AlertRule, AlertState, AlertStatus, Test},
    duration::Span,
    name::AlertName,
};

/// After its own start the coordinator gives hosts at least this long to come back.
const GRACE_MS: i64 = 60_000;

/// What the coordinator knows of a host just now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sight {
    /// Since when it is not connected, Unix ms; `None` = it is. Not before `born_unix_ms`.
    pub away_since: Option<i64>,
    /// It has been connected some day.
    pub was_seen: bool,
    /// Since when the coordinator runs, Unix ms.
    pub born_unix_ms: i64,
    /// Its agent's version is another than the coordinator's.
    pub other_version: Option<String>,
    /// Its clock is ahead by so much, ms; `None` = not known just now.
    pub skew_ms: Option<i64>,
}

/// Of one rule: whether its condition holds, since when, and in a sentence.
enum Look {
    /// Nobody knows: it stays as it is.
    Unknown,
    /// It does not.
    Good,
    /// It does.
    Bad { since: Option<i64>, at_least_ms: i64, summary: String },
}

/// How a host's alerts stand now; `before`: how they stood.
pub(super) fn look(
    rules: &BTreeMap<AlertName, AlertRule>,
    sight: &Sight,
    before: &[AlertStatus],
    now_ms: i64,
) -> Vec<AlertStatus> {
    let own = rules.iter().filter(|(_, rule)| rule.when.test.is_of_coordinator());
    own.filter_map(|(name, rule)| {
        let before = before.iter().find(|status| status.key.alert == *name);
        match look_at(&rule.when.test, sight, now_ms) {
            Look::Unknown => before.cloned(),
            Look::Good => None,
            Look::Bad { since, at_least_ms, summary } => {
                if let Some(firing) = before.filter(|status| status.state == AlertState::Firing) {
                    return Some(firing.clone());
                }
                let since = since.or(before.map(|status| status.since_unix_ms)).unwrap_or(now_ms).min(now_ms);
                let lasts = ms(rule.when.lasts).max(at_least_ms);
                let is_firing = now_ms.saturating_sub(since) >= lasts;
                let (state, since) =
                    if is_firing { (AlertState::Firing, now_ms) } else { (AlertState::Pending, since) };
                // Told anew only with another state: whatever is told is stored.
                let same = before.filter(|before| before.state == state && before.since_unix_ms == since);
                Some(same.cloned().unwrap_or_else(|| status(name, rule, state, since, summary)))
            }
        }
    })
    .collect()
}

fn look_at(test: &Test, sight: &Sight, now_ms: i64) -> Look {
    match test {
        Test::HostUnreachable => match sight.away_since {
            Some(since) if sight.was_seen => {
                let began_here = since <= sight.born_unix_ms;
                let at_least_ms = if began_here { GRACE_MS } else { 0 };
                let away = Span::from_ms(now_ms.saturating_sub(since).unsigned_abs() / 1000 * 1000);
                let summary = if began_here {
                    "the host has not been heard of since the coordinator started".to_owned()
                } else {
                    format!("the host has not been heard of for {away}")
                };
                Look::Bad { since: Some(since), at_least_ms, summary }
            }
            Some(_) | None => Look::Good,
        },
        Test::VersionSkew => match &sight.other_version {
            Some(other) => {
                let summary = format!("drover-agent is {other}, the coordinator {}", env!("CARGO_PKG_VERSION"));
                Look::Bad { since: None, at_least_ms: 0, summary }
            }
            None => Look::Good,
        },
        Test::ClockSkew(above) => match sight.skew_ms {
            None => Look::Unknown,
            Some(skew) if skew.unsigned_abs() > above.as_ms() => {
                let (by, way) = (Span::from_ms(skew.unsigned_abs()), if skew > 0 { "ahead of" } else { "behind" });
                let summary = format!("the host's clock is {by} {way} the coordinator's");
                Look::Bad { since: None, at_least_ms: 0, summary }
            }
            Some(_) => Look::Good,
        },
        // Hosts tell these.
        _ => Look::Good,
    }
}

fn status(name: &AlertName, rule: &AlertRule, state: AlertState, since_unix_ms: i64, summary: String) -> AlertStatus {
    AlertStatus {
        key: AlertKey { alert: name.clone(), app: None, subject: String::new() },
        state,
        severity: rule.severity,
        since_unix_ms,
        summary,
        held: false,
        labels: rule.labels.clone(),
        annotations: rule.annotations.clone(),
    }
}

fn ms(span: Span) -> i64 {
    i64::try_from(span.as_ms()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    //! A host that goes and comes, also while the coordinator is down itself.
    use drover_proto::alert::RuleSet;

    use super::*;

    fn sight(away_since: Option<i64>, born_unix_ms: i64) -> Sight {
        Sight { away_since, was_seen: true, born_unix_ms, other_version: None, skew_ms: None }
    }

    fn words(alerts: &[AlertStatus]) -> Vec<String> {
        alerts.iter().map(|alert| format!("{} {:?}", alert.key.alert, alert.state)).collect()
    }

    #[test]
    fn a_host_that_is_away_for_long_enough_is_unreachable() {
        let rules = RuleSet::default().effective();
        let mut held = Vec::new();
        let rows = [
            (sight(Some(100_000), 0), 100_000, "unreachable Pending"),
            (sight(Some(100_000), 0), 219_999, "unreachable Pending"),
            (sight(Some(100_000), 0), 220_000, "unreachable Firing"),
            // The coordinator starts anew, and the host is still away: it is not told of twice, and not as if it were back.
            (sight(Some(300_000), 300_000), 300_000, "unreachable Firing"),
            (sight(None, 300_000), 310_000, ""),
        ];
        for (sight, now, wanted) in rows {
            held = look(&rules, &sight, &held, now);
            assert_eq!(words(&held).join(" "), wanted, "at {now}");
        }
        let never = Sight { was_seen: false, ..sight(Some(0), 0) };
        assert!(look(&rules, &never, &[], i64::MAX / 2).is_empty(), "it was only enrolled so far");
    }

    #[test]
    fn after_its_start_the_coordinator_waits_for_hosts_whatever_the_rule_says() {
        let mut rules = RuleSet::default().effective();
        rules.get_mut(&"unreachable".parse().unwrap()).unwrap().when = "host unreachable for 1s".parse().unwrap();
        let at = |now| words(&look(&rules, &sight(Some(50), 50), &[], now)).join(" ");
        assert_eq!(
            (at(50 + GRACE_MS - 1), at(50 + GRACE_MS)),
            ("unreachable Pending".into(), "unreachable Firing".into())
        );
        let later = words(&look(&rules, &sight(Some(70_000), 50), &[], 71_000)).join(" ");
        assert_eq!(later, "unreachable Firing", "one that goes away later has no grace");
    }

    #[test]
    fn clocks_and_versions_are_compared_and_what_is_not_known_stays() {
        let rules = RuleSet::default().effective();
        let mut wrong = Sight { skew_ms: Some(-3_600_000), other_version: Some("0.0.9".into()), ..sight(None, 0) };
        let first = look(&rules, &wrong, &[], 0);
        let second = look(&rules, &wrong, &first, 60_000);
        assert_eq!(words(&second), ["agent-version Pending", "clock-skew Firing"]);
        assert_eq!(second[1].summary, "the host's clock is 1h behind the coordinator's");
        wrong.skew_ms = None;
        assert_eq!(look(&rules, &wrong, &second, 70_000)[1], second[1]);
        wrong.skew_ms = Some(20);
        assert_eq!(words(&look(&rules, &wrong, &second, 80_000)), ["agent-version Pending"]);
    }
}
