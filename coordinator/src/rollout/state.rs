//! A rollout as it is stored: a document that holds everything `next` needs, so that a restart goes on from it.
//!
//! Neighbours: `next` moves it, `driver` stores it and carries out the effects, `rpc/operator` shows its view.

use std::collections::BTreeMap;

use drover_proto::{
    name::{AppName, Generation, HostId, HostName, ReleaseNumber, RolloutId},
    rollout::{HostState, RolloutState},
    status::{AppStatus, Failure},
    strategy::Strategy,
    view::{RolloutHostView, RolloutSummary, RolloutView},
};
use serde::{Deserialize, Serialize};

/// A host that is away for less than this (ms) when its turn comes is waited for; connections break for a moment when
/// the coordinator restarts.
pub const RECONNECT_GRACE_MS: i64 = 15_000;
/// Added (ms) to `healthy_deadline` before a host that went away in flight gives up its slot.
pub const LOST_MARGIN_MS: u64 = 10_000;

/// Why there is a rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `drover apply`.
    Apply,
    /// `drover rollback`.
    Rollback,
    /// `drover remove`.
    Remove,
    /// `drover restart`.
    Restart,
}

impl Kind {
    /// One word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Rollback => "rollback",
            Self::Remove => "remove",
            Self::Restart => "restart",
        }
    }
}

/// One rollout.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Its number.
    pub id: RolloutId,
    /// Of which app.
    pub app: AppName,
    /// Why.
    pub kind: Kind,
    /// Where the hosts go; `None` removes the app. For a restart the newest release that is restarted: each host keeps its
    /// own.
    pub target: Option<ReleaseNumber>,
    /// How.
    pub strategy: Strategy,
    /// The operator.
    pub started_by: String,
    /// Unix ms.
    pub started_unix_ms: i64,
    /// Unix ms, once it is final.
    pub ended_unix_ms: Option<i64>,
    /// Where it is.
    pub state: RolloutState,
    /// In rollout order.
    pub hosts: Vec<HostRun>,
    /// What is left of `progress_deadline`.
    pub progress_left_ms: u64,
    /// When time was last counted, Unix ms.
    pub counted_unix_ms: i64,
    /// Failures that an operator has seen and resumed from.
    pub excused: usize,
    /// Effects that were stored with the state and perhaps not carried out yet.
    pub due: Vec<Effect>,
    /// The one host that may run the hooks that run once; `None` = the release has none, or this rollout runs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
}

/// Which host of a rollout may run the hooks that run once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Once {
    /// The first to be given the release; never another from then on.
    pub host: Option<HostId>,
    /// It has been seen healthy with it: the others may have it, too.
    pub done: bool,
    /// It came to nothing, and an operator was told by a pause.
    pub told: bool,
}

/// One host of a rollout.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRun {
    /// Which.
    pub id: HostId,
    /// Its name when the rollout began.
    pub name: HostName,
    /// What it had before; `None` = it did not have the app.
    pub before: Option<ReleaseNumber>,
    /// The store does not know that release (this coordinator was restored from a backup): the host cannot be sent back,
    /// and is left alone.
    #[serde(default)]
    pub left_alone: bool,
    /// Where it is, for people and for `next`.
    pub state: HostState,
    /// Whether its stream is up.
    pub link: Link,
    /// What its host spec was last asked to hold; `None` = this rollout has not touched it.
    pub asked: Option<Asked>,
    /// The generation that holds what was asked; reports on older ones are about something else.
    pub generation: Option<Generation>,
    /// Forward or back.
    pub way: Way,
    /// How much longer (ms) it may be away in flight.
    pub grace_left_ms: u64,
    /// An operator removed the host while the rollout ran.
    pub removed: bool,
    /// An operator keeps rollouts away from it: this one has not touched it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
    /// Its last failure here, with evidence.
    pub failure: Option<Failure>,
}

/// What a host had of the app before the rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// A release that it can go back to.
    Release(ReleaseNumber),
    /// A release that the store does not know.
    Unknown(ReleaseNumber),
}

/// Whether a host's stream is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// It is.
    Up,
    /// Not since.
    Down {
        /** Unix ms. */
        since_unix_ms: i64,
    },
}

/// What a host spec is asked to hold for the app.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// `None`: the app is not there.
    pub release: Option<ReleaseNumber>,
    /// The host's deadlines stand still.
    pub paused: bool,
    /// It may run the hooks that run once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub run_once: bool,
}

/// Which way a host is going.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// To the target.
    Forward,
    /// To what it had before, when a slot is free.
    BackDue,
    /// To what it had before.
    Back,
    /// As far back as it can be seen to be.
    BackDone,
    /// It could not go back.
    BackFailed,
}

/// What the world has to do after a step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Write the app into the host's spec (or out of it). Doing it twice changes nothing.
    WriteSpec {
        /** Whose. */
        host: HostId,
        /** What. */
        asked: Asked,
    },
    /// The release has proven itself.
    MarkGood {
        /** Which. */
        release: ReleaseNumber,
    },
    /// The state is final.
    Finished,
}

