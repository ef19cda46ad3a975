//! Units told to systemd, each job waited for. A unit of the app that does not come up is not judged here: the gate sees
//! it, and says why. Beside `exec`.

use std::time::Duration;

use drover_proto::{code::Code, name::UnitName};
use tokio::time::Instant;

use super::{Exec, StepFailure};
use crate::{
    host::{
        journal,
        systemd::{JobResult, SystemdError},
    },
    ledger::AppLedger,
};

/// However little is left of the deadline, a job gets so long.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// Lines of the journal kept as evidence.
const EVIDENCE_LINES: usize = 20;

fn refused(step: &str, error: SystemdError) -> StepFailure {
    StepFailure::new(Code::Systemd, step, error.to_string())
}

impl Exec<'_> {
    pub(super) fn patience(&self) -> Duration {
        self.jobs_until.saturating_duration_since(Instant::now()).max(SHORTEST_WAIT)
    }

    pub(super) async fn daemon_reload(&self) -> Result<(), StepFailure> {
        self.systemd.daemon_reload().await.map_err(|e| refused("daemon-reload", e))
    }

    pub(super) async fn enable(&self, unit: &UnitName) -> Result<(), StepFailure> {
        let installable = self.systemd.enable(unit).await.map_err(|e| refused("enable", e))?;
        if !installable {
            tracing::debug!(%unit, "has no [Install]: nothing to enable");
        }
        Ok(())
    }

    pub(super) async fn disable(&self, unit: &UnitName) -> Result<(), StepFailure> {
        self.systemd.disable(unit).await.map_err(|e| refused("disable", e))
    }

    pub(super) async fn stop(&self, unit: &UnitName) -> Result<(), StepFailure> {
        let result = self.systemd.stop(unit, self.patience()).await.map_err(|e| refused("stop", e))?;
        match result {
            JobResult::Done | JobResult::Skipped | JobResult::Canceled => {}
            JobResult::Failed | JobResult::Dependency | JobResult::Timeout | JobResult::StillRunning => {
                let cause = format!("{unit} could not be stopped ({})", word(result));
                return Err(self.job_failure("stop", unit, cause).await);
            }
        }
        self.forget_failure(unit).await;
        Ok(())
    }

    async fn forget_failure(&self, unit: &UnitName) {
        if let Err(error) = self.systemd.reset_failed(unit).await {
            tracing::debug!(%unit, %error, "its failure is not forgotten");
        }
    }

    /// Starts or restarts. For a unit of the app the ledger learns what it runs now.
    pub(super) async fn run_unit(
        &self,
        unit: &UnitName,
        restart: bool,
        ledger: &mut AppLedger,
    ) -> Result<(), StepFailure> {
        if unit.is_template() {
            return Ok(());
        }
        // A start limit that was hit by the release before does not count for this one.
        self.forget_failure(unit).await;
        let (verb, result) = match restart {
            true => ("restart", self.systemd.restart(unit, self.patience()).await),
            false => ("start", self.systemd.start(unit, self.patience()).await),
        };
        let result = result.map_err(|e| refused(verb, e))?;
        let own = self.wanted.and_then(|wanted| wanted.units.get(unit));
        match (result, own) {
            (JobResult::Done, Some(own)) => {
                ledger.started(unit, own.fingerprint);
                self.ledgers.save(ledger)?;
                Ok(())
            }
            (JobResult::Done | JobResult::Skipped, None) => Ok(()),
            (_, Some(_)) => {
                tracing::warn!(%unit, result = word(result), "not up yet; the gate will tell");
                Ok(())
            }
            (_, None) => {
                let cause = format!("{unit} could not be {verb}ed ({})", word(result));
                Err(self.job_failure(verb, unit, cause).await)
            }
        }
    }

    pub(super) async fn reload(&self, unit: &UnitName) -> Result<(), StepFailure> {
        if self.leads_by(unit) { self.reload_nginx(unit).await } else { self.reload_job(unit).await }
    }

    pub(super) async fn reload_job(&self, unit: &UnitName) -> Result<(), StepFailure> {
        let result = self.systemd.reload_or_restart(unit, self.patience()).await.map_err(|e| refused("reload", e))?;
        if result == JobResult::Done {
            return Ok(());
        }
        let cause = format!("{unit} could not be reloaded ({})", word(result));
        Err(self.job_failure("reload", unit, cause).await)
    }

    pub(super) async fn job_failure(&self, step: &str, unit: &UnitName, cause: String) -> StepFailure {
        let a_while_ago = jiff::Timestamp::now().as_millisecond() - 60_000;
        let lines = journal::tail(unit, a_while_ago, EVIDENCE_LINES).await;
        StepFailure::new(Code::Systemd, step, cause).with(format!("journal of {unit}"), lines)
    }
}

fn word(result: JobResult) -> &'static str {
    match result {
        JobResult::Done => "done",
        JobResult::Failed => "it failed",
        JobResult::Dependency => "a unit that it needs failed",
        JobResult::Timeout => "systemd's own time for the job ran out",
        JobResult::Canceled => "another job took its place",
        JobResult::Skipped => "a condition of the unit does not hold",
        JobResult::StillRunning => "it did not end before the deadline",
    }
}
