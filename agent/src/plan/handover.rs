//! Takes the steps apart for what is replaced by another instance beside it: a new one is started and seen healthy before
//! anything else is touched, and the one before goes when everything else has been seen healthy. Beside `plan`, after `units`.

use std::collections::BTreeSet;

use drover_proto::{
    code::Code,
    duration::Span,
    name::{AbsPath, UnitName},
    plan::{Action, Reason, Step},
    port::{Port, Transport},
};

use super::{
    Input, Refusals,
    containers::{ContainerChanges, is_up},
    files::FileChanges,
    step,
    units::UnitChanges,
};
use crate::render::{FileKind, Instance, Rendered, RenderedHandover};

/// What comes before and after everything else.
#[derive(Default)]
pub(super) struct Split {
    /// New instances, which serve nobody yet.
    pub(super) beside: Vec<Step>,
    /// Those that serve no more.
    pub(super) retire: Vec<Step>,
}

/// From which steps they are taken.
pub(super) struct Changes<'a> {
    pub(super) files: &'a mut FileChanges,
    pub(super) units: &'a mut UnitChanges,
    pub(super) containers: &'a mut ContainerChanges,
}

/// Takes the steps that concern them out of the others.
pub(super) fn split(input: &Input<'_>, mut changes: Changes<'_>, refusals: &mut Refusals) -> Split {
    let Some(wanted) = input.wanted else { return Split::default() };
    for name in wanted.handovers.keys() {
        if let Some(other) = input.others.upstreams.get(name) {
            let message = format!("app {other} has an upstream {name} already; give this one another name: upstream:");
            refusals.say(Code::OwnedByOther, name, message);
        }
    }
    let reloads_before = changes.files.units_changed;
    let beside = beside(input, wanted, &mut changes);
    let retire = retire(input, wanted, &mut changes);
    changes.files.units_changed = reloads_before && still_changes_units(input, wanted, changes.files);
    Split { beside, retire }
}

/// Whether unit files are among what is left to write and remove.
fn still_changes_units(input: &Input<'_>, wanted: &Rendered, files: &FileChanges) -> bool {
    let written = |path: &AbsPath| wanted.file(path).is_some_and(|file| matches!(file.kind, FileKind::Unit(_)));
    let removed = |path: &AbsPath| input.ledger.owned_units.keys().any(|unit| is_file_of(path, unit));
    files.write.iter().chain(&files.remove).any(|step| match &step.action {
        Action::WriteFile { path, .. } => written(path),
        Action::RemoveFile { path, .. } => removed(path),
        _ => false,
    })
}

fn is_file_of(path: &AbsPath, unit: &UnitName) -> bool {
    path.as_str().ends_with(&format!("/{unit}"))
}

/// Those to which the upstream does not lead yet.
fn beside(input: &Input<'_>, wanted: &Rendered, changes: &mut Changes<'_>) -> Vec<Step> {
    let live = input.ledger.live_ports();
    let new: Vec<&RenderedHandover> =
        wanted.handovers.iter().filter(|(name, its)| live.get(*name) != Some(&its.port)).map(|(_, its)| its).collect();
    let reads = |path: &AbsPath| new.iter().any(|handover| is_read_by(wanted, &handover.instance, path));
    let mut steps =
        take(&mut changes.files.write, |action| matches!(action, Action::WriteFile { path, .. } if reads(path)));
    let units: BTreeSet<&UnitName> = new.iter().filter_map(|handover| unit_of(&handover.instance)).collect();
    let written = steps.iter().any(|step| match &step.action {
        Action::WriteFile { path, .. } => units.iter().any(|name| is_file_of(path, name)),
        _ => false,
    });
    let unread = |name: &UnitName| input.observed.units.get(name).is_some_and(|state| state.need_daemon_reload);
    if written || units.iter().any(|name| unread(name)) {
        steps.push(step(Action::DaemonReload, Reason::UnitChanged));
    }
    let is_new = |instance: Instance| new.iter().any(|handover| handover.instance == instance);
    steps.extend(take(&mut changes.containers.run, |action| match action {
        Action::RunContainer { name, .. } | Action::StartContainer(name) => is_new(Instance::Container(name.clone())),
        _ => false,
    }));
    steps.extend(take(&mut changes.units.run, |action| match action {
        Action::Start(unit) | Action::Restart(unit) => is_new(Instance::Unit(unit.clone())),
        _ => false,
    }));
    steps.extend(new.iter().map(|handover| {
        let action = Action::Prove {
            instance: handover.instance.to_string(),
            port: handover.port,
            checks: handover.checks.clone(),
            min_healthy_time: wanted.strategy.min_healthy_time,
        };
        step(action, Reason::ProveBeside)
    }));
    steps
}

fn unit_of(instance: &Instance) -> Option<&UnitName> {
    match instance {
        Instance::Unit(name) => Some(name),
        Instance::Container(_) => None,
    }
}

/// Whether an instance is started with that file, or from it.
pub(crate) fn is_read_by(wanted: &Rendered, instance: &Instance, path: &AbsPath) -> bool {
    match instance {
        Instance::Unit(name) => {
            wanted.file(path).is_some_and(|file| file.kind == FileKind::Unit(name.clone()))
                || wanted.units.get(name).is_some_and(|unit| unit.names.contains(path))
        }
        Instance::Container(name) => {
            wanted.containers.get(name).is_some_and(|container| container.secrets.contains(path.as_str()))
        }
    }
}

