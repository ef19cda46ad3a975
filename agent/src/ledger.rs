//! What an app's activations did to this host, durable: the committed release, what is owned, what each unit was last
//! started with, and the activation in flight. Written by `reconcile` around each step, read by `plan`.
//!
//! The transitions are here, pure, so that tests can carry out a plan without a host.

mod adopted;
mod effects;
mod handover;
mod images;
mod once;
mod projects;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    digest::Digest,
    name::{AbsPath, AppName, ContainerName, ProjectName, ReleaseId, RolloutId, UnitName, UpstreamName},
    spec::DesiredApp,
    status::{Failure, Phase},
};
use serde::{Deserialize, Serialize};

pub use adopted::{AdoptedContainer, AdoptedUnit};
pub use effects::{reload_effect, unit_effect};
pub use handover::{Instances, is_expected};
pub use images::{Images, called};
pub use once::{Once, OnceState};
pub use projects::{Brought, Built, Projects, ServiceRecord};
pub use store::{LedgerError, Ledgers, SetAside};

use crate::{
    host::clock::Moment,
    render::{FileKind, Rendered, RenderedFile},
};

/// One app's ledger.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppLedger {
    /// The app.
    pub app: AppName,
    /// The last committed release, whole: what a failed activation goes back to.
    pub current: Option<DesiredApp>,
    /// Keys of the trees of the current release and of the one committed before it; the others are deleted.
    pub trees: Vec<String>,
    /// Files that this app has written.
    pub owned_files: BTreeMap<AbsPath, OwnedFile>,
    /// Units that this app has written.
    pub owned_units: BTreeMap<UnitName, OwnedUnit>,
    /// Containers that this app has made, or is about to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub owned_containers: BTreeSet<ContainerName>,
    /// Those of them that were somebody else's before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adopted: BTreeMap<ContainerName, AdoptedContainer>,
    /// Compose projects that this app has brought up, or is about to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub projects: Projects,
    /// Those that stood there before, and that no committed release has made something else of: what compose made of each
    /// when it was taken over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stood: BTreeMap<ProjectName, Digest>,
    /// What was built of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub built: BTreeMap<ProjectName, Vec<Built>>,
    /// Images of the committed release and of the one before it.
    #[serde(default, skip_serializing_if = "Images::are_unknown")]
    pub images: Images,
    /// Files of somebody else that this app took over; their content lies in `originals/`.
    pub originals: BTreeMap<AbsPath, Original>,
    /// `unit:X` → what it was last (re)started with, `reload:PATH` → what was last validated and reloaded.
    pub effects: BTreeMap<String, Digest>,
    /// The activation in flight.
    pub activation: Option<Activation>,
    /// The last failure, until the next success.
    pub failure: Option<Failure>,
    /// Not tried again until another release or rollout is asked for.
    pub failed_attempt: Option<(ReleaseId, RolloutId)>,
    /// How the last activation ended.
    pub settled: Option<Settled>,
    /// What this host has done of the hooks that run on one host of a rollout only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// `current` was committed, and a crash may still take along that this was told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untold: bool,
    /// The instances of what is replaced by another one beside it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub handovers: BTreeMap<UpstreamName, Instances>,
}

/// A file that an app has written.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnedFile {
    /// Units to be reloaded when it goes.
    pub reload: BTreeSet<UnitName>,
    /// Units to be restarted when it goes.
    pub restart: BTreeSet<UnitName>,
    /// It is gone, but the activation that removed it is not committed.
    pub removed: bool,
}

/// A unit that an app has written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnedUnit {
    /// How it was before it was taken over.
    pub adopted: Option<AdoptedUnit>,
}

/// A file of somebody else that was put aside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Original {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// An activation that has begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// What is activated; `None` = the app is being removed.
    pub desired: Option<DesiredApp>,
    /// For which rollout; 0 for a removal, which no spec names.
    pub rollout: RolloutId,
    /// Unix ms.
    pub started_unix_ms: i64,
    /// Unix ms.
    pub switched_unix_ms: Option<i64>,
    /// From here the deadline counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched_at: Option<Moment>,
    /// The host is not as the committed release left it: failing means going back.
    pub touched: bool,
    /// How far it is.
    pub stage: Stage,
    /// Hooks that have ended well in it, each with its release: an agent that was interrupted after them runs them no more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hooks: BTreeSet<String>,
}

