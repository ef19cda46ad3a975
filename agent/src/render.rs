//! Pure: a release as one host will have it. `DesiredApp` and the host's facts in; exact file contents, unit texts, env
//! file, release path, fingerprints, hooks and checks out. `observe` and `plan` read it, `exec` writes it.

mod checks;
mod compose;
mod container;
mod env;
mod fill;
mod handover;
mod layout;
mod origin;
mod unit_text;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    app::{AppSpec, Drift, HookPoint, HostNeeds, RestartBudget},
    digest::Digest,
    duration::Span,
    name::{
        AbsPath, AppName, CheckName, ContainerName, HostName, LabelKey, LabelValue, ProjectName, ReleaseId, RolloutId,
        UnitName, UpstreamName, UserName,
    },
    port::Port,
    secret::Secret,
    spec::{DesiredApp, HostSpec},
    strategy::Strategy,
    template::{Hole, Segment, Template},
};

pub use compose::RenderedProject;
pub use container::RenderedContainer;
pub(crate) use handover::NGINX;
pub use handover::{Instance, Ports, RenderedHandover, port_in};
pub use layout::Layout;
pub use origin::{GitTree, Origin};
pub use unit_text::Accounts;

use self::fill::Filler;
use crate::check::RenderedCheck;

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
    /// This host may run the hooks that run on one host only.
    pub run_once: bool,
    /// The restart that its units must have seen.
    pub restart: RolloutId,
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
    /// The containers.
    pub containers: BTreeMap<ContainerName, RenderedContainer>,
    /// The compose projects.
    pub compose: BTreeMap<ProjectName, RenderedProject>,
    /// The hooks, in order.
    pub hooks: Vec<RenderedHook>,
    /// The checks.
    pub checks: BTreeMap<CheckName, RenderedCheck>,
    /// What is replaced by another instance beside it, by the upstream that leads to it.
    pub handovers: BTreeMap<UpstreamName, RenderedHandover>,
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
    /// Of the archive; 0 = not known.
    pub size_bytes: u64,
    /// Who has it.
    pub origin: Origin,
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
    /// What is done by itself when it is gone, or not as written.
    pub drift: Drift,
    /// It is the upstream of that name, and leads to that port.
    pub leads_to: Option<(UpstreamName, u16)>,
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
    /// What is done by itself when it is not as it should be.
    pub drift: Drift,
    /// How often it is started again by itself.
    pub budget: RestartBudget,
    /// Of everything that a process started from it would see: its text, the env file and other files that it names, and
    /// the last restart that was asked for.
    pub fingerprint: Digest,
    /// The files of this app that its text names.
    pub names: BTreeSet<AbsPath>,
    /// Whose file it is read from: its own, or of an instance its template's.
    pub file: UnitName,
    /// Where it listens.
    pub ports: BTreeSet<Port>,
    /// Whom its text names.
    pub accounts: Accounts,
}

/// One hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenderedHook {
    /// How people call it.
    pub name: String,
    /// On one host of a rollout only.
    pub run_once: bool,
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

/// Renders a release for one host. `ports`: where the instances are of what is replaced by another one beside it.
pub fn render(desired: &DesiredApp, host: &HostFacts, layout: &Layout, ports: &Ports) -> Result<Rendered, RenderError> {
    let spec = &desired.spec;
    let key = tree_key(spec)?;
    let directory = match &key {
        Some(key) => Some(layout.release(&spec.app, key).map_err(|e| error("artifact", e.to_string()))?),
        None => None,
    };
    let env_file = layout.env_file(&spec.app).map_err(|e| error("env", e.to_string()))?;
    let filler = Filler { desired, host, layout, directory: directory.as_ref(), env_file: &env_file, ports };
    let env = filler.env()?;
    let mut files = Vec::new();
    if !env.is_empty() || spec.templates().iter().any(|(_, t, _)| t.holes().any(|h| *h == Hole::EnvFile)) {
        files.push(filler.env_file(&env)?);
    }
    let mut texts = BTreeMap::new();
    for (name, unit) in &spec.units {
        let field = format!("units.{name}");
        let (name, text) = (filler.runs_as(name)?, filler.unit_text(&field, unit)?);
        let path = layout.unit_file(&name).map_err(|e| error(&field, e.to_string()))?;
        files.push(units::file(&name, &text, path, unit)?);
        texts.insert(name, (text, unit));
    }
    let (handovers, upstreams) = filler.handovers(layout)?;
    files.extend(upstreams);
    for (i, part) in spec.files.iter().enumerate() {
        files.push(filler.file(i, part)?);
    }
    let mut containers = BTreeMap::new();
    for (name, container) in &spec.containers {
        let (instance, container) = filler.instance_of_container(name, container)?;
        let (container, secrets) = filler.container(name, &instance, &container, &env)?;
        containers.insert(instance, container);
        files.extend(secrets);
    }
    let asked = handover::take_restarts(&mut files, &handovers);
    let units = texts.into_iter().flat_map(|(name, (text, unit))| {
        // A socket has no process that could be restarted, and would lose what waits in it.
        let restart = if name.kind() == "socket" { 0 } else { desired.restart };
        let print = units::fingerprint(&text, &files, asked.get(&name), restart);
        units::with_instances(&name, unit, unit.restart_budget.or(spec.restart_budget).unwrap_or_default(), text, print)
    });
    let units = units.collect();
    Ok(Rendered {
        app: spec.app.clone(),
        release: desired.release.clone(),
        rollout: desired.rollout,
        run_once: desired.run_once,
        restart: desired.restart,
        needs: spec.host.clone(),
        strategy: spec.strategy.clone(),
        tree: filler.tree(key.clone())?,
        units,
        containers,
        compose: filler.projects(&env, &files, key.as_deref())?,
        hooks: filler.hooks(&env)?,
        checks: filler.checks()?,
        handovers,
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

fn root() -> Result<UserName, RenderError> {
    "root".parse().map_err(|_| error("owner", "root is no user name"))
}

#[cfg(test)]
pub(crate) mod tests;
