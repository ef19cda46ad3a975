//! Apps, checks and alerts, as `drover_…`. From what `report` publishes, so that metrics and `drover status` say the same.

use drover_proto::{
    alert::AlertState,
    name::{AppName, ReleaseId},
    status::{AppStatus, HostStatus, Phase},
};

use super::{Standings, seconds, text::Text};
use crate::check::standing::Standing;

pub(super) fn apps(status: &HostStatus, text: &mut Text) {
    // What is not there any more is not told any more.
    let there = |status: &AppStatus| !matches!(status.phase, Phase::Removed);
    let apps: Vec<_> = status.apps.iter().filter(|(_, status)| there(status)).collect();
    let mut states = text.gauge("drover_app_state", "Whether the app is in this state.");
    for (app, status) in &apps {
        let now = status.phase.word();
        for state in Phase::WORDS {
            states.sample(&[("app", app.as_str()), ("state", state)], u8::from(state == now));
        }
    }
    let help = "The release of an app that was committed last, and the one that is wanted; always 1.";
    let mut releases = text.gauge("drover_release_info", help);
    let release = |release: &Option<ReleaseId>| release.as_ref().map(ToString::to_string).unwrap_or_default();
    for (app, status) in &apps {
        let (running, desired) = (release(&status.running), release(&status.desired));
        releases.sample(&[("app", app.as_str()), ("desired", &desired), ("release", &running)], 1);
    }
    since(&apps, text);
    let mut parts = text.gauge("drover_part_in_sync", "Whether a part of the committed release is as it is wanted.");
    for (app, status) in &apps {
        for part in &status.parts {
            let labels = [("app", app.as_str()), ("kind", &part.kind), ("name", &part.name)];
            parts.sample(&labels, u8::from(part.in_sync));
        }
    }
}

fn since(apps: &[(&AppName, &AppStatus)], text: &mut Text) {
    let committed = |status: &AppStatus| match status.phase {
        Phase::Healthy { since_unix_ms } => Some(since_unix_ms),
        _ => None,
    };
    let help = "When the release was committed that is healthy, in unixtime.";
    let mut family = text.gauge("drover_app_healthy_since_timestamp_seconds", help);
    for (app, at) in apps.iter().filter_map(|(app, status)| Some((app, committed(status)?))) {
        family.sample(&[("app", app.as_str())], seconds(at));
    }
    let help = "When the last activation failed, if none has succeeded since, in unixtime.";
    let mut family = text.gauge("drover_app_failed_timestamp_seconds", help);
    for (app, failure) in apps.iter().filter_map(|(app, status)| Some((app, status.failure.as_ref()?))) {
        let code = failure.code.to_string();
        family.sample(&[("app", app.as_str()), ("code", &code)], seconds(failure.at_unix_ms));
    }
}

pub(super) fn checks(standings: &Standings, text: &mut Text) {
    let mut family = |name: &str, help: &str, value: fn(&Standing) -> f64| {
        let mut family = text.gauge(name, help);
        for ((app, check), standing) in standings {
            family.sample(&[("app", app.as_str()), ("check", check.as_str())], value(standing));
        }
    };
    family("drover_check_passing", "Whether the check passes, by its rise and fall.", |standing| {
        f64::from(u8::from(standing.ok))
    });
    family("drover_check_failures", "Answers in a row that were not as wanted.", |standing| {
        f64::from(standing.failures)
    });
    family("drover_check_duration_seconds", "How long the last answer took.", |standing| standing.took.as_secs_f64());
    let help = "When the check was asked last, in unixtime.";
    family("drover_check_last_timestamp_seconds", help, |standing| seconds(standing.at_unix_ms));
}

pub(super) fn alerts(status: &HostStatus, text: &mut Text) {
    let mut family = text.gauge("drover_alerts", "An alert that is pending or fires; always 1.");
    for alert in &status.alerts {
        let key = &alert.key;
        let state = match alert.state {
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        };
        let labels = [
            ("alert", key.alert.as_str()),
            ("app", key.app.as_ref().map(AppName::as_str).unwrap_or_default()),
            ("severity", alert.severity.word()),
            ("state", state),
            ("subject", &key.subject),
        ];
        family.sample(&labels, 1);
    }
}
