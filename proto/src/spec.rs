//! The host spec: everything that one host should run, under one generation number. Written by the coordinator's
//! rollouts, sent down the agent's stream, kept by the agent in a mode-0600 file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    app::AppSpec,
    name::{AppName, Generation, HostId, HostName, LabelKey, LabelValue, ReleaseId, RolloutId, SecretName},
    secret::Secret,
};

/// The desired state of one host. A document: its digest tells a replay from a conflict.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// Whose it is; an agent refuses another's.
    pub host: HostId,
    /// The host's drover name.
    pub host_name: HostName,
    /// The host's labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Grows with every change.
    pub generation: Generation,
    /// The apps that should run; one that is gone is to be removed.
    pub apps: BTreeMap<AppName, DesiredApp>,
    /// Apps that stay as the host holds them, present or absent: after a restore from a backup the coordinator does not
    /// know what it last wrote of them. None of them is in `apps` as it is sent; the agent puts in what it holds.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keep: BTreeSet<AppName>,
}

/// One app on one host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredApp {
    /// The release.
    pub release: ReleaseId,
    /// The rollout that asked for it. A release that failed is tried again only for another rollout.
    pub rollout: RolloutId,
    /// Deadlines stand still while the rollout is paused.
    pub paused: bool,
    /// This host may run the hooks that run on one host of the rollout only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub run_once: bool,
    /// The app's units are to be running since this restart or a later one: the number of the rollout that asked for it;
    /// 0 = nobody ever did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restart: RolloutId,
    /// What the release consists of.
    pub spec: AppSpec,
    /// The values of `spec.secrets`, in the versions that the release pins.
    pub secrets: BTreeMap<SecretName, Secret<String>>,
}

fn is_zero(number: &RolloutId) -> bool {
    *number == 0
}
