//! Reads what is there: files, directories, units, packages, users, trees. Changes nothing, decides nothing; `plan` and
//! `report` read the result.

pub mod compose;
pub mod containers;
pub mod disk;
pub mod preflight;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use drover_proto::{
    limits,
    name::{AbsPath, PackageName, UnitName, UserName},
    secret::Secret,
};

use self::{compose::SeenProjects, containers::SeenContainers, preflight::Preflight};
use crate::{
    host::{
        bounded::read_bounded,
        docker::Engine,
        files::{self, FileState, Known},
        packages,
        systemd::{Systemd, UnitState},
        users,
    },
    ledger::AppLedger,
    render::{FileKind, Layout, Rendered},
};

/// What a host has of the things that one app concerns.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Wanted and not installed.
    pub packages_missing: BTreeSet<PackageName>,
    /// Users that the release names → uid; `None` = there is no such user.
    pub users: BTreeMap<UserName, Option<u32>>,
    /// Groups likewise.
    pub groups: BTreeMap<UserName, Option<u32>>,
    /// What stands where directories are wanted.
    pub directories: BTreeMap<AbsPath, Seen>,
    /// What stands where files are wanted or owned.
    pub files: BTreeMap<AbsPath, SeenFile>,
    /// The app's units, wanted and owned.
    pub units: BTreeMap<UnitName, UnitState>,
    /// Units that files reload or restart, not the app's own, and that systemd does not know.
    pub units_unknown: BTreeSet<UnitName>,
    /// Units of somebody else that files reload or restart, as far as systemd knows them.
    pub neighbours: BTreeMap<UnitName, UnitState>,
    /// What the engine has of the app's containers.
    pub containers: SeenContainers,
    /// What the host has of the app's compose projects.
    pub projects: SeenProjects,
    /// Units of the release that somebody else has elsewhere, with the very same text.
    pub alike: BTreeSet<UnitName>,
    /// Units of the release that somebody has masked.
    pub masked: BTreeSet<UnitName>,
    /// The release's tree is complete and sealed.
    pub tree_sealed: bool,
    /// Something stands where the release's tree belongs.
    pub tree_there: bool,
    /// Looked at only for a plan.
    pub preflight: Preflight,
}

/// How thoroughly is looked.
#[derive(Clone)]
pub enum Depth {
    /// Everything that an activation must know.
    Whole,
    /// What may have changed by itself: no packages, and files are read only when they changed.
    Again(Arc<Mutex<Known>>),
}

/// What is at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// This.
    Is(FileState),
    /// It cannot be reached safely; why.
    Unsafe(String),
}

/// What is at a file's path.
#[derive(Clone, Debug)]
pub struct SeenFile {
    /// What it is.
    pub seen: Seen,
    /// Its text, if it is text and not too large; may hold secrets.
    pub text: Option<Secret<String>>,
}

/// The host could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{of} cannot be observed: {why}")]
pub struct ObserveError {
    /// What.
    pub of: String,
    /// Why.
    pub why: String,
}

fn failed(of: impl ToString, why: impl ToString) -> ObserveError {
    ObserveError { of: of.to_string(), why: why.to_string() }
}

