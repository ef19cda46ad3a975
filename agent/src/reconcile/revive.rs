//! Starts units again that are down though the committed release wants them running: at once when systemd says so, then
//! within the unit's budget. It runs beside the loop, so that a long activation of one app keeps no other app waiting.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drover_proto::{
    app::Drift,
    event::EventKind,
    name::{AppName, UnitName},
    status::Phase,
};
use tokio::time::{Instant, sleep_until};

use super::{Shared, Since, Work, told::clock};
use crate::{
    budget::{Allowance, Budget},
    drift::Part,
    gate::verdict,
    host::systemd::{UnitSignals, UnitState},
    ledger::AppLedger,
    observe::Observed,
    plan::{is_done, runs},
    render::{HostFacts, Rendered, render},
    report::now_unix_ms,
};

/// Somebody else works on the app just now: a look takes some milliseconds, an activation minutes. The first pause, which is
/// doubled each time, and the longest.
const HELD: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(320));
/// Between two looks at one app because of what systemd says.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// Before such a look: changes come in groups.
const LOOK_AFTER: Duration = Duration::from_millis(300);
/// After the bus was lost.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// A unit that is looked after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ward {
    app: AppName,
    budget: Budget,
}

/// All of them.
pub(super) type Wards = Arc<BTreeMap<UnitName, Ward>>;

/// What to do about a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    /// It runs, or is about to, or nobody wants more of it.
    Nothing,
    /// Files are to be put right first.
    Look,
    /// Start it.
    Start,
}

/// Pure: whether a unit that shall run is to be started. `mended`: what can be put right about its files has been.
fn due(state: &UnitState, mended: bool) -> Due {
    let down = !runs(state) && state.active_state != "deactivating" && !is_done(state);
    match down && !state.has_job {
        false => Due::Nothing,
        true if state.load_state == "loaded" && (mended || !state.need_daemon_reload) => Due::Start,
        true if !mended => Due::Look,
        // It cannot be started as it is; the look has told why.
        true => Due::Nothing,
    }
}

/// The units of a release that are looked after.
fn wards_of(rendered: &Rendered) -> impl Iterator<Item = (UnitName, Ward)> {
    let kept = rendered.units.iter().filter(|(_, unit)| unit.start && unit.drift == Drift::Repair);
    kept.map(|(name, unit)| (name.clone(), Ward { app: rendered.app.clone(), budget: unit.budget.into() }))
}

impl Shared {
    /// Who is looked after has changed, perhaps.
    pub(super) fn guard(&self, app: &AppName, facts: &HostFacts) {
        self.rewatch.ask(app.clone());
        let ledger = self.ledger(app);
        let rendered = ledger
            .as_ref()
            .and_then(|ledger| render(ledger.current.as_ref()?, facts, &self.parts.layout, &ledger.live_ports()).ok());
        self.ask_checks(app, rendered.as_ref());
        let of_app: BTreeMap<UnitName, Ward> = rendered.iter().flat_map(wards_of).collect();
        self.wards.send_if_modified(|wards| {
            let others =
                wards.iter().filter(|(_, ward)| ward.app != *app).map(|(unit, ward)| (unit.clone(), ward.clone()));
            let now: BTreeMap<UnitName, Ward> = others.chain(of_app).collect();
            let changed = now != **wards;
            if changed {
                *wards = Arc::new(now);
            }
            changed
        });
    }
}

/// The task.
pub(super) struct Revive {
    shared: Arc<Shared>,
    /// Units to be thought about again then; `true`: their files have been looked at.
    later: BTreeMap<UnitName, (Instant, bool)>,
    /// When apps were, or will be, looked at because of what systemd says.
    looks: BTreeMap<AppName, Instant>,
    /// The last pause because of somebody else's work.
    held: BTreeMap<UnitName, Duration>,
}

