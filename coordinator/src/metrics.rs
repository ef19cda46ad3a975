//! What Prometheus reads of the coordinator: `/metrics` (itself, its hosts, `rollouts`), and `/sd` (`discovery`: where the
//! agents' own metrics are). Read anew for each scrape from the store and from who is connected; served by `drover-exposition`, as the
//! agent's are.

mod discovery;
mod rollouts;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use drover_exposition::{
    Format, Source, process,
    text::{Family, Text},
};
use drover_proto::name::{HostId, NotifierName};
use tracing::error;
use x509_parser::parse_x509_certificate;

use crate::{
    ca::Ca,
    figures::Figures,
    rollout::{keeper::read, state::Rollout},
    session::Sessions,
    store::{Host, NotifierState, Result, Store, StoreError, Tallied},
};

/// Room for the text of some hundred hosts.
const USUAL_BYTES: usize = 64 << 10;
/// Rollouts that are told one by one: the newest.
const ROLLOUTS: u32 = 50;

/// What a scrape reads from.
pub struct Metrics {
    store: Store,
    sessions: Sessions,
    figures: Figures,
    ca: Arc<Ca>,
    /// The store's file.
    database: PathBuf,
}

/// What was read for one scrape.
struct Seen {
    hosts: Vec<Host>,
    connected: BTreeSet<HostId>,
    /// By how many ms clocks are ahead.
    skews: BTreeMap<HostId, i64>,
    /// Those that have not ended.
    active: Vec<Rollout>,
    /// The newest, newest first.
    rollouts: Vec<Rollout>,
    tallied: Tallied,
    /// How many notifications wait for each receiver.
    waiting: BTreeMap<NotifierName, u64>,
    notifiers: BTreeMap<NotifierName, NotifierState>,
    /// Unix ms of each CA that is trusted.
    authorities: Vec<(String, i64)>,
    database: PathBuf,
}

impl Metrics {
    /// Of this coordinator, whose store is the file `database`.
    #[must_use]
    pub fn new(store: Store, sessions: Sessions, figures: Figures, ca: Arc<Ca>, database: PathBuf) -> Self {
        Self { store, sessions, figures, ca, database }
    }

    async fn look(&self) -> Result<Seen> {
        let hosts = self.store.listed_hosts().await?;
        let skews = hosts.iter().filter_map(|host| Some((host.id.clone(), self.figures.skew_ms(&host.id)?))).collect();
        Ok(Seen {
            hosts,
            skews,
            connected: self.sessions.connected(),
            // One that cannot be read is told by `drover rollout`; the others are told all the same.
            active: self.store.active_rollouts().await?.iter().filter_map(|one| read(one).ok()).collect(),
            rollouts: self.store.rollouts(None, ROLLOUTS).await?.iter().filter_map(|one| read(one).ok()).collect(),
            tallied: self.store.tallied(),
            waiting: self.store.notifications_waiting().await?,
            notifiers: self.store.notifier_states().await?,
            authorities: authorities(&self.ca),
            database: self.database.clone(),
        })
    }
}

impl Source for Metrics {
    const PROGRAM: &'static str = "drover-coordinator";
    const SETTINGS: &'static str = "coordinator.toml";

    async fn scrape<T: Send + 'static>(
        self: Arc<Self>,
        format: Format,
        finish: impl FnOnce(String) -> T + Send + 'static,
    ) -> Option<T> {
        let seen = self.look().await.map_err(told).ok()?;
        let write = move || {
            let mut text = Text::new(format, USUAL_BYTES);
            seen.write(&mut text);
            process::write(&mut text);
            finish(text.finish())
        };
        tokio::task::spawn_blocking(write).await.ok()
    }

    fn document(self: Arc<Self>, path: &str) -> Option<impl Future<Output = Option<Vec<u8>>> + Send + use<>> {
        (path == "/sd")
            .then_some(async move { discovery::document(&self.store, &self.sessions).await.map_err(told).ok() })
    }
}

/// Whoever scrapes is told no more than that it failed.
fn told(error: StoreError) {
    error!(%error, source = std::error::Error::source(&error).map(ToString::to_string), "store");
}

/// The end of every CA that is trusted, by the digest of its certificate.
fn authorities(ca: &Ca) -> Vec<(String, i64)> {
    let of = |der: Vec<u8>| {
        let (_, certificate) = parse_x509_certificate(&der).ok()?;
        let digest = drover_proto::digest::Digest::of(&der).to_string();
        Some((digest, certificate.validity().not_after.timestamp() * 1000))
    };
    ca.trusted().into_iter().filter_map(of).collect()
}

