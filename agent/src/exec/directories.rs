//! drover's own directories, private or readable. Beside `exec`; the reconciler makes them when it opens.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    time::{Duration, SystemTime},
};

use crate::{host::files::TEMPORARY, render::Layout};

/// Longer than enrolling holds a temporary file open.
const ENROLLING: Duration = Duration::from_secs(60);

/// Makes the directories that everything else lies in.
pub fn prepare(layout: &Layout) -> io::Result<()> {
    for private in ["ledger", "originals", "output", "releases", "work"] {
        make(&layout.state_dir.join(private), 0o700)?;
    }
    make(&layout.env_dir, 0o700)?;
    make(&layout.releases_dir, 0o755)?;
    let now = SystemTime::now();
    sweep(&layout.state_dir.join("ledger"), now);
    sweep(&layout.env_dir, now);
    // `drover-agent enroll` may be writing there just now.
    sweep(&layout.state_dir, now - ENROLLING);
    Ok(())
}

/// Removes temporary files older than `before` that a crash left: they may hold secrets, and nobody looks at them again.
fn sweep(directory: &Path, before: SystemTime) {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return tracing::warn!(%error, directory = %directory.display(), "cannot be listed"),
    };
    for entry in entries.filter_map(Result::ok) {
        let ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        let is_old = |data: fs::Metadata| data.is_file() && data.modified().is_ok_and(|at| at <= before);
        if !ours || !entry.metadata().is_ok_and(is_old) {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Ok(()) => tracing::info!(path = %entry.path().display(), "removed a temporary file that was left behind"),
            Err(error) => tracing::warn!(%error, path = %entry.path().display(), "a temporary file stays behind"),
        }
    }
}

/// Makes a directory with missing parents and sets its mode.
pub fn make(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
