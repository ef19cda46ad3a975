//! Pure: a release as one host will have it. `DesiredApp` and the host's facts in; exact file contents, unit texts, env
//! file, release path, fingerprints, hooks and checks out. `observe` and `plan` read it, `exec` writes it.

mod env;
mod layout;

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use drover_proto::{
    app::{AppSpec, Content, FilePart, HookPoint, HostNeeds, Probe},
    digest::{Digest, Hasher},
    duration::Span,
    name::{AbsPath, AppName, CheckName, HostName, LabelKey, LabelValue, ReleaseId, RolloutId, UnitName, UserName},
    secret::Secret,
    spec::{DesiredApp, HostSpec},
    strategy::Strategy,
    template::{Argv, Hole, Segment, Template},
};

pub use layout::{Layout, make as layout_make};

use crate::check::{RenderedCheck, RenderedHttp, RenderedProbe};

/// What the holes `host.*` are filled with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostFacts {
    /// The host's drover name.
    pub name: HostName,
    /// Its labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
}

impl From<&HostSpec> for HostFacts {
    fn from(spec: &HostSpec) -> Self {
        Self { name: spec.host_name.clone(), labels: spec.labels.clone() }
    }
}

/// A hole that cannot be filled, or a content that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {what}")]
pub struct RenderError {
    /// Of the manifest.
    pub field: String,
    /// What is missing.
    pub what: String,
}

/// A release, rendered for one host.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// For which rollout.
    pub rollout: RolloutId,
    /// Host needs, as the release says them.
    pub needs: HostNeeds,
    /// How patient the gate is.
    pub strategy: Strategy,
    /// The artifact's place and making; `None` without artifact.
    pub tree: Option<Tree>,
    /// Every file to be written: env file, unit files, the release's files, in the order they are written.
    pub files: Vec<RenderedFile>,
    /// The units.
    pub units: BTreeMap<UnitName, RenderedUnit>,
    /// The hooks, in order.
    pub hooks: Vec<RenderedHook>,
    /// The checks.
    pub checks: BTreeMap<CheckName, RenderedCheck>,
}

/// The directory of an unpacked and built artifact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    /// Final path.
    pub directory: AbsPath,
    /// Hash of artifact, build steps and build environment, as hex digits; the directory's name.
    pub key: String,
    /// Of the archive.
    pub digest: Digest,
    /// Of the archive.
    pub size_bytes: u64,
    /// What to run there.
    pub build: Option<RenderedBuild>,
}

/// Build steps, ready to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenderedBuild {
    /// As whom.
    pub user: UserName,
    /// The steps.
    pub run: Vec<Vec<String>>,
    /// Beside PATH, HOME and LANG.
    pub env: BTreeMap<String, String>,
    /// For all steps.
    pub timeout: Span,
}

/// What a file is to drover.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileKind {
    /// The app's env file, in drover's own directory.
    Env,
    /// A unit file.
    Unit(UnitName),
    /// A file of the manifest.
    Plain,
}

/// One file.
#[derive(Clone, Debug)]
pub struct RenderedFile {
    /// Where.
    pub path: AbsPath,
    /// What drover uses it for.
    pub kind: FileKind,
    /// The content.
    pub bytes: Secret<Vec<u8>>,
    /// Of the content.
    pub digest: Digest,
    /// The content with `[secret]` for each secret; `None` = not text.
    pub masked: Option<String>,
    /// Whether the content holds secrets.
    pub secret: bool,
    /// Its owner.
    pub owner: UserName,
    /// Its group.
    pub group: UserName,
    /// Permission bits.
    pub mode: u32,
    /// Its own check.
    pub validate: Option<Validate>,
    /// To be reloaded when it changed.
    pub reload: BTreeSet<UnitName>,
    /// To be restarted when it changed.
    pub restart: BTreeSet<UnitName>,
    /// Take over what is there.
    pub adopt: bool,
}

/// A file's check, all holes filled but `{{ path }}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Validate(Vec<Template>);

impl Validate {
    /// Whether it looks at a staged copy.
    #[must_use]
    pub fn is_staged(&self) -> bool {
        self.0.iter().any(|arg| arg.holes().next().is_some())
    }
    /// The program and its arguments with `path` in the hole.
    #[must_use]
    pub fn argv(&self, path: &str) -> Vec<String> {
        let fill = |arg: &Template| -> String {
            arg.0.iter().map(|s| if let Segment::Text(text) = s { text.as_str() } else { path }).collect()
        };
        self.0.iter().map(fill).collect()
    }
}

