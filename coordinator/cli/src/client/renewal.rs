//! The operator's certificate is renewed by whatever command is called when it is due. The command itself goes on with the
//! one before, which counts until the new one is first used. Called by `client` when it has connected.

use std::path::Path;

use drover_proto::{
    tls,
    wire::{RenewRequest, operator_client::OperatorClient},
};
use tonic::transport::Channel;

use super::credentials::{self, Config, Credentials};

/// Renews if the coordinator says that it is time. A failure is no failure of the command: it is tried again with the next one.
pub async fn renew_if_due(calls: &mut OperatorClient<Channel>, directory: &Path, held: Credentials) {
    // Err: an older coordinator knows no renewal, and anything worse is told by the call that follows.
    let Ok(reply) = calls.renew(RenewRequest { csr_der: Vec::new() }).await else { return };
    if !reply.into_inner().due {
        return;
    }
    let Ok(key) = tls::new_key() else { return };
    let reply = calls.renew(RenewRequest { csr_der: key.csr_der }).await;
    let Some(certificate) = reply.ok().and_then(|reply| reply.into_inner().certificate) else { return };
    let renewed = Credentials {
        config: Config { certificate_not_after_unix_ms: certificate.not_after_unix_ms, ..held.config },
        identity: tls::Identity { certificate_der: certificate.certificate_der, key_der: key.key_der },
        ca_ders: std::iter::once(certificate.ca_der).chain(certificate.ca_der_more).collect(),
    };
    let trust = tls::Trust::Roots(renewed.ca_ders.clone());
    // What does not fit together must not take the place of what does.
    if tls::client_config(&trust, Some(&renewed.identity)).is_err() {
        return;
    }
    if let Err(fault) = credentials::save_renewed(directory, &renewed) {
        crate::show::note(&format!("your certificate is due, but the new one cannot be kept: {}", fault.message));
    }
}
