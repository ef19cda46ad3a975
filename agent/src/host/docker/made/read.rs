//! Pure: the engine's terms as those of a manifest. Part of `made`.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{ContainerInspectResponse, HealthConfig, HostConfig, MountPoint, PortMap, RestartPolicyNameEnum};
use drover_proto::{
    app::{Healthcheck, Limits, Logging, Namespace, Publish, Restart, Rights},
    duration::Span,
    name::{AbsPath, NetworkName, VolumeName},
    template::Template,
};

use super::{Gives, Odd, Shape, Source, can_be_said, odd::odd};
use crate::host::docker::{APP_LABEL, FINGERPRINT_LABEL};

/// Where the engine has a limit of its own that nobody asked for.
const SHM_BYTES: u64 = 64 << 20;
/// What runs a line of a healthcheck whose image says nothing else.
const SHELL: [&str; 2] = [
    "/bin/sh", // as dockerd has it
    "-c",
];
/// Labels of compose, of which a manifest says nothing.
const COMPOSE: &str = "com.docker.compose.";

pub(super) fn shape(seen: ContainerInspectResponse, gives: &Gives, odd: &mut Vec<Odd>) -> Shape {
    let (config, host) = (seen.config.unwrap_or_default(), seen.host_config.unwrap_or_default());
    let networks = seen.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let (env, unsaid): (BTreeMap<_, _>, BTreeMap<_, _>) =
        env(config.env.unwrap_or_default()).into_iter().partition(|(key, value)| can_be_said(key, value));
    if !unsaid.is_empty() {
        let what = format!(
            "{} variables have names or values that no manifest can hold; made anew it would lack them",
            unsaid.len()
        );
        odd.push(super::Odd { field: "environment", what, counts: false });
    }
    Shape {
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        env,
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        ports: ports(host.port_bindings.clone().unwrap_or_default(), odd),
        volumes: volumes(seen.mounts.unwrap_or_default(), gives, odd),
        networks: attached(host.network_mode.as_deref().unwrap_or_default(), networks.into_keys(), odd),
        limits: limits(&host, odd),
        rights: rights(&host, odd),
        restart: host.restart_policy.as_ref().and_then(|policy| policy.name).map(restart),
        healthcheck: config.healthcheck.and_then(|check| health(check, config.shell.as_deref())),
        logging: host.log_config.clone().map(|log| Logging {
            driver: log.typ.unwrap_or_default(),
            options: log.config.unwrap_or_default().into_iter().collect(),
        }),
        stop_signal: config.stop_signal.unwrap_or_default(),
        stop_grace_s: config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(10),
        labels: config.labels.unwrap_or_default().into_iter().filter(|(name, _)| is_foreign(name)).collect(),
    }
}

/// Whether a label is neither drover's nor compose's.
pub(super) fn is_foreign(name: &str) -> bool {
    name != APP_LABEL && name != FINGERPRINT_LABEL && !name.starts_with(COMPOSE)
}

/// `KEY=value`; of one that is there twice the last counts.
pub(super) fn env(list: Vec<String>) -> BTreeMap<String, String> {
    let pair = |text: String| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    list.into_iter().filter_map(pair).collect()
}

fn ports(bindings: PortMap, all: &mut Vec<Odd>) -> BTreeSet<Publish> {
    let mut ports = BTreeSet::new();
    for (inside, bindings) in bindings {
        let (number, transport) = inside.split_once('/').unwrap_or((&inside, "tcp"));
        for binding in bindings.into_iter().flatten() {
            let address = match binding.host_ip.as_deref().unwrap_or_default() {
                "" => String::new(),
                v6 if v6.contains(':') => format!("[{v6}]:"),
                v4 => format!("{v4}:"),
            };
            let host = binding.host_port.unwrap_or_default();
            match format!("{address}{host}:{number}/{transport}").parse() {
                Ok(publish) => drop(ports.insert(publish)),
                Err(_) => odd(all, "ports", format!("{inside} is published on {host:?}, which a manifest cannot say")),
            }
        }
    }
    ports
}

fn volumes(mounts: Vec<MountPoint>, gives: &Gives, all: &mut Vec<Odd>) -> BTreeMap<String, Source> {
    let mut volumes = BTreeMap::new();
    for mount in mounts {
        let target = mount.destination.unwrap_or_default();
        let (from, anonymous) = match mount.typ.as_deref() {
            Some("bind") => (mount.source.filter(|path| is_path(path)), false),
            Some("volume") => {
                let name = mount.name.filter(|name| name.parse::<VolumeName>().is_ok());
                let unnamed = name.as_ref().is_some_and(|name| is_random(name)) && gives.volumes.contains(&target);
                (name, unnamed)
            }
            _ => (None, false),
        };
        let usual = matches!(mount.propagation.as_deref(), None | Some("" | "rprivate"));
        match from {
            Some(from) if usual && is_path(&target) => {
                volumes.insert(target, Source { from, read_only: mount.rw == Some(false), anonymous });
            }
            _ => odd(all, "volumes", format!("what is mounted at {target:?} cannot be said by a manifest")),
        }
    }
    volumes
}

/// A path as it can stand in a list of volumes.
fn is_path(text: &str) -> bool {
    !text.contains(':') && text.parse::<AbsPath>().is_ok()
}

