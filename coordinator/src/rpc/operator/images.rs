//! What the tags of an app's images mean just now: asked when a release is made, so that every host of it runs the same, now
//! and when it goes back. A host's engine is asked, since what hosts reach is what counts. Called by `plan`.

use std::{collections::BTreeMap, time::Duration};

use drover_proto::{
    app::{AppSpec, SecretSource},
    code::{self, Code},
    digest::Digest,
    image::ImageRef,
    source::Credentials,
    wire::{ImageJob, job, job_reply::Reply},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tonic::Status;

use super::super::{Services, store_failed};
use crate::store::{Host, SecretPin, StoreError};

/// Images looked up at the same time.
const AT_ONCE: usize = 8;
/// Hosts asked for one image, while they cannot say.
const HOSTS: usize = 3;
/// For a registry to answer.
const TTL_MS: u64 = 15_000;
/// The first protocol that knows the question.
const SINCE: u32 = 3;

/// Gives every image of a container its digest, or says which has none and why.
pub(super) async fn resolve(services: &Services, spec: &mut AppSpec, hosts: &[Host]) -> Result<(), Status> {
    let mut wanted: BTreeMap<ImageRef, Option<Credentials>> = BTreeMap::new();
    for container in spec.containers.values().filter(|container| container.image.digest.is_none()) {
        wanted.insert(container.image.clone(), container.credentials.clone());
    }
    let shared = &*spec;
    let found: BTreeMap<ImageRef, Digest> = stream::iter(wanted)
        .map(|(image, credentials)| async move {
            let digest = one(services, shared, &image, credentials.as_ref(), hosts).await?;
            Ok::<_, Status>((image, digest))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    for container in spec.containers.values_mut() {
        if let Some(digest) = found.get(&container.image) {
            container.image.digest = Some(*digest);
        }
    }
    Ok(())
}

async fn one(
    services: &Services,
    spec: &AppSpec,
    image: &ImageRef,
    credentials: Option<&Credentials>,
    hosts: &[Host],
) -> Result<Digest, Status> {
    let password = match credentials {
        Some(credentials) => value(services, spec, credentials).await?,
        None => String::new(),
    };
    let username = credentials.and_then(|credentials| credentials.username.clone()).unwrap_or_default();
    let job = ImageJob { image: image.to_string(), username, password };
    let able = hosts.iter().filter(|host| services.sessions.protocol(&host.id).is_some_and(|spoken| spoken >= SINCE));
    let mut why = "none of its hosts is connected".to_owned();
    for host in able.take(HOSTS) {
        match ask(services, host, job.clone()).await {
            Answer::Digest(digest) => return Ok(digest),
            Answer::No(message) => {
                let message = format!("image {image} cannot be looked up: {message} (asked by {})", host.name);
                return Err(code::status(Code::Image, message));
            }
            Answer::Unable(message) => why = format!("{}: {message}", host.name),
        }
    }
    let message = format!(
        "nobody can say what image {image} means just now: {why}; name it by its digest ({}@sha256:…), or see to it that a \
         host with these labels is connected and has Docker",
        image.repository
    );
    Err(code::status(Code::Image, message))
}

/// What a host said.
enum Answer {
    Digest(Digest),
    /// The registry says no; it will to others, too.
    No(String),
    /// This host cannot tell.
    Unable(String),
}

async fn ask(services: &Services, host: &Host, job: ImageJob) -> Answer {
    let mut answers = match services.sessions.ask(&host.id, job::Job::Image(job), TTL_MS) {
        Ok(answers) => answers,
        Err(error) => return Answer::Unable(error.to_string()),
    };
    let patience = Duration::from_millis(TTL_MS + 2_000);
    match tokio::time::timeout(patience, answers.next()).await {
        Err(_) => Answer::Unable("it did not answer in time".to_owned()),
        Ok(Some(Reply::ImageDigest(text))) => match text.parse() {
            Ok(digest) => Answer::Digest(digest),
            Err(_) => Answer::Unable(format!("it answered {text:?}, which is no digest")),
        },
        Ok(Some(Reply::Error(error))) if error.code == Code::Image.as_str() => Answer::No(error.message),
        Ok(Some(Reply::Error(error))) => Answer::Unable(error.message),
        Ok(Some(Reply::PlanJson(_) | Reply::LogLine(_) | Reply::Done(_)) | None) => {
            Answer::Unable("it went away, or answered something else".to_owned())
        }
    }
}

/// The newest value of the secret, which is the one that the release will pin.
async fn value(services: &Services, spec: &AppSpec, credentials: &Credentials) -> Result<String, Status> {
    let Some(SecretSource::Stored(name)) = spec.secrets.get(&credentials.secret) else {
        let message = format!("the password of a registry, {}, is a stored secret", credentials.secret);
        return Err(code::status(Code::Invalid, message));
    };
    let environment = spec.app.environment().map(String::from).unwrap_or_default();
    let newest = services.store.latest_secret(name, &environment).await.map_err(store_failed)?;
    let Some((environment, version)) = newest else {
        return Err(store_failed(StoreError::SecretMissing(vec![name.to_string()])));
    };
    let pin = SecretPin::Stored { name: name.clone(), environment, version };
    let value = services.store.secret_value(&spec.app, &credentials.secret, &pin).await.map_err(store_failed)?;
    Ok(value.expose().clone())
}
