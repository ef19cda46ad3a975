//! `restore FILE`: unpacks a backup beside the state, checks all of it, and only then puts it in place; an old state is
//! set aside, never deleted. `backup` writes the file.

use std::{
    fs,
    io::{Read, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use drover_proto::digest::Hasher;

use super::backup::{CA_FILES, CONTENTS, Contents, DATABASE, FORMAT, SECRET_KEY, is_blob};
use crate::{
    app,
    ca::Ca,
    clock,
    config::StateDir,
    store::{self, SCHEMA_VERSION},
    vault::Vault,
};

/// Who owns the state when root restores into a directory that was not there.
const SERVICE_USER: &str = "drover-coordinator";
/// Everything that makes up the state, in the order in which it is set aside.
const STATE: [&str; 6] = [DATABASE, "coordinator.db-wal", "coordinator.db-shm", SECRET_KEY, "ca", "blobs"];
/// The listing has some 100 bytes for each artifact.
const MAX_CONTENTS_BYTES: u64 = 64 << 20;

/// Puts the backup `file` in place of what is in the state directory. Answers what to tell the user.
pub async fn restore(dir: &StateDir, file: &Path, force: bool) -> anyhow::Result<String> {
    let owner = owner(dir);
    app::make_state_dir(dir)?;
    let _lock = app::lock(dir).context("stop it first (systemctl stop drover-coordinator)")?;
    let existing: Vec<&str> = STATE.into_iter().filter(|name| dir.path().join(name).exists()).collect();
    ensure!(
        existing.is_empty() || force,
        "there is a coordinator's state in {}: --force sets it aside and restores",
        dir.path().display()
    );
    let cannot = || format!("cannot write in {}", dir.path().display());
    let staging = tempfile::Builder::new().prefix("restore-").tempdir_in(dir.path()).with_context(cannot)?;
    let contents = unpack(file, staging.path()).with_context(|| format!("{} cannot be restored", file.display()))?;
    verify(&contents, staging.path()).await.with_context(|| format!("{} cannot be restored", file.display()))?;
    if let Some((uid, gid)) = owner {
        give(staging.path(), uid, gid).with_context(cannot)?;
        give(&dir.lock(), uid, gid).with_context(cannot)?;
        chown(dir.path(), Some(uid), Some(gid)).with_context(cannot)?;
    }
    let aside = dir.path().join(format!("before-restore-{}", clock::unix_ms()));
    switch(dir, staging.path(), &existing, &aside).with_context(cannot)?;
    if let Some((uid, gid)) = owner.filter(|_| !existing.is_empty()) {
        give(&aside, uid, gid).with_context(cannot)?;
    }
    let kept = if existing.is_empty() { String::new() } else { format!(" The old state is in {}.", aside.display()) };
    Ok(format!(
        "restored {} artifacts, the CA {} and the store.{kept} Start the coordinator: systemctl start \
         drover-coordinator",
        contents.files.keys().filter(|name| name.starts_with("blobs/")).count(),
        contents.ca_fingerprint.short()
    ))
}

/// For root: the owner of the state directory or, for a new one, the service's user if there is one.
fn owner(dir: &StateDir) -> Option<(u32, u32)> {
    if uzers::get_effective_uid() != 0 {
        return None;
    }
    if let Ok(about) = fs::metadata(dir.path()) {
        return Some((about.uid(), about.gid()));
    }
    uzers::get_user_by_name(SERVICE_USER).map(|user| (user.uid(), user.primary_group_id()))
}

/// Unpacks what the listing names, and nothing else, into `staging`; every digest is checked.
fn unpack(file: &Path, staging: &Path) -> anyhow::Result<Contents> {
    let mut archive = tar::Archive::new(fs::File::open(file)?);
    let mut entries = archive.entries().context("it is not a tar file")?;
    let first = entries.next().context("it is empty")?.context("it is not a tar file")?;
    ensure!(first.path_bytes().as_ref() == CONTENTS.as_bytes(), "it is not a backup of a drover-coordinator");
    let mut listing = Vec::new();
    first.take(MAX_CONTENTS_BYTES).read_to_end(&mut listing)?;
    let contents: Contents =
        serde_json::from_slice(&listing).context("its listing is damaged, or of a newer version")?;
    ensure!(contents.format == FORMAT, "its format is {}, and this program reads {FORMAT}", contents.format);
    ensure!(
        contents.schema <= SCHEMA_VERSION,
        "a newer drover-coordinator ({}) wrote it: install that one",
        contents.program
    );
    for name in [DATABASE, SECRET_KEY].into_iter().chain(CA_FILES) {
        ensure!(contents.files.contains_key(name), "it has no {name}");
    }
    for sub in ["ca", "blobs"] {
        fs::DirBuilder::new().mode(0o700).create(staging.join(sub))?;
    }
    let mut left = contents.files.clone();
    for entry in entries {
        let mut entry = entry.context("it is cut off or damaged")?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // Every name that may be written is spelt out here, so that none can lead elsewhere.
        let known = name == DATABASE
            || name == SECRET_KEY
            || CA_FILES.contains(&name.as_str())
            || name.strip_prefix("blobs/").is_some_and(is_blob);
        let Some(wanted) = left.remove(&name).filter(|_| known && entry.header().entry_type().is_file()) else {
            bail!("it holds {name:?}, which does not belong there");
        };
        let mut target = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(staging.join(&name))?;
        let (mut hasher, mut piece) = (Hasher::new(), vec![0; 64 << 10]);
        loop {
            let n = entry.read(&mut piece).context("it is cut off or damaged")?;
            if n == 0 {
                break;
            }
            hasher.update(&piece[..n]);
            target.write_all(&piece[..n])?;
        }
        target.sync_all()?;
        ensure!(hasher.finish() == wanted, "{name} in it is damaged: its digest is not the one in the listing");
    }
    ensure!(left.is_empty(), "it is cut off: {} of its files are missing", left.len());
    Ok(contents)
}

/// The pieces belong together: the CA is the one named, and the key opens every secret of the database.
async fn verify(contents: &Contents, staging: &Path) -> anyhow::Result<()> {
    let ca = Ca::load(&staging.join("ca"))?;
    ensure!(ca.fingerprint() == contents.ca_fingerprint, "its CA is not the one that its listing names");
    let vault = Vault::load(&staging.join(SECRET_KEY))?;
    store::verify(&staging.join(DATABASE), &vault).await?;
    Ok(())
}

/// Gives a tree to a user; there are no links in it.
fn give(path: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    chown(path, Some(uid), Some(gid))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// The old state goes aside and the new one comes in. A coordinator that starts in between sees the mark and refuses.
fn switch(dir: &StateDir, staging: &Path, existing: &[&str], aside: &PathBuf) -> std::io::Result<()> {
    let sync = || fs::File::open(dir.path())?.sync_all();
    fs::write(dir.restoring(), "")?;
    sync()?;
    if !existing.is_empty() {
        fs::DirBuilder::new().mode(0o700).create(aside)?;
        for name in existing {
            fs::rename(dir.path().join(name), aside.join(name))?;
        }
    }
    for name in [SECRET_KEY, "ca", "blobs", DATABASE] {
        fs::rename(staging.join(name), dir.path().join(name))?;
    }
    sync()?;
    fs::remove_file(dir.restoring())?;
    sync()
}
