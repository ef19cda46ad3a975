//! Steps for containers: networks and images first, then what is run, started and removed, and why. Beside `plan`.
//!
//! A container is made anew exactly when what runs under its name was not made of what the release wants. `adopted` has
//! those that somebody else has made.

use std::path::Path;

use drover_proto::{
    code::Code,
    name::ContainerName,
    plan::{Action, Reason, Step},
};

use super::{Input, Refusals, adopted, step};
use crate::{
    gate::containers::is_done,
    host::docker::ContainerState,
    policy::{self, Places},
    render::{Rendered, RenderedContainer},
};

/// All changes of containers.
#[derive(Default)]
pub(super) struct ContainerChanges {
    /// Before anything that runs is touched.
    pub(super) ready: Vec<Step>,
    /// What the release drops.
    pub(super) remove: Vec<Step>,
    /// Made anew, or started.
    pub(super) run: Vec<Step>,
}

/// Compares every container with what the engine has.
pub(super) fn changes(input: &Input<'_>, refusals: &mut Refusals) -> ContainerChanges {
    let mut changes = ContainerChanges::default();
    let seen = &input.observed.containers;
    let mut wanted = input.wanted.filter(|wanted| !wanted.containers.is_empty());
    if let Err(why) = &seen.engine
        // Packages that are still to be installed may bring it.
        && input.observed.packages_missing.is_empty()
        && let Some(release) = input.wanted
    {
        // What it did not say is not missing: nothing is planned from it.
        wanted = None;
        let dropped = input.ledger.owned_containers.iter().filter(|name| !release.containers.contains_key(*name));
        if let Some(name) = release.containers.keys().chain(dropped).next() {
            let message = format!("{why}; containers need it: add docker.io under host.packages, or see to it there");
            refusals.say(Code::Docker, name, message);
        }
    }
    for (name, container) in wanted.iter().flat_map(|wanted| &wanted.containers) {
        if refuse(input, name, container, refusals) {
            continue;
        }
        changes.ready(input, container);
        changes.run.extend(running(input, name, container));
    }
    for name in &input.ledger.owned_containers {
        let dropped = input.wanted.is_none_or(|wanted| !wanted.containers.contains_key(name));
        // One that is not there may have left behind what was being made for it.
        if dropped {
            let reason = if input.wanted.is_some() { Reason::Dropped } else { Reason::AppRemoved };
            let action = match input.ledger.adopted.contains_key(name) {
                true => Action::ReturnContainer(name.clone()),
                false => Action::RemoveContainer(name.clone()),
            };
            changes.remove.push(step(action, reason));
        }
    }
    changes
}

/// True = the name is somebody else's, or the host does not allow it: nothing is planned for it.
fn refuse(input: &Input<'_>, name: &ContainerName, container: &RenderedContainer, refusals: &mut Refusals) -> bool {
    if let Some(other) = input.others.containers.get(name) {
        let message = format!("container {name} belongs to app {other}; remove it there first");
        refusals.say(Code::OwnedByOther, name, message);
        return true;
    }
    let seen = &input.observed.containers;
    if let Some(why) = adopted::forbidden(input, name, container) {
        refusals.say(Code::NotOwned, name, why);
        return true;
    }
    let why = match &seen.policy {
        Ok(policy) => policy::refusals(policy, input.app, container, &places(input, name), input.layout),
        Err(why) => vec![format!("nothing is allowed while the policy cannot be read: {why}")],
    };
    let why: Vec<String> = why.into_iter().chain(nested(input, name)).collect();
    for why in &why {
        let message = format!("container {name}: {why}; {} on the host says what containers may", policy::FILE);
        refusals.say(Code::Policy, name, message);
    }
    !why.is_empty()
}

/// Where its paths lead. A directory that is still to be made is one, and leads nowhere else.
pub(super) fn places(input: &Input<'_>, name: &ContainerName) -> Places {
    let seen = input.observed.containers.places.get(name);
    let made = |path: &str| {
        let directories = input.wanted.iter().flat_map(|wanted| &wanted.needs.directories);
        directories.into_iter().any(|directory| directory.path.as_str() == path)
    };
    let lead = |(path, real): (&String, &Result<String, String>)| match real {
        Err(_) if made(path) => (path.clone(), Ok(path.clone())),
        real => (path.clone(), real.clone()),
    };
    seen.into_iter().flatten().map(lead).collect()
}

