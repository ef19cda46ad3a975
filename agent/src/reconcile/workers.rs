//! One worker per app and no more: it does what is due by the newest spec, and looks after what is committed. Apps are
//! worked on side by side, so that one that takes long holds no other up. `reconcile` says when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use drover_proto::{
    event::EventKind,
    name::AppName,
    spec::{DesiredApp, HostSpec},
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

use super::{
    End, Shared, Work,
    decide::{Task, decide, going_on},
    turns::{Held, Turn},
};
use crate::{host::clock::Moment, ledger::AppLedger};

/// All that are at work.
pub(super) struct Workers {
    shared: Arc<Shared>,
    specs: watch::Receiver<Option<Arc<HostSpec>>>,
    tasks: JoinSet<AppName>,
    /// Apps that somebody works on; `true`: they were asked for once more meanwhile.
    busy: BTreeMap<AppName, bool>,
}

impl Workers {
    pub(super) fn new(shared: Arc<Shared>, specs: watch::Receiver<Option<Arc<HostSpec>>>) -> Self {
        Self { shared, specs, tasks: JoinSet::new(), busy: BTreeMap::new() }
    }

    /// Has the app worked on; once more, if that is under way.
    pub(super) fn begin(&mut self, app: AppName) {
        if let Some(again) = self.busy.get_mut(&app) {
            *again = true;
            return;
        }
        self.busy.insert(app.clone(), false);
        self.tasks.spawn(work(self.shared.clone(), self.specs.clone(), app));
    }

    /// The same for all these.
    pub(super) fn begin_all(&mut self, apps: impl IntoIterator<Item = AppName>) {
        apps.into_iter().for_each(|app| self.begin(app));
    }

    /// Waits until the next one has ended; never returns while nobody is at work.
    pub(super) async fn next(&mut self) -> Result<(), JoinError> {
        match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(Ok(app)) => {
                if self.busy.remove(&app) == Some(true) {
                    self.begin(app);
                }
                Ok(())
            }
            Some(Err(error)) => Err(error),
        }
    }

    /// Until nobody is at work any more.
    #[cfg(test)]
    pub(super) async fn all(&mut self) {
        while !self.tasks.is_empty() {
            self.next().await.unwrap();
        }
    }
}

/// What is due for one app, until nothing is that the newest spec asks for.
async fn work(shared: Arc<Shared>, mut specs: watch::Receiver<Option<Arc<HostSpec>>>, app: AppName) -> AppName {
    loop {
        let spec = specs.borrow_and_update().clone();
        let end = match spec {
            Some(spec) => shared.converge(&spec, &specs, &app).await,
            None => End::Settled,
        };
        match end {
            End::Superseded => tracing::info!(%app, "something newer is wanted"),
            End::Settled => {
                shared.turns.proven(&app);
                shared.look_after(&specs, &app).await;
                shared.told(&specs, &app).await;
                return app;
            }
            End::LookedAt => {
                shared.turns.proven(&app);
                shared.told(&specs, &app).await;
                return app;
            }
        }
    }
}

impl Shared {
    /// Every app that is wanted or known here.
    pub(super) fn every_app(&self, spec: Option<&HostSpec>) -> BTreeSet<AppName> {
        let wanted = spec.into_iter().flat_map(|spec| spec.apps.keys().cloned());
        wanted.chain(self.app_names()).chain(self.ledgers.damaged().into_keys()).collect()
    }

