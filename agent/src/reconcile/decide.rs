//! Pure: what is due for an app, from its ledger and what is wanted. Beside `reconcile`.

use drover_proto::{
    code::Code,
    name::ReleaseId,
    spec::DesiredApp,
    status::{Failure, Phase},
};

use crate::ledger::{Activation, AppLedger, Settled, Stage};

/// What is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Task {
    /// It is settled.
    Nothing,
    /// A release is to be activated, from the beginning.
    Activate(Box<DesiredApp>),
    /// The switch had begun when the agent stopped: go on.
    Resume(Box<DesiredApp>),
    /// Go (on going) back.
    Revert {
        /** From which release. */
        desired: Box<DesiredApp>,
        /** Why. */
        failure: Box<Failure>,
    },
    /// The app is no longer wanted.
    Remove,
}

/// Decides. `now_unix_ms` tells whether an interrupted activation still has time.
pub(super) fn decide(ledger: &AppLedger, desired: Option<&DesiredApp>, now_unix_ms: i64) -> Task {
    let Some(desired) = desired else { return Task::Remove };
    if let Some(activation) = &ledger.activation
        && let Some(task) = in_flight(activation, desired, now_unix_ms)
    {
        return task;
    }
    let is_it = |release: &ReleaseId, rollout| *release == desired.release && rollout == desired.rollout;
    // A host that was enrolled anew may be asked for the same numbers with another content.
    let is_current = |current: &DesiredApp| {
        current.release != desired.release || (current.spec == desired.spec && current.secrets == desired.secrets)
    };
    let as_asked = |settled: &Settled| {
        !matches!(settled.phase, Phase::Healthy { .. }) || ledger.current.as_ref().is_none_or(is_current)
    };
    let settled = ledger.activation.is_none()
        && (ledger
            .settled
            .as_ref()
            .is_some_and(|settled| is_it(&settled.release, settled.rollout) && as_asked(settled))
            || ledger.failed_attempt.as_ref().is_some_and(|(release, rollout)| is_it(release, *rollout)));
    if settled { Task::Nothing } else { Task::Activate(Box::new(desired.clone())) }
}

/// An activation of what is still wanted; `None`: begin anew.
fn in_flight(activation: &Activation, desired: &DesiredApp, now_unix_ms: i64) -> Option<Task> {
    let target = activation.desired.as_ref()?;
    if target.release != desired.release || target.rollout != desired.rollout {
        return None;
    }
    let boxed = || Box::new(desired.clone());
    match &activation.stage {
        Stage::Preparing => None,
        Stage::Reverting(failure) => Some(Task::Revert { desired: boxed(), failure: failure.clone() }),
        Stage::Switching | Stage::Gating => {
            let deadline = desired.spec.strategy.healthy_deadline;
            let switched = activation.switched_unix_ms.unwrap_or(activation.started_unix_ms);
            let passed = now_unix_ms.saturating_sub(switched);
            let deadline_ms = i64::try_from(deadline.as_ms()).unwrap_or(i64::MAX);
            if desired.paused || passed < deadline_ms {
                return Some(Task::Resume(boxed()));
            }
            let cause = format!(
                "the agent was interrupted in the middle of activating {}, and when it was back the deadline ({deadline}) had passed",
                desired.release
            );
            let failure = Failure {
                code: Code::Interrupted,
                release: desired.release.clone(),
                rollout: desired.rollout,
                at_unix_ms: now_unix_ms,
                step: "activation".to_owned(),
                cause,
                evidence: Vec::new(),
            };
            Some(Task::Revert { desired: boxed(), failure: Box::new(failure) })
        }
    }
}

#[cfg(test)]
mod tests {
    //! Every state in which an agent can wake up.
    use super::*;
    use crate::render::tests::{desired, rendered};

    fn in_stage(stage: Stage, switched: Option<i64>) -> AppLedger {
        let mut ledger = AppLedger::new("mono".parse().unwrap());
        ledger.activation = Some(Activation {
            desired: Some(desired()),
            rollout: desired().rollout,
            started_unix_ms: 0,
            switched_unix_ms: switched,
            touched: switched.is_some(),
            stage,
        });
        ledger
    }

    fn word(task: &Task) -> &'static str {
        match task {
            Task::Nothing => "nothing",
            Task::Activate(_) => "activate",
            Task::Resume(_) => "resume",
            Task::Revert { .. } => "revert",
            Task::Remove => "remove",
        }
    }

    #[test]
    fn waking_up_in_any_stage_leads_on() {
        let want = desired();
        let mut newer = want.clone();
        newer.release.number += 1;
        let mut paused = want.clone();
        paused.paused = true;
        let late = i64::try_from(want.spec.strategy.healthy_deadline.as_ms()).unwrap() + 1000;
        let failure = match decide(&in_stage(Stage::Gating, Some(0)), Some(&want), late) {
            Task::Revert { failure, .. } => failure,
            other => panic!("{other:?}"),
        };
        assert_eq!(failure.code, Code::Interrupted);
        let mut committed = AppLedger::new("mono".parse().unwrap());
        committed.commit(&want, &rendered(&want), 1);
        let mut failed = AppLedger::new("mono".parse().unwrap());
        failed.failed_attempt = Some((want.release.clone(), want.rollout));
        let phase = Phase::Reverted { to: None, cause: "x".to_owned() };
        failed.settled = Some(Settled { release: want.release.clone(), rollout: want.rollout, phase });
        let mut other = want.clone();
        other.spec.env.clear();
        let mut reverted = committed.clone();
        reverted.settled = failed.settled.clone();
        let mut retry = want.clone();
        retry.rollout += 1;
        let table = [
            (AppLedger::new("mono".parse().unwrap()), Some(&want), 0, "activate"),
            (in_stage(Stage::Preparing, None), Some(&want), 0, "activate"),
            (in_stage(Stage::Switching, Some(0)), Some(&want), 10, "resume"),
            (in_stage(Stage::Gating, Some(0)), Some(&want), 10, "resume"),
            (in_stage(Stage::Gating, Some(0)), Some(&paused), late, "resume"),
            (in_stage(Stage::Gating, Some(0)), Some(&want), late, "revert"),
            (in_stage(Stage::Gating, Some(0)), Some(&newer), late, "activate"),
            (in_stage(Stage::Reverting(failure), Some(0)), Some(&want), 0, "revert"),
            (in_stage(Stage::Gating, Some(0)), None, 0, "remove"),
            (committed.clone(), Some(&want), 0, "nothing"),
            (committed.clone(), Some(&paused), 0, "nothing"),
            (committed.clone(), Some(&retry), 0, "activate"),
            (committed.clone(), Some(&other), 0, "activate"),
            (committed, None, 0, "remove"),
            (failed.clone(), Some(&want), 0, "nothing"),
            (failed.clone(), Some(&retry), 0, "activate"),
            (failed, Some(&newer), 0, "activate"),
            (reverted, Some(&other), 0, "nothing"),
        ];
        for (i, (ledger, desired, now, expected)) in table.into_iter().enumerate() {
            assert_eq!(word(&decide(&ledger, desired, now)), expected, "row {i}");
        }
    }
}
