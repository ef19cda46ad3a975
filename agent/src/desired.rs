//! The desired state of this host: accepted from `link`, kept on disk, published to `reconcile`.
//!
//! Generations fence staleness; a spec is on disk before anybody acts on it, so that a host without its coordinator
//! goes on with what it was told last.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use drover_proto::{
    digest::Digest,
    limits,
    name::{AbsPath, AppName, Generation, HostId, UnitName},
    spec::{DesiredApp, HostSpec},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::host::files;

/// What became of a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Kept and published.
    Accepted,
    /// The very document that is held.
    Duplicate,
    /// Of an older generation than the one held.
    Stale,
    /// Of the held generation, but with other content.
    Conflict,
    /// Not for this host, not readable, or it breaks a rule.
    Invalid,
    /// Nothing is wrong with it, but it could not be kept on disk; it may be offered again.
    Unkept,
}

/// The answer to a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The generation that is held now.
    pub generation: Generation,
    /// What became of the document.
    pub outcome: Outcome,
    /// One sentence.
    pub message: String,
}

/// The file could not be read or set aside.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the desired state {path}")]
pub struct DesiredError {
    /// Which file.
    pub path: PathBuf,
    #[source]
    source: io::Error,
}

/// Holds the newest accepted host spec.
#[derive(Clone)]
pub struct Desired(Arc<Inner>);

struct Inner {
    path: PathBuf,
    set_aside: Option<String>,
    held: Mutex<Option<Held>>,
    publish: watch::Sender<Option<Arc<HostSpec>>>,
}

/// What the newest accepted document is.
struct Held {
    host: HostId,
    generation: Generation,
    digest: Digest,
}

impl Held {
    fn of(spec: &HostSpec, digest: Digest) -> Self {
        Self { host: spec.host.clone(), generation: spec.generation, digest }
    }
}

/// A spec with apps that it keeps, as it is on disk: with what is kept put in, beside the digest of what was sent. Every
/// other spec is on disk as the very bytes that were sent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Merged {
    digest: Digest,
    spec: HostSpec,
}

impl Desired {
    /// Reads `desired.json` in `state_dir`. One that is damaged, or of a host whose id is not among `ids` (empty: any is
    /// taken), is put aside; then the host holds nothing, changes nothing, and takes the next spec that comes.
    pub fn open(state_dir: &Path, ids: &[HostId]) -> Result<Self, DesiredError> {
        let path = state_dir.join("desired.json");
        let failed = |source| DesiredError { path: path.clone(), source };
        let (held, spec, set_aside) = match fs::read(&path) {
            Ok(bytes) => match read_kept(&bytes, ids) {
                Ok((spec, digest)) => (Some(Held::of(&spec, digest)), Some(Arc::new(spec)), None),
                Err(why) => {
                    let aside = files::set_aside(&path).map_err(failed)?;
                    let said = format!(
                        "the desired state on disk was not this host's or was damaged ({why}); it lies in {} now, and nothing \
                         changes here until the coordinator sends it again",
                        aside.display()
                    );
                    (None, None, Some(said))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None, None),
            Err(error) => return Err(failed(error)),
        };
        let (publish, _) = watch::channel(spec);
        Ok(Self(Arc::new(Inner { path, set_aside, held: Mutex::new(held), publish })))
    }

    /// What was wrong with the file that `open` found, and where it lies now.
    #[must_use]
    pub fn set_aside(&self) -> Option<&str> {
        self.0.set_aside.as_deref()
    }

    /// Judges a document for the host with the id `host`; keeps it on disk before it publishes it.
    ///
    /// Generations count within one host id. A host that was enrolled anew still holds the spec of the id it had, and
    /// goes on with it until a spec for the new id is accepted, whatever that one's generation. Apps that only the old
    /// spec had are removed then, as ever, because a spec that was explicitly accepted lacks them: being enrolled anew
    /// removes nothing.
    pub fn accept(&self, document: &[u8], host: &HostId) -> Accepted {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let fence = held.as_ref().filter(|held| held.host == *host);
        let (generation, digest) = fence.map_or((0, None), |held| (held.generation, Some(held.digest)));
        let answer = |outcome, message: String| Accepted { generation, outcome, message };
        let spec = match read(document) {
            Ok(spec) => spec,
            Err(why) => return answer(Outcome::Invalid, why),
        };
        if spec.host != *host {
            return answer(Outcome::Invalid, format!("the spec is for host {}, this is {host}", spec.host));
        }
        if spec.generation < generation {
            let message = format!("generation {} is older than {generation}, which this host holds", spec.generation);
            return answer(Outcome::Stale, message);
        }
        let offered = Digest::of(document);
        if spec.generation == generation && digest.is_some() {
            return match digest == Some(offered) {
                true => answer(Outcome::Duplicate, format!("generation {generation} is held already")),
                false => answer(Outcome::Conflict, format!("generation {generation} is held with other content")),
            };
        }
        let (spec, on_disk) = match self.with_kept(spec, document, fence.is_some()) {
            Ok(merged) => merged,
            Err(why) => return answer(Outcome::Invalid, why),
        };
        if let Err(error) = files::write_private(&self.0.path, &on_disk) {
            return answer(Outcome::Unkept, format!("cannot keep it: {error}"));
        }
        *held = Some(Held::of(&spec, offered));
        let generation = spec.generation;
        self.0.publish.send_replace(Some(Arc::new(spec)));
        Accepted { generation, outcome: Outcome::Accepted, message: format!("generation {generation} accepted") }
    }

    /// Puts in what is held of the apps that stay as they are, and says how the whole goes to the disk.
    fn with_kept(&self, mut spec: HostSpec, document: &[u8], same_host: bool) -> Result<(HostSpec, Vec<u8>), String> {
        if spec.keep.is_empty() {
            return Ok((spec, document.to_vec()));
        }
        let held = self.0.publish.borrow().clone().filter(|_| same_host);
        for app in &spec.keep {
            if let Some(kept) = held.as_ref().and_then(|held| held.apps.get(app)) {
                // Whoever paused it is as unknown as the rest: nobody would ever let it go on.
                spec.apps.insert(app.clone(), DesiredApp { paused: false, ..kept.clone() });
            }
        }
        check(&spec)?;
        let merged = Merged { digest: Digest::of(document), spec };
        let bytes = serde_json::to_vec(&merged).map_err(|error| format!("the spec cannot be written: {error}"))?;
        Ok((merged.spec, bytes))
    }

    /// The newest accepted spec, and every one after it.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<HostSpec>>> {
        self.0.publish.subscribe()
    }