    /// Does what is due for one app.
    async fn converge(&self, spec: &HostSpec, specs: &watch::Receiver<Option<Arc<HostSpec>>>, app: &AppName) -> End {
        let mut desired = spec.apps.get(app).cloned();
        if desired.is_none() && spec.keep.contains(app) {
            // It stays as it is, and what is wanted of it is not on this host any more: what runs is all that is known.
            if let Some(ledger) = self.ledger(app) {
                self.say(&ledger, ledger.current.as_ref());
            }
            return End::Settled;
        }
        let hand = self.hand(app);
        let held = hand.lock().await;
        let ledger = match (self.ledger(app), &desired) {
            (Some(ledger), _) => ledger,
            (None, Some(_)) => AppLedger::new(app.clone()),
            (None, None) if self.ledgers.damaged().contains_key(app) => AppLedger::new(app.clone()),
            (None, None) => return End::Settled,
        };
        desired.iter_mut().for_each(|desired| ledger.remember_restart(desired));
        let task = decide(&ledger, desired.as_ref(), &Moment::now());
        let interrupted = self.take_interrupted(app).and_then(|()| ledger.activation.clone());
        let mut work = Work::new(self, specs.clone(), app.clone(), spec.into(), ledger);
        work.conceal();
        if let Some(activation) = interrupted {
            work.tell(EventKind::ActivationResumed, going_on(&activation, &task));
        }
        if matches!(task, Task::Nothing) {
            self.say(&work.ledger, desired.as_ref());
            return End::Settled;
        }
        let flight = self.flights.begin(app).await;
        let end = work.carry(task).await;
        drop((flight, held));
        self.guard(app, &work.facts);
        end
    }

    /// Looks at what is committed. A newer spec waits neither for the turn nor for the answers of checks.
    async fn look_after(&self, specs: &watch::Receiver<Option<Arc<HostSpec>>>, app: &AppName) {
        let (mut newer, mut turn) = (specs.clone(), Held::none(app.clone()));
        tokio::select! {
            biased;
            _ = newer.changed() => return,
            // Before the hand: units of an app that only waits to be looked at are started again meanwhile.
            () = self.turns.take(Some(Turn::Look), &mut turn) => {}
        }
        let hand = self.hand(app);
        let held = hand.lock().await;
        let Some((ledger, current)) = self.committed(app) else { return };
        let mut work = Work::new(self, specs.clone(), app.clone(), self.facts(), ledger);
        work.conceal();
        work.held = turn;
        let flight = self.flights.look(app).await;
        let Some((rendered, observed, notes)) = work.inspect(&current).await else { return };
        drop((flight, held));
        self.turns.take(Some(Turn::Look), &mut work.held).await;
        tokio::select! {
            () = work.publish(&rendered, &observed, &notes) => {}
            _ = newer.changed() => {}
        }
    }

    /// Notes that the commit was told for good. An agent that is killed before tells it once more. Nobody waits for that:
    /// neither something newer, nor a unit that is to be started.
    async fn told(&self, specs: &watch::Receiver<Option<Arc<HostSpec>>>, app: &AppName) {
        let untold = |ledger: &AppLedger| ledger.untold;
        if !self.ledger(app).as_ref().is_some_and(untold) {
            return;
        }
        let mut newer = specs.clone();
        let kept = tokio::select! {
            biased;
            _ = newer.changed() => false,
            kept = self.parts.events.kept() => kept,
        };
        let hand = self.hand(app);
        let _held = hand.lock().await;
        let Some(mut ledger) = self.ledger(app).filter(|ledger| kept && untold(ledger)) else { return };
        ledger.untold = false;
        match self.ledgers.save(&ledger) {
            Ok(()) => self.remember(&ledger),
            Err(error) => tracing::warn!(%app, %error, "it may be told once more what was committed"),
        }
    }

    fn committed(&self, app: &AppName) -> Option<(AppLedger, DesiredApp)> {
        let ledger = self.ledger(app)?;
        let current = ledger.current.clone()?;
        Some((ledger, current))
    }
}

impl Work<'_> {
    async fn carry(&mut self, task: Task) -> End {
        match task {
            Task::Activate(desired) if self.recover(&desired).await => End::Settled,
            Task::Activate(desired) => self.activate(&desired, None).await,
            Task::Resume(desired) => self.resume(&desired).await,
            Task::Revert { desired, failure } => self.revert(&desired, *failure).await,
            Task::Remove => self.remove().await,
            Task::Nothing => End::Settled,
        }
    }
}
