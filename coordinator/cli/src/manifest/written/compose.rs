//! Compose projects and files. Part of `written`; what the files of projects say goes beside the manifest.

use std::path::{Component, Path};

use drover_proto::{
    app::{Content, FilePart, Project},
    name::{AbsPath, ProjectName},
};

use super::{Page, template};

/// What `compose:` says of one.
pub(super) fn project(page: &mut Page, name: &ProjectName, project: &Project) {
    page.open(name.as_str());
    page.list("files", project.files.iter().map(|path| beside(project, path)));
    if project.directory.as_str() != format!("/srv/{name}") {
        page.text("directory", project.directory.as_str());
    }
    if let Some(path) = &project.env_file {
        page.text("env_file", &beside(project, path));
    }
    page.list("profiles", project.profiles.iter().cloned());
    page.field("adopt", if project.adopt { "true" } else { "false" });
    page.close();
}

/// As it lies beside the manifest; what leads elsewhere is left for `load` to refuse.
#[must_use]
pub fn beside(project: &Project, path: &AbsPath) -> String {
    let relative = path.as_path().strip_prefix(project.directory.as_path()).unwrap_or(path.as_path());
    relative.to_string_lossy().into_owned()
}

/// Whether a file may be written there: below the manifest's folder, called like what it should be, and nothing that another
/// program reads by itself, as git its `.git`. The host says the name.
#[must_use]
pub fn is_beside(relative: &Path) -> bool {
    let Some(name) = relative.file_name().and_then(|name| name.to_str()) else { return false };
    let folders = relative.parent().into_iter().flat_map(Path::components);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(it) if !it.as_encoded_bytes().starts_with(b"."));
    let is_env = name == ".env" || name.starts_with(".env.") || (name.ends_with(".env") && !name.starts_with('.'));
    let is_compose = (name.ends_with(".yml") || name.ends_with(".yaml")) && !name.starts_with('.');
    folders.into_iter().all(plain) && (is_env || is_compose)
}

/// An item of `files:`.
pub(super) fn file(page: &mut Page, file: &FilePart) {
    page.item("path", file.path.as_str());
    page.text("mode", &format!("{:04o}", file.mode));
    page.field("adopt", if file.adopt { "true" } else { "false" });
    if let Content::Text(content) = &file.content {
        page.block("content", &template(content));
    }
    page.close();
}
