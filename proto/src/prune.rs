//! What a host holds on its disk for apps, what of it goes, and why each of the rest stays. Made by the agent's `disk`, carried
//! by the coordinator, shown by `drover prune`.
//!
//! Like the status it only tells: unknown fields and words are let through.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::{AppName, HostName};

/// The answer to `drover prune`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PruneView {
    /// Nothing was removed: it is what would go.
    pub planned: bool,
    /// By name.
    pub hosts: Vec<HostPrune>,
}

/// One host of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostPrune {
    /// Which.
    pub host: HostName,
    /// What it answered.
    pub outcome: HostPruneOutcome,
}

/// What a host answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPruneOutcome {
    /// This.
    Pruned(PruneReport),
    /// It could not be asked, or could not answer.
    Error(String),
}

/// One pass over a host's disk.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PruneReport {
    /// What drover may hold there; none = nobody has said, and everything that nobody needs goes.
    pub budget_bytes: Option<u64>,
    /// What drover held before.
    pub held_bytes: u64,
    /// What has gone, or would go.
    pub freed_bytes: u64,
    /// Each thing, those that go first.
    pub items: Vec<PruneItem>,
    /// Things that stay and for which there was no room here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// One thing on a disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PruneItem {
    /// What it is.
    pub kind: PruneKind,
    /// What it is called.
    pub name: String,
    /// For which app drover made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// With what it shares with others; none = nobody can say.
    pub size_bytes: Option<u64>,
    /// Since when it is there; Unix ms.
    pub since_unix_ms: Option<i64>,
    /// What becomes of it.
    pub verdict: PruneVerdict,
}

/// What a thing on a disk is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PruneKind {
    /// The directory of a release.
    Release,
    /// A container that does not run.
    Container,
    /// An image.
    Image,
    /// What the engine keeps of builds.
    BuildCache,
    /// Something that this build does not know.
    #[serde(untagged)]
    Other(String),
}

/// What becomes of a thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PruneVerdict {
    /// It would go.
    Goes,
    /// It has gone.
    Gone,
    /// It was to go, and could not be removed; why.
    Failed(String),
    /// It stays.
    Kept {
        /// In a word that does not change.
        because: Because,
        /// In a few words.
        reason: String,
    },
}

/// Why something stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// It is of what runs.
    Runs,
    /// It is of the release before, to which a rollback leads.
    ReleaseBefore,
    /// The desired state names it.
    Wanted,
    /// Somebody is at work with it, or may be.
    InFlight,
    /// A container is made of it.
    UsedByContainer,
    /// Other builds are made of it.
    UsedByBuilds,
    /// drover did not make it.
    NotDrovers,
    /// Somebody gave it another name.
    NamedByOthers,
    /// What drover knew of it is damaged.
    Unknown,
    /// There is room for it.
    WithinBudget,
    /// A word that this build does not know.
    #[serde(untagged)]
    Other(String),
}

/// The word on the wire.
fn word(value: &impl Serialize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => f.write_str(&word),
        Ok(_) | Err(_) => Err(fmt::Error),
    }
}

impl fmt::Display for PruneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        word(self, f)
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        word(self, f)
    }
}

#[cfg(test)]
mod tests {
    //! The document on the wire.
    use super::*;

    #[test]
    fn words_do_not_change_and_unknown_ones_get_through() {
        let kept = PruneVerdict::Kept { because: Because::ReleaseBefore, reason: "a rollback needs it".to_owned() };
        let json = serde_json::json!({ "kept": { "because": "release-before", "reason": "a rollback needs it" } });
        assert_eq!(serde_json::to_value(&kept).unwrap(), json);
        assert_eq!(serde_json::to_value(PruneVerdict::Goes).unwrap(), "goes");
        let newer: PruneKind = serde_json::from_str("\"volume\"").unwrap();
        assert_eq!((&newer, newer.to_string()), (&PruneKind::Other("volume".to_owned()), "volume".to_owned()));
        assert_eq!(PruneKind::BuildCache.to_string(), "build-cache");
    }
}
