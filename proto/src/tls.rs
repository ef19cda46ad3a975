//! The one TLS profile: TLS 1.3, aws-lc-rs, the coordinator's own CA and nothing else. Agent and CLI dial with it; the
//! coordinator's `listen` accepts with the same versions and provider.
//!
//! The coordinator's certificate carries the fixed name `SERVER_NAME`, whatever its address: the CA signs nothing else
//! with it, so no host name or IP has to be kept in step with certificates.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::{digest::Digest, limits, secret::Secret};

/// The name in the coordinator's certificate.
pub const SERVER_NAME: &str = "coordinator.drover.internal";
/// Subject alternative names (URI) of hosts are this and their id.
pub const HOST_URI_PREFIX: &str = "drover://host/";
/// Subject alternative names (URI) of operators are this and their name.
pub const OPERATOR_URI_PREFIX: &str = "drover://operator/";

/// Makes aws-lc-rs the process's provider; the first line of every `main`.
pub fn install() {
    // Err means that one is installed already, which can only be the same one: it is the only one compiled in.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// The provider, for configurations on both sides.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What can go wrong between two programs.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate, key or CA on disk is damaged.
    #[error("the certificate or key cannot be used")]
    Identity(#[source] rustls::Error),
    /// Nobody listens, or the network does not reach.
    #[error("cannot connect to {address}")]
    Connect {
        /** As given. */
        address: String,
        /** Why. */
        #[source]
        source: tonic::transport::Error,
    },
    /// Not `host:port`.
    #[error("{0:?} is not an address: write HOST:PORT")]
    Address(String),
    /// A key or CSR could not be made.
    #[error("cannot make a key")]
    Key(#[source] rcgen::Error),
}

/// A key made here, and the request for a certificate over it. The key never leaves the machine.
pub struct NewKey {
    /// PKCS#8.
    pub key_der: Secret<Vec<u8>>,
    /// PKCS#10.
    pub csr_der: Vec<u8>,
}

/// Makes a P-256 key and its CSR.
pub fn new_key() -> Result<NewKey, TlsError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(TlsError::Key)?;
    let csr = rcgen::CertificateParams::default().serialize_request(&key).map_err(TlsError::Key)?;
    Ok(NewKey { key_der: Secret::new(key.serialize_der()), csr_der: csr.der().to_vec() })
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// DER.
    pub certificate_der: Vec<u8>,
    /// PKCS#8.
    pub key_der: Secret<Vec<u8>>,
}

/// How a client knows the coordinator.
#[derive(Clone, Debug)]
pub enum Trust {
    /// By its CAs' certificates (DER): one, or two while the coordinator changes its CA.
    Roots(Vec<Vec<u8>>),
    /// By the SHA-256 of its CA's certificate, which the server sends along: before enrolment.
    Fingerprint(Digest),
}

/// A client's configuration; with `identity` it is mTLS.
pub fn client_config(trust: &Trust, identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Identity)?;
    let builder = match trust {
        Trust::Roots(ders) => builder.with_root_certificates(roots(ders.iter().cloned().map(CertificateDer::from))?),
        Trust::Fingerprint(fingerprint) => {
            let verifier = FingerprintVerifier { fingerprint: *fingerprint, provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match identity {
        Some(identity) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key_der.expose().clone()));
            builder
                .with_client_auth_cert(vec![CertificateDer::from(identity.certificate_der.clone())], key)
                .map_err(TlsError::Identity)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The trust anchor store with just these CAs.
pub fn roots(cas: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca).map_err(TlsError::Identity)?;
    }
    Ok(roots)
}

/// Dials the coordinator at `HOST:PORT`. TCP, TLS and HTTP/2 handshakes together have `limits::HANDSHAKE_TIMEOUT_MS`;
/// a dead connection is noticed by keep-alive pings.
pub async fn dial(address: &str, config: ClientConfig) -> Result<Channel, TlsError> {
    let bad = || TlsError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(bad());
    }
    let connector = TlsConnector::from(Arc::new(config));
    let target = address.to_owned();
    let connect = tower::service_fn(move |_| {
        let (connector, target) = (connector.clone(), target.clone());
        async move {
            let tcp = TcpStream::connect(target).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(SERVER_NAME).map_err(std::io::Error::other)?;
            let tls = connector.connect(name, tcp).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(tls))
        }
    });
    let timeout = Duration::from_millis(limits::HANDSHAKE_TIMEOUT_MS);
    Endpoint::from_static("http://coordinator.drover.internal")
        .connect_timeout(timeout)
        .http2_keep_alive_interval(Duration::from_millis(limits::KEEPALIVE_INTERVAL_MS))
        .keep_alive_timeout(Duration::from_millis(limits::KEEPALIVE_TIMEOUT_MS))
        .keep_alive_while_idle(true)
        .connect_with_connector(connect)
        .await
        .map_err(|source| TlsError::Connect { address: address.to_owned(), source })
}

/// Accepts a server whose chain holds the CA with the expected fingerprint and is properly signed by it.
#[derive(Debug)]
struct FingerprintVerifier {
    fingerprint: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for FingerprintVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates.iter().find(|der| Digest::of(der) == self.fingerprint);
        let Some(ca) = ca else {
            return Err(rustls::Error::General(
                "the coordinator is not the one that made this token: its CA has another fingerprint".to_owned(),
            ));
        };
        let roots = roots([ca.clone().into_owned()]).map_err(|e| rustls::Error::General(e.to_string()))?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
