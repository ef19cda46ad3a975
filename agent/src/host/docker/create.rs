//! Pure: a rendered container in the engine's own terms. Part of `docker`.

use std::collections::HashMap;

use bollard::{
    models::{
        ContainerCreateBody, DeviceMapping, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig,
        Mount as EngineMount, MountType, NetworkConnectRequest, NetworkCreateRequest, NetworkingConfig, PortBinding,
        ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{CreateContainerOptions, CreateContainerOptionsBuilder},
};
use drover_proto::{
    app::{Container, Healthcheck, Mount, MountSource, Namespace, Publish, Restart, Rights},
    duration::Span,
    name::{AppName, ContainerName, NetworkName},
    template::Argv,
};

use super::{FINGERPRINT_LABEL, labels as own_labels};
use crate::{policy::Places, render::RenderedContainer};

/// A container called `next` until it takes its own name.
pub(super) fn container(
    app: &AppName,
    next: &str,
    wanted: &RenderedContainer,
    places: &Places,
) -> (CreateContainerOptions, ContainerCreateBody) {
    let spec = &wanted.spec;
    let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
    labels.extend(own_labels(app));
    labels.insert(FINGERPRINT_LABEL.to_owned(), wanted.fingerprint.to_string());
    let alias = next.trim_end_matches(super::NEXT);
    let first = spec.networks.first().map(|network| {
        let settings = EndpointSettings { aliases: Some(vec![alias.to_owned()]), ..EndpointSettings::default() };
        NetworkingConfig { endpoints_config: Some(HashMap::from([(network.to_string(), settings)])) }
    });
    let env = wanted.env.expose().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let body = ContainerCreateBody {
        image: Some(wanted.image.pullable()),
        entrypoint: spec.entrypoint.as_ref().map(plain),
        cmd: spec.command.as_ref().map(plain),
        env: Some(env),
        user: spec.user.clone(),
        working_dir: spec.working_dir.as_ref().map(ToString::to_string),
        exposed_ports: Some(spec.ports.iter().map(inside).collect()),
        healthcheck: spec.healthcheck.as_ref().map(health),
        labels: Some(labels),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: i64::try_from(spec.stop_grace_period.as_ms().div_ceil(1000)).ok(),
        host_config: Some(host(spec, places)),
        networking_config: first,
        ..ContainerCreateBody::default()
    };
    (CreateContainerOptionsBuilder::new().name(next).build(), body)
}

/// In its further networks it is known by its name, too.
pub(super) fn connection(name: &ContainerName, next: &str) -> NetworkConnectRequest {
    let settings = EndpointSettings { aliases: Some(vec![name.to_string()]), ..EndpointSettings::default() };
    NetworkConnectRequest { container: next.to_owned(), endpoint_config: Some(settings) }
}

pub(super) fn network(app: &AppName, network: &NetworkName) -> NetworkCreateRequest {
    NetworkCreateRequest { name: network.to_string(), labels: Some(own_labels(app)), ..NetworkCreateRequest::default() }
}

fn host(spec: &Container, places: &Places) -> HostConfig {
    let (limits, rights) = (&spec.limits, &spec.rights);
    let shares = |space: Namespace| rights.host_namespaces.contains(&space).then(|| "host".to_owned());
    let number = |bytes: Option<u64>| bytes.and_then(|bytes| i64::try_from(bytes).ok());
    let ulimits = limits.ulimits.iter().map(|(name, (soft, hard))| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(*soft),
        hard: Some(*hard),
    });
    HostConfig {
        memory: number(limits.memory_bytes),
        nano_cpus: number(limits.cpu_millis.map(|millis| millis.saturating_mul(1_000_000))),
        pids_limit: limits.pids.map(i64::from),
        ulimits: some(ulimits.collect()),
        shm_size: number(limits.shm_bytes),
        mounts: some(spec.volumes.iter().map(|it| mount(it, places)).collect()),
        port_bindings: Some(bindings(spec)),
        network_mode: shares(Namespace::Network).or_else(|| spec.networks.first().map(ToString::to_string)),
        pid_mode: shares(Namespace::Pid),
        ipc_mode: shares(Namespace::Ipc),
        restart_policy: Some(RestartPolicy { name: Some(policy(spec.restart)), maximum_retry_count: None }),
        log_config: spec.logging.as_ref().map(|logging| HostConfigLogConfig {
            typ: Some(logging.driver.clone()),
            config: Some(logging.options.clone().into_iter().collect()),
        }),
        ..capabilities(rights)
    }
}

fn capabilities(rights: &Rights) -> HostConfig {
    let device = |path: &drover_proto::name::AbsPath| DeviceMapping {
        path_on_host: Some(path.to_string()),
        path_in_container: Some(path.to_string()),
        cgroup_permissions: Some("rwm".to_owned()),
    };
    HostConfig {
        privileged: Some(rights.privileged),
        cap_add: some(rights.cap_add.iter().cloned().collect()),
        cap_drop: some(rights.cap_drop.iter().cloned().collect()),
        readonly_rootfs: Some(rights.read_only),
        tmpfs: Some(rights.tmpfs.iter().map(|path| (path.to_string(), String::new())).collect()),
        devices: some(rights.devices.iter().map(device).collect()),
        ..HostConfig::default()
    }
}

/// Nothing rather than an empty list.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn plain(argv: &Argv) -> Vec<String> {
    argv.iter().map(|arg| arg.plain_text()).collect()
}

fn inside(publish: &Publish) -> String {
    format!("{}/{}", publish.container, publish.host.transport)
}

fn bindings(spec: &Container) -> HashMap<String, Option<Vec<PortBinding>>> {
    let mut all: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for publish in &spec.ports {
        let binding = PortBinding {
            host_ip: publish.host.address.map(|address| address.to_string()),
            host_port: Some(publish.host.number.to_string()),
        };
        all.entry(inside(publish)).or_default().get_or_insert_default().push(binding);
    }
    all
}

/// A link in the way is followed now, when it has been judged, and not again whenever the engine starts the container.
fn mount(mount: &Mount, places: &Places) -> EngineMount {
    let (typ, source) = match &mount.source {
        MountSource::Volume(name) => (MountType::VOLUME, name.to_string()),
        MountSource::Path(path) => {
            let path = path.plain_text();
            let real = places.get(&path).and_then(|real| real.clone().ok());
            (MountType::BIND, real.unwrap_or(path))
        }
    };
    EngineMount {
        typ: Some(typ),
        source: Some(source),
        target: Some(mount.target.to_string()),
        read_only: Some(mount.read_only),
        ..EngineMount::default()
    }
}

fn health(check: &Healthcheck) -> HealthConfig {
    if check.test.is_empty() {
        return HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() };
    }
    let nanos = |span: Span| i64::try_from(span.as_ms().saturating_mul(1_000_000)).ok();
    HealthConfig {
        test: Some(["CMD".to_owned()].into_iter().chain(plain(&check.test)).collect()),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: Some(i64::from(check.retries)),
        start_period: nanos(check.start_period),
        start_interval: None,
    }
}

fn policy(restart: Restart) -> RestartPolicyNameEnum {
    match restart {
        Restart::No => RestartPolicyNameEnum::NO,
        Restart::OnFailure => RestartPolicyNameEnum::ON_FAILURE,
        Restart::Always => RestartPolicyNameEnum::ALWAYS,
        Restart::UnlessStopped => RestartPolicyNameEnum::UNLESS_STOPPED,
    }
}
