//! Times for people: `3m ago`, `in 2h`. The clock is an argument, so that tests have none.

use jiff::{Timestamp, tz::TimeZone};

/// Unix ms now.
#[must_use]
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// `3m ago`, `just now`, or `in 2h`, in the largest unit that fits.
#[must_use]
pub fn relative(at_unix_ms: i64, now_unix_ms: i64) -> String {
    let apart = now_unix_ms.saturating_sub(at_unix_ms);
    let seconds = apart.unsigned_abs() / 1000;
    let text = match seconds {
        0..=1 => return "just now".to_owned(),
        2..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    };
    if apart > 0 { format!("{text} ago") } else { format!("in {text}") }
}

/// `relative` of a time that may not have been; `-` then.
#[must_use]
pub fn relative_or_dash(at_unix_ms: Option<i64>, now_unix_ms: i64) -> String {
    at_unix_ms.map_or_else(|| "-".to_owned(), |at| relative(at, now_unix_ms))
}

/// `2026-11-20 10:58:03`, in this machine's time zone.
#[must_use]
pub fn local(at_unix_ms: i64) -> String {
    stamp(at_unix_ms, "%Y-%m-%d %H:%M:%S", TimeZone::system())
}

/// `10:58:03`, in this machine's time zone.
#[must_use]
pub fn clock(at_unix_ms: i64) -> String {
    stamp(at_unix_ms, "%H:%M:%S", TimeZone::system())
}

fn stamp(at_unix_ms: i64, format: &str, zone: TimeZone) -> String {
    match Timestamp::from_millisecond(at_unix_ms) {
        Ok(time) => time.to_zoned(zone).strftime(format).to_string(),
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    //! The words at the borders.
    use super::*;

    #[test]
    fn times_are_said_as_people_do() {
        for (apart_s, text) in
            [(0, "just now"), (5, "5s ago"), (180, "3m ago"), (7_200, "2h ago"), (259_200, "3d ago"), (-7_260, "in 2h")]
        {
            assert_eq!(relative(1_000_000_000 - apart_s * 1000, 1_000_000_000), text);
        }
        assert_eq!(relative_or_dash(None, 0), "-");
        assert_eq!(stamp(0, "%Y-%m-%d %H:%M:%S", TimeZone::UTC), "1970-01-01 00:00:00");
    }
}
