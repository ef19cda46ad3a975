//! What the CA signs is what `listen` and clients accept, and it signs nothing but keys that the asker holds.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::SystemTime};

use drover_proto::tls;
use rustls::{
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{ServerName, UnixTime},
    server::WebPkiClientVerifier,
};

use super::*;
use crate::caller::Caller;

fn made() -> (tempfile::TempDir, Ca) {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::create(&dir.path().join("ca")).unwrap();
    (dir, ca)
}

fn accepts(ca: &Ca, der: &[u8]) -> Result<(), rustls::Error> {
    WebPkiClientVerifier::builder_with_provider(
        Arc::new(tls::roots([ca.certificate().clone()]).unwrap()),
        tls::provider(),
    )
    .build()
    .unwrap()
    .verify_client_cert(&CertificateDer::from(der.to_vec()), &[], UnixTime::now())
    .map(drop)
}

#[test]
fn the_ca_is_the_same_after_a_restart_and_private() {
    let (dir, ca) = made();
    let path = dir.path().join("ca");
    assert_eq!(Ca::load(&path).unwrap().fingerprint(), ca.fingerprint());
    for name in ["ca.key", "ca.crt"] {
        assert_eq!(fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(Ca::create(&path).is_err(), "a CA was made over another");
    let (other_dir, _) = made();
    fs::copy(other_dir.path().join("ca/ca.key"), path.join("ca.key")).unwrap();
    assert!(matches!(Ca::load(&path), Err(CaError::Damaged(_))), "a key that is not the certificate's");
}

#[test]
fn a_signed_key_names_its_owner_and_verifies() {
    let (_dir, ca) = made();
    let id: HostId = "h-0123456789abcdef".parse().unwrap();
    let issued = ca.sign_host(&tls::new_key().unwrap().csr_der, &id).unwrap();
    accepts(&ca, &issued.der).unwrap();
    let caller = Caller::from_certificate(&issued.der).unwrap();
    assert_eq!(caller, Caller::Host { id, serial: issued.serial.clone() });
    assert_eq!(issued.serial.len(), 32);
    let year = issued.not_after_ms / 1000
        - i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    assert!((364 * 86400..=365 * 86400).contains(&year), "{year} s");

    let name: OperatorName = "ada@example".parse().unwrap();
    let issued = ca.sign_operator(&tls::new_key().unwrap().csr_der, &name).unwrap();
    accepts(&ca, &issued.der).unwrap();
    assert!(matches!(Caller::from_certificate(&issued.der), Ok(Caller::Operator { name: n, .. }) if n == name));

    let (_other_dir, other) = made();
    assert!(accepts(&other, &issued.der).is_err(), "another CA accepts it");
}

#[test]
fn names_in_the_request_are_ignored_and_a_damaged_request_is_refused() {
    let (_dir, ca) = made();
    let id: HostId = "h-0123456789abcdef".parse().unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut wish = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let csr = wish.serialize_request(&key).unwrap();
    let issued = ca.sign_host(csr.der(), &id).unwrap();
    assert!(matches!(Caller::from_certificate(&issued.der), Ok(Caller::Host { .. })));
    let verifier = WebPkiServerVerifier::builder_with_provider(
        Arc::new(tls::roots([ca.certificate().clone()]).unwrap()),
        tls::provider(),
    )
    .build()
    .unwrap();
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let leaf = CertificateDer::from(issued.der);
    assert!(verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now()).is_err(), "a host can pose as server");
    let (chain, _) = ca.server_identity().unwrap();
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()).unwrap();

    let mut damaged = csr.der().to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert!(matches!(ca.sign_host(&damaged, &id), Err(CaError::Request)));
    assert!(matches!(ca.sign_host(b"hello", &id), Err(CaError::Request)));
    assert!(accepts(&ca, &chain[0]).is_err(), "the server's certificate serves as a client's");
}
