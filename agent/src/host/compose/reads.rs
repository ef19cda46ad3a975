//! Pure: which files compose would read beside those that it is given. Compose reads as root: what is not in the release is
//! not read. Part of `compose`.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use crate::{
    host::yaml::{self, Yaml},
    render::{FileKind, RenderedFile, RenderedProject},
};

/// Files that one project may lead to.
const MAX_READ: usize = 100;

/// What is wrong with the files of a project, one sentence each: those that would be read and are not in the release.
pub(super) fn strays(project: &RenderedProject, files: &[RenderedFile]) -> Vec<String> {
    let plain = files.iter().filter(|file| file.kind == FileKind::Plain);
    let known: BTreeMap<&Path, &RenderedFile> = plain.map(|file| (file.path.as_path(), file)).collect();
    let mut to_read: Vec<PathBuf> = project.files.iter().map(|path| path.as_path().to_owned()).collect();
    let (mut done, mut wrong) = (0, Vec::new());
    while let Some(path) = to_read.get(done).cloned() {
        done += 1;
        let Some(file) = known.get(path.as_path()) else { continue };
        let tree = std::str::from_utf8(file.bytes.expose()).map_err(|_| "is no text".to_owned()).and_then(yaml::parse);
        let tree = match tree {
            Ok(tree) => tree,
            Err(why) => {
                wrong.push(format!("{} {why}", path.display()));
                continue;
            }
        };
        let mut named = Vec::new();
        walk(&tree, &mut named);
        for Named { field, path: text, is_compose } in named {
            // From the project's directory; where a file is extended in another directory, from that one.
            let from = [project.directory(), path.parent().unwrap_or(Path::new("/"))];
            let places: Vec<PathBuf> = from.iter().filter_map(|from| plainly(&from.join(&text))).collect();
            match places.iter().find(|place| known.contains_key(place.as_path())) {
                Some(_) if text.contains('$') => {}
                Some(place) if places.iter().all(|other| other == place || known.contains_key(other.as_path())) => {
                    if is_compose && !to_read.contains(place) && to_read.len() < MAX_READ {
                        to_read.push(place.clone());
                    }
                    continue;
                }
                Some(_) | None => {}
            }
            wrong.push(format!(
                "{} names {text} under {field}, which is not in the release: add it to files: of the manifest, at {}",
                path.display(),
                from[0].join(&text).display()
            ));
        }
    }
    wrong
}

/// Directories that compose 1.29 wants to be there for what it would build from them, though it need not.
pub(super) fn contexts(project: &RenderedProject, files: &[RenderedFile]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.kind == FileKind::Plain) {
        let tree = std::str::from_utf8(file.bytes.expose()).ok().and_then(|text| yaml::parse(text).ok());
        let services = tree.as_ref().map(|tree| tree.get("services").entries()).unwrap_or_default();
        for build in services.iter().map(|(_, service)| service.get("build")) {
            let context = if let Yaml::Text(text) = build { text } else { build.get("context").text() };
            let place =
                plainly(&project.directory().join(context)).filter(|place| place.starts_with(project.base.as_path()));
            found.extend(place.filter(|_| !context.is_empty() && !context.contains([':', '$'])));
        }
    }
    found
}

/// The files that a compose file names, as it does, and whether each is one itself.
pub(super) fn named(tree: &Yaml) -> Vec<(String, bool)> {
    let mut named = Vec::new();
    walk(tree, &mut named);
    named.into_iter().map(|it| (it.path, it.is_compose)).collect()
}

/// A file that a compose file names.
struct Named {
    field: &'static str,
    path: String,
    is_compose: bool,
}

/// Wherever it stands: anchors and merges bring a key to where it counts.
fn walk(tree: &Yaml, named: &mut Vec<Named>) {
    for (key, value) in tree.entries() {
        let paths = |keys: &[&str]| -> Vec<String> {
            let of = |item: &Yaml| match item {
                Yaml::Text(text) => vec![text.clone()],
                Yaml::Map(_) => {
                    let held = keys.iter().flat_map(|key| item.get(key).items());
                    held.map(|path| path.text().to_owned()).collect()
                }
                Yaml::Null | Yaml::List(_) => Vec::new(),
            };
            value.items().iter().flat_map(of).collect()
        };
        let (field, found, is_compose) = match key.as_str() {
            "env_file" => ("env_file", paths(&["path"]), false),
            "label_file" => ("label_file", paths(&[]), false),
            "include" => ("include", paths(&["path", "env_file", "project_directory"]), true),
            "extends" if matches!(value, Yaml::Map(_)) => ("extends", paths(&["file"]), true),
            _ => ("", Vec::new(), false),
        };
        named.extend(found.into_iter().map(|path| Named { field, path, is_compose }));
        walk(value, named);
    }
    if let Yaml::List(items) = tree {
        items.iter().for_each(|item| walk(item, named));
    }
}

/// A path without `.` and `..`; `None` = it leads out of the root.
pub(super) fn plainly(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    //! What compose would read of the host.
    use super::*;
    use crate::render::tests::{desired, file_part, rendered};

    fn of(text: &str) -> Vec<String> {
        let mut desired = desired();
        let path = "/srv/shop/docker-compose.yml";
        desired.spec.files.push(file_part(path, text, 0o644));
        desired.spec.files.push(file_part("/srv/shop/web.env", "A=b\n", 0o644));
        desired.spec.files.push(file_part("/srv/shop/common.yml", "services: {base: {env_file: /etc/shadow}}", 0o644));
        let project = drover_proto::app::Project {
            directory: "/srv/shop".parse().unwrap(),
            files: vec![path.parse().unwrap()],
            env_file: None,
            profiles: Default::default(),
            registries: Default::default(),
            adopt: false,
            drift: Default::default(),
        };
        desired.spec.compose.insert("shop".parse().unwrap(), project);
        let rendered = rendered(&desired);
        strays(&rendered.compose[&"shop".parse().unwrap()], &rendered.files)
    }

    #[test]
    fn only_files_of_the_release_are_read() {
        assert_eq!(of("services: {web: {image: a, env_file: [web.env, ./web.env]}}"), <[&str; 0]>::default());
        for (stray, words) in [
            ("services: {web: {env_file: /etc/shadow}}", "/etc/shadow"),
            ("services: {web: {env_file: [{path: ../../etc/shadow, required: false}]}}", "../../etc/shadow"),
            ("x-a: &a {env_file: none.env}\nservices: {web: {<<: *a}}", "none.env"),
            ("services: {web: {env_file: \"${A}\"}}", "${A}"),
            ("services: {web: {extends: {file: common.yml, service: base}}}", "/etc/shadow"),
            ("include: [/root/docker-compose.yml]\nservices: {}", "/root/docker-compose.yml"),
            ("services: {web: {label_file: l}}", "label_file"),
            ("services: [", "not YAML"),
        ] {
            let wrong = of(stray);
            assert!(wrong.iter().any(|why| why.contains(words)), "{stray}: {wrong:?}");
        }
        assert_eq!(of("services: {web: {extends: {service: base}}, base: {}}"), <[&str; 0]>::default());
    }
}
