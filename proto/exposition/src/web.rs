//! Who may read the metrics, and over what: passwords and certificates, in the web configuration of Prometheus' own exporters. Its
//! files are read again when they change; while they cannot be understood nobody reads anything. `serve` asks for each connection
//! and each request; `tls` is the half with certificates.

mod tls;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bcrypt::HashParts;
use drover_proto::digest::Digest;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use rustls::ServerConfig;
use tokio::sync::Semaphore;

use crate::{
    bounded::read_bounded,
    yaml::{self, Yaml},
};

/// A password is tried in a tenth of a second with 10, in two with 14.
const MAX_COST: u32 = 14;
const MIN_COST: u32 = 4;
/// Of a bcrypt hash what comes behind its cost: salt and hash.
const SALT_AND_HASH: usize = 53;
/// What could not be understood is read again after this, as if it had changed: it may have been the disk's fault.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// Headers that answers may carry, as the exporters have it.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

/// What the configuration says.
#[derive(Default)]
pub struct Access {
    /// `None`: anybody may listen in.
    pub tls: Option<Arc<ServerConfig>>,
    /// For every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// By name, the bcrypt hash of the password; empty: no password is asked for.
    users: BTreeMap<String, String>,
    /// The one that takes longest, tried in the place of a user who does not exist.
    costliest: String,
}

impl Access {
    /// Whether connections of both are made alike: what is asked for when one is made, is asked for no more on it.
    #[must_use]
    pub fn has_the_same_tls(&self, other: &Self) -> bool {
        match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(one), Some(another)) => Arc::ptr_eq(one, another),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

/// Watches over the configuration; clones share what was read.
#[derive(Clone)]
pub struct Web {
    path: Option<PathBuf>,
    held: Arc<Mutex<Option<Held>>>,
    /// By user the digest of name, password and hash that was right last.
    right: Arc<Mutex<BTreeMap<String, Digest>>>,
    /// One at a time: trying a password is work.
    trying: Arc<Semaphore>,
}

struct Held {
    /// The files that it was read from, and how they were then.
    files: Stamps,
    access: Result<Arc<Access>, String>,
    at: Instant,
}

/// When it was changed, which nobody can set, size and inode: another file, or the same with other content.
type Stamp = (i64, i64, u64, u64);
/// Files, and how they were before they were read.
type Stamps = Vec<(PathBuf, Option<Stamp>)>;

fn stamp(path: &Path) -> Option<Stamp> {
    let seen = fs::metadata(path).ok()?;
    Some((seen.ctime(), seen.ctime_nsec(), seen.size(), seen.ino()))
}

impl Web {
    /// `None`: no configuration; everybody who reaches the port reads.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, held: Arc::default(), right: Arc::default(), trying: Arc::new(Semaphore::new(1)) }
    }

    /// What holds now; or why nobody may read.
    pub fn now(&self) -> Result<Arc<Access>, String> {
        let Some(path) = &self.path else { return Ok(Arc::default()) };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_as_read = |held: &Held| held.files.iter().all(|(path, was)| stamp(path) == *was);
        let is_good_for = |held: &Held| held.access.is_ok() || held.at.elapsed() < READ_AGAIN;
        if let Some(held) = held.as_ref().filter(|held| is_as_read(held) && is_good_for(held)) {
            return held.access.clone();
        }
        let mut files = vec![(path.clone(), stamp(path))];
        let access = read(path, &mut files).map(Arc::new).map_err(|why| format!("{}: {why}", path.display()));
        let is_news = held.as_ref().is_none_or(|held| held.access.as_ref().err() != access.as_ref().err());
        match &access {
            Ok(_) => tracing::info!(path = %path.display(), "the metrics are served as this file says"),
            Err(why) if is_news => tracing::error!("{why}: until that is mended nobody reads the metrics"),
            Err(_) => {}
        }
        *held = Some(Held { files, access: access.clone(), at: Instant::now() });
        access
    }

    /// Whether this request comes from somebody who may read.
    pub async fn allows(&self, access: &Access, headers: &HeaderMap) -> bool {
        if access.users.is_empty() {
            return true;
        }
        let Some((user, password)) = credentials(headers) else { return false };
        let Some(hash) = access.users.get(&user).cloned() else {
            // Whoever guesses names learns nothing from how long it takes, where all hashes cost alike.
            self.is_right(None, password, access.costliest.clone()).await;
            return false;
        };
        let key = Digest::of(format!("{user}\0{password}\0{hash}").as_bytes());
        let is_known = self.right.lock().unwrap_or_else(PoisonError::into_inner).get(&user) == Some(&key);
        is_known || self.is_right(Some((user, key)), password, hash).await
    }