/// Instances that the release does not want, and the part of the manifest's name that had no instances before.
fn retire(input: &Input<'_>, wanted: &Rendered, changes: &mut Changes<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for old in old_ones(input, wanted) {
        let by = replaced_by(input, wanted, &old);
        let why = by.map_or(Reason::Dropped, |by| Reason::Replaced(by.instance.to_string()));
        let (stop, runs) = match &old {
            Instance::Unit(name) => {
                let own = |action: &Action| matches!(action, Action::Stop(it) | Action::Disable(it) if it == name);
                let stop = take(&mut changes.units.stop, own);
                let runs = stop.iter().any(|step| matches!(step.action, Action::Stop(_)));
                (stop, runs)
            }
            Instance::Container(name) => {
                let own = |action: &Action| matches!(action, Action::RemoveContainer(it) if it == name);
                (
                    take(&mut changes.containers.remove, own),
                    input.observed.containers.states.get(name).is_some_and(is_up),
                )
            }
        };
        if runs {
            let (at_most, port) = (drain_of(input, wanted, &old), port_of(input, &old));
            steps.push(step(Action::Drain { instance: old.to_string(), port, at_most }, why.clone()));
        }
        let file = |action: &Action| matches!(action, Action::RemoveFile { path, .. } if belongs_to(input, &old, path));
        let files = take(&mut changes.files.remove, file);
        steps.extend(stop.into_iter().chain(files).map(|it| step(it.action, why.clone())));
    }
    let unit_file = |step: &Step| match &step.action {
        Action::RemoveFile { path, .. } => input.ledger.owned_units.keys().any(|unit| is_file_of(path, unit)),
        _ => false,
    };
    if steps.iter().any(unit_file) {
        steps.push(step(Action::DaemonReload, Reason::UnitChanged));
    }
    steps
}

fn old_ones(input: &Input<'_>, wanted: &Rendered) -> Vec<Instance> {
    let takes_over = |name: &Instance| wanted.handovers.values().any(|handover| handover.part == *name);
    let is_old = |name: &Instance| takes_over(name) || input.ledger.is_instance(name);
    let units = input.ledger.owned_units.iter().filter(|(name, _)| !wanted.units.contains_key(*name));
    let units = units.filter_map(|(name, owned)| {
        let instance = Instance::Unit(name.clone());
        let old = is_old(&instance) && (owned.adopted.is_none() || !takes_over(&instance));
        old.then_some(instance)
    });
    let containers = input.ledger.owned_containers.iter().filter(|name| !wanted.containers.contains_key(*name));
    let containers = containers.filter_map(|name| {
        let instance = Instance::Container(name.clone());
        let theirs = input.ledger.adopted.contains_key(name) && takes_over(&instance);
        (is_old(&instance) && !theirs).then_some(instance)
    });
    units.chain(containers).collect()
}

/// Whether a file is an instance's alone.
fn belongs_to(input: &Input<'_>, instance: &Instance, path: &AbsPath) -> bool {
    match instance {
        Instance::Unit(name) => is_file_of(path, name),
        Instance::Container(name) => path.as_path().starts_with(input.layout.secrets_of(input.app).join(name.as_str())),
    }
}

/// Who serves in its place.
fn replaced_by<'a>(input: &Input<'_>, wanted: &'a Rendered, old: &Instance) -> Option<&'a RenderedHandover> {
    let same = |upstream: &drover_proto::name::UpstreamName| {
        let instances = input.ledger.handovers.get(upstream);
        instances.is_some_and(|instances| instances.all.values().any(|instance| instance == old))
    };
    wanted.handovers.iter().find(|(upstream, its)| its.part == *old || same(upstream)).map(|(_, its)| its)
}

/// For so long as the release says in whose time it was started, as far as that is known.
fn drain_of(input: &Input<'_>, wanted: &Rendered, old: &Instance) -> Span {
    let own = input.ledger.current.as_ref().and_then(|current| {
        let upstreams = input.ledger.handovers.iter();
        let (upstream, _) = upstreams.into_iter().find(|(_, of)| of.all.values().any(|it| it == old))?;
        current.spec.handovers().find(|(_, its)| its.upstream == *upstream).map(|(_, its)| its.drain)
    });
    own.or_else(|| replaced_by(input, wanted, old).map(|by| by.drain)).unwrap_or_default()
}

/// Where it listens, if that is known.
fn port_of(input: &Input<'_>, old: &Instance) -> Option<u16> {
    let all = input.ledger.handovers.values().flat_map(|of| &of.all);
    let own = all.into_iter().find(|(_, instance)| *instance == old).map(|(port, _)| *port);
    let said = || {
        let previous = input.previous?;
        let ports: Vec<Port> = match old {
            Instance::Unit(name) => previous.units.get(name)?.ports.iter().copied().collect(),
            Instance::Container(name) => previous.containers.get(name)?.spec.ports.iter().map(|it| it.host).collect(),
        };
        ports.into_iter().find(|port| port.transport == Transport::Tcp).map(|port| port.number)
    };
    own.or_else(said)
}

/// Takes out those that `which` chooses, in their order.
fn take(steps: &mut Vec<Step>, which: impl Fn(&Action) -> bool) -> Vec<Step> {
    let (taken, left) = std::mem::take(steps).into_iter().partition(|step| which(&step.action));
    *steps = left;
    taken
}