/// Looks at everything that `wanted` and the ledger name.
pub async fn observe(
    wanted: Option<&Rendered>,
    ledger: &AppLedger,
    layout: &Layout,
    systemd: &Systemd,
    engine: &Engine,
    depth: Depth,
) -> Result<Observed, ObserveError> {
    let mut observed = Observed { units: units(wanted, ledger, systemd).await?, ..Observed::default() };
    neighbours(wanted, ledger, systemd, &mut observed).await?;
    observed.containers = containers::look(wanted, ledger, layout, engine).await;
    observed.projects = compose::look(wanted, ledger, layout, engine, matches!(depth, Depth::Whole)).await;
    if let Some(rendered) = wanted {
        if !rendered.needs.packages.is_empty() && matches!(depth, Depth::Whole) {
            let missing = packages::missing(&rendered.needs.packages).await;
            observed.packages_missing = missing.map_err(|e| failed("packages", e))?;
        }
        needs(rendered, &mut observed)?;
        observed.masked = masked(rendered, &observed);
        observed.alike = alike(rendered, ledger, &observed);
        if let Some(tree) = &rendered.tree {
            let sealed = layout.seal_marker(&rendered.app, &tree.key).exists();
            observed.tree_there = tree.directory.as_path().symlink_metadata().is_ok();
            observed.tree_sealed = sealed && tree.directory.as_path().is_dir();
        }
    }
    let wanted_paths = wanted.iter().flat_map(|rendered| rendered.files.iter().map(|file| &file.path));
    let paths: BTreeSet<AbsPath> = wanted_paths.chain(ledger.owned_files.keys()).cloned().collect();
    let look = move || -> Result<BTreeMap<AbsPath, SeenFile>, ObserveError> {
        match depth {
            Depth::Whole => paths.into_iter().map(|path| file(&path).map(|seen| (path, seen))).collect(),
            Depth::Again(known) => {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                paths.into_iter().map(|path| known_file(&path, &mut known).map(|seen| (path, seen))).collect()
            }
        }
    };
    // Hashing many files takes a while.
    observed.files = tokio::task::spawn_blocking(look).await.map_err(|e| failed("files", e))??;
    Ok(observed)
}

fn needs(rendered: &Rendered, observed: &mut Observed) -> Result<(), ObserveError> {
    let directories = &rendered.needs.directories;
    let mut names: BTreeSet<&UserName> = rendered.needs.users.iter().map(|user| &user.name).collect();
    names.extend(directories.iter().map(|d| &d.owner).chain(rendered.files.iter().map(|f| &f.owner)));
    names.extend(rendered.hooks.iter().map(|hook| &hook.user));
    names.extend(rendered.units.values().flat_map(|unit| &unit.accounts.users));
    names.extend(rendered.tree.iter().filter_map(|tree| tree.build.as_ref()).map(|build| &build.user));
    for name in names {
        let account = users::account(name).map_err(|e| failed(name, e))?;
        observed.users.insert(name.clone(), account.map(|account| account.uid));
    }
    // A user that is there keeps the groups that it has.
    let made = rendered.needs.users.iter().filter(|user| observed.users.get(&user.name).is_none_or(Option::is_none));
    let joined: BTreeSet<UserName> = made.flat_map(|user| &user.groups).cloned().collect();
    let of_units = rendered.units.values().flat_map(|unit| &unit.accounts.groups);
    let of_files = rendered.files.iter().map(|f| &f.group);
    for name in directories.iter().map(|d| &d.group).chain(&joined).chain(of_files).chain(of_units) {
        observed.groups.insert(name.clone(), users::group_id(name).map_err(|e| failed(name, e))?);
    }
    for directory in directories {
        observed.directories.insert(directory.path.clone(), seen(&directory.path)?);
    }
    Ok(())
}

/// What is at one path.
pub fn seen(path: &AbsPath) -> Result<Seen, ObserveError> {
    match files::state(path) {
        Ok(state) => Ok(Seen::Is(state)),
        Err(error @ files::FileError::Unsafe { .. }) => Ok(Seen::Unsafe(error.to_string())),
        Err(error) => Err(failed(path, error)),
    }
}

fn file(path: &AbsPath) -> Result<SeenFile, ObserveError> {
    let seen = seen(path)?;
    let small = matches!(&seen, Seen::Is(FileState::File { size, .. }) if *size <= limits::MAX_FILE_BYTES as u64);
    let bytes = if small { files::read(path, limits::MAX_FILE_BYTES).map_err(|e| failed(path, e))? } else { None };
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(Secret::new);
    Ok(SeenFile { seen, text })
}

/// One that was seen before and has not changed since comes without its text.
fn known_file(path: &AbsPath, known: &mut Known) -> Result<SeenFile, ObserveError> {
    match known.state(path) {
        Ok((state, true)) => Ok(SeenFile { seen: Seen::Is(state), text: None }),
        Ok((_, false)) => file(path),
        Err(error @ files::FileError::Unsafe { .. }) => {
            Ok(SeenFile { seen: Seen::Unsafe(error.to_string()), text: None })
        }
        Err(error) => Err(failed(path, error)),
    }
}

