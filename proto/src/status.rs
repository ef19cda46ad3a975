//! The observed state of a host, as its agent reports it. Level-triggered: a newer report replaces every older one.
//! The coordinator keeps it cut to its limits; unlike specs, unknown fields are let through, for newer agents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    alert::AlertStatus,
    code::Code,
    name::{AppName, CheckName, Generation, ReleaseId, RolloutId},
};

/// All of a host's apps.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HostStatus {
    /// The accepted generation.
    pub generation: Generation,
    /// Unix time in ms on the host's own clock.
    pub observed_unix_ms: i64,
    /// Of the running kernel.
    pub boot_id: String,
    /// By app: those desired and those still there.
    pub apps: BTreeMap<AppName, AppStatus>,
    /// Alerts that are pending or fire, in the order of their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<AlertStatus>,
}

/// One app on one host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AppStatus {
    /// What the host spec asks for; `None` = gone from it.
    pub desired: Option<ReleaseId>,
    /// The rollout that asked for it.
    pub rollout: RolloutId,
    /// The release whose commit was the last.
    pub running: Option<ReleaseId>,
    /// Where the activation of `desired` is.
    pub phase: Phase,
    /// Desired beside observed, part by part.
    pub parts: Vec<PartStatus>,
    /// The last failure, kept until the next success.
    pub failure: Option<Failure>,
    /// How its checks stand; what they are asked is in `parts`, too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<CheckName, CheckStatus>,
}

/// How a check stands on one host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckStatus {
    /// It passes.
    pub ok: bool,
    /// One line: what came back last, and if it does not pass, what was wanted.
    pub answer: String,
    /// How long that answer took, in ms.
    pub took_ms: u64,
    /// When that was; Unix ms on the host's clock. Told anew when something changes, and else once a minute.
    pub at_unix_ms: i64,
    /// Answers in a row that were not as wanted.
    pub failures: u32,
}

/// Where one app is on one host; the reason is part of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Phase {
    /// Accepted, not begun.
    Pending,
    /// Host needs and artifact are being fetched.
    Fetching {
        /** What just now. */
        step: String,
    },
    /// Unpacking, building, checking; nothing running has been touched.
    Staging {
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
    /// Seen healthy for min_healthy_time and committed.
    Healthy {
        /** Unix ms of the commit. */
        since_unix_ms: i64,
    },
    /// Committed and healthy then, not now.
    Degraded {
        /** What is wrong. */
        problems: Vec<String>,
    },
    /// It failed; the release before is being activated again.
    Reverting {
        /** Why. */
        cause: String,
    },
    /// It failed, and the release before (or nothing) is back.
    Reverted {
        /** What runs now. */
        to: Option<ReleaseId>,
        /** Why. */
        cause: String,
    },
    /// The app could not be removed, or its activation failed and going back failed too: the host needs a person. An
    /// activation that failed before anything was touched is `Reverted`.
    Failed {
        /** Why. */
        cause: String,
    },
    /// Parts are being stopped and removed.
    Removing {
        /** What just now. */
        step: String,
    },
    /// Nothing of it is left but directories, users and packages.
    Removed,
}

impl Phase {
    /// Every word that `word` gives.
    pub const WORDS: [&str; 12] = [
        "pending",
        "fetching",
        "staging",
        "activating",
        "gating",
        "healthy",
        "degraded",
        "reverting",
        "reverted",
        "failed",
        "removing",
        "removed",
    ];

    /// One word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Fetching { .. } => "fetching",
            Self::Staging { .. } => "staging",
            Self::Activating { .. } => "activating",
            Self::Gating { .. } => "gating",
            Self::Healthy { .. } => "healthy",
            Self::Degraded { .. } => "degraded",
            Self::Reverting { .. } => "reverting",
            Self::Reverted { .. } => "reverted",
            Self::Failed { .. } => "failed",
            Self::Removing { .. } => "removing",
            Self::Removed => "removed",
        }
    }

    /// Whether the activation has ended, one way or the other.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Healthy { .. }
            | Self::Degraded { .. }
            | Self::Reverted { .. }
            | Self::Failed { .. }
            | Self::Removed => true,
            Self::Pending
            | Self::Fetching { .. }
            | Self::Staging { .. }
            | Self::Activating { .. }
            | Self::Gating { .. }
            | Self::Reverting { .. }
            | Self::Removing { .. } => false,
        }
    }
}

/// A part, desired beside observed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartStatus {
    /// `unit`, `file`, `artifact`, `check` …
    pub kind: String,
    /// Its name or path.
    pub name: String,
    /// As the release wants it.
    pub desired: String,
    /// As it is.
    pub observed: String,
    /// Whether the two agree.
    pub in_sync: bool,
}

/// Why an activation failed, with what a person would look for next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// A code of docs/ERRORS.md.
    pub code: Code,
    /// Of which release.
    pub release: ReleaseId,
    /// For which rollout.
    pub rollout: RolloutId,
    /// Unix ms on the host's clock.
    pub at_unix_ms: i64,
    /// The step that failed, e.g. `gate`, `nginx -t`.
    pub step: String,
    /// One plain sentence.
    pub cause: String,
    /// What was seen: unit state, exit code or signal, last log lines since the activation, the last probe's answer.
    pub evidence: Vec<Evidence>,
}

/// One thing that was seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// Of what, e.g. `unit mono-api.service`, `journal of mono-api.service`, `check api`, `output of nginx -t`.
    pub title: String,
    /// The lines, oldest first.
    pub lines: Vec<String>,
}
