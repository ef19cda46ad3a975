//! Reads `host`, and who owns a file or directory.

use drover_proto::{
    app::{DirectoryNeed, HostNeeds, UserNeed},
    name::UserName,
};

use super::{Decoder, mode};
use crate::manifest::yaml::Node;

/// `512M`, `2G` …, powers of 1024.
pub(super) fn bytes(text: &str) -> Option<u64> {
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
}
