//! The one loop of a host: wake → observe → plan → exec → gate → commit or revert → report, app beside app. One that fails
//! or takes long does not hold the others up.
//!
//! `workers` work on apps: `decide` says what is due, `activation` and `revert` do it, `removal` takes an app away, `recover`
//! works out what a damaged ledger said; `turns` keeps apart what concerns the whole host. What is committed is looked
//! after by `refresh` and `mend`, and by `revive`, `checking`, `listen` and `watching` beside the loop.
//! `prune` cleans the disk up, kept apart from activations by `flights`. `handle` answers questions.

mod activation;
mod alerts;
mod asked;
mod beside;
mod checking;
mod cleanup;
mod decide;
mod flights;
mod handle;
mod handover;
mod heal;
mod jobs;
mod listen;
mod mend;
mod prune;
mod recover;
mod refresh;
mod removal;
mod revert;
mod revive;
mod steps;
mod told;
mod turns;
mod watching;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drover_proto::{
    bytes::Bytes,
    event::EventKind,
    name::{AppName, ReleaseId, RolloutId, UnitName},
    spec::{DesiredApp, HostSpec},
    status::Phase,
};
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};

use self::{
    asked::Asked,
    checking::{Checked, Standings},
    flights::Flights,
    prune::Pruning,
    revive::{Revive, Wards},
    told::Told,
    turns::{Held, Turns},
    watching::{Unread, Watching},
    workers::Workers,
};
use crate::{
    blob::Blobs,
    check::Asker,
    desired::Desired,
    event::Events,
    exec,
    handover::PortRange,
    host::{docker::Engine, facts, files::Known, systemd::Systemd},
    ledger::{AppLedger, LedgerError, Ledgers},
    outputs,
    plan::Owners,
    render::{HostFacts, Layout},
    report::Board,
    stock::Stock,
    upkeep::Upkeeps,
};
pub use alerts::{Looked, Stir};
pub use handle::Handle;

/// Between two looks at a host on which nothing is due.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What the reconciler works with.
pub struct Parts {
    /// Where things lie.
    pub layout: Layout,
    /// What is wanted.
    pub desired: Desired,
    /// Artifacts.
    pub blobs: Blobs,
    /// systemd.
    pub systemd: Systemd,
    /// Docker.
    pub engine: Engine,
    /// Told what is done unasked.
    pub events: Events,
    /// From where the ports of instances are allotted.
    pub ports: PortRange,
    /// Which images drover has brought.
    pub stock: Stock,
    /// What drover may hold on the disk.
    pub disk_budget: Option<Bytes>,
}

/// The reconciler could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory of drover's own could not be made.
    #[error("drover's own directories cannot be made")]
    Layout(#[source] std::io::Error),
    /// The ledgers could not be read.
    #[error(transparent)]
    Ledgers(#[from] LedgerError),
}

/// What the loop and its handles share.
struct Shared {
    parts: Parts,
    ledgers: Ledgers,
    apps: Mutex<BTreeMap<AppName, AppLedger>>,
    board: Board,
    /// Apps in whose activation the agent's end came, and of which it is not said yet what becomes of it.
    interrupted: Mutex<BTreeSet<AppName>>,
    upkeeps: Upkeeps,
    /// Files that the looks have read before.
    known: Arc<Mutex<Known>>,
    told: Told,
    /// Who holds an app's may change it on the host.
    hands: Mutex<BTreeMap<AppName, Arc<tokio::sync::Mutex<()>>>>,
    /// The units that `revive` looks after.
    wards: watch::Sender<Wards>,
    /// The checks that `checking` asks, and how they stand.
    checked: watch::Sender<Checked>,
    standings: Standings,
    /// What goes one after another on the whole host.
    turns: Turns,
    /// Units that were found down, for `revive`.
    down: Asked<UnitName>,
    /// Apps of which perhaps other files are to be watched, for `watching`.
    rewatch: Asked<AppName>,
    /// Parts that run with older files than are there, and why.
    unread: Unread,
    /// Apps to be looked at before their time.
    looks: Asked<AppName>,
    /// What `alert` is to look at.
    stirs: Asked<Stir>,
    /// Apps that are being activated or removed.
    flights: Flights,
    /// What clean-ups remember.
    pruning: Pruning,
}

/// The activation since which an app is as it is.
type Since = (ReleaseId, RolloutId);

impl Shared {
    fn ledger(&self, app: &AppName) -> Option<AppLedger> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).get(app).cloned()
    }
    fn owners_beside(&self, app: &AppName) -> Owners {
        Owners::beside(app, &self.apps.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn app_names(&self) -> Vec<AppName> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
    fn all(&self) -> BTreeMap<AppName, AppLedger> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Once.
    fn take_interrupted(&self, app: &AppName) -> Option<()> {
        self.interrupted.lock().unwrap_or_else(PoisonError::into_inner).remove(app).then_some(())
    }
    /// To be held while something of the app is changed on the host.
    fn hand(&self, app: &AppName) -> Arc<tokio::sync::Mutex<()>> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner).entry(app.clone()).or_default().clone()
    }
    fn facts(&self) -> HostFacts {
        let spec = self.parts.desired.subscribe().borrow().clone();
        match spec {
            Some(spec) => HostFacts::from(&*spec),
            None => HostFacts { name: own_name(), labels: BTreeMap::new() },
        }
    }
}

