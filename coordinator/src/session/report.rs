//! What a host says is kept within limits before anybody reads it: strings are cut, lists are cut, and apps that are not
//! that host's are left out. `stream` calls it; pure.

use std::collections::BTreeSet;

use drover_proto::{
    alert::AlertStatus,
    limits::{MAX_ALERT_WORDS, MAX_ALERTS_PER_HOST, MAX_EVIDENCE_LINE_BYTES, MAX_EVIDENCE_LINES},
    name::AppName,
    status::{AppStatus, Evidence, Failure, HostStatus, Phase},
    wire::{JobReply, job_reply::Reply},
};

/// Characters of a name or version that a host gives itself.
pub(super) const MAX_NAME_CHARS: usize = 200;
/// Characters of one sentence.
pub(super) const MAX_SENTENCE_CHARS: usize = 1000;
/// Characters of one line of a log; thousands of lines may wait for a slow reader.
const MAX_LOG_LINE_CHARS: usize = 8192;
/// Entries of a list: parts, problems.
const MAX_ENTRIES: usize = 1000;
/// Problems told with a phase.
const MAX_PROBLEMS: usize = 50;
/// Pieces of evidence.
const MAX_EVIDENCE: usize = 20;
/// All evidence of one failure: a rollout's view holds that of many hosts.
const MAX_EVIDENCE_BYTES: usize = 32 << 10;

/// Text from outside as one line of at most `most` characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Cuts a report down to `apps` and to the limits.
pub(super) fn trim(status: &mut HostStatus, apps: &BTreeSet<AppName>) {
    cut(&mut status.boot_id, MAX_NAME_CHARS);
    status.apps.retain(|app, _| apps.contains(app));
    status.apps.values_mut().for_each(trim_app);
    status.alerts.retain(|alert| alert.key.app.as_ref().is_none_or(|app| apps.contains(app)));
    status.alerts.truncate(MAX_ALERTS_PER_HOST);
    status.alerts.iter_mut().for_each(trim_alert);
    status.alerts.sort_by(|a, b| a.key.cmp(&b.key));
    status.alerts.dedup_by(|a, b| a.key == b.key);
}

/// What people are told is one line.
fn trim_alert(alert: &mut AlertStatus) {
    alert.key.subject = one_line(&alert.key.subject, MAX_NAME_CHARS);
    alert.summary = one_line(&alert.summary, MAX_SENTENCE_CHARS);
    while alert.labels.len() > MAX_ALERT_WORDS {
        alert.labels.pop_last();
    }
    while alert.annotations.len() > MAX_ALERT_WORDS {
        alert.annotations.pop_last();
    }
    alert.annotations.values_mut().for_each(|text| cut(text, MAX_SENTENCE_CHARS));
}

/// Cuts what is handed on to operators; a plan is one document, and as large as one message at most.
pub(super) fn trim_reply(reply: &mut JobReply) {
    match &mut reply.reply {
        Some(Reply::LogLine(line)) => {
            cut(&mut line.unit, MAX_NAME_CHARS);
            cut(&mut line.text, MAX_LOG_LINE_CHARS);
        }
        Some(Reply::Error(error)) => {
            cut(&mut error.code, MAX_NAME_CHARS);
            cut(&mut error.message, MAX_SENTENCE_CHARS);
        }
        Some(Reply::ImageDigest(digest)) => cut(digest, MAX_NAME_CHARS),
        Some(Reply::PlanJson(_) | Reply::FoundJson(_) | Reply::PruneJson(_) | Reply::Done(_)) | None => {}
    }
}

fn trim_app(status: &mut AppStatus) {
    match &mut status.phase {
        Phase::Fetching { step } | Phase::Staging { step } | Phase::Activating { step } | Phase::Removing { step } => {
            cut(step, MAX_SENTENCE_CHARS);
        }
        Phase::Gating { waiting_for: problems, .. } | Phase::Degraded { problems } => {
            problems.truncate(MAX_PROBLEMS);
            problems.iter_mut().for_each(|problem| cut(problem, MAX_SENTENCE_CHARS));
        }
        Phase::Reverting { cause } | Phase::Reverted { cause, .. } | Phase::Failed { cause } => {
            cut(cause, MAX_SENTENCE_CHARS);
        }
        Phase::Pending | Phase::Healthy { .. } | Phase::Removed => {}
    }
    status.parts.truncate(MAX_ENTRIES);
    for part in &mut status.parts {
        for text in [&mut part.kind, &mut part.name, &mut part.desired, &mut part.observed] {
            cut(text, MAX_SENTENCE_CHARS);
        }
    }
    while status.checks.len() > MAX_ENTRIES {
        status.checks.pop_last();
    }
    status.checks.values_mut().for_each(|check| cut(&mut check.answer, MAX_SENTENCE_CHARS));
    if let Some(failure) = &mut status.failure {
        trim_failure(failure);
    }
}

