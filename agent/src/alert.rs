//! Alerts of this host: looked at here, so that they hold with the coordinator away. One task, which sleeps until a rule is due or
//! something turns: a unit, a check, a container, what an app has.
//!
//! `rules` (which) → `reader` with `numbers` and `forecast`, and `scene` (what is known) → `judge` (what a rule comes to) → `machine`
//! (pending, firing, over) → the report, events, and `kept` (the disk). `reconcile` says what apps have, and asks in its gate.

mod certificates;
mod containers;
mod forecast;
mod judge;
mod kept;
mod machine;
mod numbers;
mod reader;
mod remembered;
mod rules;
pub mod scene;
mod timer;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drover_proto::{alert::Metric, event::EventKind, name::AppName};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

pub use self::machine::REST;
use self::{
    containers::Asked,
    judge::View,
    kept::Kept,
    machine::{Machine, Now, Turned},
    reader::{Read, Reader, Wanted},
    rules::{Active, RuleId, Rules},
    scene::{Expiry, Scene},
    timer::Timer,
};
use crate::{
    event::Events,
    host::{clock, facts, systemd::Units},
    metrics::node::Root,
    reconcile::{Handle, Stir},
    report::now_unix_ms,
};

/// Containers are asked for anew, in case that Docker has not told of something.
const CONTAINERS_EVERY_MS: u64 = 5 * 60_000;
/// Certificates are read anew.
const CERTIFICATES_EVERY_MS: u64 = 5 * 60_000;

/// Takes rules. Cheap to clone.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    rules: Mutex<Rules>,
    changed: Notify,
}

impl Alerts {
    /// The coordinator's rules of this host, a `RuleSet` as JSON. What cannot be read changes nothing. On the disk when this returns.
    pub fn accept(&self, document: &[u8]) {
        match self.0.rules.lock().unwrap_or_else(PoisonError::into_inner).accept(document) {
            Ok(true) => {
                tracing::info!("the coordinator has sent other rules of alerts");
                self.0.changed.notify_one();
            }
            Ok(false) => {}
            Err(why) => {
                tracing::warn!("the coordinator's rules of alerts are refused, and those before them go on: {why}");
            }
        }
    }
}

/// Where systemd's units are told.
pub type UnitsTold = watch::Receiver<Option<Arc<Units>>>;

/// Reads what is on the disk, and has it reported before anything is looked at. The second end is the task.
pub fn open(
    state_dir: &Path,
    handle: Handle,
    units: UnitsTold,
    events: Events,
) -> io::Result<(Alerts, impl Future<Output = ()> + Send + 'static)> {
    let (alerts, task) = Task::open(state_dir, handle, units, events)?;
    Ok((alerts, task.run()))
}

fn now() -> Now {
    Now { boot_ms: clock::since_boot_ms(), unix_ms: now_unix_ms() }
}

/// What work in the background ends with.
enum Done {
    Read(Box<Reader>, Read),
    Certificates(Option<AppName>, Vec<Expiry>),
    Asked(Vec<Asked>),
}

struct Task {
    alerts: Alerts,
    handle: Handle,
    units: UnitsTold,
    events: Events,
    kept: Kept,
    machine: Machine,
    active: Vec<Active>,
    scene: Scene,
    timer: Timer,
    /// `None`: it is reading.
    reader: Option<Reader>,
    /// For which pauses.
    reading: Option<BTreeSet<u64>>,
    /// Pauses that have come to an end meanwhile.
    waiting: BTreeSet<u64>,
    /// Apps whose containers are to be asked for.
    to_ask: BTreeSet<AppName>,
    is_asking: bool,
    /// Apps that are others than when the engine was asked last: of their containers those that are not there any more are forgotten.
    anew: BTreeSet<AppName>,
    containers_due: u64,
    certificates_due: u64,
    /// Whose are being read; `None`: the agent's own.
    reading_certificates: BTreeSet<Option<AppName>>,
    state_dir: PathBuf,
    /// As it was reported.
    in_flight: BTreeSet<AppName>,
    /// The last look, ms since the boot.
    looked_ms: u64,
    work: JoinSet<Done>,
}

