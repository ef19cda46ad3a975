//! What the engine tells of containers that have an app or belong to a compose project, without being asked. Part of `docker`; `reconcile/listen` hears it,
//! and looks for itself before it does anything.

use std::collections::HashMap;

use bollard::query_parameters::EventsOptionsBuilder;
use drover_proto::name::{AppName, ProjectName};
use futures_util::StreamExt;

use super::{APP_LABEL, Engine, Result, plain, project::PROJECT_LABEL};

/// Whose a container is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whose {
    /// An app's.
    App(AppName),
    /// A compose project's.
    Project(ProjectName),
}

/// What may make a look worthwhile.
const WORTH: [&str; 8] = ["die", "destroy", "health_status", "oom", "pause", "start", "stop", "unpause"];

impl Engine {
    /// Calls `told` with whose each container is to which something happens, until the engine goes away.
    pub async fn listen(&self, told: impl Fn(Whose)) -> Result<()> {
        let client = self.client()?;
        let filters = HashMap::from([("type", vec!["container"]), ("event", WORTH.to_vec())]);
        let mut events = std::pin::pin!(client.events(Some(EventsOptionsBuilder::new().filters(&filters).build())));
        while let Some(event) = events.next().await {
            let actor = event.map_err(plain)?.actor.unwrap_or_default();
            let attributes = actor.attributes.unwrap_or_default();
            let app = attributes.get(APP_LABEL).and_then(|app| Some(Whose::App(app.parse().ok()?)));
            let project = || Some(Whose::Project(attributes.get(PROJECT_LABEL)?.parse().ok()?));
            let adopted = || Some(Whose::App(self.adoptions.of(actor.id.as_deref()?)?.0));
            if let Some(whose) = app.or_else(adopted).or_else(project) {
                told(whose);
            }
        }
        Ok(())
    }
}
