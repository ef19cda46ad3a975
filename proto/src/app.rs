//! An app as an operator asks for it: the manifest resolved for one environment, every field checked and every default
//! filled in. Made by the CLI, checked again (`AppSpec::check`) by coordinator and agent, which trust nobody.
//!
//! This is a document: the same bytes are hashed, stored and sent. Unknown fields are refused, never ignored.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    alert::AlertRule,
    digest::Digest,
    duration::Span,
    name::{
        AbsPath, AlertName, AppName, CheckName, ContainerName, EnvKey, HookName, InstanceName, LabelKey, LabelValue,
        PackageName, ProjectName, SecretName, UnitName, UserName,
    },
    port::Port,
    source::Source,
    strategy::Strategy,
    template::{Argv, Template},
};

pub use compose::Project;
pub use container::{Container, Healthcheck, Limits, Logging, Mount, MountSource, Namespace, Publish, Restart, Rights};
pub use handover::{BlueGreen, HandsOver};
pub use probe::{CertificateAt, CertificateProbe, Check, DiskProbe, FileProbe, HttpProbe, Probe, RestartOf};
pub use selfcare::{Drift, RestartBudget};
pub use watch::{Certificate, Signal, Watch};

/// An app to be deployed; its immutable snapshot is a release.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// Its name, with the environment if one was chosen.
    pub app: AppName,
    /// The hosts it belongs on: those with all of these labels. Never empty.
    pub targets: BTreeMap<LabelKey, LabelValue>,
    /// How a rollout moves.
    pub strategy: Strategy,
    /// What must be there before: additive, never reverted.
    pub host: HostNeeds,
    /// The program itself.
    pub artifact: Option<Artifact>,
    /// The environment of the units, build steps and hooks; values may hold secrets.
    pub env: BTreeMap<EnvKey, Template>,
    /// Where each secret that a template names comes from.
    pub secrets: BTreeMap<SecretName, SecretSource>,
    /// The systemd units.
    pub units: BTreeMap<UnitName, Unit>,
    /// The Docker containers, by their names on the host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<ContainerName, Container>,
    /// The compose projects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub compose: BTreeMap<ProjectName, Project>,
    /// The files beside the artifact, in the order of the manifest.
    pub files: Vec<FilePart>,
    /// Programs run around the switch, in order.
    pub hooks: Vec<Hook>,
    /// What must hold for the app to be healthy.
    pub checks: BTreeMap<CheckName, Check>,
    /// For the units that have none of their own; absent = `RestartBudget::default()`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_budget: Option<RestartBudget>,
    /// Written by others; looked at, and reloaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// Rules of its own, beside those of all hosts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<AlertName, AlertRule>,
}

/// What a host must have before the app can be staged.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostNeeds {
    /// Debian packages.
    pub packages: BTreeSet<PackageName>,
    /// System users.
    pub users: Vec<UserNeed>,
    /// Directories, in the order of the manifest.
    pub directories: Vec<DirectoryNeed>,
    /// Swap of at least so many bytes; without it `/swapfile` is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
}

/// A system user, created when missing, never changed or removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserNeed {
    /// Login name; a group of the same name is its primary group.
    pub name: UserName,
    /// Home directory; `/nonexistent` unless said.
    pub home: AbsPath,
    /// Login shell; `/usr/sbin/nologin` unless said.
    pub shell: AbsPath,
    /// Supplementary groups, which must exist.
    pub groups: BTreeSet<UserName>,
}

/// A directory, created when missing; owner and mode are kept as said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryNeed {
    /// Where.
    pub path: AbsPath,
    /// Its owner.
    pub owner: UserName,
    /// Its group.
    pub group: UserName,
    /// Permission bits, at most 0o7777 without SUID.
    pub mode: u32,
}

/// A tree of files, addressed by the digest of its archive (tar, zstd, gzip).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Of the archive's bytes.
    pub digest: Digest,
    /// Of the archive, in bytes; 0 = not known before it is fetched.
    pub size_bytes: u64,
    /// What to run in the unpacked tree, once.
    pub build: Option<Build>,
    /// Who has it.
    #[serde(default, skip_serializing_if = "Source::is_pushed")]
    pub source: Source,
}

/// Build steps, run in order in the new release's directory as an unprivileged user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Not root.
    pub user: UserName,
    /// The steps. No secrets, no holes but `release`.
    pub run: Vec<Argv>,
    /// Environment of the steps beside PATH, HOME and LANG. No secrets.
    pub env: BTreeMap<EnvKey, Template>,
    /// For all steps together.
    pub timeout: Span,
}

/// Where a secret's value comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretSource {
    /// So many random bytes, written as twice as many hex digits; once per app and environment.
    Generate(u32),
    /// What `drover secret set NAME` stored.
    Stored(SecretName),
}

