//! The one task that brings alerts to people: hears hosts, looks for itself, decides for every group of alerts and stores what is to be
//! told, which `deliver` then sends. Clones of `Alerts` are how the rest of the coordinator speaks with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_proto::{
    alert::{AlertState, AlertStatus, RuleSet},
    event::EventKind,
    name::{HostId, LabelKey, LabelValue},
    status::HostStatus,
    view::AlertView,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    Alerting, MatcherError,
    book::{Active, Entry, Known, Silence, alerts, order},
    deliver::Deliveries,
    fleet::{self, Sight},
    steps::Steps,
    tell::Teller,
};
use crate::{
    clock::Clock,
    session::{HostEvent, Sessions},
    store::{FleetChange, Host, Result, Store, StoreError, StoredSilence},
};

/// Between two looks when nothing was heard.
const TICK: Duration = Duration::from_secs(1);
/// Hosts come, go and are labelled; they are read again this often, and when one connects.
const HOSTS_EVERY: Duration = Duration::from_secs(5);

/// How far a host's clock is ahead of the coordinator's, ms, if that is known just now.
pub type Skew = dyn Fn(&HostId) -> Option<i64> + Send + Sync;

/// A host, what is known of its alerts from now on, and what of them began and ended.
type Looked = (HostId, Known, Vec<(EventKind, String)>);

/// Alerts of all hosts; clones share them.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    store: Store,
    sessions: Sessions,
    stop: CancellationToken,
    alerting: watch::Sender<Arc<Alerting>>,
    state: Mutex<State>,
    wake: Notify,
    silences_turn: tokio::sync::Mutex<()>,
    /// Held while something is decided, and while the settings become others.
    turn: tokio::sync::Mutex<()>,
    deliveries: Deliveries,
    skew: Box<Skew>,
    clock: Clock,
    /// Since when the coordinator runs; the same is in `State`.
    born: Instant,
}

struct State {
    steps: Steps,
    /// Since when the coordinator runs, Unix ms.
    born_unix_ms: i64,
    hosts: BTreeMap<HostId, Entry>,
    silences: Vec<Silence>,
    /// Said by hosts that are not in the list yet.
    early: BTreeMap<HostId, Vec<AlertStatus>>,
    /// A host has connected: labels or version may be others.
    hosts_changed: bool,
}

impl State {
    fn begin(now_ms: i64) -> Self {
        Self {
            steps: Steps::begin(now_ms),
            born_unix_ms: now_ms,
            hosts: BTreeMap::new(),
            silences: Vec::new(),
            early: BTreeMap::new(),
            hosts_changed: false,
        }
    }

    /// Looks at the clock: by how much it was set, ms. All times here are by the new one then; silences are as they were written.
    fn keep_time(&mut self, now_ms: i64) -> i64 {
        let by_ms = self.steps.look(now_ms);
        if by_ms != 0 {
            warn!(by_ms, "the clock was set");
            self.born_unix_ms += by_ms;
            self.hosts.values_mut().for_each(|entry| entry.shift(by_ms));
        }
        by_ms
    }
}

