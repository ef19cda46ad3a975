//! Something that happened on a host and that nobody asked for just then: what an agent did by itself, how an activation
//! ended, what became of hosts and rollouts. Kept by the agent until the coordinator has it; shown by `drover events`.
//!
//! Like the status it only tells: unknown fields and kinds are let through.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::AppName;

/// One event, as the agent's outbox keeps it and the coordinator stores it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When it happened, by the host's clock; Unix ms.
    pub at_unix_ms: i64,
    /// Of which app; none = of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// What.
    pub kind: EventKind,
    /// One plain sentence, without secrets.
    pub message: String,
}

/// What happened, in a word that does not change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The agent has started.
    AgentStarted,
    /// Something else runs or stands there than the release says.
    DriftFound,
    /// It is as the release says again.
    DriftRepaired,
    /// It cannot be repaired, or its budget is spent: it is left, and reported.
    DriftLeft,
    /// A unit that systemd had given up on was started again.
    UnitRestarted,
    /// The restart budget of a unit is spent: it is left, and reported.
    RestartsSpent,
    /// Watched files have changed, and what reads them was restarted or told; or could not be, or some are not watched.
    FilesChanged,
    /// A certificate that others had renewed is good, and its units have read it.
    CertificateReloaded,
    /// One that is not good, or was not taken: nobody was told to read it.
    CertificateRefused,
    /// A run of a unit that a timer starts failed.
    JobFailed,
    /// An activation has begun.
    ActivationStarted,
    /// An activation that the agent's end had interrupted goes on.
    ActivationResumed,
    /// A release is committed.
    ActivationCommitted,
    /// A release failed, and what ran before runs again.
    ActivationReverted,
    /// A release failed, and going back failed too.
    ActivationFailed,
    /// An app is gone from the host.
    AppRemoved,
    /// A damaged or foreign file of the agent's own was put aside.
    StateSetAside,
    /// What such a file had said is known again.
    StateRecovered,
    /// Images, containers or releases that nobody needs were removed, or there is more than the disk's budget and nothing may go.
    DiskPruned,
    /// An alert has begun to fire.
    AlertFiring,
    /// It is over.
    AlertResolved,
    /// The host has a new certificate.
    CertificateRenewed,
    /// Events were dropped, since the coordinator was away for longer than there was room.
    EventsDropped,
    /// A host has been enrolled; told by the coordinator, as are all below. All of them are in `OF_COORDINATOR`.
    HostEnrolled,
    /// A host has been removed.
    HostRemoved,
    /// A host's certificates have been taken away.
    HostRevoked,
    /// An operator keeps rollouts away from a host.
    HostCordoned,
    /// No longer.
    HostUncordoned,
    /// All apps are taken from a host.
    HostDrained,
    /// A rollout has begun.
    RolloutStarted,
    /// A rollout is over.
    RolloutEnded,
    /// An alert that only the coordinator can tell has begun to fire, such as that a host is unreachable.
    FleetAlertFiring,
    /// It is over.
    FleetAlertResolved,
    /// A notification was given up: the other side refuses it, or has not taken it for too long.
    NotificationFailed,
    /// A kind that this build does not know.
    #[serde(untagged)]
    Other(String),
}

impl EventKind {
    /// What only the coordinator tells: of a host, these words are not taken.
    pub const OF_COORDINATOR: [Self; 11] = [
        Self::HostEnrolled,
        Self::HostRemoved,
        Self::HostRevoked,
        Self::HostCordoned,
        Self::HostUncordoned,
        Self::HostDrained,
        Self::RolloutStarted,
        Self::RolloutEnded,
        Self::FleetAlertFiring,
        Self::FleetAlertResolved,
        Self::NotificationFailed,
    ];
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(word)) => f.write_str(&word),
            Ok(_) | Err(_) => Err(fmt::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    //! The words on the wire.
    use super::*;

    #[test]
    fn a_kind_is_one_word_and_an_unknown_one_gets_through() {
        assert_eq!(EventKind::DriftRepaired.to_string(), "drift-repaired");
        let newer: EventKind = serde_json::from_str("\"reactor-scrammed\"").unwrap();
        assert_eq!(newer, EventKind::Other("reactor-scrammed".to_owned()));
        assert_eq!(newer.to_string(), "reactor-scrammed");
        assert_eq!(serde_json::from_str::<EventKind>("\"agent-started\"").unwrap(), EventKind::AgentStarted);
    }
}
