//! The names in an archive: read from header and extensions within bounds, and refused unless they are plain paths below
//! the tree. Between `archive`, which reads entries, and `tree`, which trusts these names.

use std::{fmt, io::Read};

use tar::{Entry, EntryType, Header};

use super::ArchiveError;

/// The largest extension header taken: room for two of the longest paths.
const MAX_EXTENSION_BYTES: u64 = 32 << 10;
const MAX_NAME_BYTES: usize = 4000;
const MAX_DEPTH: usize = 100;

/// A relative path of plain names. Empty = the tree itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name(Vec<String>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str(".") } else { f.write_str(&self.0.join("/")) }
    }
}

impl Name {
    /// Refuses anything but plain names: absolute paths, `..`, control characters, other bytes than UTF-8.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let shown: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
        let refuse = |why: &str| Err(ArchiveError::entry(&shown, why));
        let Ok(text) = std::str::from_utf8(bytes) else { return refuse("has a name that is not UTF-8") };
        if text.is_empty() {
            return refuse("has no name");
        }
        if text.starts_with('/') {
            return refuse("has an absolute path");
        }
        if text.chars().any(char::is_control) {
            return refuse("has a control character in its name");
        }
        let parts: Vec<String> = text.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_owned).collect();
        if parts.iter().any(|part| part == "..") {
            return refuse("has '..' in its path");
        }
        if text.len() > MAX_NAME_BYTES || parts.len() > MAX_DEPTH || parts.iter().any(|p| p.len() > 255) {
            return refuse("has a path that is too long");
        }
        Ok(Self(parts))
    }

    /// The directories on the way, and the last name; `None` for the tree itself.
    pub(super) fn split(&self) -> Option<(&[String], &str)> {
        self.0.split_last().map(|(last, way)| (way, last.as_str()))
    }

    /// Whether a symbolic link of this name may lead to `target`: relative, `..` only at its beginning and no more of them
    /// than lead up to the top. A `..` after a name is refused, since that name may itself be a link.
    pub(super) fn check_link(&self, target: &str) -> Result<(), ArchiveError> {
        let refuse = |why: &str| Err(ArchiveError::entry(self, format!("links to {target:?}, {why}")));
        if target.starts_with('/') {
            return refuse("an absolute path");
        }
        let parts: Vec<&str> = target.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
        let ups = parts.iter().take_while(|part| **part == "..").count();
        if parts[ups..].contains(&"..") {
            return refuse("with '..' after a name, which could lead outside the tree");
        }
        if ups >= self.0.len() && ups > 0 {
            return refuse("outside the tree");
        }
        Ok(())
    }
}

/// What entries before it said about the next one.
#[derive(Default)]
pub(super) struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.size.is_none()
    }

    /// Takes an entry that only describes the next; `false`: this is an entry of its own.
    pub(super) fn take<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<bool, ArchiveError> {
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => once(&mut self.name, without_nul(content(entry)?))?,
            EntryType::GNULongLink => once(&mut self.link, without_nul(content(entry)?))?,
            EntryType::XHeader => self.take_pax(&content(entry)?)?,
            // About all entries: comments such as git's commit.
            EntryType::XGlobalHeader => drop(content(entry)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_pax(&mut self, records: &[u8]) -> Result<(), ArchiveError> {
        for record in tar::PaxExtensions::new(records) {
            let record = record.map_err(ArchiveError::Damaged)?;
            match record.key_bytes() {
                b"path" => once(&mut self.name, record.value_bytes().to_owned())?,
                b"linkpath" => once(&mut self.link, record.value_bytes().to_owned())?,
                b"size" => {
                    let said = record.value().ok().and_then(|size| size.parse().ok());
                    let said = said.ok_or_else(|| ArchiveError::entry("(next)", "has a size that is no number"))?;
                    once(&mut self.size, said)?;
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(ArchiveError::entry("(next)", "is a sparse file: make the archive without --sparse"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The name of the entry that they were about.
    pub(super) fn name<R: Read>(&self, entry: &Entry<'_, R>) -> Result<Name, ArchiveError> {
        let header: &Header = entry.header();
        let name = Name::parse(self.name.as_deref().unwrap_or(&header.path_bytes()))?;
        let size = header.entry_size().map_err(ArchiveError::Damaged)?;
        if self.size.is_some_and(|said| said != size) {
            return Err(ArchiveError::entry(&name, "has two different sizes"));
        }
        Ok(name)
    }

    /// Where the link that they were about leads.
    pub(super) fn link<R: Read>(&self, entry: &Entry<'_, R>, name: &Name) -> Result<String, ArchiveError> {
        let header = entry.header().link_name_bytes();
        let bytes = self.link.as_deref().or(header.as_deref()).unwrap_or_default();
        let text = std::str::from_utf8(bytes).ok().filter(|t| !t.is_empty() && !t.chars().any(char::is_control));
        let text = text.filter(|t| t.len() <= MAX_NAME_BYTES);
        text.map(str::to_owned).ok_or_else(|| ArchiveError::entry(name, "is a link to nowhere that can be written"))
    }
}

/// Said twice, each program could believe another one.
fn once<T>(said: &mut Option<T>, value: T) -> Result<(), ArchiveError> {
    match said.replace(value) {
        None => Ok(()),
        Some(_) => Err(ArchiveError::entry("(next)", "is described twice by its extension headers")),
    }
}

fn content<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, ArchiveError> {
    if entry.size() > MAX_EXTENSION_BYTES {
        return Err(ArchiveError::entry("(next)", "has an extension header that is too large"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(ArchiveError::Damaged)?;
    Ok(bytes)
}

fn without_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}
