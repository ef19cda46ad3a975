//! A folder → one archive, the same bytes for the same content on every machine; an archive → itself. Called by
//! `manifest`; the archive is pushed by `cmd/apply`.
//!
//! `scan` looks at everything and reports all that cannot travel; `write` reads it. The agent unpacks with its own rules and
//! trusts nothing of this.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Component, Path, PathBuf},
};

use drover_proto::{
    digest::{Digest, Hasher},
    limits,
    plan::Extent,
};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use tempfile::NamedTempFile;

/// zstd's own default: the network is rarely faster.
const ZSTD_LEVEL: i32 = 3;

/// An archive, ready to be pushed.
#[derive(Debug)]
pub struct PackedArtifact {
    /// Of the archive's bytes.
    pub digest: Digest,
    /// The archive's, in bytes.
    pub size_bytes: u64,
    /// How large a folder's content is; `None` for an archive that is taken as it is.
    pub extent: Option<Extent>,
    /// The archive; gone when this is dropped.
    pub file: NamedTempFile,
}

/// How far the packing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes of content read so far.
    pub done_bytes: u64,
    /// Bytes of content in all.
    pub total_bytes: u64,
}

/// Something that cannot be packed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct PackError {
    /// What is wrong, with the path within the artifact.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// What is to be packed.
#[derive(Debug)]
pub enum Tree {
    /// A folder's content, in the order of the archive.
    Folder(Vec<Entry>),
    /// An archive that is pushed as it is.
    Archive(PathBuf),
}

/// One entry of the archive.
#[derive(Debug)]
pub struct Entry {
    /// Within the archive.
    name: PathBuf,
    /// On disk.
    source: PathBuf,
    kind: EntryKind,
}

#[derive(Debug)]
enum EntryKind {
    Folder,
    File { bytes: u64, executable: bool },
    Link { target: PathBuf },
}

fn fault(message: impl Into<String>, hint: &str) -> PackError {
    PackError { message: message.into(), hint: (!hint.is_empty()).then(|| hint.to_owned()) }
}

fn unreadable(path: &Path, error: &io::Error) -> PackError {
    fault(format!("{} cannot be read: {error}", path.display()), "")
}

/// Everything of the folder (or the archive) at `path` but what `exclude` names and `.git`.
///
/// # Errors
/// All that cannot travel: links that leave the folder, sockets and devices, unreadable files, too much of it.
pub fn scan(path: &Path, exclude: &[String]) -> Result<Tree, Vec<PackError>> {
    let metadata = fs::metadata(path).map_err(|error| vec![unreadable(path, &error)])?;
    if metadata.is_file() {
        let mut errors: Vec<PackError> = check_archive(path, metadata.len()).err().into_iter().collect();
        if !exclude.is_empty() {
            errors.push(fault("exclude means something only for a folder", "remove it, or name a folder"));
        }
        return if errors.is_empty() { Ok(Tree::Archive(path.to_owned())) } else { Err(errors) };
    }
    if !metadata.is_dir() {
        return Err(vec![fault("neither a folder nor an archive", "")]);
    }
    let root = fs::canonicalize(path).map_err(|error| vec![unreadable(path, &error)])?;
    let exclude = globs(exclude)?;
    let mut walk = Walk { root, exclude, entries: Vec::new(), errors: Vec::new(), total_bytes: 0 };
    walk.folder(Path::new(""));
    walk.finish()
}

/// Patterns without a slash match a name anywhere; those with one, a path from the top.
fn globs(patterns: &[String]) -> Result<GlobSet, Vec<PackError>> {
    let mut set = GlobSetBuilder::new();
    let mut errors = Vec::new();
    for pattern in patterns.iter().map(String::as_str).chain([".git"]) {
        let trimmed = pattern.trim_end_matches('/').trim_start_matches("./");
        let rooted =
            if trimmed.contains('/') { trimmed.trim_start_matches('/').to_owned() } else { format!("**/{trimmed}") };
        match GlobBuilder::new(&rooted).literal_separator(true).build() {
            Ok(glob) => _ = set.add(glob),
            Err(error) => errors.push(fault(format!("exclude {pattern:?} is no pattern: {}", error.kind()), "")),
        }
    }
    match set.build() {
        Ok(set) if errors.is_empty() => Ok(set),
        Ok(_) => Err(errors),
        Err(error) => Err(vec![fault(format!("exclude is too complicated: {error}"), "")]),
    }
}