/// A hook in [`Activation::hooks`].
#[must_use]
pub fn hook_of(release: &ReleaseId, name: &str) -> String {
    format!("{release} {name}")
}

impl Activation {
    /// From when the deadline counts.
    #[must_use]
    pub fn switched(&self) -> Moment {
        let unix_ms = self.switched_unix_ms.unwrap_or(self.started_unix_ms);
        self.switched_at.clone().unwrap_or_else(|| Moment { unix_ms, ..Moment::default() })
    }
}

/// How far an activation is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing that runs has been touched.
    Preparing,
    /// Files and units are being changed.
    Switching,
    /// Waiting for health.
    Gating,
    /// Going back.
    Reverting(Box<Failure>),
}

/// How an activation ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// Of which release.
    pub release: ReleaseId,
    /// For which rollout.
    pub rollout: RolloutId,
    /// How.
    pub phase: Phase,
}

impl AppLedger {
    /// Of an app that this host has never had.
    #[must_use]
    pub fn new(app: AppName) -> Self {
        Self {
            app,
            current: None,
            trees: Vec::new(),
            owned_files: BTreeMap::new(),
            owned_units: BTreeMap::new(),
            owned_containers: BTreeSet::new(),
            adopted: BTreeMap::new(),
            projects: Projects::new(),
            stood: BTreeMap::new(),
            built: BTreeMap::new(),
            images: Images::default(),
            originals: BTreeMap::new(),
            effects: BTreeMap::new(),
            activation: None,
            failure: None,
            failed_attempt: None,
            settled: None,
            once: None,
            untold: false,
            handovers: BTreeMap::new(),
        }
    }

    /// A restart that this host has seen is not undone by a spec that does not know of it (the host was enrolled anew, or the
    /// coordinator restored): units would be restarted for nothing.
    pub fn remember_restart(&self, desired: &mut DesiredApp) {
        let seen = self.current.as_ref().map_or(0, |current| current.restart);
        desired.restart = desired.restart.max(seen);
    }

