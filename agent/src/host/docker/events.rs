//! What the engine tells of containers that have an app, without being asked. Part of `docker`; `reconcile/listen` hears it,
//! and looks for itself before it does anything.

use std::collections::HashMap;

use bollard::query_parameters::EventsOptionsBuilder;
use drover_proto::name::AppName;
use futures_util::StreamExt;

use super::{APP_LABEL, Engine, Result, plain};

/// What may make a look worthwhile.
const WORTH: [&str; 8] = ["die", "destroy", "health_status", "oom", "pause", "start", "stop", "unpause"];

impl Engine {
    /// Calls `told` with the app of each container to which something happens, until the engine goes away.
    pub async fn listen(&self, told: impl Fn(AppName)) -> Result<()> {
        let client = self.client()?;
        let filters =
            HashMap::from([("type", vec!["container"]), ("label", vec![APP_LABEL]), ("event", WORTH.to_vec())]);
        let mut events = std::pin::pin!(client.events(Some(EventsOptionsBuilder::new().filters(&filters).build())));
        while let Some(event) = events.next().await {
            let attributes = event.map_err(plain)?.actor.and_then(|actor| actor.attributes).unwrap_or_default();
            if let Some(app) = attributes.get(APP_LABEL).and_then(|app| app.parse().ok()) {
                told(app);
            }
        }
        Ok(())
    }
}