impl Task {
    fn open(state_dir: &Path, handle: Handle, units: UnitsTold, events: Events) -> io::Result<(Alerts, Self)> {
        let (rules, rules_damaged) = Rules::open(state_dir)?;
        let (kept, machine, kept_damaged) = Kept::open(state_dir, facts::boot_id())?;
        for said in rules_damaged.into_iter().chain(kept_damaged) {
            events.emit(None, EventKind::StateSetAside, said);
        }
        let (now, apps) = (now(), handle.scopes());
        let active = rules.active(apps.iter().map(|(app, scope)| (app, &scope.rules)));
        let scene = remembered::scene(&machine, &active, now);
        let alerts = Alerts(Arc::new(Inner { rules: Mutex::new(rules), changed: Notify::new() }));
        let reader = Reader::new(Root::new("/"), scene.oom_kill.flatten());
        let task = Self {
            alerts: alerts.clone(),
            handle,
            units,
            events,
            kept,
            machine,
            active,
            scene,
            timer: Timer::default(),
            reader: Some(reader),
            reading: None,
            waiting: BTreeSet::new(),
            to_ask: BTreeSet::new(),
            is_asking: false,
            anew: BTreeSet::new(),
            containers_due: now.boot_ms,
            certificates_due: now.boot_ms,
            reading_certificates: BTreeSet::new(),
            state_dir: state_dir.to_owned(),
            in_flight: apps.into_iter().filter(|(_, scope)| scope.in_flight).map(|(app, _)| app).collect(),
            looked_ms: 0,
            work: JoinSet::new(),
        };
        task.handle.report_alerts(task.machine.reported(&task.in_flight));
        Ok((alerts, task))
    }

