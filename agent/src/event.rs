//! What the agent tells without being asked. Whoever does something by itself calls `Events::emit`; `link` sends the
//! events up in their order.

use drover_proto::{
    event::{Event, EventKind},
    name::AppName,
};

use crate::report::now_unix_ms;

/// Takes events from every part of the agent. Cheap to clone; never waits.
#[derive(Clone, Default)]
pub struct Events {}

impl Events {
    /// Something happened. `message`: one plain sentence, without secrets; `app`: none = of the host.
    pub fn emit(&self, app: Option<&AppName>, kind: EventKind, message: impl Into<String>) {
        let event = Event { at_unix_ms: now_unix_ms(), app: app.cloned(), kind, message: message.into() };
        let app = event.app.as_ref().map(AppName::as_str);
        tracing::info!(app, kind = %event.kind, "{}", event.message);
    }
}