/// As the engine names volumes for which nobody had a name.
fn is_random(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn attached(mode: &str, networks: impl Iterator<Item = String>, all: &mut Vec<Odd>) -> BTreeSet<String> {
    let usual = matches!(mode, "" | "default" | "bridge");
    if mode == "none" || mode.starts_with("container:") {
        odd(all, "network", format!("its network is {mode:?}, which a manifest cannot say"));
    }
    if !usual && matches!(mode, "none" | "host") || mode.starts_with("container:") {
        return BTreeSet::new();
    }
    let names: BTreeSet<String> = networks.filter(|name| !(usual && name == "bridge")).collect();
    let good = |name: &String| name.parse::<NetworkName>().is_ok() && name != "bridge";
    if usual && !names.is_empty() || !names.iter().all(good) {
        odd(all, "networks", "it is in Docker's default network and in others, which a manifest cannot say".to_owned());
    }
    names.into_iter().filter(good).collect()
}

/// `None` for as much as there is, and for what the engine gives to all.
pub(super) fn without_defaults(mut limits: Limits) -> Limits {
    limits.shm_bytes = limits.shm_bytes.filter(|bytes| *bytes != SHM_BYTES && *bytes != 0);
    limits
}

fn limits(host: &HostConfig, all: &mut Vec<Odd>) -> Limits {
    let positive = |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    let nanos = positive(host.nano_cpus);
    if nanos.is_some_and(|nanos| nanos % 1_000_000 != 0) {
        odd(all, "cpus", "it may use a part of a core that a manifest cannot say".to_owned());
    }
    let ulimits = host.ulimits.iter().flatten().filter_map(|limit| {
        Some((limit.name.clone()?, (limit.soft.unwrap_or_default(), limit.hard.unwrap_or_default())))
    });
    without_defaults(Limits {
        memory_bytes: positive(host.memory),
        cpu_millis: nanos.map(|nanos| nanos / 1_000_000),
        pids: positive(host.pids_limit).and_then(|pids| u32::try_from(pids).ok()),
        ulimits: ulimits.collect(),
        shm_bytes: positive(host.shm_size),
    })
}

/// `CAP_NET_ADMIN` and `net_admin` as `NET_ADMIN`.
pub(super) fn capability(word: &str) -> String {
    let word = word.to_ascii_uppercase();
    word.strip_prefix("CAP_").map(str::to_owned).unwrap_or(word)
}

fn rights(host: &HostConfig, all: &mut Vec<Odd>) -> Rights {
    let words = |list: &Option<Vec<String>>| list.iter().flatten().map(|word| capability(word)).collect();
    let spaces =
        [(Namespace::Network, &host.network_mode), (Namespace::Pid, &host.pid_mode), (Namespace::Ipc, &host.ipc_mode)];
    let mut devices = BTreeSet::new();
    for device in host.devices.iter().flatten() {
        let path = device.path_on_host.as_deref().unwrap_or_default();
        let same = device.path_in_container.as_deref() == Some(path);
        let all_rights = matches!(device.cgroup_permissions.as_deref(), None | Some("" | "rwm"));
        match path.parse() {
            Ok(path) if same && all_rights => drop(devices.insert(path)),
            _ => odd(all, "devices", format!("it has device {path:?} in a way that a manifest cannot say")),
        }
    }
    let mut tmpfs = BTreeSet::new();
    for (path, options) in host.tmpfs.iter().flatten() {
        match path.parse() {
            Ok(path) if options.is_empty() => drop(tmpfs.insert(path)),
            _ => odd(all, "tmpfs", format!("{path:?} in memory has options, which a manifest cannot say")),
        }
    }
    Rights {
        privileged: host.privileged == Some(true),
        cap_add: words(&host.cap_add),
        cap_drop: words(&host.cap_drop),
        read_only: host.readonly_rootfs == Some(true),
        tmpfs,
        host_namespaces: spaces
            .into_iter()
            .filter(|(_, mode)| mode.as_deref() == Some("host"))
            .map(|(it, _)| it)
            .collect(),
        devices,
    }
}

fn restart(policy: RestartPolicyNameEnum) -> Restart {
    match policy {
        RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO => Restart::No,
        RestartPolicyNameEnum::ON_FAILURE => Restart::OnFailure,
        RestartPolicyNameEnum::ALWAYS => Restart::Always,
        RestartPolicyNameEnum::UNLESS_STOPPED => Restart::UnlessStopped,
    }
}

/// `None` = it has none. What is not said is the engine's own.
pub(super) fn health(check: HealthConfig, shell: Option<&[String]>) -> Option<Healthcheck> {
    let test = check.test.unwrap_or_default();
    let (kind, rest) = test.split_first()?;
    let argv: Vec<String> = match kind.as_str() {
        "CMD" => rest.to_vec(),
        "CMD-SHELL" => {
            let usual = SHELL.map(str::to_owned);
            let shell = shell.filter(|shell| !shell.is_empty()).unwrap_or(&usual);
            shell.iter().chain(rest).cloned().collect()
        }
        _ => return None,
    };
    let span = |nanos: Option<i64>, usual: u64| match nanos.and_then(|nanos| u64::try_from(nanos).ok()) {
        None | Some(0) => Span::from_ms(usual),
        Some(nanos) => Span::from_ms(nanos.div_ceil(1_000_000)),
    };
    let retries = check.retries.and_then(|retries| u32::try_from(retries).ok()).filter(|retries| *retries > 0);
    Some(Healthcheck {
        test: argv.into_iter().map(Template::literal).collect(),
        interval: span(check.interval, 30_000),
        timeout: span(check.timeout, 30_000),
        retries: retries.unwrap_or(3),
        start_period: span(check.start_period, 0),
    })
}
