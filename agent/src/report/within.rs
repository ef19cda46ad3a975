//! A report that has room in a message, whatever there is to tell. Part of `report`.

use drover_proto::status::HostStatus;

/// Bytes of what an alert says, when room is scarce.
const SCARCE: usize = 100;

/// A status as JSON of at most `max_bytes`: with many apps, what is least missed is left out, of all of them alike; of alerts the
/// words, never that they are.
#[must_use]
pub fn within(mut status: HostStatus, max_bytes: usize) -> Vec<u8> {
    let cuts: [fn(&mut HostStatus); 5] = [
        |_| {},
        |status| status.alerts.iter_mut().for_each(|alert| alert.annotations.clear()),
        |status| {
            let failures = status.apps.values_mut().filter_map(|app| app.failure.as_mut());
            let evidence = failures.flat_map(|failure| &mut failure.evidence);
            evidence.for_each(|evidence| drop(evidence.lines.drain(..evidence.lines.len().saturating_sub(3))));
        },
        |status| {
            for app in status.apps.values_mut() {
                app.failure.iter_mut().for_each(|failure| failure.evidence.clear());
                app.parts.retain(|part| !part.in_sync);
                app.checks.clear();
            }
            let alerts = status.alerts.iter_mut();
            alerts.for_each(|alert| alert.summary.truncate(alert.summary.floor_char_boundary(SCARCE)));
        },
        |status| {
            status.apps.values_mut().for_each(|app| app.parts.clear());
            status.alerts.iter_mut().for_each(|alert| alert.labels.clear());
        },
    ];
    let mut json = Vec::new();
    for cut in cuts {
        cut(&mut status);
        json = serde_json::to_vec(&status).unwrap_or_default();
        if json.len() <= max_bytes {
            break;
        }
    }
    json
}

#[cfg(test)]
mod tests {
    //! Many apps, and many alerts.
    use std::collections::BTreeMap;

    use drover_proto::{
        name::AppName,
        status::{AppStatus, PartStatus, Phase},
    };

    use super::*;

    #[test]
    fn a_report_of_many_apps_fits() {
        use drover_proto::{
            code::Code,
            name::ReleaseId,
            status::{Evidence, Failure},
        };
        let lines = vec!["x".repeat(400); 40];
        let evidence = vec![Evidence { title: "journal".to_owned(), lines }; 3];
        let part = PartStatus {
            kind: "unit".to_owned(),
            name: "a.service".to_owned(),
            desired: "active".to_owned(),
            observed: "active".to_owned(),
            in_sync: true,
        };
        let mut all = HostStatus::default();
        for number in 0..100 {
            let app: AppName = format!("app-{number}").parse().unwrap();
            let release = ReleaseId { app: app.clone(), number: 1 };
            let failure = Failure {
                code: Code::Gate,
                release,
                rollout: 1,
                at_unix_ms: 1,
                step: "gate".to_owned(),
                cause: "it exited".to_owned(),
                evidence: evidence.clone(),
            };
            let status = AppStatus {
                desired: None,
                rollout: 1,
                running: None,
                phase: Phase::Pending,
                parts: vec![part.clone(); 4],
                failure: Some(failure),
                checks: BTreeMap::new(),
            };
            all.apps.insert(app, status);
        }
        let cut = |max| serde_json::from_slice::<HostStatus>(&within(all.clone(), max)).unwrap();
        assert_eq!(cut(usize::MAX), all);
        for (max, lines, parts) in [(512 << 10, 3, 4), (100 << 10, 0, 0)] {
            let cut = cut(max);
            assert!(serde_json::to_vec(&cut).unwrap().len() <= max && cut.apps.len() == 100, "{max}");
            let app = cut.apps.values().next().unwrap();
            let told: usize = app.failure.iter().flat_map(|f| &f.evidence).map(|e| e.lines.len()).max().unwrap_or(0);
            assert_eq!((told, app.parts.len()), (lines, parts), "{max}");
            assert!(cut.apps.values().all(|app| app.failure.as_ref().unwrap().cause == "it exited"));
        }
    }

    #[test]
    fn a_report_of_many_alerts_fits() {
        use drover_proto::{alert, limits};
        let text = "x".repeat(limits::MAX_ALERT_TEXT_BYTES);
        let words = |key: usize| format!("k{key}").parse().unwrap();
        let labels: BTreeMap<_, _> = (0..16).map(|key| (words(key), "y".repeat(60).parse().unwrap())).collect();
        let annotations: BTreeMap<_, _> = (0..16).map(|key| (words(key), text.clone())).collect();
        let alert = |number: usize| alert::AlertStatus {
            key: alert::AlertKey { alert: format!("a-{number}").parse().unwrap(), app: None, subject: "z".repeat(200) },
            state: alert::AlertState::Firing,
            severity: alert::Severity::Critical,
            since_unix_ms: 1,
            summary: text.clone(),
            held: false,
            labels: labels.clone(),
            annotations: annotations.clone(),
        };
        let all = HostStatus { alerts: (0..limits::MAX_ALERTS_PER_HOST).map(alert).collect(), ..HostStatus::default() };
        let cut = within(all.clone(), limits::MAX_REPORT_BYTES);
        assert!(cut.len() <= limits::MAX_REPORT_BYTES);
        let read: HostStatus = serde_json::from_slice(&cut).unwrap();
        assert_eq!(read.alerts.len(), all.alerts.len());
        assert!(read.alerts.iter().all(|alert| alert.annotations.is_empty() && alert.labels == labels));
        let cut = within(all, 120 << 10);
        assert!(cut.len() <= 120 << 10);
        let read: HostStatus = serde_json::from_slice(&cut).unwrap();
        assert!(read.alerts.iter().all(|alert| alert.labels.is_empty() && alert.summary.len() == SCARCE));
    }
}
