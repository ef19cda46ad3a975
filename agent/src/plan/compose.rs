//! Steps for compose projects: their images first, then what is brought up and what goes, and why. Beside `plan`.
//!
//! A project is brought up exactly when what compose makes of its files is not what was last brought up, or what stands
//! there is not what stood there then. What differs, compose itself makes anew; the rest it leaves alone.

use drover_proto::{
    code::Code,
    name::ProjectName,
    plan::{Action, Reason, Step},
};

use super::{Input, Refusals, containers::is_up, step};
use crate::{
    host::docker::{Member, of_service},
    ledger::{Brought, ServiceRecord},
    observe::compose::SeenConfig,
    policy,
    render::{Rendered, RenderedProject},
};

/// All changes of projects.
#[derive(Default)]
pub(super) struct ProjectChanges {
    /// Before anything that runs is touched.
    pub(super) ready: Vec<Step>,
    /// What the release drops.
    pub(super) remove: Vec<Step>,
    /// Brought up.
    pub(super) run: Vec<Step>,
}

/// Compares every project with what the host has.
pub(super) fn changes(input: &Input<'_>, refusals: &mut Refusals) -> ProjectChanges {
    let mut changes = ProjectChanges::default();
    let seen = &input.observed.projects;
    let mut wanted = input.wanted.filter(|wanted| !wanted.compose.is_empty());
    let is_wanted = |name: &ProjectName| input.wanted.is_some_and(|wanted| wanted.compose.contains_key(name));
    if let Err(why) = &seen.engine
        // Packages that are still to be installed may bring it.
        && input.observed.packages_missing.is_empty()
        && let Some(release) = input.wanted
    {
        // What it did not say is not missing: nothing is planned from it.
        wanted = None;
        let dropped = input.ledger.projects.keys().filter(|name| !is_wanted(name));
        if let Some(name) = release.compose.keys().chain(dropped).next() {
            let message =
                format!("{why}; compose projects need it: add docker.io under host.packages, or see to it there");
            refusals.say(Code::Docker, name, message);
        }
    }
    for (name, project) in wanted.iter().flat_map(|wanted| &wanted.compose) {
        if !refuse(input, name, refusals) {
            changes.of_project(input, name, project);
        }
    }
    for name in input.ledger.projects.keys().filter(|name| !is_wanted(name)) {
        let reason = if input.wanted.is_some() { Reason::Dropped } else { Reason::AppRemoved };
        let as_it_was = input.ledger.stood.contains_key(name);
        let (leave, remove) = (Action::LeaveProject(name.clone()), Action::RemoveProject(name.clone()));
        changes.remove.push(step(if as_it_was { leave } else { remove }, reason));
    }
    changes
}

/// True = it is somebody else's, its files are wrong, or the host does not allow it: nothing is planned for it.
fn refuse(input: &Input<'_>, name: &ProjectName, refusals: &mut Refusals) -> bool {
    if let Some(other) = input.others.projects.get(name) {
        let message = format!("compose project {name} belongs to app {other}; remove it there first");
        refusals.say(Code::OwnedByOther, name, message);
        return true;
    }
    let seen = &input.observed.projects;
    let adopt = input.wanted.is_some_and(|wanted| wanted.compose.get(name).is_some_and(|project| project.adopt));
    if is_strange(input, name) && !adopt {
        let message = format!(
            "a compose project {name} is there already and is not drover's; adopt: true takes it over as it runs, `docker \
             compose -p {name} down` removes it without its volumes, or choose another name"
        );
        refusals.say(Code::NotOwned, name, message);
        return true;
    }
    let Some(SeenConfig { config, absent, forbidden, taken, differs, .. }) = seen.configs.get(name) else {
        return false;
    };
    let before = refusals.0.len();
    match config {
        // Packages that are still to be installed may bring it.
        Err(_) if *absent && !input.observed.packages_missing.is_empty() => return false,
        Err(why) => why.iter().for_each(|why| refusals.say(Code::Compose, name, why)),
        Ok(config) if config.builds().next().is_some() && input.wanted.is_none_or(|wanted| wanted.tree.is_none()) => {
            let message = format!(
                "compose project {name} builds images, and the app has no artifact to build them from: name the folder with \
                 its compose files under artifact.path"
            );
            refusals.say(Code::Compose, name, message);
        }
        Ok(_) => {}
    }
    for why in forbidden {
        let message = format!("compose project {name}: {why}; {} on the host says what containers may", policy::FILE);
        refusals.say(Code::Policy, name, message);
    }
    for container in taken {
        let message = format!(
            "a container {container} is there already and is not of compose project {name}; remove it, or choose another \
             container_name"
        );
        refusals.say(Code::NotOwned, name, message);
    }
    for why in differs {
        let message = format!(
            "compose project {name} cannot be taken over as it runs: {why}; `drover import compose {name}` writes what it \
             was made of: apply that first, and change it then"
        );
        refusals.say(Code::NotOwned, name, message);
    }
    refusals.0.len() > before
}

