//! What containers may do on this host, and where its checks may connect to: read from `/etc/drover/policy.toml`, which belongs to whoever owns the host, and
//! which no coordinator can change. `observe` reads it, `plan` and `exec` ask `refusals`.

use std::{collections::BTreeMap, io, path::Path};

use drover_proto::{
    app::{Namespace, Rights},
    name::AppName,
};
use serde::Deserialize;

use crate::render::{Layout, RenderedContainer};
pub use checks::Checks;
pub use compose::{of_project, places_of_project};

/// Where it lies.
pub const FILE: &str = "/etc/drover/policy.toml";
/// Who can speak to the engine can do everything.
const SOCKETS: [&str; 4] = ["/run/docker.sock", "/var/run/docker.sock", "/run/containerd", "/var/run/containerd"];
/// What Docker gives every container: adding it adds nothing.
const USUAL: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Log drivers that reach nothing else.
const OWN_LOGS: [&str; 4] = ["json-file", "local", "journald", "none"];

/// The whole file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Of containers.
    pub containers: Containers,
    /// Of checks.
    pub checks: Checks,
}

/// What containers may do.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Containers {
    /// Everything.
    pub privileged: bool,
    /// `network`, `pid`, `ipc`.
    pub host_namespaces: Vec<Namespace>,
    /// Beside Docker's own; `ALL` for all.
    pub capabilities: Vec<String>,
    /// Paths under `/dev`, or directories of them.
    pub devices: Vec<String>,
    /// Directories of the host that they may see, with all below.
    pub bind_sources: Vec<String>,
    /// The engine's socket, and with it the host.
    pub docker_socket: bool,
    /// Where output may go beside the engine's own files and the journal: dockerd opens what a driver's options say, as root.
    pub log_drivers: Vec<String>,
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            privileged: false,
            host_namespaces: Vec::new(),
            capabilities: Vec::new(),
            devices: Vec::new(),
            bind_sources: ["/srv", "/opt", "/data"].map(str::to_owned).to_vec(),
            docker_socket: false,
            log_drivers: Vec::new(),
        }
    }
}

/// Reads the policy; without a file it is the default one. `Err` says why nothing may be allowed.
pub fn read(path: &Path) -> Result<Policy, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Policy::default()),
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    let wrong = |why: String| format!("{}: {why}", path.display());
    let policy: Policy = toml::from_str(&text).map_err(|error| wrong(error.to_string().trim().replace('\n', " ")))?;
    let paths = policy.containers.devices.iter().chain(&policy.containers.bind_sources);
    match paths.into_iter().find(|path| !path.starts_with('/')) {
        Some(stray) => Err(wrong(format!("{stray:?} is no absolute path"))),
        None => Ok(policy),
    }
}

/// Where paths that containers shall see really lead, links followed; or why that cannot be said.
pub type Places = BTreeMap<String, Result<String, String>>;

/// Follows the paths of a container. What leads into drover's own directories is named by them, wherever those lead.
#[must_use]
pub fn places(container: &RenderedContainer, layout: &Layout) -> Places {
    container.binds().map(|(_, path)| (path.clone(), followed(&path, layout))).collect()
}

fn followed(path: &str, layout: &Layout) -> Result<String, String> {
    let real = std::fs::canonicalize(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "is not there; name it under host.directories".to_owned(),
        _ => format!("cannot be followed: {error}"),
    })?;
    let own = own(layout).into_iter().find_map(|own| {
        let rest = real.strip_prefix(std::fs::canonicalize(own).ok()?).ok()?;
        Some(own.join(rest))
    });
    let text = own.unwrap_or(real).into_os_string().into_string();
    text.map_err(|_| "leads to a name that is no text".to_owned())
}

/// Directories that no container sees: drover's, and the engine's, which are the host's.
fn own(layout: &Layout) -> [&Path; 4] {
    [&layout.state_dir, &layout.env_dir, &layout.releases_dir, Path::new("/var/lib/docker")]
}

/// Why this container may not run here, one sentence each; empty = it may.
#[must_use]
pub fn refusals(
    policy: &Policy,
    app: &AppName,
    container: &RenderedContainer,
    places: &Places,
    layout: &Layout,
) -> Vec<String> {
    let (allowed, rights) = (&policy.containers, &container.spec.rights);
    let mut all = Vec::new();
    if rights.privileged && !allowed.privileged {
        all.push("it would be privileged (privileged)".to_owned());
    }
    for space in rights.host_namespaces.iter().filter(|space| !allowed.host_namespaces.contains(space)) {
        let name = format!("{space:?}").to_lowercase();
        all.push(format!("it would have the host's {name} namespace (host_namespaces)"));
    }
    all.extend(capabilities(allowed, rights));
    let driver = container.spec.logging.as_ref().map(|logging| &logging.driver);
    if let Some(driver) = driver.filter(|it| !OWN_LOGS.contains(&it.as_str()) && !allowed.log_drivers.contains(*it)) {
        all.push(format!("its output would go to {driver} (log_drivers)"));
    }
    for device in &rights.devices {
        if !allowed.devices.iter().any(|root| device.as_path().starts_with(root)) {
            all.push(format!("it would have the device {device} (devices)"));
        }
    }
    for (mount, path) in container.binds() {
        match places.get(&path) {
            // Nobody has looked, or it is still to be made.
            None => {}
            Some(Ok(real)) if is_own_release(app, Path::new(real), layout) => {
                let words = || format!("{path} is a release, which nobody changes: add :ro");
                all.extend((!mount.read_only).then(words));
            }
            Some(Ok(real)) => all.extend(of_path(allowed, &path, real, layout)),
            Some(Err(why)) => all.push(format!("{path} {why}")),
        }
    }
    all
}

fn capabilities(allowed: &Containers, rights: &Rights) -> Vec<String> {
    let plain = |word: &str| word.strip_prefix("CAP_").unwrap_or(word).to_owned();
    let lets = |word: &str| allowed.capabilities.iter().any(|other| plain(other) == word || other == "ALL");
    let added = rights.cap_add.iter().map(|word| plain(word));
    let beyond = added.filter(|word| !USUAL.contains(&word.as_str()) && !lets(word));
    beyond.map(|word| format!("it would have the capability {word} (capabilities)")).collect()
}

fn is_own_release(app: &AppName, place: &Path, layout: &Layout) -> bool {
    let own = layout.releases_of(app);
    place.starts_with(&own) && place != own
}

fn of_path(allowed: &Containers, path: &str, real: &str, layout: &Layout) -> Option<String> {
    let place = Path::new(real);
    let shown = if path == real { path.to_owned() } else { format!("{path}, which leads to {real},") };
    // A directory with the socket in it is as good as the socket.
    let reaches = |socket: &&str| Path::new(socket).starts_with(place) || place.starts_with(socket);
    if !allowed.docker_socket && SOCKETS.iter().any(reaches) {
        return Some(format!("{shown} would give it Docker's socket, and with that the host (docker_socket)"));
    }
    if own(layout).into_iter().any(|own| own.starts_with(place) || place.starts_with(own)) {
        return Some(format!("{shown} would give it drover's own state"));
    }
    if allowed.bind_sources.iter().any(|root| place.starts_with(root)) {
        return None;
    }
    Some(format!("{shown} is in none of the directories that containers may see (bind_sources)"))
}

mod checks;
mod compose;
#[cfg(test)]
mod tests;
