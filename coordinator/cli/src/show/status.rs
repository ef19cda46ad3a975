//! `drover status`: desired beside observed, per host and per part, and why they differ. The sentences about a phase serve
//! `show/why` too.

use comfy_table::Cell;
use drover_proto::{
    status::{AppStatus, Phase},
    view::{AppHostView, AppView},
};
use owo_colors::OwoColorize as _;

use super::{
    checks::{asked, took},
    fleet::refused,
    plain,
    table::{finish, paint, state_cell, table},
};

/// Every app; with `parts` also part by part.
#[must_use]
pub fn text(apps: &[AppView], parts: bool) -> String {
    if apps.is_empty() {
        return "no apps; `drover apply -f drover.yaml` brings the first\n".to_owned();
    }
    let texts: Vec<String> = apps.iter().map(|app| app_text(app, parts)).collect();
    texts.join("\n")
}

fn app_text(app: &AppView, parts: bool) -> String {
    let number = |n: Option<u64>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
    let mut out = format!("{}: last good {}, latest {}", app.app.bold(), number(app.last_good), number(app.latest));
    if let Some(rollout) = &app.rollout {
        let word = rollout.state.word();
        let reason = rollout.state.reason().map(|r| format!(" ({})", plain(&r))).unwrap_or_default();
        out.push_str(&format!("; rollout {} is {}{reason}", rollout.id, paint(word, word)));
    }
    out.push('\n');
    let mut rows = table(&["HOST", "DESIRED", "RUNNING", "STATE", "WHY"]);
    for host in &app.hosts {
        rows.add_row(vec![
            Cell::new(&host.host),
            Cell::new(host.desired.map_or_else(|| "-".to_owned(), |n| n.to_string())),
            Cell::new(running(host.status.as_ref())),
            state_cell(state(host)),
            Cell::new(plain(&why(host))),
        ]);
    }
    out.push_str(&finish(&rows, "on no host"));
    if parts && app.hosts.iter().any(|h| h.status.is_some()) {
        out.push('\n');
        out.push_str(&parts_text(app));
    }
    out
}

fn parts_text(app: &AppView) -> String {
    let mut rows = table(&["HOST", "PART", "NAME", "DESIRED", "OBSERVED", "SAME", "TOOK"]);
    for host in &app.hosts {
        for (status, part) in host.status.iter().flat_map(|s| s.parts.iter().map(move |part| (s, part))) {
            let took = match part.kind.as_str() {
                "check" => took(asked(status, part).map(|check| check.took_ms)),
                _ => String::new(),
            };
            rows.add_row(vec![
                Cell::new(&host.host),
                Cell::new(plain(&part.kind)),
                Cell::new(plain(&part.name)),
                Cell::new(plain(&part.desired)),
                Cell::new(plain(&part.observed)),
                state_cell(if part.in_sync { "yes" } else { "no" }),
                Cell::new(took),
            ]);
        }
    }
    finish(&rows, "no parts reported")
}

/// The release that was committed last, as a number.
#[must_use]
pub fn running(status: Option<&AppStatus>) -> String {
    status.and_then(|s| s.running.as_ref()).map_or_else(|| "-".to_owned(), |r| r.number.to_string())
}

fn state(host: &AppHostView) -> &'static str {
    match &host.status {
        None => "unknown",
        Some(status) => status.phase.word(),
    }
}

/// What more a phase has to say; empty when all is well.
#[must_use]
pub fn detail(phase: &Phase) -> String {
    match phase {
        Phase::Pending | Phase::Healthy { .. } | Phase::Removed => String::new(),
        Phase::Fetching { step: text }
        | Phase::Staging { step: text }
        | Phase::Activating { step: text }
        | Phase::Removing { step: text }
        | Phase::Reverting { cause: text }
        | Phase::Reverted { cause: text, .. }
        | Phase::Failed { cause: text } => text.clone(),
        Phase::Gating { healthy_for_ms, waiting_for } if waiting_for.is_empty() => {
            format!("healthy for {:.1} s", *healthy_for_ms as f64 / 1000.0)
        }
        Phase::Gating { waiting_for, .. } => format!("waiting for {}", waiting_for.join(", ")),
        Phase::Degraded { problems } => problems.join("; "),
    }
}

/// Of an app that stays as it is, since the coordinator was restored from a backup that knows another state of it.
pub(super) const KEPT: &str =
    "stays as the host holds it, which the coordinator does not know (it was restored from a backup): apply it again";

