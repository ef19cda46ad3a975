//! The tables of `drover alerts`, `silence` and `notify`: the worst first, and why nobody is told of some.

use comfy_table::{Cell, Color, ColumnConstraint, Table};
use drover_proto::{
    alert::{AlertState, Severity},
    name::AppName,
    view::{AlertView, AlertsView, NotifierAnswer, NotifierView, SilenceView},
};
use owo_colors::OwoColorize as _;

use super::{
    count, plain,
    table::{finish, paint, state_cell, table},
    time::{local, relative, relative_or_dash},
};

/// Whether somebody should do something: it fires, and is not held back.
#[must_use]
pub fn counts(alert: &AlertView) -> bool {
    alert.state == AlertState::Firing && alert.muted.is_none()
}

/// `drover alerts`.
#[must_use]
pub fn alerts(view: &AlertsView, now_unix_ms: i64) -> String {
    let mut text = finish(&rows(&view.alerts, now_unix_ms), "no alerts");
    if view.more > 0 {
        text.push_str(&format!("and {} more (--host, --app)\n", view.more));
    }
    if view.waiting > 0 {
        let number = usize::try_from(view.waiting).unwrap_or(usize::MAX);
        text.push_str(&format!("{} not delivered yet (drover notify list)\n", count(number, "notification")));
    }
    for (name, why) in &view.failing {
        text.push_str(&format!("{} {name}: {}\n", paint("failed", "cannot notify"), plain(why)));
    }
    text
}

/// Those of one host, in `drover hosts show`.
#[must_use]
pub fn of_host(alerts: &[AlertView], now_unix_ms: i64) -> String {
    let mut rows = rows(alerts, now_unix_ms);
    if let Some(host) = rows.column_mut(HOST) {
        host.set_constraint(ColumnConstraint::Hidden);
    }
    finish(&rows, "no alerts")
}

/// The column with the host.
const HOST: usize = 2;

fn rows(alerts: &[AlertView], now_unix_ms: i64) -> Table {
    let mut rows = table(&["SEVERITY", "ALERT", "HOST", "APP", "STATE", "SINCE", "WHAT"]);
    for alert in alerts {
        let state = match (alert.state, &alert.muted) {
            (AlertState::Pending, _) => "pending",
            (AlertState::Firing, None) => "firing",
            (AlertState::Firing, Some(_)) => "muted",
        };
        let summary = plain(&alert.summary);
        let what = match &alert.muted {
            Some(why) => format!("{summary} {}", format!("[{}]", plain(why)).dimmed()),
            None => summary,
        };
        rows.add_row(vec![
            severity_cell(alert.severity),
            Cell::new(&alert.alert),
            Cell::new(&alert.host),
            Cell::new(alert.app.as_ref().map_or("-", AppName::as_str)),
            state_cell(state),
            Cell::new(relative(alert.since_unix_ms, now_unix_ms)),
            Cell::new(what),
        ]);
    }
    rows
}

fn severity_cell(severity: Severity) -> Cell {
    let cell = Cell::new(severity.word());
    match severity {
        Severity::Critical => cell.fg(Color::Red),
        Severity::Warning => cell.fg(Color::Yellow),
        Severity::Info => cell,
    }
}

/// `drover silence list`.
#[must_use]
pub fn silences(silences: &[SilenceView], now_unix_ms: i64) -> String {
    let mut rows = table(&["ID", "STATE", "MATCHERS", "ALERTS", "UNTIL", "BY", "WHY"]);
    for silence in silences {
        let until = match silence.state.as_str() {
            "waiting" => format!("from {} to {}", local(silence.starts_unix_ms), local(silence.ends_unix_ms)),
            _ => format!("{} ({})", local(silence.ends_unix_ms), relative(silence.ends_unix_ms, now_unix_ms)),
        };
        rows.add_row(vec![
            Cell::new(&silence.id),
            state_cell(&silence.state),
            Cell::new(plain(&silence.matchers.join(" "))),
            Cell::new(silence.alerts),
            Cell::new(until),
            Cell::new(plain(&silence.created_by)),
            Cell::new(plain(&silence.reason)),
        ]);
    }
    finish(&rows, "no silences")
}

