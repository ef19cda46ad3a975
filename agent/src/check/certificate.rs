//! Looks at certificates: in a file, or as a server shows it. Who signed it is not asked: what is looked at is until when it is good.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use drover_proto::duration::Span;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_rustls::TlsConnector;

use super::{Probed, address};
use crate::{host::certificate, report::now_unix_ms};

/// The one in a file.
pub(super) fn kept(path: &Path, min_left: Span) -> Probed {
    let now = now_unix_ms() / 1000;
    let until = certificate::read(path)
        .and_then(|chain| certificate::judge(&chain, None, now).map_err(|why| format!("{}: {why}", path.display())));
    match until {
        Ok(until) => judge(&path.display().to_string(), until, min_left, now),
        Err(why) => Probed::bad(why),
    }
}

/// The one that a server shows for a name.
pub(super) async fn shown(endpoint: &str, server_name: Option<&str>, min_left: Span, policy: &Path) -> Probed {
    let now = now_unix_ms() / 1000;
    let of = format!("the certificate of {endpoint}");
    let until = match leaf(endpoint, server_name, policy).await {
        Ok(leaf) => certificate::good_until(&leaf, now),
        Err(why) => Err(why),
    };
    match until {
        Ok(until) => judge(&of, until, min_left, now),
        Err(why) => Probed::bad(format!("{of}: {why}")),
    }
}

/// Pure: whether it is good for long enough.
fn judge(of: &str, until: i64, min_left: Span, now: i64) -> Probed {
    let (left, day) = (until.saturating_sub(now), certificate::day(until));
    if u64::try_from(left).unwrap_or(0) < min_left.as_ms() / 1000 {
        Probed::bad(format!("{of} is good until {day}, wanted {min_left} more"))
    } else {
        Probed::good(format!("{of} is good until {day}"))
    }
}

async fn leaf(endpoint: &str, server_name: Option<&str>, policy: &Path) -> Result<Vec<u8>, String> {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let name = server_name.unwrap_or(host).trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let seen = Arc::new(Seen { leaf: Mutex::default(), provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let stream = address::connect(endpoint, policy).await?;
    let ended = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    // A server that wants to know its client ends the handshake, and has shown its certificate all the same.
    let leaf = seen.leaf.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (leaf, ended) {
        (Some(leaf), _) => Ok(leaf),
        (None, Err(error)) => Err(error.to_string()),
        (None, Ok(_)) => Err("it shows none".to_owned()),
    }
}

/// Keeps what it is shown once the server has proved that it has the key; trusts nobody, since nothing is said or believed over
/// such a connection.
#[derive(Debug)]
struct Seen {
    leaf: Mutex<Option<Vec<u8>>>,
    provider: Arc<CryptoProvider>,
}

impl Seen {
    fn keep(&self, leaf: &CertificateDer<'_>) {
        *self.leaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf.to_vec());
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _more: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms).inspect(|_| self.keep(leaf))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms).inspect(|_| self.keep(leaf))
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
