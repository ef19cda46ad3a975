//! Takes an app away: units stopped, files gone, originals back. Users, directories and packages stay. Beside `reconcile`.

use std::{collections::BTreeSet, fs, io, sync::PoisonError};

use drover_proto::{
    code::Code,
    event::EventKind,
    name::ReleaseId,
    plan::Action,
    status::{Failure, Phase},
};
use tokio::time::{Duration, Instant};

use super::{
    End, Work, cleanup,
    steps::{Setting, Stop},
};
use crate::{
    exec::{StepFailure, Undo},
    ledger::{Activation, AppLedger, Stage},
    report::now_unix_ms,
};

/// For all jobs together: units have their own time to stop.
const JOBS: Duration = Duration::from_secs(180);

impl Work<'_> {
    /// Removes the app. What fails is tried again at the next look.
    pub(super) async fn remove(&mut self) -> End {
        self.shared.board.app(&self.app, |status| {
            status.desired = None;
            status.rollout = 0;
            status.phase = Phase::Removing { step: "reading what is there".to_owned() };
        });
        // A first release that failed ends in its removal, and why it failed is still to be told; a release that ran and is
        // no longer wanted has nothing to explain.
        let untold = if self.ledger.current.is_none() { self.ledger.failure.clone() } else { None };
        match self.take_away(untold.is_none()).await {
            Ok(()) => {
                self.shared.forget(&self.app);
                self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).forget();
                self.shared.board.app(&self.app, |status| {
                    // Something newer may be wanted by now, of which this is not the end.
                    (status.desired, status.rollout) = (None, 0);
                    status.running = None;
                    status.parts.clear();
                    status.failure = untold;
                    status.phase = Phase::Removed;
                });
                End::Settled
            }
            Err(Stop::Superseded) => End::Superseded,
            Err(Stop::Failed(failed)) => {
                let failure = self.removal_failure(failed);
                tracing::error!(app = %self.app, code = %failure.code, "cannot be removed: {}", failure.cause);
                self.shared.remember(&self.ledger);
                self.shared.board.app(&self.app, |status| {
                    (status.desired, status.rollout) = (None, 0);
                    status.phase = Phase::Failed { cause: failure.cause.clone() };
                    status.failure = Some(failure);
                });
                End::Settled
            }
        }
    }

    /// Why the app cannot be taken away without a person: what it has here stands in a ledger that nobody can read.
    fn unknown_extent(&self) -> Result<(), StepFailure> {
        let Some(aside) = self.shared.ledgers.damaged().remove(&self.app) else { return Ok(()) };
        let cause = format!(
            "{}; remove its units and files by hand (what they replaced is kept in {}), then delete the damaged ledger",
            cleanup::damaged(&self.app, &aside),
            self.shared.parts.layout.state_dir.join("originals").join(self.app.as_str()).display()
        );
        Err(StepFailure::new(Code::NotOwned, "ledger", cause))
    }

    async fn take_away(&mut self, with_output: bool) -> Result<(), Stop> {
        self.unknown_extent()?;
        self.shared.standings.forget(&self.app);
        let before = AppLedger { activation: None, ..self.ledger.clone() };
        self.ledger.activation = Some(Activation {
            desired: None,
            rollout: 0,
            started_unix_ms: now_unix_ms(),
            switched_unix_ms: Some(now_unix_ms()),
            switched_at: None,
            touched: true,
            stage: Stage::Switching,
            hooks: BTreeSet::new(),
        });
        self.keep()?;
        tracing::info!(app = %self.app, "removing");
        let (observed, plan) = self.look(None).await?;
        let setting = Setting {
            wanted: None,
            observed: &observed,
            jobs_until: Instant::now() + JOBS,
            asked: None,
            phase: Some(|step| Phase::Removing { step }),
        };
        let mut undo = Undo::default();
        for step in &plan.steps {
            match self.step(step, &setting, &mut undo).await {
                // No unit has been touched yet: what others need comes back, and the app stays.
                Err(Stop::Failed(mut failed)) if matches!(step.action, Action::Validate { .. }) => {
                    undo.put_back()?;
                    self.ledger = before;
                    self.keep()?;
                    failed.cause = format!("{}; the app stays until that is mended", failed.cause);
                    return Err(Stop::Failed(failed));
                }

                // Somebody else's unit that does not come up again is no reason to keep the app.
                Err(Stop::Failed(failed)) if matches!(step.action, Action::Reload(_) | Action::Restart(_)) => {
                    tracing::warn!(app = %self.app, cause = failed.cause, "while removing");
                }
                done => done?,
            }
        }
        let layout = &self.shared.parts.layout;
        cleanup::everything(layout, &self.app, with_output).map_err(|error| {
            StepFailure::new(Code::Write, "clean-up", format!("a release cannot be removed: {error}"))
        })?;
        // With the ledger goes the last that knows of the app: before it, so that a crash leaves none of this behind.
        self.tell(EventKind::AppRemoved, "removed from this host");
        self.shared.upkeeps.forget(&self.app);
        self.shared.ledgers.remove(&self.app).map_err(StepFailure::from)?;
        Ok(())
    }

    fn removal_failure(&self, failed: StepFailure) -> Failure {
        let current = self.ledger.current.as_ref().map(|current| current.release.clone());
        Failure {
            code: failed.code,
            release: current.unwrap_or_else(|| ReleaseId { app: self.app.clone(), number: 0 }),
            rollout: 0,
            at_unix_ms: now_unix_ms(),
            step: failed.step,
            cause: failed.cause,
            evidence: failed.evidence,
        }
    }
}

/// Missing is as good as removed.
pub(super) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a directory with all in it, if it is there.
pub(super) fn remove_directory(path: &std::path::Path) -> io::Result<()> {
    gone(fs::remove_dir_all(path))
}
