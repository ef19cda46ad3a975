//! What would stop a release later, on the host whose turn it is: room that is missing, ports that are taken, times that systemd
//! does not know. Beside `plan`;
//! what was seen is `observe/preflight`'s.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    code::Code,
    name::UnitName,
    plan::{Action, Step},
    port::Port,
};

use super::{Input, Refusals, compose};
use crate::{
    host::{
        listeners::{Listener, Owner},
        swap::SwapFile,
    },
    observe::preflight::Place,
    render::{FileKind, Rendered, RenderedUnit, Tree},
};

/// What a file system must have left over, in bytes and files: journals and logs are written, too.
const SPARE_BYTES: u64 = 4 << 20;
const SPARE_INODES: u64 = 16;
/// A directory and its entry take about so much beside the content, per file.
const ENTRY_BYTES: u64 = 512;
/// Programs are about so much larger than their archive, where nobody has said how large they are.
const LIKELY_RATIO: u64 = 4;
/// With less than that packages may not find room; how much they need, only apt knows.
const PACKAGES_BYTES: u64 = 128 << 20;

/// Judges `steps`, which are what the plan would do.
pub(super) fn judge(
    wanted: &Rendered,
    input: &Input<'_>,
    steps: &[Step],
    refusals: &mut Refusals,
    warnings: &mut Refusals,
) {
    room(wanted, input, steps, refusals, warnings);
    for bad in &input.observed.preflight.bad_times {
        let message = format!(
            "on_calendar {:?} of {} is no time that systemd on this host knows: {}; `systemd-analyze calendar` tries others",
            bad.expression, bad.timer, bad.why
        );
        refusals.say(Code::Systemd, &bad.timer, message);
    }
    for (name, unit) in &wanted.units {
        for port in &unit.ports {
            port_is_free(name.as_str(), port, input, wanted, refusals);
        }
    }
    for (name, container) in &wanted.containers {
        for publish in &container.spec.ports {
            port_is_free(name.as_str(), &publish.host, input, wanted, refusals);
        }
    }
    for (name, port) in input.observed.projects.ports() {
        port_is_free(name.as_str(), port, input, wanted, refusals);
    }
}

/// What is written to one file system.
#[derive(Default)]
struct Need {
    bytes: u64,
    /// Where nobody knows for certain.
    likely_bytes: u64,
    inodes: u64,
}

impl Need {
    fn add(&mut self, bytes: u64, inodes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.likely_bytes = self.likely_bytes.saturating_add(bytes);
        self.inodes = self.inodes.saturating_add(inodes);
    }
}

fn room(wanted: &Rendered, input: &Input<'_>, steps: &[Step], refusals: &mut Refusals, warnings: &mut Refusals) {
    let seen = &input.observed.preflight;
    let mut needs: BTreeMap<u64, Need> = BTreeMap::new();
    let mut packages = false;
    for (place, _, room) in &seen.rooms {
        let need = needs.entry(room.device).or_default();
        match (place, &wanted.tree) {
            (Place::Blobs, Some(tree)) if !input.observed.tree_sealed && !seen.archive_is_here => {
                need.add(tree.size_bytes, 1);
            }
            (Place::Releases, Some(tree)) if !input.observed.tree_sealed => unpacked(tree, input, need),
            (Place::Blobs | Place::Releases, _) => {}
            (Place::Env, _) => written(wanted, steps, need, |kind| *kind == FileKind::Env),
            (Place::Files, _) => written(wanted, steps, need, |kind| *kind != FileKind::Env),
            (Place::Swap, _) => {
                let made = steps.iter().find_map(|step| match step.action {
                    Action::MakeSwap { size_bytes } => Some(size_bytes),
                    _ => None,
                });
                let ready = seen.swap.is_some_and(|swap| matches!(swap.file, SwapFile::Ready(_)));
                if let Some(bytes) = made.filter(|_| !ready) {
                    need.add(bytes, 1);
                }
            }
            (Place::Packages, _) => {
                packages = steps.iter().any(|step| matches!(step.action, Action::InstallPackages(_)));
                need.likely_bytes += if packages { PACKAGES_BYTES } else { 0 };
            }
        }
    }
    for (device, need) in needs.into_iter().filter(|(_, need)| need.likely_bytes > 0 || need.inodes > 0) {
        let here = seen.rooms.iter().filter(|(_, _, room)| room.device == device);
        let paths: BTreeSet<String> = here.clone().map(|(_, path, _)| path.display().to_string()).collect();
        let Some((_, _, room)) = here.into_iter().next() else { continue };
        let part = paths.into_iter().next().unwrap_or_default();
        if room.free_bytes < need.bytes.saturating_add(SPARE_BYTES) {
            let message = format!(
                "{} are free where {part} is, and the release needs {} there beside what runs: make room on that host",
                size(room.free_bytes),
                size(need.bytes.saturating_add(SPARE_BYTES)),
            );
            refusals.say(Code::Disk, &part, message);
        } else if room.free_bytes < need.likely_bytes.saturating_add(SPARE_BYTES) {
            let what = if packages { "packages and the release" } else { "the release" };
            let message = format!(
                "{} are free where {part} is, and {what} may need about {} there",
                size(room.free_bytes),
                size(need.likely_bytes),
            );
            warnings.say(Code::Disk, &part, message);
        }
        if let Some(free) = room.free_inodes.filter(|free| *free < need.inodes.saturating_add(SPARE_INODES)) {
            let message = format!(
                "{free} more files can be made where {part} is (no inodes left), and the release needs {}: delete files there",
                need.inodes.saturating_add(SPARE_INODES),
            );
            refusals.say(Code::Disk, &part, message);
        }
    }
}

