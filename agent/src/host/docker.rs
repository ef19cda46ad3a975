//! The Docker engine, over its socket. Every wait has an end: a dead dockerd or a registry that hangs is an error, not a
//! silence. `observe` looks, `exec/containers` changes, `gate` judges; `state` says what was seen, `create` what the engine
//! is told, `pull` how images come; `made` how a container was made that is not drover's, and `aside` where it stands when
//! drover made another in its place.

use std::{collections::HashMap, time::Duration};

use bollard::{
    Docker,
    errors::Error,
    query_parameters::{
        KillContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder,
        RestartContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use drover_proto::{
    app::Signal,
    digest::Digest,
    image::ImageRef,
    name::{AppName, ContainerName, NetworkName},
};
use futures_util::StreamExt;

pub use adopted::Adoptions;
pub use aside::aside_of;
pub use cache::HeldCache;
pub use events::Whose;
pub use held::{HeldContainer, HeldImage};
pub use made::{Made, Odd, Shape, Source};
pub use project::{Member, Origin, of_service};
pub use pull::Credentials;
pub use running::RunningContainer;
pub use state::{ContainerState, Health};

use super::process::printable;
use crate::{ledger::AdoptedContainer, policy::Places, render::RenderedContainer};

mod adopted;
mod aside;
mod cache;
mod create;
mod events;
mod held;
mod logs;
mod made;
#[cfg(test)]
pub(crate) use made::tests as made_tests;
mod project;
mod pull;
mod running;
mod state;

/// Where every engine of Debian and Ubuntu listens.
const SOCKET: &str = "/var/run/docker.sock";
/// For an answer that the engine has at hand.
const ANSWER: Duration = Duration::from_secs(20);
/// For the engine to make, start or remove something; a busy disk takes its time.
const WORK: Duration = Duration::from_secs(120);
/// Between the signal's end and the engine's own kill.
const STOP_SLACK: Duration = Duration::from_secs(30);

/// Of what the engine says about a failure, in characters.
const MAX_WORDS: usize = 500;

/// What of a container says whose it is.
pub const APP_LABEL: &str = "io.drover.app";
/// What of a container says what it was made of.
pub const FINGERPRINT_LABEL: &str = "io.drover.fingerprint";
/// A container that is being made, before it takes its name.
const NEXT: &str = ".drover-next";
/// A container of somebody else in whose place drover made another.
const BEFORE: &str = ".drover-before";

/// The engine did not do it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DockerError {
    /// There is no engine on this host.
    #[error("there is no Docker engine on this host ({SOCKET} is missing)")]
    Absent,
    /// It is there and does not answer.
    #[error("the Docker engine does not answer: {0}")]
    Silent(String),
    /// It answered no.
    #[error("Docker: {0}")]
    Refused(String),
    /// What was asked for is not there.
    #[error("Docker: {0}")]
    NotFound(String),
}

type Result<T> = std::result::Result<T, DockerError>;

/// The engine of this host. Cheap: it is connected when it is asked.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    adoptions: Adoptions,
}

impl Engine {
    /// Which containers that drover has not made are an app's: for the ledgers to tell.
    #[must_use]
    pub fn adoptions(&self) -> Adoptions {
        self.adoptions.clone()
    }

