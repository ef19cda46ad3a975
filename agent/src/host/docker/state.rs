//! A container as the engine sees it. Part of `docker`.

use std::{collections::BTreeSet, time::Duration};

use bollard::models::{ContainerInspectResponse, HealthStatusEnum, PortMap};
use drover_proto::{
    digest::Digest,
    name::AppName,
    port::{Port, Transport},
};

use super::{APP_LABEL, FINGERPRINT_LABEL};

/// What the engine gives a container to end that says nothing.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Of the output of a healthcheck.
const MAX_HEALTH_OUTPUT: usize = 400;

/// A container.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ContainerState {
    /// 64 hex digits, another for every container.
    pub id: String,
    /// `sha256:…` of its image's configuration.
    pub image_id: String,
    /// Of that image in the registries that it came from.
    pub digests: BTreeSet<Digest>,
    /// What drover made it of; `None` = it was not drover.
    pub fingerprint: Option<Digest>,
    /// For which app.
    pub app: Option<AppName>,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub status: String,
    /// Its program runs.
    pub running: bool,
    /// On this host; 0 = none.
    pub pid: u32,
    /// Of its last end.
    pub exit_code: i64,
    /// Its memory ran out.
    pub oom_killed: bool,
    /// Why the engine could not start it.
    pub error: String,
    /// RFC 3339, new with every start.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
    /// By the engine, since it was made.
    pub restart_count: i64,
    /// Where it is published on the host.
    pub ports: BTreeSet<Port>,
    /// `None` = it has no healthcheck.
    pub health: Option<Health>,
    /// What it gets to end.
    pub stop_timeout: Duration,
    /// Drover did not make it, and took it over: it is the app's all the same.
    pub adopted: bool,
    /// It is gone as soon as it is stopped (`--rm`).
    pub auto_remove: bool,
    /// When the engine starts it again, in the engine's word, and how often at most.
    pub restart: (String, i64),
}

/// What the healthcheck of a container says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// Of the last one, one line.
    pub output: String,
}

impl From<ContainerInspectResponse> for ContainerState {
    fn from(seen: ContainerInspectResponse) -> Self {
        let (state, config) = (seen.state.unwrap_or_default(), seen.config.unwrap_or_default());
        let labels = config.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
        let host = seen.host_config.unwrap_or_default();
        let (ports, policy) = (host.port_bindings.unwrap_or_default(), host.restart_policy.unwrap_or_default());
        let health = state
            .health
            .filter(|health| !matches!(health.status, None | Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY)));
        let timeout = config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            id: seen.id.unwrap_or_default(),
            image_id: seen.image.unwrap_or_default(),
            digests: BTreeSet::new(),
            fingerprint: label(FINGERPRINT_LABEL).parse().ok(),
            app: label(APP_LABEL).parse().ok(),
            status: state.status.map(|status| status.to_string()).unwrap_or_default(),
            running: state.running == Some(true) && state.restarting != Some(true),
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
            exit_code: state.exit_code.unwrap_or(0),
            oom_killed: state.oom_killed == Some(true),
            error: state.error.unwrap_or_default(),
            started_at: state.started_at.unwrap_or_default(),
            finished_at: state.finished_at.unwrap_or_default(),
            restart_count: seen.restart_count.unwrap_or(0),
            ports: published(ports),
            health: health.map(|health| Health {
                status: health.status.map(|status| status.to_string()).unwrap_or_default(),
                failing_streak: health.failing_streak.unwrap_or(0),
                output: last_output(health.log.unwrap_or_default()),
            }),
            stop_timeout: timeout.map_or(DEFAULT_STOP_TIMEOUT, Duration::from_secs),
            adopted: false,
            auto_remove: host.auto_remove == Some(true),
            restart: (
                policy.name.map(|name| name.to_string()).unwrap_or_default(),
                policy.maximum_retry_count.unwrap_or_default(),
            ),
        }
    }
}

/// `80/tcp` → where on the host.
fn published(bindings: PortMap) -> BTreeSet<Port> {
    let mut ports = BTreeSet::new();
    for (inside, bindings) in bindings {
        let transport = if inside.ends_with("/udp") { Transport::Udp } else { Transport::Tcp };
        for binding in bindings.into_iter().flatten() {
            let address = binding.host_ip.and_then(|ip| ip.parse().ok());
            let number = binding.host_port.and_then(|port| port.parse().ok());
            ports.extend(number.map(|number| Port { address, number, transport }));
        }
    }
    ports
}

fn last_output(log: Vec<bollard::models::HealthcheckResult>) -> String {
    let output = log.into_iter().next_back().and_then(|last| last.output).unwrap_or_default();
    let words = output.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(MAX_HEALTH_OUTPUT).collect()
}

/// The digests in `redis@sha256:…` and the like.
pub(super) fn digests(repo_digests: Vec<String>) -> BTreeSet<Digest> {
    repo_digests.iter().filter_map(|text| text.rsplit_once('@')?.1.parse().ok()).collect()
}
