//! Pure: what is not as the committed release says. It reads the plan of the release that is committed already: what that would
//! change is drift. `cure` says which of its steps put that right; `reconcile` asks the budget, and carries them out.

mod containers;
mod cure;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use drover_proto::{
    app::Drift,
    name::{AbsPath, ContainerName, ProjectName, UnitName},
    plan::{Action, Plan, Reason, Step},
};

pub use cure::{settled, steps, unmask};

use containers::how;

use crate::{
    host::systemd::UnitState,
    observe::Observed,
    plan::runs,
    render::{FileKind, Rendered, RenderedUnit},
};

/// A part that can drift.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// A file of the manifest, a unit file, the env file.
    File(AbsPath),
    /// A unit.
    Unit(UnitName),
    /// A container.
    Container(ContainerName),
    /// A compose project.
    Project(ProjectName),
    /// The last run of a unit that a timer starts.
    Run(UnitName),
    /// A certificate that others write.
    Certificate(AbsPath),
    /// The release's tree.
    Tree(AbsPath),
    /// A directory, a user or a unit of somebody else.
    Need(String),
}

impl Part {
    /// Its kind and name, as a report has them.
    #[must_use]
    pub fn names(&self) -> (&'static str, &str) {
        match self {
            Self::File(path) => ("file", path.as_str()),
            Self::Unit(unit) => ("unit", unit.as_str()),
            Self::Container(name) => ("container", name.as_str()),
            Self::Project(name) => ("compose project", name.as_str()),
            Self::Run(unit) => ("run of", unit.as_str()),
            Self::Certificate(path) => ("certificate", path.as_str()),
            Self::Tree(directory) => ("artifact", directory.as_str()),
            Self::Need(name) => ("host need", name),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.names();
        write!(f, "{kind} {name}")
    }
}

/// What helps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cure {
    /// Steps.
    Steps,
    /// It is to be started again.
    Start,
    /// A person; why.
    Nobody(String),
}

/// Something that is not as the release says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Which part.
    pub part: Part,
    /// How it is, after the part's name: `was removed`.
    pub what: String,
    /// What the release says about that.
    pub drift: Drift,
    /// What would help.
    pub cure: Cure,
}

/// What is looked at.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The committed release.
    pub wanted: &'a Rendered,
    /// What is there.
    pub observed: &'a Observed,
    /// The plan that would bring the release about.
    pub plan: &'a Plan,
    /// Which start of each unit (its invocation) was seen running while everything that it reads was right.
    pub proven: &'a BTreeMap<UnitName, String>,
}

/// Everything that is not as the release says, each part once.
#[must_use]
pub fn find(sight: &Sight<'_>) -> Vec<Found> {
    let (wanted, observed) = (sight.wanted, sight.observed);
    let mut all = Findings::default();
    for unit in &observed.masked {
        all.say(Part::Unit(unit.clone()), "was masked", unit_mode(wanted, unit), Cure::Steps);
    }
    for step in &sight.plan.steps {
        all.of_step(sight, step);
    }
    let writes_units = sight
        .plan
        .steps
        .iter()
        .any(|s| matches!(&s.action, Action::WriteFile { path, .. } if unit_of(wanted, path).is_some()));
    let old =
        observed.units.iter().filter(|(name, state)| state.need_daemon_reload && wanted.units.contains_key(*name));
    for (name, _) in old.filter(|_| !writes_units) {
        let what = "has a file that systemd has not read since it was written";
        all.say(Part::Unit(name.clone()), what, unit_mode(wanted, name), Cure::Steps);
    }
    for refusal in &sight.plan.refusals {
        let unit = wanted.units.keys().find(|unit| unit.as_str() == refusal.part);
        if unit.is_some_and(|unit| observed.masked.contains(unit)) {
            continue;
        }
        let file = wanted.files.iter().find(|file| {
            file.path.as_str() == refusal.part || unit.is_some_and(|unit| file.kind == FileKind::Unit(unit.clone()))
        });
        let named = |name: &str| name == refusal.part;
        let container = wanted.containers.iter().find(|(name, _)| named(name.as_str()));
        let project = wanted.compose.iter().find(|(name, _)| named(name.as_str()));
        let (part, drift) = (file.map(|file| (Part::File(file.path.clone()), file.drift)))
            .or_else(|| container.map(|(name, container)| (Part::Container(name.clone()), container.spec.drift)))
            .or_else(|| project.map(|(name, project)| (Part::Project(name.clone()), project.drift)))
            .unwrap_or_else(|| (Part::Need(refusal.part.clone()), Drift::Report));
        all.say(part, "is in the way of the release", drift, Cure::Nobody(refusal.message.clone()));
    }
    all.0
}

#[derive(Default)]
struct Findings(Vec<Found>);

impl Findings {
    fn say(&mut self, part: Part, what: impl Into<String>, drift: Drift, cure: Cure) {
        if self.0.iter().all(|found| found.part != part) {
            self.0.push(Found { part, what: what.into(), drift, cure });
        }
    }

    fn of_file(&mut self, sight: &Sight<'_>, path: &AbsPath, reason: &Reason) {
        let Some(file) = sight.wanted.file(path) else { return };
        let own =
            |unit: &UnitName| sight.wanted.units.get(unit).is_some_and(|u| file.kind == FileKind::Unit(u.file.clone()));
        let what = match reason {
            Reason::Missing | Reason::New => "was removed",
            Reason::OwnerOrModeDiffers => "had another owner or mode",
            _ => "was changed",
        };
        if !sight.observed.masked.iter().any(own) {
            self.say(Part::File(path.clone()), what, file.drift, Cure::Steps);
        }
    }

