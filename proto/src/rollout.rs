//! The states of a rollout and of each host in it, as every program names them. The coordinator's `rollout` moves them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a rollout is; the reason is part of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RolloutState {
    /// Stored; no host spec written yet.
    Planned,
    /// Hosts are being moved.
    Running,
    /// Nothing new is begun and every deadline stands still.
    Paused {
        /** `paused by NAME`, or why it paused itself. */
        reason: String,
    },
    /// Every host that it touched is going back.
    RollingBack {
        /** Why. */
        cause: String,
    },
    /// Every target is healthy, or was skipped.
    Succeeded,
    /// Every host that it touched has its release of before.
    RolledBack {
        /** Why. */
        cause: String,
    },
    /// Some host could not go back.
    RollbackFailed {
        /** Why. */
        cause: String,
    },
    /// It gave up, and left hosts as they are.
    Failed {
        /** Why. */
        cause: String,
    },
    /// A newer rollout of the app took its place.
    Superseded {
        /** Which. */
        by: u64,
    },
    /// An operator ended it.
    Aborted {
        /** Who. */
        by: String,
    },
}

impl RolloutState {
    /// Whether it will never change again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Planned | Self::Running | Self::Paused { .. } | Self::RollingBack { .. } => false,
            Self::Succeeded
            | Self::RolledBack { .. }
            | Self::RollbackFailed { .. }
            | Self::Failed { .. }
            | Self::Superseded { .. }
            | Self::Aborted { .. } => true,
        }
    }
    /// One word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Paused { .. } => "paused",
            Self::RollingBack { .. } => "rolling_back",
            Self::Succeeded => "succeeded",
            Self::RolledBack { .. } => "rolled_back",
            Self::RollbackFailed { .. } => "rollback_failed",
            Self::Failed { .. } => "failed",
            Self::Superseded { .. } => "superseded",
            Self::Aborted { .. } => "aborted",
        }
    }
    /// Why it is so, if there is more to say than the word.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Planned | Self::Running | Self::Succeeded => None,
            Self::Paused { reason: text }
            | Self::RollingBack { cause: text }
            | Self::RolledBack { cause: text }
            | Self::RollbackFailed { cause: text }
            | Self::Failed { cause: text } => Some(text.clone()),
            Self::Superseded { by } => Some(format!("rollout {by} took its place")),
            Self::Aborted { by } => Some(format!("by {by}")),
        }
    }
}

/// Where one host is within a rollout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum HostState {
    /// Its turn has not come.
    Pending,
    /// Its host spec is written; it has not begun, or is fetching.
    Fetching {
        /** What just now. */
        step: String,
    },
    /// Unpacked, being built or checked.
    Staged {
        /** What just now. */
        step: String,
    },
    /// The switch.
    Activating {
        /** What just now. */
        step: String,
    },
    /// Waiting for health.
    Gating {
        /** Without a break, so far. */
        healthy_for_ms: u64,
        /** What is not healthy yet. */
        waiting_for: Vec<String>,
    },
    /// Proven; or, for a removal, gone.
    Healthy,
    /// It failed and has (or had) nothing to go back to, or could not go back.
    Failed {
        /** Why. */
        cause: String,
    },
    /// It went away in flight and was not back when its own deadline was surely past; until then it kept its slot and
    /// its state. That is no failure.
    Unreachable {
        /** Unix ms when the coordinator noticed. */
        since_unix_ms: i64,
    },
    /// It was not connected when its turn came; it converges when it is back.
    Skipped {
        /** Why. */
        reason: String,
    },
    /// Going back.
    Reverting {
        /** Why. */
        cause: String,
    },
    /// Back on the release before.
    Reverted {
        /** Why. */
        cause: String,
    },
}

impl HostState {
    /// One word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Fetching { .. } => "fetching",
            Self::Staged { .. } => "staged",
            Self::Activating { .. } => "activating",
            Self::Gating { .. } => "gating",
            Self::Healthy => "healthy",
            Self::Failed { .. } => "failed",
            Self::Unreachable { .. } => "unreachable",
            Self::Skipped { .. } => "skipped",
            Self::Reverting { .. } => "reverting",
            Self::Reverted { .. } => "reverted",
        }
    }
    /// What more there is to say.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Pending | Self::Healthy | Self::Unreachable { .. } => String::new(),
            Self::Fetching { step: text }
            | Self::Staged { step: text }
            | Self::Activating { step: text }
            | Self::Failed { cause: text }
            | Self::Skipped { reason: text }
            | Self::Reverting { cause: text }
            | Self::Reverted { cause: text } => text.clone(),
            Self::Gating { healthy_for_ms, waiting_for } if waiting_for.is_empty() => {
                format!("healthy for {:.1} s", *healthy_for_ms as f64 / 1000.0)
            }
            Self::Gating { waiting_for, .. } => format!("waiting for {}", waiting_for.join(", ")),
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
