//! Restarts what a failing check says is to be restarted, within its budget; and says whether an app is still starting. Beside
//! `checking`, which asks.

use drover_proto::{event::EventKind, name::AppName, status::Phase};

use super::{
    Shared,
    checking::Key,
    revive::{is_at_rest, since},
    told::clock,
};
use crate::{
    budget::Allowance,
    check::{RenderedCheck, standing::Standing},
    drift::Part,
    render::Instance,
    report::now_unix_ms,
};

impl Shared {
    /// Whether the app, or a unit or container of it, began less than the check's start period ago.
    pub(super) async fn is_starting(&self, app: &AppName, check: &RenderedCheck) -> bool {
        let period = i64::try_from(check.start_period.as_ms()).unwrap_or(i64::MAX);
        // A clock that was set back makes nothing new.
        let is_new = |began: i64| (0..period).contains(&now_unix_ms().saturating_sub(began));
        if period == 0 {
            return false;
        }
        let settled = self.ledger(app).and_then(|ledger| ledger.settled);
        if let Some(Phase::Healthy { since_unix_ms }) = settled.map(|settled| settled.phase)
            && is_new(since_unix_ms)
        {
            return true;
        }
        for part in &check.parts {
            // Of one that cannot be asked nothing is known.
            let began = match part {
                Instance::Unit(unit) => match self.parts.systemd.unit(unit).await {
                    Ok(state) => i64::try_from(state.exec_main_start_us / 1000).ok(),
                    Err(_) => None,
                },
                Instance::Container(name) => match self.parts.engine.container(name).await {
                    Ok(state) => state.and_then(|state| state.started_at.parse::<jiff::Timestamp>().ok()),
                    Err(_) => None,
                }
                .map(jiff::Timestamp::as_millisecond),
            };
            if began.is_some_and(is_new) {
                return true;
            }
        }
        false
    }

    /// Restarts what the check names, if the app is at rest, nobody works on it, and the budget lasts.
    pub(super) async fn heal(&self, key: &Key, check: &RenderedCheck, before: &Standing, standing: &mut Standing) {
        let (Some(whom), (app, _)) = (&check.restart, key) else { return };
        let hand = self.hand(app);
        let Ok(_held) = hand.try_lock() else { return };
        let Some(ledger) = self.ledger(app).filter(is_at_rest) else { return };
        // What was answered before the app was changed counts no more.
        let (Some(since), true) = (since(&ledger), self.standings.of(key, check).as_ref() == Some(before)) else {
            return;
        };
        if !self.runs(whom).await {
            // What is down is started by others, who have the same budget.
            return;
        }
        let (now, budget, part) = (now_unix_ms(), check.budget, part(whom));
        let allowance = self.upkeeps.with(app, &since, |upkeep| {
            let attempts = match whom {
                Instance::Unit(unit) => upkeep.starts.entry(unit.clone()).or_default(),
                Instance::Container(_) => upkeep.repairs.entry(format!("restart of {part}")).or_default(),
            };
            let allowance = attempts.ask(&budget, now);
            if matches!(allowance, Allowance::Now(_)) {
                attempts.draw(&budget, now);
            }
            allowance
        });
        self.restart_within(key, whom, (allowance, budget.attempts), standing).await;
    }

    /// Restarts it if that is allowed, of so many times, and tells.
    pub(super) async fn restart_within(
        &self,
        (app, name): &Key,
        whom: &Instance,
        (allowance, of): (Allowance, u32),
        standing: &mut Standing,
    ) {
        let (part, answer) = (part(whom), &standing.answer);
        // A program that answers may say what it was given.
        let emit = |kind, said: String| self.parts.events.emit(Some(app), kind, self.redactor(app).text(&said));
        match allowance {
            Allowance::NotBefore(_) => {}
            Allowance::Now(number) => match self.restart(whom).await {
                Ok(()) => {
                    let said = format!("check {name} fails ({answer}): {part} restarted ({number} of {of})");
                    emit(EventKind::UnitRestarted, said);
                    (standing.failures, standing.left) = (0, None);
                }
                Err(error) => tracing::warn!(%app, %part, error, "cannot be restarted"),
            },
            Allowance::SpentUntil(until) => {
                let left = match until {
                    i64::MAX => {
                        format!("the restart budget of {part} allows no restart by drover: it is left as it is")
                    }
                    _ => format!(
                        "the restart budget of {part} is spent ({of}): it is left as it is until {}",
                        clock(until)
                    ),
                };
                if standing.left.as_ref() != Some(&left) {
                    emit(EventKind::RestartsSpent, format!("check {name} fails ({answer}); {left}"));
                    standing.left = Some(left);
                }
            }
        }
    }

    async fn runs(&self, whom: &Instance) -> bool {
        match whom {
            Instance::Unit(unit) => {
                let state = self.parts.systemd.unit(unit).await;
                state.is_ok_and(|state| state.active_state == "active" && !state.has_job)
            }
            Instance::Container(name) => {
                let state = self.parts.engine.container(name).await;
                state.is_ok_and(|state| state.is_some_and(|state| state.status == "running"))
            }
        }
    }

    async fn restart(&self, whom: &Instance) -> Result<(), String> {
        match whom {
            Instance::Unit(unit) => self.parts.systemd.restart_soon(unit).await.map_err(|error| error.to_string()),
            Instance::Container(name) => match self.parts.engine.container(name).await {
                Ok(Some(state)) => self.parts.engine.restart(&state).await.map_err(|error| error.to_string()),
                Ok(None) => Err("it is gone".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

fn part(whom: &Instance) -> Part {
    match whom {
        Instance::Unit(unit) => Part::Unit(unit.clone()),
        Instance::Container(container) => Part::Container(container.clone()),
    }
}
