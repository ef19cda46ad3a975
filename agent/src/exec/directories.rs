//! drover's own directories, private or readable. Beside `exec`; the reconciler makes them when it opens.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use crate::render::Layout;

/// Makes the directories that everything else lies in.
pub fn prepare(layout: &Layout) -> io::Result<()> {
    for private in ["ledger", "originals", "output", "releases", "work"] {
        make(&layout.state_dir.join(private), 0o700)?;
    }
    make(&layout.env_dir, 0o700)?;
    make(&layout.releases_dir, 0o755)?;
    Ok(())
}

/// Makes a directory with missing parents and sets its mode.
pub fn make(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
