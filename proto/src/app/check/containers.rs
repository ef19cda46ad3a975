//! The rules of containers. Part of `check`.

use std::collections::BTreeSet;

use super::Found;
use crate::{
    app::{AppSpec, Container, Namespace},
    limits::{self, MAX_OF_CONTAINER},
    port::Port,
};

/// Labels that drover puts on its own containers.
const OWN_LABELS: &str = "io.drover.";
/// Where secrets are.
const SECRETS: &str = "/run/secrets";

impl Found {
    pub(in crate::app) fn containers(&mut self, app: &AppSpec) {
        if app.containers.len() > limits::MAX_CONTAINERS_PER_APP {
            self.say("containers", format!("at most {} containers", limits::MAX_CONTAINERS_PER_APP));
        }
        let mut taken: Vec<(&Port, String)> = Vec::new();
        for (name, container) in &app.containers {
            let of = |field: &str| format!("containers.{name}.{field}");
            for publish in &container.ports {
                if let Some((port, other)) = taken.iter().find(|(port, _)| port.collides(&publish.host)) {
                    let what = format!("{} is published by container {other} already ({port})", publish.host);
                    self.say(of("ports"), what);
                }
                taken.push((&publish.host, name.to_string()));
            }
            self.container_names(app, container, &of);
            self.container_places(container, &of);
            self.container_limits(container, &of);
        }
    }

    fn container_names(&mut self, app: &AppSpec, container: &Container, of: &dyn Fn(&str) -> String) {
        for key in container.env.iter().flatten().filter(|key| !app.env.contains_key(*key)) {
            self.say(of("env"), format!("{key} is not in env"));
        }
        let credentials = container.credentials.as_ref();
        for secret in container.secrets.iter().chain(credentials.map(|c| &c.secret)) {
            if !app.secrets.contains_key(secret) {
                self.say(of("secrets"), format!("secret {secret} is not declared under env.secrets"));
            }
        }
        if credentials.is_some_and(|c| c.username.is_none()) {
            self.say(of("credentials.username"), "a registry wants a user, too");
        }
        for label in container.labels.keys().filter(|label| label.starts_with(OWN_LABELS)) {
            self.say(of("labels"), format!("{label}: labels that begin with {OWN_LABELS} are drover's own"));
        }
        let user = container.user.as_deref().unwrap_or("0");
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if user.is_empty() || user.len() > 64 || !user.chars().all(is_word) {
            self.say(of("user"), "write a user of the image, a uid, or uid:gid");
        }
        let signal = container.stop_signal.as_deref().unwrap_or("SIGTERM");
        let is_signal = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'+';
        if !signal.starts_with("SIG") || !signal.bytes().all(is_signal) {
            self.say(of("stop_signal"), "write its name, such as SIGTERM or SIGINT");
        }
        let words = container.rights.cap_add.iter().chain(&container.rights.cap_drop);
        for word in words.filter(|word| word.is_empty() || !word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')) {
            self.say(of("cap_add"), format!("{word:?} is no capability: write NET_ADMIN, CHOWN … or ALL"));
        }
        for argv in container.entrypoint.iter().chain(&container.command).filter(|argv| argv.len() > limits::MAX_ARGV) {
            self.say(of("command"), format!("at most {} arguments, and not {}", limits::MAX_ARGV, argv.len()));
        }
    }

    fn container_places(&mut self, container: &Container, of: &dyn Fn(&str) -> String) {
        let mut targets = BTreeSet::new();
        for mount in &container.volumes {
            if !targets.insert(&mount.target) {
                self.say(of("volumes"), format!("two things are mounted at {}", mount.target));
            }
            if mount.target.as_path().starts_with(SECRETS) && !container.secrets.is_empty() {
                self.say(of("volumes"), format!("{SECRETS} is where the container's secrets are"));
            }
        }
        if let Some(path) = container.rights.tmpfs.iter().find(|path| targets.contains(path)) {
            self.say(of("tmpfs"), format!("two things are mounted at {path}"));
        }
        let host_network = container.rights.host_namespaces.contains(&Namespace::Network);
        if host_network && !(container.ports.is_empty() && container.networks.is_empty()) {
            let what = "with the host's network a container has neither ports to publish nor networks";
            self.say(of("host_namespaces"), what);
        }
        let is_dockers = |network: &str| matches!(network, "host" | "none" | "bridge" | "default");
        if container.networks.iter().any(|network| is_dockers(network.as_str())) {
            self.say(of("networks"), "that one is Docker's own: name another, or none for Docker's default");
        }
    }

    fn container_limits(&mut self, container: &Container, of: &dyn Fn(&str) -> String) {
        let limits = &container.limits;
        if limits.memory_bytes.is_some_and(|bytes| bytes < limits::MIN_CONTAINER_MEMORY_BYTES) {
            self.say(of("limits.memory"), "at least 6M");
        }
        if limits.cpu_millis == Some(0) {
            self.say(of("limits.cpus"), "more than 0");
        }
        if limits.pids == Some(0) {
            self.say(of("limits.pids"), "more than 0");
        }
        for (name, (soft, hard)) in &limits.ulimits {
            let word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase());
            if !word || soft > hard && *hard != -1 {
                self.say(of("limits.ulimits"), format!("{name}: a name as nofile, and soft at most hard"));
            }
        }
        if let Some(check) = &container.healthcheck
            && !check.test.is_empty()
            && (check.interval.as_ms() < 100 || check.timeout.as_ms() < 100 || check.retries == 0)
        {
            self.say(of("healthcheck"), "interval and timeout are at least 100ms, retries at least 1");
        }
        let counts = [
            container.ports.len(),
            container.volumes.len(),
            container.networks.len(),
            container.labels.len(),
            container.environment.len(),
            container.rights.devices.len(),
            container.rights.tmpfs.len(),
            limits.ulimits.len(),
        ];
        if counts.into_iter().any(|count| count > MAX_OF_CONTAINER) {
            self.say(of("ports"), format!("at most {MAX_OF_CONTAINER} of a kind: ports, volumes, networks, labels …"));
        }
    }
}