/// Whether there is one that nobody has given to drover.
pub(super) fn is_strange(input: &Input<'_>, name: &ProjectName) -> bool {
    let stands = input.observed.projects.members.get(name).is_some_and(|all| !all.is_empty());
    stands && !input.ledger.projects.contains_key(name)
}

impl ProjectChanges {
    fn of_project(&mut self, input: &Input<'_>, name: &ProjectName, project: &RenderedProject) {
        let seen = &input.observed.projects;
        if is_strange(input, name) {
            // It has its images, and was made of these files.
            return self.run.push(step(Action::AdoptProject(name.clone()), Reason::New));
        }
        let config = seen.configs.get(name).and_then(|seen| seen.config.as_ref().ok());
        let tree = input.wanted.and_then(|wanted| wanted.tree.as_ref()).map(|tree| tree.key.as_str());
        let fetched = config.iter().flat_map(|config| config.services.values()).filter(|it| it.build.is_none());
        for image in fetched.filter_map(|it| it.image.as_ref()) {
            let pull = step(Action::PullImage(image.clone()), Reason::New);
            if !seen.images.contains(&image.pullable()) && !self.ready.contains(&pull) {
                self.ready.push(pull);
            }
        }
        if seen.configs.get(name).is_some_and(|seen| !seen.built) {
            let again = input.ledger.built.contains_key(name);
            let reason = if again { Reason::ReleaseChanged } else { Reason::New };
            self.ready.push(step(Action::BuildProject(name.clone()), reason));
        }
        let brought = input.ledger.projects.get(name).and_then(Option::as_ref);
        let members = seen.members.get(name).map(Vec::as_slice).unwrap_or_default();
        let reason = match brought {
            None if input.ledger.current.is_some() && input.ledger.projects.contains_key(name) => {
                Some(Reason::StaleProcess)
            }
            None => Some(Reason::New),
            Some(brought) if brought.restart != project.restart => Some(Reason::RestartAsked),
            Some(brought)
                if brought.inputs != project.inputs
                    && config.is_none_or(|config| config.identity(tree) != brought.config) =>
            {
                Some(Reason::ComposeChanged)
            }
            Some(brought) => other(brought, members),
        };
        if let Some(reason) = reason {
            let recreate = reason == Reason::RestartAsked;
            self.run.push(step(Action::UpProject { name: name.clone(), recreate }, reason));
        }
    }
}

/// Why what stands there is not what stood there when it was brought up.
fn other(brought: &Brought, members: &[Member]) -> Option<Reason> {
    brought.services.iter().find_map(|(service, record)| {
        let own: Vec<&Member> = of_service(members, service).collect();
        match () {
            () if own.len() < record.count => Some(Reason::Missing),
            () if own.iter().any(|member| !is_as_recorded(member, record)) => Some(Reason::StaleProcess),
            () if own.iter().any(|member| !is_up(&member.state) && !is_done(member)) => Some(Reason::NotRunning),
            () => None,
        }
    })
}

/// Whether it was made of what was brought up.
pub(crate) fn is_as_recorded(member: &Member, record: &ServiceRecord) -> bool {
    member.hash == record.hash && member.state.image_id == record.image
}

/// One that runs once, and has.
pub(crate) fn is_done(member: &Member) -> bool {
    member.runs_once && member.state.status == "exited" && member.state.exit_code == 0
}

/// Whether compose would make something else of one release than of the other.
pub(super) fn differ(previous: &Rendered, wanted: &Rendered) -> bool {
    let inputs = |rendered: &Rendered| -> Vec<_> {
        rendered.compose.iter().map(|(name, project)| (name.clone(), project.inputs)).collect()
    };
    inputs(previous) != inputs(wanted)
}
