//! Reads `compose`: the projects, and their files, which become files of the app.

use std::collections::BTreeMap;

use drover_proto::{
    app::{FilePart, Project, SecretSource},
    name::{AbsPath, ProjectName, SecretName, UserName},
    source::Credentials,
};

use super::{Decoder, drift, flag};
use crate::manifest::yaml::Node;

impl Decoder<'_> {
    pub(super) fn compose(&mut self, root: &Node) -> (BTreeMap<ProjectName, Project>, Vec<FilePart>) {
        let (mut projects, mut files) = (BTreeMap::new(), Vec::new());
        for (key, node) in root.get("compose").into_iter().flat_map(Node::entries) {
            let name: Option<ProjectName> = self.parse_at(key.at, &node.path, &key.text);
            if let Some(name) = name {
                let project = self.project(&name, node, &mut files);
                projects.extend(project.map(|project| (name, project)));
            }
        }
        (projects, files)
    }

    fn project(&mut self, name: &ProjectName, node: &Node, all: &mut Vec<FilePart>) -> Option<Project> {
        let directory: Option<AbsPath> = match node.get("directory") {
            Some(node) => self.name(node),
            None => self.parse(node, &format!("/srv/{name}")),
        };
        let directory = directory?;
        let items = node.get("files").into_iter().flat_map(Node::items);
        // Without secrets, and everybody may read them who may read such files elsewhere.
        let files = items.filter_map(|item| self.beside(&directory, item, 0o644, node, all)).collect();
        let env_file = node.get("env_file").and_then(|item| self.beside(&directory, item, 0o600, node, all));
        let profiles = node.get("profiles").into_iter().flat_map(Node::items);
        let profiles = profiles.filter_map(|item| self.plain(item)).collect();
        let mut registries = BTreeMap::new();
        for (key, node) in node.get("registries").into_iter().flat_map(Node::entries) {
            let username = node.get("username").and_then(|user| self.plain(user));
            let secret = self.name_of(node, "secret");
            registries.extend(secret.map(|secret| (key.text.clone(), Credentials { username, secret })));
        }
        let (adopt, drift) = (flag(node, "adopt"), drift(node));
        Some(Project { directory, files, env_file, profiles, registries, adopt, drift })
    }

    /// What the credentials of registries name are stored secrets of the app.
    pub(super) fn declare_of_projects(
        &mut self,
        root: &Node,
        projects: &BTreeMap<ProjectName, Project>,
        secrets: &mut BTreeMap<SecretName, SecretSource>,
    ) {
        for (name, project) in projects {
            let node = root.get("compose").and_then(|all| all.get(name.as_str())?.get("registries"));
            for (registry, credentials) in &project.registries {
                if let Some(node) = node.and_then(|all| all.get(registry)?.get("secret")) {
                    self.declare_stored(node, &credentials.secret, secrets);
                }
            }
        }
    }

    /// A file of a project: where it is on the host, as it lies beside the manifest.
    fn beside(
        &mut self,
        directory: &AbsPath,
        item: &Node,
        mode: u32,
        project: &Node,
        all: &mut Vec<FilePart>,
    ) -> Option<AbsPath> {
        let text = self.plain(item)?;
        let content = self.content_from(item, None)?;
        let relative = text.strip_prefix("./").unwrap_or(&text);
        let path: AbsPath = self.parse(item, &format!("{directory}/{relative}"))?;
        let root: UserName = self.parse(item, "root")?;
        let (owner, group) = (root.clone(), root);
        let (reload, restart) = Default::default();
        let drift = drift(project);
        all.push(FilePart {
            path: path.clone(),
            content,
            owner,
            group,
            mode,
            validate: None,
            reload,
            restart,
            adopt: flag(project, "adopt"),
            drift,
        });
        Some(path)
    }
}