    /// Tries a password. `known`: noted, if it is right.
    async fn is_right(&self, known: Option<(String, Digest)>, password: String, hash: String) -> bool {
        let Ok(place) = self.trying.clone().acquire_owned().await else { return false };
        let right = self.right.clone();
        // Whoever goes away meanwhile leaves the work, and the place that it takes, and the outcome.
        let trying = move || {
            let _place = place;
            let is_right = bcrypt::verify(password, &hash).unwrap_or(false);
            if let Some((user, key)) = known.filter(|_| is_right) {
                right.lock().unwrap_or_else(PoisonError::into_inner).insert(user, key);
            }
            is_right
        };
        tokio::task::spawn_blocking(trying).await.unwrap_or(false)
    }
}

/// `Authorization: Basic …`
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| BASE64.decode(encoded.trim()).ok()).flatten()?;
    let (user, password) =
        String::from_utf8(decoded).ok()?.split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned()))?;
    Some((user, password))
}

/// `files`: what is read for it beside the file itself.
fn read(path: &Path, files: &mut Stamps) -> Result<Access, String> {
    let text = text(path)?;
    let document = yaml::parse(&text)?;
    let mut access = Access::default();
    for (key, value) in fields(&document, "the file")? {
        match key.as_str() {
            "tls_server_config" => access.tls = tls::read(value, path.parent().unwrap_or(Path::new("/")), files)?,
            "http_server_config" => access.headers = answer_headers(value)?,
            "basic_auth_users" => (access.users, access.costliest) = users(value)?,
            other => {
                return Err(format!(
                    "there is no {other}; tls_server_config, http_server_config and basic_auth_users are"
                ));
            }
        }
    }
    Ok(access)
}

/// What is no map, or says something twice, is not understood: it must not be taken for one that asks nothing of anybody.
fn fields<'y>(value: &'y Yaml, what: &str) -> Result<&'y [(String, Yaml)], String> {
    let Yaml::Map(entries) = value else { return Err(format!("{what}: is no map of settings")) };
    let mut seen = BTreeSet::new();
    match entries.iter().find(|(key, _)| !seen.insert(key)) {
        Some((key, _)) => Err(format!("{what}: {key} is there twice")),
        None => Ok(entries),
    }
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = read_bounded(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is no text".to_owned())
}

/// All of them, and the hash that takes longest.
fn users(value: &Yaml) -> Result<(BTreeMap<String, String>, String), String> {
    let mut users = BTreeMap::new();
    let mut costliest = (0, String::new());
    for (user, hash) in fields(value, "basic_auth_users")? {
        let hash = hash.text();
        if user.is_empty() || user.contains(':') {
            return Err(format!("basic_auth_users: {user:?} cannot be a user: empty, or with a colon"));
        }
        let cost = cost(hash)
            .ok_or_else(|| format!("basic_auth_users.{user}: is no bcrypt hash; `htpasswd -nBC 10 \"\"` makes one"))?;
        if !(MIN_COST..=MAX_COST).contains(&cost) {
            return Err(format!("basic_auth_users.{user}: its cost is {cost}, from {MIN_COST} to {MAX_COST} is tried"));
        }
        if cost > costliest.0 {
            costliest = (cost, hash.to_owned());
        }
        users.insert(user.clone(), hash.to_owned());
    }
    // An empty map would let everybody in.
    if users.is_empty() { Err("basic_auth_users: names nobody".to_owned()) } else { Ok((users, costliest.1)) }
}

/// `None`: no password could be tried against it.
fn cost(hash: &str) -> Option<u32> {
    let parts: HashParts = hash.parse().ok()?;
    let rest = hash.get(hash.len().checked_sub(SALT_AND_HASH)?..)?;
    bcrypt::verify("", &format!("$2b$04${rest}")).ok()?;
    Some(parts.get_cost())
}

fn answer_headers(value: &Yaml) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (key, value) in fields(value, "http_server_config")? {
        match key.as_str() {
            // HTTP/1.1 is spoken either way.
            "http2" => {}
            "headers" => {
                for (name, value) in fields(value, "http_server_config.headers")? {
                    let known = HEADERS.iter().find(|known| known.eq_ignore_ascii_case(name));
                    let known = known.ok_or_else(|| {
                        format!("http_server_config.headers.{name}: only {} can be set", HEADERS.join(", "))
                    })?;
                    let name = HeaderName::from_bytes(known.as_bytes()).map_err(|error| error.to_string())?;
                    let value = HeaderValue::from_str(value.text())
                        .map_err(|_| format!("http_server_config.headers.{known}: cannot be the value of a header"))?;
                    headers.push((name, value));
                }
            }
            other => return Err(format!("http_server_config: there is no {other}; http2 and headers are")),
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
