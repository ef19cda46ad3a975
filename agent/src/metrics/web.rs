//! Who may read the metrics, and over what: passwords and certificates, in the web configuration of Prometheus' own exporters. Its
//! files are read again when they change; while they cannot be understood nobody reads anything. `serve` asks for each connection
//! and each request; `tls` is the half with certificates.

mod tls;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bcrypt::HashParts;
use drover_proto::digest::Digest;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use rustls::ServerConfig;
use tokio::sync::Semaphore;

use crate::host::{
    bounded::read_bounded,
    yaml::{self, Yaml},
};

/// A password is tried in a tenth of a second with 10, in two with 14.
const MAX_COST: u32 = 14;
/// Passwords whose outcome is remembered.
const MAX_TRIED: usize = 64;
/// Tried in the place of a user who does not exist, so that both take as long. Of no password that anybody has.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuLDIjDVFlKRvxdEoIPNIpJTJSgGYkKMe";
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
}

/// Watches over the configuration.
pub struct Web {
    path: Option<PathBuf>,
    held: Mutex<Option<Held>>,
    /// By a digest of user, password and hash: whether it is right.
    tried: Mutex<BTreeMap<Digest, bool>>,
    /// One at a time: trying a password is work.
    trying: Semaphore,
}

struct Held {
    /// The files that it was read from, and how they were then.
    files: Vec<(PathBuf, Option<Stamp>)>,
    access: Result<Arc<Access>, String>,
}

/// Times, size and inode: another file, or the same with other content.
type Stamp = (i64, i64, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let seen = fs::metadata(path).ok()?;
    Some((seen.mtime(), seen.mtime_nsec(), seen.size(), seen.ino()))
}

impl Web {
    /// `None`: no configuration; everybody who reaches the port reads.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, held: Mutex::default(), tried: Mutex::default(), trying: Semaphore::new(1) }
    }

    /// What holds now; or why nobody may read.
    pub fn now(&self) -> Result<Arc<Access>, String> {
        let Some(path) = &self.path else { return Ok(Arc::default()) };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_as_read = |held: &Held| held.files.iter().all(|(path, was)| stamp(path) == *was);
        if let Some(held) = held.as_ref().filter(|held| is_as_read(held)) {
            return held.access.clone();
        }
        let mut files = vec![path.clone()];
        let before = stamp(path);
        let access = read(path, &mut files).map(Arc::new).map_err(|why| format!("{}: {why}", path.display()));
        match &access {
            Ok(_) => tracing::info!(path = %path.display(), "the metrics are served as this file says"),
            Err(why) => tracing::error!("{why}: until that is mended nobody reads the metrics"),
        }
        // What has changed while it was read is read again.
        let stamps =
            files.into_iter().map(|file| if file == *path { (file, before) } else { (file.clone(), stamp(&file)) });
        *held = Some(Held { files: stamps.collect(), access: access.clone() });
        access
    }

    /// Whether this request comes from somebody who may read.
    pub async fn allows(&self, access: &Access, headers: &HeaderMap) -> bool {
        if access.users.is_empty() {
            return true;
        }
        let Some((user, password)) = credentials(headers) else { return false };
        let (is_known, hash) = match access.users.get(&user) {
            Some(hash) => (true, hash.clone()),
            None => (false, NOBODY.to_owned()),
        };
        let key = Digest::of(format!("{user}\0{password}\0{hash}").as_bytes());
        let tried = |key: &Digest| self.tried.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        if let Some(is_right) = tried(&key) {
            return is_known && is_right;
        }
        let Ok(_place) = self.trying.acquire().await else { return false };
        let tried_meanwhile = tried(&key);
        let is_right = match tried_meanwhile {
            Some(is_right) => is_right,
            None => {
                let trying = move || bcrypt::verify(password, &hash).unwrap_or(false);
                tokio::task::spawn_blocking(trying).await.unwrap_or(false)
            }
        };
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if tried.len() >= MAX_TRIED {
            tried.clear();
        }
        tried.insert(key, is_right);
        is_known && is_right
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

/// `files`: what was read for it beside the file itself.
fn read(path: &Path, files: &mut Vec<PathBuf>) -> Result<Access, String> {
    let text = text(path)?;
    let document = yaml::parse(&text)?;
    let mut access = Access::default();
    for (key, value) in document.entries() {
        match key.as_str() {
            "tls_server_config" => access.tls = tls::read(value, path.parent().unwrap_or(Path::new("/")), files)?,
            "http_server_config" => access.headers = answer_headers(value)?,
            "basic_auth_users" => access.users = users(value)?,
            other => {
                return Err(format!(
                    "there is no {other}; tls_server_config, http_server_config and basic_auth_users are"
                ));
            }
        }
    }
    Ok(access)
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = read_bounded(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is no text".to_owned())
}

fn users(value: &Yaml) -> Result<BTreeMap<String, String>, String> {
    let mut users = BTreeMap::new();
    for (user, hash) in value.entries() {
        let parts: HashParts = hash
            .text()
            .parse()
            .map_err(|_| format!("basic_auth_users.{user}: is no bcrypt hash; `htpasswd -nBC 10 \"\"` makes one"))?;
        if parts.get_cost() > MAX_COST {
            return Err(format!(
                "basic_auth_users.{user}: its cost is {}, at most {MAX_COST} is tried",
                parts.get_cost()
            ));
        }
        if user.is_empty() || user.contains(':') {
            return Err(format!("basic_auth_users: {user:?} cannot be a user: empty, or with a colon"));
        }
        users.insert(user.clone(), hash.text().to_owned());
    }
    // An empty map would let everybody in.
    if users.is_empty() { Err("basic_auth_users: names nobody".to_owned()) } else { Ok(users) }
}

fn answer_headers(value: &Yaml) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (key, value) in value.entries() {
        match key.as_str() {
            // HTTP/1.1 is spoken either way.
            "http2" => {}
            "headers" => {
                for (name, value) in value.entries() {
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
