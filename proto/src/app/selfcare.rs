//! What the agent does by itself about an app that is not as its release says. Beside `app`.

use serde::{Deserialize, Serialize};

use crate::duration::Span;

/// What the agent does by itself when a part is not as the release says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// It makes it so again.
    #[default]
    Repair,
    /// It says so and touches nothing.
    Report,
    /// It neither says nor does anything.
    Ignore,
}

impl Drift {
    /// For documents, which leave out what is as it always was.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How often a unit that is down is started again by the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartBudget {
    /// So often within `window`; then the unit is left, and reported. 0 = never.
    pub attempts: u32,
    /// When so much time has passed since the last attempt, it begins anew.
    pub window: Span,
    /// Before the second attempt; doubled before each further one, up to five minutes.
    pub backoff: Span,
}

impl Default for RestartBudget {
    fn default() -> Self {
        Self { attempts: 5, window: Span::from_secs(600), backoff: Span::from_secs(10) }
    }
}
