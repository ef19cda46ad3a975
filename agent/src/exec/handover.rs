//! nginx told of another instance, and what it has under way to the one before waited for. Beside `exec`.

use std::{io, time::Duration};

use drover_proto::{code::Code, name::UnitName};
use tokio::time::{Instant, sleep};

use super::{Exec, StepFailure};
use crate::{
    host::{
        listeners,
        nginx::{self, Workers},
    },
    render::NGINX,
};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(50);
/// For nginx to put its new workers in the place of the old ones. On a busy host it takes a second.
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(20);

impl Exec<'_> {
    /// Reloads nginx, and waits until no worker takes requests any more that began with the configuration before: a reload
    /// is over before that, and says nothing of a configuration that nginx did not take in the end.
    pub(super) async fn reload_nginx(&self, unit: &UnitName) -> Result<(), StepFailure> {
        let before = self.workers(unit).await?;
        self.reload_job(unit).await?;
        let began = Instant::now();
        loop {
            let now = self.workers(unit).await?;
            if before.serving.is_disjoint(&now.serving) {
                return Ok(());
            }
            if began.elapsed() > TAKES_OVER_WITHIN {
                let cause = "nginx was reloaded, and still serves by the configuration before".to_owned();
                return Err(self.job_failure("reload", unit, cause).await);
            }
            sleep(LOOK).await;
        }
    }

    /// Whether that is the nginx whose upstreams lead to instances of this release.
    pub(super) fn leads_by(&self, unit: &UnitName) -> bool {
        unit.as_str() == NGINX && self.wanted.is_some_and(|wanted| !wanted.handovers.is_empty())
    }

    async fn workers(&self, unit: &UnitName) -> Result<Workers, StepFailure> {
        let state =
            self.systemd.unit(unit).await.map_err(|e| StepFailure::new(Code::Systemd, "reload", e.to_string()))?;
        let looked = tokio::task::spawn_blocking(move || nginx::workers(state.main_pid)).await;
        looked.map_err(|e| StepFailure::new(Code::Internal, "reload", e.to_string()))
    }

    /// Waits until nothing is under way to an instance any more, or for so long. Nobody sends anything new to it: but a worker
    /// of nginx that is on its way out may have a request of which it has not told the instance yet.
    pub(super) async fn drain(&self, instance: &str, port: Option<u16>, at_most: Duration) -> Result<(), StepFailure> {
        let nginx: UnitName =
            NGINX.parse().map_err(|_| StepFailure::new(Code::Internal, "drain", "nginx.service is no unit"))?;
        let began = Instant::now();
        loop {
            let leaving = self.workers(&nginx).await?.leaving.len();
            let open = tokio::task::spawn_blocking(move || port.map_or(Ok(0), listeners::connections_to)).await;
            let open = open.map_err(|e| unseen(&io::Error::other(e)))?.map_err(|e| unseen(&e))?;
            if leaving == 0 && open == 0 {
                return Ok(());
            }
            if began.elapsed() >= at_most {
                tracing::warn!(app = %self.app, instance, open, leaving, "is stopped in the middle of what it does");
                return Ok(());
            }
            (self.say)(format!("{open} connections, {leaving} workers of nginx"));
            sleep(LOOK).await;
        }
    }
}

fn unseen(error: &io::Error) -> StepFailure {
    StepFailure::new(Code::Internal, "drain", format!("connections cannot be seen: {error}"))
}
