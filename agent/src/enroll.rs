//! `drover-agent enroll`: makes a key on this host and trades a join token for a certificate over it. The running agent
//! notices the new `identity` by itself.

use std::path::Path;

use anyhow::{Context as _, bail};
use drover_proto::{
    PROTOCOL_VERSION,
    digest::Digest,
    name::{HostId, HostName},
    secret::Secret,
    tls,
    token::{Token, TokenKind},
    wire::{EnrollHostRequest, enrolment_client::EnrolmentClient},
};

use crate::{desired, host::facts, identity::Identity};

/// What was asked on the command line.
pub struct Request {
    /// `HOST:PORT`.
    pub coordinator: String,
    /// The join token.
    pub token: Secret<String>,
    /// The wanted name; the machine's own unless said.
    pub name: Option<HostName>,
    /// Give up the identity that is there.
    pub replace: bool,
}

/// Enrolls. Nothing is written before the coordinator has answered.
pub async fn enroll(state_dir: &Path, request: Request) -> anyhow::Result<Identity> {
    if !request.replace
        && let Ok(Some(identity)) = Identity::load(state_dir)
    {
        bail!(
            "this host is enrolled already, as {} at {}; say --replace to give that identity up",
            identity.host_name,
            identity.coordinator
        );
    }
    let token = Token::parse(request.token.expose(), TokenKind::Join)?;
    let host_name = match request.name {
        Some(name) => name,
        None => facts::host_name().parse().context("this machine's host name cannot be used; say --name")?,
    };
    let config = tls::client_config(&tls::Trust::Fingerprint(token.ca_fingerprint), None)?;
    let channel = tls::dial(&request.coordinator, config).await.map_err(explain)?;
    let key = tls::new_key()?;
    let reply = EnrolmentClient::new(channel)
        .enroll_host(EnrollHostRequest {
            token_id: token.id.clone(),
            token_secret: token.secret.expose().clone(),
            csr_der: key.csr_der,
            host_name: host_name.to_string(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol_version: PROTOCOL_VERSION,
        })
        .await
        .map_err(|status| anyhow::anyhow!("the coordinator refused: {}", status.message()))?
        .into_inner();
    if Digest::of(&reply.ca_der) != token.ca_fingerprint {
        bail!("the coordinator answered with another CA than the token names; nothing was written");
    }
    let host: HostId = reply.subject_id.parse().context("the coordinator answered with a bad host id")?;
    let identity = Identity {
        host,
        host_name,
        coordinator: request.coordinator,
        certificate: hex::encode(&reply.certificate_der),
        key: Secret::new(hex::encode(key.key_der.expose())),
        ca: hex::encode(&reply.ca_der),
        more_cas: reply.ca_der_more.iter().map(hex::encode).collect(),
        not_after_unix_ms: reply.not_after_unix_ms,
        goes_on_with: desired::host_on_disk(state_dir),
        next: None,
    };
    // A certificate that does not fit the key is found now, not at the next start.
    identity.client_config().context("the coordinator's certificate does not fit this host's key")?;
    identity.store(state_dir)?;
    Ok(identity)
}

/// Puts the innermost cause into words: transport errors wrap the TLS error several times.
fn explain(error: tls::TlsError) -> anyhow::Error {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let cause = cause.to_string();
    anyhow::Error::new(error).context(cause)
}
