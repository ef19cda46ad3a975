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
use tokio::time::Instant;
use tonic::Status;

use super::{
    super::{Services, store_failed},
    question::{Question, Unanswered},
};
use crate::{
    clock,
    store::{Host, SecretPin, StoreError},
};

/// Images looked up at the same time.
const AT_ONCE: usize = 8;
/// Hosts asked for one image, while they cannot say.
const HOSTS: usize = 3;
/// For a registry to answer.
const TTL_MS: u64 = 15_000;
/// The first protocol that knows the question.
const SINCE: u32 = 3;
/// An agent that has just gone away is most likely being started again, as all of them seem to be after the coordinator was.
const BACK_WITHIN_MS: i64 = 10_000;
/// From one look for it to the next.
const LOOKS: Duration = Duration::from_millis(200);
/// How often it is tried while hosts go away before they have answered.
const ROUNDS: usize = 2;

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
    let mut why = "none of its hosts is connected".to_owned();
    for _ in 0..ROUNDS {
        let mut has_gone = false;
        // Another host may reach the registry where one does not.
        for host in able(services, hosts).await {
            match ask(services, host, job.clone()).await {
                Ok(digest) => return Ok(digest),
                Err(unanswered) => {
                    has_gone |= matches!(unanswered, Unanswered::Away | Unanswered::Anew);
                    why = format!("{} (asked by {})", words(unanswered), host.name);
                }
            }
        }
        if !has_gone {
            break;
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

/// Hosts that can be asked. Where there is none, but one has just gone away, it is waited for.
async fn able<'a>(services: &Services, hosts: &'a [Host]) -> Vec<&'a Host> {
    let sessions = &services.sessions;
    let speaks = |host: &&Host| sessions.protocol(&host.id).is_some_and(|spoken| spoken >= SINCE);
    let just_now_ms = clock::unix_ms().saturating_sub(BACK_WITHIN_MS);
    let is_soon_back = |host: &Host| {
        host.last_seen_ms.is_some() && sessions.away_since(&host.id).is_some_and(|since| since > just_now_ms)
    };
    let until = Instant::now() + Duration::from_millis(BACK_WITHIN_MS.unsigned_abs());
    loop {
        let able: Vec<&Host> = hosts.iter().filter(speaks).take(HOSTS).collect();
        if !able.is_empty() || Instant::now() > until || !hosts.iter().any(is_soon_back) {
            return able;
        }
        tokio::time::sleep(LOOKS).await;
    }
}

/// What a host said.
async fn ask(services: &Services, host: &Host, job: ImageJob) -> Result<Digest, Unanswered> {
    let question = Question { job: job::Job::Image(job), ttl_ms: TTL_MS, since: SINCE };
    match question.ask(services, host).await? {
        Reply::ImageDigest(text) => text.parse().map_err(|_| Unanswered::Unreadable(format!("{text:?} is no digest"))),
        _ => Err(Unanswered::other()),
    }
}

/// Why there is no digest. What a host itself says needs no code beside it.
fn words(unanswered: Unanswered) -> String {
    match unanswered {
        Unanswered::Refused(error) => error.message,
        other => other.to_string(),
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
