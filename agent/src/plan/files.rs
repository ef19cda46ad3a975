//! Steps for files: what is written, checked, removed, and what is refused because it belongs to somebody else. Beside
//! `plan`.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    code::Code,
    name::{AbsPath, UnitName},
    plan::{Action, Reason, Step},
};

use super::{Input, Refusals, diff, step};
use crate::{
    host::files::FileState,
    ledger::reload_effect,
    observe::Seen,
    render::{FileKind, Rendered, RenderedFile},
};

/// All changes of files.
#[derive(Default)]
pub(super) struct FileChanges {
    pub(super) validate_staged: Vec<Step>,
    pub(super) write: Vec<Step>,
    /// Files that go and have a check, which the others must pass without them.
    pub(super) remove_checked: Vec<Step>,
    pub(super) validate_in_place: Vec<Step>,
    pub(super) remove: Vec<Step>,
    /// Files whose content changes.
    pub(super) changed: BTreeSet<AbsPath>,
    /// A unit file is written or removed.
    pub(super) units_changed: bool,
    /// Units to be reloaded, and because of which file.
    pub(super) reload: BTreeMap<UnitName, Reason>,
    /// Units to be restarted, and because of which file.
    pub(super) restart: BTreeMap<UnitName, Reason>,
}

/// Compares every file with what is there.
pub(super) fn changes(input: &Input<'_>, refusals: &mut Refusals) -> FileChanges {
    let mut changes = FileChanges::default();
    for file in input.wanted.iter().flat_map(|wanted| &wanted.files) {
        unknown_units(input, file, refusals);
        let written = write(input, file, refusals).is_some_and(|write| {
            changes.take(file, write);
            true
        });
        let effect = input.ledger.effects.get(&reload_effect(&file.path));
        // Written before a crash, and not reloaded since.
        let due = effect.is_some_and(|done| *done != file.digest) || changes.changed.contains(&file.path);
        if due && file.kind == FileKind::Plain {
            changes.request(&file.reload, &file.restart, || Reason::FileChanged(file.path.clone()));
        }
        changes.units_changed |= written && matches!(file.kind, FileKind::Unit(_));
    }
    let mut checks = changes.validate(input);
    for (path, owned) in &input.ledger.owned_files {
        if input.wanted.is_some_and(|wanted| wanted.file(path).is_some()) {
            continue;
        }
        let reason = if input.wanted.is_some() { Reason::Dropped } else { Reason::AppRemoved };
        // A unit that has gone since, e.g. with its package, serves nothing that could be told.
        let there = |units: &BTreeSet<UnitName>| units.difference(&input.observed.units_unknown).cloned().collect();
        changes.request(&there(&owned.reload), &there(&owned.restart), || Reason::FileChanged(path.clone()));
        let check = input.previous.and_then(|previous| previous.file(path)?.validate.as_ref());
        let check = check.filter(|validate| !validate.is_staged()).map(|validate| validate.argv(""));
        if !owned.removed {
            let restore_original = input.ledger.originals.contains_key(path);
            let remove = step(Action::RemoveFile { path: path.clone(), restore_original }, reason.clone());
            if check.is_some() { &mut changes.remove_checked } else { &mut changes.remove }.push(remove);
            changes.units_changed |= is_unit_file(path, input);
        }
        // What is left may need what went.
        if let Some(run) = check.filter(|run| checks.insert(run.clone())) {
            let action = Action::Validate { path: path.clone(), run, staged: false };
            changes.validate_in_place.push(step(action, reason));
        }
    }
    changes
}

/// A unit that nobody knows cannot be told of a change, and would fail the activation after the switch. Packages may
/// bring units, so that while some are missing nobody can say.
fn unknown_units(input: &Input<'_>, file: &RenderedFile, refusals: &mut Refusals) {
    if !input.observed.packages_missing.is_empty() {
        return;
    }
    for (verb, units) in [("reload", &file.reload), ("restart", &file.restart)] {
        for unit in units.intersection(&input.observed.units_unknown) {
            let message = format!(
                "{} names {unit} under {verb}, which is no unit of this release and unknown to systemd on this host",
                file.path
            );
            refusals.say(Code::Systemd, unit, message);
        }
    }
}

fn is_unit_file(path: &AbsPath, input: &Input<'_>) -> bool {
    input.ledger.owned_units.keys().any(|unit| path.as_str().ends_with(&format!("/systemd/system/{unit}")))
}

/// A file to be written.
struct Write {
    reason: Reason,
    keep_original: bool,
    content_changes: bool,
    diff: String,
}

impl FileChanges {
    fn take(&mut self, file: &RenderedFile, write: Write) {
        if write.content_changes {
            self.changed.insert(file.path.clone());
        }
        if let Some(validate) = file.validate.as_ref().filter(|validate| validate.is_staged()) {
            let action = Action::Validate { path: file.path.clone(), run: validate.argv("{{ path }}"), staged: true };
            self.validate_staged.push(step(action, Reason::FileChanged(file.path.clone())));
        }
        let action = Action::WriteFile {
            path: file.path.clone(),
            digest: (!file.secret).then_some(file.digest),
            owner: file.owner.clone(),
            group: file.group.clone(),
            mode: file.mode,
            diff: write.diff,
            keep_original: write.keep_original,
        };
        self.write.push(step(action, write.reason));
    }