/// One unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenderedUnit {
    /// The text of its file.
    pub text: String,
    /// At boot.
    pub enable: bool,
    /// Running.
    pub start: bool,
    /// Take over what is there.
    pub adopt: bool,
    /// Of everything that a process started from it would see: its text, the env file and other files that it names.
    pub fingerprint: Digest,
    /// The files of this app that its text names.
    pub names: BTreeSet<AbsPath>,
}

/// One hook.
#[derive(Clone, Debug)]
pub struct RenderedHook {
    /// When.
    pub when: HookPoint,
    /// The program.
    pub run: Vec<String>,
    /// As whom.
    pub user: UserName,
    /// Then it is killed.
    pub timeout: Span,
    /// Its share of the app's env; may hold secrets.
    pub env: Secret<BTreeMap<String, String>>,
}

impl Rendered {
    /// The file at `path`.
    #[must_use]
    pub fn file(&self, path: &AbsPath) -> Option<&RenderedFile> {
        self.files.iter().find(|file| file.path == *path)
    }
    /// The units that the gate watches.
    pub fn started(&self) -> impl Iterator<Item = (&UnitName, &RenderedUnit)> {
        self.units.iter().filter(|(_, unit)| unit.start)
    }
}

/// Renders a release for one host.
pub fn render(desired: &DesiredApp, host: &HostFacts, layout: &Layout) -> Result<Rendered, RenderError> {
    let spec = &desired.spec;
    let key = tree_key(spec)?;
    let directory = match &key {
        Some(key) => Some(layout.release(&spec.app, key).map_err(|e| error("artifact", e.to_string()))?),
        None => None,
    };
    let env_file = layout.env_file(&spec.app).map_err(|e| error("env", e.to_string()))?;
    let filler = Filler { desired, host, directory: directory.as_ref(), env_file: &env_file };
    let env = filler.env()?;
    let mut files = Vec::new();
    if !env.is_empty() || spec.templates().iter().any(|(_, t, _)| t.holes().any(|h| *h == Hole::EnvFile)) {
        files.push(filler.env_file(&env)?);
    }
    let mut texts = BTreeMap::new();
    for (name, unit) in &spec.units {
        let text = filler.fill(&format!("units.{name}"), &unit.text)?;
        let path = layout.unit_file(name).map_err(|e| error(&format!("units.{name}"), e.to_string()))?;
        files.push(unit_file(name, &text, path, unit.adopt)?);
        texts.insert(name.clone(), text);
    }
    for (i, part) in spec.files.iter().enumerate() {
        files.push(filler.file(i, part)?);
    }
    let units = texts.into_iter().map(|(name, text)| {
        let unit = &spec.units[&name];
        let (fingerprint, names) = fingerprint(&text, &files);
        (name, RenderedUnit { text, enable: unit.enable, start: unit.start, adopt: unit.adopt, fingerprint, names })
    });
    let units = units.collect();
    Ok(Rendered {
        app: spec.app.clone(),
        release: desired.release.clone(),
        rollout: desired.rollout,
        needs: spec.host.clone(),
        strategy: spec.strategy.clone(),
        tree: filler.tree(key)?,
        units,
        hooks: filler.hooks(&env)?,
        checks: filler.checks()?,
        files,
    })
}

fn error(field: &str, what: impl Into<String>) -> RenderError {
    RenderError { field: field.to_owned(), what: what.into() }
}

/// The name of the release's directory. Templates are hashed, not their rendering: `{{ release }}` would hold the key.
fn tree_key(spec: &AppSpec) -> Result<Option<String>, RenderError> {
    let Some(artifact) = &spec.artifact else { return Ok(None) };
    let build = artifact.build.as_ref().map(|build| (&build.user, &build.run, &build.env));
    let digest = Digest::of_json(&(artifact.digest, build)).map_err(|e| error("artifact", e.to_string()))?;
    Ok(Some(digest.hex()[..24].to_owned()))
}

