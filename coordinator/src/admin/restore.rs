//! `restore FILE`: unpacks a backup beside the state, checks all of it, and only then puts it in place; an old state is
//! set aside, never deleted. `backup` writes the file.

use std::{
    fs,
    io::{Read, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use drover_proto::digest::Hasher;

use super::{
    backup::{CA_FILES, CONTENTS, Contents, DATABASE, FORMAT, OTHER_CAS, SECRET_KEY, is_blob, is_other_ca_file},
    owner,
};
use crate::{
    app,
    ca::Ca,
    clock,
    config::StateDir,
    rollout::{
        next::next,
        state::{Event, Rollout, What},
    },
    store::{self, SCHEMA_VERSION},
    vault::Vault,
};

/// Everything that makes up the state, in the order in which it is set aside.
const STATE: [&str; 8] =
    [DATABASE, "coordinator.db-wal", "coordinator.db-shm", SECRET_KEY, "ca", "ca-next", "ca-old", "blobs"];
/// The listing has some 100 bytes for each artifact.
const MAX_CONTENTS_BYTES: u64 = 64 << 20;

/// Puts the backup `file` in place of what is in the state directory. Answers what to tell the user.
pub fn restore(dir: &StateDir, file: &Path, force: bool) -> anyhow::Result<String> {
    let who = super::local_user();
    let refused = format!("{} cannot be restored", file.display());
    // Opened first: the owner of the state need not be able to.
    let backup = fs::File::open(file).with_context(|| refused.clone())?;
    owner::make(dir)?;
    owner::as_owner(dir, async || put(dir, backup, force, &who, refused).await)
}

async fn put(dir: &StateDir, backup: fs::File, force: bool, who: &str, refused: String) -> anyhow::Result<String> {
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
    let contents = unpack(backup, staging.path()).with_context(|| refused.clone())?;
    verify(&contents, staging.path()).await.context(refused)?;
    let now_ms = clock::unix_ms();
    let by = format!("the restore of a backup by {who}");
    let ended = |document: &str| aborted(document, &by, now_ms);
    let rested = store::put_to_rest(&staging.path().join(DATABASE), &dir.database(), who, now_ms, ended).await?;
    let aside = dir.path().join(format!("before-restore-{now_ms}"));
    switch(dir, staging.path(), &existing, &aside).with_context(cannot)?;
    let kept = if existing.is_empty() { String::new() } else { format!(" The old state is in {}.", aside.display()) };
    Ok(format!(
        "restored {} artifacts, the CA {} and the store.{kept}\n\
         Unused tokens are revoked ({}): make new ones. Rollouts that were under way are aborted ({}).\n\
         Warning: operators and hosts that were revoked or removed after this backup was made are welcome again. Start the \
         coordinator (systemctl start drover-coordinator), look through `drover operator list` and `drover hosts`, and \
         revoke or remove them again.\n\
         Warning: releases made after this backup are unknown to it. Hosts keep such an app as they have it until it is \
         applied again: `drover status` says which and where. Apply their newest manifests.",
        contents.files.keys().filter(|name| name.starts_with("blobs/")).count(),
        contents.ca_fingerprint.short(),
        rested.tokens,
        rested.rollouts,
    ))
}

/// The document of a rollout, aborted. Its hosts stay as they are: nothing is written for them.
fn aborted(document: &str, by: &str, now_unix_ms: i64) -> Option<String> {
    let rollout: Rollout = serde_json::from_str(document).ok()?;
    let (ended, _) = next(&rollout, &Event { now_unix_ms, what: What::Abort { by: by.to_owned() } });
    let ended = Rollout { due: Vec::new(), ..ended };
    serde_json::to_string(&ended).ok()
}

/// Unpacks what the listing names, and nothing else, into `staging`; every digest is checked.
fn unpack(file: fs::File, staging: &Path) -> anyhow::Result<Contents> {
    let mut archive = tar::Archive::new(file);
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
    let other_cas = OTHER_CAS.into_iter().filter(|ca| contents.files.contains_key(&format!("{ca}/ca.crt")));
    for sub in ["ca", "blobs"].into_iter().chain(other_cas) {
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
            || is_other_ca_file(&name)
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
    let other_cas = OTHER_CAS.into_iter().filter(|ca| staging.join(ca).exists());
    for name in [SECRET_KEY, "ca"].into_iter().chain(other_cas).chain(["blobs", DATABASE]) {
        fs::rename(staging.join(name), dir.path().join(name))?;
    }
    sync()?;
    fs::remove_file(dir.restoring())?;
    sync()
}
