//! Fills the holes of one release on one host. Beside `render`, which puts the pieces together.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use drover_proto::{
    app::{Content, Drift, FilePart},
    digest::Digest,
    name::{AbsPath, UnitName},
    secret::Secret,
    spec::DesiredApp,
    template::{Argv, Hole, Segment, Template},
};

use super::{
    FileKind, HostFacts, Layout, Ports, RenderError, RenderedBuild, RenderedFile, RenderedHook, Tree, Validate, env,
    error, root,
};

/// Fills holes for one release on one host.
pub(super) struct Filler<'a> {
    pub(super) desired: &'a DesiredApp,
    pub(super) host: &'a HostFacts,
    pub(super) layout: &'a Layout,
    pub(super) directory: Option<&'a AbsPath>,
    pub(super) env_file: &'a AbsPath,
    pub(super) ports: &'a Ports,
}

impl Filler<'_> {
    pub(super) fn fill(&self, field: &str, template: &Template) -> Result<String, RenderError> {
        template.render(|hole| self.hole(field, hole))
    }

    fn masked(&self, field: &str, template: &Template) -> Result<String, RenderError> {
        template.render(|hole| match hole {
            Hole::Secret(_) => Ok("[secret]".to_owned()),
            other => self.hole(field, other),
        })
    }

    pub(super) fn hole(&self, field: &str, hole: &Hole) -> Result<String, RenderError> {
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
            Hole::Port | Hole::PortOf(_) => self.port(field, hole).map(|port| port.to_string()),
        }
    }

    pub(super) fn argv(&self, field: &str, argv: &Argv) -> Result<Vec<String>, RenderError> {
        argv.iter().map(|arg| self.fill(field, arg)).collect()
    }

    pub(super) fn env(&self) -> Result<BTreeMap<String, EnvValue>, RenderError> {
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

    pub(super) fn env_file(&self, env: &BTreeMap<String, EnvValue>) -> Result<RenderedFile, RenderError> {
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
            drift: Drift::Repair,
            leads_to: None,
        })
    }

    pub(super) fn file(&self, i: usize, part: &FilePart) -> Result<RenderedFile, RenderError> {
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
            reload: self.running(&part.reload),
            restart: self.running(&part.restart),
            adopt: part.adopt,
            drift: part.drift,
            leads_to: None,
        })
    }

    /// The units to be told of a change: of a template of this app its instances.
    fn running(&self, units: &BTreeSet<UnitName>) -> BTreeSet<UnitName> {
        units.iter().flat_map(|name| self.running_of(name)).collect()
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

    pub(super) fn tree(&self, key: Option<String>) -> Result<Option<Tree>, RenderError> {
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
        let origin = self.origin(&artifact.source)?;
        Ok(Some(Tree { directory: directory.clone(), key, digest, size_bytes, origin, build }))
    }

    pub(super) fn hooks(&self, env: &BTreeMap<String, EnvValue>) -> Result<Vec<RenderedHook>, RenderError> {
        let (mut hooks, names) = (Vec::new(), self.desired.spec.hook_names());
        for (i, (hook, name)) in self.desired.spec.hooks.iter().zip(names).enumerate() {
            let share = hook
                .env
                .iter()
                .filter_map(|key| env.get(key.as_str()).map(|value| (key.to_string(), value.value.expose().clone())));
            hooks.push(RenderedHook {
                name,
                run_once: hook.run_once,
                when: hook.when,
                run: self.argv(&format!("hooks[{i}].run"), &hook.run)?,
                user: hook.user.clone(),
                timeout: hook.timeout,
                env: Secret::new(share.collect()),
            });
        }
        Ok(hooks)
    }
}

/// One value of the app's environment.
pub(super) struct EnvValue {
    pub(super) value: Secret<String>,
    pub(super) secret: bool,
}
