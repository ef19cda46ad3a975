//! Files written and removed, the originals of adopted ones kept and put back, and everything undone while nobody has
//! looked at it yet. Beside `exec`.

use std::fs;

use drover_proto::{code::Code, name::AbsPath};

use super::{Exec, StepFailure, accounts, directories};
use crate::{
    host::files::{self, FileError, FileState},
    ledger::{AdoptedUnit, AppLedger, Original},
    render::{FileKind, RenderedFile},
};

/// An original larger than this is not taken over.
const MAX_ORIGINAL_BYTES: usize = 64 << 20;

/// What stood where files were written, newest last, while it can still be put back exactly.
#[derive(Default)]
pub struct Undo {
    before: Vec<(AbsPath, Before)>,
}

#[derive(PartialEq, Eq)]
enum Before {
    Nothing,
    Kept(Kept),
    /// More than is kept.
    TooLarge,
}

#[derive(PartialEq, Eq)]
struct Kept {
    bytes: Vec<u8>,
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Undo {
    /// Puts everything back as it was. The first error ends it.
    pub fn put_back(self) -> Result<(), StepFailure> {
        for (path, before) in self.before.into_iter().rev() {
            // Where nothing could be written nothing can be put back, and nothing need be.
            if read_whole(&path).is_ok_and(|now| now == before && now != Before::TooLarge) {
                continue;
            }
            match before {
                Before::Kept(kept) => {
                    files::write_atomic(&path, &kept.bytes, kept.uid, kept.gid, kept.mode).map_err(failed)?
                }
                Before::Nothing => files::remove(&path).map(drop).map_err(failed)?,
                // Nobody can say whether it is still that.
                Before::TooLarge => {
                    let cause = format!("what stood at {path} before was too large to be kept");
                    return Err(StepFailure::new(Code::Limit, "files", cause));
                }
            }
        }
        Ok(())
    }
}

fn failed(error: FileError) -> StepFailure {
    StepFailure::new(error.code(), "files", error.to_string())
}

impl Exec<'_> {
    pub(super) fn write_file(
        &self,
        path: &AbsPath,
        keep_original: bool,
        ledger: &mut AppLedger,
        undo: &mut Undo,
    ) -> Result<(), StepFailure> {
        let unknown = || StepFailure::new(Code::Internal, "files", format!("the release has no file {path}"));
        let file = self.wanted()?.file(path).ok_or_else(unknown)?;
        let (owner, group) = (accounts::user(&file.owner)?, accounts::group(&file.group)?);
        let before = read_whole(path)?;
        let original = match &before {
            Before::Kept(kept) if keep_original => Some(self.keep_original(path, kept)?),
            // Somebody else's is not thrown away; what stands in place of a file of drover's may be.
            Before::TooLarge if keep_original => {
                let error = FileError::TooLarge { path: path.to_string(), max: MAX_ORIGINAL_BYTES };
                return Err(failed(error));
            }
            Before::Kept(_) | Before::TooLarge | Before::Nothing => None,
        };
        let unit_before = self.unit_before(file, keep_original);
        ledger.claim(file, original, unit_before);
        self.ledgers.save(ledger)?;
        undo.before.push((path.clone(), before));
        files::write_atomic(path, file.bytes.expose(), owner.uid, group, file.mode).map_err(failed)
    }

    fn keep_original(&self, path: &AbsPath, kept: &Kept) -> Result<Original, StepFailure> {
        let place = self.layout.original_of(self.app, path);
        if let Some(parent) = place.parent() {
            directories::make(parent, 0o700).map_err(|e| {
                StepFailure::new(Code::Write, "files", format!("{} cannot be made: {e}", parent.display()))
            })?;
        }
        files::write_private(&place, &kept.bytes).map_err(failed)?;
        Ok(Original { uid: kept.uid, gid: kept.gid, mode: kept.mode })
    }

    /// How a unit was before it is taken over; `None` for one that nobody had.
    fn unit_before(&self, file: &RenderedFile, keep_original: bool) -> Option<AdoptedUnit> {
        let FileKind::Unit(name) = &file.kind else { return None };
        let state = self.observed.units.get(name)?;
        let elsewhere = !state.fragment_path.is_empty() && state.fragment_path != file.path.as_str();
        (keep_original || elsewhere).then(|| AdoptedUnit::from(state))
    }

    pub(super) fn remove_file(
        &self,
        path: &AbsPath,
        restore_original: bool,
        ledger: &mut AppLedger,
        undo: &mut Undo,
    ) -> Result<(), StepFailure> {
        undo.before.push((path.clone(), read_whole(path)?));
        let place = self.layout.original_of(self.app, path);
        match ledger.originals.get(path).filter(|_| restore_original) {
            Some(original) => {
                let bytes = fs::read(&place).map_err(|error| {
                    StepFailure::new(Code::Write, "files", format!("the original of {path} cannot be read: {error}"))
                })?;
                files::write_atomic(path, &bytes, original.uid, original.gid, original.mode).map_err(failed)?;
            }
            None => files::remove(path).map(drop).map_err(failed)?,
        }
        // What was kept of it goes when nothing can be undone any more.
        ledger.released(path);
        self.ledgers.save(ledger)?;
        Ok(())
    }
}

fn read_whole(path: &AbsPath) -> Result<Before, StepFailure> {
    let FileState::File { uid, gid, mode, .. } = files::state(path).map_err(failed)? else {
        return Ok(Before::Nothing);
    };
    match files::read(path, MAX_ORIGINAL_BYTES) {
        Ok(Some(bytes)) => Ok(Before::Kept(Kept { bytes, uid, gid, mode })),
        Ok(None) => Ok(Before::Nothing),
        Err(FileError::TooLarge { .. }) => Ok(Before::TooLarge),
        Err(error) => Err(failed(error)),
    }
}