struct Walk {
    root: PathBuf,
    exclude: GlobSet,
    entries: Vec<Entry>,
    errors: Vec<PackError>,
    total_bytes: u64,
}

impl Walk {
    fn folder(&mut self, within: &Path) {
        if within.components().count() > 100 {
            return self.errors.push(fault(format!("{} is more than 100 folders deep", within.display()), ""));
        }
        let names: io::Result<Vec<_>> =
            fs::read_dir(self.root.join(within)).and_then(|list| list.map(|e| Ok(e?.file_name())).collect());
        let mut names = match names {
            Ok(names) => names,
            Err(error) => return self.errors.push(unreadable(within, &error)),
        };
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            self.entry(within.join(name));
        }
    }

    fn entry(&mut self, name: PathBuf) {
        if self.exclude.is_match(&name) || self.entries.len() as u64 > limits::MAX_ARCHIVE_ENTRIES {
            return;
        }
        if !travels(&name) {
            let message = format!("{:?} is no UTF-8 name, or has a control character", name.display().to_string());
            return self.errors.push(fault(message, "rename it, or add it to artifact.exclude"));
        }
        let source = self.root.join(&name);
        let metadata = match fs::symlink_metadata(&source) {
            Ok(metadata) => metadata,
            Err(error) => return self.errors.push(unreadable(&name, &error)),
        };
        let kind = if metadata.is_dir() {
            EntryKind::Folder
        } else if metadata.is_file() {
            if let Err(error) = File::open(&source) {
                return self.errors.push(unreadable(&name, &error));
            }
            self.total_bytes += metadata.len();
            EntryKind::File { bytes: metadata.len(), executable: metadata.permissions().mode() & 0o111 != 0 }
        } else if metadata.is_symlink() {
            match self.link(&name, &source) {
                Ok(target) => EntryKind::Link { target },
                Err(error) => return self.errors.push(error),
            }
        } else {
            let message = format!("{} is neither file, folder nor link", name.display());
            return self.errors.push(fault(message, "add it to artifact.exclude"));
        };
        let descend = matches!(kind, EntryKind::Folder);
        self.entries.push(Entry { name: name.clone(), source, kind });
        if descend {
            self.folder(&name);
        }
    }

    /// The target of a link, if it stays within the tree by its text and on this disk.
    fn link(&self, name: &Path, source: &Path) -> Result<PathBuf, PackError> {
        let target = fs::read_link(source).map_err(|error| unreadable(name, &error))?;
        let mut depth = name.components().count() as i64 - 1;
        for part in target.components() {
            match part {
                Component::Normal(_) => depth += 1,
                Component::CurDir => {}
                Component::ParentDir => depth -= 1,
                Component::RootDir | Component::Prefix(_) => depth = -1,
            }
            if depth < 0 {
                break;
            }
        }
        // A link that leads nowhere yet (a build may make its target) is judged by its text alone.
        let leaves = fs::canonicalize(source).is_ok_and(|real| !real.starts_with(&self.root));
        if depth < 0 || leaves || !travels(&target) {
            let message = format!("{} is a link out of the artifact, to {}", name.display(), target.display());
            return Err(fault(message, "copy what it points to into the folder, or add it to artifact.exclude"));
        }
        Ok(target)
    }

    fn finish(mut self) -> Result<Tree, Vec<PackError>> {
        if self.entries.len() as u64 > limits::MAX_ARCHIVE_ENTRIES {
            let most = limits::MAX_ARCHIVE_ENTRIES;
            self.errors.push(fault(format!("more than {most} files"), "leave some out by artifact.exclude"));
        }
        if self.total_bytes > limits::MAX_UNPACKED_BYTES {
            let most = limits::MAX_UNPACKED_BYTES >> 30;
            self.errors.push(fault(format!("more than {most} GiB"), "leave some out by artifact.exclude"));
        }
        if self.entries.is_empty() && self.errors.is_empty() {
            self.errors.push(fault("nothing is in it", "an artifact needs at least one file"));
        }
        if self.errors.is_empty() { Ok(Tree::Folder(self.entries)) } else { Err(self.errors) }
    }
}

/// Whether the agent takes such a name.
fn travels(name: &Path) -> bool {
    name.to_str().is_some_and(|text| !text.chars().any(char::is_control))
}