/// Before the first spec nobody has told the host its name.
fn own_name() -> drover_proto::name::HostName {
    let name = facts::host_name().parse();
    name.or_else(|_| "localhost".parse()).unwrap_or_else(|error| unreachable!("localhost is a host name: {error}"))
}

/// The loop. Exactly one runs on a host.
pub struct Reconciler {
    shared: Arc<Shared>,
    specs: watch::Receiver<Option<Arc<HostSpec>>>,
    workers: Workers,
}

/// How work on an app ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// One way or the other; what is committed is still to be looked at.
    Settled,
    /// The same, and looked at.
    LookedAt,
    /// Something newer is wanted: look again.
    Superseded,
}

/// The work on one app.
struct Work<'a> {
    shared: &'a Shared,
    specs: watch::Receiver<Option<Arc<HostSpec>>>,
    app: AppName,
    facts: HostFacts,
    ledger: AppLedger,
    /// Whose turn it is.
    held: Held,
}

impl<'a> Work<'a> {
    fn new(
        shared: &'a Shared,
        specs: watch::Receiver<Option<Arc<HostSpec>>>,
        app: AppName,
        facts: HostFacts,
        ledger: AppLedger,
    ) -> Self {
        let held = Held::none(app.clone());
        Self { shared, specs, app, facts, ledger, held }
    }
}

impl Reconciler {
    /// Reads the ledgers and makes drover's own directories.
    pub fn open(parts: Parts) -> Result<(Handle, Self), OpenError> {
        exec::prepare(&parts.layout).map_err(OpenError::Layout)?;
        let ledgers = Ledgers::new(&parts.layout.state_dir).telling(parts.engine.adoptions());
        let loaded = ledgers.load()?;
        recover::tell(&parts.events, parts.desired.set_aside(), &loaded.set_aside);
        // What an app of a damaged ledger has kept, nobody can say: it all stays.
        let damaged = ledgers.damaged();
        let mut sure = loaded.ledgers.clone();
        sure.retain(|app, _| !damaged.contains_key(app));
        exec::sweep(&parts.layout, &sure);
        let spec = parts.desired.subscribe().borrow().clone();
        for ledger in loaded.ledgers.values() {
            outputs::close_interrupted(&parts.layout, &ledger.app, &steps::known(spec.as_deref(), ledger));
        }
        let in_flight = loaded.ledgers.values().filter(|ledger| ledger.activation.is_some());
        let interrupted = Mutex::new(in_flight.map(|ledger| ledger.app.clone()).collect());
        let unproven = loaded.ledgers.values().filter(|ledger| ledger.is_unproven()).map(|ledger| ledger.app.clone());
        let unproven = unproven.collect();
        let apps = Mutex::new(loaded.ledgers);
        let specs = parts.desired.subscribe();
        let board = Board::new(facts::boot_id());
        let shared = Arc::new(Shared {
            upkeeps: Upkeeps::new(&parts.layout.state_dir),
            known: Arc::default(),
            told: Told::default(),
            hands: Mutex::default(),
            wards: watch::Sender::new(Wards::default()),
            checked: watch::Sender::new(Checked::default()),
            standings: Standings::of_none(Asker::new(&parts.systemd, &parts.engine)),
            turns: Turns::new(unproven),
            down: Asked::new(),
            rewatch: Asked::new(),
            unread: Unread::default(),
            looks: Asked::new(),
            stirs: Asked::new(),
            flights: Flights::default(),
            pruning: Pruning::default(),
            parts,
            ledgers,
            apps,
            board,
            interrupted,
        });
        let workers = Workers::new(shared.clone(), specs.clone());
        Ok((Handle::new(shared.clone()), Self { shared, specs, workers }))
    }