    fn of_container(&mut self, wanted: &Rendered, name: &ContainerName, reason: &Reason) {
        let drift = wanted.containers.get(name).map(|container| container.spec.drift).unwrap_or_default();
        self.say(Part::Container(name.clone()), how(reason), drift, Cure::Steps);
    }

    fn of_tree(&mut self, sight: &Sight<'_>) {
        let Some(tree) = &sight.wanted.tree else { return };
        let cure = if sight.observed.tree_there {
            let why = "its files stand there, but drover does not know any more that they are complete, and programs may \
                       run from them; another apply makes the release anew";
            Cure::Nobody(why.to_owned())
        } else {
            Cure::Steps
        };
        self.say(Part::Tree(tree.directory.clone()), "was removed", Drift::Repair, cure);
    }

    fn of_step(&mut self, sight: &Sight<'_>, step: &Step) {
        let (wanted, observed) = (sight.wanted, sight.observed);
        let own = |unit: &UnitName| wanted.units.contains_key(unit) && !observed.masked.contains(unit);
        match &step.action {
            Action::WriteFile { path, .. } => self.of_file(sight, path, &step.reason),
            // A service that runs is stopped and started only so that its socket can be opened.
            Action::Start(unit) if own(unit) && !state_of(observed, unit).is_some_and(runs) => {
                self.say(Part::Unit(unit.clone()), "was not running", unit_mode(wanted, unit), Cure::Start);
            }
            Action::Enable(unit) if own(unit) => {
                self.say(Part::Unit(unit.clone()), "was not started at boot", unit_mode(wanted, unit), Cure::Steps);
            }
            Action::Disable(unit) if own(unit) => {
                self.say(Part::Unit(unit.clone()), "was started at boot", unit_mode(wanted, unit), Cure::Steps);
            }
            Action::Restart(unit) if own(unit) && !matches!(step.reason, Reason::FileChanged(_)) => {
                let what = "ran something else than what drover had started";
                self.say(Part::Unit(unit.clone()), what, unit_mode(wanted, unit), Cure::Steps);
            }
            Action::Reload(_) | Action::Restart(_) => {
                let Reason::FileChanged(path) = &step.reason else { return };
                let drift = wanted.file(path).map(|file| file.drift).unwrap_or_default();
                self.say(Part::File(path.clone()), "was not read again by what it serves", drift, Cure::Steps);
            }
            Action::CreateUser(need) => {
                self.say(Part::Need(format!("user {}", need.name)), "was removed", Drift::Repair, Cure::Steps);
            }
            Action::EnsureDirectory(need) => {
                let what = if step.reason == Reason::Missing { "was removed" } else { "had another owner or mode" };
                self.say(Part::Need(format!("directory {}", need.path)), what, Drift::Repair, Cure::Steps);
            }
            Action::Fetch { .. } => self.of_tree(sight),
            Action::RunContainer { name, .. }
            | Action::StartContainer(name)
            | Action::AdoptContainer(name)
            | Action::ReturnContainer(name) => self.of_container(wanted, name, &step.reason),
            Action::UpProject { name, .. } => self.of_project(wanted, name, &step.reason),
            // What belongs to a part that has been found, or to nobody's drift.
            Action::InstallPackages(_)
            | Action::MakeSwap { .. }
            | Action::Unpack { .. }
            | Action::Build { .. }
            | Action::Hook { .. }
            | Action::Validate { .. }
            | Action::RemoveFile { .. }
            | Action::DaemonReload
            | Action::Enable(_)
            | Action::Disable(_)
            | Action::MakeNetwork(_)
            | Action::PullImage(_)
            | Action::BuildProject(_)
            | Action::RemoveContainer(_)
            | Action::AdoptProject(_)
            | Action::LeaveProject(_)
            | Action::RemoveProject(_)
            | Action::Stop(_)
            | Action::Start(_)
            | Action::Prove { .. }
            | Action::Drain { .. }
            | Action::Gate { .. }
            | Action::Commit => {}
        }
    }
}

fn unit_mode(wanted: &Rendered, unit: &UnitName) -> Drift {
    wanted.units.get(unit).map(|unit| unit.drift).unwrap_or_default()
}

fn unit_of<'a>(wanted: &'a Rendered, path: &AbsPath) -> Option<&'a UnitName> {
    match &wanted.file(path)?.kind {
        FileKind::Unit(unit) => Some(unit),
        FileKind::Env | FileKind::Plain => None,
    }
}

fn state_of<'a>(observed: &'a Observed, unit: &UnitName) -> Option<&'a UnitState> {
    observed.units.get(unit).or_else(|| observed.neighbours.get(unit))
}

/// The units that run while nothing that they read is found wrong, each with its invocation.
#[must_use]
pub fn proven(wanted: &Rendered, observed: &Observed, found: &[Found]) -> BTreeMap<UnitName, String> {
    let wrong = |path: &AbsPath| found.iter().any(|found| found.part == Part::File(path.clone()));
    let reads = |unit: &UnitName, path: &AbsPath, restart: &BTreeSet<UnitName>| {
        let own = |unit: &RenderedUnit| unit_of(wanted, path) == Some(&unit.file) || unit.names.contains(path);
        restart.contains(unit) || wanted.units.get(unit).is_some_and(own)
    };
    let all_right = |unit: &UnitName| {
        !observed.masked.contains(unit)
            && wanted.files.iter().all(|file| !reads(unit, &file.path, &file.restart) || !wrong(&file.path))
    };
    let units = observed.units.iter().chain(&observed.neighbours);
    units
        .filter(|(name, state)| runs(state) && !state.need_daemon_reload && all_right(name))
        .map(|(name, state)| (name.clone(), state.invocation_id.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
