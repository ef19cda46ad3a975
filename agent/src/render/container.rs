//! Pure: a container as one host will run it. Beside `render`; `plan` compares its fingerprint with what runs,
//! `host/docker` tells the engine.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    app::{Container, Drift, Healthcheck, Mount, MountSource},
    digest::Digest,
    image::ImageRef,
    name::{AbsPath, ContainerName, EnvKey},
    secret::Secret,
    template::{Argv, Template},
};

use super::{
    FileKind, RenderError, RenderedFile, error,
    fill::{EnvValue, Filler},
    root,
};

/// Where a container finds its secrets.
const SECRETS: &str = "/run/secrets";

/// A container, all holes filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenderedContainer {
    /// The image, with a digest.
    pub image: ImageRef,
    /// The image's.
    pub digest: Digest,
    /// The registry's; user and password.
    pub credentials: Option<(String, Secret<String>)>,
    /// As the release says it, each text without holes; its secrets are among `volumes`.
    pub spec: Container,
    /// The files that hold its secrets, which it sees, too.
    pub secrets: BTreeSet<String>,
    /// All that it sees; may hold secrets.
    pub env: Secret<BTreeMap<String, String>>,
    /// Of everything that it is made of. What runs says by a label what it was made of.
    pub fingerprint: Digest,
}

impl RenderedContainer {
    /// Paths of the host that it sees because its manifest says so.
    pub fn binds(&self) -> impl Iterator<Item = (&Mount, String)> {
        self.spec.volumes.iter().filter_map(|mount| match &mount.source {
            MountSource::Path(path) => {
                Some((mount, path.plain_text())).filter(|(_, path)| !self.secrets.contains(path))
            }
            MountSource::Volume(_) => None,
        })
    }
}

impl Filler<'_> {
    /// A container, and the files that hold its secrets. `name`: as the manifest calls it, `instance`: as it is called here.
    pub(super) fn container(
        &self,
        name: &ContainerName,
        instance: &ContainerName,
        container: &Container,
        env: &BTreeMap<String, EnvValue>,
    ) -> Result<(RenderedContainer, Vec<RenderedFile>), RenderError> {
        let of = |field: &str| format!("containers.{name}.{field}");
        let image = container.image.clone();
        let digest =
            image.digest.ok_or_else(|| error(&of("image"), "has no digest: the release was not made whole"))?;
        let mut spec = container.clone();
        spec.entrypoint = self.literal_argv(&of("entrypoint"), &container.entrypoint)?;
        spec.command = self.literal_argv(&of("command"), &container.command)?;
        if let Some(check) = &container.healthcheck {
            let test = self.literal_argv(&of("healthcheck.test"), &Some(check.test.clone()))?.unwrap_or_default();
            spec.healthcheck = Some(Healthcheck { test, ..check.clone() });
        }
        for mount in &mut spec.volumes {
            if let MountSource::Path(path) = &mount.source {
                let path: AbsPath =
                    self.fill(&of("volumes"), path)?.parse().map_err(|e| error(&of("volumes"), format!("{e}")))?;
                mount.source = MountSource::Path(Template::literal(path.as_str()));
            }
        }
        let files = self.secret_files(instance, container)?;
        for (secret, file) in container.secrets.iter().zip(&files) {
            let target = format!("{SECRETS}/{secret}").parse().map_err(|e| error(&of("secrets"), format!("{e}")))?;
            let source = MountSource::Path(Template::literal(file.path.as_str()));
            spec.volumes.push(Mount { source, target, read_only: true });
        }
        let env = self.seen_by(name, container, env)?;
        let credentials = self.registry(container)?;
        let fingerprint = fingerprint(&spec, digest, &env, &files, self.desired.restart)?;
        let env = Secret::new(env);
        let secrets = files.iter().map(|file| file.path.to_string()).collect();
        Ok((RenderedContainer { image, digest, credentials, spec, secrets, env, fingerprint }, files))
    }

    fn literal_argv(&self, field: &str, argv: &Option<Argv>) -> Result<Option<Argv>, RenderError> {
        let fill = |arg: &Template| self.fill(field, arg).map(Template::literal);
        argv.as_ref().map(|argv| argv.iter().map(fill).collect()).transpose()
    }

    fn seen_by(
        &self,
        name: &ContainerName,
        container: &Container,
        env: &BTreeMap<String, EnvValue>,
    ) -> Result<BTreeMap<String, String>, RenderError> {
        let asked = |key: &str| container.env.as_ref().is_none_or(|keys| keys.iter().any(|k| k.as_str() == key));
        let shared = env.iter().filter(|(key, _)| asked(key));
        let mut seen: BTreeMap<String, String> =
            shared.map(|(key, value)| (key.clone(), value.value.expose().clone())).collect();
        for (key, template) in &container.environment {
            seen.insert(key.to_string(), self.fill(&own_env(name, key), template)?);
        }
        Ok(seen)
    }

    fn registry(&self, container: &Container) -> Result<Option<(String, Secret<String>)>, RenderError> {
        let Some(credentials) = &container.credentials else { return Ok(None) };
        let value = self.desired.secrets.get(&credentials.secret);
        let missing = || {
            error("credentials.secret", format!("the value of {} did not come with the release", credentials.secret))
        };
        let user = credentials.username.clone().unwrap_or_default();
        Ok(Some((user, value.cloned().ok_or_else(missing)?)))
    }

    /// Everybody in the container may read them, and on the host only root gets there.
    fn secret_files(&self, name: &ContainerName, container: &Container) -> Result<Vec<RenderedFile>, RenderError> {
        let field = format!("containers.{name}.secrets");
        let mut files = Vec::new();
        for secret in &container.secrets {
            let value = self.hole(&field, &drover_proto::template::Hole::Secret(secret.clone()))?;
            let path = self.layout.secret_file(&self.desired.spec.app, name, secret);
            files.push(RenderedFile {
                path: path.map_err(|e| error(&field, e.to_string()))?,
                kind: FileKind::Env,
                digest: Digest::of(value.as_bytes()),
                bytes: Secret::new(value.into_bytes()),
                masked: Some("[secret]\n".to_owned()),
                secret: true,
                owner: root()?,
                group: root()?,
                mode: 0o444,
                validate: None,
                reload: BTreeSet::new(),
                restart: BTreeSet::new(),
                adopt: false,
                drift: Drift::Repair,
                leads_to: None,
            });
        }
        Ok(files)
    }
}

fn own_env(name: &ContainerName, key: &EnvKey) -> String {
    format!("containers.{name}.environment.{key}")
}

/// What the tag is called, who may fetch it and what is done about drift or for watched files make no other container.
fn fingerprint(
    spec: &Container,
    digest: Digest,
    env: &BTreeMap<String, String>,
    files: &[RenderedFile],
    restart: u64,
) -> Result<Digest, RenderError> {
    let image = ImageRef { tag: None, digest: Some(digest), ..spec.image.clone() };
    let (env_names, environment) = (None, BTreeMap::new());
    let (credentials, drift, restart_on_change) = (None, Drift::Repair, None);
    let spec = Container {
        image,
        credentials,
        env: env_names,
        environment,
        drift,
        restart_on_change,
        adopt: false,
        ..spec.clone()
    };
    let files: Vec<(&AbsPath, Digest)> = files.iter().map(|file| (&file.path, file.digest)).collect();
    let restart = (restart != 0).then_some(restart);
    Digest::of_json(&(spec, env, files, restart)).map_err(|e| error("containers", e.to_string()))
}
