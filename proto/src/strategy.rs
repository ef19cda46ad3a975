//! How a rollout moves over its hosts. See docs/MANIFEST.md, `strategy:`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{app::AppError, duration::Span};

/// The pace, patience and temper of a rollout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    /// Hosts in flight at once; a percentage is of the targets, rounded down, at least 1.
    pub max_parallel: CountOrPercent,
    /// How long a host must be healthy without a break; a relapse or a new process starts it again.
    pub min_healthy_time: Span,
    /// For one host, from its switch to being healthy.
    pub healthy_deadline: Span,
    /// For the rollout, from one host becoming healthy to the next; stands still while paused.
    pub progress_deadline: Span,
    /// The rollout stops when more hosts than this have failed.
    pub max_failures: u32,
    /// What happens then.
    pub on_failure: OnFailure,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            max_parallel: CountOrPercent::Count(1),
            min_healthy_time: Span::from_secs(10),
            healthy_deadline: Span::from_secs(300),
            progress_deadline: Span::from_secs(600),
            max_failures: 0,
            on_failure: OnFailure::Rollback,
        }
    }
}

/// What a rollout does when too many hosts have failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Every host that it touched goes back to the release it had.
    Rollback,
    /// It waits for an operator.
    Pause,
    /// It goes on, and ends `failed` if any host did.
    Continue,
}

/// A number of hosts, or a part of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CountOrPercent {
    /// So many, at least 1.
    Count(u32),
    /// 1 to 100 per cent.
    Percent(u8),
}

impl CountOrPercent {
    /// How many of `total` hosts: rounded down, at least 1.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => (count as usize).max(1),
            Self::Percent(percent) => (total * usize::from(percent) / 100).max(1),
        }
    }
}

/// A text that is neither a count nor a percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a number of hosts (at least 1) or a percentage from 1% to 100%")]
pub struct CountError;

impl FromStr for CountOrPercent {
    type Err = CountError;
    fn from_str(text: &str) -> Result<Self, CountError> {
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse::<u8>() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(CountError),
            },
            None => match text.parse::<u32>() {
                Ok(count) if count > 0 => Ok(Self::Count(count)),
                _ => Err(CountError),
            },
        }
    }
}
impl TryFrom<String> for CountOrPercent {
    type Error = CountError;
    fn try_from(text: String) -> Result<Self, CountError> {
        text.parse()
    }
}
impl From<CountOrPercent> for String {
    fn from(count: CountOrPercent) -> Self {
        count.to_string()
    }
}
impl fmt::Display for CountOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Strategy {
    /// Combinations that could never succeed.
    #[must_use]
    pub fn check(&self) -> Vec<AppError> {
        let mut found = Vec::new();
        let mut say = |field: &str, what: String| found.push(AppError { field: format!("strategy.{field}"), what });
        if self.min_healthy_time >= self.healthy_deadline {
            say(
                "min_healthy_time",
                format!(
                    "{} is not shorter than healthy_deadline ({}): no host could ever become healthy in time",
                    self.min_healthy_time, self.healthy_deadline
                ),
            );
        }
        if self.healthy_deadline >= self.progress_deadline {
            say(
                "healthy_deadline",
                format!(
                    "{} is not shorter than progress_deadline ({}): the rollout would give up before its first host",
                    self.healthy_deadline, self.progress_deadline
                ),
            );
        }
        found
    }
}