    /// Whether files of an activation may lie on the host that nobody has checked.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        let stage = self.activation.as_ref().map(|activation| &activation.stage);
        matches!(stage, Some(Stage::Switching | Stage::Reverting(_)))
    }

    /// Whether the file at `path` is this app's and not removed.
    #[must_use]
    pub fn owns(&self, path: &AbsPath) -> bool {
        self.owned_files.get(path).is_some_and(|file| !file.removed)
    }

    /// A file is about to be written: from now on it is this app's.
    pub fn claim(&mut self, file: &RenderedFile, original: Option<Original>, unit_before: Option<AdoptedUnit>) {
        let owned = OwnedFile { reload: file.reload.clone(), restart: file.restart.clone(), removed: false };
        self.owned_files.insert(file.path.clone(), owned);
        if let Some((upstream, port)) = &file.leads_to {
            self.point(upstream, *port);
        }
        if let Some(original) = original {
            self.originals.insert(file.path.clone(), original);
        }
        if let FileKind::Unit(name) = &file.kind {
            self.owned_units.entry(name.clone()).or_insert(OwnedUnit { adopted: unit_before });
        }
    }

    /// The instances of templates, which have no files of their own, are this app's from now on. `before` says how one was
    /// that somebody else had.
    pub fn claim_instances(&mut self, rendered: &Rendered, before: impl Fn(&UnitName) -> Option<AdoptedUnit>) {
        for (name, unit) in rendered.units.iter().filter(|(name, unit)| **name != unit.file) {
            let owned = || OwnedUnit { adopted: before(name).filter(|_| unit.adopt) };
            self.owned_units.entry(name.clone()).or_insert_with(owned);
        }
    }

    /// The containers and compose projects of a release are this app's from now on.
    pub fn claim_containers(&mut self, rendered: &Rendered) {
        self.owned_containers.extend(rendered.containers.keys().cloned());
        self.claim_projects(rendered);
    }

    /// A file is gone, or the original is back.
    pub fn released(&mut self, path: &AbsPath) {
        self.originals.remove(path);
        if let Some(file) = self.owned_files.get_mut(path) {
            file.removed = true;
        }
    }

    /// Before the switch: what the plan is about to bring about is not true yet, whatever a crash leaves behind.
    pub fn expect(&mut self, units: impl IntoIterator<Item = UnitName>, files: impl IntoIterator<Item = AbsPath>) {
        let nothing = Digest::of(b"");
        for key in units.into_iter().map(|u| unit_effect(&u)).chain(files.into_iter().map(|p| reload_effect(&p))) {
            self.effects.insert(key, nothing);
        }
    }

    /// A unit has been (re)started.
    pub fn started(&mut self, unit: &UnitName, fingerprint: Digest) {
        self.effects.insert(unit_effect(unit), fingerprint);
    }

    /// Every step up to the gate has been carried out: files are reloaded, and what served files that are gone has been
    /// told. An agent that wakes up in the gate does none of that again.
    pub fn switched(&mut self, rendered: &Rendered) {
        self.owned_files.retain(|_, file| !file.removed);
        self.record_reloads(rendered);
        if let Some(activation) = &mut self.activation {
            activation.stage = Stage::Gating;
        }
    }

    /// The activation of `desired` succeeded.
    pub fn commit(&mut self, desired: &DesiredApp, rendered: &Rendered, now_unix_ms: i64) {
        self.forget_dropped(rendered);
        self.record_effects(rendered);
        self.settle_projects();
        self.settle_handovers(rendered);
        if let Some(tree) = &rendered.tree {
            self.trees.retain(|key| *key != tree.key);
            self.trees.insert(0, tree.key.clone());
        }
        self.trees.truncate(2);
        // To go back to it one day is no reason to run again what runs once.
        self.current = Some(DesiredApp { run_once: false, ..desired.clone() });
        self.commit_images();
        self.activation = None;
        // Going back to an older release is no answer to why the newer one failed.
        let answered = |failure: &Failure| failure.release.number <= desired.release.number;
        self.failure = self.failure.take_if(|failure| !answered(failure));
        self.failed_attempt = None;
        let phase = Phase::Healthy { since_unix_ms: now_unix_ms };
        self.settled = Some(Settled { release: desired.release.clone(), rollout: desired.rollout, phase });
    }

    /// The release before is back: everything of it runs as `rendered` says.
    pub fn reverted(&mut self, rendered: Option<&Rendered>) {
        self.activation = None;
        match rendered {
            None => {
                self.owned_files.clear();
                self.owned_units.clear();
                self.owned_containers.clear();
                self.adopted.clear();
                self.projects.clear();
                self.stood.clear();
                self.effects.clear();
                self.handovers.clear();
            }
            Some(rendered) => {
                self.forget_dropped(rendered);
                self.record_effects(rendered);
                self.settle_handovers(rendered);
            }
        }
    }

    /// Going back failed too. What the failed release wrote and what is gone (`there` says no) is forgotten unless
    /// `current` wants it: otherwise every later activation would tell the units that it served once more.
    pub fn gave_up(&mut self, current: Option<&Rendered>, there: impl Fn(&AbsPath) -> bool) {
        self.activation = None;
        let wanted = |path: &AbsPath| current.is_some_and(|current| current.file(path).is_some());
        let originals = &self.originals;
        self.owned_files
            .retain(|path, file| wanted(path) || originals.contains_key(path) || (!file.removed && there(path)));
        let (files, units) = (&self.owned_files, &self.owned_units);
        let instances = self.handovers.values().flat_map(|of| of.all.values()).map(handover::effect);
        let known: BTreeSet<String> =
            units.keys().map(unit_effect).chain(files.keys().map(reload_effect)).chain(instances).collect();
        self.effects.retain(|key, _| known.contains(key));
    }
}

#[cfg(test)]
mod tests;