/// Why a host is not as desired, in one line; empty when it is.
fn why(host: &AppHostView) -> String {
    let mut said = Vec::new();
    if !host.connected {
        said.push("not connected; this is the last known state".to_owned());
    }
    said.extend(refused(host.refused.as_ref()));
    if host.kept {
        said.push(KEPT.to_owned());
    }
    match &host.status {
        None if host.connected && host.desired.is_some() => said.push("has not reported on it yet".to_owned()),
        None => {}
        Some(status) => {
            let detail = detail(&status.phase);
            if !detail.is_empty() {
                said.push(detail);
            } else if let Some(part) = status.parts.iter().find(|p| !p.in_sync) {
                said.push(format!("{} {} is {}, wanted {}", part.kind, part.name, part.observed, part.desired));
            } else if status.phase.is_settled() && status.desired.as_ref().map(|r| r.number) != host.desired {
                said.push("has not taken up the newest desired state yet".to_owned());
            }
        }
    }
    said.join("; ")
}

#[cfg(test)]
pub(crate) mod tests {
    //! One app on hosts in every condition.
    use drover_proto::{
        name::ReleaseId,
        status::{CheckStatus, PartStatus},
    };

    use super::*;
    use crate::show::tests::bare;

    /// An app's status with one unit that is not in sync.
    pub(crate) fn status(phase: Phase, in_sync: bool) -> AppStatus {
        let release = |number| Some(ReleaseId { app: "mono".parse().unwrap(), number });
        let observed = if in_sync { "active" } else { "failed" };
        AppStatus {
            desired: release(17),
            rollout: 7,
            running: release(16),
            phase,
            parts: vec![PartStatus {
                kind: "unit".to_owned(),
                name: "mono.service".to_owned(),
                desired: "active".to_owned(),
                observed: observed.to_owned(),
                in_sync,
            }],
            failure: None,
            checks: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn desired_stands_beside_observed_with_the_reason() {
        let host = |name: &str, connected, status| AppHostView {
            host: name.parse().unwrap(),
            connected,
            desired: Some(17),
            refused: None,
            status,
            kept: name == "web-4",
        };
        let app = AppView {
            app: "mono".parse().unwrap(),
            last_good: Some(16),
            latest: Some(17),
            rollout: None,
            hosts: vec![
                host("web-1", true, Some(status(Phase::Healthy { since_unix_ms: 0 }, true))),
                host("web-2", true, Some(status(Phase::Failed { cause: "nginx -t failed".to_owned() }, false))),
                host("web-3", false, None),
                host("web-4", true, Some(status(Phase::Healthy { since_unix_ms: 0 }, true))),
            ],
        };
        let expected = "\
mono: last good 16, latest 17
HOST   DESIRED  RUNNING  STATE    WHY
web-1  17       16       healthy
web-2  17       16       failed   nginx -t failed
web-3  17       -        unknown  not connected; this is the last known state
web-4  17       16       healthy  stays as the host holds it, which the coordinator does not know (it was restored from a backup): apply it again

HOST   PART  NAME          DESIRED  OBSERVED  SAME  TOOK
web-1  unit  mono.service  active   active    yes
web-2  unit  mono.service  active   failed    no
web-4  unit  mono.service  active   active    yes
";
        assert_eq!(bare(&text(&[app], true)), expected);
    }

    #[test]
    fn a_check_says_how_long_its_answer_took() {
        let mut status = status(Phase::Healthy { since_unix_ms: 0 }, true);
        let unit = status.parts.remove(0);
        let check = |name: &str| PartStatus {
            kind: "check".to_owned(),
            name: name.to_owned(),
            desired: "200".to_owned(),
            observed: "200 OK".to_owned(),
            in_sync: true,
        };
        status.parts = vec![check("api"), check("old"), PartStatus { name: "api".to_owned(), ..unit }];
        let asked = CheckStatus { ok: true, answer: "200 OK".into(), took_ms: 1207, at_unix_ms: 1, failures: 0 };
        status.checks = [("api".parse().unwrap(), asked)].into();
        let (host, desired) = ("web-1".parse().unwrap(), Some(17));
        let hosts =
            vec![AppHostView { host, connected: true, desired, refused: None, status: Some(status), kept: false }];
        let app = AppView { app: "mono".parse().unwrap(), last_good: None, latest: None, rollout: None, hosts };
        let expected = "\
HOST   PART   NAME  DESIRED  OBSERVED  SAME  TOOK
web-1  check  api   200      200 OK    yes   1207 ms
web-1  check  old   200      200 OK    yes   -
web-1  unit   api   active   active    yes
";
        let said = bare(&text(&[app], true));
        assert!(said.ends_with(expected), "{said}");
    }
}
