//! Has apps looked at as soon as Docker tells of their containers. An agent without containers never asks it. Beside the
//! loop, like `revive`.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use drover_proto::name::AppName;

use super::{Shared, Stir};
use crate::host::docker::Whose;

/// To an engine that has gone away.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs until the agent stops.
pub(super) async fn containers(shared: Arc<Shared>) {
    // What the ledgers hold changes only together with what is shown.
    let mut board = shared.board.subscribe();
    loop {
        let apps = shared.apps_with_containers();
        if apps.is_empty() {
            if board.changed().await.is_err() {
                return;
            }
            continue;
        }
        let heard = shared.parts.engine.listen(|whose| shared.look_at(whose)).await;
        tracing::debug!(?heard, "Docker tells nothing of containers");
        tokio::time::sleep(AGAIN).await;
        // It may have been restarted meanwhile.
        apps.into_iter().for_each(|app| shared.look_at(Whose::App(app)));
    }
}

impl Shared {
    fn apps_with_containers(&self) -> Vec<AppName> {
        let apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        apps.values()
            .filter(|ledger| !(ledger.owned_containers.is_empty() && ledger.projects.is_empty()))
            .map(|ledger| ledger.app.clone())
            .collect()
    }

    /// A label on somebody's container names no app of this host.
    fn look_at(&self, whose: Whose) {
        let apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let app = match whose {
            Whose::App(app) => apps.contains_key(&app).then_some(app),
            Whose::Project(name) => {
                apps.values().find(|ledger| ledger.projects.contains_key(&name)).map(|ledger| ledger.app.clone())
            }
        };
        if let Some(app) = app {
            self.stirs.ask(Stir::Containers(app.clone()));
            self.looks.ask(app);
        }
    }
}
