//! What the tags of an app's images mean just now: asked when a release is made, so that every host of it runs the same, now
//! and when it goes back. A host's engine is asked, since what hosts reach is what counts. Called by `plan`.

use std::collections::BTreeMap;

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

use super::{
    super::{Services, store_failed},
    question::{Question, Unanswered},
};
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
    let job = ImageJob { image: image.to_string(), username, password: password.clone() };
    let able = hosts.iter().filter(|host| services.sessions.protocol(&host.id).is_some_and(|spoken| spoken >= SINCE));
    // Another host may reach the registry where one does not.
    let mut why = "none of its hosts is connected".to_owned();
    for host in able.take(HOSTS) {
        match ask(services, host, job.clone()).await {
            Ok(digest) => return Ok(digest),
            Err(message) => why = format!("{message} (asked by {})", host.name),
        }
    }
    let why = if password.is_empty() { why } else { why.replace(&password, "[secret]") };
    let message = format!(
        "image {image} cannot be looked up: {why}; name it by its digest ({}@sha256:…), or see to it that a \
         host with these labels is connected and has Docker",
        image.repository
    );
    Err(code::status(Code::Image, message))
}

/// What a host said; why it said no, or nothing.
async fn ask(services: &Services, host: &Host, job: ImageJob) -> Result<Digest, String> {
    let question = Question { job: job::Job::Image(job), ttl_ms: TTL_MS, since: SINCE };
    match question.ask(services, host).await {
        Ok(Reply::ImageDigest(text)) => text.parse().map_err(|_| format!("it answered {text:?}, which is no digest")),
        Ok(_) => Err(Unanswered::other().to_string()),
        Err(Unanswered::Refused(error)) => Err(error.message),
        Err(why) => Err(why.to_string()),
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