impl Seen {
    fn write(&self, text: &mut Text) {
        text.gauge("drover_coordinator_build_info", "The coordinator's version; always 1.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.fleet(text);
        self.one_by_one(text);
        rollouts::write(&self.active, &self.rollouts, &self.tallied, text);
        text.counter("drover_coordinator_reports_total", "Reports of hosts that were stored.")
            .value(self.tallied.reports);
        text.counter("drover_coordinator_events_total", "Events of hosts that were stored.").value(self.tallied.events);
        text.gauge("drover_coordinator_store_bytes", "Size of the store with its write-ahead log in bytes.")
            .value(size(&self.database));
        let help = "When a CA that is trusted ends, in unixtime.";
        let mut family = text.gauge("drover_coordinator_ca_not_after_timestamp_seconds", help);
        for (digest, at_ms) in &self.authorities {
            family.sample(&[("ca", digest)], seconds(*at_ms));
        }
        self.notifications(text);
    }

    /// Of the receivers that there has been something for.
    fn notifications(&self, text: &mut Text) {
        let names: BTreeSet<&NotifierName> = self.waiting.keys().chain(self.notifiers.keys()).collect();
        let help = "Notifications that were not delivered yet.";
        let mut family = text.gauge("drover_coordinator_notifications_waiting", help);
        for name in &names {
            family.sample(&[("notifier", name.as_str())], self.waiting.get(*name).copied().unwrap_or_default());
        }
        let help = "Whether the last attempt to deliver a notification failed.";
        let mut family = text.gauge("drover_coordinator_notifier_failing", help);
        for (name, state) in &self.notifiers {
            family.sample(&[("notifier", name.as_str())], u8::from(state.failure.is_some()));
        }
    }

    fn fleet(&self, text: &mut Text) {
        let mut states = BTreeMap::from(["connected", "offline", "new", "revoked"].map(|state| (state, 0_u64)));
        let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
        for host in &self.hosts {
            *states.entry(self.state(host)).or_default() += 1;
            if self.is_connected(host) {
                *versions.entry(&host.agent_version).or_default() += 1;
            }
        }
        let mut family = text.gauge("drover_coordinator_hosts", "Enrolled hosts by state; new: never seen.");
        for (state, count) in states {
            family.sample(&[("state", state)], count);
        }
        let cordoned = self.hosts.iter().filter(|host| host.cordoned.is_some()).count();
        text.gauge("drover_coordinator_hosts_cordoned", "Hosts that rollouts keep away from.").value(cordoned);
        let mut family = text.gauge("drover_coordinator_agents_connected", "Connected agents by version.");
        for (version, count) in versions {
            family.sample(&[("version", version)], count);
        }
    }

    fn one_by_one(&self, text: &mut Text) {
        let hosts: Vec<&Host> = self.hosts.iter().filter(|host| host.revoked_ms.is_none()).collect();
        fn each(mut family: Family<'_>, hosts: &[&Host], value: impl Fn(&Host) -> Option<f64>) {
            for host in hosts {
                if let Some(value) = value(host) {
                    family.sample(&[("host", host.name.as_str())], value);
                }
            }
        }
        let help = "When the certificate of a host ends, in unixtime.";
        each(text.gauge("drover_host_certificate_not_after_timestamp_seconds", help), &hosts, |host| {
            Some(seconds(host.not_after_ms))
        });
        let help = "By how much the clock of a host is ahead of the coordinator's in seconds.";
        each(text.gauge("drover_host_clock_skew_seconds", help), &hosts, |host| {
            self.skews.get(&host.id).filter(|_| self.is_connected(host)).copied().map(seconds)
        });
        each(text.gauge("drover_host_connected", "Whether the stream of a host is up."), &hosts, |host| {
            Some(f64::from(u8::from(self.is_connected(host))))
        });
    }

    fn is_connected(&self, host: &Host) -> bool {
        self.connected.contains(&host.id)
    }

    fn state(&self, host: &Host) -> &'static str {
        match host.last_seen_ms {
            _ if host.revoked_ms.is_some() => "revoked",
            _ if self.is_connected(host) => "connected",
            Some(_) => "offline",
            None => "new",
        }
    }
}

fn seconds(unix_ms: i64) -> f64 {
    unix_ms as f64 / 1000.0
}

fn size(database: &Path) -> u64 {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    [database, Path::new(&log)].iter().filter_map(|path| fs::metadata(path).ok()).map(|about| about.len()).sum()
}

#[cfg(test)]
mod tests;
