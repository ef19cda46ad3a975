//! What a project that runs was made of: its files, those that they name, and the file of variables, as they lie on the host.
//! Part of `compose`; only reads. Which files those are stands on its containers, where anybody may have written it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use drover_proto::name::AbsPath;

use super::reads::{named, plainly};
use crate::host::{
    bounded::read_bounded,
    docker::Origin,
    yaml::{self, Yaml},
};

/// All files together.
const MAX_FILES: usize = 20;

/// Files with what they say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sources {
    /// Where they lie.
    pub directory: PathBuf,
    /// Compose files, the later over the earlier.
    pub files: Vec<(AbsPath, String)>,
    /// What `${…}` is filled in from.
    pub env_file: Option<(AbsPath, String)>,
    /// Compose files that those name.
    pub included: Vec<(AbsPath, String)>,
    /// What else they name.
    pub others: Vec<(AbsPath, String)>,
    /// Of the services that have some.
    pub profiles: BTreeMap<String, Vec<String>>,
    /// The services that are built.
    pub built: BTreeSet<String>,
}

impl Sources {
    /// Reads them. The error is one sentence.
    pub fn read(origin: &Origin) -> Result<Self, String> {
        let directory = plainly(&origin.directory).filter(|it| it.parent().is_some() && origin.directory.is_absolute());
        let directory = directory.ok_or("its containers do not say where its files lie")?;
        let mut sources = Self { directory, ..Self::default() };
        let mut to_read: Vec<(PathBuf, bool)> = Vec::new();
        for file in &origin.files {
            let path = sources.within(file)?;
            if to_read.is_empty() && path.parent() != Some(&sources.directory) {
                let why = "it was brought up with a --project-directory of its own, which a manifest cannot say";
                return Err(why.to_owned());
            }
            let text = text(&path)?;
            sources.look_into(&path, &text, &mut to_read)?;
            sources.files.push((absolute(&path)?, text));
        }
        let usual = sources.directory.join(".env");
        let env_file = match &origin.env_file {
            Some(file) => Some(sources.within(file)?),
            None if usual.exists() => Some(sources.within(&usual)?),
            None => None,
        };
        sources.env_file = env_file.map(|path| Ok::<_, String>((absolute(&path)?, text(&path)?))).transpose()?;
        let mut next = 0;
        while let Some((path, is_compose)) = to_read.get(next).cloned() {
            next += 1;
            let mut known = sources.files.iter().chain(&sources.included).chain(&sources.others);
            let known = known.any(|(known, _)| known.as_path() == path);
            if known {
                continue;
            }
            if next > MAX_FILES {
                return Err(format!("its files name more than {MAX_FILES} others"));
            }
            let text = text(&path)?;
            if is_compose {
                sources.look_into(&path, &text, &mut to_read)?;
                sources.included.push((absolute(&path)?, text));
            } else {
                sources.others.push((absolute(&path)?, text));
            }
        }
        Ok(sources)
    }

    /// Only what lies in the project's directory, wherever links lead: compose's labels may name any file of the host.
    fn within(&self, path: &Path) -> Result<PathBuf, String> {
        let outside = || format!("{} does not lie in {}", path.display(), self.directory.display());
        let plain = plainly(path).filter(|plain| plain.starts_with(&self.directory)).ok_or_else(outside)?;
        let real = |path: &Path| fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()));
        if real(&plain)?.starts_with(real(&self.directory)?) { Ok(plain) } else { Err(outside()) }
    }

    /// What a compose file says of services, and which files it names.
    fn look_into(&mut self, path: &Path, text: &str, to_read: &mut Vec<(PathBuf, bool)>) -> Result<(), String> {
        let tree = yaml::parse(text).map_err(|why| format!("{} {why}", path.display()))?;
        let services = tree.get("services").entries();
        if services.is_empty() && tree.get("include") == &Yaml::Null {
            return Err(format!("{} is no compose file", path.display()));
        }
        for (service, fields) in services {
            let profiles = fields.get("profiles").items().iter().map(|it| it.text().to_owned());
            self.profiles.entry(service.clone()).or_default().extend(profiles);
            if fields.get("build") != &Yaml::Null {
                self.built.insert(service.clone());
            }
        }
        for (name, is_compose) in named(&tree) {
            let place = self.directory.join(&name);
            // One that is not there need not be, or compose says so.
            if place.exists() {
                to_read.push((self.within(&place)?, is_compose));
            }
        }
        Ok(())
    }
}

