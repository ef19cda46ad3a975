//! A new certificate in exchange for one that is still good, for hosts (`link`) and operators (`operator`). The old one counts
//! until the new one is first used (an operator's some minutes longer), so an answer that is lost costs nothing.

use drover_proto::{
    code::{self, Code},
    wire::{Certificate, RenewReply},
};
use tonic::Status;

use super::{Services, ca_failed, store_failed};
use crate::{ca::Issued, caller::Caller, clock, renewal, store::Successor};

/// Signs a new key for the caller.
pub(super) async fn renew(services: &Services, caller: &Caller, csr_der: &[u8]) -> Result<Certificate, Status> {
    let Services { store, ca, .. } = services;
    let (issued, subject, replaces) = match caller {
        Caller::Host { id, serial } => (ca.sign_host(csr_der, id), id.to_string(), serial),
        Caller::Operator { name, serial } => (ca.sign_operator(csr_der, name), name.to_string(), serial),
        Caller::Anonymous => return Err(code::status(Code::Forbidden, "this needs a certificate")),
    };
    let issued = issued.map_err(ca_failed)?;
    let new = Successor { serial: &issued.serial, replaces, not_after_ms: issued.not_after_ms };
    store.add_successor(new, ca.fingerprint(), &ca.roots(), clock::unix_ms()).await.map_err(store_failed)?;
    tracing::info!(subject, "certificate renewed");
    Ok(certificate(services, issued, subject))
}

/// Whether the caller's certificate is due, and a new one if a CSR came along.
pub(super) async fn reply(services: &Services, caller: &Caller, csr_der: &[u8]) -> Result<RenewReply, Status> {
    let Caller::Operator { name, serial } = caller else {
        return Err(code::status(Code::Forbidden, "not an operator"));
    };
    let held = services.store.certificate(serial).await.map_err(store_failed)?;
    let due = held
        .is_some_and(|held| renewal::due_in_ms(&held, &services.ca, name.as_str(), clock::unix_ms()) < DUE_WITHIN_MS);
    let certificate = if csr_der.is_empty() { None } else { Some(renew(services, caller, csr_der).await?) };
    Ok(RenewReply { due, certificate })
}

/// An operator has no stream on which to be told: what is due that soon is due now.
const DUE_WITHIN_MS: u64 = 60_000;

/// The message for who has just got a certificate.
pub(super) fn certificate(services: &Services, issued: Issued, subject_id: String) -> Certificate {
    let mut cas = services.ca.trusted().into_iter();
    Certificate {
        certificate_der: issued.der,
        ca_der: cas.next().unwrap_or_default(),
        subject_id,
        not_after_unix_ms: issued.not_after_ms,
        ca_der_more: cas.collect(),
    }
}
