//! Pure: what the apps of a host need, by their ledgers and the desired state: what runs, the release before it, what is on its
//! way. Part of `disk`.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    name::{AppName, ProjectName},
    prune::Because,
    spec::{DesiredApp, HostSpec},
};

use super::{Reason, familiar};
use crate::{
    host::docker::HeldImage,
    ledger::{AppLedger, called},
    render::Instance,
};

/// What is needed, and why.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// By id, digest in a registry, or name.
    images: BTreeMap<String, Reason>,
    trees: BTreeMap<(AppName, String), Reason>,
    containers: BTreeMap<(AppName, String), Reason>,
    projects: BTreeMap<ProjectName, Reason>,
    /// Of these apps nothing goes.
    apps: BTreeMap<AppName, Reason>,
    /// No image goes: it may be one that somebody needs.
    every_image: Option<Reason>,
}

/// What is known of a host's apps.
pub struct Known<'a> {
    /// What they have here.
    pub ledgers: &'a BTreeMap<AppName, AppLedger>,
    /// What should be here.
    pub spec: Option<&'a HostSpec>,
    /// Somebody is at work with them.
    pub at_work: &'a BTreeSet<AppName>,
    /// Nobody knows what they have here.
    pub damaged: &'a BTreeSet<AppName>,
}

impl Claims {
    /// Everything that somebody needs.
    #[must_use]
    pub fn of(known: &Known<'_>) -> Self {
        let mut claims = Self::default();
        let begun = known.ledgers.values().filter(|ledger| ledger.activation.is_some()).map(|ledger| &ledger.app);
        for app in known.at_work.iter().chain(begun) {
            claims.in_flight(app, known);
        }
        for app in known.damaged {
            claims.damaged(app);
        }
        for ledger in known.ledgers.values() {
            claims.runs(ledger);
        }
        for ledger in known.ledgers.values() {
            claims.before(ledger);
            let activated = ledger.activation.as_ref().and_then(|activation| activation.desired.as_ref());
            activated.into_iter().for_each(|desired| claims.wanted(desired));
        }
        known.spec.iter().flat_map(|spec| spec.apps.values()).for_each(|desired| claims.wanted(desired));
        claims
    }

    fn in_flight(&mut self, app: &AppName, known: &Known<'_>) {
        let reason = Reason::new(Because::InFlight, format!("app {app} is being activated or removed"));
        self.apps.insert(app.clone(), reason);
        let ledger = known.ledgers.get(app);
        let wanted = known.spec.and_then(|spec| spec.apps.get(app));
        let begun = ledger.and_then(|ledger| ledger.activation.as_ref()?.desired.as_ref());
        let current = ledger.and_then(|ledger| ledger.current.as_ref());
        let has_projects = |desired: &DesiredApp| !desired.spec.compose.is_empty();
        // Which images its services name only compose knows, once their files are in their places.
        if wanted.into_iter().chain(begun).chain(current).any(has_projects) {
            let words =
                format!("app {app} is being activated, and which images its compose projects need is not known yet");
            self.every_image.get_or_insert(Reason::new(Because::InFlight, words));
        }
    }

    fn damaged(&mut self, app: &AppName) {
        let words = format!("the ledger of app {app} is damaged, and nobody knows what it needs");
        let reason = Reason::new(Because::Unknown, words);
        self.apps.insert(app.clone(), reason.clone());
        self.every_image.get_or_insert(reason);
    }

    fn runs(&mut self, ledger: &AppLedger) {
        let app = &ledger.app;
        let runs = |words: String| Reason::new(Because::Runs, words);
        for image in ledger.current_images() {
            self.images.entry(familiar(&image).to_owned()).or_insert_with(|| runs(format!("app {app} runs it")));
        }
        let has_tree = ledger.current.as_ref().is_some_and(|current| current.spec.artifact.is_some());
        if let Some(key) = ledger.trees.first().filter(|_| has_tree) {
            self.trees.insert((app.clone(), key.clone()), runs(format!("app {app} runs it")));
        }
        let instances =
            ledger.handovers.values().flat_map(|of| of.all.values()).filter_map(|instance| match instance {
                Instance::Container(name) => Some(name),
                Instance::Unit(_) => None,
            });
        for name in ledger.owned_containers.iter().chain(instances) {
            let reason = Reason::new(Because::Wanted, format!("app {app} has it, and looks after it"));
            self.containers.insert((app.clone(), name.to_string()), reason);
        }
        for project in ledger.projects.keys() {
            let reason = Reason::new(Because::Wanted, format!("it is of compose project {project} of app {app}"));
            self.projects.insert(project.clone(), reason);
        }
    }

    fn before(&mut self, ledger: &AppLedger) {
        let app = &ledger.app;
        let reason = || Reason::new(Because::ReleaseBefore, format!("the release before of app {app} needs it"));
        for image in ledger.images.before() {
            self.images.entry(familiar(image).to_owned()).or_insert_with(reason);
        }
        for key in &ledger.trees {
            self.trees.entry((app.clone(), key.clone())).or_insert_with(reason);
        }
    }

    fn wanted(&mut self, desired: &DesiredApp) {
        for container in desired.spec.containers.values() {
            let reason = || Reason::new(Because::Wanted, format!("{} wants it", desired.release));
            self.images.entry(familiar(&called(&container.image)).to_owned()).or_insert_with(reason);
        }
    }

    pub(super) fn of_app(&self, app: &AppName) -> Option<Reason> {
        self.apps.get(app).cloned()
    }

    pub(super) fn of_tree(&self, app: &AppName, key: &str) -> Option<Reason> {
        self.trees.get(&(app.clone(), key.to_owned())).or_else(|| self.apps.get(app)).cloned()
    }

    pub(super) fn of_container(&self, app: &AppName, name: &str) -> Option<Reason> {
        self.containers.get(&(app.clone(), name.to_owned())).or_else(|| self.apps.get(app)).cloned()
    }

    pub(super) fn of_project(&self, project: &ProjectName) -> Option<Reason> {
        self.projects.get(project).cloned()
    }

    pub(super) fn of_image(&self, image: &HeldImage) -> Option<Reason> {
        let digests = image.names.iter().filter_map(|name| Some(name.split_once('@')?.1));
        let names = image.names.iter().map(|name| familiar(name)).chain(digests).chain([image.id.as_str()]);
        let claimed = names.filter_map(|name| self.images.get(name)).next();
        claimed.or(self.every_image.as_ref()).cloned()
    }
}