    /// Generation and digest of what is held for the host id `host`; (0, `None`) = nothing.
    #[must_use]
    pub fn held(&self, host: &HostId) -> (Generation, Option<Digest>) {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let fence = held.as_ref().filter(|held| held.host == *host);
        fence.map_or((0, None), |held| (held.generation, Some(held.digest)))
    }
}

/// Reads what is on disk: the spec, and the digest of the document that it came as.
fn read_kept(bytes: &[u8], ids: &[HostId]) -> Result<(HostSpec, Digest), String> {
    let (spec, digest) = match serde_json::from_slice::<Merged>(bytes) {
        Ok(merged) => {
            check(&merged.spec)?;
            (merged.spec, merged.digest)
        }
        Err(_) => (read(bytes)?, Digest::of(bytes)),
    };
    if !ids.is_empty() && !ids.contains(&spec.host) {
        return Err(format!("it is of host {}", spec.host));
    }
    Ok((spec, digest))
}

/// Whose spec lies in `state_dir`, if it is one.
#[must_use]
pub fn host_on_disk(state_dir: &Path) -> Option<HostId> {
    let bytes = fs::read(state_dir.join("desired.json")).ok()?;
    Some(read_kept(&bytes, &[]).ok()?.0.host)
}

/// Reads a document and checks every rule; the error is one sentence without secrets.
fn read(document: &[u8]) -> Result<HostSpec, String> {
    if document.len() > limits::MAX_MESSAGE_BYTES {
        return Err(format!("the spec has more than {} MiB", limits::MAX_MESSAGE_BYTES >> 20));
    }
    let spec: HostSpec =
        serde_json::from_slice(document).map_err(|error| format!("the spec cannot be read: {error}"))?;
    if spec.generation == 0 {
        return Err("generation 0 means no spec".to_owned());
    }
    check(&spec)?;
    if let Some(app) = spec.keep.iter().find(|app| spec.apps.contains_key(*app)) {
        return Err(format!("app {app} is to be changed and to be kept"));
    }
    Ok(spec)
}

fn check(spec: &HostSpec) -> Result<(), String> {
    let mut units: BTreeMap<&UnitName, &AppName> = BTreeMap::new();
    let mut paths: BTreeMap<&AbsPath, &AppName> = BTreeMap::new();
    for (name, app) in &spec.apps {
        if app.spec.app != *name || app.release.app != *name {
            return Err(format!("app {name} holds the release of another app"));
        }
        if let Some(error) = app.spec.check().first() {
            return Err(format!("app {name}: {error}"));
        }
        if let Some(secret) = app.spec.secrets.keys().find(|secret| !app.secrets.contains_key(*secret)) {
            return Err(format!("app {name}: the value of secret {secret} is missing"));
        }
        let large = app.secrets.iter().find(|(_, value)| value.expose().len() > limits::MAX_SECRET_BYTES);
        if let Some((secret, _)) = large {
            return Err(format!("app {name}: secret {secret} is larger than {} KiB", limits::MAX_SECRET_BYTES >> 10));
        }
        for unit in app.spec.units.keys() {
            if let Some(other) = units.insert(unit, name) {
                return Err(format!("unit {unit} is claimed by both {other} and {name}"));
            }
        }
        for file in &app.spec.files {
            if let Some(other) = paths.insert(&file.path, name) {
                return Err(format!("{} is claimed by both {other} and {name}", file.path));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
