//! All rollouts: begins them, hands them what hosts say and operators want, resumes them after a restart, and gives
//! hosts that come later the last good release of each app that matches.
//!
//! One task (`listen`) receives the hosts' events; each active rollout has a `driver` task.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use drover_proto::{
    name::{AppName, HostId, RolloutId},
    view::RolloutView,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use super::{
    begin::{self, BeginError, Sightings, Wish},
    driver::{Driver, Message},
    state::{Kind, Rollout, What},
    writes::Writes,
};
use crate::{
    clock,
    session::{HostEvent, Sessions},
    store::{Host, Result, Store, StoreError, StoredRollout},
};

/// Events that wait for one rollout.
const INBOX: usize = 256;
/// Writes a spec without a rollout that could be charged.
const NO_ROLLOUT: RolloutId = 0;

mod cordon;
mod fill;

/// All rollouts; clones share them.
#[derive(Clone)]
pub struct Rollouts(Arc<Inner>);

struct Inner {
    store: Store,
    sessions: Sessions,
    writes: Writes,
    active: Mutex<BTreeMap<RolloutId, Handle>>,
    /// Beginning is one at a time, so that superseding has an order and no two apps get the same part of a host.
    beginning: tokio::sync::Mutex<()>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Clone)]
struct Handle {
    app: AppName,
    inbox: mpsc::Sender<Message>,
    view: watch::Receiver<RolloutView>,
}

/// Why a rollout cannot be paused, resumed or aborted.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It is in another state.
    #[error("rollout {id} is {state}, and so that cannot be done")]
    State {
        /** Which. */
        id: RolloutId,
        /** One word. */
        state: &'static str,
    },
    /// There is none.
    #[error("there is no rollout {0}")]
    NotFound(RolloutId),
    /// The coordinator is stopping.
    #[error("the coordinator is stopping: try again in a moment")]
    Stopping,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Reads a stored document.
pub fn read(stored: &StoredRollout) -> Result<Rollout> {
    serde_json::from_str(&stored.document).map_err(|_| StoreError::Damaged("a rollout"))
}

