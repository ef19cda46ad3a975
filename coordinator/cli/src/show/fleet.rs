//! Tables of what a coordinator knows beside apps: hosts, tokens, operators, secrets, the audit log.

use std::{collections::BTreeMap, fmt::Display};

use comfy_table::Cell;
use drover_proto::view::{AuditView, HostDetail, HostView, OperatorView, RefusedSpec, SecretView, TokenView};
use owo_colors::OwoColorize as _;

use super::{
    plain,
    status::{KEPT, detail, running},
    table::{finish, state_cell, table},
    time::{local, relative, relative_or_dash},
};

/// `drover hosts`.
#[must_use]
pub fn hosts(hosts: &[HostView], now_unix_ms: i64) -> String {
    let mut rows = table(&["HOST", "STATE", "LABELS", "APPS", "AGENT", "SEEN", "OS"]);
    for host in hosts {
        rows.add_row(vec![
            Cell::new(&host.name),
            state_cell(&state(host)),
            Cell::new(pairs(&host.labels)),
            Cell::new(plain(&pairs(&host.apps))),
            Cell::new(plain(&host.agent_version)),
            Cell::new(relative_or_dash(host.last_seen_unix_ms, now_unix_ms)),
            Cell::new(plain(&host.os)),
        ]);
    }
    finish(&rows, "no hosts; `drover token create` lets the first one in")
}

/// Whether its stream is up, and whether rollouts go there.
fn state(host: &HostView) -> String {
    let cordoned = if host.cordoned.is_some() { ", cordoned" } else { "" };
    format!("{}{cordoned}", link(host))
}

/// Whether its stream is up; a host that has just been enrolled was never there before.
fn link(host: &HostView) -> &'static str {
    match (host.connected, host.last_seen_unix_ms) {
        _ if host.revoked_unix_ms.is_some() => "revoked",
        (true, _) => "connected",
        (false, Some(_)) => "offline",
        (false, None) => "not yet",
    }
}

/// `drover hosts show`.
#[must_use]
pub fn host(host: &HostDetail, now_unix_ms: i64) -> String {
    let mut out = String::new();
    let view = &host.host;
    let mut say = |name: &str, value: String| {
        out.push_str(&format!("{:<13}{value}\n", format!("{name}:")));
    };
    say("host", view.name.bold().to_string());
    say("id", view.id.to_string());
    say(
        "state",
        match view.last_seen_unix_ms {
            Some(at) => format!("{}, seen {}", link(view), relative(at, now_unix_ms)),
            None => format!("{}, never seen", link(view)),
        },
    );
    if let Some(cordoned) = &view.cordoned {
        let at = relative(cordoned.at_unix_ms, now_unix_ms);
        say("cordoned", format!("by {}, {at}: rollouts skip it until drover hosts uncordon", plain(&cordoned.by)));
    }
    say("labels", pairs(&view.labels));
    say("os", plain(&view.os));
    say("agent", plain(&view.agent_version));
    say("generation", format!("{} written, {} accepted", view.generation, view.generation_accepted));
    if let Some(refused) = refused(view.refused.as_ref()) {
        say("refused", refused);
    }
    say("enrolled", format!("{} with a token of {}", local(host.enrolled_unix_ms), plain(&host.enrolled_by)));
    say("certificate", format!("until {}", local(host.certificate_not_after_unix_ms)));
    say("report", relative_or_dash(host.reported_unix_ms, now_unix_ms));
    let mut rows = table(&["APP", "DESIRED", "RUNNING", "STATE", "WHY"]);
    let mut names: Vec<_> = host.apps_status.keys().chain(host.desired.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let status = host.apps_status.get(name);
        let kept = view.kept.contains(name).then(|| KEPT.to_owned());
        let detail = status.map(|s| plain(&detail(&s.phase))).filter(|detail| !detail.is_empty());
        let why: Vec<String> = kept.into_iter().chain(detail).collect();
        rows.add_row(vec![
            Cell::new(name),
            Cell::new(host.desired.get(name).map_or_else(|| "-".to_owned(), ToString::to_string)),
            Cell::new(running(status)),
            state_cell(status.map_or("unknown", |s| s.phase.word())),
            Cell::new(why.join("; ")),
        ]);
    }
    out.push('\n');
    out + &finish(&rows, "no apps")
}

/// `drover token list`.
#[must_use]
pub fn tokens(tokens: &[TokenView], now_unix_ms: i64) -> String {
    let mut rows = table(&["ID", "STATE", "USES LEFT", "EXPIRES", "LABELS", "BY"]);
    for token in tokens {
        rows.add_row(vec![
            Cell::new(&token.id),
            state_cell(&token.state),
            Cell::new(token.uses_left),
            Cell::new(relative(token.expires_unix_ms, now_unix_ms)),
            Cell::new(pairs(&token.labels)),
            Cell::new(&token.created_by),
        ]);
    }
    finish(&rows, "no tokens")
}

