//! The stream to the coordinator. Specs go in to `desired`, the status watch, figures and events go out, jobs are answered; nothing else in
//! the agent knows that a network exists. Reconnects for ever.

mod figures;
mod jobs;
mod renewal;
mod session;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use drover_exposition::web::Web;
use drover_proto::tls;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::{
    alert::Alerts,
    desired::Desired,
    event::{Events, Outbox},
    identity::Identity,
    metrics::figures::Gauge,
    reconcile::Handle,
};

pub use jobs::Answered;
pub use session::End;
use session::{Served, Session};

/// What the link works with.
pub struct Link {
    /// Where the identity is looked for.
    pub state_dir: PathBuf,
    /// Takes accepted specs.
    pub desired: Desired,
    /// Answers jobs and publishes the status.
    pub reconcile: Handle,
    /// The connection, lent to `blob`.
    pub connection: watch::Sender<Option<Channel>>,
    /// The jobs that were answered.
    pub answered: Answered,
    /// Events to be sent.
    pub outbox: Outbox,
    /// Told when the certificate was renewed.
    pub events: Events,
    /// Where metrics are served, and to whom; the coordinator tells Prometheus. `None`: nowhere.
    pub metrics: Option<(SocketAddr, Web)>,
    /// Takes the rules of alerts.
    pub alerts: Alerts,
    /// Says what the host is doing.
    pub gauge: Arc<Mutex<Gauge>>,
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A revoked host asks again only so often.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

impl Link {
    /// Keeps the stream up until the agent stops.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let identity = self.wait_for_identity().await;
            let end = self.one_connection(&identity).await;
            self.connection.send_replace(None);
            pause = match &end {
                End::Closed { was_up: true, .. } => FIRST_PAUSE,
                End::Closed { was_up: false, .. } => (pause * 2).min(LONGEST_PAUSE),
                End::Refused(_) => REFUSED_PAUSE,
            };
            match end {
                End::Closed { why, .. } => {
                    tracing::warn!(coordinator = identity.coordinator, retry_in = ?pause, "not connected: {why}")
                }
                End::Refused(why) => {
                    tracing::error!(coordinator = identity.coordinator, "the coordinator refuses this host: {why}")
                }
            }
            self.sleep_or_new_identity(pause + jitter(&identity), &identity).await;
        }
    }

    async fn one_connection(&self, identity: &Identity) -> End {
        let mut session = match self.connect(identity).await {
            Ok(session) => session,
            Err(end) => return end,
        };
        loop {
            match session.serve().await {
                Served::Replaced(newer) => session = *newer,
                Served::Ended(end) => return end,
            }
        }
    }

    /// A stream with the newest certificate that the coordinator accepts. The one that has not been used yet comes first: it
    /// may have been used without this host's knowledge, and then it is the only one that counts.
    async fn connect(&self, identity: &Identity) -> Result<Session<'_>, End> {
        let Some(renewed) = identity.successor() else { return self.dial(identity).await };
        match self.dial(&renewed).await {
            Ok(session) => {
                renewal::take_over(self, identity, &renewed);
                Ok(session)
            }
            Err(end) => {
                tracing::info!("not connected with the renewed certificate ({end}); trying the one before");
                self.dial(identity).await
            }
        }
    }

    async fn dial(&self, identity: &Identity) -> Result<Session<'_>, End> {
        let never_up = |why: String| End::Closed { was_up: false, why };
        let config = identity.client_config().map_err(|error| never_up(format!("{error:#}")))?;
        let channel = tls::dial(&identity.coordinator, config).await.map_err(|error| never_up(innermost(&error)))?;
        session::open(self, identity.clone(), channel).await
    }

    async fn wait_for_identity(&self) -> Identity {
        let mut said = false;
        loop {
            match Identity::load(&self.state_dir) {
                Ok(Some(identity)) => return identity,
                Ok(None) if !said => tracing::info!("not enrolled; waiting for `drover-agent enroll`"),
                Ok(None) => {}
                Err(error) if !said => tracing::error!("{error:#}"),
                Err(_) => {}
            }
            said = true;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// A host that is enrolled anew does not wait for the old identity's pause.
    async fn sleep_or_new_identity(&self, pause: Duration, held: &Identity) {
        let until = tokio::time::Instant::now() + pause;
        while tokio::time::Instant::now() < until {
            if let Ok(Some(now)) = Identity::load(&self.state_dir)
                && now.certificate != held.certificate
            {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1).min(pause)).await;
        }
    }
}

/// Up to a second, by host: a thousand agents do not come back in the same instant.
fn jitter(identity: &Identity) -> Duration {
    let spread =
        identity.host.as_str().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Duration::from_millis(spread % 1000)
}

/// The cause at the bottom of an error, which is where the transport hides the reason.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
