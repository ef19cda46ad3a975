//! `label=value` and its kin, by which routes, silences and maintenance windows choose alerts.

use std::{collections::BTreeMap, fmt, str::FromStr};

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

/// Of a compiled expression, in bytes.
const MAX_COMPILED_BYTES: usize = 64 << 10;
/// Of a matcher as it is written.
const MAX_BYTES: usize = 500;

/// One matcher. A label that an alert does not have is as if it were empty.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Matcher {
    text: String,
    label: String,
    wanted: Wanted,
    /// It must be so, or must not.
    positive: bool,
}

#[derive(Clone, Debug)]
enum Wanted {
    Text(String),
    /// Of the whole value.
    Pattern(Regex),
}

/// Why a text is no matcher.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no matcher: {1}; write label=value, label!=value, label=~regex or label!~regex, such as host=web-1")]
pub struct MatcherError(String, String);

impl FromStr for Matcher {
    type Err = MatcherError;
    fn from_str(text: &str) -> Result<Self, MatcherError> {
        let wrong = |why: &str| MatcherError(text.chars().take(80).collect(), why.to_owned());
        if text.len() > MAX_BYTES || text.chars().any(char::is_control) {
            return Err(wrong("it is one line of at most 500 bytes"));
        }
        let at = text.find(['=', '!']).ok_or_else(|| wrong("there is no = in it"))?;
        let (label, rest) = text.split_at(at);
        let label = label.trim();
        let signs = [("=~", true, true), ("!~", false, true), ("!=", false, false), ("=", true, false)];
        let found = signs.iter().find_map(|(sign, positive, is_pattern)| {
            rest.strip_prefix(sign).map(|value| (*positive, *is_pattern, value.trim().trim_matches('"')))
        });
        let (positive, is_pattern, value) = found.ok_or_else(|| wrong("there is no = in it"))?;
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        if label.is_empty() || !label.chars().all(is_word) {
            return Err(wrong("it must begin with the name of a label"));
        }
        let wanted = if is_pattern {
            let whole = format!("^(?:{value})$");
            let compiled = RegexBuilder::new(&whole).size_limit(MAX_COMPILED_BYTES).build();
            Wanted::Pattern(compiled.map_err(|_| wrong("its regular expression cannot be read, or is too large"))?)
        } else {
            Wanted::Text(value.to_owned())
        };
        Ok(Self { text: text.trim().to_owned(), label: label.to_owned(), wanted, positive })
    }
}

impl TryFrom<String> for Matcher {
    type Error = MatcherError;
    fn try_from(text: String) -> Result<Self, MatcherError> {
        text.parse()
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Matcher {}

impl Matcher {
    /// Whether it holds for these labels.
    #[must_use]
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.label).map_or("", String::as_str);
        let is_so = match &self.wanted {
            Wanted::Text(text) => text == value,
            Wanted::Pattern(pattern) => pattern.is_match(value),
        };
        is_so == self.positive
    }
}

/// Whether all of them hold. None hold for everything.
#[must_use]
pub fn holds(matchers: &[Matcher], labels: &BTreeMap<String, String>) -> bool {
    matchers.iter().all(|matcher| matcher.holds(labels))
}

#[cfg(test)]
mod tests {
    //! What matches what, and what is refused.
    use super::*;

    #[test]
    fn matchers_choose_by_whole_values() {
        let labels = BTreeMap::from([("host".to_owned(), "web-1".to_owned()), ("app".to_owned(), String::new())]);
        let rows = [
            ("host=web-1", true),
            ("host = \"web-1\"", true),
            ("host=web", false),
            ("host!=web-1", false),
            ("host=~web-.*", true),
            ("host=~web", false),
            ("host=~web-1|db", true),
            ("host!~db.*", true),
            ("zone=", true),
            ("zone!=a", true),
            ("zone=~.+", false),
        ];
        for (text, wanted) in rows {
            assert_eq!(text.parse::<Matcher>().unwrap().holds(&labels), wanted, "{text}");
        }
        assert!(holds(&[], &labels));
    }

    #[test]
    fn what_is_no_matcher_is_refused() {
        let bomb = format!("host=~{}", "(a{100}){100}".repeat(20));
        for text in ["", "host", "=x", "a b=c", "host=~(", "host\n=x", "host!x", bomb.as_str()] {
            assert!(text.parse::<Matcher>().is_err(), "{text:?}");
        }
    }
}
