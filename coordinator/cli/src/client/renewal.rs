//! The operator's certificate is renewed by whatever command is called when it is due, and by one at a time. The command
//! itself goes on with the one before, which counts for some minutes after the new one is first used. Called by `client` when
//! it has connected.

use std::{fs, io, os::unix::fs::OpenOptionsExt as _, path::Path};

use drover_proto::{
    tls,
    wire::{RenewRequest, operator_client::OperatorClient},
};
use tonic::transport::Channel;

use super::credentials::{self, Config, Credentials};

/// Held by the command that renews; empty.
const LOCK: &str = "renewal.lock";

/// Renews if the coordinator says that it is time. A failure is no failure of the command: it is tried again with the next one.
pub async fn renew_if_due(calls: &mut OperatorClient<Channel>, directory: &Path, held: Credentials) {
    // Err: an older coordinator knows no renewal, and anything worse is told by the call that follows.
    let Ok(reply) = calls.renew(RenewRequest { csr_der: Vec::new() }).await else { return };
    if !reply.into_inner().due {
        return;
    }
    let _turn = match turn(directory, &held.identity) {
        Ok(Some(turn)) => turn,
        Ok(None) => return,
        Err(error) => return unkept(&error),
    };
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
        unkept(&fault.message);
    }
}

fn unkept(why: &dyn std::fmt::Display) {
    crate::show::note(&format!("your certificate is due, but a new one cannot be kept: {why}"));
}

/// One command renews at a time: `None` while another does, or when one has done so since `held` was read. Over when it is
/// dropped, also by a command that is killed.
fn turn(directory: &Path, held: &tls::Identity) -> io::Result<Option<fs::File>> {
    let mut options = fs::OpenOptions::new();
    let lock = options.write(true).create(true).truncate(false).mode(0o600).open(directory.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    // What cannot be read is told by the next command.
    let kept = credentials::load(directory).ok().map(|kept| kept.identity.certificate_der);
    Ok((kept.as_ref() == Some(&held.certificate_der)).then_some(lock))
}

#[cfg(test)]
mod tests {
    //! Two commands at the same moment.
    use drover_proto::secret::Secret;

    use super::*;

    fn with(certificate: u8) -> Credentials {
        let config = Config {
            coordinator: "10.0.0.1:7443".to_owned(),
            operator: "ada".parse().unwrap(),
            certificate_not_after_unix_ms: 5,
        };
        let identity = tls::Identity { certificate_der: vec![certificate; 60], key_der: Secret::new(vec![2; 60]) };
        Credentials { config, identity, ca_ders: vec![vec![3; 48]] }
    }

    #[test]
    fn one_command_renews_and_the_other_goes_on_with_what_it_has() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path();
        credentials::save(directory, &with(1)).unwrap();
        let held = credentials::load(directory).unwrap().identity;
        let first = turn(directory, &held).unwrap().expect("nobody else renews");
        assert!(turn(directory, &held).unwrap().is_none(), "two at a time");
        credentials::save_renewed(directory, &with(7)).unwrap();
        drop(first);
        assert!(turn(directory, &held).unwrap().is_none(), "it would put a second one over the first");
        let next = credentials::load(directory).unwrap().identity;
        assert!(turn(directory, &next).unwrap().is_some());
        // A command that failed or was killed leaves the turn to the next one.
        assert!(turn(directory, &next).unwrap().is_some());
        assert!(turn(&directory.join("absent"), &next).is_err());
    }
}
