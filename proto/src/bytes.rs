//! Amounts of disk, as people write and read them: `10 GiB`, `500MiB`, `1.5 GB`. Beside `duration`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What is written behind the number, and how many bytes it is. The first that is not more than an amount shows it.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// So many bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

/// Why a text is no amount.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no amount: write a number and B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, such as \"10 GiB\"")]
pub struct BytesError(String);

impl FromStr for Bytes {
    type Err = BytesError;
    fn from_str(text: &str) -> Result<Self, BytesError> {
        let wrong = || BytesError(text.chars().take(40).collect());
        let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = (&text[..number_ends], text[number_ends..].trim());
        let (_, each) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let digits = u32::try_from(part.len()).ok().filter(|digits| (1..=9).contains(digits)).ok_or_else(wrong)?;
        let part: u64 = part.parse().map_err(|_| wrong())?;
        let part = u128::from(part) * u128::from(*each) / 10_u128.pow(digits);
        let bytes = u128::from(whole) * u128::from(*each) + part;
        u64::try_from(bytes).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS[..4].iter().find(|(_, each)| *each <= self.0) {
            Some((name, each)) => {
                let text = format!("{:.1}", self.0 as f64 / *each as f64);
                write!(f, "{} {name}", text.strip_suffix(".0").unwrap_or(&text))
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        // Exactly, unlike what people are shown.
        format!("{} B", bytes.0)
    }
}

impl TryFrom<String> for Bytes {
    type Error = BytesError;
    fn try_from(text: String) -> Result<Self, BytesError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    //! What is read, what is refused, what is shown.
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        let rows =
            [("10 GiB", 10 << 30), ("500MiB", 500 << 20), ("1.5 GB", 1_500_000_000), ("0 B", 0), ("7 kB", 7_000)];
        for (text, bytes) in rows {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
            assert_eq!(String::from(Bytes(bytes)).parse(), Ok(Bytes(bytes)));
        }
        for text in ["", "10", "GiB", "-1 GiB", "10 gib", "1. GiB", ".5 GiB", "1.2.3 GiB", "99999999999 TiB", "1 GiB x"]
        {
            assert!(text.parse::<Bytes>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn amounts_are_shown_in_the_largest_unit_that_fits() {
        let rows = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (10 << 30, "10 GiB"), (3_333_333, "3.2 MiB")];
        for (bytes, text) in rows {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
