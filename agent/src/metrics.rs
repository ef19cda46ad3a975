//! What Prometheus reads of this host at `/metrics`: the host under node_exporter's names (`node`, `units`), containers under
//! cAdvisor's (`containers`), apps (`own`) and the agent itself (`agent`). Everything is read anew for each scrape, but the states of
//! units, which are kept current by systemd's signals. It is served by `drover-exposition`, which the coordinator uses, too.

mod agent;
mod cgroup;
mod containers;
pub mod figures;
pub(crate) mod node;
mod own;
mod units;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use drover_exposition::{Source, process, text};
use drover_proto::{
    name::{AppName, CheckName},
    status::HostStatus,
};
use tokio::{sync::watch, time::timeout};

pub use self::{agent::Agent, text::Format};
use self::{
    containers::Containers,
    node::{Outcome, Root},
    text::Text,
    units::Units,
};
use crate::{
    check::standing::Standing,
    host::{
        docker::Engine,
        systemd::{Systemd, UnitTable},
    },
};

/// Room for the text of a host with a few disks, interfaces and apps.
const USUAL_BYTES: usize = 96 << 10;
/// For systemd. Without its answer units are left out.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// How checks stand.
pub type Standings = BTreeMap<(AppName, CheckName), Standing>;

/// What a scrape reads from.
pub struct Metrics {
    root: Root,
    memory: Mutex<node::Memory>,
    units: Option<tokio::sync::Mutex<Units>>,
    containers: tokio::sync::Mutex<Containers>,
    status: watch::Receiver<Arc<HostStatus>>,
    standings: Box<dyn Fn() -> Standings + Send + Sync>,
    agent: Agent,
}

impl Metrics {
    /// Of this host. `systemd`: with its table; `None` where there is none.
    #[must_use]
    pub fn new(
        systemd: Option<(Systemd, UnitTable)>,
        engine: Engine,
        status: watch::Receiver<Arc<HostStatus>>,
        standings: impl Fn() -> Standings + Send + Sync + 'static,
        agent: Agent,
    ) -> Self {
        Self {
            root: Root::new("/").keeping(),
            memory: Mutex::default(),
            units: systemd.map(|(systemd, table)| Units::new(systemd, table).into()),
            containers: Containers::new(engine).into(),
            status,
            standings: Box::new(standings),
            agent,
        }
    }

    async fn units(&self, status: &HostStatus, format: Format) -> (Option<units::Seen>, Option<Outcome>) {
        let Some(units) = &self.units else { return (None, None) };
        let begun = Instant::now();
        let mut units = units.lock().await;
        let seen = match timeout(ANSWERS_WITHIN, units.look(status, format)).await {
            Ok(Ok(seen)) => Some(seen),
            Ok(Err(error)) => {
                tracing::debug!(%error, "units are left out of the metrics");
                None
            }
            Err(_) => None,
        };
        let outcome = ("systemd", begun.elapsed().as_secs_f64(), seen.is_some());
        (seen, Some(outcome))
    }
}

impl Source for Metrics {
    const PROGRAM: &'static str = "drover-agent";
    const SETTINGS: &'static str = "agent.toml";

    async fn scrape<T: Send + 'static>(
        self: Arc<Self>,
        format: Format,
        finish: impl FnOnce(String) -> T + Send + 'static,
    ) -> Option<T> {
        let status = self.status.borrow().clone();
        let (units, of_units) = self.units(&status, format).await;
        let version = cgroup::Version::of(&self.root);
        let containers = self.containers.lock().await.look(&self.root, version).await;
        let standings = (self.standings)();
        // In the turn in which it is asked for: nearly always the kernel has written these files sooner than another thread is
        // awake. When it has not, or a file system hangs, the other tasks go on meanwhile.
        let write = || {
            let mut text = Text::new(format, USUAL_BYTES);
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            node::collect(&self.root, &mut memory, of_units, &mut text);
            drop(memory);
            if let Some(units) = units {
                units::write(&self.root, version, &units, &mut text);
            }
            containers::write(&self.root, version, &containers, &mut text);
            own::apps(&status, &mut text);
            own::checks(&standings, &mut text);
            own::alerts(&status, &mut text);
            self.agent.write(&status, &mut text);
            process::write(&mut text);
            finish(text.finish())
        };
        Some(tokio::task::block_in_place(write))
    }
}

/// As Prometheus counts time.
fn seconds(unix_ms: i64) -> f64 {
    unix_ms as f64 / 1000.0
}

#[cfg(test)]
mod tests;