fn absolute(path: &Path) -> Result<AbsPath, String> {
    let text = path.to_str().ok_or_else(|| format!("{} is no text", path.display()))?;
    text.parse().map_err(|error| format!("{}: {error}", path.display()))
}

fn text(path: &Path) -> Result<String, String> {
    let cannot = |why: &dyn std::fmt::Display| format!("{} cannot be read: {why}", path.display());
    String::from_utf8(read_bounded(path).map_err(|error| cannot(&error))?).map_err(|_| cannot(&"it is no text"))
}

/// Every value of a compose file with its key: `KEY: value`, `- KEY=value`; without one what stands alone.
#[must_use]
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    if let Ok(tree) = yaml::parse(text) {
        collect("", &tree, &mut all);
    }
    all
}

fn collect(key: &str, tree: &Yaml, all: &mut Vec<(String, String)>) {
    match tree {
        Yaml::Null => {}
        Yaml::Text(text) => match text.split_once('=') {
            Some((name, value)) if key.is_empty() => all.push((name.to_owned(), value.to_owned())),
            _ => all.push((key.to_owned(), text.clone())),
        },
        Yaml::List(items) => items.iter().for_each(|item| collect("", item, all)),
        Yaml::Map(entries) => entries.iter().for_each(|(key, value)| collect(key, value, all)),
    }
}

/// The variables that a compose file is filled in from: name, and whether it says what else to take.
#[must_use]
pub fn variables(text: &str) -> BTreeMap<String, bool> {
    let mut all: BTreeMap<String, bool> = BTreeMap::new();
    let text = text.replace("$$", "");
    for piece in text.split('$').skip(1) {
        let (braced, rest) = piece.strip_prefix('{').map_or((false, piece), |rest| (true, rest));
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let has_default = braced && (after.starts_with(":-") || after.starts_with('-'));
        let optional = all.entry(name.to_owned()).or_insert(true);
        *optional &= has_default;
    }
    all
}

#[cfg(test)]
mod tests {
    //! Which files are read, and which are not.
    use super::*;

    fn project(compose: &str) -> (tempfile::TempDir, Origin) {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("docker-compose.yml", compose);
        write("web.env", "A=b\n");
        write(".env", "TAG=1\n");
        let directory = dir.path().to_owned();
        let files = vec![directory.join("docker-compose.yml")];
        (dir, Origin { directory, files, env_file: None })
    }

    #[test]
    fn everything_that_it_was_made_of_is_read() {
        let (_dir, origin) = project(
            "services: {web: {image: \"a:${TAG}\", env_file: [web.env, none.env], profiles: [p]}, x: {build: .}}",
        );
        let sources = Sources::read(&origin).unwrap();
        assert_eq!(sources.files.len(), 1);
        assert_eq!(sources.env_file.unwrap().1, "TAG=1\n");
        assert_eq!(sources.others.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["A=b\n"]);
        assert_eq!(sources.profiles["web"], ["p"]);
        assert_eq!(sources.built.into_iter().collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn nothing_outside_its_directory_is_read() {
        let (dir, origin) = project("services: {web: {image: a, env_file: ../../../../../../etc/passwd}}");
        assert!(Sources::read(&origin).unwrap_err().contains("does not lie in"));
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.yml")).unwrap();
        let of = |file: PathBuf| Sources::read(&Origin { files: vec![file], ..origin.clone() }).unwrap_err();
        assert!(of(dir.path().join("link.yml")).contains("does not lie in"));
        assert!(of("/etc/passwd".into()).contains("does not lie in"));
        assert!(of(dir.path().join("web.env")).contains("no compose file"));
        fs::remove_file(dir.path().join(".env")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(".env")).unwrap();
        let (file, none) = (vec![dir.path().join("plain.yml")], Origin { env_file: None, ..origin.clone() });
        fs::write(&file[0], "services: {a: {image: a}}").unwrap();
        assert!(Sources::read(&Origin { files: file, ..none }).unwrap_err().contains("does not lie in"));
        assert!(Sources::read(&Origin::default()).unwrap_err().contains("do not say where"));
    }

    #[test]
    fn variables_of_a_compose_file() {
        let all = variables("a: $TAG ${B:-x} ${C} $$NO ${D:?must} ${B} $1 ${E-}");
        let shown: Vec<(&str, bool)> = all.iter().map(|(name, optional)| (name.as_str(), *optional)).collect();
        assert_eq!(shown, [("B", false), ("C", false), ("D", false), ("E", true), ("TAG", false)]);
    }
}
