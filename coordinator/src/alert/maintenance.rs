//! Windows in which nobody is told: on these days, from a time of day on, for so long. Pure; the time zone comes from the system's list.

use jiff::{Timestamp, ToSpan as _, Zoned, civil, tz::TimeZone};
use serde::Deserialize;

use super::matcher::Matcher;
use drover_proto::duration::Span;

/// At most; longer is what `drover silence` is for.
const MAX_LASTS: Span = Span::from_secs(7 * 86_400);

/// `[[maintenance]]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// For people.
    pub name: String,
    /// The alerts that it holds back; none = all.
    #[serde(default, rename = "match")]
    pub matchers: Vec<Matcher>,
    /// On which it begins; none = on every day.
    #[serde(default)]
    pub days: Vec<Day>,
    /// `02:00`.
    pub start: Clock,
    /// From then on.
    pub lasts: Span,
    /// E.g. `Asia/Shanghai`.
    #[serde(default)]
    pub time_zone: Zone,
}

/// A day of the week.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday …
    Mon,
    /// …
    Tue,
    /// …
    Wed,
    /// …
    Thu,
    /// …
    Fri,
    /// …
    Sat,
    /// … Sunday
    Sun,
}

impl From<Day> for civil::Weekday {
    fn from(day: Day) -> Self {
        match day {
            Day::Mon => Self::Monday,
            Day::Tue => Self::Tuesday,
            Day::Wed => Self::Wednesday,
            Day::Thu => Self::Thursday,
            Day::Fri => Self::Friday,
            Day::Sat => Self::Saturday,
            Day::Sun => Self::Sunday,
        }
    }
}

/// A time of day, `HH:MM`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Clock(civil::Time);

impl TryFrom<String> for Clock {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let time = civil::Time::strptime("%H:%M", &text);
        time.map(Self).map_err(|_| format!("{text:?} is no time of day: write it as 02:00"))
    }
}

/// A time zone of the IANA list; UTC unless said.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl TryFrom<String> for Zone {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "UTC" {
            return Ok(Self::default());
        }
        let zone = TimeZone::get(&text);
        zone.map(Self).map_err(|_| {
            format!("{text:?} is no time zone of this machine: write it as Asia/Shanghai (and install tzdata)")
        })
    }
}

impl Window {
    /// What one field's type cannot hold.
    #[must_use]
    pub fn check(&self) -> Option<String> {
        let is_good = self.lasts > Span::default() && self.lasts <= MAX_LASTS;
        (!is_good).then(|| format!("lasts must be more than 0s and at most {MAX_LASTS}"))
    }

    /// Until when the window goes on that is open at a time, Unix ms; `None`: none is.
    #[must_use]
    pub fn open_until(&self, now_unix_ms: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(now_unix_ms).ok()?;
        let here = now.to_zoned(self.time_zone.0.clone());
        // It may have begun up to so many days ago.
        let days_back = i64::try_from(self.lasts.as_ms() / 86_400_000).ok()? + 1;
        (0..=days_back)
            .filter_map(|back| self.ends(&here, back))
            .find(|(begins, ends)| *begins <= now && now < *ends)
            .map(|(_, ends)| ends.as_millisecond())
    }

    /// Of the window of so many days before `now`.
    fn ends(&self, now: &Zoned, days_back: i64) -> Option<(Timestamp, Timestamp)> {
        let date = now.date().checked_sub(days_back.days()).ok()?;
        let is_its_day =
            self.days.is_empty() || self.days.iter().any(|day| civil::Weekday::from(*day) == date.weekday());
        if !is_its_day {
            return None;
        }
        // Where the clock leaps over its start, it begins after the leap.
        let begins = date.to_datetime(self.start.0).to_zoned(self.time_zone.0.clone()).ok()?.timestamp();
        let lasts = i64::try_from(self.lasts.as_ms()).ok()?;
        Some((begins, begins.checked_add(lasts.milliseconds()).ok()?))
    }
}

#[cfg(test)]
mod tests {
    //! When a window is open.
    use super::*;

    fn window(days: Vec<Day>, start: &str, lasts: &str) -> Window {
        Window {
            name: "nightly".to_owned(),
            matchers: vec![],
            days,
            start: start.to_owned().try_into().unwrap(),
            lasts: lasts.parse().unwrap(),
            time_zone: Zone(TimeZone::fixed(jiff::tz::offset(8))),
        }
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn a_window_opens_on_its_days_in_its_zone_and_goes_over_midnight() {
        // 2026-11-28 is a Saturday.
        let weekend = window(vec![Day::Sat], "23:00", "2h");
        let rows = [
            ("2026-11-28T14:59:59Z", None),
            ("2026-11-28T15:00:00Z", Some("2026-11-28T17:00:00Z")),
            ("2026-11-28T16:30:00Z", Some("2026-11-28T17:00:00Z")),
            ("2026-11-28T17:00:00Z", None),
            ("2026-11-29T15:30:00Z", None),
        ];
        for (now, until) in rows {
            assert_eq!(weekend.open_until(at(now)), until.map(at), "{now}");
        }
        let days = window(vec![Day::Sat], "00:00", "3d");
        assert!(
            days.open_until(at("2026-11-30T15:59:59Z")).is_some()
                && days.open_until(at("2026-11-30T16:00:00Z")).is_none()
        );
        assert!(window(vec![], "00:00", "0s").check().is_some() && window(vec![], "00:00", "8d").check().is_some());
        assert!(Clock::try_from("25:00".to_owned()).is_err() && Zone::try_from("Nowhere/Else".to_owned()).is_err());
    }
}
