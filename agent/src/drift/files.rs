//! What of drift concerns files only. Part of `drift`.

use drover_proto::{
    name::{AbsPath, UnitName},
    plan::Reason,
};

use super::{Cure, Findings, Part, Sight};
use crate::render::{FileKind, Rendered};

impl Findings {
    pub(super) fn of_file(&mut self, sight: &Sight<'_>, path: &AbsPath, reason: &Reason) {
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

    pub(super) fn of_unread_file(&mut self, wanted: &Rendered, reason: &Reason) {
        let Reason::FileChanged(path) = reason else { return };
        let drift = wanted.file(path).map(|file| file.drift).unwrap_or_default();
        self.say(Part::File(path.clone()), "was not read again by what it serves", drift, Cure::Steps);
    }
}
