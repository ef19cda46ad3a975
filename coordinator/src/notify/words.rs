//! What a notification says, for every kind of receiver: the line above it, what is said of each alert, and how much of it fits.
//! Everything that comes of a host is hostile: what is read here has one line, no control characters and a length. Pure.

use std::{collections::BTreeSet, fmt::Write as _};

use jiff::Timestamp;

use super::{Notification, Told};

/// Of one value; a summary is shorter.
const MAX_VALUE_CHARS: usize = 500;
/// Labels that the sentence about an alert says already.
const SAID: [&str; 3] = ["alert", "host", "severity"];

/// The line above: `[FIRING:2]` and `disk on web-1 (critical)`.
pub(super) struct Headline {
    /// Of drover itself.
    pub(super) badge: String,
    /// Of the alerts.
    pub(super) rest: String,
}

impl std::fmt::Display for Headline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.badge, self.rest)
    }
}

/// One alert, in words.
pub(super) struct Entry {
    /// It fires; else it is over.
    pub(super) is_firing: bool,
    /// `CRITICAL`, `WARNING`, `INFO` or `RESOLVED`.
    pub(super) mark: String,
    /// `disk on web-1`.
    pub(super) what: String,
    /// One sentence.
    pub(super) summary: String,
    /// `since 2026-11-30 06:42:19 UTC`.
    pub(super) when: String,
    /// `app=shop subject=/var`; may be empty.
    pub(super) labels: String,
    /// `runbook` and what it says.
    pub(super) notes: Vec<(String, String)>,
}

impl Entry {
    /// As several lines, for receivers that show text as it is.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} {}: {}\n  {}", self.mark, self.what, self.summary, self.when);
        if !self.labels.is_empty() {
            text.push_str(&format!("\n  {}", self.labels));
        }
        for (key, value) in &self.notes {
            text.push_str(&format!("\n  {key}: {value}"));
        }
        text
    }
}

/// How many fire.
pub(super) fn firing(notification: &Notification) -> usize {
    notification.alerts.iter().filter(|told| told.ended_unix_ms.is_none()).count()
}

/// `firing` or `resolved`.
pub(super) fn status(notification: &Notification) -> &'static str {
    if firing(notification) > 0 { "firing" } else { "resolved" }
}

/// The line above.
pub(super) fn headline(notification: &Notification) -> Headline {
    let firing = firing(notification);
    let more = if notification.more > 0 { "+" } else { "" };
    let badge = if firing > 0 { format!("[FIRING:{firing}{more}]") } else { "[RESOLVED]".to_owned() };
    let (alerts, hosts) = (values(notification, "alert"), values(notification, "host"));
    let mut rest = one_or_many(&alerts, "alerts");
    if !hosts.is_empty() {
        rest.push_str(&format!(" on {}", one_or_many(&hosts, "hosts")));
    }
    let shown = notification.alerts.iter().filter(|told| firing == 0 || told.ended_unix_ms.is_none());
    if let Some(worst) = shown.map(|told| told.severity).max() {
        rest.push_str(&format!(" ({})", worst.word()));
    }
    if !notification.reason.is_empty() {
        rest.push_str(&format!(", {}", plain(&notification.reason)));
    }
    Headline { badge, rest: cut(&rest, 150) }
}

fn values(notification: &Notification, label: &str) -> BTreeSet<String> {
    let values = notification.alerts.iter().filter_map(|told| told.labels.get(label));
    values.map(|value| plain(value)).filter(|value| !value.is_empty()).collect()
}

fn one_or_many(values: &BTreeSet<String>, many: &str) -> String {
    match (values.first(), values.len()) {
        (Some(one), 1) => one.clone(),
        (_, count) => format!("{count} {many}"),
    }
}

/// All alerts, in their order.
pub(super) fn entries(notification: &Notification) -> Vec<Entry> {
    notification.alerts.iter().map(entry).collect()
}

fn entry(told: &Told) -> Entry {
    let is_firing = told.ended_unix_ms.is_none();
    let label = |key: &str| told.labels.get(key).map(|value| plain(value)).unwrap_or_default();
    let (alert, host) = (label("alert"), label("host"));
    let started = moment(told.started_unix_ms);
    let others = told.labels.iter().filter(|(key, value)| !SAID.contains(&key.as_str()) && !value.is_empty());
    let mut labels = String::new();
    for (key, value) in others {
        let space = if labels.is_empty() { "" } else { " " };
        // Into a String it cannot fail.
        write!(labels, "{space}{}={}", plain(key), plain(value)).unwrap_or_default();
    }
    Entry {
        is_firing,
        mark: if is_firing { told.severity.word().to_uppercase() } else { "RESOLVED".to_owned() },
        what: if host.is_empty() { alert } else { format!("{alert} on {host}") },
        summary: plain(&told.summary),
        when: match told.ended_unix_ms {
            None => format!("since {started}"),
            Some(ended) => format!("from {started} to {}", moment(ended)),
        },
        labels: cut(&labels, 1000),
        notes: told.annotations.iter().map(|(key, value)| (plain(key), plain(value))).collect(),
    }
}

/// `2026-11-30 06:42:19 UTC`
fn moment(unix_ms: i64) -> String {
    let text = Timestamp::from_second(unix_ms.div_euclid(1000)).unwrap_or_default().to_string();
    format!("{} UTC", text.replace('T', " ").trim_end_matches('Z'))
}

