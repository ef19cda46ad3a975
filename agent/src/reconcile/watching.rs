//! Restarts parts, or sends them a signal, when files have changed that their release tells to watch (`restart_on_change`).
//! The kernel says where something happened; a look, after the part's pause, says what. Beside the loop, like `revive`.
//!
//! What each part has read is remembered durably, so that a change is noticed whenever it happened. `act` is the look at one
//! part, and what follows from it; `certificates` does what is special about them.

mod act;
mod certificates;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drover_proto::{
    app::{Certificate, Watch},
    duration::Span,
    name::{AppName, ContainerName, UnitName},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use self::act::{Looked, look};
use super::{Shared, revive::since};
use crate::{
    budget::Budget,
    drift::Part,
    host::notice::{Notices, Told},
    ledger::AppLedger,
    watch::Seen,
};

/// What the kernel does not tell is seen then: a file that nobody closes, another file system.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// The same, where it cannot tell all.
const LOOK_OFTEN: Duration = Duration::from_secs(60);
/// Changes come in groups: the kernel is not asked for each of them.
const BREATH: Duration = Duration::from_millis(100);
/// Changes without a pause are waited for so many pauses.
const MOST_PAUSES: u32 = 10;

/// From the first file of a renewed certificate to the last.
const RENEWED: Span = Span::from_secs(2);

/// A part of an app.
type Key = (AppName, Part);

/// What is watched for a part.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Target {
    app: AppName,
    whom: Whom,
    watch: Watch,
    budget: Budget,
}

/// Who is restarted or told.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Whom {
    Unit(UnitName),
    Container(ContainerName),
    /// Those that use it.
    Certificate(Certificate),
}

impl Target {
    fn part(&self) -> Part {
        match &self.whom {
            Whom::Unit(unit) => Part::Unit(unit.clone()),
            Whom::Container(name) => Part::Container(name.clone()),
            Whom::Certificate(certificate) => Part::Certificate(certificate.path.clone()),
        }
    }
}

/// What the committed release tells to watch; its certificates among it.
fn targets(ledger: &AppLedger) -> BTreeMap<Part, Target> {
    let Some(current) = &ledger.current else { return BTreeMap::new() };
    let spec = &current.spec;
    let target = |whom, watch: &Watch, budget: Option<_>| {
        let budget = Budget::from(budget.or(spec.restart_budget).unwrap_or_default());
        let target = Target { app: ledger.app.clone(), whom, watch: watch.clone(), budget };
        (target.part(), target)
    };
    let units = spec.units.iter().filter_map(|(name, unit)| Some((name, unit, unit.restart_on_change.as_ref()?)));
    let units = units.flat_map(|(name, unit, watch)| {
        let runs = unit.runs_as(name).into_iter().filter(|name| !name.is_template());
        runs.map(move |name| target(Whom::Unit(name), watch, unit.restart_budget))
    });
    let containers = spec.containers.iter().filter_map(|(name, container)| {
        Some(target(Whom::Container(name.clone()), container.restart_on_change.as_ref()?, None))
    });
    let certificates = spec.certificates.iter().map(|certificate| {
        let paths = [certificate.path.clone()].into_iter().chain(certificate.key.clone()).collect();
        let watch = Watch { paths, signal: None, debounce: RENEWED };
        let (app, whom) = (ledger.app.clone(), Whom::Certificate(certificate.clone()));
        let target = Target { app, whom, watch, budget: certificates::TRIES };
        (target.part(), target)
    });
    units.chain(containers).chain(certificates).collect()
}

/// Parts that run with older files than are there, and why.
#[derive(Default)]
pub(super) struct Unread(Mutex<BTreeMap<Key, String>>);

impl Unread {
    /// Of an app, for its report.
    pub(super) fn of(&self, app: &AppName) -> Vec<(Part, String)> {
        let unread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unread.iter().filter(|((of, _), _)| of == app).map(|((_, part), why)| (part.clone(), why.clone())).collect()
    }

    /// Whether that is news.
    fn note(&self, key: &Key, why: Option<String>) -> bool {
        let mut unread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &why {
            Some(why) => unread.insert(key.clone(), why.clone()),
            None => unread.remove(key),
        };
        before != why
    }
}

/// A look at a part that is to come.
#[derive(Clone, Copy)]
struct Soon {
    at: Instant,
    /// Whatever happens, not later than this.
    latest: Instant,
}

/// The task.
pub(super) struct Watching {
    shared: Arc<Shared>,
    /// `None`: the kernel has none left to give; everything is looked at often instead.
    notices: Option<Arc<Notices<Key>>>,
    targets: BTreeMap<Key, Target>,
    soon: BTreeMap<Key, Soon>,
    /// What the last look saw.
    seen: BTreeMap<Key, Arc<Seen>>,
    /// Why not all of it is watched, as far as that has been told.
    left_out: BTreeMap<Key, Vec<String>>,
    looking: JoinSet<(Key, Looked)>,
    busy: BTreeSet<Key>,
}

