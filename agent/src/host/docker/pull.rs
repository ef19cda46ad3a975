//! How images come: by digest, with progress, and given up when nothing comes any more. Part of `docker`.

use std::{collections::HashMap, time::Duration};

use bollard::{auth::DockerCredentials, models::CreateImageInfo, query_parameters::CreateImageOptionsBuilder};
use drover_proto::{image::ImageRef, secret::Secret};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::{DockerError, Engine, Result, plain};

/// Without a sign of progress.
const STALLED: Duration = Duration::from_secs(60);
/// For the whole of it.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// What a registry wants to know.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who.
    pub username: String,
    /// Password or token.
    pub password: Secret<String>,
}

impl Credentials {
    pub(super) fn for_registry(&self, image: &ImageRef) -> DockerCredentials {
        DockerCredentials {
            username: Some(self.username.clone()),
            password: Some(self.password.expose().clone()),
            serveraddress: Some(image.registry().to_owned()),
            ..DockerCredentials::default()
        }
    }
}

impl Engine {
    /// Fetches an image by its digest. The engine verifies what comes; what is here already is not fetched again.
    pub async fn pull(
        &self,
        image: &ImageRef,
        credentials: Option<&Credentials>,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<()> {
        let client = self.client()?;
        let options = CreateImageOptionsBuilder::new().from_image(&image.pullable()).build();
        let mut stream = client.create_image(Some(options), None, credentials.map(|c| c.for_registry(image)));
        let (mut progress, begun) = (Progress::default(), Instant::now());
        loop {
            let next = match tokio::time::timeout(STALLED, stream.next()).await {
                Ok(next) => next,
                Err(_) => return Err(DockerError::Silent(format!("nothing came for {} s", STALLED.as_secs()))),
            };
            let Some(info) = next else { break };
            if progress.take(info.map_err(plain)?) {
                say(progress.to_string());
            }
            if begun.elapsed() > LONGEST {
                return Err(DockerError::Silent(format!("not here after {} h", LONGEST.as_secs() / 3600)));
            }
        }
        match self.has_image(image).await? {
            true => Ok(()),
            false => Err(DockerError::Refused(format!("{image} is not here although it was fetched"))),
        }
    }
}

/// How far the layers of an image are.
#[derive(Default)]
struct Progress {
    layers: HashMap<String, (i64, i64)>,
    said: i64,
}

impl Progress {
    /// Whether there is something new to say: another twentieth.
    fn take(&mut self, info: CreateImageInfo) -> bool {
        let detail = info.progress_detail.unwrap_or_default();
        let downloading = info.status.as_deref() == Some("Downloading");
        if let (true, Some(id), Some(now), Some(all)) = (downloading, info.id, detail.current, detail.total) {
            self.layers.insert(id, (now, all));
        }
        let (now, all) = self.sums();
        let part = if all > 0 { now * 20 / all } else { 0 };
        std::mem::replace(&mut self.said, part) != part
    }

    fn sums(&self) -> (i64, i64) {
        self.layers.values().fold((0, 0), |(now, all), (n, a)| (now + n, all + a))
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: i64| bytes as f64 / 1_048_576.0;
        let (now, all) = self.sums();
        write!(f, "{:.1} of {:.1} MiB", mib(now), mib(all))
    }
}
