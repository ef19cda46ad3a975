//! The agent itself as `drover_…`: its version, its stream and certificate, and what it has told and still has to tell.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use drover_proto::{name::AppName, status::HostStatus};
use tokio::sync::watch;

use super::{seconds, text::Text};
use crate::{
    event::{Events, Outbox},
    identity::{self, Identity},
};

/// What is told of the agent.
pub struct Agent {
    /// Whether the stream to the coordinator is up.
    is_connected: Box<dyn Fn() -> bool + Send + Sync>,
    events: Events,
    outbox: Outbox,
    certificate: Certificate,
}

impl Agent {
    /// Of the agent that keeps its state there; `stream`: to the coordinator, while it is up.
    #[must_use]
    pub fn new<S: Send + Sync + 'static>(
        stream: watch::Receiver<Option<S>>,
        events: Events,
        outbox: Outbox,
        state_dir: &Path,
    ) -> Self {
        let is_connected = move || stream.borrow().is_some();
        let certificate = Certificate { state_dir: state_dir.to_owned(), read: Mutex::default() };
        Self { is_connected: Box::new(is_connected), events, outbox, certificate }
    }

    pub(super) fn write(&self, status: &HostStatus, text: &mut Text) {
        text.gauge("drover_build_info", "The agent's version; always 1.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        text.gauge("drover_coordinator_connected", "Whether the stream to the coordinator is up.")
            .value(u8::from((self.is_connected)()));
        text.gauge("drover_spec_generation", "The generation of the host spec that was accepted last.")
            .value(status.generation);
        if let Some(unix_ms) = self.certificate.not_after_unix_ms() {
            let help = "When the agent's certificate ends, in unixtime.";
            text.gauge("drover_certificate_not_after_timestamp_seconds", help).value(seconds(unix_ms));
        }
        self.events(text);
    }

    fn events(&self, text: &mut Text) {
        let mut told = text.counter("drover_events_total", "Events since the agent started.");
        for ((app, kind), count) in self.events.counts() {
            let app = app.as_ref().map(AppName::as_str).unwrap_or_default();
            told.sample(&[("app", app), ("kind", &kind.to_string())], count);
        }
        let unsent = self.outbox.unsent();
        text.gauge("drover_outbox_events", "Events that the coordinator has not acknowledged.").value(unsent.events);
        if let Some(unix_ms) = unsent.since_unix_ms {
            let help = "When the oldest event happened that the coordinator has not acknowledged, in unixtime.";
            text.gauge("drover_outbox_oldest_timestamp_seconds", help).value(seconds(unix_ms));
        }
        let help = "Events for which there was no room, which the coordinator is not told of yet.";
        text.gauge("drover_outbox_dropped_events", help).value(unsent.dropped);
    }
}

/// Until when the agent's certificate holds, read again when its file is another.
struct Certificate {
    state_dir: PathBuf,
    read: Mutex<Option<(File, Option<i64>)>>,
}

/// Which file it was: each change makes a new one.
type File = (u64, i64, i64);

impl Certificate {
    /// `None`: this host is not enrolled.
    fn not_after_unix_ms(&self) -> Option<i64> {
        let metadata = identity::path(&self.state_dir).metadata().ok()?;
        let file = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = read.filter(|(before, _)| *before == file) {
            return known;
        }
        let now = Identity::load(&self.state_dir).ok().flatten().map(|identity| identity.not_after_unix_ms);
        *read = Some((file, now));
        now
    }
}