fn unit_file(name: &UnitName, text: &str, path: AbsPath, adopt: bool) -> Result<RenderedFile, RenderError> {
    let root = root()?;
    Ok(RenderedFile {
        path,
        kind: FileKind::Unit(name.clone()),
        digest: Digest::of(text.as_bytes()),
        bytes: Secret::new(text.as_bytes().to_vec()),
        masked: Some(text.to_owned()),
        secret: false,
        owner: root.clone(),
        group: root,
        mode: 0o644,
        validate: None,
        reload: BTreeSet::new(),
        restart: BTreeSet::new(),
        adopt,
    })
}

fn root() -> Result<UserName, RenderError> {
    "root".parse().map_err(|_| error("owner", "root is no user name"))
}

fn fingerprint(text: &str, files: &[RenderedFile]) -> (Digest, BTreeSet<AbsPath>) {
    let mut hasher = Hasher::new();
    hasher.update(text.as_bytes());
    let named: BTreeMap<&AbsPath, Digest> = files
        .iter()
        .filter(|file| !matches!(file.kind, FileKind::Unit(_)) && text.contains(file.path.as_str()))
        .map(|file| (&file.path, file.digest))
        .collect();
    for (path, digest) in &named {
        hasher.update(path.as_str().as_bytes());
        hasher.update(digest.as_bytes());
    }
    (hasher.finish(), named.into_keys().cloned().collect())
}

/// Fills holes for one release on one host.
struct Filler<'a> {
    desired: &'a DesiredApp,
    host: &'a HostFacts,
    directory: Option<&'a AbsPath>,
    env_file: &'a AbsPath,
}