impl Revive {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, later: BTreeMap::new(), looks: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let mut changes = self.shared.wards.subscribe();
        loop {
            let wards = changes.borrow_and_update().clone();
            let mut signals = match self.shared.parts.systemd.listen(wards.keys()).await {
                Ok(signals) => signals,
                Err(error) => {
                    tracing::warn!(%error, "systemd's signals cannot be heard");
                    tokio::time::sleep(LISTEN_AGAIN).await;
                    continue;
                }
            };
            // What happened before somebody listened.
            let now = Instant::now();
            self.later.extend(wards.keys().map(|unit| (unit.clone(), (now, false))));
            loop {
                tokio::select! {
                    changed = changes.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    heard = self.hear(&mut signals) => match heard {
                        Some(()) => {}
                        None => {
                            tracing::warn!("systemd's signals were lost");
                            tokio::time::sleep(LISTEN_AGAIN).await;
                            break;
                        }
                    },
                }
                self.act(&wards).await;
            }
        }
    }

    /// Waits for anything that is a reason to act. `None`: the bus was lost.
    async fn hear(&mut self, signals: &mut UnitSignals) -> Option<()> {
        let next = self.later.values().map(|(at, _)| *at).min();
        let timer = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let now = Instant::now();
        tokio::select! {
            told = signals.next() => {
                let (unit, state) = told?;
                if matches!(state.as_str(), "failed" | "inactive") {
                    self.later.insert(unit.clone(), (now, false));
                }
                if matches!(state.as_str(), "failed" | "inactive" | "active") {
                    self.look_soon(&unit);
                }
            }
            units = self.shared.down.take() => {
                for unit in units {
                    // A pause that is under way is not cut short.
                    self.later.entry(unit).or_insert((now, true)).1 = true;
                }
            }
            () = timer => {}
        }
        Some(())
    }

    fn look_soon(&mut self, unit: &UnitName) {
        let Some(app) = self.shared.wards.borrow().get(unit).map(|ward| ward.app.clone()) else { return };
        let now = Instant::now();
        let last = self.looks.get(&app).copied();
        if last.is_none_or(|at| at <= now) {
            let at = last.map_or(now, |at| at + LOOK_PAUSE).max(now + LOOK_AFTER);
            self.looks.insert(app.clone(), at);
            self.shared.looks.ask_at(app, at);
        }
    }

    async fn act(&mut self, wards: &Wards) {
        let now = Instant::now();
        let units: Vec<UnitName> =
            self.later.iter().filter(|(_, (at, _))| *at <= now).map(|(u, _)| u.clone()).collect();
        for unit in units {
            let Some((_, mended)) = self.later.remove(&unit) else { continue };
            if let Some(ward) = wards.get(&unit)
                && let Some(wait) = self.consider(&unit, ward, mended).await
            {
                self.later.insert(unit, (Instant::now() + wait, mended));
            }
        }
    }

    /// `Some`: think about it again after that.
    async fn consider(&mut self, unit: &UnitName, ward: &Ward, mended: bool) -> Option<Duration> {
        let hand = self.shared.hand(&ward.app);
        let Ok(_held) = hand.try_lock() else {
            let pause = self.held.get(unit).map_or(HELD.0, |last| HELD.1.min(*last * 2));
            self.held.insert(unit.clone(), pause);
            return Some(pause);
        };
        self.held.remove(unit);
        let ledger = self.shared.ledger(&ward.app)?;
        let since = since(&ledger).filter(|_| is_at_rest(&ledger))?;
        let systemd = &self.shared.parts.systemd;
        let state = match systemd.unit(unit).await {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(%unit, %error, "cannot be looked at");
                return None;
            }
        };
        match due(&state, mended) {
            Due::Nothing => return None,
            Due::Look => {
                self.shared.looks.ask(ward.app.clone());
                return None;
            }
            Due::Start => {}
        }
        let now = now_unix_ms();
        let shared = self.shared.clone();
        let allowance = shared.upkeeps.with(&ward.app, &since, |upkeep| {
            let attempts = upkeep.starts.entry(unit.clone()).or_default();
            let allowance = attempts.ask(&ward.budget, now);
            if matches!(allowance, Allowance::Now(_)) {
                attempts.draw(&ward.budget, now);
            }
            allowance
        });
        match allowance {
            Allowance::Now(number) => {
                self.start(unit, ward, &state, number).await;
                None
            }
            Allowance::NotBefore(at) => Some(until(at, now)),
            Allowance::SpentUntil(at) => {
                let left = spent(&ward.budget, at);
                if shared.told.is_news(&ward.app, &Part::Unit(unit.clone()), &left) {
                    let how = verdict::ended(unit, &state);
                    self.tell(&ward.app, EventKind::RestartsSpent, format!("{how}; {left}"));
                }
                (at < i64::MAX).then(|| until(at, now))
            }
        }
    }

    async fn start(&mut self, unit: &UnitName, ward: &Ward, state: &UnitState, number: u32) {
        let systemd = &self.shared.parts.systemd;
        // Whatever stops now shall stop.
        if systemd.is_going_down().await.unwrap_or(false) {
            return;
        }
        let how = verdict::ended(unit, state);
        let of = ward.budget.attempts;
        match systemd.start_soon(unit).await {
            Ok(()) => {
                let said = format!("{how}: started again ({number} of {of})");
                self.tell(&ward.app, EventKind::UnitRestarted, said);
            }
            Err(error) => {
                tracing::warn!(app = %ward.app, %unit, %error, "cannot be started");
                self.later.insert(unit.clone(), (Instant::now() + ward.budget.backoff, true));
            }
        }
    }

    fn tell(&self, app: &AppName, kind: EventKind, message: String) {
        self.shared.parts.events.emit(Some(app), kind, message);
    }
}