/// `drover notify list`.
#[must_use]
pub fn notifiers(notifiers: &[NotifierView], now_unix_ms: i64) -> String {
    let mut rows = table(&["NOTIFIER", "KIND", "TO", "STATE", "WAITING", "DELIVERED", "DETAIL"]);
    for notifier in notifiers {
        let state = match (&notifier.failure, notifier.delivered_unix_ms) {
            (Some(_), _) => "failing",
            (None, Some(_)) => "healthy",
            (None, None) => "unused",
        };
        rows.add_row(vec![
            Cell::new(&notifier.name),
            Cell::new(&notifier.kind),
            Cell::new(plain(&notifier.to)),
            state_cell(state),
            Cell::new(notifier.waiting),
            Cell::new(relative_or_dash(notifier.delivered_unix_ms, now_unix_ms)),
            Cell::new(notifier.failure.as_deref().map(plain).unwrap_or_default()),
        ]);
    }
    finish(&rows, "no notifiers: /etc/drover/alerting.toml on the coordinator's machine has them")
}

/// `drover notify test`.
#[must_use]
pub fn answer(answer: &NotifierAnswer) -> String {
    let word = if answer.ok { paint("healthy", "taken") } else { paint("failed", "not taken") };
    format!("{} {word} after {} ms: {}\n", answer.name, answer.took_ms, plain(&answer.answer))
}

#[cfg(test)]
mod tests {
    //! What people see.
    use std::collections::BTreeMap;

    use super::*;
    use crate::show::tests::bare;

    fn alert(muted: Option<&str>) -> AlertView {
        AlertView {
            alert: "disk".parse().unwrap(),
            host: "web-1".parse().unwrap(),
            host_id: "h-0000000000000001".parse().unwrap(),
            app: None,
            subject: "/".to_owned(),
            state: AlertState::Firing,
            severity: Severity::Critical,
            since_unix_ms: 0,
            summary: "disk / is 97% full\x1b[2J".to_owned(),
            muted: muted.map(ToOwned::to_owned),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn an_alert_is_one_line_that_says_why_nobody_is_told() {
        let failing = BTreeMap::from([("ops".parse().unwrap(), "500".to_owned())]);
        let view =
            AlertsView { alerts: vec![alert(None), alert(Some("silenced by ada"))], more: 3, waiting: 2, failing };
        let text = bare(&alerts(&view, 180_000));
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "SEVERITY ALERT HOST APP STATE SINCE WHAT",
                "critical disk web-1 - firing 3m ago disk / is 97% full\\u{1b}[2J",
                "critical disk web-1 - muted 3m ago disk / is 97% full\\u{1b}[2J [silenced by ada]",
                "and 3 more (--host, --app)",
                "2 notifications not delivered yet (drover notify list)",
                "cannot notify ops: 500",
            ]
        );
        assert!(counts(&view.alerts[0]) && !counts(&view.alerts[1]));
        assert_eq!(alerts(&AlertsView::default(), 0), "no alerts\n");
    }

    #[test]
    fn a_host_lists_its_own_without_its_name_and_marks_those_that_are_silenced() {
        let unreachable = AlertView {
            alert: "unreachable".parse().unwrap(),
            subject: String::new(),
            state: AlertState::Pending,
            summary: "web-1 cannot be reached".to_owned(),
            ..alert(None)
        };
        let of_app = AlertView { app: Some("mono".parse().unwrap()), ..alert(Some("silenced by ada")) };
        let expected = "\
SEVERITY  ALERT        APP   STATE    SINCE   WHAT
critical  unreachable  -     pending  3m ago  web-1 cannot be reached
critical  disk         mono  muted    3m ago  disk / is 97% full\\u{1b}[2J [silenced by ada]
";
        assert_eq!(bare(&of_host(&[unreachable, of_app], 180_000)), expected);
        assert_eq!(of_host(&[], 0), "no alerts\n");
    }
}
