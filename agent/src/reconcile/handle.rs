//! What the rest of the agent may ask of the reconciler: a plan without carrying it out, the units of an app, the status.
//! Beside `reconcile`; `link` holds one.

use std::sync::Arc;

use drover_proto::{
    name::{AppName, UnitName},
    plan::Plan,
    spec::DesiredApp,
    status::HostStatus,
};
use tokio::sync::watch;

use super::{Shared, Work};
use crate::{exec::StepFailure, ledger::AppLedger, render::render};

/// Asks; never changes anything. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// What would happen if `desired` were asked of this host; `None` = removing the app. The error is one sentence.
    pub async fn preview(&self, app: &AppName, desired: Option<DesiredApp>) -> Result<Plan, String> {
        let shared = &*self.0;
        let ledger = shared.ledger(app).unwrap_or_else(|| AppLedger::new(app.clone()));
        let work =
            Work { shared, specs: shared.parts.desired.subscribe(), app: app.clone(), facts: shared.facts(), ledger };
        let rendered = match &desired {
            Some(desired) => {
                Some(render(desired, &work.facts, &shared.parts.layout).map_err(|error| error.to_string())?)
            }
            None => None,
        };
        let planned = work.look(rendered.as_ref()).await;
        planned.map(|(_, plan)| plan).map_err(|failed: StepFailure| failed.cause)
    }

    /// The units that an app has on this host: those of the committed release and of one being activated.
    #[must_use]
    pub fn units_of(&self, app: &AppName) -> Vec<UnitName> {
        self.0.ledger(app).map(|ledger| ledger.owned_units.into_keys().collect()).unwrap_or_default()
    }

    /// The status, and every one after it.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<HostStatus>> {
        self.0.board.subscribe()
    }
}
