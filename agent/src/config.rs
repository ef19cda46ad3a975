//! The agent's settings: `/etc/drover/agent.toml`, every key optional. Read once by `main`, handed to `app`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use drover_proto::bytes::Bytes;
use serde::Deserialize;

use crate::handover::PortRange;

/// Where the settings are unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/drover/agent.toml";

/// The settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The agent's private state, mode 0700.
    pub state_dir: PathBuf,
    /// Unpacked and built artifacts, readable by the users that run them.
    pub releases_dir: PathBuf,
    /// Env files of the apps, mode 0700.
    pub env_dir: PathBuf,
    /// A `tracing` filter, e.g. `info` or `drover_agent=debug`.
    pub log: String,
    /// What drover may hold on this host's disk: releases, images and stopped containers that it made. Over that what nobody needs
    /// goes by itself, oldest first; absent: nothing does.
    pub disk_budget: Option<Bytes>,
    /// What is kept of events until the coordinator has them.
    pub events: EventsConfig,
    /// What is replaced by another instance beside it.
    pub handover: HandoverConfig,
    /// What Prometheus reads.
    pub metrics: MetricsConfig,
}

/// `[metrics]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Whether anything is served at all.
    pub enabled: bool,
    /// Where `/metrics` is served: an address and a port. Only this host reaches the one that it has by itself.
    pub listen: SocketAddr,
    /// TLS and passwords, as Prometheus' own exporters have them in their `--web.config.file`.
    pub web_config: Option<PathBuf>,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { enabled: true, listen: (Ipv4Addr::LOCALHOST, METRICS_PORT).into(), web_config: None }
    }
}

/// Beside the coordinator's 7443.
const METRICS_PORT: u16 = 7444;

/// `[handover]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandoverConfig {
    /// From where ports are allotted.
    pub ports: PortRange,
}

/// `[events]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// On the disk, at most; then the oldest are dropped.
    pub max_bytes: u64,
}

/// `events.max_bytes`, least and most.
const EVENTS_BYTES: (u64, u64) = (16 << 10, 1 << 30);

impl Default for EventsConfig {
    fn default() -> Self {
        Self { max_bytes: 8 << 20 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/drover/agent".into(),
            releases_dir: "/var/lib/drover/releases".into(),
            env_dir: "/var/lib/drover/env".into(),
            log: "info".to_owned(),
            disk_budget: None,
            events: EventsConfig::default(),
            handover: HandoverConfig::default(),
            metrics: MetricsConfig::default(),
        }
    }
}

impl Config {
    /// Reads the settings; a file that is not there means the defaults. The error names file, line and key.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let config: Self = toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
        let (least, most) = EVENTS_BYTES;
        anyhow::ensure!(
            (least..=most).contains(&config.events.max_bytes),
            "{} is not valid: events.max_bytes is between {least} and {most}",
            path.display()
        );
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    //! What is read of the file.
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_budget_is_an_amount_and_there_is_none_unless_said() {
        assert_eq!(read("").unwrap().disk_budget, None);
        assert_eq!(read("disk_budget = \"10 GiB\"\n").unwrap().disk_budget, Some(Bytes(10 << 30)));
        let said = read("\ndisk_budget = \"plenty\"\n").unwrap_err();
        for words in ["agent.toml is not valid", "line 2", "disk_budget", "such as \"10 GiB\""] {
            assert!(said.contains(words), "{words:?} is not in {said}");
        }
    }

    #[test]
    fn metrics_are_for_this_host_alone_unless_said() {
        let metrics = read("").unwrap().metrics;
        assert!(metrics.enabled && metrics.listen.ip().is_loopback(), "{metrics:?}");
        assert!(!read("[metrics]\nenabled = false\n").unwrap().metrics.enabled);
        let open = read("[metrics]\nlisten = \"[::]:9100\"\n").unwrap().metrics.listen;
        assert_eq!(open.to_string(), "[::]:9100");
        let said = read("[metrics]\nlisten = \"9100\"\n").unwrap_err();
        assert!(said.contains("line 2") && said.contains("listen"), "{said}");
    }
}
