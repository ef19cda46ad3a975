//! Reads `host`, `artifact` and its build.

use std::path::PathBuf;

use drover_proto::{
    app::{Build, DirectoryNeed, HostNeeds, UserNeed},
    name::UserName,
};

use super::{Decoder, mode, span};
use crate::manifest::{
    holes::Allow,
    yaml::{At, Node},
};

/// What an artifact is packed from.
#[derive(Debug)]
pub(in crate::manifest) struct ArtifactSource {
    /// A folder, or an archive.
    pub path: PathBuf,
    /// Globs left out of a folder.
    pub exclude: Vec<String>,
    /// Where the manifest names it.
    pub at: At,
    /// Its field.
    pub field: String,
}

/// `512M`, `2G` …, powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.char_indices().last()? {
        (at, 'K') => (&text[..at], 10),
        (at, 'M') => (&text[..at], 20),
        (at, 'G') => (&text[..at], 30),
        (at, 'T') => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: u64 = number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit()))?;
    number.checked_mul(1 << shift)
}

impl Decoder<'_> {
    pub(super) fn host(&mut self, node: &Node) -> HostNeeds {
        let mut needs = HostNeeds { packages: self.names(node.get("packages")), ..HostNeeds::default() };
        if let Some(size) = node.get("swap")
            && let Some(text) = self.plain(size)
        {
            needs.swap_bytes = bytes(&text);
            if needs.swap_bytes.is_none() {
                self.reports.at(size, format!("{text:?} is no size"), "write bytes, or a number with K, M, G or T");
            }
        }
        for item in node.get("users").into_iter().flat_map(Node::items) {
            let (name, home, shell) =
                (self.name_of(item, "name"), self.name_of(item, "home"), self.name_of(item, "shell"));
            let groups = self.names(item.get("groups"));
            if let (Some(name), Some(home), Some(shell)) = (name, home, shell) {
                self.origin(format!("host.users[{}]", needs.users.len()), item);
                needs.users.push(UserNeed { name, home, shell, groups });
            }
        }
        for item in node.get("directories").into_iter().flat_map(Node::items) {
            let (path, owners) = (self.name_of(item, "path"), self.owners(item));
            if let (Some(path), Some((owner, group))) = (path, owners) {
                self.origin(format!("host.directories[{}]", needs.directories.len()), item);
                needs.directories.push(DirectoryNeed { path, owner, group, mode: mode(item) });
            }
        }
        needs
    }

    /// `owner`, and `group`, which is the owner's unless said.
    pub(super) fn owners(&mut self, node: &Node) -> Option<(UserName, UserName)> {
        let owner: Option<UserName> = self.name_of(node, "owner");
        let group = if node.get("group").is_some() { self.name_of(node, "group") } else { owner.clone() };
        owner.zip(group)
    }

    /// Remembers where the part of the spec called `field` comes from, with what is below it.
    pub(super) fn origin(&mut self, field: String, node: &Node) {
        for (key, value) in node.entries() {
            self.origins.insert(format!("{field}.{}", key.text), (value.at, value.path.clone()));
        }
        self.origins.insert(field, (node.at, node.path.clone()));
    }

    pub(super) fn artifact_source(&mut self, node: &Node) -> Option<ArtifactSource> {
        let exclude = node.get("exclude").into_iter().flat_map(Node::items).filter_map(|n| self.plain(n)).collect();
        let path_node = node.get("path")?;
        let text = self.plain(path_node)?;
        match self.folder.find(&text) {
            Ok(path) => Some(ArtifactSource { path, exclude, at: path_node.at, field: path_node.path.clone() }),
            Err((message, hint)) => {
                self.reports.at(path_node, message, hint);
                None
            }
        }
    }

    pub(super) fn build(&mut self, node: &Node) -> Option<Build> {
        let user = self.name_of(node, "user");
        let steps = node.get("run").into_iter().flat_map(Node::items);
        let run = steps.map(|step| self.argv(step, Allow::RELEASE)).collect();
        let mut env = std::collections::BTreeMap::new();
        for (key, value) in node.get("env").into_iter().flat_map(Node::entries) {
            let name = self.parse_at(key.at, &value.path, &key.text);
            if let (Some(name), Some(value)) = (name, self.line(value, Allow::RELEASE)) {
                env.insert(name, value);
            }
        }
        Some(Build { user: user?, run, env, timeout: span(node, "timeout")? })
    }
}
