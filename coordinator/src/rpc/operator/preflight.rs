//! What the coordinator adds to a host's plan: only it sees both clocks, and how long the host's certificate is good for.
//! Pure; called by `plan`.

use drover_proto::{
    code::Code,
    name::{AppName, ReleaseId, ReleaseNumber},
    plan::{Plan, Refusal},
};

/// Times in reports mislead.
const SKEW_WARNED_MS: i64 = 30_000;
/// Certificates and tokens have beginnings and ends.
const SKEW_REFUSED_MS: i64 = 5 * 60_000;
/// Agents renew theirs long before.
const EXPIRY_WARNED_MS: i64 = 7 * 24 * 3_600_000;

/// When a plan was asked for and answered, by the coordinator's clock; Unix ms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) at_ms: i64,
    pub(super) answered_ms: i64,
}

/// Adds what there is to say, and takes the host's clock out: it would make every plan another one.
pub(super) fn add(plan: &mut Plan, asked: Asked, certificate_not_after_ms: i64) {
    if let Some(made_ms) = plan.made_unix_ms.take()
        && let Some((refused, said)) = clock(made_ms, asked)
    {
        let list = if refused { &mut plan.refusals } else { &mut plan.warnings };
        list.push(said);
    }
    plan.warnings.extend(certificate(certificate_not_after_ms, asked.answered_ms));
}

/// The plan of a host whose agent would refuse the app's document because of a field that it does not know.
pub(super) fn too_old(app: &AppName, release: ReleaseNumber, field: &str) -> Plan {
    let message =
        "the agent on this host is of an older version, which does not know that field; upgrade drover-agent there";
    let refusal = Refusal { code: Code::Protocol, part: field.to_owned(), message: message.to_owned() };
    Plan {
        app: app.clone(),
        from: None,
        to: Some(ReleaseId { app: app.clone(), number: release }),
        steps: Vec::new(),
        refusals: vec![refusal],
        warnings: Vec::new(),
        made_unix_ms: None,
    }
}

/// `true` = it forbids the plan. The answer was made at some time between question and answer, so that much is no skew.
fn clock(made_ms: i64, asked: Asked) -> Option<(bool, Refusal)> {
    let (behind, ahead) = (asked.at_ms.saturating_sub(made_ms), made_ms.saturating_sub(asked.answered_ms));
    let skew = behind.max(ahead);
    if skew <= SKEW_WARNED_MS {
        return None;
    }
    let word = if ahead > behind { "ahead of" } else { "behind" };
    let message =
        format!("the host's clock is {} {word} the coordinator's; set it right (timedatectl there)", about(skew));
    Some((skew > SKEW_REFUSED_MS, Refusal { code: Code::ClockSkew, part: "clock".to_owned(), message }))
}

fn certificate(not_after_ms: i64, now_ms: i64) -> Option<Refusal> {
    let left = not_after_ms.saturating_sub(now_ms);
    (left < EXPIRY_WARNED_MS).then(|| {
        let message = format!(
            "the host's certificate ends in {}, and its agent has not renewed it; look at journalctl -u drover-agent there",
            about(left.max(0))
        );
        Refusal { code: Code::CertificateExpiring, part: "certificate".to_owned(), message }
    })
}

fn about(ms: i64) -> String {
    match ms / 1000 {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7_199 => format!("{} min", s / 60),
        s @ 7_200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    //! Rows on both sides of each limit.
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn clocks_that_differ_are_told_and_by_much_refused() {
        let asked = Asked { at_ms: 1_000_000, answered_ms: 1_005_000 };
        let rows = [
            (1_002_000, None),
            (1_035_000, None),
            (970_000, None),
            (1_035_001, Some((false, "30 s ahead of"))),
            (900_000, Some((false, "100 s behind"))),
            (1_305_001, Some((true, "5 min ahead of"))),
            (1_000_000 - 25 * HOUR, Some((true, "25 h behind"))),
            (i64::MAX, Some((true, "days ahead of"))),
            (i64::MIN, Some((true, "days behind"))),
        ];
        for (made, want) in rows {
            let got = clock(made, asked);
            assert_eq!(got.is_some(), want.is_some(), "{made}: {got:?}");
            if let (Some((refused, said)), Some((forbids, words))) = (got, want) {
                assert_eq!(refused, forbids, "{made}");
                assert!(said.message.contains(words), "{}", said.message);
            }
        }
    }

    #[test]
    fn a_certificate_that_ends_soon_is_told() {
        assert_eq!(certificate(1 + 8 * 24 * HOUR, 1), None);
        let soon = certificate(1 + 50 * HOUR, 1).unwrap();
        assert!(soon.message.contains("ends in 2 days"), "{}", soon.message);
        assert!(certificate(0, 10).unwrap().message.contains("in 0 s"));
    }
}
