//! Steps for units: what is stopped, enabled, started and restarted, and why. Beside `plan`, after `files`.
//!
//! A unit is restarted exactly when what it was last started with is not what the release wants, or it does not run.

use std::collections::BTreeMap;

use drover_proto::{
    code::Code,
    name::{AbsPath, UnitName},
    plan::{Action, Reason, Step},
};

use super::{
    Input, Refusals,
    files::{FileChanges, why_stale},
    preflight, step,
};
use crate::{
    host::systemd::UnitState,
    ledger::{OwnedUnit, unit_effect},
    render::{FileKind, Rendered, RenderedUnit},
};

/// All changes of units.
#[derive(Default)]
pub(super) struct UnitChanges {
    /// Before files go.
    pub(super) stop: Vec<Step>,
    /// systemd holds old texts.
    pub(super) daemon_reload: bool,
    /// Enable and disable.
    pub(super) enable: Vec<Step>,
    /// Start, restart, reload.
    pub(super) run: Vec<Step>,
}

/// Compares every unit with what systemd has.
pub(super) fn changes(input: &Input<'_>, files: &FileChanges, refusals: &mut Refusals) -> UnitChanges {
    let mut changes = UnitChanges::default();
    let mut started = BTreeMap::new();
    let unknown = UnitState::default();
    for wanted in input.wanted.iter() {
        for (name, unit) in &wanted.units {
            let Some(path) = unit_path(wanted, &unit.file) else { continue };
            let state = input.observed.units.get(name).unwrap_or(&unknown);
            refuse(input, name, unit, state, &path, refusals);
            changes.daemon_reload |= state.need_daemon_reload;
            changes.enable.extend(enabling(name, unit, state, files.changed.contains(&path)));
            if let Some(step) = running(input, wanted, files, name, unit, state, &path) {
                started.insert(name.clone(), step);
            }
        }
    }
    for (name, owned) in &input.ledger.owned_units {
        if input.wanted.is_none_or(|wanted| !wanted.units.contains_key(name)) {
            changes.dropped(input, files, name, owned, &mut started);
        }
    }
    for (unit, reason) in &files.restart {
        started.entry(unit.clone()).or_insert_with(|| step(Action::Restart(unit.clone()), reason.clone()));
    }
    let is_gone = |unit: &UnitName| {
        input.ledger.owned_units.contains_key(unit) && input.wanted.is_none_or(|w| !w.units.contains_key(unit))
    };
    let reloads = files.reload.iter().filter(|(unit, _)| !started.contains_key(*unit) && !is_gone(unit));
    let reloads: Vec<Step> = reloads.map(|(unit, reason)| step(Action::Reload(unit.clone()), reason.clone())).collect();
    started.retain(|_, s| !matches!(&s.action, Action::Restart(unit) if is_gone_for_good(input, unit)));
    open_anew(input, &mut started, &mut changes.stop);
    // What starts a unit goes before that unit, which it would start again.
    changes.stop.sort_by_key(|step| !is_of(step, &["socket", "timer", "path"]));
    // A socket before its service, which would be started without it and then be in its way.
    let (sockets, others): (Vec<Step>, Vec<Step>) = started.into_values().partition(|step| is_of(step, &["socket"]));
    changes.run.extend(sockets.into_iter().chain(others).chain(reloads));
    changes
}

/// Whether it is about a unit of one of these kinds.
fn is_of(step: &Step, kinds: &[&str]) -> bool {
    match &step.action {
        Action::Start(unit) | Action::Restart(unit) | Action::Stop(unit) | Action::Disable(unit) => {
            kinds.contains(&unit.kind())
        }
        _ => false,
    }
}

/// systemd opens no socket whose service runs, and starts the service of one that is open: both are stopped before, and
/// started after that.
fn open_anew(input: &Input<'_>, started: &mut BTreeMap<UnitName, Step>, stop: &mut Vec<Step>) {
    let sockets: Vec<Step> = started.values().filter(|step| is_of(step, &["socket"])).cloned().collect();
    for Step { action, reason, .. } in sockets {
        let (Action::Start(socket) | Action::Restart(socket)) = &action else { continue };
        let service = socket.as_str().strip_suffix("socket").and_then(|stem| format!("{stem}service").parse().ok());
        let Some(service): Option<UnitName> = service else { continue };
        let running = input.observed.units.get(&service).is_some_and(runs);
        let unit = input.wanted.and_then(|wanted| wanted.units.get(&service));
        let Some(unit) = unit.filter(|_| running) else { continue };
        if matches!(action, Action::Restart(_)) {
            stop.push(step(Action::Stop(socket.clone()), reason.clone()));
            started.insert(socket.clone(), step(Action::Start(socket.clone()), reason.clone()));
        }
        stop.push(step(Action::Stop(service.clone()), reason.clone()));
        if unit.start {
            started.insert(service.clone(), step(Action::Start(service), reason));
        }
    }
}