/// RFC 3339, in UTC, with milliseconds.
pub(super) fn rfc3339(unix_ms: i64) -> String {
    format!("{:.3}", Timestamp::from_millisecond(unix_ms).unwrap_or_default())
}

/// One line of what may be shown: no control characters, nothing that turns the direction of the text or cannot be seen, at
/// most 500 characters.
pub(super) fn plain(text: &str) -> String {
    let is_unseen = |c: char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let seen = text.chars().filter(|c| !is_unseen(*c)).map(|c| if is_break(c) { ' ' } else { c });
    // One more than is kept, so that it is known to be cut.
    let line: String = seen.take(MAX_VALUE_CHARS + 1).collect();
    cut(line.trim(), MAX_VALUE_CHARS)
}

/// At most so many characters; `…` says that there were more.
pub(super) fn cut(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// For the markdown of chat programs. What means something in it becomes a character that looks like it: none of them
/// documents how to escape one.
pub(super) fn markdown(text: &str) -> String {
    let swap = |c: char| match c {
        '[' => '［',
        ']' => '］',
        '<' => '＜',
        '>' => '＞',
        '*' => '＊',
        '#' => '＃',
        '`' => '\'',
        '|' => '｜',
        '~' => '～',
        other => other,
    };
    text.chars().map(swap).collect()
}

/// How many bytes a text has as a string of JSON.
pub(super) fn json_bytes(text: &str) -> usize {
    text.bytes().map(|b| if matches!(b, b'"' | b'\\' | b'\n' | b'\r' | b'\t') { 2 } else { 1 }).sum::<usize>() + 2
}

/// `head` and as many of `blocks` as fit into `max` by `size`; then how many did not, with the `more` that were left out before.
pub(super) fn fit(head: &str, blocks: &[String], more: usize, max: usize, size: impl Fn(&str) -> usize) -> String {
    let tail = |left: usize| format!("… and {left} more\n");
    let room = max.saturating_sub(size(&tail(usize::MAX)));
    let mut text = head.to_owned();
    let mut taken = 0;
    for block in blocks {
        if size(&text) + size(block) > room {
            break;
        }
        text.push_str(block);
        taken += 1;
    }
    let left = blocks.len() - taken + more;
    if left > 0 {
        text.push_str(&tail(left));
    }
    text
}

#[cfg(test)]
mod tests {
    //! Headlines, moments, cuts.
    use super::*;
    use crate::notify::tests::{hostile, notification};

    #[test]
    fn the_line_above_says_how_many_what_where_and_how_bad() {
        let mut n = notification();
        assert_eq!(headline(&n).to_string(), "[FIRING:1] 2 alerts on web-1 (critical)");
        n.alerts.truncate(1);
        assert_eq!(headline(&n).to_string(), "[FIRING:1] disk on web-1 (critical)");
        n.more = 7;
        n.reason = "still firing".to_owned();
        assert_eq!(headline(&n).to_string(), "[FIRING:1+] disk on web-1 (critical), still firing");
        n.alerts.clear();
        assert_eq!(headline(&n).to_string(), "[RESOLVED] 0 alerts, still firing");
        n = notification();
        n.alerts.remove(0);
        assert_eq!(headline(&n).to_string(), "[RESOLVED] load on web-1 (warning)");
    }

    #[test]
    fn an_alert_is_told_in_lines() {
        let lines: Vec<String> = entries(&notification()).iter().map(Entry::text).collect();
        let firing = "CRITICAL disk on web-1: /var is 91.2% full\n  since 2026-11-30 06:42:19 UTC\n  app=shop subject=/var\n  \
            runbook: https://wiki.example.org/disk?a=1&b=2";
        assert_eq!(lines[0], firing);
        assert!(lines[1].starts_with("RESOLVED load on web-1: "), "{}", lines[1]);
        assert!(lines[1].contains("from 2026-11-30 06:32:19 UTC to 2026-11-30 06:42:19 UTC"), "{}", lines[1]);
        assert_eq!(rfc3339(1_796_020_939_123), "2026-11-30T06:42:19.123Z");
    }

    #[test]
    fn what_a_host_says_is_one_line_without_tricks() {
        assert_eq!(plain("a\r\nBcc: x\u{0}\u{1b}[31m\u{202e}b\u{200b}\u{2028}c"), "a  Bcc: x  [31mb c");
        assert_eq!(plain(&"ä".repeat(10_000)).chars().count(), 500);
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert!(headline(&hostile()).to_string().lines().count() == 1);
        assert_eq!(markdown("[x](http://e) <@all> **b**"), "［x］(http://e) ＜@all＞ ＊＊b＊＊");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let blocks: Vec<String> = (0..10).map(|i| format!("block {i}\n")).collect();
        let whole = fit("head\n", &blocks, 0, 1000, str::len);
        assert!(whole.ends_with("block 9\n"), "{whole}");
        assert!(fit("head\n", &blocks, 3, 1000, str::len).ends_with("block 9\n… and 3 more\n"));
        let some = fit("head\n", &blocks, 3, 80, str::len);
        assert!(some.len() <= 80 && some.starts_with("head\nblock 0\n"), "{some}");
        let kept = some.matches("block").count();
        assert!(kept < 10 && some.ends_with(&format!("… and {} more\n", 13 - kept)), "{some}");
        assert_eq!(json_bytes("a\"\\\n"), serde_json::to_string("a\"\\\n").unwrap().len());
    }
}