impl Alerts {
    /// Goes on where the store says it was, until `stop`.
    pub async fn start(
        store: Store,
        sessions: Sessions,
        alerting: Alerting,
        skew: Box<Skew>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Result<Self> {
        let deliveries = Deliveries::new(store.clone(), clock.clone(), stop.clone());
        let inner = Inner {
            store,
            sessions,
            stop,
            alerting: watch::Sender::new(Arc::default()),
            state: Mutex::new(State::begin(clock())),
            wake: Notify::new(),
            silences_turn: tokio::sync::Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            deliveries,
            skew,
            clock,
            born: Instant::now(),
        };
        let all = Self(Arc::new(inner));
        all.read_hosts().await?;
        all.read_silences().await?;
        let teller = Teller::open(&all.0.store).await?;
        all.follow(alerting).await?;
        tokio::spawn(all.clone().run(teller));
        Ok(all)
    }

    /// From now on these rules, routes and receivers count.
    pub async fn follow(&self, alerting: Alerting) -> Result<()> {
        let known = alerting.notifiers.keys().cloned().collect();
        // What was decided by the settings before is stored by then, and forgotten with its notifier.
        let _turn = self.0.turn.lock().await;
        let lost = self.0.store.forget_notifiers_but(&known).await?;
        if lost > 0 {
            warn!(lost, "notifications for notifiers that are not in the alerting file any more were dropped");
        }
        self.0.deliveries.follow(&alerting.notifiers, alerting.limits.per_minute);
        info!(rules = alerting.rules.len(), notifiers = alerting.notifiers.len(), "alerting");
        self.0.alerting.send_replace(Arc::new(alerting));
        self.0.wake.notify_one();
        Ok(())
    }

    /// Waits until what was being sent is sent, and written down; after `stop` was cancelled. That takes 15 s at most.
    pub async fn ended(&self) {
        self.0.deliveries.ended().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What counts now, and whenever that changes.
    #[must_use]
    pub fn alerting(&self) -> watch::Receiver<Arc<Alerting>> {
        self.0.alerting.subscribe()
    }
    /// The rules of a host with these labels.
    #[must_use]
    pub fn rules_of(&self, labels: &BTreeMap<LabelKey, LabelValue>) -> RuleSet {
        self.0.alerting.borrow().rules_of(labels)
    }

    /// What a host has said, or that it has come or gone.
    pub fn heard(&self, event: &HostEvent) {
        match event {
            HostEvent::Report(host, status) => {
                let mut state = self.state();
                match state.hosts.get_mut(host) {
                    Some(entry) if entry.reported == status.alerts => return,
                    Some(entry) => entry.reported.clone_from(&status.alerts),
                    None => {
                        state.early.insert(host.clone(), status.alerts.clone());
                        state.hosts_changed = true;
                    }
                }
            }
            HostEvent::Connected(_) => self.state().hosts_changed = true,
            HostEvent::Lost(_) => {}
            HostEvent::Refused { .. } => return,
        }
        self.0.wake.notify_one();
    }

    /// Reads silences again: somebody has added or ended one.
    pub async fn read_silences(&self) -> Result<()> {
        // One after the other: what was read first is not to be put in place last.
        let _turn = self.0.silences_turn.lock().await;
        let stored = self.0.store.silences().await?;
        let read = stored.into_iter().map(silence).collect::<std::result::Result<Vec<_>, MatcherError>>();
        self.state().silences = read.map_err(|_| StoreError::Damaged("a silence"))?;
        self.0.wake.notify_one();
        Ok(())
    }

    async fn read_hosts(&self) -> Result<()> {
        // What is heard from here on is looked at once more.
        self.state().hosts_changed = false;
        let rows = self.0.store.hosts().await?;
        let unknown: Vec<HostId> = {
            let state = self.state();
            rows.iter().map(|row| row.id.clone()).filter(|id| !state.hosts.contains_key(id)).collect()
        };
        let mut reported = BTreeMap::new();
        for id in unknown {
            let report = self.0.store.report(&id).await?;
            reported.insert(id, report.map(|report| read_alerts(&report.status_json)).unwrap_or_default());
        }
        let known = if reported.is_empty() { BTreeMap::new() } else { self.0.store.fleet_alerts().await? };
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.hosts);
        // Newer than what was in the store when that was read.
        reported.append(&mut std::mem::take(&mut state.early));
        state.hosts = rows
            .into_iter()
            .map(|row| {
                let Host { id, name, labels, agent_version, last_seen_ms, .. } = row;
                let (reported, known, away) = match before.remove(&id) {
                    Some(entry) => (entry.reported, entry.known, entry.away),
                    None => {
                        let known = known.get(&id).map(|document| Known::read(document));
                        (reported.remove(&id).unwrap_or_default(), known.unwrap_or_default(), None)
                    }
                };
                (id, Entry { name, labels, agent_version, last_seen_ms, reported, known, away })
            })
            .collect();
        Ok(())
    }

    async fn run(self, mut teller: Teller) {
        let mut pause = Duration::ZERO;
        let mut hosts_read = Instant::now();
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let step = async {
                let _turn = self.0.turn.lock().await;
                if self.state().hosts_changed || hosts_read.elapsed() >= HOSTS_EVERY {
                    self.read_hosts().await?;
                    hosts_read = Instant::now();
                }
                let (alerting, now_ms) = (self.0.alerting.borrow().clone(), (self.0.clock)());
                let set_by_ms = self.state().keep_time(now_ms);
                if set_by_ms != 0 {
                    teller.shift(set_by_ms);
                }
                self.look(&alerting, now_ms, set_by_ms != 0).await?;
                let told = teller.step(&self.0.store, &alerting, &self.alerts(now_ms), now_ms).await?;
                told.iter().for_each(|notifier| self.0.deliveries.wake(notifier));
                Ok::<(), StoreError>(())
            };
            // What could not be stored is decided again.
            if let Err(failed) = step.await {
                let source = std::error::Error::source(&failed).map(ToString::to_string);
                error!(error = %failed, source, "alerts");
            }
            pause = teller.pause(TICK, (self.0.clock)());
        }
    }