impl Rollouts {
    /// None yet; `resume` takes up those that are stored. All end when `stop` is cancelled.
    #[must_use]
    pub fn new(store: Store, sessions: Sessions, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            store,
            sessions,
            writes: Writes::default(),
            active: Mutex::default(),
            beginning: tokio::sync::Mutex::default(),
            stop,
            tasks: TaskTracker::new(),
        }))
    }
    /// Waits until every task has ended; after `stop`.
    pub async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }
    fn active(&self) -> MutexGuard<'_, BTreeMap<RolloutId, Handle>> {
        // Nothing panics while it holds the lock.
        self.0.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn handles(&self) -> Vec<(RolloutId, Handle)> {
        self.active().iter().map(|(id, handle)| (*id, handle.clone())).collect()
    }

    /// Takes up every rollout that had not ended. Call before hosts may connect.
    pub async fn resume(&self) -> Result<()> {
        let stored = self.0.store.active_rollouts().await?;
        let mut rollouts = stored.iter().map(read).collect::<Result<Vec<_>>>()?;
        // The coordinator may have ended between storing a rollout and ending the one whose place it takes.
        let newest: BTreeMap<AppName, RolloutId> = rollouts.iter().map(|r| (r.app.clone(), r.id)).collect();
        rollouts.sort_by_key(|rollout| rollout.id);
        for rollout in rollouts {
            let mut first = vec![What::Restarted, What::Start];
            if let Some(by) = newest.get(&rollout.app).filter(|newest| **newest != rollout.id) {
                first = vec![What::Superseded { by: *by }];
            }
            for host in &rollout.hosts {
                host.generation.iter().for_each(|written| self.0.writes.note(&host.id, *written, rollout.id));
            }
            info!(rollout = rollout.id, app = %rollout.app, state = rollout.state.word(), "resumed");
            self.spawn(rollout, first);
        }
        Ok(())
    }

    /// Begins a rollout over those of `hosts` that are still welcome, which it puts in order; one of the same app that is
    /// active ends.
    pub async fn begin(&self, wish: Wish, hosts: Vec<Host>) -> std::result::Result<RolloutId, BeginError> {
        let _one_at_a_time = self.0.beginning.lock().await;
        let (store, sessions) = (&self.0.store, &self.0.sessions);
        // As they are now: since they were looked up, one may have been cordoned, drained or removed.
        let mut now: BTreeMap<HostId, Host> =
            store.hosts().await?.into_iter().map(|host| (host.id.clone(), host)).collect();
        let hosts: Vec<Host> = hosts.iter().filter_map(|host| now.remove(&host.id)).collect();
        self.not_of_others(&wish, &hosts).await?;
        let sightings = Sightings::gather(store, sessions, &wish.app, &hosts).await?;
        let hosts = sightings.in_order(&wish.app, hosts);
        let now_ms = clock::unix_ms();
        let mut rollout = begin::document(&wish, &hosts, &sightings, now_ms);
        let what = wish.target.map_or(wish.app.to_string(), |release| format!("{}/{release}", wish.app));
        let kind = if wish.target.is_none() { "removal" } else { wish.kind.word() };
        let what = format!("{kind} of {what} on {}", count(hosts.len()));
        let id = store
            .create_rollout(&wish.app, &wish.by, &what, now_ms, |id| {
                rollout.id = id;
                serde_json::to_string(&rollout)
            })
            .await?;
        rollout.id = id;
        for (older, handle) in self.handles() {
            if handle.app == wish.app && self.tell(older, What::Superseded { by: id }).await.is_err() {
                info!(rollout = older, "ended by itself as rollout {id} was to take its place");
            }
        }
        self.spawn(rollout, vec![What::Start]);
        Ok(id)
    }

    fn spawn(&self, rollout: Rollout, first: Vec<What>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let (view, watcher) = watch::channel(rollout.view());
        let id = rollout.id;
        let handle = Handle { app: rollout.app.clone(), inbox: sender, view: watcher };
        let driver = Driver {
            store: self.0.store.clone(),
            sessions: self.0.sessions.clone(),
            writes: self.0.writes.clone(),
            rollout,
            inbox,
            view,
            stop: self.0.stop.clone(),
            stored_unix_ms: 0,
        };
        self.active().insert(id, handle);
        let all = self.clone();
        self.0.tasks.spawn(async move {
            let ended = driver.run(first).await;
            all.active().remove(&id);
            let Ok(rollout) = ended else { return };
            if let Err(error) = all.fill_in_after(&rollout).await {
                error!(rollout = id, %error, "hosts that came during the rollout could not be looked for");
            }
        });
    }

    async fn tell(&self, id: RolloutId, what: What) -> std::result::Result<RolloutView, ControlError> {
        let handle = self.active().get(&id).cloned();
        let Some(handle) = handle else { return Err(self.not_active(id).await) };
        let (answer, answered) = oneshot::channel();
        if handle.inbox.send(Message::Control(what, answer)).await.is_err() {
            return Err(self.not_active(id).await);
        }
        match answered.await {
            Ok(said) => said,
            Err(_) => Err(self.not_active(id).await),
        }
    }

    async fn not_active(&self, id: RolloutId) -> ControlError {
        match self.0.store.rollout(id).await {
            Ok(None) => ControlError::NotFound(id),
            Ok(Some(stored)) => match read(&stored) {
                Ok(rollout) if rollout.state.is_final() => ControlError::State { id, state: rollout.state.word() },
                Ok(_) => ControlError::Stopping,
                Err(error) => error.into(),
            },
            Err(error) => error.into(),
        }
    }

    /// Pauses, resumes or aborts a rollout; answers it afterwards.
    pub async fn control(
        &self,
        id: RolloutId,
        what: What,
        word: &'static str,
        by: &str,
    ) -> std::result::Result<RolloutView, ControlError> {
        let view = self.tell(id, what).await?;
        let subject = format!("{id} ({})", view.summary.app);
        self.0.store.record(by, word, &subject, clock::unix_ms()).await?;
        Ok(view)
    }
    /// The views of an active rollout, now and at each change; ends when it does. `None`: it is not active.
    #[must_use]
    pub fn watch(&self, id: RolloutId) -> Option<watch::Receiver<RolloutView>> {
        self.active().get(&id).map(|handle| handle.view.clone())
    }
    /// The view of a rollout, active or not.
    pub async fn view(&self, id: RolloutId) -> Result<Option<RolloutView>> {
        let live = self.watch(id).map(|view| view.borrow().clone());
        if live.is_some() {
            return Ok(live);
        }
        self.0.store.rollout(id).await?.map(|stored| Ok(read(&stored)?.view())).transpose()
    }
    /// The active rollout of an app: the newest, as one whose place it has taken may still be on its way out.
    #[must_use]
    pub fn active_of(&self, app: &AppName) -> Option<RolloutView> {
        self.active().values().rev().find(|handle| handle.app == *app).map(|handle| handle.view.borrow().clone())
    }

    /// Of every app the active rollout, if there is one: the newest.
    pub(super) fn all_active(&self) -> BTreeMap<AppName, RolloutView> {
        self.active().values().map(|handle| (handle.app.clone(), handle.view.borrow().clone())).collect()
    }

    /// Hands over what hosts say, until no stream is left or the coordinator stops.
    pub async fn listen(self, mut events: mpsc::Receiver<HostEvent>) {
        loop {
            let event = tokio::select! {
                () = self.0.stop.cancelled() => return,
                event = events.recv() => event,
            };
            let Some(event) = event else { return };
            let charged = match &event {
                HostEvent::Refused { host, generation, .. } => Some(self.0.writes.writer(host, *generation)),
                HostEvent::Connected(_) | HostEvent::Lost(_) | HostEvent::Report(..) => None,
            };
            for (id, handle) in self.handles() {
                // The others have written nothing that the host could refuse there.
                if charged.is_some_and(|writer| writer != Some(id)) {
                    continue;
                }
                if handle.inbox.send(Message::Event(what(&event, &handle.app))).await.is_err() {
                    // It ended just now; what the host says is stored.
                    continue;
                }
            }
            if let HostEvent::Connected(host) = &event
                && let Err(error) = self.fill_in(host).await
            {
                error!(%host, %error, "apps for a host could not be looked for");
            }
        }
    }
    /// A host was removed by an operator.
    pub async fn host_removed(&self, host: &HostId) {
        self.0.writes.forget(host);
        for (id, handle) in self.handles() {
            if handle.inbox.send(Message::Event(What::HostRemoved(host.clone()))).await.is_err() {
                info!(rollout = id, "ended before it heard that a host was removed");
            }
        }
    }
}

fn count(hosts: usize) -> String {
    if hosts == 1 { "1 host".to_owned() } else { format!("{hosts} hosts") }
}

/// Whether a host has all of these labels.
#[must_use]
pub fn matches(targets: &BTreeMap<drover_proto::name::LabelKey, drover_proto::name::LabelValue>, host: &Host) -> bool {
    targets.iter().all(|(key, value)| host.labels.get(key) == Some(value))
}

fn what(event: &HostEvent, app: &AppName) -> What {
    match event {
        HostEvent::Connected(host) => What::HostConnected(host.clone()),
        HostEvent::Lost(host) => What::HostLost(host.clone()),
        HostEvent::Report(host, status) => What::HostReport {
            host: host.clone(),
            generation: status.generation,
            status: status.apps.get(app).cloned().map(Box::new),
        },
        HostEvent::Refused { host, generation, message } => {
            What::SpecRefused { host: host.clone(), generation: *generation, message: message.clone() }
        }
    }
}
