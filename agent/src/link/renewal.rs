//! The host's certificate is renewed over the stream that is up: a new key, kept on disk beside the old one, then a second
//! stream with it, and only then does the first one end. Workloads, reports and specs notice nothing. `session` drives it.

use std::{future::Future, pin::Pin, time::Duration};

use anyhow::{Context as _, bail};
use drover_proto::{
    event::EventKind,
    secret::Secret,
    tls,
    wire::{RenewRequest, agent_link_client::AgentLinkClient},
};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;

use super::{Link, session::Session};
use crate::identity::{Identity, Next};

/// For the coordinator to sign.
const SIGNING_TIMEOUT: Duration = Duration::from_secs(20);
/// After a renewal that failed; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// Jobs under way would be cut off: so long it waits for them.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks whether they have ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

type Attempt<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Box<Session<'a>>>> + Send + 'a>>;

/// The renewal of one stream's certificate.
pub(super) struct Renewal<'a> {
    link: &'a Link,
    identity: Identity,
    channel: Channel,
    due: Option<Instant>,
    retry: Duration,
    attempt: Option<Attempt<'a>>,
}

impl<'a> Renewal<'a> {
    pub(super) fn new(link: &'a Link, identity: Identity, channel: Channel) -> Self {
        Self { link, identity, channel, due: None, retry: FIRST_RETRY, attempt: None }
    }

    /// The coordinator wants it then.
    pub(super) fn due_in(&mut self, wait: Duration) {
        // Much longer than a stream lives; a sum that does not overflow.
        self.due = Some(Instant::now() + wait.min(Duration::from_secs(10 * 365 * 86_400)));
    }

    /// Waits until a newer stream is up; `None`: call again. May be dropped and called again at any point. `idle`: no job is
    /// under way.
    pub(super) async fn next(&mut self, idle: bool) -> Option<Box<Session<'a>>> {
        loop {
            if let Some(attempt) = &mut self.attempt {
                let done = attempt.await;
                self.attempt = None;
                match done {
                    Ok(newer) => return Some(newer),
                    Err(error) => {
                        tracing::warn!(retry_in = ?self.retry, "the certificate was not renewed: {error:#}");
                        self.due = Some(Instant::now() + self.retry);
                        self.retry = (self.retry * 2).min(LONGEST_RETRY);
                    }
                }
            }
            let Some(due) = self.due else { return std::future::pending().await };
            tokio::time::sleep_until(due).await;
            if !idle && due.elapsed() < PATIENCE {
                tokio::time::sleep(LOOK_AGAIN).await;
                return None;
            }
            self.attempt = Some(Box::pin(renew(self.link, self.identity.clone(), self.channel.clone())));
        }
    }

    /// The stream has ended: what becomes of an attempt that is under way.
    pub(super) async fn finish(&mut self) -> Option<Box<Session<'a>>> {
        match self.attempt.take()?.await {
            Ok(newer) => Some(newer),
            Err(error) => {
                tracing::warn!("the certificate was not renewed: {error:#}");
                None
            }
        }
    }
}

async fn renew<'a>(link: &'a Link, held: Identity, channel: Channel) -> anyhow::Result<Box<Session<'a>>> {
    let key = tls::new_key()?;
    let request = RenewRequest { csr_der: key.csr_der };
    let reply = timeout(SIGNING_TIMEOUT, AgentLinkClient::new(channel).renew(request))
        .await
        .context("the coordinator does not answer")?
        .map_err(|status| anyhow::anyhow!("the coordinator refused: {}", status.message()))?
        .into_inner();
    let next = Next {
        certificate: hex::encode(&reply.certificate_der),
        key: Secret::new(hex::encode(key.key_der.expose())),
        ca: hex::encode(&reply.ca_der),
        more_cas: reply.ca_der_more.iter().map(hex::encode).collect(),
        not_after_unix_ms: reply.not_after_unix_ms,
    };
    let both = Identity { next: Some(next), ..held.clone() };
    let Some(renewed) = both.successor() else { bail!("there is no successor") };
    // A certificate that does not fit the key is found now.
    renewed.client_config().context("the renewed certificate does not fit this host's key")?;
    ensure_still(link, &held)?;
    both.store(&link.state_dir)?;
    let session = link.dial(&renewed).await.map_err(|end| anyhow::anyhow!("not welcome with it: {end}"))?;
    take_over(link, &held, &renewed);
    Ok(Box::new(session))
}

/// Keeps only the renewed certificate, which the coordinator has just accepted; the one before is worth nothing any more.
pub(super) fn take_over(link: &Link, held: &Identity, renewed: &Identity) {
    // Both stay on disk should this fail, and the next connection begins with the renewed one.
    if let Err(error) = ensure_still(link, held).and_then(|()| renewed.store(&link.state_dir)) {
        tracing::warn!("the renewed certificate is used, but not alone on disk yet: {error:#}");
    }
    let until = jiff::Timestamp::from_millisecond(renewed.not_after_unix_ms);
    let until = until.map_or_else(|_| "?".to_owned(), |until| until.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    link.events.emit(
        None,
        EventKind::CertificateRenewed,
        format!("the certificate of this host is good until {until}"),
    );
}

/// The host may have been enrolled anew in the meantime: that identity must not be written over.
fn ensure_still(link: &Link, held: &Identity) -> anyhow::Result<()> {
    match Identity::load(&link.state_dir)? {
        Some(now) if now.host == held.host && now.certificate == held.certificate => Ok(()),
        Some(_) | None => bail!("this host has been enrolled anew"),
    }
}