    /// What only the coordinator can tell, of every host; what has changed is stored, and all of it when the clock was set.
    async fn look(&self, alerting: &Alerting, now_ms: i64, is_set: bool) -> Result<()> {
        let changed: Vec<Looked> = {
            let mut state = self.state();
            let born_unix_ms = state.born_unix_ms;
            let look = |(id, entry): (&HostId, &mut Entry)| {
                entry.away = self.away(id, entry.away, born_unix_ms, now_ms);
                let rules = alerting.rules_of(&entry.labels).effective();
                let own = fleet::look(&rules, &self.sight(id, entry, born_unix_ms), &entry.known.own, now_ms);
                let now = Known { own, seen: entry.seen(alerting, now_ms) };
                let told = told(&entry.known.own, &now.own);
                let is_stale = now != entry.known || (is_set && now != Known::default());
                is_stale.then(|| (id.clone(), now, told))
            };
            state.hosts.iter_mut().filter_map(look).collect()
        };
        if changed.is_empty() {
            return Ok(());
        }
        let change = |(host, now, told): &Looked| {
            let document = serde_json::to_string(now).map_err(|_| StoreError::Damaged("alerts"))?;
            Ok(FleetChange { host: host.clone(), document, told: told.clone() })
        };
        let changes: Vec<FleetChange> = changed.iter().map(change).collect::<Result<_>>()?;
        self.0.store.save_fleet_alerts(&changes, now_ms).await?;
        let mut state = self.state();
        for (host, now, _) in changed {
            if let Some(entry) = state.hosts.get_mut(&host) {
                entry.known = now;
            }
        }
        Ok(())
    }

    /// From when on a host is away. By how long that is: the clock may have been set since it was lost.
    fn away(
        &self,
        id: &HostId,
        before: Option<(Instant, i64)>,
        born_unix_ms: i64,
        now_ms: i64,
    ) -> Option<(Instant, i64)> {
        let at = self.0.sessions.away_from(id)?;
        if let Some(same) = before.filter(|(before, _)| *before == at) {
            return Some(same);
        }
        let since = now_ms.saturating_sub(i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX));
        Some((at, if at <= self.0.born { since.min(born_unix_ms) } else { since }))
    }

    fn sight(&self, id: &HostId, entry: &Entry, born_unix_ms: i64) -> Sight {
        let other = entry.agent_version != env!("CARGO_PKG_VERSION") && !entry.agent_version.is_empty();
        let away_since = entry.away.map(|(_, since)| since);
        Sight {
            away_since,
            was_seen: entry.last_seen_ms.is_some(),
            born_unix_ms,
            other_version: other.then(|| entry.agent_version.clone()),
            skew_ms: if away_since.is_some() { None } else { (self.0.skew)(id) },
        }
    }

    /// All alerts of all hosts.
    fn alerts(&self, now_ms: i64) -> Vec<Active> {
        let (state, alerting) = (self.state(), self.0.alerting.borrow().clone());
        alerts(&state.hosts, &alerting, &state.silences, now_ms)
    }
    /// All alerts of all hosts for operators: the worst first, then the oldest.
    #[must_use]
    pub fn views(&self, now_ms: i64) -> Vec<AlertView> {
        let mut alerts = self.alerts(now_ms);
        alerts.sort_by(order);
        let state = self.state();
        let view = |alert: &Active| state.hosts.get(&alert.host).map(|entry| alert.view(&entry.name));
        alerts.iter().filter_map(view).collect()
    }
    /// How many fire on each host.
    #[must_use]
    pub fn firing(&self) -> BTreeMap<HostId, usize> {
        let fires = |status: &&AlertStatus| status.state == AlertState::Firing;
        let alerting = self.0.alerting.borrow().clone();
        let count = |entry: &Entry| entry.alerts(&alerting).filter(fires).count();
        self.state().hosts.iter().map(|(id, entry)| (id.clone(), count(entry))).collect()
    }
}

fn silence(stored: StoredSilence) -> std::result::Result<Silence, MatcherError> {
    let StoredSilence { id, matchers, starts_ms, ends_ms, created_by, reason } = stored;
    let matchers = matchers.iter().map(|text| text.parse()).collect::<std::result::Result<_, _>>()?;
    Ok(Silence { id, matchers, starts_ms, ends_ms, by: created_by, reason })
}

/// Of a stored report; one that cannot be read is as good as none.
fn read_alerts(status_json: &str) -> Vec<AlertStatus> {
    serde_json::from_str::<HostStatus>(status_json).map(|status| status.alerts).unwrap_or_default()
}

/// What began and what ended, as events.
fn told(before: &[AlertStatus], now: &[AlertStatus]) -> Vec<(EventKind, String)> {
    let fires = |all: &[AlertStatus], status: &AlertStatus| {
        all.iter().any(|other| other.key == status.key && other.state == AlertState::Firing)
    };
    let said = |status: &AlertStatus| format!("{} ({}): {}", status.key.alert, status.severity.word(), status.summary);
    let firing = |status: &&AlertStatus| status.state == AlertState::Firing;
    let began = now.iter().filter(firing).filter(|status| !fires(before, status));
    let ended = before.iter().filter(firing).filter(|status| !fires(now, status));
    let began = began.map(|status| (EventKind::FleetAlertFiring, said(status)));
    let ended = ended.map(|status| (EventKind::FleetAlertResolved, format!("{} is over", status.key.alert)));
    began.chain(ended).collect()
}
