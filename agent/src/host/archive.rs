//! Unpacks artifacts, which anyone may have made: refused as a whole when an entry could reach outside the tree, is no
//! file, directory or link, has SUID bits, or the whole is too large. `entry` reads and judges names; `tree` writes;
//! `seal` gives a finished tree to root or to who builds there. Blocking; `unpack` calls it in a child without rights.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use tar::EntryType;

use entry::{Extensions, Name};
pub use seal::{hand_over, seal};
use tree::Tree;

mod entry;
mod seal;
mod tree;

/// What an archive held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unpacked {
    /// In files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// Why an archive was not unpacked, or a tree not sealed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// An entry is not allowed.
    #[error("entry {entry:?} {why}")]
    Entry {
        /// Its name, as far as it can be shown.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is too much in it.
    #[error("the archive holds more than {0}")]
    TooLarge(String),
    /// It is cut off, damaged or of another format.
    #[error("the archive cannot be read: {0}")]
    Damaged(io::Error),
    /// The tree could not be written.
    #[error("{path}: {source}")]
    Write {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl ArchiveError {
    fn entry(name: impl std::fmt::Display, why: impl Into<String>) -> Self {
        Self::Entry { entry: name.to_string(), why: why.into() }
    }
    fn write(path: impl std::fmt::Display, source: impl Into<io::Error>) -> Self {
        Self::Write { path: path.to_string(), source: source.into() }
    }
}

/// How much an archive may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// In files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// Headers that one entry may have: its own, two GNU long names, one of PAX.
const HEADERS_PER_ENTRY: u64 = 4;

/// Unpacks a tar archive (plain, gzip or zstd) into the empty directory `into`. All belongs to who calls, modes are 0755 or
/// 0644, times are now. What was written of a bad archive stays for the caller to remove.
pub fn unpack(archive: File, into: &Path, limits: Limits) -> Result<Unpacked, ArchiveError> {
    let reader = open(archive).map_err(ArchiveError::Damaged)?;
    // Headers and padding count too, but are never more than this beside the content.
    let reader = reader.take(limits.bytes.saturating_add(limits.entries.saturating_mul(4096)));
    read_into(reader, Tree::open(into, limits)?, limits)
}

fn open(archive: File) -> io::Result<Box<dyn Read>> {
    // Not rewound: it may be a pipe.
    let mut magic = Vec::new();
    (&archive).take(4).read_to_end(&mut magic)?;
    let whole = io::Cursor::new(magic.clone()).chain(archive);
    Ok(match magic.as_slice() {
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(whole)?),
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(whole))),
        _ => Box::new(BufReader::new(whole)),
    })
}

/// Raw entries: what the format's own extensions say about names is read here, within bounds, not in the library, which
/// would take them however large they are.
fn read_into(reader: impl Read, mut tree: Tree, limits: Limits) -> Result<Unpacked, ArchiveError> {
    let mut archive = tar::Archive::new(reader);
    let mut extensions = Extensions::default();
    let mut headers = 0;
    for raw in archive.entries().map_err(ArchiveError::Damaged)?.raw(true) {
        let mut raw = raw.map_err(ArchiveError::Damaged)?;
        headers += 1;
        // Entries that make nothing (extensions, a directory again and again) cost time, too.
        if headers > limits.entries.saturating_mul(HEADERS_PER_ENTRY) {
            return Err(ArchiveError::TooLarge(format!("{} entries", limits.entries)));
        }
        if extensions.take(&mut raw)? {
            continue;
        }
        let found = std::mem::take(&mut extensions);
        let name = found.name(&raw)?;
        let kind = raw.header().entry_type();
        let mode = raw.header().mode().map_err(ArchiveError::Damaged)?;
        if mode & 0o6000 != 0 {
            return Err(ArchiveError::entry(&name, "has the SUID or SGID bit"));
        }
        match kind {
            EntryType::Regular | EntryType::Continuous => tree.file(&name, &mut raw, mode & 0o111 != 0)?,
            EntryType::Directory => tree.directory(&name)?,
            EntryType::Symlink => {
                let target = found.link(&raw, &name)?;
                name.check_link(&target)?;
                tree.symlink(&name, &target)?;
            }
            EntryType::Link => {
                let target = found.link(&raw, &name)?;
                let target = Name::parse(target.as_bytes())
                    .map_err(|_| ArchiveError::entry(&name, format!("links to {target:?}, outside the tree")))?;
                tree.hard_link(&name, &target)?;
            }
            other => return Err(ArchiveError::entry(&name, format!("is {}", what_it_is(other)))),
        }
    }
    if headers == 0 || !extensions.is_empty() {
        return Err(ArchiveError::Damaged(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(tree.finish())
}

fn what_it_is(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char | EntryType::Block => "a device node, which an artifact may not hold",
        EntryType::Fifo => "a named pipe, which an artifact may not hold",
        EntryType::GNUSparse => "a sparse file: make the archive without --sparse",
        _ => "neither file, directory nor link",
    }
}

#[cfg(test)]
mod tests;
