//! A Docker container as a part of an app. Beside `app`; the agent's `render` makes of it what the Engine API is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{BlueGreen, Drift, Watch};
use crate::{
    duration::Span,
    image::ImageRef,
    name::{AbsPath, EnvKey, NetworkName, SecretName, VolumeName},
    port::Port,
    source::Credentials,
    template::{Argv, Template},
};

/// A container; its key in the manifest is its name on the host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// What runs. In a release it has a digest.
    pub image: ImageRef,
    /// What the image's registry wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Instead of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Argv>,
    /// Instead of the image's. No secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Argv>,
    /// Which of the app's env it sees; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeSet<EnvKey>>,
    /// Over the app's env. No secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<EnvKey, Template>,
    /// Secrets of the app that it finds as files under `/run/secrets`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<SecretName>,
    /// Published on the host.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ports: BTreeSet<Publish>,
    /// Volumes and directories of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Mount>,
    /// Networks of its own kind; made when missing. Empty = Docker's default one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub networks: BTreeSet<NetworkName>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// What it may do on the host.
    #[serde(default, skip_serializing_if = "Rights::is_default")]
    pub rights: Rights,
    /// `user`, `uid` or `uid:gid`, instead of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Instead of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<AbsPath>,
    /// When it ends.
    pub restart: Restart,
    /// Instead of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instead of the engine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// Instead of the image's, e.g. `SIGINT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// After the signal; then it is killed.
    pub stop_grace_period: Span,
    /// Of the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it is stopped, removed or not what was started.
    #[serde(default, skip_serializing_if = "Drift::is_default")]
    pub drift: Drift,
    /// Files that it reads and that are not drover's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_on_change: Option<Watch>,
    /// One of that name that is not drover's is taken over: as it is, if nothing differs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
    /// It is replaced by another instance beside it; absent = another one takes its place and its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<BlueGreen>,
}

/// What a container may use; absent = as much as there is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Without swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// `nofile` … → soft and hard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, (i64, i64)>,
    /// Of `/dev/shm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_bytes: Option<u64>,
}

/// What a container may do. All but `cap_drop`, `read_only` and `tmpfs` is for the host's policy to allow.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    /// Everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// `NET_ADMIN` …
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cap_add: BTreeSet<String>,
    /// `ALL`, `CHOWN` …
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cap_drop: BTreeSet<String>,
    /// Its root file system cannot be written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// In memory, empty at each start.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tmpfs: BTreeSet<AbsPath>,
    /// The host's instead of its own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub host_namespaces: BTreeSet<Namespace>,
    /// Of the host.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub devices: BTreeSet<AbsPath>,
}

impl Limits {
    /// For documents, which leave out what is not said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Rights {
    /// For documents, which leave out what is not said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a container usually has of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// Interfaces and ports.
    Network,
    /// Processes.
    Pid,
    /// Shared memory.
    Ipc,
}

/// When the engine starts it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Never.
    No,
    /// When it failed.
    OnFailure,
    /// Always, at boot too.
    Always,
    /// Always, unless somebody stopped it.
    UnlessStopped,
}

/// How the engine looks after its health.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Healthcheck {
    /// Run inside; ends with 0 if all is well. Empty = none, not even the image's.
    pub test: Argv,
    /// From one to the next.
    pub interval: Span,
    /// For one.
    pub timeout: Span,
    /// Failures before it counts as unhealthy.
    pub retries: u32,
    /// Failures in it do not count.
    pub start_period: Span,
}

/// Where its output goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    /// `json-file`, `local`, `journald` …
    pub driver: String,
    /// `max-size` …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// A port of a container, published on the host: `8080:80`, `127.0.0.1:53:53/udp`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Publish {
    /// On the host.
    pub host: Port,
    /// In the container.
    pub container: u16,
}

/// A text that is no published port.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no published port: write 8080:80 or 127.0.0.1:8080:80, the host's first, perhaps with /udp")]
pub struct PublishError(String);

impl FromStr for Publish {
    type Err = PublishError;
    fn from_str(text: &str) -> Result<Self, PublishError> {
        let wrong = || PublishError(text.chars().take(80).collect());
        let (place, transport) = text.rsplit_once('/').map_or((text, "tcp"), |(place, transport)| (place, transport));
        let (host, container) = place.rsplit_once(':').ok_or_else(wrong)?;
        let container = container.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        Ok(Self { host: format!("{host}/{transport}").parse().map_err(|_| wrong())?, container })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Port { transport: crate::port::Transport::Tcp, ..self.host };
        let suffix = if self.host.transport == crate::port::Transport::Udp { "/udp" } else { "" };
        write!(f, "{host}:{}{suffix}", self.container)
    }
}

impl From<Publish> for String {
    fn from(publish: Publish) -> Self {
        publish.to_string()
    }
}

impl TryFrom<String> for Publish {
    type Error = PublishError;
    fn try_from(text: String) -> Result<Self, PublishError> {
        text.parse()
    }
}

/// Something of the host that a container sees at a path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// What.
    pub source: MountSource,
    /// Where.
    pub target: AbsPath,
    /// Not to be written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A named volume; made when missing, never removed.
    Volume(VolumeName),
    /// A path of the host. Holes: `release`, `host.*`.
    Path(Template),
}

#[cfg(test)]
mod tests {
    //! Ports as people write them.
    use super::*;

    #[test]
    fn ports_are_published_as_docker_writes_them() {
        for text in ["8080:80", "127.0.0.1:8080:80", "[::1]:8080:80", "53:53/udp"] {
            assert_eq!(text.parse::<Publish>().unwrap().to_string(), text);
        }
        assert_eq!("8080:80/tcp".parse::<Publish>().unwrap().to_string(), "8080:80");
        for text in ["80", "a:80", "80:0", "0:80", "80:80/sctp", "1.2.3.4:80", "8000-8010:80", ""] {
            assert!(text.parse::<Publish>().is_err(), "{text}");
        }
    }
}
