//! Reads `artifact`: a folder to be packed, or an archive or commit that hosts fetch, and its build.

use std::{collections::BTreeMap, path::PathBuf};

use drover_proto::{
    app::{Artifact, Build, SecretSource},
    digest::Digest,
    name::SecretName,
    source::{Commit, Credentials, GitSource, Source, UrlSource},
};

use super::{Decoder, span};
use crate::manifest::{
    holes::Allow,
    yaml::{At, Node, Value},
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

impl Decoder<'_> {
    pub(super) fn artifact_source(&mut self, node: &Node) -> Option<ArtifactSource> {
        let exclude: Vec<String> =
            node.get("exclude").into_iter().flat_map(Node::items).filter_map(|n| self.plain(n)).collect();
        let path_node = match (node.get("path"), node.get("url"), node.get("git")) {
            (Some(path), None, None) => path,
            // With git a path leads into the repository.
            (None, Some(_), None) | (_, None, Some(_)) => return None,
            _ if !matches!(node.value, Value::Map(_)) => return None,
            _ => {
                let hint = "write path: ./folder, or url: https://… with its sha256, or git: https://… with its commit";
                self.reports.at(node, "needs one of path, url and git", hint);
                return None;
            }
        };
        let text = self.plain(path_node)?;
        match self.folder.find(&text) {
            Ok(path) => Some(ArtifactSource { path, exclude, at: path_node.at, field: path_node.path.clone() }),
            Err((message, hint)) => {
                self.reports.at(path_node, message, hint);
                None
            }
        }
    }

    /// What hosts fetch themselves: its digest, and where it is.
    pub(super) fn fetched(&mut self, node: &Node) -> Option<(Digest, Source)> {
        let (kind, own) = if node.get("git").is_some() { ("git", "commit") } else { ("url", "sha256") };
        for other in ["sha256", "commit"].into_iter().filter(|other| *other != own) {
            if let Some(stray) = node.get(other) {
                let hint = "an archive is known by its sha256, a commit of a git repository by its name";
                self.reports.at(stray, format!("goes with {}", if other == "commit" { "git" } else { "url" }), hint);
            }
        }
        let url_node = node.get(kind)?;
        let url = self.plain(url_node)?;
        if let Some(exclude) = node.get("exclude") {
            self.reports.at(exclude, "is for a folder", "what hosts fetch themselves is unpacked whole");
        }
        if kind == "git" {
            return self.commit(node, url_node, url);
        }
        let Some(digest) = node.get("sha256") else {
            let hint = "add sha256: with what `sha256sum` says of the archive: a host takes nothing else";
            self.reports.at(url_node, "needs the archive's digest", hint);
            return None;
        };
        let text = self.plain(digest)?;
        let text = text.strip_prefix("sha256:").unwrap_or(&text).to_owned();
        let digest = match format!("sha256:{text}").parse() {
            Ok(parsed) => parsed,
            Err(_) => {
                self.reports.at(
                    digest,
                    format!("{text:?} is no SHA-256"),
                    "64 lower-case hex digits, as sha256sum says",
                );
                return None;
            }
        };
        let credentials = self.credentials(node);
        Some((digest, Source::Url(UrlSource { url, credentials })))
    }

    fn commit(&mut self, node: &Node, url_node: &Node, url: String) -> Option<(Digest, Source)> {
        let hint = "write commit: with what `git rev-parse HEAD` says; a branch, a tag or a short name can come to mean another";
        let Some(commit_node) = node.get("commit") else {
            self.reports.at(url_node, "needs a commit", hint);
            return None;
        };
        let text = self.plain(commit_node)?;
        let Ok(commit) = text.parse::<Commit>() else {
            self.reports.at(commit_node, format!("{text:?} is no full name of a commit"), hint);
            return None;
        };
        // Written as in a shell, it means the same.
        let directory = node.get("path").and_then(|path| self.plain(path));
        let directory = directory.map(|path| path.trim_start_matches("./").trim_end_matches('/').to_owned());
        let source = GitSource { url, commit, directory, credentials: self.credentials(node) };
        Some((source.digest(), Source::Git(source)))
    }

    pub(super) fn credentials(&mut self, node: &Node) -> Option<Credentials> {
        let credentials = node.get("credentials")?;
        let username = credentials.get("username").and_then(|user| self.plain(user));
        Some(Credentials { username, secret: self.name_of(credentials, "secret")? })
    }

    /// What the credentials name is a stored secret of the app.
    pub(super) fn declare_credentials(
        &mut self,
        root: &Node,
        artifact: Option<&Artifact>,
        secrets: &mut BTreeMap<SecretName, SecretSource>,
    ) {
        let node = root.get("artifact").and_then(|node| node.get("credentials")?.get("secret"));
        let Some((node, credentials)) = node.zip(artifact.and_then(|artifact| artifact.source.credentials())) else {
            return;
        };
        self.declare_stored(node, &credentials.secret, secrets);
    }

    /// A secret that is named where `env.secrets` need not have it.
    pub(super) fn declare_stored(
        &mut self,
        node: &Node,
        secret: &SecretName,
        secrets: &mut BTreeMap<SecretName, SecretSource>,
    ) {
        let stored = SecretSource::Stored(secret.clone());
        match secrets.insert(secret.clone(), stored.clone()) {
            None => {}
            Some(before) if before == stored => {}
            Some(_) => {
                let message = format!("env.secrets has another secret called {secret}");
                self.reports.at(node, message, "store this one under another name");
            }
        }
    }

    pub(super) fn build(&mut self, node: &Node) -> Option<Build> {
        let user = self.name_of(node, "user");
        let steps = node.get("run").into_iter().flat_map(Node::items);
        let run = steps.map(|step| self.argv(step, Allow::RELEASE)).collect();
        let mut env = BTreeMap::new();
        for (key, value) in node.get("env").into_iter().flat_map(Node::entries) {
            let name = self.parse_at(key.at, &value.path, &key.text);
            if let (Some(name), Some(value)) = (name, self.line(value, Allow::RELEASE)) {
                env.insert(name, value);
            }
        }
        Some(Build { user: user?, run, env, timeout: span(node, "timeout")? })
    }
}