    /// Asked anew each time, so that an engine that comes, goes or is restarted is seen as it is.
    fn client(&self) -> Result<Docker> {
        if !std::path::Path::new(SOCKET).exists() {
            return Err(DockerError::Absent);
        }
        // Longer than all that is waited for here: each call has its own end.
        let client = Docker::connect_with_unix(SOCKET, 24 * 3600, bollard::API_DEFAULT_VERSION).map_err(plain)?;
        // The engine reads credentials in the alphabet of URLs and takes others, silently, for none.
        Ok(client.with_request_modifier(|mut request| {
            const AUTH: &str = "x-registry-auth";
            let text = request.headers().get(AUTH).and_then(|value| value.to_str().ok());
            let fixed = text.and_then(|text| text.replace('+', "-").replace('/', "_").parse().ok());
            if let Some(fixed) = fixed {
                request.headers_mut().insert(AUTH, fixed);
            }
            request
        }))
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<()> {
        let client = self.client()?;
        within(ANSWER, client.ping()).await.map(drop)
    }

    /// A container as it is; `None` = there is none of that name.
    pub async fn container(&self, name: &ContainerName) -> Result<Option<ContainerState>> {
        self.inspect(&self.client()?, name.as_str()).await
    }

    async fn inspect(&self, client: &Docker, name: &str) -> Result<Option<ContainerState>> {
        let seen = match within(ANSWER, client.inspect_container(name, None)).await {
            Ok(seen) => seen,
            Err(DockerError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        // The engine finds one by the beginning of its id, too: somebody else's.
        if seen.name.as_deref().map(|seen| seen.trim_start_matches('/')) != Some(name) {
            return Ok(None);
        }
        let mut state = ContainerState::from(seen);
        // An image that was removed from under its container has no digests any more.
        state.digests = match within(ANSWER, client.inspect_image(&state.image_id)).await {
            Ok(image) => state::digests(image.repo_digests.unwrap_or_default()),
            Err(DockerError::NotFound(_)) => Default::default(),
            Err(error) => return Err(error),
        };
        if state.app.is_none()
            && let Some((app, fingerprint)) = self.adoptions.of(&state.id)
        {
            (state.app, state.fingerprint, state.adopted) = (Some(app), Some(fingerprint), true);
        }
        Ok(Some(state))
    }

    /// Whether an image is here, by its digest.
    pub async fn has_image(&self, image: &ImageRef) -> Result<bool> {
        let client = self.client()?;
        match within(ANSWER, client.inspect_image(&image.pullable())).await {
            Ok(_) => Ok(true),
            Err(DockerError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a tag means in its registry just now.
    pub async fn resolve(&self, image: &ImageRef, credentials: Option<&Credentials>) -> Result<Digest> {
        let client = self.client()?;
        let credentials = credentials.map(|c| c.for_registry(image));
        let name = image.pullable();
        let seen = within(ANSWER, client.inspect_registry_image(&name, credentials)).await?;
        let digest = seen.descriptor.digest.unwrap_or_default();
        digest
            .parse()
            .map_err(|_| DockerError::Refused(format!("the registry says {digest:?} for the digest of {image}")))
    }

    /// Makes a container that is to run, and starts it in place of the one that has its name. Up to the moment in which
    /// that one is stopped, nothing that runs is touched. `before`: somebody else's, which stands aside.
    pub async fn run(
        &self,
        app: &AppName,
        name: &ContainerName,
        wanted: &RenderedContainer,
        places: &Places,
        before: Option<&AdoptedContainer>,
    ) -> Result<()> {
        let client = self.client()?;
        let next = format!("{name}{NEXT}");
        self.remove_own(&client, app, &next).await?;
        let old = self.inspect(&client, name.as_str()).await?;
        let may = |old: &ContainerState| {
            before.is_some_and(|before| before.id == old.id) || (old.app.as_ref() == Some(app) && !old.adopted)
        };
        if old.is_some_and(|old| !may(&old)) {
            return Err(DockerError::Refused(format!(
                "a container {name} has come that is not drover's; it is left alone"
            )));
        }
        let made = self.replace(&client, app, name, wanted, places, before).await;
        if made.is_err() {
            // What runs is another one, or none: the next attempt begins anew.
            self.remove_own(&client, app, &next).await.ok();
        }
        made
    }

    async fn replace(
        &self,
        client: &Docker,
        app: &AppName,
        name: &ContainerName,
        wanted: &RenderedContainer,
        places: &Places,
        before: Option<&AdoptedContainer>,
    ) -> Result<()> {
        let next = format!("{name}{NEXT}");
        let (options, body) = create::container(app, &next, wanted, places);
        within(WORK, client.create_container(Some(options), body)).await?;
        for network in wanted.spec.networks.iter().skip(1) {
            let request = create::connection(name, &next);
            within(WORK, client.connect_network(network.as_str(), request)).await?;
        }
        if let Some(before) = before {
            self.stand_aside(client, name, before).await?;
        }
        self.remove_own(client, app, name.as_str()).await?;
        let rename = RenameContainerOptionsBuilder::new().name(name.as_str()).build();
        within(WORK, client.rename_container(&next, rename)).await?;
        within(WORK, client.start_container(name.as_str(), None)).await
    }

    /// Starts one that is there.
    pub async fn start(&self, name: &ContainerName) -> Result<()> {
        let client = self.client()?;
        within(WORK, client.start_container(name.as_str(), None)).await
    }

    /// Stops one of the app's that is here, and starts it again.
    pub async fn restart(&self, container: &ContainerState) -> Result<()> {
        let client = self.client()?;
        let seconds = i32::try_from(container.stop_timeout.as_secs()).unwrap_or(i32::MAX);
        let options = RestartContainerOptionsBuilder::new().t(seconds).build();
        let call = client.restart_container(&container.id, Some(options));
        within(container.stop_timeout + STOP_SLACK + WORK, call).await
    }

    /// Sends a signal to the first process of a container.
    pub async fn signal(&self, container: &ContainerState, signal: Signal) -> Result<()> {
        let options = KillContainerOptionsBuilder::new().signal(signal.word()).build();
        within(ANSWER, self.client()?.kill_container(&container.id, Some(options))).await
    }

    /// Stops and removes one of the app's, and what was being made for it. Volumes stay, also those without a name; so does
    /// a container that somebody else has put under that name.
    pub async fn remove(&self, app: &AppName, name: &ContainerName) -> Result<()> {
        let client = self.client()?;
        self.remove_own(&client, app, &format!("{name}{NEXT}")).await?;
        self.remove_own(&client, app, name.as_str()).await
    }

    async fn remove_own(&self, client: &Docker, app: &AppName, name: &str) -> Result<()> {
        let own = |old: &ContainerState| old.app.as_ref() == Some(app) && !old.adopted;
        let Some(old) = self.inspect(client, name).await?.filter(own) else { return Ok(()) };
        stop(client, &old).await?;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(false).build();
        gone(within(WORK, client.remove_container(&old.id, Some(options))).await)
    }

    /// Whether there is a network of that name.
    pub async fn has_network(&self, network: &NetworkName) -> Result<bool> {
        let client = self.client()?;
        match within(ANSWER, client.inspect_network(network.as_str(), None)).await {
            // The engine finds one by the beginning of its id, too.
            Ok(seen) => Ok(seen.name.as_deref() == Some(network.as_str())),
            Err(DockerError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a network unless it is there.
    pub async fn make_network(&self, app: &AppName, network: &NetworkName) -> Result<()> {
        if self.has_network(network).await? {
            return Ok(());
        }
        let client = self.client()?;
        within(WORK, client.create_network(create::network(app, network))).await.map(drop)
    }

    /// The last lines of a container's output since a moment, oldest first.
    pub async fn tail(&self, name: &ContainerName, since_unix_s: i64, lines: usize) -> Result<Vec<String>> {
        let client = self.client()?;
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .since(i32::try_from(since_unix_s).unwrap_or(0))
            .tail(&lines.to_string())
            .build();
        let read = async {
            let mut stream = std::pin::pin!(client.logs(name.as_str(), Some(options)));
            let mut text = Vec::new();
            while let Some(piece) = stream.next().await {
                text.extend_from_slice(&piece?.into_bytes());
                // The cause is in the last words.
                let too_many = text.len().saturating_sub(lines * drover_proto::limits::MAX_EVIDENCE_LINE_BYTES);
                text.drain(..too_many);
            }
            Ok(text)
        };
        let text = within(ANSWER, read).await?;
        Ok(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(printable).collect())
    }
}

async fn stop(client: &Docker, container: &ContainerState) -> Result<()> {
    let seconds = i32::try_from(container.stop_timeout.as_secs()).unwrap_or(i32::MAX);
    let options = StopContainerOptionsBuilder::new().t(seconds).build();
    gone(within(container.stop_timeout + STOP_SLACK, client.stop_container(&container.id, Some(options))).await)
}

/// At most so long.
async fn within<T>(most: Duration, call: impl Future<Output = std::result::Result<T, Error>>) -> Result<T> {
    match tokio::time::timeout(most, call).await {
        Ok(done) => done.map_err(plain),
        Err(_) => Err(DockerError::Silent(format!("no answer for {} s", most.as_secs()))),
    }
}

/// In the engine's own words, on one line.
fn plain(error: Error) -> DockerError {
    // A registry's answer may be a whole page.
    let one_line = |text: String| -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_WORDS).collect()
    };
    match error {
        Error::DockerResponseServerError { status_code: 404, message } => DockerError::NotFound(one_line(message)),
        // A name that nothing has, and with which several ids begin.
        Error::DockerResponseServerError { message, .. } if message.contains("multiple IDs found") => {
            DockerError::NotFound(one_line(message))
        }
        // "Not modified": it is so already, and bollard takes it for success.
        Error::DockerResponseServerError { message, .. } => DockerError::Refused(one_line(message)),
        Error::DockerStreamError { error } => DockerError::Refused(one_line(error)),
        Error::SocketNotFoundError(_) => DockerError::Absent,
        other => DockerError::Silent(one_line(said(&other))),
    }
}

/// With all that is behind it.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if !text.contains(&cause.to_string()) {
            text.push_str(&format!(": {cause}"));
        }
        source = cause.source();
    }
    text
}

/// Missing is as good as removed.
fn gone(done: Result<()>) -> Result<()> {
    match done {
        Err(DockerError::NotFound(_)) => Ok(()),
        other => other,
    }
}

fn labels(app: &AppName) -> HashMap<String, String> {
    HashMap::from([(APP_LABEL.to_owned(), app.to_string())])
}
