//! What a host's report says about a rollout: nothing, that it is moving, that it is where it should be, or that it
//! failed. Pure; read by `next`.

use drover_proto::{
    name::{AppName, ReleaseId, ReleaseNumber, RolloutId},
    rollout::HostState,
    status::{AppStatus, Phase},
};

/// What was seen.
#[derive(Clone, PartialEq, Debug)]
pub enum Sight {
    /// The report is about something else.
    Nothing,
    /// Not there yet.
    Moving(HostState),
    /// Where it was asked to be, seen healthy; or gone, if that was asked.
    Good,
    /// It failed.
    Bad {
        /** One sentence. */
        cause: String,
        /** What it had before is back. */
        reverted: bool,
    },
}

/// Reads the app's part of a report on a generation that holds what was asked (`None`: that the app be gone).
#[must_use]
pub fn sight(app: &AppName, rollout: RolloutId, asked: Option<ReleaseNumber>, status: Option<&AppStatus>) -> Sight {
    match (asked, status) {
        (None, None) => Sight::Good,
        (None, Some(status)) => removal(status),
        (Some(_), None) => Sight::Nothing,
        (Some(number), Some(status)) => {
            let wanted = ReleaseId { app: app.clone(), number };
            if status.rollout == rollout && status.desired.as_ref() == Some(&wanted) {
                release(&wanted, status)
            } else {
                Sight::Nothing
            }
        }
    }
}

fn release(wanted: &ReleaseId, status: &AppStatus) -> Sight {
    match &status.phase {
        Phase::Pending => Sight::Moving(HostState::Fetching { step: "accepted".to_owned() }),
        Phase::Fetching { step } => Sight::Moving(HostState::Fetching { step: step.clone() }),
        Phase::Staging { step } => Sight::Moving(HostState::Staged { step: step.clone() }),
        Phase::Activating { step } => Sight::Moving(HostState::Activating { step: step.clone() }),
        Phase::Gating { healthy_for_ms, waiting_for } => {
            Sight::Moving(HostState::Gating { healthy_for_ms: *healthy_for_ms, waiting_for: waiting_for.clone() })
        }
        Phase::Healthy { .. } if status.running.as_ref() == Some(wanted) => Sight::Good,
        Phase::Healthy { .. } => Sight::Nothing,
        // Committed, and ill since: a host counts only when it is seen healthy.
        Phase::Degraded { problems } => {
            Sight::Moving(HostState::Gating { healthy_for_ms: 0, waiting_for: problems.clone() })
        }
        Phase::Reverting { cause } => Sight::Moving(HostState::Reverting { cause: cause.clone() }),
        Phase::Reverted { cause, .. } => Sight::Bad { cause: cause.clone(), reverted: true },
        Phase::Failed { cause } => Sight::Bad { cause: cause.clone(), reverted: false },
        Phase::Removing { .. } | Phase::Removed => Sight::Nothing,
    }
}

fn removal(status: &AppStatus) -> Sight {
    if status.desired.is_some() {
        return Sight::Nothing;
    }
    match &status.phase {
        Phase::Removed => Sight::Good,
        Phase::Removing { step } => Sight::Moving(HostState::Activating { step: step.clone() }),
        Phase::Failed { cause } => Sight::Bad { cause: cause.clone(), reverted: false },
        Phase::Pending
        | Phase::Fetching { .. }
        | Phase::Staging { .. }
        | Phase::Activating { .. }
        | Phase::Gating { .. }
        | Phase::Healthy { .. }
        | Phase::Degraded { .. }
        | Phase::Reverting { .. }
        | Phase::Reverted { .. } => Sight::Moving(HostState::Fetching { step: "accepted".to_owned() }),
    }
}