/// Something that happened, and when.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Unix ms by the coordinator's clock.
    pub now_unix_ms: i64,
    /// What.
    pub what: What,
}

/// What can happen to a rollout.
#[derive(Clone, PartialEq, Debug)]
pub enum What {
    /// It begins.
    Start,
    /// The coordinator has restarted: no host is connected, and the time between does not count.
    Restarted,
    /// Time passes.
    Tick,
    /// A host's stream is up.
    HostConnected(HostId),
    /// A host's stream is down.
    HostLost(HostId),
    /// A host's report; `status` is that of this app, `None` when the host does not have it.
    HostReport {
        /** Whose. */
        host: HostId,
        /** That it has accepted. */
        generation: Generation,
        /** Of the app. */
        status: Option<Box<AppStatus>>,
    },
    /// An effect was carried out: the spec with what was asked has this generation.
    SpecWritten {
        /** Whose. */
        host: HostId,
        /** Of the spec. */
        generation: Generation,
    },
    /// The host does not accept its spec.
    SpecRefused {
        /** Whose. */
        host: HostId,
        /** Of the spec. */
        generation: Generation,
        /** Why. */
        message: String,
    },
    /// An operator removed the host.
    HostRemoved(HostId),
    /// An operator keeps rollouts away from a host.
    HostCordoned {
        /** Which. */
        host: HostId,
        /** Who. */
        by: String,
    },
    /// No longer.
    HostUncordoned(HostId),
    /// An operator.
    Pause {
        /** Who. */
        by: String,
    },
    /// An operator.
    Resume,
    /// An operator.
    Abort {
        /** Who. */
        by: String,
    },
    /// A newer rollout of the app.
    Superseded {
        /** Which. */
        by: RolloutId,
    },
}

impl HostRun {
    /// A host whose turn has not come.
    #[must_use]
    pub fn pending(id: HostId, name: HostName, before: Before, link: Link, strategy: &Strategy) -> Self {
        Self {
            id,
            name,
            before: match before {
                Before::Nothing => None,
                Before::Release(number) | Before::Unknown(number) => Some(number),
            },
            left_alone: matches!(before, Before::Unknown(_)),
            state: HostState::Pending,
            link,
            asked: None,
            generation: None,
            way: Way::Forward,
            grace_left_ms: grace_ms(strategy),
            removed: false,
            cordoned: false,
            failure: None,
        }
    }
    /// Whether it holds one of the `max_parallel` slots: its spec is written and it has not settled.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        match self.state {
            HostState::Fetching { .. }
            | HostState::Staged { .. }
            | HostState::Activating { .. }
            | HostState::Gating { .. }
            | HostState::Reverting { .. } => true,
            HostState::Pending
            | HostState::Healthy
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Skipped { .. }
            | HostState::Reverted { .. } => false,
        }
    }
    /// Why it failed, if it did.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        match &self.state {
            HostState::Failed { cause } | HostState::Reverted { cause } => Some(cause),
            _ => None,
        }
    }
}

/// How long (ms) a host may be away in flight.
#[must_use]
pub fn grace_ms(strategy: &Strategy) -> u64 {
    strategy.healthy_deadline.as_ms() + LOST_MARGIN_MS
}

impl Rollout {
    /// Hosts that hold a slot.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.hosts.iter().filter(|host| host.in_flight()).count()
    }
    /// Where a host goes; `None` removes the app.
    #[must_use]
    pub fn goal(&self, host: &HostRun) -> Option<ReleaseNumber> {
        match self.kind {
            Kind::Apply | Kind::Rollback | Kind::Remove => self.target,
            Kind::Restart => host.before,
        }
    }
    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.strategy.max_parallel.of(self.hosts.len())
    }
    /// Whether there is anything left to be done for it, now or after a restart.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.state.is_final() || !self.due.is_empty()
    }
    /// A line of `drover rollout list`.
    #[must_use]
    pub fn summary(&self) -> RolloutSummary {
        let mut hosts = BTreeMap::new();
        for host in &self.hosts {
            *hosts.entry(host.state.word().to_owned()).or_default() += 1;
        }
        RolloutSummary {
            id: self.id,
            app: self.app.clone(),
            release: self.target,
            state: self.state.clone(),
            kind: self.kind.word().to_owned(),
            started_by: self.started_by.clone(),
            started_unix_ms: self.started_unix_ms,
            ended_unix_ms: self.ended_unix_ms,
            hosts,
        }
    }
    /// All about it.
    #[must_use]
    pub fn view(&self) -> RolloutView {
        let targets = self.hosts.iter().map(|host| RolloutHostView {
            host: host.name.clone(),
            state: host.state.clone(),
            before: host.before,
            failure: host.failure.clone(),
            run_once: self.once.as_ref().is_some_and(|once| once.host.as_ref() == Some(&host.id)),
        });
        RolloutView { summary: self.summary(), targets: targets.collect() }
    }
}