/// A path below one that a container of the app may write: it could be moved away and lead elsewhere, when nobody looks.
fn nested(input: &Input<'_>, name: &ContainerName) -> Option<String> {
    let all = &input.wanted?.containers;
    let real = |name: &ContainerName, path: &str| places(input, name).get(path)?.clone().ok();
    let writable = all.iter().flat_map(|(other, container)| {
        let binds = container.binds().filter(|(mount, _)| !mount.read_only);
        binds.filter_map(move |(_, path)| Some((other, real(other, &path)?)))
    });
    let writable: Vec<(&ContainerName, String)> = writable.collect();
    all.get(name)?.binds().find_map(|(_, path)| {
        let lies = real(name, &path)?;
        let above = |(_, root): &&(&ContainerName, String)| lies != *root && Path::new(&lies).starts_with(root);
        let (other, root) = writable.iter().find(above)?;
        Some(format!("{path} lies in {root}, which container {other} may write: it could put something else there"))
    })
}

impl ContainerChanges {
    fn ready(&mut self, input: &Input<'_>, container: &RenderedContainer) {
        let seen = &input.observed.containers;
        for network in container.spec.networks.iter().filter(|network| !seen.networks.contains(*network)) {
            self.ready_once(step(Action::MakeNetwork(network.clone()), Reason::Missing));
        }
        if !seen.images.contains(&container.image.pullable()) {
            self.ready_once(step(Action::PullImage(container.image.clone()), Reason::New));
        }
    }

    fn ready_once(&mut self, step: Step) {
        if !self.ready.contains(&step) {
            self.ready.push(step);
        }
    }
}

fn running(input: &Input<'_>, name: &ContainerName, container: &RenderedContainer) -> Vec<Step> {
    let run = |reason| {
        let action = match adopted::comes_back(input, name, container) {
            true => Action::ReturnContainer(name.clone()),
            false => Action::RunContainer { name: name.clone(), image: container.image.clone() },
        };
        vec![step(action, reason)]
    };
    let Some(state) = input.observed.containers.states.get(name) else {
        let known = input.ledger.owned_containers.contains(name);
        return run(if known { Reason::Missing } else { Reason::New });
    };
    let mut steps = Vec::new();
    match adopted::differences(input, name, container) {
        Some(differ) if differ.is_empty() => {
            steps.push(step(Action::AdoptContainer(name.clone()), Reason::MadeAlike));
        }
        Some(differ) => return run(Reason::MadeOtherwise(differ)),
        None if !is_made_of(state, container) => return run(why_other(input.previous, name, container, state)),
        None => {}
    }
    if !is_up(state) && !is_done(container, state) {
        steps.push(step(Action::StartContainer(name.clone()), Reason::NotRunning));
    }
    steps
}

/// Whether it was made of what the release wants, image and all.
pub(crate) fn is_made_of(state: &ContainerState, container: &RenderedContainer) -> bool {
    state.fingerprint == Some(container.fingerprint) && is_of(state, container)
}

/// Whether its image is the release's. One that has lost all its names has no digests any more, and is what it was.
fn is_of(state: &ContainerState, container: &RenderedContainer) -> bool {
    state.digests.is_empty() || state.digests.contains(&container.digest)
}

/// Whether its program runs, or the engine is about to start it.
pub(crate) fn is_up(state: &ContainerState) -> bool {
    state.running || state.status == "restarting"
}

fn why_other(
    previous: Option<&Rendered>,
    name: &ContainerName,
    container: &RenderedContainer,
    state: &ContainerState,
) -> Reason {
    if !is_of(state, container) {
        return Reason::ImageChanged;
    }
    let before = previous.and_then(|previous| previous.containers.get(name));
    match before {
        Some(before) if before.env != container.env => Reason::EnvChanged,
        Some(before) if before.fingerprint == container.fingerprint => Reason::StaleProcess,
        _ => Reason::ContainerChanged,
    }
}
