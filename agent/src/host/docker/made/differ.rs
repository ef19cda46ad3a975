//! Pure: in what a container differs from what a release wants. Nothing in common with its fingerprint, which says what
//! drover made it of. Part of `made`; `plan` takes one over as it is when nothing does.

use std::collections::BTreeMap;

use drover_proto::app::{Container, Healthcheck, Mount, MountSource, Rights};

use super::{Gives, Made, Shape, Source, can_be_said, read};
use crate::{policy::Places, render::RenderedContainer};

/// Variables that are named.
const NAMED: usize = 5;

impl Made {
    /// The fields of the manifest that say something else than what it was made of, and what no manifest can say.
    #[must_use]
    pub fn differences(&self, wanted: &RenderedContainer, places: &Places) -> Vec<String> {
        let (made, want) = (&self.shape, self.gives.shaped(wanted));
        let signal = |text: &str| if text.is_empty() { "SIGTERM".to_owned() } else { text.to_owned() };
        let place = |text: &str| if text.is_empty() { "/".to_owned() } else { text.to_owned() };
        let facts = [
            ("image", self.state.digests.contains(&wanted.digest)),
            ("entrypoint", made.entrypoint == want.entrypoint),
            ("command", made.command == want.command),
            ("user", made.user == want.user),
            ("working_dir", place(&made.working_dir) == place(&want.working_dir)),
            ("ports", made.ports == want.ports),
            ("volumes", same_volumes(&made.volumes, &want.volumes, places)),
            ("networks", made.networks == want.networks),
            ("limits", made.limits == want.limits),
            ("restart", made.restart == want.restart),
            ("healthcheck", made.healthcheck == want.healthcheck),
            ("logging", is_logged_so(made, &want)),
            ("stop_signal", signal(&made.stop_signal) == signal(&want.stop_signal)),
            ("stop_grace_period", made.stop_grace_s == want.stop_grace_s),
            ("labels", made.labels == want.labels),
        ];
        let mut all: Vec<String> =
            facts.into_iter().filter(|(_, same)| !same).map(|(field, _)| field.to_owned()).collect();
        all.extend(variables(&made.env, &want.env));
        all.extend(rights(&made.rights, &want.rights).map(str::to_owned));
        for odd in self.odd.iter().filter(|odd| odd.counts) {
            if !all.iter().any(|field| field == odd.field) {
                all.push(odd.field.to_owned());
            }
        }
        all
    }
}

fn rights<'a>(made: &Rights, want: &Rights) -> impl Iterator<Item = &'a str> {
    let facts = [
        ("privileged", made.privileged == want.privileged),
        ("cap_add", made.cap_add == want.cap_add),
        ("cap_drop", made.cap_drop == want.cap_drop),
        ("read_only", made.read_only == want.read_only),
        ("tmpfs", made.tmpfs == want.tmpfs),
        ("host_namespaces", made.host_namespaces == want.host_namespaces),
        ("devices", made.devices == want.devices),
    ];
    facts.into_iter().filter(|(_, same)| !same).map(|(field, _)| field)
}

/// By their names; the values may be secrets.
fn variables(made: &BTreeMap<String, String>, want: &BTreeMap<String, String>) -> Option<String> {
    let other = |key: &&String| made.get(*key) != want.get(*key);
    let mut keys: Vec<&str> = made.keys().chain(want.keys()).filter(other).map(String::as_str).collect();
    keys.sort_unstable();
    keys.dedup();
    let more = if keys.len() > NAMED { " …" } else { "" };
    (!keys.is_empty()).then(|| format!("environment ({}{more})", keys[..keys.len().min(NAMED)].join(" ")))
}

/// A manifest that says nothing of it means the engine's own way, which was filled in when the container was made; so are
/// options that it did not say.
fn is_logged_so(made: &Shape, want: &Shape) -> bool {
    let Some(want) = &want.logging else { return true };
    made.logging.as_ref().is_some_and(|made| {
        made.driver == want.driver && want.options.iter().all(|(key, value)| made.options.get(key) == Some(value))
    })
}

