//! `drover events`: a table of what happened, and a line for each event that is followed.

use comfy_table::Cell;
use drover_proto::{name::AppName, view::EventView};
use owo_colors::OwoColorize as _;

use super::{
    plain,
    table::{finish, table},
    time::{local, relative},
};

/// One that came later than this is said to be late: its host was cut off, or its clock is wrong.
const LATE_MS: i64 = 60_000;

/// Oldest first.
#[must_use]
pub fn events(events: &[EventView]) -> String {
    let mut rows = table(&["TIME", "HOST", "APP", "KIND", "WHAT"]);
    for event in events {
        rows.add_row(vec![
            Cell::new(local(event.at_unix_ms)),
            Cell::new(host(event)),
            Cell::new(app(event)),
            Cell::new(plain(&event.kind)),
            Cell::new(what(event)),
        ]);
    }
    finish(&rows, "no events")
}

/// One event, for those who follow.
#[must_use]
pub fn line(event: &EventView) -> String {
    let (time, kind) = (local(event.at_unix_ms), plain(&event.kind));
    format!("{}  {:<12}  {:<12}  {kind:<20}  {}\n", time.dimmed(), host(event).cyan(), app(event), what(event))
}

fn host(event: &EventView) -> String {
    event.host.as_deref().map_or_else(|| "-".to_owned(), plain)
}

fn app(event: &EventView) -> &str {
    event.app.as_ref().map_or("-", AppName::as_str)
}

fn what(event: &EventView) -> String {
    let message = plain(&event.message);
    let late = event.received_unix_ms.saturating_sub(event.at_unix_ms);
    if late.abs() <= LATE_MS {
        return message;
    }
    // `3h ago`, `in 3h`: as seen when it arrived.
    let how_late = relative(event.at_unix_ms, event.received_unix_ms);
    let note = match how_late.strip_suffix(" ago") {
        Some(span) => format!("[came {span} later]"),
        None => "[the host's clock is ahead]".to_owned(),
    };
    format!("{message} {}", note.dimmed())
}

#[cfg(test)]
pub(crate) mod tests {
    //! Lines and tables.
    use super::*;
    use crate::show::tests::bare;

    pub(crate) fn event(id: i64, message: &str) -> EventView {
        EventView {
            id,
            at_unix_ms: 1_000_000,
            received_unix_ms: 1_000_000,
            host: Some("web-1".to_owned()),
            host_id: None,
            app: Some("mono".parse().unwrap()),
            kind: "drift-repaired".to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn an_event_is_one_line_that_says_when_it_came_late() {
        let text = bare(&line(&event(1, "put back\x1b[2J")));
        assert!(text.ends_with("  web-1         mono          drift-repaired        put back\\u{1b}[2J\n"), "{text}");
        let mut late = event(2, "put back");
        late.received_unix_ms += 3 * 3_600_000;
        assert!(bare(&line(&late)).ends_with("put back [came 3h later]\n"));
        late.received_unix_ms = 0;
        assert!(bare(&line(&late)).ends_with("put back [the host's clock is ahead]\n"));
        let own = EventView { host: None, app: None, ..event(3, "rollout 3 began") };
        let table = bare(&events(&[own]));
        assert!(
            table.starts_with("TIME") && table.contains("  -     -    drift-repaired  rollout 3 began\n"),
            "{table}"
        );
        assert_eq!(events(&[]), "no events\n");
    }
}