/// A dropped unit that was not somebody else's before: there is nothing left to restart.
fn is_gone_for_good(input: &Input<'_>, unit: &UnitName) -> bool {
    let dropped = input.wanted.is_none_or(|wanted| !wanted.units.contains_key(unit));
    dropped && input.ledger.owned_units.get(unit).is_some_and(|owned| owned.adopted.is_none())
}

fn unit_path(wanted: &Rendered, unit: &UnitName) -> Option<AbsPath> {
    let is_it = |kind: &FileKind| matches!(kind, FileKind::Unit(name) if name == unit);
    wanted.files.iter().find(|file| is_it(&file.kind)).map(|file| file.path.clone())
}

fn refuse(
    input: &Input<'_>,
    name: &UnitName,
    unit: &RenderedUnit,
    state: &UnitState,
    path: &AbsPath,
    refusals: &mut Refusals,
) {
    if let Some(other) = input.others.units.get(name) {
        refusals.say(Code::OwnedByOther, name, format!("unit {name} belongs to app {other}; remove it there first"));
        return;
    }
    if input.observed.masked.contains(name) {
        let message = format!(
            "unit {name} is masked on this host, so that nothing starts it; systemctl unmask {name} there, if the app may \
             have it"
        );
        refusals.say(Code::UnsafePath, name, message);
        return;
    }
    let owned = input.ledger.owned_units.contains_key(name);
    if !owned && preflight::is_alias(name, unit, &state.fragment_path) {
        let message = format!(
            "unit {name} is another name of the unit in {} on this host; choose a name of its own",
            state.fragment_path
        );
        refusals.say(Code::NotOwned, name, message);
        return;
    }
    let elsewhere = !state.fragment_path.is_empty() && state.fragment_path != path.as_str();
    if elsewhere && !unit.adopt && !owned {
        let message = format!(
            "unit {name} is there already ({}) and drover does not own it; adopt: true takes it over",
            state.fragment_path
        );
        refusals.say(Code::NotOwned, name, message);
    }
}

fn enabling(name: &UnitName, unit: &RenderedUnit, state: &UnitState, text_changes: bool) -> Option<Step> {
    match at_boot(unit, state, text_changes)? {
        true => Some(step(Action::Enable(name.clone()), Reason::NotEnabled)),
        false => Some(step(Action::Disable(name.clone()), Reason::NotDisabled)),
    }
}

/// Whether it is to be started at boot, or not any more; `None`: it is as it should be.
pub(crate) fn at_boot(unit: &RenderedUnit, state: &UnitState, text_changes: bool) -> Option<bool> {
    let on = matches!(state.unit_file_state.as_str(), "enabled" | "enabled-runtime" | "alias");
    // Without [Install] there is nothing to enable; a new text may have one.
    let could = matches!(state.unit_file_state.as_str(), "" | "disabled" | "linked" | "linked-runtime") || text_changes;
    match (unit.enable, on) {
        (true, false) if could => Some(true),
        (false, true) => Some(false),
        (true, _) | (false, false) => None,
    }
}

/// Whether its process is there, or about to be.
pub(crate) fn runs(state: &UnitState) -> bool {
    matches!(state.active_state.as_str(), "active" | "reloading" | "activating" | "refreshing" | "maintenance")
}

/// A oneshot that has done its work and was not meant to stay.
pub(crate) fn is_done(state: &UnitState) -> bool {
    state.unit_type == "oneshot" && state.active_state == "inactive" && state.result == "success"
}