/// `drover operator list`.
#[must_use]
pub fn operators(operators: &[OperatorView], now_unix_ms: i64) -> String {
    let mut rows = table(&["OPERATOR", "STATE", "ADDED", "LOGGED IN"]);
    for operator in operators {
        let state = match (operator.revoked_unix_ms, operator.logged_in_unix_ms) {
            (Some(_), _) => "revoked",
            (None, Some(_)) => "valid",
            (None, None) => "not logged in yet",
        };
        rows.add_row(vec![
            Cell::new(&operator.name),
            state_cell(state),
            Cell::new(relative(operator.added_unix_ms, now_unix_ms)),
            Cell::new(relative_or_dash(operator.logged_in_unix_ms, now_unix_ms)),
        ]);
    }
    finish(&rows, "no operators")
}

/// `drover secret list`.
#[must_use]
pub fn secrets(secrets: &[SecretView], now_unix_ms: i64) -> String {
    let mut rows = table(&["SECRET", "ENVIRONMENT", "VERSION", "SET", "BY"]);
    for secret in secrets {
        let environment = if secret.environment.is_empty() { "(all)" } else { &secret.environment };
        rows.add_row(vec![
            Cell::new(&secret.name),
            Cell::new(environment),
            Cell::new(secret.version),
            Cell::new(relative(secret.set_unix_ms, now_unix_ms)),
            Cell::new(&secret.set_by),
        ]);
    }
    finish(&rows, "no secrets")
}

/// `drover audit`.
#[must_use]
pub fn audit(entries: &[AuditView]) -> String {
    let mut rows = table(&["WHEN", "WHO", "ACTION", "SUBJECT"]);
    for entry in entries {
        rows.add_row(vec![
            Cell::new(local(entry.at_unix_ms)),
            Cell::new(plain(&entry.who)),
            Cell::new(plain(&entry.action)),
            Cell::new(plain(&entry.subject)),
        ]);
    }
    finish(&rows, "nothing has been done yet")
}

/// What a host said to a desired state that it does not accept.
#[must_use]
pub fn refused(refused: Option<&RefusedSpec>) -> Option<String> {
    let RefusedSpec { generation, message } = refused?;
    Some(format!("the host refused desired state {generation}: {}", plain(message)))
}

pub(super) fn pairs<K: Display, V: Display>(map: &BTreeMap<K, V>) -> String {
    if map.is_empty() {
        return "-".to_owned();
    }
    map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(crate) mod tests {
    //! The tables of hosts and operators.
    use super::*;
    use crate::show::tests::bare;

    /// A host with one label and one app.
    pub(crate) fn host(name: &str, connected: bool) -> HostView {
        HostView {
            id: "h-0123456789abcdef".parse().unwrap(),
            name: name.parse().unwrap(),
            labels: [("role".parse().unwrap(), "web".parse().unwrap())].into(),
            connected,
            last_seen_unix_ms: Some(40_000),
            agent_version: "0.1.0".to_owned(),
            os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            generation: 3,
            generation_accepted: 3,
            refused: None,
            revoked_unix_ms: None,
            cordoned: None,
            apps: [("mono".parse().unwrap(), "17".to_owned())].into(),
            kept: Default::default(),
        }
    }

    #[test]
    fn hosts_are_listed_with_what_they_run() {
        let text = bare(&hosts(&[host("web-1", true), host("web-2", false)], 100_000));
        let expected = "\
HOST   STATE      LABELS    APPS     AGENT  SEEN     OS
web-1  connected  role=web  mono=17  0.1.0  60s ago  Debian GNU/Linux 12 (bookworm)
web-2  offline    role=web  mono=17  0.1.0  60s ago  Debian GNU/Linux 12 (bookworm)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_host_that_was_never_there_is_not_offline() {
        let mut new = host("web-1", false);
        new.last_seen_unix_ms = None;
        let text = bare(&hosts(&[new], 100_000));
        assert!(text.contains("web-1  not yet") && !text.contains("offline"), "{text}");
    }

    #[test]
    fn operators_have_a_state() {
        let operator = |name: &str, logged_in, revoked| OperatorView {
            name: name.parse().unwrap(),
            added_unix_ms: 0,
            logged_in_unix_ms: logged_in,
            revoked_unix_ms: revoked,
        };
        let all = [operator("ada", Some(0), None), operator("bob", None, None), operator("eve", Some(0), Some(1))];
        let text = bare(&operators(&all, 60_000));
        let states: Vec<&str> = text.lines().skip(1).map(|l| l[10..].split("  ").next().unwrap()).collect();
        assert_eq!(states, ["valid", "not logged in yet", "revoked"]);
    }
}
