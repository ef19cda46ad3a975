//! Pure: what is due for an app, from its ledger and what is wanted. Beside `reconcile`.

use drover_proto::{
    code::Code,
    name::ReleaseId,
    spec::DesiredApp,
    status::{Failure, Phase},
};

use crate::{
    host::clock::Moment,
    ledger::{Activation, AppLedger, Settled, Stage},
};

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

/// Decides. `now` tells whether an interrupted activation still has time.
pub(super) fn decide(ledger: &AppLedger, desired: Option<&DesiredApp>, now: &Moment) -> Task {
    let Some(desired) = desired else { return Task::Remove };
    if let Some(activation) = &ledger.activation
        && let Some(task) = in_flight(activation, desired, now)
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
fn in_flight(activation: &Activation, desired: &DesiredApp, now: &Moment) -> Option<Task> {
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
            let passed = now.since(&activation.switched(), deadline.as_duration());
            if desired.paused || passed < deadline.as_duration() {
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
                at_unix_ms: now.unix_ms,
                step: "activation".to_owned(),
                cause,
                evidence: Vec::new(),
            };
            Some(Task::Revert { desired: boxed(), failure: Box::new(failure) })
        }
    }
}

/// What becomes of an activation that the agent's end interrupted, in one sentence.
pub(super) fn going_on(interrupted: &Activation, task: &Task) -> String {
    let target = interrupted.desired.as_ref().map(|desired| &desired.release);
    let middle = match target {
        Some(release) => format!("the agent was interrupted in the middle of activating {release}"),
        None => "the agent was interrupted in the middle of a removal".to_owned(),
    };
    match (task, &interrupted.stage) {
        (Task::Resume(desired), _) => format!("going on with {} after the agent was interrupted", desired.release),
        (Task::Revert { desired, .. }, Stage::Reverting(_)) => {
            format!("going on with going back from {} after the agent was interrupted", desired.release)
        }
        (Task::Revert { .. }, _) => format!("{middle}, and goes back"),
        (Task::Activate(desired), Stage::Preparing) if target == Some(&desired.release) => {
            format!(
                "beginning again with {}: the agent was interrupted before it had touched anything",
                desired.release
            )
        }
        (Task::Activate(desired), _) => format!("{middle}; {} is wanted now", desired.release),
        (Task::Remove, _) if target.is_none() => format!("{middle}, and goes on"),
        (Task::Remove, _) => format!("{middle}; the app is to be removed now"),
        (Task::Nothing, _) => middle,
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
            switched_at: None,
            touched: switched.is_some(),
            stage,
            hooks: Default::default(),
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
        let at = |unix_ms| Moment { unix_ms, ..Moment::default() };
        let failure = match decide(&in_stage(Stage::Gating, Some(0)), Some(&want), &at(late)) {
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
            assert_eq!(word(&decide(&ledger, desired, &at(now))), expected, "row {i}");
        }
    }
    #[test]
    fn it_is_said_what_becomes_of_what_was_interrupted() {
        let want = desired();
        let switching = in_stage(Stage::Switching, Some(0)).activation.unwrap();
        let preparing = in_stage(Stage::Preparing, None).activation.unwrap();
        let removing = Activation { desired: None, ..switching.clone() };
        let mut newer = want.clone();
        newer.release.number += 1;
        let activate = |desired: &DesiredApp| Task::Activate(Box::new(desired.clone()));
        let table = [
            (&switching, Task::Resume(Box::new(want.clone())), "going on with mono/"),
            (&preparing, activate(&want), "beginning again"),
            (&switching, activate(&newer), "is wanted now"),
            (&switching, Task::Remove, "to be removed now"),
            (&removing, Task::Remove, "a removal, and goes on"),
        ];
        for (interrupted, task, words) in table {
            let said = going_on(interrupted, &task);
            assert!(said.contains(words), "{said}");
        }
    }
}
