//! Takes the steps apart for what is replaced by another instance beside it: a new one is started and seen healthy before
//! anything else is touched, and the one before goes when everything else has been seen healthy. Beside `plan`, after `units`.

use std::collections::BTreeSet;

use drover_proto::{
    code::Code,
    name::{AbsPath, UnitName},
    plan::{Action, Reason, Step},
    port::Transport,
};

use super::{Input, Refusals, files::FileChanges, step, units::UnitChanges};
use crate::render::{FileKind, Rendered, RenderedHandover};

/// What comes before and after everything else.
#[derive(Default)]
pub(super) struct Split {
    /// New instances, which serve nobody yet.
    pub(super) beside: Vec<Step>,
    /// Those that serve no more.
    pub(super) retire: Vec<Step>,
}

/// Takes the steps that concern them out of the others.
pub(super) fn split(
    input: &Input<'_>,
    files: &mut FileChanges,
    units: &mut UnitChanges,
    refusals: &mut Refusals,
) -> Split {
    let Some(wanted) = input.wanted else { return Split::default() };
    for name in wanted.handovers.keys() {
        if let Some(other) = input.others.upstreams.get(name) {
            let message = format!("app {other} has an upstream {name} already; give this one another name: upstream:");
            refusals.say(Code::OwnedByOther, name, message);
        }
    }
    let reloads_before = files.units_changed;
    let beside = beside(input, wanted, files, units);
    let retire = retire(input, wanted, files, units);
    files.units_changed = reloads_before && still_changes_units(input, wanted, files);
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
fn beside(input: &Input<'_>, wanted: &Rendered, files: &mut FileChanges, units: &mut UnitChanges) -> Vec<Step> {
    let live = input.ledger.live_ports();
    let new: Vec<&RenderedHandover> =
        wanted.handovers.iter().filter(|(name, its)| live.get(*name) != Some(&its.port)).map(|(_, its)| its).collect();
    if new.is_empty() {
        return Vec::new();
    }
    let names: BTreeSet<&UnitName> = new.iter().map(|handover| &handover.instance).collect();
    let reads = |path: &AbsPath| {
        names.iter().any(|name| {
            let own = |kind: &FileKind| matches!(kind, FileKind::Unit(unit) if unit == *name);
            wanted.file(path).is_some_and(|file| own(&file.kind))
                || wanted.units.get(*name).is_some_and(|unit| unit.names.contains(path))
        })
    };
    let mut steps = take(&mut files.write, |action| matches!(action, Action::WriteFile { path, .. } if reads(path)));
    let written = steps.iter().any(|step| match &step.action {
        Action::WriteFile { path, .. } => names.iter().any(|name| is_file_of(path, name)),
        _ => false,
    });
    let unread = |name: &UnitName| input.observed.units.get(name).is_some_and(|state| state.need_daemon_reload);
    if written || names.iter().any(|name| unread(name)) {
        steps.push(step(Action::DaemonReload, Reason::UnitChanged));
    }
    steps.extend(take(
        &mut units.run,
        |action| matches!(action, Action::Start(unit) | Action::Restart(unit) if names.contains(unit)),
    ));
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

/// Instances that the release does not want, and the unit of the manifest's name that had no instances before.
fn retire(input: &Input<'_>, wanted: &Rendered, files: &mut FileChanges, units: &mut UnitChanges) -> Vec<Step> {
    let dropped = |name: &UnitName| !wanted.units.contains_key(name);
    let takes_over = |name: &UnitName| wanted.handovers.values().find(|handover| handover.part == *name);
    let old = input.ledger.owned_units.iter().filter(|(name, owned)| {
        let plain = takes_over(name).is_some() && owned.adopted.is_none();
        dropped(name) && (plain || input.ledger.is_instance(name.as_str()))
    });
    let mut steps = Vec::new();
    for (name, _) in old {
        let by = replaced_by(input, wanted, name);
        let why = by.map_or(Reason::Dropped, |by| Reason::Replaced(by.instance.to_string()));
        let stop = take(
            &mut units.stop,
            |action| matches!(action, Action::Stop(unit) | Action::Disable(unit) if unit == name),
        );
        if stop.iter().any(|step| matches!(step.action, Action::Stop(_))) {
            let at_most = drain_of(input, wanted, name);
            let action = Action::Drain { instance: name.to_string(), port: port_of(input, name), at_most };
            steps.push(step(action, why.clone()));
        }
        steps.extend(stop.into_iter().map(|it| step(it.action, why.clone())));
        let file = |action: &Action| matches!(action, Action::RemoveFile { path, .. } if is_file_of(path, name));
        steps.extend(take(&mut files.remove, file).into_iter().map(|it| step(it.action, why.clone())));
    }
    if steps.iter().any(|step| matches!(step.action, Action::RemoveFile { .. })) {
        steps.push(step(Action::DaemonReload, Reason::UnitChanged));
    }
    steps
}

/// Who serves in its place.
fn replaced_by<'a>(input: &Input<'_>, wanted: &'a Rendered, name: &UnitName) -> Option<&'a RenderedHandover> {
    let same = |upstream: &drover_proto::name::UpstreamName| {
        let instances = input.ledger.handovers.get(upstream);
        instances.is_some_and(|instances| instances.all.values().any(|instance| instance == name.as_str()))
    };
    wanted.handovers.iter().find(|(upstream, its)| its.part == *name || same(upstream)).map(|(_, its)| its)
}

/// For so long as the release says in whose time it was started, as far as that is known.
fn drain_of(input: &Input<'_>, wanted: &Rendered, name: &UnitName) -> drover_proto::duration::Span {
    let own = input.ledger.current.as_ref().and_then(|current| {
        let upstreams = input.ledger.handovers.iter();
        let (upstream, _) = upstreams.into_iter().find(|(_, of)| of.all.values().any(|it| it == name.as_str()))?;
        current.spec.handovers().find(|(_, _, its)| its.upstream == *upstream).map(|(_, _, its)| its.drain)
    });
    own.or_else(|| replaced_by(input, wanted, name).map(|by| by.drain)).unwrap_or_default()
}

/// Where it listens, if that is known.
fn port_of(input: &Input<'_>, name: &UnitName) -> Option<u16> {
    let all = input.ledger.handovers.values().flat_map(|of| &of.all);
    let own = all.into_iter().find(|(_, instance)| *instance == name.as_str()).map(|(port, _)| *port);
    let said = || {
        let unit = input.previous?.units.get(name)?;
        unit.ports.iter().find(|port| port.transport == Transport::Tcp).map(|port| port.number)
    };
    own.or_else(said)
}

/// Takes out those that `which` chooses, in their order.
fn take(steps: &mut Vec<Step>, which: impl Fn(&Action) -> bool) -> Vec<Step> {
    let (taken, left) = std::mem::take(steps).into_iter().partition(|step| which(&step.action));
    *steps = left;
    taken
}
