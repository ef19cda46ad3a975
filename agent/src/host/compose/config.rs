//! Pure: what `config` says of a project, as far as drover has to know it. Part of `compose`. What is not known here is
//! refused: a field that a later compose brings may open the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use drover_proto::{app::Namespace, digest::Digest, image::ImageRef, limits::MAX_SERVICES, port::Port};

mod places;

use crate::host::yaml::{self, Yaml};
use places::published;

/// Fields of services that give nothing of the host.
const HARMLESS: &[&str] = &[
    "annotations",
    "attach",
    "blkio_config",
    "cap_drop",
    "command",
    "container_name",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpus",
    "cpuset",
    "depends_on",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "external_links",
    "extra_hosts",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "label_file",
    "labels",
    "links",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pids_limit",
    "ports",
    "profiles",
    "read_only",
    "restart",
    "scale",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
    "working_dir",
    // Judged below.
    "cap_add",
    "deploy",
    "devices",
    "ipc",
    "logging",
    "network_mode",
    "pid",
    "privileged",
    "security_opt",
    "volumes",
];

/// What a project asks of the host; the policy says whether it may.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ask {
    /// Everything.
    Privileged,
    /// The host's instead of its own.
    Namespace(Namespace),
    /// Beside Docker's own, perhaps.
    Capability(String),
    /// Of the host.
    Device(String),
    /// A path of the host.
    Bind {
        /** As it is asked for. */
        path: String,
        /** Not to be written. */
        read_only: bool,
    },
    /// Where output goes.
    LogDriver(String),
    /// Something for which the policy has no setting of its own, in words.
    Other(String),
}

/// Fields of `build:` that are handed on as they are.
const BUILD: [&str; 9] =
    ["args", "cache_from", "context", "dockerfile", "dockerfile_inline", "extra_hosts", "labels", "network", "target"];

/// An image that is to be built.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Build {
    /// From where in the artifact.
    pub context: PathBuf,
    /// The other fields.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// A service that would run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// What runs.
    pub image: Option<ImageRef>,
    /// If it is not left to compose.
    pub container_name: Option<String>,
    /// How that comes about, if it is not fetched.
    pub build: Option<Build>,
    /// Published on the host; a range is left to Docker.
    pub ports: BTreeSet<Port>,
}

/// A project, as compose understands it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Those that would run.
    pub services: BTreeMap<String, Service>,
    /// Who asks what: `service web`, `volume data`.
    pub asks: BTreeSet<(String, Ask)>,
    /// Of the whole text.
    pub digest: Digest,
}

impl Config {
    /// Of all that its containers are made of: with what is built the artifact, too.
    #[must_use]
    pub fn identity(&self, tree: Option<&str>) -> Digest {
        match self.builds().next() {
            None => self.digest,
            Some(_) => Digest::of(format!("{} {}", self.digest, tree.unwrap_or_default()).as_bytes()),
        }
    }

    /// The services whose images are built.
    pub fn builds(&self) -> impl Iterator<Item = (&String, &ImageRef, &Build)> {
        self.services.iter().filter_map(|(name, it)| Some((name, it.image.as_ref()?, it.build.as_ref()?)))
    }
}

/// Whose configuration is read.
pub(super) struct Whose<'a> {
    /// The profiles that are on.
    pub(super) profiles: &'a BTreeSet<String>,
    /// What an image is called that is built and has no name, before the service's.
    pub(super) prefix: String,
    /// What paths in the artifact are relative to.
    pub(super) base: &'a Path,
}

/// Reads what `config` said. The error has a sentence for each thing that is wrong.
pub(super) fn read(text: &str, whose: &Whose<'_>) -> Result<Config, Vec<String>> {
    let tree = yaml::parse(text).map_err(|why| vec![format!("what compose made of its files {why}")])?;
    let mut reader = Reader::default();
    reader.top(&tree, whose);
    if reader.services.is_empty() {
        reader.wrong.push("no service would run".to_owned());
    }
    if reader.services.len() > MAX_SERVICES {
        reader.wrong.push(format!("at most {MAX_SERVICES} services"));
    }
    for profile in whose.profiles.difference(&reader.profiles) {
        reader.wrong.push(format!("no service has the profile {profile}"));
    }
    let Reader { services, asks, wrong, .. } = reader;
    if wrong.is_empty() { Ok(Config { services, asks, digest: Digest::of(text.as_bytes()) }) } else { Err(wrong) }
}

#[derive(Default)]
struct Reader {
    services: BTreeMap<String, Service>,
    profiles: BTreeSet<String>,
    asks: BTreeSet<(String, Ask)>,
    wrong: Vec<String>,
}

impl Reader {
    fn top(&mut self, tree: &Yaml, whose: &Whose<'_>) {
        for (key, value) in tree.entries() {
            match key.as_str() {
                "name" | "version" => {}
                "services" => {
                    for (name, service) in value.entries() {
                        self.service(name, service, whose);
                    }
                }
                "volumes" => value.entries().iter().for_each(|(name, volume)| self.volume(name, volume)),
                "networks" => value.entries().iter().for_each(|(name, network)| self.network(name, network)),
                "secrets" | "configs" => {
                    let kind = key.trim_end_matches('s');
                    value.entries().iter().for_each(|(name, held)| self.held(&format!("{kind} {name}"), held));
                }
                _ if key.starts_with("x-") => {}
                _ => self.wrong.push(format!("{key}: is something that drover does not do")),
            }
        }
    }