    async fn run(mut self) {
        self.take_apps();
        self.take_units();
        let mut has_units = true;
        loop {
            let now = clock::since_boot_ms();
            let wake = self.timer.next(now, self.expiry()).saturating_sub(now);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wake)) => self.tick(),
                stirs = self.handle.stirred() => self.stirred(stirs),
                changed = self.units.changed(), if has_units => {
                    has_units = changed.is_ok();
                    self.take_units();
                }
                () = self.alerts.0.changed.notified() => self.take_rules(),
                Some(done) = self.work.join_next(), if !self.work.is_empty() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => {
                        tracing::error!(%error, "a look for alerts broke off");
                        return;
                    }
                },
            }
        }
    }

    /// When something that is told of has been pending for long enough.
    fn expiry(&self) -> Option<u64> {
        let told = |active: &&Active| judge::is_told(&active.rule.when.test);
        let lasts = |id: &RuleId| self.active.iter().filter(told).find(|a| a.id == *id).map(|a| a.rule.when.lasts);
        self.machine.next_due(lasts, self.looked_ms)
    }

    fn take_rules(&mut self) {
        let now = now();
        {
            let rules = self.alerts.0.rules.lock().unwrap_or_else(PoisonError::into_inner);
            self.active = rules.active(self.scene.apps.iter().map(|(app, scope)| (app, &scope.rules)));
        }
        self.timer.set(self.active.iter().map(|active| active.rule.every.as_ms()), now.boot_ms);
        self.certificates_due = now.boot_ms;
        let ids = self.active.iter().map(|active| active.id.clone()).collect();
        let turned = self.machine.keep_rules(&ids, now);
        self.tell(turned);
        self.look(&BTreeSet::new(), &BTreeMap::new());
    }

    fn take_apps(&mut self) {
        self.take_scopes(self.handle.scopes());
        self.scene.certificates.retain(|app, _| app.as_ref().is_none_or(|app| self.scene.apps.contains_key(app)));
        self.ask();
        self.take_rules();
    }

    fn take_units(&mut self) {
        let failed = self.units.borrow_and_update().as_deref().map(failed);
        if failed != self.scene.failed {
            self.scene.failed = failed;
            self.look(&BTreeSet::new(), &BTreeMap::new());
        }
    }

    fn stirred(&mut self, stirs: BTreeSet<Stir>) {
        let is_of_apps = |stir: &Stir| matches!(stir, Stir::App(_));
        let apps_changed = stirs.iter().any(is_of_apps);
        self.to_ask.extend(stirs.into_iter().filter_map(|stir| match stir {
            Stir::Containers(app) => Some(app),
            Stir::Checks | Stir::App(_) => None,
        }));
        if apps_changed {
            self.take_apps();
        } else {
            self.ask();
            self.look(&BTreeSet::new(), &BTreeMap::new());
        }
    }

    fn tick(&mut self) {
        let now = now();
        if self.containers_due <= now.boot_ms {
            self.containers_due = now.boot_ms.saturating_add(CONTAINERS_EVERY_MS);
            self.to_ask.extend(self.scene.apps.keys().cloned());
            self.ask();
        }
        if self.certificates_due <= now.boot_ms {
            self.certificates_due = now.boot_ms.saturating_add(CERTIFICATES_EVERY_MS);
            self.read_certificates();
        }
        let due = self.timer.due(now.boot_ms);
        let wanted = self.wanted(&due);
        let is_to_read = wanted != Wanted::default();
        // Where a file system hangs the look before is not over: what is due waits for its end.
        if is_to_read && self.reader.is_none() {
            self.waiting.extend(due);
            return;
        }
        match self.reader.take() {
            Some(mut reader) if is_to_read => {
                self.reading = Some(due);
                self.work.spawn_blocking(move || {
                    let read = reader.read(&wanted, now.boot_ms);
                    Done::Read(Box::new(reader), read)
                });
            }
            reader => {
                self.reader = reader;
                self.look(&BTreeSet::new(), &BTreeMap::new());
            }
        }
    }

    /// What the rules that are due want to know.
    fn wanted(&self, due: &BTreeSet<u64>) -> Wanted {
        let is_due = |active: &&Active| due.contains(&active.rule.every.as_ms());
        Wanted::of(self.active.iter().filter(is_due))
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Read(reader, read) => {
                self.reader = Some(*reader);
                let due = self.reading.take().unwrap_or_default();
                self.timer.again(&std::mem::take(&mut self.waiting), clock::since_boot_ms());
                // Of rules that did not want it nothing is said.
                self.scene.disks = read.disks;
                self.scene.oom_kill = read.oom_kill;
                self.look(&due, &read.numbers);
            }
            Done::Certificates(whose, read) => {
                self.reading_certificates.remove(&whose);
                self.scene.certificates.insert(whose, read);
                self.look(&BTreeSet::new(), &BTreeMap::new());
            }
            Done::Asked(answers) => {
                self.is_asking = false;
                for asked in answers {
                    self.take_containers(asked);
                }
                self.ask();
                self.look(&BTreeSet::new(), &BTreeMap::new());
            }
        }
    }

    /// Holds the rules of these pauses against what is known, and those about what is told in any case.
    fn look(&mut self, due: &BTreeSet<u64>, numbers: &BTreeMap<u64, BTreeMap<Metric, f64>>) {
        let (now, none) = (now(), BTreeMap::new());
        self.looked_ms = now.boot_ms;
        self.scene.checks = self.handle.checked();
        let mut turned = Vec::new();
        for active in &self.active {
            let every = active.rule.every.as_ms();
            if due.contains(&every) || judge::is_told(&active.rule.when.test) {
                let view = View { numbers: numbers.get(&every).unwrap_or(&none), scene: &self.scene, now };
                turned.extend(self.machine.look(active, judge::judge(active, &view).as_deref(), now));
            }
        }
        self.tell(turned);
    }

    /// The report first: the rest may take its time.
    fn tell(&mut self, turned: Vec<Turned>) {
        let in_flight: BTreeSet<AppName> =
            self.scene.apps.iter().filter(|(_, scope)| scope.in_flight).map(|(app, _)| app.clone()).collect();
        let changed = self.machine.take_changed();
        if changed || in_flight != self.in_flight {
            self.in_flight = in_flight;
            self.handle.report_alerts(self.machine.reported(&self.in_flight));
        }
        for turned in turned {
            let kind = if turned.fires { EventKind::AlertFiring } else { EventKind::AlertResolved };
            self.events.emit(turned.key.app.as_ref(), kind, turned.message);
        }
        self.kept.follow(&self.machine, changed);
    }
}

/// The units that have failed.
fn failed(units: &Units) -> BTreeSet<String> {
    units.iter().filter(|unit| unit.active_state == "failed").map(|unit| unit.name.clone()).collect()
}

#[cfg(test)]
mod tests;
