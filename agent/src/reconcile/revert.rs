//! Going back: the committed release is activated again through the same planner and steps, with its own gate. Without
//! one, what was written goes. Beside `reconcile`.

use std::time::Duration;

use drover_proto::{
    code::Code,
    event::EventKind,
    name::AbsPath,
    plan::{Action, Step},
    spec::DesiredApp,
    status::{Evidence, Failure, Phase},
};
use tokio::time::Instant;

use super::{
    End, Work, activation,
    steps::{GateTimes, Setting, Stop},
};
use crate::{
    exec::{StepFailure, Undo},
    gate::GateEnd,
    host::files::{self, FileState},
    ledger::Stage,
    observe::Observed,
    plan::{around_gate, forbids_going_back},
    render::Rendered,
    report::now_unix_ms,
};

/// What ran before has been proven once; it need not prove itself for as long again.
pub(super) const MIN_HEALTHY: Duration = Duration::from_secs(2);
/// For the jobs of a removal.
const JOBS: Duration = Duration::from_secs(120);
/// For the Docker engine to be back.
const ENGINE: Duration = Duration::from_secs(60);

impl Work<'_> {
    /// Goes back from `desired`, for the reason in `failure`.
    pub(super) async fn revert(&mut self, desired: &DesiredApp, failure: Failure) -> End {
        tracing::error!(app = %self.app, release = %desired.release, code = %failure.code, "going back: {}", failure.cause);
        let reverting = Phase::Reverting { cause: failure.cause.clone() };
        self.shared.standings.forget(&self.app);
        self.shared.board.app(&self.app, |status| {
            status.phase = reverting.clone();
            status.failure = Some(failure.clone());
        });
        if let Some(activation) = &mut self.ledger.activation {
            activation.stage = Stage::Reverting(Box::new(failure.clone()));
            activation.touched = true;
        }
        if let Err(failed) = self.keep() {
            tracing::error!(app = %self.app, cause = failed.cause, "the journal cannot be written; going back all the same");
        }
        let previous = self.ledger.current.clone();
        let went = match &previous {
            Some(previous) => self.back_to(previous, desired, &reverting).await,
            None => self.back_to_nothing(desired, &reverting).await,
        };
        let to = previous.map(|previous| previous.release);
        // What ran was applied once more: there is nothing else to go back to.
        let again = to.as_ref() == Some(&desired.release);
        match went {
            Ok(()) => {
                let back = match &to {
                    Some(release) if again => format!("{release} failed when it was applied again, and runs as before"),
                    Some(release) => format!("back on {release}"),
                    None => "back on nothing, as before".to_owned(),
                };
                self.tell(EventKind::ActivationReverted, format!("{back}: {}", failure.cause));
                self.clean_up();
                let phase = Phase::Reverted { to, cause: failure.cause.clone() };
                self.settle_failed(desired, failure, phase).await;
                End::Settled
            }
            Err(Stop::Superseded) => End::Superseded,
            Err(Stop::Failed(second)) => {
                let failure = both(failure, second, again);
                let there = |path: &AbsPath| !matches!(files::state(path), Ok(FileState::Missing));
                self.ledger.gave_up(self.previous().as_ref(), there);
                let what = if again { "it was applied again" } else { "going back failed" };
                self.tell(EventKind::ActivationFailed, format!("{what}: {}", failure.cause));
                let phase = Phase::Failed { cause: failure.cause.clone() };
                self.settle_failed(desired, failure, phase).await;
                End::Settled
            }
        }
    }

    async fn back_to(&mut self, previous: &DesiredApp, asked: &DesiredApp, shown: &Phase) -> Result<(), Stop> {
        let rendered = self.rendered(previous).await?;
        self.engine_is_back().await;
        let (observed, mut plan) = self.look(Some(&rendered)).await?;
        plan.refusals.retain(|refusal| forbids_going_back(refusal.code));
        activation::refuse(&plan)?;
        let began = now_unix_ms();
        let strategy = &previous.spec.strategy;
        let started = Instant::now();
        let until = started + strategy.healthy_deadline.as_duration();
        self.held.begin_to_count();
        let (back, retire) = around_gate(&plan.steps);
        self.go_back(back, Some(&rendered), &observed, asked, until).await?;
        let until = until + self.held.waited();
        self.shared.board.phase(&self.app, shown.clone());
        let times = GateTimes {
            min_healthy: strategy.min_healthy_time.as_duration().min(MIN_HEALTHY),
            left: until.saturating_duration_since(Instant::now()),
            waited: started.elapsed().saturating_sub(self.held.waited()),
            since_unix_ms: began,
        };
        match self.gate(&rendered, asked, times, |_, _| shown.clone()).await {
            GateEnd::Healthy => {
                let phase = |step| Phase::Reverting { cause: step };
                self.retire(retire, &rendered, &observed, asked, Some(phase)).await?;
                self.ledger.reverted(Some(&rendered));
                Ok(())
            }
            GateEnd::Failed(failed) => Err(Stop::Failed(failed)),
            GateEnd::Superseded => Err(Stop::Superseded),
        }
    }

    async fn back_to_nothing(&mut self, asked: &DesiredApp, shown: &Phase) -> Result<(), Stop> {
        self.engine_is_back().await;
        let (observed, plan) = self.look(None).await?;
        self.go_back(&plan.steps, None, &observed, asked, Instant::now() + JOBS).await?;
        self.shared.board.phase(&self.app, shown.clone());
        self.ledger.reverted(None);
        Ok(())
    }

    /// The steps of the plan. Hooks and checks of files of the release before may warn, never block.
    async fn go_back(
        &mut self,
        steps: &[Step],
        wanted: Option<&Rendered>,
        observed: &Observed,
        asked: &DesiredApp,
        jobs_until: Instant,
    ) -> Result<(), Stop> {
        let cause = match &self.ledger.activation {
            Some(activation) => match &activation.stage {
                Stage::Reverting(failure) => failure.cause.clone(),
                Stage::Preparing | Stage::Switching | Stage::Gating => String::new(),
            },
            None => String::new(),
        };
        let setting = Setting { wanted, observed, jobs_until, asked: Some(asked), phase: None };
        let (mut undo, mut of_containers) = (Undo::default(), None);
        for step in steps {
            let done = self.step(step, &setting, &mut undo).await;
            self.shared.board.phase(&self.app, Phase::Reverting { cause: cause.clone() });
            match done {
                Err(Stop::Failed(failed)) if only_warns(&step.action, wanted) => {
                    tracing::warn!(app = %self.app, cause = failed.cause, "while going back");
                }
                // An image that is gone for good is no reason to leave everything else on the release that failed.
                Err(Stop::Failed(failed)) if is_of_containers(&step.action) => {
                    of_containers.get_or_insert(failed);
                }
                other => other?,
            }
        }
        of_containers.map_or(Ok(()), |failed| Err(Stop::Failed(failed)))
    }

    /// Of an engine that is just being restarted nothing could be said, and nothing brought back.
    async fn engine_is_back(&self) {
        if self.ledger.owned_containers.is_empty() && self.ledger.projects.is_empty() {
            return;
        }
        let until = Instant::now() + ENGINE;
        while self.shared.parts.engine.ping().await.is_err() && Instant::now() < until {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

fn is_of_containers(action: &Action) -> bool {
    matches!(
        action,
        Action::MakeNetwork(_)
            | Action::PullImage(_)
            | Action::RunContainer { .. }
            | Action::AdoptContainer(_)
            | Action::ReturnContainer(_)
            | Action::StartContainer(_)
            | Action::RemoveContainer(_)
            | Action::BuildProject(_)
            | Action::UpProject { .. }
            | Action::AdoptProject(_)
            | Action::LeaveProject(_)
            | Action::RemoveProject(_)
    )
}

/// Steps on the way back whose failure is no reason to stop there: the hooks and checks of the release before, and units
/// that are not its own.
fn only_warns(action: &Action, wanted: Option<&Rendered>) -> bool {
    match action {
        Action::Hook { .. } | Action::Validate { .. } => true,
        Action::Reload(unit) | Action::Restart(unit) => wanted.is_none_or(|wanted| !wanted.units.contains_key(unit)),
        _ => false,
    }
}

/// One failure that tells of both; `again`: going back was another try of the same release.
fn both(first: Failure, second: StepFailure, again: bool) -> Failure {
    let mut evidence = first.evidence;
    let told = |seen: &Evidence| evidence.iter().any(|before| before.title == seen.title);
    let more: Vec<Evidence> = second.evidence.into_iter().filter(|seen| !(again && told(seen))).collect();
    evidence.extend(more);
    let cause = match again {
        false => format!("{}; then going back failed: {}", first.cause, second.cause),
        true if first.cause == second.cause => {
            format!("{}; it is what ran before, and another try failed, too", first.cause)
        }
        true => format!("{}; it is what ran before, and another try failed: {}", first.cause, second.cause),
    };
    let step = if again { first.step.clone() } else { format!("{}, then revert ({})", first.step, second.step) };
    Failure { code: Code::Revert, cause, evidence, step, ..first }
}

#[cfg(test)]
mod tests {
    //! What may fail on the way back.
    use super::*;
    use crate::render::tests::{desired, rendered};

    #[test]
    fn another_try_of_the_same_release_is_told_once() {
        let evidence = |title: &str| Evidence { title: title.to_owned(), lines: vec!["x".to_owned()] };
        let failure = |cause: &str| Failure {
            code: Code::Gate,
            release: desired().release,
            rollout: 7,
            at_unix_ms: 1,
            step: "gate".to_owned(),
            cause: cause.to_owned(),
            evidence: vec![evidence("check api")],
        };
        let mut second = StepFailure::new(Code::Gate, "gate", "it answered 500");
        second.evidence = vec![evidence("check api"), evidence("journal of a.service")];
        let told = |first: &str, again| {
            let both = both(failure(first), second.clone(), again);
            (both.cause, both.step, both.evidence.len())
        };
        let cause = "it answered 500; it is what ran before, and another try failed, too";
        assert_eq!(told("it answered 500", true), (cause.to_owned(), "gate".to_owned(), 2));
        assert!(told("it was killed", true).0.ends_with("another try failed: it answered 500"));
        let (cause, step, seen) = told("it was killed", false);
        assert!(cause.contains("then going back failed") && step == "gate, then revert (gate)" && seen == 3, "{cause}");
    }

    #[test]
    fn only_the_releases_own_units_must_come_back() {
        let wanted = rendered(&desired());
        let (own, other) = ("mono-api.service".parse().unwrap(), "nginx.service".parse().unwrap());
        let warns = |action: &Action| only_warns(action, Some(&wanted));
        assert!(warns(&Action::Reload("nginx.service".parse().unwrap())) && warns(&Action::Restart(other)));
        assert!(!warns(&Action::Restart(own)) && !warns(&Action::DaemonReload));
        assert!(only_warns(&Action::Reload("nginx.service".parse().unwrap()), None));
    }
}
