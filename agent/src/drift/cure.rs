//! Which steps of the plan put right what was found, and which parts they serve. Part of `drift`.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    app::Drift,
    name::{AbsPath, UnitName},
    plan::{Action, Reason, Step},
};

use super::{Part, Sight, containers::needed_by, state_of, unit_of};
use crate::{
    plan::{runs, step},
    render::FileKind,
};

/// The units whose masks go first; after that the host is to be looked at anew.
#[must_use]
pub fn unmask(sight: &Sight<'_>, allowed: &BTreeSet<Part>) -> Vec<UnitName> {
    let masked = sight.observed.masked.iter();
    masked.filter(|unit| allowed.contains(&Part::Unit((*unit).clone()))).cloned().collect()
}

/// What is done about the `allowed` parts, in its order, each with the part that it serves. Units that are down are not
/// started here.
#[must_use]
pub fn steps(sight: &Sight<'_>, allowed: &BTreeSet<Part>) -> Vec<(Part, Step)> {
    let mut steps = Vec::new();
    for step in &sight.plan.steps {
        steps.extend(served(sight, allowed, step).map(|part| (part, step.clone())));
    }
    // A restart serves the file that is written: where that fails, what runs is left alone.
    let mut stale: BTreeMap<&UnitName, Part> = BTreeMap::new();
    for (part, step) in &steps {
        for unit in stale_after(sight, step) {
            stale.entry(unit).or_insert_with(|| part.clone());
        }
    }
    for (unit, part) in stale {
        let restart = Action::Restart(unit.clone());
        if steps.iter().all(|(_, step)| step.action != restart) {
            steps.push((part, step(restart, Reason::StaleProcess)));
        }
    }
    steps
}

/// The manifest's files among the `allowed` parts that no step serves: their content is right, or one would write it, and
/// nothing that serves them is there to be told. With that they count as told.
#[must_use]
pub fn settled(sight: &Sight<'_>, allowed: &BTreeSet<Part>, steps: &[(Part, Step)]) -> Vec<AbsPath> {
    let plain = sight.wanted.files.iter().filter(|file| file.kind == FileKind::Plain);
    let is_settled = |part: Part| allowed.contains(&part) && steps.iter().all(|(served, _)| *served != part);
    plain.map(|file| &file.path).filter(|path| is_settled(Part::File((*path).clone()))).cloned().collect()
}

/// The part that a step of the plan serves, if that part may be put right.
fn served(sight: &Sight<'_>, allowed: &BTreeSet<Part>, step: &Step) -> Option<Part> {
    let (wanted, observed) = (sight.wanted, sight.observed);
    let if_allowed = |part: Part| allowed.contains(&part).then_some(part);
    let changed = || match &step.reason {
        Reason::FileChanged(path) => if_allowed(Part::File(path.clone())),
        _ => None,
    };
    match &step.action {
        Action::WriteFile { path, .. } | Action::Validate { path, staged: true, .. } => {
            if_allowed(Part::File(path.clone()))
        }
        // It looks at all files together.
        Action::Validate { staged: false, .. } => {
            let plain = wanted.files.iter().filter(|file| file.kind == FileKind::Plain);
            plain.map(|file| Part::File(file.path.clone())).find(|part| allowed.contains(part))
        }
        Action::DaemonReload => {
            let files = wanted.files.iter().filter(|file| matches!(file.kind, FileKind::Unit(_)));
            let units = wanted.units.keys().map(|unit| Part::Unit(unit.clone()));
            files.map(|file| Part::File(file.path.clone())).chain(units).find(|part| allowed.contains(part))
        }
        Action::Enable(unit) | Action::Disable(unit) => if_allowed(Part::Unit(unit.clone())),
        Action::Restart(unit) => match wanted.units.contains_key(unit) {
            true if !matches!(step.reason, Reason::FileChanged(_)) => if_allowed(Part::Unit(unit.clone())),
            _ => changed().filter(|_| is_stale(sight, unit)),
        },
        Action::Reload(unit) => changed().filter(|_| state_of(observed, unit).is_some_and(runs)),
        Action::CreateUser(need) => if_allowed(Part::Need(format!("user {}", need.name))),
        Action::EnsureDirectory(need) => if_allowed(Part::Need(format!("directory {}", need.path))),
        Action::Fetch { .. } | Action::Unpack { .. } | Action::Build { .. } => {
            if_allowed(Part::Tree(wanted.tree.as_ref()?.directory.clone()))
        }
        Action::RunContainer { name, .. }
        | Action::StartContainer(name)
        | Action::AdoptContainer(name)
        | Action::ReturnContainer(name) => if_allowed(Part::Container(name.clone())),
        Action::UpProject { name, .. } => if_allowed(Part::Project(name.clone())),
        Action::MakeNetwork(_) | Action::PullImage(_) => needed_by(wanted, &step.action).find_map(if_allowed),
        Action::InstallPackages(_)
        | Action::MakeSwap { .. }
        | Action::BuildProject(_)
        | Action::RemoveContainer(_)
        | Action::AdoptProject(_)
        | Action::LeaveProject(_)
        | Action::RemoveProject(_)
        | Action::Hook { .. }
        | Action::RemoveFile { .. }
        | Action::Stop(_)
        | Action::Start(_)
        | Action::Prove { .. }
        | Action::Drain { .. }
        | Action::Gate { .. }
        | Action::Commit => None,
    }
}

/// The units of the release that may run with what stood in the file that is written now.
fn stale_after<'a>(sight: &Sight<'a>, step: &Step) -> Vec<&'a UnitName> {
    let Action::WriteFile { path, .. } = &step.action else { return Vec::new() };
    if step.reason == Reason::OwnerOrModeDiffers {
        return Vec::new();
    }
    let own_file = unit_of(sight.wanted, path);
    let reads = sight.wanted.units.iter().filter(|(_, unit)| own_file == Some(&unit.file) || unit.names.contains(path));
    reads.filter(|(name, unit)| unit.drift == Drift::Repair && is_stale(sight, name)).map(|(name, _)| name).collect()
}

/// A process that was started after everything was last seen right may have read what was not. One of which nothing is
/// known is left alone.
fn is_stale(sight: &Sight<'_>, unit: &UnitName) -> bool {
    let state = state_of(sight.observed, unit).filter(|state| runs(state));
    let proven = sight.proven.get(unit);
    state.is_some_and(|state| proven.is_some_and(|proven| *proven != state.invocation_id))
}
