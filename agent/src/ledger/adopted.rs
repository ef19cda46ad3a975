//! What this app took over that was somebody else's and is no file: how it was, so that it can be that again. Beside
//! `ledger`.

use drover_proto::{digest::Digest, name::ContainerName};
use serde::{Deserialize, Serialize};

use super::AppLedger;
use crate::host::{docker::ContainerState, systemd::UnitState};

/// How a unit of somebody else was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptedUnit {
    /// At boot.
    pub enabled: bool,
    /// Running.
    pub active: bool,
}

impl From<&UnitState> for AdoptedUnit {
    fn from(state: &UnitState) -> Self {
        Self {
            enabled: matches!(state.unit_file_state.as_str(), "enabled" | "enabled-runtime"),
            active: matches!(state.active_state.as_str(), "active" | "reloading" | "activating"),
        }
    }
}

/// A container of somebody else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptedContainer {
    /// The engine's, another for every container.
    pub id: String,
    /// Of the release that took it over as it is; `None` = another was made in its place at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Digest>,
    /// It ran.
    pub ran: bool,
    /// When the engine started it again, in the engine's word, and how often at most.
    pub restart: (String, i64),
}

impl AppLedger {
    /// From now on it is this app's, as it is.
    pub fn adopt_container(&mut self, name: &ContainerName, state: &ContainerState, fingerprint: Digest) {
        self.know(name, state).fingerprint = Some(fingerprint);
    }

    /// Another one is about to be made in the place of one that drover has not made.
    pub fn set_aside(&mut self, name: &ContainerName, state: &ContainerState) {
        self.know(name, state);
    }

    /// How it was is noted once: from then on drover has a hand in it.
    fn know(&mut self, name: &ContainerName, state: &ContainerState) -> &mut AdoptedContainer {
        let now = || AdoptedContainer {
            id: state.id.clone(),
            fingerprint: None,
            ran: state.running,
            restart: state.restart.clone(),
        };
        let known = self.adopted.entry(name.clone()).or_insert_with(now);
        if known.id != state.id {
            *known = now();
        }
        known
    }
}
