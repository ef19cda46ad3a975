//! What a container was made of, the image's share included, in the words of a manifest: so that it can be compared with
//! what a release wants (`differ`), and written down as a manifest (`import`). Part of `docker`; only reads.
//!
//! What no manifest can say is in `odd`.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{ContainerInspectResponse, ImageConfig, ImageInspect};
use drover_proto::{
    app::{Healthcheck, Limits, Logging, Publish, Restart, Rights},
    name::ContainerName,
};

use super::{
    ANSWER, DockerError, Engine, Result,
    project::{HASH_LABEL, PROJECT_LABEL},
    within,
};
use crate::host::docker::ContainerState;

mod differ;
mod odd;
mod read;
#[cfg(test)]
pub(crate) mod tests;

/// A container as it was made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Made {
    /// As it is now.
    pub state: ContainerState,
    /// What its image was called when it was made.
    pub image: String,
    /// What the image is called in registries: `redis@sha256:…`.
    pub repo_digests: Vec<String>,
    /// All that it is made of.
    pub shape: Shape,
    /// What of that its image gives.
    pub gives: Gives,
    /// What a manifest cannot say.
    pub odd: Vec<Odd>,
    /// The compose project that it is of.
    pub project: Option<String>,
}

/// All that a container is made of, as far as a manifest can say it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    /// Its program.
    pub entrypoint: Vec<String>,
    /// And its arguments.
    pub command: Vec<String>,
    /// What it sees.
    pub env: BTreeMap<String, String>,
    /// Empty = root.
    pub user: String,
    /// Where it starts.
    pub working_dir: String,
    /// On the host.
    pub ports: BTreeSet<Publish>,
    /// By where it sees them.
    pub volumes: BTreeMap<String, Source>,
    /// Of its own kind.
    pub networks: BTreeSet<String>,
    /// What it may use.
    pub limits: Limits,
    /// What it may do.
    pub rights: Rights,
    /// When it ends.
    pub restart: Option<Restart>,
    /// `None` = none.
    pub healthcheck: Option<Healthcheck>,
    /// Where its output goes; `None` = wherever the engine says.
    pub logging: Option<Logging>,
    /// Asks it to end.
    pub stop_signal: String,
    /// In whole seconds.
    pub stop_grace_s: u64,
    /// Without those of drover and compose.
    pub labels: BTreeMap<String, String>,
}

/// What is mounted: a path of the host, or a volume's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Path or name.
    pub from: String,
    /// Not to be written.
    pub read_only: bool,
    /// A volume without a name of somebody's choice, in a place where the image wants one.
    pub anonymous: bool,
}

/// What an image gives to the containers that are made of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gives {
    /// Its program.
    pub entrypoint: Vec<String>,
    /// And its arguments.
    pub command: Vec<String>,
    /// What they see.
    pub env: BTreeMap<String, String>,
    /// Empty = root.
    pub user: String,
    /// Where they start.
    pub working_dir: String,
    /// `None` = none.
    pub healthcheck: Option<Healthcheck>,
    /// Empty = the engine's.
    pub stop_signal: String,
    /// All.
    pub labels: BTreeMap<String, String>,
    /// Where they get volumes of their own.
    pub volumes: BTreeSet<String>,
}

/// Something of a container that no manifest can say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Odd {
    /// As `docker run` or `docker inspect` call it.
    pub field: &'static str,
    /// What it is, and what would become of it; one sentence.
    pub what: String,
    /// Whether a container with it is another one than any manifest means: it may do, or shows, more than that says.
    pub counts: bool,
}

impl Engine {
    /// A container as it was made; `None` = there is none of that name.
    pub async fn made(&self, name: &ContainerName) -> Result<Option<Made>> {
        let client = self.client()?;
        let Some(state) = self.inspect(&client, name.as_str()).await? else { return Ok(None) };
        let seen = match within(ANSWER, client.inspect_container(&state.id, None)).await {
            Ok(seen) => seen,
            Err(DockerError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let image = match within(ANSWER, client.inspect_image(&state.image_id)).await {
            Ok(image) => image,
            Err(DockerError::NotFound(_)) => ImageInspect::default(),
            Err(error) => return Err(error),
        };
        Ok(Some(Made::of(state, seen, image)))
    }
}

impl Made {
    /// Pure: from what the engine says.
    pub(crate) fn of(state: ContainerState, seen: ContainerInspectResponse, image: ImageInspect) -> Self {
        let gives = Gives::from(image.config.unwrap_or_default());
        let mut odd = odd::of(&seen, &gives);
        let config = seen.config.as_ref();
        let label = |name: &str| config?.labels.as_ref()?.get(name).cloned();
        Self {
            image: config.and_then(|config| config.image.clone()).unwrap_or_default(),
            repo_digests: image.repo_digests.unwrap_or_default(),
            // An image that compose built names its project, too, but has no such hash.
            project: label(HASH_LABEL).and(label(PROJECT_LABEL)),
            shape: read::shape(seen, &gives, &mut odd),
            state,
            gives,
            odd,
        }
    }
}

impl From<ImageConfig> for Gives {
    fn from(config: ImageConfig) -> Self {
        Self {
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            env: read::env(config.env.unwrap_or_default()),
            user: config.user.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            healthcheck: config.healthcheck.and_then(|check| read::health(check, config.shell.as_deref())),
            stop_signal: config.stop_signal.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().filter(|(name, _)| read::is_foreign(name)).collect(),
            volumes: config.volumes.unwrap_or_default().into_iter().collect(),
        }
    }
}

/// Whether a manifest can say a variable of the environment.
#[must_use]
pub fn can_be_said(key: &str, value: &str) -> bool {
    key.parse::<drover_proto::name::EnvKey>().is_ok() && !value.chars().any(|c| c.is_control() && c != '\t')
}
