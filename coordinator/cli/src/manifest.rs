//! A manifest becomes an app: `load` reads the file, and either all of it is good or everything wrong with it is told at
//! once, each with file, line, column and a hint.
//!
//! In the order of the flow: `yaml` (text → tree), `shape` (the tree against `table`, the one list of all fields, in the
//! words of `fields`), `overlay` (an environment), `decode` (tree → `AppSpec`, with `holes` for templates, `folder` for
//! paths, `unit_text` for typed units), `AppSpec::check`, and `crate::pack` for the artifact. `diagnostic` collects what is
//! wrong; `schema` turns the table into a JSON Schema. `written` goes the other way. Called by `cmd`.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use drover_proto::{
    app::{AppSpec, Artifact},
    limits,
    name::EnvironmentName,
    plan::Extent,
};

use crate::pack::{self, PackedArtifact, Progress};

mod decode;
mod diagnostic;
mod fields;
mod folder;
mod holes;
mod overlay;
mod schema;
mod shape;
mod table;
mod unit_text;
mod written;
mod yaml;

pub use diagnostic::Diagnostic;
pub use schema::schema;
pub use written::{Draft, beside, comment, is_beside, stored_as, written};

use diagnostic::{Reports, did_you_mean};
use fields::Kind;
use yaml::{At, Node, Value};

/// The name looked for in a folder.
pub const FILE_NAME: &str = "drover.yaml";

/// A good manifest, resolved for one environment.
#[derive(Debug)]
pub struct Loaded {
    /// With the artifact's digest and size.
    pub spec: AppSpec,
    /// To be pushed, if there is one.
    pub artifact: Option<PackedArtifact>,
}

impl Loaded {
    /// How large the artifact is when unpacked.
    #[must_use]
    pub fn extent(&self) -> Option<Extent> {
        self.artifact.as_ref().and_then(|artifact| artifact.extent)
    }
}

/// Loads the manifest at `path` (or `drover.yaml` in the folder `path`) for an environment, and packs its artifact.
///
/// # Errors
/// Everything that is wrong, in the order of the file; never empty.
pub fn load(path: &Path, environment: Option<&EnvironmentName>) -> Result<Loaded, Vec<Diagnostic>> {
    load_with_progress(path, environment, &mut |_| {})
}

/// As `load`, telling how far the packing of the artifact is.
///
/// # Errors
/// Everything that is wrong, in the order of the file; never empty.
pub fn load_with_progress(
    path: &Path,
    environment: Option<&EnvironmentName>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Loaded, Vec<Diagnostic>> {
    let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
    let shown = path.display().to_string();
    let text = read(&path).map_err(|(message, hint)| vec![Diagnostic::of_file(&shown, message, hint)])?;
    let folder = folder::Folder::of(&path)
        .map_err(|error| vec![Diagnostic::of_file(&shown, format!("its folder cannot be read: {error}"), None)])?;
    let mut reports = Reports::new(shown, text);

    let Some(root) = yaml::parse(&mut reports) else { return Err(reports.finish()) };
    shape::check(&root, &Kind::Object(&table::MANIFEST), &mut reports);
    if !matches!(root.value, Value::Map(_)) {
        return Err(reports.finish());
    }
    let mut root = overlaid(root, environment, &mut reports);
    shape::fill(&mut root, &Kind::Object(&table::MANIFEST));
    let decoded = decode::decode(&root, environment, &folder, &mut reports);
    let mut spec = decoded.spec;
    let entries = decoded.artifact.as_ref().and_then(|source| scan(source, &mut reports));
    across_fields(&spec, &root, &decoded.origins, &mut reports);
    if !reports.list.is_empty() {
        return Err(reports.finish());
    }

    let mut artifact = None;
    if let Some((source, tree)) = decoded.artifact.as_ref().zip(entries) {
        match pack::write(&tree, progress) {
            Ok(packed) => {
                if let Some(Artifact { digest, size_bytes, .. }) = &mut spec.artifact {
                    (*digest, *size_bytes) = (packed.digest, packed.size_bytes);
                }
                artifact = Some(packed);
            }
            Err(error) => reports.say(source.at, &source.field, error.to_string(), None),
        }
    }
    // The size of the archive is known only now.
    across_fields(&spec, &root, &decoded.origins, &mut reports);
    if reports.list.is_empty() { Ok(Loaded { spec, artifact }) } else { Err(reports.finish()) }
}

fn read(path: &PathBuf) -> Result<String, (String, Option<String>)> {
    let cannot = |error: std::io::Error| {
        let hint = (error.kind() == std::io::ErrorKind::NotFound).then(|| "name a manifest with -f FILE".to_owned());
        (format!("cannot be read: {error}"), hint)
    };
    let file = fs::File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(("is not a file".into(), Some("name a manifest with -f FILE".into())));
    }
    let mut bytes = Vec::new();
    file.take(yaml::MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > yaml::MAX_MANIFEST_BYTES {
        return Err(("has more than 1 MiB".into(), Some("put data into files beside it".into())));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        (format!("is not UTF-8 text (line {line})"), Some("save it as UTF-8".into()))
    })
}

