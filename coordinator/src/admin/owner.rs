//! Root steps down before it touches the state: whoever owns the directory could put a link where root is about to write.
//! `backup`, `restore` and `operator_add` do their work through here.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, lchown},
    path::Path,
    thread,
};

use anyhow::{Context as _, anyhow, ensure};
use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use crate::config::StateDir;

/// Who owns the state when root restores into a directory that was not there.
const SERVICE_USER: &str = "drover-coordinator";

/// Makes the state directory that is not there yet, for root: the service's user's, if there is one.
pub(super) fn make(dir: &StateDir) -> anyhow::Result<()> {
    let cannot = || format!("cannot make {}", dir.path().display());
    if uzers::get_effective_uid() != 0 || dir.path().symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(parent) = dir.path().parent() {
        fs::create_dir_all(parent).with_context(cannot)?;
    }
    fs::DirBuilder::new().mode(0o700).create(dir.path()).with_context(cannot)?;
    match uzers::get_user_by_name(SERVICE_USER) {
        Some(user) => lchown(dir.path(), Some(user.uid()), Some(user.primary_group_id())).with_context(cannot),
        None => Ok(()),
    }
}

/// Does `work` on a thread of its own (and those that it starts), which for root has the rights of the state
/// directory's owner and no others. Files that `work` was given open stay open.
pub(super) fn as_owner<T: Send>(
    dir: &StateDir,
    work: impl AsyncFnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let owner = if uzers::get_effective_uid() == 0 { owner(dir.path())? } else { None };
    let all = move || {
        if let Some((uid, gid)) = owner {
            step_down(uid, gid).context("cannot take the rights of the state directory's owner")?;
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
    };
    thread::scope(|scope| scope.spawn(all).join()).map_err(|_| anyhow!("a fault of drover's own: see above"))?
}

/// The owner of the state directory, unless that is root or there is no directory.
fn owner(path: &Path) -> anyhow::Result<Option<(u32, u32)>> {
    match path.metadata() {
        Ok(about) => {
            ensure!(about.is_dir(), "{} is not a directory", path.display());
            Ok((about.uid() != 0).then_some((about.uid(), about.gid())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// For the calling thread, and for good: its capabilities go with its user.
fn step_down(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[gid])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}