fn trim_failure(failure: &mut Failure) {
    cut(&mut failure.step, MAX_SENTENCE_CHARS);
    cut(&mut failure.cause, MAX_SENTENCE_CHARS);
    failure.evidence.truncate(MAX_EVIDENCE);
    let mut left = MAX_EVIDENCE_BYTES;
    for Evidence { title, lines } in &mut failure.evidence {
        cut(title, MAX_NAME_CHARS);
        // The newest lines say most.
        lines.drain(..lines.len().saturating_sub(MAX_EVIDENCE_LINES));
        for line in lines.iter_mut() {
            cut(line, MAX_EVIDENCE_LINE_BYTES);
        }
        lines.retain(|line| {
            let fits = line.len() <= left;
            left = left.saturating_sub(line.len());
            fits
        });
    }
}

fn cut(text: &mut String, most: usize) {
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
    }
}

#[cfg(test)]
mod tests {
    //! Nothing of a host's making gets through without measure.
    use std::collections::BTreeMap;

    use drover_proto::{
        alert::{AlertKey, AlertState, Severity},
        code::Code,
        name::ReleaseId,
        status::{CheckStatus, PartStatus},
        wire::LogLine,
    };

    use super::*;

    fn alert(app: Option<&str>, long: &str) -> AlertStatus {
        AlertStatus {
            key: AlertKey {
                alert: "check".parse().unwrap(),
                app: app.map(|app| app.parse().unwrap()),
                subject: long.to_owned(),
            },
            state: AlertState::Firing,
            severity: Severity::Info,
            since_unix_ms: 1,
            summary: long.to_owned(),
            held: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn a_report_is_cut_to_its_own_apps_and_to_the_limits() {
        let long = "\u{e4}".repeat(5000);
        let release = ReleaseId { app: "mono".parse().unwrap(), number: 1 };
        let part = PartStatus {
            kind: long.clone(),
            name: long.clone(),
            desired: long.clone(),
            observed: long.clone(),
            in_sync: false,
        };
        let check = CheckStatus { ok: false, answer: long.clone(), took_ms: 1, at_unix_ms: 1, failures: 1 };
        let evidence = Evidence { title: long.clone(), lines: vec![long.clone(); 500] };
        let app = AppStatus {
            desired: None,
            rollout: 1,
            running: None,
            phase: Phase::Failed { cause: long.clone() },
            parts: vec![part; 2000],
            checks: BTreeMap::from([("api".parse().unwrap(), check)]),
            failure: Some(Failure {
                code: Code::Gate,
                release,
                rollout: 1,
                at_unix_ms: 1,
                step: long.clone(),
                cause: long.clone(),
                evidence: vec![evidence; 100],
            }),
        };
        let apps: BTreeMap<AppName, AppStatus> =
            ["mono", "other"].map(|name| (name.parse().unwrap(), app.clone())).into();
        let alerts = [None, Some("mono"), Some("other")].map(|app| alert(app, &long)).into();
        let mut status = HostStatus { generation: 1, observed_unix_ms: 1, boot_id: long, apps, alerts };
        trim(&mut status, &["mono".parse().unwrap()].into());
        let of: Vec<_> = status.alerts.iter().map(|alert| alert.key.app.as_ref().map(AsRef::as_ref)).collect();
        assert_eq!(of, [None, Some("mono")]);
        assert_eq!(status.apps.len(), 1);
        let app = &status.apps[&"mono".parse().unwrap()];
        assert!(matches!(&app.phase, Phase::Failed { cause } if cause.chars().count() == MAX_SENTENCE_CHARS));
        assert_eq!((app.parts.len(), app.parts[0].name.chars().count()), (MAX_ENTRIES, MAX_SENTENCE_CHARS));
        assert!(app.checks.values().all(|check| check.answer.chars().count() == MAX_SENTENCE_CHARS));
        let failure = app.failure.as_ref().unwrap();
        let bytes: usize = failure.evidence.iter().flat_map(|e| &e.lines).map(String::len).sum();
        assert!(failure.evidence.len() == MAX_EVIDENCE && bytes <= MAX_EVIDENCE_BYTES && bytes > 0, "{bytes}");
        let line = LogLine { text: "x".repeat(1 << 20), ..LogLine::default() };
        let mut reply = JobReply { job_id: String::new(), reply: Some(Reply::LogLine(line)) };
        trim_reply(&mut reply);
        assert!(matches!(reply.reply, Some(Reply::LogLine(line)) if line.text.len() == MAX_LOG_LINE_CHARS));
        assert_eq!(one_line("a\nb\x1b[31m", 4), "a b ");
    }
}
