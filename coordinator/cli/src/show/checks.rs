//! The table of `drover checks`: how every check stands on every host, those that fail first.

use comfy_table::Cell;
use drover_proto::{
    name::{CheckName, HostName},
    status::{AppStatus, CheckStatus, PartStatus},
    view::{AppHostView, AppView},
};
use serde::Serialize;

use super::{
    plain,
    table::{finish, state_cell, table},
};

/// One check on one host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct CheckView {
    /// It passes.
    pub passing: bool,
    /// Of which app.
    pub app: String,
    /// Its name in the manifest.
    pub check: String,
    /// Where.
    pub host: HostName,
    /// What came back last, and what was wanted.
    pub answer: String,
    /// How long that took, in ms; `None` = an agent before protocol 5 does not say.
    pub took_ms: Option<u64>,
    /// Answers in a row that were not as wanted.
    pub failures: Option<u32>,
    /// Whether the host is connected; otherwise this is the last that is known.
    pub connected: bool,
}

/// All checks of these apps, in the order of the table. `failing`: only those that do not pass.
#[must_use]
pub fn of(apps: &[AppView], failing: bool) -> Vec<CheckView> {
    let mut checks: Vec<CheckView> = apps
        .iter()
        .flat_map(|app| app.hosts.iter().map(move |host| (app, host)))
        .flat_map(|(app, host)| {
            let all = host.status.iter().flat_map(|status| status.parts.iter().map(move |part| (status, part)));
            all.filter(|(_, part)| part.kind == "check").map(move |(status, part)| CheckView {
                passing: part.in_sync,
                app: app.app.to_string(),
                check: part.name.clone(),
                host: host.host.clone(),
                answer: part.observed.clone(),
                took_ms: asked(status, part).map(|check| check.took_ms),
                failures: asked(status, part).map(|check| check.failures),
                connected: host.connected,
            })
        })
        .filter(|check| !failing || !check.passing)
        .collect();
    checks.sort();
    checks
}

/// How a part stands that is a check; `None` = it is none, or an agent before protocol 5 does not say.
#[must_use]
pub fn asked<'a>(status: &'a AppStatus, part: &PartStatus) -> Option<&'a CheckStatus> {
    if part.kind != "check" {
        return None;
    }
    status.checks.get(&part.name.parse::<CheckName>().ok()?)
}

/// How long an answer took, in a table.
#[must_use]
pub fn took(took_ms: Option<u64>) -> String {
    took_ms.map_or_else(|| "-".to_owned(), |took| format!("{took} ms"))
}

/// Hosts of these apps whose checks are not known as they are now: `app on host`.
#[must_use]
pub fn unknown(apps: &[AppView]) -> Vec<String> {
    let hosts = apps.iter().flat_map(|app| app.hosts.iter().map(move |host| (app, host)));
    let is_unknown = |host: &AppHostView| !host.connected || (host.status.is_none() && host.desired.is_some());
    hosts.filter(|(_, host)| is_unknown(host)).map(|(app, host)| format!("{} on {}", app.app, host.host)).collect()
}

/// The table.
#[must_use]
pub fn text(checks: &[CheckView], unknown: &[String], failing: bool) -> String {
    let mut rows = table(&["HOST", "APP", "CHECK", "STATE", "TOOK", "ANSWER"]);
    for check in checks {
        let last_known = if check.connected { "" } else { " (not connected; this is the last known answer)" };
        rows.add_row(vec![
            Cell::new(&check.host),
            Cell::new(&check.app),
            Cell::new(plain(&check.check)),
            state_cell(if check.passing { "passing" } else { "failing" }),
            Cell::new(took(check.took_ms)),
            Cell::new(format!("{}{last_known}", plain(&check.answer))),
        ]);
    }
    let empty = if failing { "every check passes" } else { "no checks; `checks:` in a manifest has them" };
    let mut text = finish(&rows, if unknown.is_empty() { empty } else { "no check is known to fail" });
    if !unknown.is_empty() {
        text.push_str(&format!("not known as it is now: {}\n", unknown.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    //! What fails comes first, and what is not known is said.
    use drover_proto::status::Phase;

    use super::*;
    use crate::show::tests::bare;

    fn host(name: &str, connected: bool, checks: &[(&str, bool)]) -> AppHostView {
        let part = |(name, ok): &(&str, bool)| PartStatus {
            kind: "check".into(),
            name: (*name).to_owned(),
            desired: "passes".into(),
            observed: if *ok { "200 OK" } else { "500\u{1b}[2J" }.into(),
            in_sync: *ok,
        };
        let (phase, parts) = (Phase::Healthy { since_unix_ms: 0 }, checks.iter().map(part).collect());
        let asked = CheckStatus { ok: true, answer: "200 OK".into(), took_ms: 7, at_unix_ms: 1, failures: 0 };
        let status = AppStatus {
            desired: None,
            rollout: 1,
            running: None,
            phase,
            parts,
            failure: None,
            checks: [("api".parse().unwrap(), asked)].into(),
        };
        let (host, desired) = (name.parse().unwrap(), Some(1));
        AppHostView { host, connected, desired, refused: None, status: Some(status), kept: false }
    }

    #[test]
    fn what_fails_comes_first_and_what_is_not_known_is_said() {
        let hosts =
            vec![host("web-1", true, &[("api", true), ("site", false)]), host("web-2", false, &[("api", true)])];
        let apps = [AppView { app: "mono".parse().unwrap(), last_good: None, latest: None, rollout: None, hosts }];
        let all = text(&of(&apps, false), &unknown(&apps), false);
        let lines: Vec<String> =
            bare(&all).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "HOST APP CHECK STATE TOOK ANSWER",
                "web-1 mono site failing - 500\\u{1b}[2J",
                "web-1 mono api passing 7 ms 200 OK",
                "web-2 mono api passing 7 ms 200 OK (not connected; this is the last known answer)",
                "not known as it is now: mono on web-2",
            ]
        );
        let failing = of(&apps, true);
        assert!(failing.len() == 1 && !failing[0].passing, "{failing:?}");
        assert!(text(&[], &unknown(&apps), true).contains("no check is known to fail"));
        assert!(text(&[], &[], true).contains("every check passes"));
    }
}