    fn request(&mut self, reload: &BTreeSet<UnitName>, restart: &BTreeSet<UnitName>, why: impl Fn() -> Reason) {
        for unit in reload {
            self.reload.entry(unit.clone()).or_insert_with(&why);
        }
        for unit in restart {
            self.restart.entry(unit.clone()).or_insert_with(&why);
        }
    }

    /// The checks of files in their places look at the whole, so that all of them run when any file changes; each
    /// program once. Which they are.
    fn validate(&mut self, input: &Input<'_>) -> BTreeSet<Vec<String>> {
        let mut seen = BTreeSet::new();
        let Some(wanted) = input.wanted else { return seen };
        let plain = |file: &&RenderedFile| file.kind == FileKind::Plain;
        let writes = wanted.files.iter().filter(plain).any(|file| {
            let effect = input.ledger.effects.get(&reload_effect(&file.path));
            self.changed.contains(&file.path) || effect.is_some_and(|done| *done != file.digest)
        });
        if !writes {
            return seen;
        }
        for file in &wanted.files {
            let Some(validate) = file.validate.as_ref().filter(|validate| !validate.is_staged()) else { continue };
            let run = validate.argv("");
            if seen.insert(run.clone()) {
                let action = Action::Validate { path: file.path.clone(), run, staged: false };
                self.validate_in_place.push(step(action, Reason::FileChanged(file.path.clone())));
            }
        }
        seen
    }
}

fn is_masked(input: &Input<'_>, file: &RenderedFile) -> bool {
    matches!(&file.kind, FileKind::Unit(unit) if input.observed.masked.contains(unit))
}

/// Whether a file is to be written, and may be.
fn write(input: &Input<'_>, file: &RenderedFile, refusals: &mut Refusals) -> Option<Write> {
    let part = match &file.kind {
        FileKind::Unit(unit) => unit.to_string(),
        FileKind::Env | FileKind::Plain => file.path.to_string(),
    };
    if file.kind != FileKind::Env && input.layout.reserves(&file.path) {
        let message = format!("{} is in drover's own directories on this host; choose another path", file.path);
        refusals.say(Code::UnsafePath, part, message);
        return None;
    }
    if let Some(other) = input.others.files.get(&file.path) {
        let message = format!("{} belongs to app {other}; remove it there first", file.path);
        refusals.say(Code::OwnedByOther, part, message);
        return None;
    }
    let there = input.observed.files.get(&file.path);
    let (digest, uid, gid, mode) = match there.map(|there| &there.seen) {
        None | Some(Seen::Is(FileState::Missing)) => {
            let known = input.ledger.owns(&file.path);
            let reason = if known { Reason::Missing } else { Reason::New };
            let diff = diff::of(file, there, input.previous);
            return Some(Write { reason, keep_original: false, content_changes: true, diff });
        }
        Some(Seen::Is(FileState::File { digest, uid, gid, mode, .. })) => (*digest, *uid, *gid, *mode),
        // Said of the unit.
        Some(Seen::Is(FileState::Symlink)) if is_masked(input, file) => return None,
        Some(Seen::Is(FileState::Directory { .. } | FileState::Symlink | FileState::Other)) => {
            let message = format!("{} is there and is no regular file; remove it if a file may stand there", file.path);
            refusals.say(Code::UnsafePath, part, message);
            return None;
        }
        Some(Seen::Unsafe(why)) => {
            refusals.say(Code::UnsafePath, part, why);
            return None;
        }
    };
    let ours = input.ledger.owns(&file.path) || file.kind == FileKind::Env;
    if !ours && !file.adopt {
        let message = format!("{} is there already and drover does not own it; adopt: true takes it over", file.path);
        refusals.say(Code::NotOwned, part, message);
        return None;
    }
    let same_owner = (input.observed.users.get(&file.owner), input.observed.groups.get(&file.group))
        == (Some(&Some(uid)), Some(&Some(gid)))
        && mode == file.mode;
    let content_changes = digest != Some(file.digest);
    let reason = match (content_changes, same_owner, ours) {
        (true, _, _) => Reason::ContentDiffers,
        (false, false, _) => Reason::OwnerOrModeDiffers,
        (false, true, false) => Reason::New,
        (false, true, true) => return None,
    };
    let diff = if content_changes { diff::of(file, there, input.previous) } else { String::new() };
    Some(Write { reason, keep_original: !ours, content_changes, diff })
}

/// Whether any file that decides what a process of the unit sees changes: the reason for a restart.
pub(super) fn why_stale(
    changes: &FileChanges,
    wanted: &Rendered,
    unit: &UnitName,
    unit_file: &AbsPath,
) -> Option<Reason> {
    if changes.changed.contains(unit_file) {
        return Some(Reason::UnitChanged);
    }
    let names = wanted.units.get(unit).map(|unit| &unit.names)?;
    let changed = names.iter().find(|path| changes.changed.contains(*path))?;
    let is_env = wanted.file(changed).is_some_and(|file| file.kind == FileKind::Env);
    Some(if is_env { Reason::EnvChanged } else { Reason::FileChanged(changed.clone()) })
}