/// A mask is a link to nowhere in the place of the unit file, whether systemd has read it yet or not.
fn masked(rendered: &Rendered, observed: &Observed) -> BTreeSet<UnitName> {
    let nowhere = |path: &AbsPath| std::fs::read_link(path.as_path()).is_ok_and(|to| to == Path::new("/dev/null"));
    let by_file = |unit: &UnitName| {
        rendered.files.iter().any(|file| file.kind == FileKind::Unit(unit.clone()) && nowhere(&file.path))
    };
    let by_word = |unit: &UnitName| observed.units.get(unit).is_some_and(|state| state.load_state == "masked");
    rendered.units.keys().filter(|unit| by_word(unit) || by_file(unit)).cloned().collect()
}

/// What may be taken over from elsewhere, such as a package, without another text.
fn alike(rendered: &Rendered, ledger: &AppLedger, observed: &Observed) -> BTreeSet<UnitName> {
    let text = |name: &UnitName| {
        let unit = rendered.units.get(name).filter(|unit| unit.adopt && !ledger.owned_units.contains_key(name))?;
        let file = rendered.files.iter().find(|file| file.kind == FileKind::Unit(unit.file.clone()))?;
        let state = observed.units.get(name).filter(|state| !state.need_daemon_reload)?;
        let there = state.fragment_path != file.path.as_str() && !state.fragment_path.is_empty();
        (there && read_bounded(&state.fragment_path).ok()? == *file.bytes.expose()).then_some(())
    };
    rendered.units.keys().filter(|name| text(name).is_some()).cloned().collect()
}

async fn units(
    wanted: Option<&Rendered>,
    ledger: &AppLedger,
    systemd: &Systemd,
) -> Result<BTreeMap<UnitName, UnitState>, ObserveError> {
    let wanted = wanted.iter().flat_map(|rendered| rendered.units.keys());
    let names: BTreeSet<&UnitName> = wanted.chain(ledger.owned_units.keys()).collect();
    let mut units = BTreeMap::new();
    for name in names.into_iter().filter(|name| !name.is_template()) {
        let state = systemd.unit(name).await.map_err(|e| failed(name, e))?;
        units.insert(name.clone(), state);
    }
    Ok(units)
}

/// The units of others that files reload or restart, and which of them are not there.
async fn neighbours(
    wanted: Option<&Rendered>,
    ledger: &AppLedger,
    systemd: &Systemd,
    observed: &mut Observed,
) -> Result<(), ObserveError> {
    let named = wanted.iter().flat_map(|rendered| &rendered.files).flat_map(|file| file.reload.union(&file.restart));
    let owned = ledger.owned_files.values().flat_map(|file| file.reload.union(&file.restart));
    let names: BTreeSet<&UnitName> = named.chain(owned).collect();
    let own = |name: &UnitName| wanted.is_some_and(|rendered| rendered.units.contains_key(name));
    for name in names.into_iter().filter(|name| !own(name)) {
        let state =
            if name.is_template() { None } else { Some(systemd.unit(name).await.map_err(|e| failed(name, e))?) };
        match state.filter(|state| state.load_state != "not-found") {
            Some(state) => drop(observed.neighbours.insert(name.clone(), state)),
            None => drop(observed.units_unknown.insert(name.clone())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! What is looked up for users that are to be made.
    use drover_proto::app::UserNeed;

    use super::*;
    use crate::render::tests::{desired, rendered};

    #[test]
    fn the_groups_of_users_to_be_made_are_looked_up() {
        let mut desired = desired();
        let need = |name: &str, group: &str| UserNeed {
            name: name.parse().unwrap(),
            home: "/nonexistent".parse().unwrap(),
            shell: "/usr/sbin/nologin".parse().unwrap(),
            groups: [group.parse().unwrap()].into(),
        };
        desired.spec.host.users = vec![need("drover-none", "drover-no-group"), need("www-data", "drover-no-other")];
        let mut observed = Observed::default();
        needs(&rendered(&desired), &mut observed).unwrap();
        assert_eq!(observed.groups.get(&"drover-no-group".parse().unwrap()), Some(&None));
        assert_eq!(observed.groups.get(&"drover-no-other".parse().unwrap()), None);
    }
}