/// Whether a file is one of the archives that the agent unpacks, by its first bytes.
fn check_archive(path: &Path, bytes: u64) -> Result<(), PackError> {
    if bytes > limits::MAX_ARTIFACT_BYTES {
        return Err(fault(format!("the archive has more than {} MiB", limits::MAX_ARTIFACT_BYTES >> 20), ""));
    }
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(512).read_to_end(&mut head))
        .map_err(|error| unreadable(Path::new(path.file_name().unwrap_or(OsStr::new("it"))), &error))?;
    let is_archive = head.starts_with(&[0x1f, 0x8b])
        || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || head.get(257..262) == Some(b"ustar");
    if is_archive {
        return Ok(());
    }
    Err(fault("the file is no archive", "name a folder, or a .tar, .tar.gz or .tar.zst"))
}

/// Counts and hashes what goes into the file.
struct Hashing {
    file: File,
    hasher: Hasher,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let written = self.file.write(piece)?;
        self.hasher.update(&piece[..written]);
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads everything into one archive.
///
/// # Errors
/// A file that cannot be read, or that changed since `scan`; no room for the archive.
pub fn write(tree: &Tree, progress: &mut dyn FnMut(Progress)) -> Result<PackedArtifact, PackError> {
    let no_room = |error: io::Error| fault(format!("the archive cannot be written: {error}"), "");
    let file = NamedTempFile::with_prefix("drover-").map_err(no_room)?;
    let out = Hashing { file: file.reopen().map_err(no_room)?, hasher: Hasher::new(), bytes: 0 };
    let out = match tree {
        Tree::Archive(path) => copy(path, out, progress)?,
        Tree::Folder(entries) => archive(entries, out, progress)?,
    };
    let extent = match tree {
        Tree::Archive(_) => None,
        Tree::Folder(entries) => Some(Extent {
            unpacked_bytes: entries
                .iter()
                .map(|e| if let EntryKind::File { bytes, .. } = e.kind { bytes } else { 0 })
                .sum(),
            entries: entries.len() as u64,
        }),
    };
    let mut packed = PackedArtifact { digest: out.hasher.finish(), size_bytes: out.bytes, extent, file };
    packed.file.rewind().map_err(no_room)?;
    Ok(packed)
}

fn copy(path: &Path, mut out: Hashing, progress: &mut dyn FnMut(Progress)) -> Result<Hashing, PackError> {
    let failed = |error: io::Error| fault(format!("the archive cannot be copied: {error}"), "");
    let mut file = File::open(path).map_err(failed)?;
    let total_bytes = file.metadata().map_err(failed)?.len();
    let mut piece = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut piece).map_err(failed)?;
        if read == 0 {
            return Ok(out);
        }
        out.write_all(&piece[..read]).map_err(failed)?;
        progress(Progress { done_bytes: out.bytes, total_bytes });
    }
}

fn archive(entries: &[Entry], out: Hashing, progress: &mut dyn FnMut(Progress)) -> Result<Hashing, PackError> {
    let total = |entry: &Entry| if let EntryKind::File { bytes, .. } = entry.kind { bytes } else { 0 };
    let total_bytes = entries.iter().map(total).sum();
    let mut done_bytes = 0;
    let failed = |error: io::Error| fault(format!("the archive cannot be written: {error}"), "");
    let encoder = zstd::Encoder::new(out, ZSTD_LEVEL).map_err(failed)?;
    let mut tar = tar::Builder::new(encoder);
    for entry in entries {
        append(&mut tar, entry).map_err(|error| fault(format!("{}: {error}", entry.name.display()), ""))?;
        done_bytes += total(entry);
        progress(Progress { done_bytes, total_bytes });
    }
    tar.into_inner().and_then(zstd::Encoder::finish).map_err(failed)
}

/// Nothing of this machine but name, content and executability goes in: no time, no owner, no further permission bits.
fn append<W: Write>(tar: &mut tar::Builder<W>, entry: &Entry) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    match &entry.kind {
        EntryKind::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            tar.append_data(&mut header, &entry.name, io::empty())
        }
        EntryKind::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, &entry.name, target)
        }
        EntryKind::File { bytes, executable } => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(if *executable { 0o755 } else { 0o644 });
            header.set_size(*bytes);
            let file = File::open(&entry.source)?;
            if file.metadata()?.len() != *bytes {
                return Err(io::Error::other("changed while it was being packed"));
            }
            let mut content = Counted { inner: file.take(*bytes), bytes: 0 };
            tar.append_data(&mut header, &entry.name, &mut content)?;
            // A file that became shorter would shift everything behind it.
            if content.bytes == *bytes { Ok(()) } else { Err(io::Error::other("changed while it was being packed")) }
        }
    }
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