/// The tree beside the one that runs.
fn unpacked(tree: &Tree, input: &Input<'_>, need: &mut Need) {
    match input.observed.preflight.extent {
        Some(extent) => {
            need.add(extent.unpacked_bytes.saturating_add(extent.entries.saturating_mul(ENTRY_BYTES)), extent.entries);
        }
        None => {
            need.add(tree.size_bytes, 1);
            need.likely_bytes = need.likely_bytes.saturating_add(tree.size_bytes.saturating_mul(LIKELY_RATIO - 1));
        }
    }
}

fn written(wanted: &Rendered, steps: &[Step], need: &mut Need, of: impl Fn(&FileKind) -> bool) {
    for step in steps {
        if let Action::WriteFile { path, .. } = &step.action
            && let Some(file) = wanted.file(path).filter(|file| of(&file.kind))
        {
            need.add(file.bytes.expose().len() as u64, 1);
        }
    }
}

fn port_is_free(name: &str, port: &Port, input: &Input<'_>, wanted: &Rendered, refusals: &mut Refusals) {
    let taken = input.observed.preflight.listeners.iter().find(|l| l.port.collides(port) && !is_ours(l, input, wanted));
    let Some(listener) = taken else { return };
    let whose = match listener.owners.first() {
        None => "something that belongs to no process of this host's".to_owned(),
        Some(owner) => described(owner, input),
    };
    let message = format!(
        "port {port} of {name} is taken: {} is held by {whose}; stop that, or choose another port",
        listener.port
    );
    refusals.say(Code::PortTaken, name, message);
}

/// Whether a unit or container of this app listens there: it is replaced, or goes on. For socket units systemd itself does,
/// for containers Docker.
fn is_ours(listener: &Listener, input: &Input<'_>, wanted: &Rendered) -> bool {
    let own = |unit: &UnitName| wanted.units.contains_key(unit) || input.ledger.owned_units.contains_key(unit);
    let active = |unit: &&UnitName| input.observed.units.get(*unit).is_some_and(|state| state.active_state == "active");
    let mut known = wanted.units.keys().chain(input.ledger.owned_units.keys()).filter(active);
    let by_socket = known.any(|unit| unit.kind() == "socket");
    let own_containers = input
        .observed
        .containers
        .states
        .values()
        .filter(|state| state.running && (state.app.as_ref() == Some(input.app) || state.app.is_none()));
    let adopted = wanted.compose.keys().filter(|name| compose::is_strange(input, name));
    let own_projects =
        input.ledger.projects.keys().chain(adopted).filter_map(|name| input.observed.projects.members.get(name));
    let of_projects = own_projects.flatten().map(|member| &member.state).filter(|state| state.running);
    if own_containers.chain(of_projects).any(|state| state.ports.iter().any(|port| port.collides(&listener.port))) {
        return true;
    }
    listener.owners.iter().any(|owner| {
        let unit: Option<UnitName> = owner.unit.as_ref().and_then(|unit| unit.parse().ok());
        unit.is_some_and(|unit| own(&unit)) || (owner.pid == 1 && by_socket)
    })
}

fn described(owner: &Owner, input: &Input<'_>) -> String {
    let process = format!("process {} ({})", owner.pid, owner.name);
    let Some(unit) = &owner.unit else { return process };
    let app = unit.parse().ok().and_then(|unit: UnitName| input.others.units.get(&unit));
    match app {
        Some(app) => format!("{unit} of app {app}, {process}"),
        None => format!("{unit}, {process}"),
    }
}

/// A unit of somebody else under another name: nothing that could be taken over.
pub(super) fn is_alias(name: &UnitName, unit: &RenderedUnit, fragment_path: &str) -> bool {
    let file = fragment_path.rsplit('/').next().unwrap_or_default();
    !file.is_empty() && file != name.as_str() && file != unit.file.as_str()
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}