/// A systemd unit, as the text of its file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// The unit file. Holes: `release`, `env_file`, `host.*`; no secrets.
    pub text: Template,
    /// Enabled at boot.
    pub enable: bool,
    /// Running; a unit started by another (socket, timer) says `false`.
    pub start: bool,
    /// Take over a unit file that drover does not own; the original comes back on revert or remove.
    pub adopt: bool,
    /// Of a template: `enable` and `start` are meant for each `name@INSTANCE.service`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub instances: BTreeSet<InstanceName>,
    /// Where it listens: a host on which something else does refuses the release before anything is touched.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ports: BTreeSet<Port>,
    /// When it is stopped, masked, disabled, or its file is not as written.
    #[serde(default, skip_serializing_if = "Drift::is_default")]
    pub drift: Drift,
    /// Its own; absent = the app's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_budget: Option<RestartBudget>,
    /// Files that it reads and that are not drover's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_on_change: Option<Watch>,
    /// It is replaced by another instance beside it; absent = stopped and started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<BlueGreen>,
}

impl Unit {
    /// The units of systemd that it stands for: itself, or the instances of a template.
    pub fn runs_as(&self, name: &UnitName) -> BTreeSet<UnitName> {
        if self.instances.is_empty() {
            return BTreeSet::from([name.clone()]);
        }
        // `check` has said of each that it makes a name.
        self.instances.iter().filter_map(|instance| name.instance(instance).ok()).collect()
    }
}

/// A file with its content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePart {
    /// Where.
    pub path: AbsPath,
    /// What is in it.
    pub content: Content,
    /// Its owner.
    pub owner: UserName,
    /// Its group.
    pub group: UserName,
    /// Permission bits, at most 0o777.
    pub mode: u32,
    /// Must succeed before anything is switched. With the hole `path` it looks at a staged copy; without, at the file in
    /// its place, which goes back when it fails.
    pub validate: Option<Argv>,
    /// Units to reload after the switch when it changed.
    pub reload: BTreeSet<UnitName>,
    /// Units to restart after the switch when it changed.
    pub restart: BTreeSet<UnitName>,
    /// Take over a file that drover does not own; the original comes back on revert or remove.
    pub adopt: bool,
    /// When it is gone, or not as written.
    #[serde(default, skip_serializing_if = "Drift::is_default")]
    pub drift: Drift,
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Text, perhaps with holes.
    Text(Template),
    /// Bytes, base64.
    Base64(String),
}

/// A program run around the switch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// How people call it; `None` = `before_switch-1`, counted within its list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<HookName>,
    /// When.
    pub when: HookPoint,
    /// The program; runs in the release's directory. No secrets.
    pub run: Argv,
    /// As whom.
    pub user: UserName,
    /// Then its whole process group is killed, and the activation fails.
    pub timeout: Span,
    /// Which of the app's env it sees, beside PATH, HOME and LANG.
    pub env: BTreeSet<EnvKey>,
    /// On exactly one host of a rollout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub run_once: bool,
}

/// When a hook runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPoint {
    /// Everything is staged; the old release still runs. Failure leaves it running.
    BeforeSwitch,
    /// Everything is switched; failure reverts.
    AfterSwitch,
}

impl HookPoint {
    /// The word of the manifest.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::BeforeSwitch => "before_switch",
            Self::AfterSwitch => "after_switch",
        }
    }
}

/// Something wrong with an app as a whole: which field, and what.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {what}")]
pub struct AppError {
    /// Path of the field, e.g. `files[0].mode`.
    pub field: String,
    /// What is wrong and what to do.
    pub what: String,
}

impl AppSpec {
    /// Every rule that one field's type cannot hold. Empty = good.
    #[must_use]
    pub fn check(&self) -> Vec<AppError> {
        let mut found = check::Found::default();
        found.targets(self);
        found.secrets(self);
        found.needs(&self.host);
        found.swap(&self.host);
        found.artifact(self);
        found.units(self);
        found.containers(self);
        found.compose(self);
        found.files(self);
        found.hooks(self);
        found.checks(self);
        found.alerts(self);
        found.budgets(self);
        found.watches(self);
        found.0.extend(handover::check(self));
        found.certificates(self);
        found.0.extend(self.strategy.check());
        found.0
    }
    /// How each hook is called, in their order: its own name, or its list's and its place in it.
    #[must_use]
    pub fn hook_names(&self) -> Vec<String> {
        let mut counted = BTreeMap::new();
        let names = self.hooks.iter().map(|hook| {
            let place: &mut usize = counted.entry(hook.when).or_default();
            *place += 1;
            hook.name.as_ref().map_or_else(|| format!("{}-{place}", hook.when.word()), ToString::to_string)
        });
        names.collect()
    }
    /// Whether a hook is to run on exactly one host of a rollout.
    #[must_use]
    pub fn has_run_once(&self) -> bool {
        self.hooks.iter().any(|hook| hook.run_once)
    }
}

mod check;
mod compose;
mod container;
mod handover;
mod probe;
mod selfcare;
mod since;
mod templates;
#[cfg(test)]
mod tests;
mod watch;
