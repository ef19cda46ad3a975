//! Reads `containers`.

use std::collections::BTreeMap;

use drover_proto::{
    app::{Container, Healthcheck, Limits, Logging, Mount, MountSource, Namespace, Restart, Rights, SecretSource},
    duration::Span,
    name::{ContainerName, EnvKey, SecretName},
    template::{Argv, Segment, Template},
};

use super::{Decoder, drift, flag, host::bytes, span};
use crate::manifest::{holes::Allow, yaml::Node};

impl Decoder<'_> {
    pub(super) fn containers(&mut self, root: &Node) -> BTreeMap<ContainerName, Container> {
        let mut containers = BTreeMap::new();
        for (key, node) in root.get("containers").into_iter().flat_map(Node::entries) {
            let name: Option<ContainerName> = self.parse_at(key.at, &node.path, &key.text);
            let container = self.container(&key.text, node);
            if let (Some(name), Some(container)) = (name, container) {
                containers.insert(name, container);
            }
        }
        containers
    }

    fn container(&mut self, name: &str, node: &Node) -> Option<Container> {
        let (healthcheck, logging) = (self.healthcheck(node), self.logging(node));
        let (limits, rights, volumes) = (self.container_limits(node), self.rights(node), self.volumes(node));
        let environment = self.own_environment(node);
        let plain = |decoder: &mut Self, key: &str| node.get(key).and_then(|value| decoder.plain(value));
        let mut labels = BTreeMap::new();
        for (key, value) in node.get("labels").into_iter().flat_map(Node::entries) {
            labels.extend(self.plain(value).map(|text| (key.text.clone(), text)));
        }
        Some(Container {
            credentials: self.credentials(node),
            entrypoint: node.get("entrypoint").map(|argv| self.argv(argv, Allow::HOST)),
            command: node.get("command").map(|argv| self.argv(argv, Allow::HOST)),
            env: node.get("env").map(|names| self.names(Some(names))),
            environment,
            secrets: self.names(node.get("secrets")),
            ports: self.names(node.get("ports")),
            volumes,
            networks: self.names(node.get("networks")),
            limits,
            rights,
            user: plain(self, "user"),
            working_dir: self.name_of(node, "working_dir"),
            restart: match node.get("restart").and_then(Node::scalar).map(|s| s.text.as_str()) {
                Some("no") => Restart::No,
                Some("on-failure") => Restart::OnFailure,
                Some("always") => Restart::Always,
                _ => Restart::UnlessStopped,
            },
            healthcheck,
            logging,
            stop_signal: plain(self, "stop_signal"),
            stop_grace_period: span(node, "stop_grace_period").unwrap_or(Span::from_secs(10)),
            labels,
            drift: drift(node),
            restart_on_change: self.watch(node),
            adopt: flag(node, "adopt"),
            handover: self.handover(name, node),
            image: self.name_of(node, "image")?,
        })
    }

    fn own_environment(&mut self, node: &Node) -> BTreeMap<EnvKey, Template> {
        let mut environment = BTreeMap::new();
        for (key, value) in node.get("environment").into_iter().flat_map(Node::entries) {
            let name: Option<EnvKey> = self.parse_at(key.at, &value.path, &key.text);
            if let (Some(name), Some(text)) = (name, self.line(value, Allow::HOST)) {
                environment.insert(name, text);
            }
        }
        environment
    }

    /// `source:target`, `source:target:ro`; the source may have holes, what follows it may not.
    fn volumes(&mut self, node: &Node) -> Vec<Mount> {
        let mut mounts = Vec::new();
        for item in node.get("volumes").into_iter().flat_map(Node::items) {
            let Some(mut source) = self.template(item, Allow::HOST) else { continue };
            let wrong = "is no volume";
            let hint = "write name:/path or /path/of/the/host:/path, perhaps with :ro behind; a path of the artifact begins \
                        with {{ release }}/";
            let Some(Segment::Text(tail)) = source.0.last_mut() else {
                self.reports.at(item, wrong, hint);
                continue;
            };
            let (rest, read_only) = match tail.strip_suffix(":ro") {
                Some(rest) => (rest.to_owned(), true),
                None => (tail.strip_suffix(":rw").unwrap_or(tail).to_owned(), false),
            };
            let Some((before, target)) = rest.rsplit_once(':') else {
                self.reports.at(item, wrong, hint);
                continue;
            };
            *tail = before.to_owned();
            source.0.retain(|segment| !matches!(segment, Segment::Text(text) if text.is_empty()));
            let Some(target) = self.parse(item, target) else { continue };
            let text = source.plain_text();
            let source = if text.starts_with('/') || source.holes().next().is_some() {
                MountSource::Path(source)
            } else {
                let Some(name) = self.parse(item, &text) else { continue };
                MountSource::Volume(name)
            };
            mounts.push(Mount { source, target, read_only });
        }
        mounts
    }

    fn container_limits(&mut self, node: &Node) -> Limits {
        let mut limits = Limits::default();
        let Some(node) = node.get("limits") else { return limits };
        limits.memory_bytes = self.size(node, "memory");
        limits.shm_bytes = self.size(node, "shm");
        limits.pids = node.get("pids").and_then(Node::scalar).and_then(|s| s.text.parse().ok());
        if let Some(cpus) = node.get("cpus")
            && let Some(text) = self.plain(cpus)
        {
            limits.cpu_millis = millis(&text);
            if limits.cpu_millis.is_none() {
                self.reports.at(cpus, format!("{text:?} is no number of cores"), "such as 2, or 0.5");
            }
        }
        for (key, value) in node.get("ulimits").into_iter().flat_map(Node::entries) {
            let Some(text) = self.plain(value) else { continue };
            let (soft, hard) = text.split_once(':').unwrap_or((&text, &text));
            match (soft.parse(), hard.parse()) {
                (Ok(soft), Ok(hard)) => drop(limits.ulimits.insert(key.text.clone(), (soft, hard))),
                _ => {
                    self.reports.at(value, format!("{text:?} is no limit"), "write a number, or soft:hard; -1 is none")
                }
            }
        }
        limits
    }

    fn size(&mut self, node: &Node, key: &str) -> Option<u64> {
        let value = node.get(key)?;
        let text = self.plain(value)?;
        let size = bytes(&text);
        if size.is_none() {
            self.reports.at(value, format!("{text:?} is no size"), "write bytes, or a number with K, M, G or T");
        }
        size
    }

    fn rights(&mut self, node: &Node) -> Rights {
        let spaces = node.get("host_namespaces").into_iter().flat_map(Node::items);
        let spaces = spaces.filter_map(|item| match item.scalar()?.text.as_str() {
            "network" => Some(Namespace::Network),
            "pid" => Some(Namespace::Pid),
            "ipc" => Some(Namespace::Ipc),
            _ => None,
        });
        let host_namespaces = spaces.collect();
        Rights {
            privileged: flag(node, "privileged"),
            cap_add: self.names(node.get("cap_add")),
            cap_drop: self.names(node.get("cap_drop")),
            read_only: flag(node, "read_only"),
            tmpfs: self.names(node.get("tmpfs")),
            host_namespaces,
            devices: self.names(node.get("devices")),
        }
    }

    fn healthcheck(&mut self, node: &Node) -> Option<Healthcheck> {
        let node = node.get("healthcheck")?;
        let test: Argv = node.get("test").map(|argv| self.argv(argv, Allow::HOST)).unwrap_or_default();
        let retries = node.get("retries")?.scalar()?.text.parse().ok()?;
        let (interval, timeout) = (span(node, "interval")?, span(node, "timeout")?);
        Some(Healthcheck { test, interval, timeout, retries, start_period: span(node, "start_period")? })
    }

    fn logging(&mut self, node: &Node) -> Option<Logging> {
        let node = node.get("logging")?;
        let mut options = BTreeMap::new();
        for (key, value) in node.get("options").into_iter().flat_map(Node::entries) {
            options.extend(self.plain(value).map(|text| (key.text.clone(), text)));
        }
        Some(Logging { driver: node.get("driver").and_then(|driver| self.plain(driver))?, options })
    }

    /// What the credentials of containers name are stored secrets of the app.
    pub(super) fn declare_registries(
        &mut self,
        root: &Node,
        containers: &BTreeMap<ContainerName, Container>,
        secrets: &mut BTreeMap<SecretName, SecretSource>,
    ) {
        for (name, container) in containers {
            let node = root.get("containers").and_then(|all| all.get(name.as_str())?.get("credentials")?.get("secret"));
            if let Some((node, credentials)) = node.zip(container.credentials.as_ref()) {
                self.declare_stored(node, &credentials.secret, secrets);
            }
        }
    }
}

/// `1.5` cores as 1500; at most three digits behind the point.
fn millis(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1000 + part)
}