/// Since which activation an app is as it is.
pub(super) fn since(ledger: &AppLedger) -> Option<Since> {
    ledger.settled.as_ref().map(|settled| (settled.release.clone(), settled.rollout))
}

/// Nothing of it is being changed, and no person has to decide what is to become of it.
pub(super) fn is_at_rest(ledger: &AppLedger) -> bool {
    let settled = ledger.settled.as_ref().map(|settled| &settled.phase);
    ledger.activation.is_none() && matches!(settled, Some(Phase::Healthy { .. } | Phase::Reverted { .. }))
}

fn spent(budget: &Budget, until: i64) -> String {
    match until {
        i64::MAX => "its restart budget allows no start by drover: it is left as it is".to_owned(),
        _ => format!(
            "started again {} times, and the restart budget is spent: it is left as it is until {}",
            budget.attempts,
            clock(until)
        ),
    }
}

fn until(at: i64, now: i64) -> Duration {
    Duration::from_millis(u64::try_from(at.saturating_sub(now)).unwrap_or(0))
}

impl Work<'_> {
    /// Since which activation the app is as it is.
    pub(super) fn since(&self) -> Option<Since> {
        since(&self.ledger)
    }

    /// Nothing of it is being changed, and no person has to decide what is to become of it.
    pub(super) fn is_at_rest(&self) -> bool {
        is_at_rest(&self.ledger)
    }

    /// What there is to say of units that are left down.
    pub(super) fn left_down(&self, rendered: &Rendered, observed: &Observed) -> BTreeMap<Part, String> {
        let Some(since) = self.since() else { return BTreeMap::new() };
        let now = now_unix_ms();
        let down = |unit: &UnitName| observed.units.get(unit).is_some_and(|state| !runs(state) && !is_done(state));
        let wards: Vec<(UnitName, Ward)> = wards_of(rendered).filter(|(unit, _)| down(unit)).collect();
        self.shared.upkeeps.with(&self.app, &since, |upkeep| {
            let starts = &mut upkeep.starts;
            let left = wards.into_iter().filter_map(|(unit, ward)| {
                let until = match starts.get_mut(&unit)?.ask(&ward.budget, now) {
                    Allowance::SpentUntil(until) => until,
                    Allowance::Now(_) | Allowance::NotBefore(_) => return None,
                };
                Some((Part::Unit(unit), spent(&ward.budget, until)))
            });
            left.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    //! Which units are down.
    use super::*;

    #[test]
    fn only_what_is_down_for_good_is_started() {
        let unit = |change: fn(&mut UnitState)| {
            let mut state = UnitState { load_state: "loaded".into(), unit_type: "exec".into(), ..UnitState::default() };
            state.active_state = "inactive".into();
            change(&mut state);
            state
        };
        let table: [(&str, UnitState, bool, Due); 10] = [
            ("stopped", unit(|_| {}), false, Due::Start),
            ("given up", unit(|s| s.active_state = "failed".into()), false, Due::Start),
            ("running", unit(|s| s.active_state = "active".into()), false, Due::Nothing),
            ("systemd tries again", unit(|s| s.active_state = "activating".into()), false, Due::Nothing),
            ("stopping", unit(|s| s.active_state = "deactivating".into()), false, Due::Nothing),
            ("about to be started", unit(|s| s.has_job = true), false, Due::Nothing),
            ("done", unit(|s| (s.unit_type, s.result) = ("oneshot".into(), "success".into())), false, Due::Nothing),
            ("its file is gone", unit(|s| s.load_state = "not-found".into()), false, Due::Look),
            ("and cannot be put right", unit(|s| s.load_state = "not-found".into()), true, Due::Nothing),
            ("its file was changed", unit(|s| s.need_daemon_reload = true), false, Due::Look),
        ];
        for (name, state, mended, expected) in table {
            assert_eq!(due(&state, mended), expected, "{name}");
        }
        assert_eq!(due(&unit(|s| s.need_daemon_reload = true), true), Due::Start, "better than being down");
    }
}