    fn ask(&mut self, who: &str, ask: Ask) {
        self.asks.insert((who.to_owned(), ask));
    }

    fn service(&mut self, name: &str, service: &Yaml, whose: &Whose<'_>) {
        let own: BTreeSet<String> = service.get("profiles").items().iter().map(|p| p.text().to_owned()).collect();
        self.profiles.extend(own.iter().cloned());
        if !own.is_empty() && own.is_disjoint(whose.profiles) {
            return;
        }
        let who = format!("service {name}");
        for (key, value) in service.entries() {
            self.field(&who, key, value);
        }
        let build = Some(service.get("build")).filter(|build| !matches!(build, Yaml::Null));
        let build = build.and_then(|build| self.build(&who, build, whose.base));
        let text = match service.get("image").text() {
            "" if build.is_some() => format!("{}{name}", whose.prefix),
            text => text.to_owned(),
        };
        let image = match text.parse::<ImageRef>() {
            Ok(image) => Some(image),
            Err(error) => {
                let why = if text.is_empty() { "it has no image".to_owned() } else { error.to_string() };
                self.wrong.push(format!("{who}: {why}"));
                None
            }
        };
        let container_name = Some(service.get("container_name").text().to_owned()).filter(|name| !name.is_empty());
        let ports = service.get("ports").items().iter().filter_map(published).collect();
        self.services.insert(name.to_owned(), Service { image, container_name, build, ports });
    }

    fn field(&mut self, who: &str, key: &str, value: &Yaml) {
        if matches!(value, Yaml::Null) {
            return;
        }
        match key {
            "privileged" if value.is_on() => self.ask(who, Ask::Privileged),
            "network_mode" | "pid" | "ipc" => self.namespace(who, key, value.text()),
            "cap_add" => {
                let words = value.items().iter().map(|word| word.text().to_uppercase());
                words.for_each(|word| self.ask(who, Ask::Capability(word)));
            }
            "devices" => value.items().iter().for_each(|device| self.device(who, device)),
            "volumes" => value.items().iter().for_each(|volume| self.mount(who, volume)),
            "logging" => {
                let driver = value.get("driver").text();
                if !driver.is_empty() {
                    self.ask(who, Ask::LogDriver(driver.to_owned()));
                }
            }
            "security_opt" => {
                for word in value.items().iter().map(Yaml::text) {
                    if !matches!(word, "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true") {
                        self.ask(who, Ask::Other(format!("it would have security_opt {word:?}")));
                    }
                }
            }
            "deploy" => {
                if !value.get("resources").get("reservations").get("devices").items().is_empty() {
                    self.ask(who, Ask::Other("it would have devices that it reserves (deploy)".to_owned()));
                }
            }
            "uts" | "userns_mode" | "cgroup" | "cgroup_parent" | "runtime" | "device_cgroup_rules" | "gpus" => {
                self.ask(who, Ask::Other(format!("it would have {key}: {}", value.text()).trim_end().to_owned()));
            }
            // Of its own source: pulled before, never in the middle of a switch.
            "pull_policy" if matches!(value.text(), "missing" | "if_not_present" | "never") => {}
            // Names of secrets and configs, which are judged where they are.
            "secrets" | "configs" | "develop" => {}
            "volumes_from" => {
                let foreign = value.items().iter().any(|from| from.text().starts_with("container:"));
                if foreign {
                    self.wrong.push(format!("{who}: volumes_from a container that is not of the project"));
                }
            }
            // Read with the service.
            "build" => {}
            _ if HARMLESS.contains(&key) => {}
            _ => self.wrong.push(format!("{who}: {key}: is something that drover does not do")),
        }
    }

    /// What is built comes out of the artifact: `None` = it is wrong, and that is said.
    fn build(&mut self, who: &str, build: &Yaml, base: &Path) -> Option<Build> {
        let unknown =
            build.entries().iter().filter(|(key, value)| !(BUILD.contains(&key.as_str()) || *value == Yaml::Null));
        let mut wrong: Vec<String> =
            unknown.map(|(key, _)| format!("{who}: build.{key}: is something that drover does not do")).collect();
        if build.get("network").text() == "host" {
            self.ask(who, Ask::Namespace(Namespace::Network));
        }
        let written = if let Yaml::Text(text) = build { text } else { build.get("context").text() };
        let context = Path::new(written).strip_prefix(base).ok().filter(|path| is_inside(path)).map(Path::to_owned);
        if context.is_none() {
            wrong.push(format!(
                "{who}: build.context: {written} is not in the project's directory, where the artifact counts as"
            ));
        }
        if !is_inside(Path::new(build.get("dockerfile").text())) {
            wrong.push(format!("{who}: build.dockerfile: write a path inside its context"));
        }
        let fields = build.entries().iter().filter(|(key, _)| key != "context");
        let fields = fields.map(|(key, value)| (key.clone(), value.to_json())).collect();
        let good = wrong.is_empty();
        self.wrong.extend(wrong);
        context.filter(|_| good).map(|context| Build { context, fields })
    }

    fn namespace(&mut self, who: &str, key: &str, mode: &str) {
        let space = match key {
            "network_mode" => Namespace::Network,
            "pid" => Namespace::Pid,
            _ => Namespace::Ipc,
        };
        match mode {
            "host" => self.ask(who, Ask::Namespace(space)),
            "" | "none" | "bridge" | "default" | "private" | "shareable" => {}
            _ if mode.starts_with("service:") => {}
            _ => self.wrong.push(format!("{who}: {key}: {mode} leads out of the project")),
        }
    }
}

fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests;
