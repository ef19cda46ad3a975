//! What units were last started with, and which content of files was last reloaded: so that doing it again is seen to be needless.
//! Part of `ledger`.

use std::collections::BTreeSet;

use drover_proto::name::{AbsPath, UnitName};

use super::{AppLedger, handover};
use crate::render::{FileKind, Rendered};

/// The effect that says what a unit was last started with.
#[must_use]
pub fn unit_effect(unit: &UnitName) -> String {
    format!("unit:{unit}")
}

/// The effect that says which content of a file was last validated and reloaded.
#[must_use]
pub fn reload_effect(path: &AbsPath) -> String {
    format!("reload:{path}")
}

impl AppLedger {
    pub(super) fn record_effects(&mut self, rendered: &Rendered) {
        self.record_projects(rendered);
        for (name, unit) in &rendered.units {
            self.effects.insert(unit_effect(name), unit.fingerprint);
        }
        self.record_reloads(rendered);
    }

    pub(super) fn record_reloads(&mut self, rendered: &Rendered) {
        for file in rendered.files.iter().filter(|file| file.kind == FileKind::Plain) {
            self.effects.insert(reload_effect(&file.path), file.digest);
        }
    }

    /// Forgets the effects and owned things that the release no longer has.
    pub fn forget_dropped(&mut self, rendered: &Rendered) {
        self.owned_files.retain(|_, file| !file.removed);
        self.owned_units.retain(|name, _| rendered.units.contains_key(name));
        self.owned_containers.retain(|name| rendered.containers.contains_key(name));
        self.adopted.retain(|name, _| rendered.containers.contains_key(name));
        self.projects.retain(|name, _| rendered.compose.contains_key(name));
        self.stood.retain(|name, _| rendered.compose.contains_key(name));
        self.built.retain(|name, _| rendered.compose.contains_key(name));
        let wanted: BTreeSet<String> = rendered
            .units
            .keys()
            .map(unit_effect)
            .chain(rendered.files.iter().map(|file| reload_effect(&file.path)))
            .chain(rendered.handovers.values().map(|its| handover::effect(&its.instance)))
            .collect();
        self.effects.retain(|key, _| wanted.contains(key));
    }
}
