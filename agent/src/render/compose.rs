//! Pure: a compose project as one host will have it: its files, what `${…}` is filled in from, and a digest of all that, by
//! which `plan` sees whether compose has to be asked at all. Beside `render`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use drover_proto::{
    app::{Drift, Project},
    digest::Digest,
    name::{AbsPath, ProjectName, RolloutId},
    secret::Secret,
};

use super::{
    FileKind, RenderError, RenderedFile, error,
    fill::{EnvValue, Filler},
};

/// A project, all holes filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenderedProject {
    /// Where they lie, as they lie beside the manifest.
    pub base: AbsPath,
    /// Its compose files.
    pub files: Vec<AbsPath>,
    /// As with `--env-file`.
    pub env_file: Option<AbsPath>,
    /// That are on.
    pub profiles: BTreeSet<String>,
    /// Of the app's env what its files name; may hold secrets.
    pub env: Secret<BTreeMap<String, String>>,
    /// By registry, as images have it: user and password.
    pub registries: BTreeMap<String, (String, Secret<String>)>,
    /// One that runs there already is taken over.
    pub adopt: bool,
    /// When it is not as it should be.
    pub drift: Drift,
    /// The restart that its services must have seen.
    pub restart: RolloutId,
    /// Of everything above, the files' contents and the artifact's key too.
    pub inputs: Digest,
}

impl RenderedProject {
    /// Where what is relative in its files leads.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.files.first().and_then(|first| first.as_path().parent()).unwrap_or(Path::new("/"))
    }
}

impl Filler<'_> {
    fn registries(
        &self,
        name: &ProjectName,
        project: &Project,
    ) -> Result<BTreeMap<String, (String, Secret<String>)>, RenderError> {
        let mut registries = BTreeMap::new();
        for (registry, credentials) in &project.registries {
            let field = format!("compose.{name}.registries.{registry}");
            let value = self.desired.secrets.get(&credentials.secret).cloned();
            let missing =
                || error(&field, format!("the value of {} did not come with the release", credentials.secret));
            let user = credentials.username.clone().unwrap_or_default();
            // As the engine knows Docker Hub.
            let known = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry.as_str() };
            registries.insert(known.to_owned(), (user, value.ok_or_else(missing)?));
        }
        Ok(registries)
    }

    pub(super) fn projects(
        &self,
        env: &BTreeMap<String, EnvValue>,
        files: &[RenderedFile],
        key: Option<&str>,
    ) -> Result<BTreeMap<ProjectName, RenderedProject>, RenderError> {
        let plain: Vec<&RenderedFile> = files.iter().filter(|file| file.kind == FileKind::Plain).collect();
        let texts: Vec<String> =
            plain.iter().map(|file| String::from_utf8_lossy(file.bytes.expose()).into_owned()).collect();
        // A name that only begins like one of them comes along, and does no harm.
        let named = |key: &str| {
            let (short, braced) = (format!("${key}"), format!("${{{key}"));
            texts.iter().any(|text| text.contains(&short) || text.contains(&braced))
        };
        let contents: Vec<(&AbsPath, Digest)> = plain.iter().map(|file| (&file.path, file.digest)).collect();
        let mut projects = BTreeMap::new();
        for (name, project) in &self.desired.spec.compose {
            let shared = env.iter().filter(|(key, _)| named(key));
            let env: BTreeMap<String, String> =
                shared.map(|(key, value)| (key.clone(), value.value.expose().clone())).collect();
            let Project { directory: base, files, env_file, profiles, adopt, drift, .. } = project.clone();
            let registries = self.registries(name, project)?;
            // Other files of the app may be read by these; what compose makes of all of them decides in the end.
            let whole = (&base, &files, &env_file, &profiles, &env, &contents, key);
            let inputs = Digest::of_json(&whole).map_err(|e| error("compose", e.to_string()))?;
            let (env, restart) = (Secret::new(env), self.desired.restart);
            projects.insert(
                name.clone(),
                RenderedProject { base, files, env_file, profiles, env, registries, adopt, drift, restart, inputs },
            );
        }
        Ok(projects)
    }
}

#[cfg(test)]
mod tests {
    //! What a project is given, and what counts as a change.
    use drover_proto::spec::DesiredApp;

    use super::*;
    use crate::render::tests::{desired, file_part, rendered, template};

    fn project(change: impl FnOnce(&mut DesiredApp)) -> RenderedProject {
        let (mut desired, file) = (desired(), "/srv/shop/deploy/docker-compose.yml");
        desired.spec.files.push(file_part(file, "services: {a: {image: \"a:${TAG}\"}}", 0o644));
        desired.spec.env.insert("TAG".parse().unwrap(), template("1"));
        desired.spec.env.insert("OTHER".parse().unwrap(), template("1"));
        let project = Project {
            directory: "/srv/shop".parse().unwrap(),
            files: vec![file.parse().unwrap()],
            env_file: None,
            profiles: BTreeSet::new(),
            registries: BTreeMap::new(),
            adopt: false,
            drift: Drift::Repair,
        };
        desired.spec.compose.insert("shop".parse().unwrap(), project);
        change(&mut desired);
        rendered(&desired).compose.remove(&"shop".parse().unwrap()).unwrap()
    }

    #[test]
    fn of_the_env_it_is_given_what_its_files_name() {
        let project = project(|_| {});
        assert_eq!(project.env.expose().keys().collect::<Vec<_>>(), ["TAG"]);
        assert_eq!(project.directory(), Path::new("/srv/shop/deploy"));
    }

    #[test]
    fn everything_that_compose_may_read_counts() {
        let before = project(|_| {}).inputs;
        let set = |key: &'static str| {
            project(|desired| drop(desired.spec.env.insert(key.parse().unwrap(), template("2")))).inputs
        };
        assert_eq!(set("OTHER"), before);
        assert_ne!(set("TAG"), before);
        assert_ne!(project(|desired| desired.spec.files.push(file_part("/srv/shop/a", "b", 0o644))).inputs, before);
        let source = |desired: &mut DesiredApp| {
            desired.spec.artifact.as_mut().unwrap().digest = Digest::of(b"another");
        };
        assert_ne!(project(source).inputs, before);
        assert_eq!(project(|desired| desired.restart = 7).inputs, before, "a restart is no change");
    }
}
