//! The settings file and where things lie in the state directory. `main` reads it; `app` and `admin` use it.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use drover_proto::duration::Span;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{ca::CLIENT_LIFE, store::Retention};

/// Where the settings are unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/drover/coordinator.toml";

/// A certificate is renewed at half of its life, and the network may be slow.
const MIN_CERTIFICATE_LIFE_S: u64 = 10;

/// `/etc/drover/coordinator.toml`; every key has a default.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where agents and operators connect.
    pub listen: SocketAddr,
    /// Everything that is kept.
    pub state_dir: StateDir,
    /// Rules, routes and receivers of alerts; read again on SIGHUP.
    pub alerting: PathBuf,
    /// What is logged: a level, or a filter in tracing's syntax.
    pub log: String,
    /// How many events are kept.
    pub events: EventsConfig,
    /// Of the certificates of hosts and operators, which renew them at half of it: e.g. `90d`.
    pub certificate_life: Span,
    /// What Prometheus reads.
    pub metrics: MetricsConfig,
}

/// `[metrics]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Whether anything is served at all.
    pub enabled: bool,
    /// Where `/metrics` and `/sd` are served: an address and a port. Only this host reaches the one that it has by itself.
    pub listen: SocketAddr,
    /// TLS and passwords, as Prometheus' own exporters have them in their `--web.config.file`.
    pub web_config: Option<PathBuf>,
}

/// Beside the agents' 7444.
const METRICS_PORT: u16 = 7445;

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { enabled: true, listen: (Ipv4Addr::LOCALHOST, METRICS_PORT).into(), web_config: None }
    }
}

/// `[events]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// Of all hosts together.
    pub max_total: u32,
    /// Of one host.
    pub max_per_host: u32,
    /// For so long.
    pub max_days: u32,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { max_total: 100_000, max_per_host: 10_000, max_days: 90 }
    }
}

impl From<&EventsConfig> for Retention {
    fn from(config: &EventsConfig) -> Self {
        let EventsConfig { max_total, max_per_host, max_days } = *config;
        Self { max_total, max_per_host, max_age_ms: i64::from(max_days) * 86_400_000 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 7443)),
            state_dir: StateDir("/var/lib/drover-coordinator".into()),
            alerting: crate::alert::config::DEFAULT_PATH.into(),
            log: "info".to_owned(),
            events: EventsConfig::default(),
            certificate_life: Span::from_ms(CLIENT_LIFE.as_secs() * 1000),
            metrics: MetricsConfig::default(),
        }
    }
}

/// Why the settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /** Of the file. */
        path: String,
        /** Why. */
        #[source]
        source: io::Error,
    },
    /// An unknown key or a wrong value; says which line.
    #[error("{path} is refused: {reason}")]
    Refused {
        /** Of the file. */
        path: String,
        /** With line and column. */
        reason: String,
    },
}

/// What a file of settings says; a missing one means every default.
pub(crate) fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, ConfigError> {
    let shown = path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(source) => return Err(ConfigError::Read { path: shown, source }),
    };
    toml::from_str(&text).map_err(|e| ConfigError::Refused { path: shown, reason: e.to_string() })
}

impl Config {
    /// Reads the file; a missing one means every default.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let config: Self = read(path)?;
        if !config.state_dir.0.is_absolute() {
            return Err(ConfigError::Refused { path: shown, reason: "state_dir must be an absolute path".to_owned() });
        }
        if !config.alerting.is_absolute() {
            return Err(ConfigError::Refused { path: shown, reason: "alerting must be an absolute path".to_owned() });
        }
        let EventsConfig { max_total, max_per_host, max_days } = config.events;
        if max_total == 0 || max_per_host == 0 || max_days == 0 {
            let reason = "in [events], max_total, max_per_host and max_days are at least 1".to_owned();
            return Err(ConfigError::Refused { path: shown, reason });
        }
        if config.certificate_life < Span::from_secs(MIN_CERTIFICATE_LIFE_S) {
            let reason = format!("certificate_life must be at least {MIN_CERTIFICATE_LIFE_S}s");
            return Err(ConfigError::Refused { path: shown, reason });
        }
        Ok(config)
    }
}

/// The state directory: what is kept, under which name.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(transparent)]
pub struct StateDir(pub PathBuf);

impl StateDir {
    /// The directory itself, 0700.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.0.join("coordinator.db")
    }
    /// The key that seals the secrets in it.
    #[must_use]
    pub fn secret_key(&self) -> PathBuf {
        self.0.join("secret.key")
    }
    /// The certificate authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca")
    }
    /// The one that is to take over, while hosts learn of it.
    #[must_use]
    pub fn ca_next(&self) -> PathBuf {
        self.0.join("ca-next")
    }
    /// The one that it took over from, still trusted.
    #[must_use]
    pub fn ca_old(&self) -> PathBuf {
        self.0.join("ca-old")
    }
    /// The artifacts.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }
    /// There while a restore is switching what is kept; a coordinator does not start then.
    #[must_use]
    pub fn restoring(&self) -> PathBuf {
        self.0.join("restoring")
    }
    /// Locked by the coordinator that uses the directory.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
}

#[cfg(test)]
mod tests {
    //! Defaults, and mistakes told with their line.
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coordinator.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn a_missing_or_empty_file_means_the_defaults() {
        assert_eq!(Config::read(Path::new("/nonexistent/coordinator.toml")).unwrap(), Config::default());
        assert_eq!(read("").unwrap(), Config::default());
        assert_eq!(read("listen = \"127.0.0.1:1\"\n").unwrap().listen.port(), 1);
        let events = read("[events]\nmax_days = 7\n").unwrap().events;
        assert_eq!(Retention::from(&events), Retention { max_age_ms: 7 * 86_400_000, ..Retention::default() });
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_file_and_line() {
        let said = read("log = \"debug\"\nlisten_port = 7\n").unwrap_err().to_string();
        assert!(said.contains("coordinator.toml") && said.contains("line 2") && said.contains("listen_port"), "{said}");
        assert!(read("listen = \"everywhere\"").unwrap_err().to_string().contains("line 1"));
        assert!(read("state_dir = \"here\"").is_err());
        assert!(read("certificate_life = \"1s\"").is_err());
        assert_eq!(read("certificate_life = \"90d\"").unwrap().certificate_life.as_ms(), 90 * 86_400_000);
        let metrics = read("[metrics]\nlisten = \"0.0.0.0:1\"\nweb_config = \"/etc/x\"\n").unwrap().metrics;
        assert!(metrics.enabled && metrics.listen.port() == 1 && metrics.web_config.is_some());
        assert!(read("[metrics]\nlisten = \"7445\"\n").unwrap_err().to_string().contains("line 2"));
        assert!(read("[events]\nmax_total = 0").unwrap_err().to_string().contains("max_total"));
    }
}