impl Watching {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            notices: None,
            targets: BTreeMap::new(),
            soon: BTreeMap::new(),
            seen: BTreeMap::new(),
            left_out: BTreeMap::new(),
            looking: JoinSet::new(),
            busy: BTreeSet::new(),
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let next = self.soon.iter().filter(|(key, _)| !self.busy.contains(*key)).map(|(_, soon)| soon.at).min();
            let timer = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let notices = self.notices.clone();
            let told = async {
                match &notices {
                    Some(notices) => notices.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                apps = self.shared.rewatch.take() => apps.into_iter().for_each(|app| self.learn(&app)),
                Some(ended) = self.looking.join_next() => match ended {
                    Ok((key, looked)) => self.looked(key, looked),
                    // A look does not panic; `Reconciler::run` has the agent started again.
                    Err(error) => return tracing::error!(%error, "the look at watched files broke off"),
                },
                told = told => {
                    match told {
                        Ok(Told::Some(keys)) => keys.into_iter().for_each(|key| self.changed(key)),
                        Ok(Told::All) => self.targets.keys().cloned().collect::<Vec<_>>().into_iter().for_each(|key| self.changed(key)),
                        Err(error) => {
                            tracing::warn!(%error, "the kernel cannot be heard");
                            self.notices = None;
                        }
                    }
                    sleep(BREATH).await;
                }
                () = timer => {}
            }
            self.begin();
        }
    }

    /// What an app's release tells to watch may be another than before, and a rollout that kept everybody away is over.
    fn learn(&mut self, app: &AppName) {
        let ledger = self.shared.ledger(app);
        let now = ledger.as_ref().map(targets).unwrap_or_default();
        let gone: Vec<Key> =
            self.targets.keys().filter(|(of, part)| of == app && !now.contains_key(part)).cloned().collect();
        for key in gone {
            self.forget(&key);
        }
        if let Some(since) = ledger.as_ref().and_then(since) {
            let names: BTreeSet<String> = now.keys().map(ToString::to_string).collect();
            self.shared.upkeeps.with(app, &since, |upkeep| upkeep.watched.retain(|part, _| names.contains(part)));
        }
        if self.notices.is_none() && !now.is_empty() {
            match Notices::open() {
                Ok(notices) => self.notices = Some(Arc::new(notices)),
                Err(error) => {
                    tracing::warn!(%error, "the kernel tells of no changes: watched files are looked at every {LOOK_OFTEN:?}")
                }
            }
        }
        for (part, target) in now {
            let key = (app.clone(), part);
            let at = Instant::now();
            self.soon.insert(key.clone(), Soon { at, latest: at });
            self.targets.insert(key, target);
        }
    }

    fn forget(&mut self, key: &Key) {
        self.targets.remove(key);
        self.soon.remove(key);
        self.seen.remove(key);
        self.left_out.remove(key);
        self.shared.unread.note(key, None);
        if let Some(notices) = &self.notices {
            notices.keep(key, &BTreeSet::new());
        }
    }

    /// Something has happened where it watches.
    fn changed(&mut self, key: Key) {
        let Some(target) = self.targets.get(&key) else { return };
        let (now, pause) = (Instant::now(), target.watch.debounce.as_duration());
        let soon = self.soon.entry(key).or_insert(Soon { at: now + LOOK_EVERY, latest: now + LOOK_EVERY });
        soon.latest = soon.latest.min(now + pause * MOST_PAUSES);
        soon.at = soon.latest.min(now + pause);
    }

    /// All looks that are due.
    fn begin(&mut self) {
        let now = Instant::now();
        let due = self.soon.iter().filter(|(key, soon)| soon.at <= now && !self.busy.contains(*key));
        let due: Vec<Key> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            self.soon.remove(&key);
            let Some(target) = self.targets.get(&key).cloned() else { continue };
            self.busy.insert(key.clone());
            let (shared, notices, before) = (self.shared.clone(), self.notices.clone(), self.seen.get(&key).cloned());
            self.looking.spawn(async move {
                let looked = look(&shared, notices, &target, before).await;
                (key, looked)
            });
        }
    }

    fn looked(&mut self, key: Key, looked: Looked) {
        self.busy.remove(&key);
        if !self.targets.contains_key(&key) {
            return self.forget(&key);
        }
        if let Some(seen) = looked.seen {
            let told = self.left_out.insert(key.clone(), seen.left_out.clone()).unwrap_or_default();
            if !seen.left_out.is_empty() && told != seen.left_out {
                self.shared.say_left_out(&key, &seen.left_out);
            }
            self.seen.insert(key.clone(), Arc::new(seen));
        }
        let all_is_heard = self.notices.is_some() && self.left_out.get(&key).is_none_or(Vec::is_empty);
        let again = looked.again.unwrap_or(if all_is_heard { LOOK_EVERY } else { LOOK_OFTEN });
        let at = Instant::now() + again;
        // What has changed meanwhile is looked at before that.
        let soon = self.soon.entry(key).or_insert(Soon { at, latest: at });
        soon.at = soon.at.min(at);
    }
}
