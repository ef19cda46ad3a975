//! Asks the checks of what is committed for as long as it is, each in its own interval, and has an app looked at when one of them
//! turns. Runs beside the loop; `check` asks once, `check/standing` says what follows, `refresh` reports it.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use drover_proto::name::{AppName, CheckName};
use tokio::task::{AbortHandle, JoinSet};

use super::{Shared, Stir};
use crate::{
    check::{Asker, Probed, RenderedCheck, standing::Standing},
    render::Rendered,
    report::now_unix_ms,
};

/// An answer that is not as wanted is confirmed after this.
const CONFIRMED_AFTER: Duration = Duration::from_secs(1);
/// A check is asked no more often than this, but to confirm an answer: the interval of a manifest is one for the gate, where seconds count.
const AT_EASE: Duration = Duration::from_secs(10);
/// Intervals differ by up to so much from what is said, so that those of many hosts do not fall into step: a tenth.
const JITTER: u32 = 10;

/// A check of an app.
pub(super) type Key = (AppName, CheckName);

/// What is asked: the checks of all committed releases.
pub(super) type Checked = Arc<BTreeMap<Key, RenderedCheck>>;

/// How they stand, each with the question that was answered.
pub(super) struct Standings(Mutex<BTreeMap<Key, (RenderedCheck, Standing)>>, Asker);

impl Standings {
    /// None yet; by whom they are asked.
    pub(super) fn of_none(asker: Asker) -> Self {
        Self(Mutex::default(), asker)
    }
    /// By whom all checks of this host are asked, those of a gate, too.
    pub(super) fn asker(&self) -> &Asker {
        &self.1
    }
    /// Of all apps, for metrics.
    pub(super) fn all(&self) -> BTreeMap<Key, Standing> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|(key, (_, standing))| (key.clone(), standing.clone())).collect()
    }
    /// What was answered before says nothing any more: the app is about to be changed.
    pub(super) fn forget(&self, app: &AppName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| of != app);
    }
    pub(super) fn of(&self, key: &Key, check: &RenderedCheck) -> Option<Standing> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(key).filter(|(asked, _)| asked == check).map(|(_, standing)| standing.clone())
    }
    fn set(&self, key: &Key, check: &RenderedCheck, standing: Standing) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), (check.clone(), standing));
    }
    /// The same, if it still stands as it did when it was asked: what was answered before the app was changed counts no more.
    fn go_on(&self, key: &Key, before: &Standing, after: Standing) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(key) {
            Some((_, held)) if held == before => {
                *held = after;
                true
            }
            _ => false,
        }
    }
    fn keep_only(&self, app: &AppName, checked: &BTreeMap<Key, RenderedCheck>) {
        let stays = |key: &Key, asked: &RenderedCheck| key.0 != *app || checked.get(key) == Some(asked);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, (asked, _)| stays(key, asked));
    }
}

impl Shared {
    /// From now on these checks of the app are asked; `None`: none.
    pub(super) fn ask_checks(&self, app: &AppName, rendered: Option<&Rendered>) {
        let of_app = rendered.iter().flat_map(|rendered| &rendered.checks);
        let of_app: BTreeMap<Key, RenderedCheck> =
            of_app.map(|(name, check)| ((app.clone(), name.clone()), check.clone())).collect();
        self.checked.send_if_modified(|checked| {
            let others =
                checked.iter().filter(|((of, _), _)| of != app).map(|(key, check)| (key.clone(), check.clone()));
            let now: BTreeMap<Key, RenderedCheck> = others.chain(of_app).collect();
            let changed = now != **checked;
            if changed {
                *checked = Arc::new(now);
            }
            changed
        });
        self.standings.keep_only(app, &self.checked.borrow());
    }

    /// How a check stands. One that was never asked is asked now, and once more if its answer is not as wanted.
    pub(super) async fn standing(&self, app: &AppName, name: &CheckName, check: &RenderedCheck) -> Standing {
        let key = (app.clone(), name.clone());
        if let Some(standing) = self.standings.of(&key, check) {
            return standing;
        }
        let (mut probed, mut took) = ask(check, &self.standings.1).await;
        if !probed.ok {
            tokio::time::sleep(CONFIRMED_AFTER).await;
            (probed, took) = ask(check, &self.standings.1).await;
        }
        let starting = !probed.ok && self.is_starting(app, check).await;
        let standing = Standing::first(&probed, check.rules, starting, took, now_unix_ms());
        self.standings.set(&key, check, standing.clone());
        self.stirs.ask(Stir::Checks);
        standing
    }
}

async fn ask(check: &RenderedCheck, asker: &Asker) -> (Probed, Duration) {
    let begun = Instant::now();
    (asker.probe(check).await, begun.elapsed())
}

/// Asks until it is dropped.
pub(super) async fn checking(shared: Arc<Shared>) {
    let mut changes = shared.checked.subscribe();
    let (mut tasks, mut asked) = (JoinSet::new(), BTreeMap::<Key, (RenderedCheck, AbortHandle)>::new());
    loop {
        let checked = changes.borrow_and_update().clone();
        asked.retain(|key, (check, task)| {
            let stays = checked.get(key) == Some(check);
            if !stays {
                task.abort();
            }
            stays
        });
        for (key, check) in checked.iter().filter(|(key, _)| !asked.contains_key(*key)).collect::<Vec<_>>() {
            let task = tasks.spawn(again_and_again(shared.clone(), key.clone(), check.clone()));
            asked.insert(key.clone(), (check.clone(), task));
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            // Those that were aborted. One that panicked would leave its check as it stood: the agent is started again.
            ended = tasks.join_next(), if !tasks.is_empty() => if ended.is_some_and(|ended| ended.is_err_and(|e| e.is_panic())) {
                return;
            },
        }
    }
}

async fn again_and_again(shared: Arc<Shared>, key: Key, check: RenderedCheck) {
    let interval = check.interval.as_duration().max(AT_EASE);
    // The first answer is that of `refresh`, which looks at what was just committed; the next ones come at any time after it.
    let mut pause = interval.mul_f64(fraction(&key, 0));
    for round in 1_u64.. {
        tokio::time::sleep(pause).await;
        pause = interval - interval / JITTER + (2 * interval / JITTER).mul_f64(fraction(&key, round));
        // From the switch on nobody asks but the gate.
        let Some(before) = shared.standings.of(&key, &check) else { continue };
        let (probed, took) = ask(&check, &shared.standings.1).await;
        let starting = !probed.ok && shared.is_starting(&key.0, &check).await;
        let mut standing = before.after(&probed, check.rules, starting, took, now_unix_ms());
        if standing.is_in_doubt() {
            // Who wants more than two in a row wants them in their time.
            let is_patient = check.rules.fall.max(check.rules.rise) > 2;
            pause = if is_patient { check.interval.as_duration().max(CONFIRMED_AFTER) } else { CONFIRMED_AFTER };
        }
        if standing.asks_for_restart(check.rules) && !probed.ok {
            shared.heal(&key, &check, &before, &mut standing).await;
        }
        let has_turned = standing.ok != before.ok || standing.left != before.left;
        if shared.standings.go_on(&key, &before, standing) && has_turned {
            shared.stirs.ask(Stir::Checks);
            shared.looks.ask(key.0.clone());
        }
    }
}

/// Of 0 to 1, by chance.
fn fraction(key: &Key, round: u64) -> f64 {
    let chance = RandomState::new().hash_one((key, round));
    f64::from(u32::try_from(chance >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}
