//! What was last brought up of compose projects: which is what should be there from then on. Beside `ledger`.

use std::collections::BTreeMap;

use drover_proto::{
    digest::Digest,
    name::{ProjectName, RolloutId},
};
use serde::{Deserialize, Serialize};

use super::AppLedger;
use crate::render::Rendered;

/// An app's projects; `None` = nobody can say what is there: it is about to be brought up.
pub type Projects = BTreeMap<ProjectName, Option<Brought>>;

/// What compose made of a project.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brought {
    /// Of what it was brought up with.
    pub inputs: Digest,
    /// Of what compose made of that.
    pub config: Digest,
    /// The restart that its services have seen.
    pub restart: RolloutId,
    /// What stood there then, by service.
    pub services: BTreeMap<String, ServiceRecord>,
}

/// The containers of a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRecord {
    /// Compose's own label: what they were made of.
    pub hash: String,
    /// `sha256:…` of their image's configuration.
    pub image: String,
    /// As it is called in the compose file.
    pub image_name: String,
    /// How many.
    pub count: usize,
}

/// So many builds of a project are known: the one that runs, the one before, and what was tried since.
const KEPT: usize = 4;

/// Images that were built.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Built {
    /// Of what: compose's files as it understood them, and the artifact.
    pub of: Digest,
    /// How each is called → `sha256:…` of its configuration. Another build takes the name away.
    pub images: BTreeMap<String, String>,
}

impl AppLedger {
    /// What was built of this.
    #[must_use]
    pub fn built_of(&self, project: &ProjectName, of: Digest) -> Option<&Built> {
        self.built.get(project)?.iter().find(|built| built.of == of)
    }

    /// Something was built.
    pub fn note_built(&mut self, project: &ProjectName, built: Built) {
        let all = self.built.entry(project.clone()).or_default();
        all.retain(|before| before.of != built.of);
        all.insert(0, built);
        all.truncate(KEPT);
    }

    pub(super) fn claim_projects(&mut self, rendered: &Rendered) {
        // What is taken over is so only by the step that does it: until then it is somebody else's, and stays when the app goes.
        for (name, _) in rendered.compose.iter().filter(|(_, project)| !project.adopt) {
            self.projects.entry(name.clone()).or_default();
        }
    }

    /// One that was taken over is drover's from the first release on that makes something else of it; not because a service was
    /// started again, or made again as it was.
    pub(super) fn settle_projects(&mut self) {
        let projects = &self.projects;
        let is_same = |name: &ProjectName, stood: &Digest| match projects.get(name) {
            Some(Some(brought)) => brought.config == *stood,
            Some(None) | None => true,
        };
        self.stood.retain(|name, stood| is_same(name, stood));
    }

    /// What is committed came to the same for compose, or it would have been brought up.
    pub(super) fn record_projects(&mut self, rendered: &Rendered) {
        for (name, project) in &rendered.compose {
            if let Some(Some(brought)) = self.projects.get_mut(name) {
                brought.inputs = project.inputs;
            }
        }
    }
}
