//! What a crash left half done and nobody would look at again, removed when the agent starts: it may hold secrets, and it
//! takes room. Beside `exec`; the reconciler calls it once, before anything else is done.

use std::{collections::BTreeMap, fs, io, path::Path, time::SystemTime};

use drover_proto::name::AppName;

use crate::{
    host::{
        files::{self, TEMPORARY},
        git::WORKPLACE,
    },
    ledger::AppLedger,
    render::Layout,
};

/// Removes it all. What cannot be removed is said and left.
pub fn sweep(layout: &Layout, ledgers: &BTreeMap<AppName, AppLedger>) {
    let all = |_: &str| true;
    let temporary = |name: &str| name.starts_with(TEMPORARY);
    for directory in ["ledger", "upkeep", "events"] {
        each(&layout.state_dir.join(directory), temporary);
    }
    each(&layout.env_dir, temporary);
    each(&layout.work_dir(), all);
    each(&layout.releases_dir, |name| name.starts_with(WORKPLACE));
    each(&layout.state_dir, |name| temporary(name) && !enrolling(&layout.state_dir.join(name)));
    for (app, ledger) in ledgers {
        for path in ledger.owned_files.keys() {
            match files::remove_temporary(path) {
                Ok(true) => tracing::info!(%app, %path, "removed a temporary file that was left beside it"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%app, %error, "a temporary file may have been left"),
            }
        }
        let kept: Vec<_> = ledger.originals.keys().map(|path| layout.original_of(app, path)).collect();
        let originals = layout.state_dir.join("originals").join(app.as_str());
        each(&originals, |name| !kept.contains(&originals.join(name)));
        each(&layout.state_dir.join("releases").join(app.as_str()), temporary);
    }
    // An artifact that is being put to use is fetched on from where it is; every other was used before the crash.
    let wanted = |ledger: &AppLedger| {
        let desired = ledger.activation.as_ref()?.desired.as_ref()?;
        Some((ledger.app.clone(), desired.spec.artifact.as_ref()?.digest.hex()))
    };
    let wanted: BTreeMap<AppName, String> = ledgers.values().filter_map(wanted).collect();
    each(&layout.blobs_dir(), |name| !wanted.keys().any(|app| app.as_str() == name));
    for (app, digest) in &wanted {
        // What is written of the archive of a commit has a name of its own, and is written anew.
        let goes_on = [digest.clone(), format!("{digest}.part")];
        each(&layout.blobs_dir().join(app.as_str()), |name| !goes_on.iter().any(|it| it == name));
    }
}

/// `drover-agent enroll` may be writing this just now: it is a temporary file of the last minute.
fn enrolling(path: &Path) -> bool {
    const ENROLLING: std::time::Duration = std::time::Duration::from_secs(60);
    let ours = path.file_name().is_some_and(|name| name.to_string_lossy().contains("identity"));
    let age = |data: fs::Metadata| SystemTime::now().duration_since(data.modified().ok()?).ok();
    // One from the future is from before the clock was set back.
    ours && fs::metadata(path).ok().and_then(age).is_some_and(|age| age < ENROLLING)
}

/// Removes what the directory has under names that `which` chooses.
fn each(directory: &Path, which: impl Fn(&str) -> bool) {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return tracing::warn!(%error, directory = %directory.display(), "cannot be listed"),
    };
    for entry in entries.filter_map(Result::ok).filter(|entry| which(&entry.file_name().to_string_lossy())) {
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        match if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) } {
            Ok(()) => tracing::info!(path = %path.display(), "removed what was left behind"),
            Err(error) => tracing::warn!(%error, path = %path.display(), "what was left behind stays"),
        }
    }
}