    /// Runs until the agent stops.
    pub async fn run(mut self) {
        self.say_what_is_known();
        self.clean_up();
        let facts = self.shared.facts();
        self.shared.all().keys().for_each(|app| self.shared.guard(app, &facts));
        let mut beside = JoinSet::new();
        beside.spawn(Revive::new(self.shared.clone()).run());
        beside.spawn(listen::containers(self.shared.clone()));
        beside.spawn(checking::checking(self.shared.clone()));
        beside.spawn(Watching::new(self.shared.clone()).run());
        beside.spawn(prune::passes(self.shared.clone()));
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.newer();
        loop {
            let mut woken = self.specs.clone();
            tokio::select! {
                changed = woken.changed() => match changed {
                    Ok(()) => {
                        self.newer();
                        self.begin_all();
                    }
                    Err(_) => return,
                },
                // The first one comes at once.
                _ = look.tick() => self.begin_all(),
                apps = self.shared.looks.take() => self.workers.begin_all(apps),
                // Neither fails by itself. The agent is started again, and goes on as after a crash.
                ended = self.workers.next() => if let Err(error) = ended {
                    tracing::error!(%error, "the work on an app broke off");
                    return;
                },
                _ = beside.join_next() => return,
            }
        }
    }

    /// The status before anything is done: what the ledgers remember.
    fn say_what_is_known(&self) {
        let spec = self.specs.borrow().clone();
        for ledger in self.shared.all().values() {
            let desired = spec.as_ref().and_then(|spec| spec.apps.get(&ledger.app));
            self.shared.say(ledger, desired);
            if let Some(current) = ledger.current.as_ref().filter(|_| ledger.untold) {
                let said =
                    format!("{} is healthy and committed; the agent was interrupted right after that", current.release);
                self.shared.parts.events.emit(Some(&ledger.app), EventKind::ActivationCommitted, said);
            }
        }
        for (app, aside) in self.shared.ledgers.damaged() {
            if self.shared.ledger(&app).is_none() {
                self.shared.board.phase(&app, Phase::Failed { cause: cleanup::damaged(&app, &aside) });
            }
        }
    }

    /// What the end of the agent kept from being cleaned up. An app whose activation goes on does that itself.
    fn clean_up(&self) {
        for (app, ledger) in self.shared.all() {
            if ledger.activation.is_none() {
                let facts = self.shared.facts();
                Work::new(&self.shared, self.specs.clone(), app, facts, ledger).clean_up();
            }
        }
    }

    /// A newer spec: what it wants is shown at once, whenever its turn comes.
    fn newer(&mut self) {
        let Some(spec) = self.specs.borrow_and_update().clone() else { return };
        self.shared.board.generation(spec.generation);
        for (app, desired) in &spec.apps {
            self.shared.board.app(app, |status| {
                if status.desired.as_ref() != Some(&desired.release) || status.rollout != desired.rollout {
                    status.desired = Some(desired.release.clone());
                    status.rollout = desired.rollout;
                    status.phase = Phase::Pending;
                }
            });
        }
    }

    /// Has every app worked on and looked at.
    fn begin_all(&mut self) {
        let apps = self.shared.every_app(self.specs.borrow().as_deref());
        self.workers.begin_all(apps);
    }
}

#[cfg(test)]
pub(crate) mod tests;

impl Shared {
    /// Publishes what the ledger says of a settled app.
    fn say(&self, ledger: &AppLedger, desired: Option<&DesiredApp>) {
        self.board.app(&ledger.app, |status| {
            status.desired = desired.map(|desired| desired.release.clone());
            status.rollout = desired.map_or(0, |desired| desired.rollout);
            status.running = ledger.current.as_ref().map(|current| current.release.clone());
            status.failure = ledger.failure.clone();
            let same = |release: &ReleaseId, rollout: RolloutId| {
                desired.is_some_and(|desired| desired.release == *release && desired.rollout == rollout)
            };
            match &ledger.settled {
                Some(settled) if same(&settled.release, settled.rollout) => {
                    // What the last look found is not forgotten because of a new spec.
                    let degraded = matches!(status.phase, Phase::Degraded { .. });
                    if !(degraded && matches!(settled.phase, Phase::Healthy { .. })) {
                        status.phase = settled.phase.clone();
                    }
                }
                Some(_) | None => status.phase = Phase::Pending,
            }
        });
    }
}