impl Filler<'_> {
    fn fill(&self, field: &str, template: &Template) -> Result<String, RenderError> {
        template.render(|hole| self.hole(field, hole))
    }

    fn masked(&self, field: &str, template: &Template) -> Result<String, RenderError> {
        template.render(|hole| match hole {
            Hole::Secret(_) => Ok("[secret]".to_owned()),
            other => self.hole(field, other),
        })
    }

    fn hole(&self, field: &str, hole: &Hole) -> Result<String, RenderError> {
        match hole {
            Hole::Release => {
                self.directory.map(ToString::to_string).ok_or_else(|| error(field, "{{ release }} needs an artifact"))
            }
            Hole::EnvFile => Ok(self.env_file.to_string()),
            Hole::HostName => Ok(self.host.name.to_string()),
            Hole::HostLabel(key) => {
                let value = self.host.labels.get(key).map(ToString::to_string);
                value.ok_or_else(|| {
                    error(field, format!("this host has no label {key}; set it with `drover hosts label`"))
                })
            }
            Hole::Secret(name) => {
                let value = self.desired.secrets.get(name).map(|value| value.expose().clone());
                value.ok_or_else(|| error(field, format!("the value of secret {name} did not come with the release")))
            }
            Hole::Path => Err(error(field, "{{ path }} means something only in a file's validate:")),
        }
    }

    fn argv(&self, field: &str, argv: &Argv) -> Result<Vec<String>, RenderError> {
        argv.iter().map(|arg| self.fill(field, arg)).collect()
    }

    fn env(&self) -> Result<BTreeMap<String, EnvValue>, RenderError> {
        let mut env = BTreeMap::new();
        for (key, template) in &self.desired.spec.env {
            let value = self.fill(&format!("env.{key}"), template)?;
            if value.contains('\0') {
                return Err(error(&format!("env.{key}"), "holds a NUL character"));
            }
            let secret = template.secrets().next().is_some();
            env.insert(key.to_string(), EnvValue { value: Secret::new(value), secret });
        }
        Ok(env)
    }

    fn env_file(&self, env: &BTreeMap<String, EnvValue>) -> Result<RenderedFile, RenderError> {
        let bytes = env::file(env).into_bytes();
        Ok(RenderedFile {
            path: self.env_file.clone(),
            kind: FileKind::Env,
            digest: Digest::of(&bytes),
            bytes: Secret::new(bytes),
            masked: Some(env::masked(env)),
            secret: env.values().any(|value| value.secret),
            owner: root()?,
            group: root()?,
            mode: 0o600,
            validate: None,
            reload: BTreeSet::new(),
            restart: BTreeSet::new(),
            adopt: false,
        })
    }

    fn file(&self, i: usize, part: &FilePart) -> Result<RenderedFile, RenderError> {
        let field = format!("files[{i}].content");
        let (bytes, masked, secret) = match &part.content {
            Content::Text(template) => {
                let secret = template.secrets().next().is_some();
                (self.fill(&field, template)?.into_bytes(), Some(self.masked(&field, template)?), secret)
            }
            Content::Base64(text) => {
                let bytes = BASE64.decode(text).map_err(|_| error(&field, "is not base64"))?;
                let text = String::from_utf8(bytes.clone()).ok();
                (bytes, text, false)
            }
        };
        let validate = match &part.validate {
            Some(argv) => Some(self.validate(&format!("files[{i}].validate"), argv)?),
            None => None,
        };
        Ok(RenderedFile {
            path: part.path.clone(),
            kind: FileKind::Plain,
            digest: Digest::of(&bytes),
            bytes: Secret::new(bytes),
            masked,
            secret,
            owner: part.owner.clone(),
            group: part.group.clone(),
            mode: part.mode,
            validate,
            reload: part.reload.clone(),
            restart: part.restart.clone(),
            adopt: part.adopt,
        })
    }

    fn validate(&self, field: &str, argv: &Argv) -> Result<Validate, RenderError> {
        let mut args = Vec::new();
        for template in argv {
            let mut segments = Vec::new();
            for segment in &template.0 {
                segments.push(match segment {
                    Segment::Text(text) => Segment::Text(text.clone()),
                    Segment::Hole(Hole::Path) => Segment::Hole(Hole::Path),
                    Segment::Hole(hole) => Segment::Text(self.hole(field, hole)?),
                });
            }
            args.push(Template(segments));
        }
        Ok(Validate(args))
    }

    fn tree(&self, key: Option<String>) -> Result<Option<Tree>, RenderError> {
        let (Some(artifact), Some(directory), Some(key)) = (&self.desired.spec.artifact, self.directory, key) else {
            return Ok(None);
        };
        let field = "artifact.build";
        let build = match &artifact.build {
            None => None,
            Some(build) => {
                let run = build.run.iter().map(|argv| self.argv(field, argv)).collect::<Result<_, _>>()?;
                let mut env = BTreeMap::new();
                for (key, value) in &build.env {
                    env.insert(key.to_string(), self.fill(field, value)?);
                }
                Some(RenderedBuild { user: build.user.clone(), run, env, timeout: build.timeout })
            }
        };
        let (digest, size_bytes) = (artifact.digest, artifact.size_bytes);
        Ok(Some(Tree { directory: directory.clone(), key, digest, size_bytes, build }))
    }

    fn hooks(&self, env: &BTreeMap<String, EnvValue>) -> Result<Vec<RenderedHook>, RenderError> {
        let mut hooks = Vec::new();
        for (i, hook) in self.desired.spec.hooks.iter().enumerate() {
            let share = hook
                .env
                .iter()
                .filter_map(|key| env.get(key.as_str()).map(|value| (key.to_string(), value.value.expose().clone())));
            hooks.push(RenderedHook {
                when: hook.when,
                run: self.argv(&format!("hooks[{i}].run"), &hook.run)?,
                user: hook.user.clone(),
                timeout: hook.timeout,
                env: Secret::new(share.collect()),
            });
        }
        Ok(hooks)
    }

    fn checks(&self) -> Result<BTreeMap<CheckName, RenderedCheck>, RenderError> {
        let mut checks = BTreeMap::new();
        for (name, check) in &self.desired.spec.checks {
            let field = format!("checks.{name}");
            let probe = match &check.probe {
                Probe::Http(http) => {
                    let mut headers = BTreeMap::new();
                    for (header, value) in &http.headers {
                        headers.insert(header.clone(), self.fill(&field, value)?);
                    }
                    RenderedProbe::Http(RenderedHttp {
                        url: self.fill(&field, &http.url)?,
                        method: http.method.clone(),
                        headers,
                        status: http.status,
                        expect_headers: http.expect_headers.clone(),
                        body_contains: http.body_contains.clone(),
                        json: http.json.clone(),
                    })
                }
                Probe::Tcp(address) => RenderedProbe::Tcp(address.clone()),
                Probe::Command { run, user } => {
                    RenderedProbe::Command { run: self.argv(&field, run)?, user: user.clone() }
                }
                Probe::Unit(unit) => RenderedProbe::Unit(unit.clone()),
            };
            checks.insert(name.clone(), RenderedCheck { probe, interval: check.interval, timeout: check.timeout });
        }
        Ok(checks)
    }
}

/// One value of the app's environment.
struct EnvValue {
    value: Secret<String>,
    secret: bool,
}

#[cfg(test)]
pub(crate) mod tests;
