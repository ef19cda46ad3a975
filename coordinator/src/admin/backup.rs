//! `backup FILE`: database, CA, secret key and artifacts in one tar file, consistent though the coordinator runs: the
//! database is copied first, and the artifacts that it names were there before. `restore` reads it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, ensure};
use drover_proto::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::owner::as_owner;
use crate::{clock, config::StateDir, store::SCHEMA_VERSION};

/// The first entry of the tar file.
pub(super) const CONTENTS: &str = "drover-backup.json";
/// Of the layout of the file.
pub(super) const FORMAT: u32 = 1;
/// Names in the tar file, beside `blobs/<64 hex digits>`.
pub(super) const DATABASE: &str = "coordinator.db";
/// The vault's key.
pub(super) const SECRET_KEY: &str = "secret.key";
/// The CA.
pub(super) const CA_FILES: [&str; 2] = ["ca/ca.crt", "ca/ca.key"];

/// While one CA takes over from another, there is a second one.
pub(super) const OTHER_CAS: [&str; 2] = ["ca-next", "ca-old"];

/// Whether a name in the tar file is one of a second CA.
pub(super) fn is_other_ca_file(name: &str) -> bool {
    OTHER_CAS.iter().any(|ca| name.strip_prefix(ca).is_some_and(|file| matches!(file, "/ca.crt" | "/ca.key")))
}

/// What is in a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contents {
    /// `FORMAT`.
    pub format: u32,
    /// Version of the program that wrote it.
    pub program: String,
    /// Of the database.
    pub schema: i64,
    /// By which hosts and operators know this coordinator.
    pub ca_fingerprint: Digest,
    /// Unix ms.
    pub made_unix_ms: i64,
    /// Every other entry with its digest.
    pub files: BTreeMap<String, Digest>,
}

/// Writes a backup to `file`, mode 0600, which must not exist. Answers what to tell the user.
pub fn backup(dir: &StateDir, file: &Path) -> anyhow::Result<String> {
    ensure!(!file.exists(), "{} exists already: choose another name", file.display());
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let cannot = || format!("cannot write {}", file.display());
    // Where it goes is the caller's to write, what goes in is the state's owner's to read.
    let mut temporary = tempfile::NamedTempFile::new_in(parent).with_context(cannot)?;
    temporary.as_file().set_permissions(fs::Permissions::from_mode(0o600)).with_context(cannot)?;
    let target = temporary.as_file_mut();
    let artifacts = as_owner(dir, async || fill(dir, target).await)?;
    let bytes = temporary.as_file().metadata().with_context(cannot)?.len();
    temporary.persist_noclobber(file).map_err(|e| e.error).with_context(cannot)?;
    fs::File::open(parent).and_then(|dir| dir.sync_all()).with_context(cannot)?;
    Ok(format!(
        "{}: {bytes} bytes, {artifacts} artifacts. It holds the CA's key and every secret: keep it safe.",
        file.display(),
    ))
}

/// Writes the state into `target`; answers how many artifacts that were.
async fn fill(dir: &StateDir, target: &mut fs::File) -> anyhow::Result<usize> {
    let (store, ca) = super::open_beside(dir).await?;
    // Private (0700), and where there is room.
    let scratch = tempfile::Builder::new()
        .prefix("backup-")
        .tempdir_in(dir.path())
        .with_context(|| format!("cannot write in {}", dir.path().display()))?;
    let database = scratch.path().join(DATABASE);
    store.copy_to(&database).await?;
    store.close().await;

    let mut sources = vec![(DATABASE.to_owned(), database), (SECRET_KEY.to_owned(), dir.secret_key())];
    sources.extend(CA_FILES.map(|name| (name.to_owned(), dir.path().join(name))));
    for ca in OTHER_CAS.into_iter().filter(|ca| dir.path().join(ca).exists()) {
        sources.extend(["ca.crt", "ca.key"].map(|file| (format!("{ca}/{file}"), dir.path().join(ca).join(file))));
    }
    let others = sources.len();
    for entry in fs::read_dir(dir.blobs()).context("cannot read the artifacts")? {
        let entry = entry.context("cannot read the artifacts")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_blob(&name) {
            sources.push((format!("blobs/{name}"), entry.path()));
        }
    }
    let mut files = BTreeMap::new();
    for (name, path) in &sources {
        files.insert(name.clone(), digest(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let contents = Contents {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        schema: SCHEMA_VERSION,
        ca_fingerprint: ca.fingerprint(),
        made_unix_ms: clock::unix_ms(),
        files,
    };
    write(&contents, &sources, target).context("the backup cannot be written")?;
    Ok(sources.len() - others)
}

/// Whether a file name in the artifacts' directory is an artifact's.
pub(super) fn is_blob(name: &str) -> bool {
    format!("sha256:{name}").parse::<Digest>().is_ok()
}

/// The digest of a file, read piece by piece.
pub(super) fn digest(path: &Path) -> io::Result<Digest> {
    let (mut file, mut hasher, mut piece) = (fs::File::open(path)?, Hasher::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&piece[..n]),
        }
    }
}

fn write(contents: &Contents, sources: &[(String, std::path::PathBuf)], file: &mut fs::File) -> io::Result<()> {
    let mut tar = tar::Builder::new(&mut *file);
    let listing = serde_json::to_vec_pretty(contents)?;
    let mtime_s = u64::try_from(contents.made_unix_ms / 1000).unwrap_or_default();
    let header = |size| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(mtime_s);
        header
    };
    tar.append_data(&mut header(listing.len() as u64), CONTENTS, listing.as_slice())?;
    for (name, path) in sources {
        let source = fs::File::open(path)?;
        let size = source.metadata()?.len();
        tar.append_data(&mut header(size), name, source)?;
    }
    tar.finish()?;
    drop(tar);
    file.sync_all()
}
