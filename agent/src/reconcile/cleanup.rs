//! Removes what no release needs any more: never the tree of the running release or of the one before it. Beside
//! `reconcile`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use drover_proto::name::AppName;

use super::removal::remove_directory;
use crate::{exec, ledger::AppLedger, outputs, render::Layout};

/// What to say of an app whose ledger `aside` is damaged.
pub(super) fn damaged(app: &AppName, aside: &Path) -> String {
    format!(
        "the ledger of {app} was damaged and lies in {}: drover does not know any more what here is {app}'s",
        aside.display()
    )
}

/// Removes the trees that the ledger does not keep, originals that are back in their places, and old output. What cannot be
/// removed is said and left.
pub(super) fn unneeded(layout: &Layout, ledger: &AppLedger) {
    let app = &ledger.app;
    for name in names(layout.releases_of(app)) {
        if ledger.trees.contains(&name) {
            continue;
        }
        match exec::remove_tree(layout, app, &name) {
            Ok(()) => tracing::info!(%app, tree = name, "removed a release's directory that is not needed any more"),
            Err(error) => tracing::warn!(%app, tree = name, %error, "a release's directory cannot be removed"),
        }
    }
    let originals = layout.state_dir.join("originals").join(app.as_str());
    let kept: BTreeSet<PathBuf> = ledger.originals.keys().map(|path| layout.original_of(app, path)).collect();
    let back = names(originals.clone()).into_iter().map(|name| originals.join(name)).filter(|it| !kept.contains(it));
    for original in back {
        if let Err(error) = fs::remove_file(&original) {
            tracing::warn!(%app, %error, place = %original.display(), "a kept original stays behind");
        }
    }
    outputs::prune(layout, app);
}

/// Removes all trees and private files of an app that is gone. The output of its programs may stay: that of a first
/// release that failed is still to be looked at.
pub(super) fn everything(layout: &Layout, app: &AppName, with_output: bool) -> io::Result<()> {
    remove_directory(&layout.state_dir.join("releases").join(app.as_str()))?;
    remove_directory(&layout.releases_of(app))?;
    remove_directory(&layout.secrets_of(app))?;
    remove_directory(&layout.blobs_dir().join(app.as_str()))?;
    remove_directory(&layout.state_dir.join("originals").join(app.as_str()))?;
    if with_output { remove_directory(&layout.output_of(app)) } else { Ok(()) }
}

fn names(directory: PathBuf) -> Vec<String> {
    match fs::read_dir(&directory) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, directory = %directory.display(), "cannot be listed");
            Vec::new()
        }
    }
}