fn running(
    input: &Input<'_>,
    wanted: &Rendered,
    files: &FileChanges,
    name: &UnitName,
    unit: &RenderedUnit,
    state: &UnitState,
    path: &AbsPath,
) -> Option<Step> {
    if name.is_template() {
        return None;
    }
    let effect = input.ledger.effects.get(&unit_effect(name));
    let stale = || stale_reason(input, wanted, files, name, path);
    if !unit.start {
        // Somebody else starts it; a long-running one must not go on with what is gone.
        let old = match effect {
            Some(effect) => *effect != unit.fingerprint,
            // Taken over while it ran: what it runs is what stood there.
            None => !is_as_wanted(input, wanted, files, name, path),
        };
        let replace = old && state.active_state == "active" && state.unit_type != "oneshot";
        return replace.then(|| step(Action::Restart(name.clone()), stale()));
    }
    let start = |reason| Some(step(Action::Start(name.clone()), reason));
    let restart = |reason| Some(step(Action::Restart(name.clone()), reason));
    match (effect, runs(state)) {
        (Some(effect), true) if *effect == unit.fingerprint => None,
        (Some(effect), false) if *effect == unit.fingerprint && is_done(state) => None,
        (Some(effect), false) if *effect == unit.fingerprint => start(Reason::NotRunning),
        (Some(_), true) => restart(stale()),
        (Some(_), false) => start(stale()),
        // Taken over as it is: what runs is what the release wants.
        (None, true) if is_as_wanted(input, wanted, files, name, path) && !state.need_daemon_reload => None,
        (None, true) => restart(stale()),
        (None, false) => start(Reason::New),
    }
}

/// Whether what runs of a unit that drover has not started was started with what the release wants: its file stands there
/// already, or elsewhere with the same text, and nothing else that it reads changes.
fn is_as_wanted(input: &Input<'_>, wanted: &Rendered, files: &FileChanges, name: &UnitName, path: &AbsPath) -> bool {
    match why_stale(files, wanted, name, path) {
        None => true,
        Some(Reason::UnitChanged) => {
            let reads = wanted.units.get(name).into_iter().flat_map(|unit| &unit.names);
            input.observed.alike.contains(name) && reads.into_iter().all(|file| !files.changed.contains(file))
        }
        Some(_) => false,
    }
}

/// Why what runs is not what the release wants, as well as it can be told.
fn stale_reason(input: &Input<'_>, wanted: &Rendered, files: &FileChanges, name: &UnitName, path: &AbsPath) -> Reason {
    let directory = |rendered: &Rendered| rendered.tree.as_ref().map(|tree| tree.directory.clone());
    let (now, before) = (directory(wanted), input.previous.and_then(directory));
    let names_tree = |d: &AbsPath| wanted.units.get(name).is_some_and(|unit| unit.text.contains(d.as_str()));
    if before.is_some() && now != before && now.as_ref().is_some_and(names_tree) {
        return Reason::ReleaseChanged;
    }
    let asked = input.previous.is_some_and(|previous| previous.restart != wanted.restart);
    let unexplained = if asked { Reason::RestartAsked } else { Reason::StaleProcess };
    why_stale(files, wanted, name, path).unwrap_or(unexplained)
}

impl UnitChanges {
    fn dropped(
        &mut self,
        input: &Input<'_>,
        files: &FileChanges,
        name: &UnitName,
        owned: &OwnedUnit,
        started: &mut BTreeMap<UnitName, Step>,
    ) {
        let Some(state) = input.observed.units.get(name) else { return };
        let reason = if input.wanted.is_some() { Reason::Dropped } else { Reason::AppRemoved };
        let file_goes = files.remove.iter().any(|step| {
            matches!(&step.action, Action::RemoveFile { path, .. } if path.as_str() == state.fragment_path || path.as_str().ends_with(&format!("/{name}")))
        });
        self.daemon_reload |= state.need_daemon_reload;
        let before = owned.adopted;
        if before.is_some_and(|before| before.active) {
            // It was somebody's running unit before: it goes on as that.
            if file_goes || !runs(state) || state.need_daemon_reload {
                started.insert(name.clone(), step(Action::Restart(name.clone()), reason.clone()));
            }
        } else if runs(state) || state.active_state == "deactivating" || (state.active_state == "failed" && file_goes) {
            self.stop.push(step(Action::Stop(name.clone()), reason.clone()));
        }
        let on = matches!(state.unit_file_state.as_str(), "enabled" | "enabled-runtime");
        match before.map(|before| before.enabled) {
            Some(true) if !on => self.enable.push(step(Action::Enable(name.clone()), reason)),
            Some(true) => {}
            Some(false) | None if on => self.stop.push(step(Action::Disable(name.clone()), reason)),
            Some(false) | None => {}
        }
    }
}