/// Volumes without a name that the image wants are there whether anybody says so or not. A path may be a link to what was
/// mounted.
fn same_volumes(made: &BTreeMap<String, Source>, want: &BTreeMap<String, Source>, places: &Places) -> bool {
    let leads_there = |path: &str, real: &str| matches!(places.get(path), Some(Ok(to)) if to == real);
    let same = |target: &String, want: &Source| {
        made.get(target).is_some_and(|made| {
            made.read_only == want.read_only && (made.from == want.from || leads_there(&want.from, &made.from))
        })
    };
    want.iter().all(|(target, source)| same(target, source))
        && made.iter().all(|(target, source)| source.anonymous || want.contains_key(target))
}

impl Gives {
    /// What the engine would make of a container of this image.
    fn shaped(&self, wanted: &RenderedContainer) -> Shape {
        let spec = &wanted.spec;
        let (entrypoint, command) = self.program(spec);
        let mut env = self.env.clone();
        env.extend(wanted.env.expose().clone());
        env.retain(|key, value| can_be_said(key, value));
        let mut labels = self.labels.clone();
        labels.extend(spec.labels.clone());
        let capabilities =
            |words: &std::collections::BTreeSet<String>| words.iter().map(|word| read::capability(word)).collect();
        Shape {
            entrypoint,
            command,
            env,
            user: spec.user.clone().unwrap_or_else(|| self.user.clone()),
            working_dir: spec.working_dir.as_ref().map_or_else(|| self.working_dir.clone(), ToString::to_string),
            ports: spec.ports.clone(),
            volumes: spec.volumes.iter().map(mounted).collect(),
            networks: spec.networks.iter().map(ToString::to_string).collect(),
            limits: read::without_defaults(spec.limits.clone()),
            rights: Rights {
                cap_add: capabilities(&spec.rights.cap_add),
                cap_drop: capabilities(&spec.rights.cap_drop),
                ..spec.rights.clone()
            },
            restart: Some(spec.restart),
            healthcheck: self.health(spec),
            logging: spec.logging.clone(),
            stop_signal: spec.stop_signal.clone().unwrap_or_else(|| self.stop_signal.clone()),
            stop_grace_s: spec.stop_grace_period.as_ms().div_ceil(1000),
            labels,
        }
    }

    /// The engine gives no arguments of the image to a program that is not the image's.
    fn program(&self, spec: &Container) -> (Vec<String>, Vec<String>) {
        let plain = |argv: &drover_proto::template::Argv| argv.iter().map(|arg| arg.plain_text()).collect::<Vec<_>>();
        let (entrypoint, command) = (spec.entrypoint.as_ref().map(plain), spec.command.as_ref().map(plain));
        let mut command = command.unwrap_or_default();
        if command.is_empty() && entrypoint.as_ref().is_none_or(Vec::is_empty) {
            command.clone_from(&self.command);
        }
        (entrypoint.unwrap_or_else(|| self.entrypoint.clone()), command)
    }

    fn health(&self, spec: &Container) -> Option<Healthcheck> {
        let Some(check) = &spec.healthcheck else { return self.healthcheck.clone() };
        let from_image = self.healthcheck.as_ref().filter(|_| check.start_period.as_ms() == 0);
        let start_period = from_image.map_or(check.start_period, |image| image.start_period);
        (!check.test.is_empty()).then(|| Healthcheck { start_period, ..check.clone() })
    }
}

fn mounted(mount: &Mount) -> (String, Source) {
    let from = match &mount.source {
        MountSource::Volume(name) => name.to_string(),
        MountSource::Path(path) => path.plain_text(),
    };
    (mount.target.to_string(), Source { from, read_only: mount.read_only, anonymous: false })
}