/// The tree with the environment's fields over its own.
fn overlaid(root: Node, environment: Option<&EnvironmentName>, reports: &mut Reports) -> Node {
    let declared = root.get("environments").cloned();
    if let Some(all) = &declared {
        for (key, node) in all.entries() {
            if let Err(error) = key.text.parse::<EnvironmentName>() {
                reports.say(key.at, &node.path, error.to_string(), None);
            }
        }
    }
    let Some(chosen) = environment else { return root };
    if let Some(over) = declared.as_ref().and_then(|all| all.get(chosen.as_str())) {
        let over = over.clone();
        return overlay::apply(root, &over);
    }
    let names: Vec<&str> =
        declared.as_ref().map(|all| all.entries().iter().map(|(k, _)| k.text.as_str()).collect()).unwrap_or_default();
    let hint = did_you_mean(chosen.as_str(), names.iter().copied()).map_or_else(
        || if names.is_empty() { "it declares none".to_owned() } else { format!("it has {}", names.join(", ")) },
        |word| format!("did you mean {word}?"),
    );
    let at = declared.as_ref().map_or(At { line: 1, column: 1, ..At::default() }, |all| all.at);
    reports.say(at, "environments", format!("the manifest has no environment {chosen}"), Some(hint));
    root
}

fn scan(source: &decode::ArtifactSource, reports: &mut Reports) -> Option<pack::Tree> {
    match pack::scan(&source.path, &source.exclude) {
        Ok(tree) => Some(tree),
        Err(errors) => {
            errors.into_iter().for_each(|e| reports.say(source.at, &source.field, e.message, e.hint));
            None
        }
    }
}

/// The rules of `AppSpec::check`, each put at the place that it is about. A field that is known to be wrong already is
/// not judged again.
fn across_fields(spec: &AppSpec, root: &Node, origins: &Places, reports: &mut Reports) {
    let known: Vec<String> = reports.list.iter().map(|d| d.field.clone()).filter(|f| !f.is_empty()).collect();
    let mut places = BTreeMap::new();
    collect(root, "", &mut places);
    for error in spec.check() {
        let (at, field) = locate(&error.field, &places, origins);
        // A part that could not be read is a part all the same.
        let parts = ["units", "files", "artifact"];
        let unread = field == "units" && known.iter().any(|k| parts.iter().any(|part| beneath(k, part)));
        let judged = unread || known.iter().any(|k| beneath(k, &field) || beneath(&field, k));
        if !judged {
            reports.say(at, &field, error.what, None);
        }
    }
    let size = serde_json::to_vec(spec).map_or(0, |bytes| bytes.len());
    if size > limits::MAX_APP_SPEC_BYTES {
        let message = format!("the app has {} KiB, more than {}", size >> 10, limits::MAX_APP_SPEC_BYTES >> 10);
        reports.say(root.at, "files", message, Some("put large files into the artifact".into()));
    }
}

/// Whether `field` is `whole` or lies below it.
fn beneath(field: &str, whole: &str) -> bool {
    field.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

type Places = BTreeMap<String, (At, String)>;

/// Path in the overlaid manifest → place and path as written.
fn collect(node: &Node, path: &str, places: &mut Places) {
    for (key, value) in node.entries() {
        collect(value, &yaml::join(path, &key.text), places);
    }
    for (i, item) in node.items().iter().enumerate() {
        collect(item, &format!("{path}[{i}]"), places);
    }
    places.insert(path.to_owned(), (node.at, node.path.clone()));
}

/// The nearest place that is known for a field of the spec.
fn locate(field: &str, places: &Places, origins: &Places) -> (At, String) {
    // Origins first, all the way up: an index of the spec is not always the manifest's.
    for known in [origins, places] {
        let mut path = field;
        loop {
            if let Some((at, written)) = known.get(path) {
                let written = if path.is_empty() { field } else { written };
                return (*at, written.to_owned());
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None if path.is_empty() => break,
                None => path = "",
            }
        }
    }
    (At::default(), field.to_owned())
}

#[cfg(test)]
mod tests;
