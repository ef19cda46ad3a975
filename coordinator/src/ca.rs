//! The certificate authority: made at the first start, signs the certificates of hosts and operators, and the
//! coordinator's own. `rpc/enrolment` and `rpc/renew` ask it to sign; `listen` trusts nothing else. `rollover` changes it for
//! another one.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::rand;
use drover_proto::{
    digest::Digest,
    name::{HostId, OperatorName},
    tls::{HOST_URI_PREFIX, OPERATOR_URI_PREFIX, SERVER_NAME},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject,
};

use crate::caller::serial_hex;

const CA_LIFE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// Of a host's or operator's certificate, unless the settings say otherwise.
pub const CLIENT_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Clocks of hosts may be behind ours by this much.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 60 * 60);
/// A CSR of ours has 200 bytes.
const MAX_CSR_BYTES: usize = 16 << 10;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Its files cannot be read or made.
    #[error("the CA in {path} cannot be read or made")]
    Files {
        /** Of the directory. */
        path: String,
        /** Why. */
        #[source]
        source: io::Error,
    },
    /// Its files are not a certificate and the key that belongs to it.
    #[error("the CA in {0} is damaged; restore it from a backup")]
    Damaged(String),
    /// The request for a certificate is refused.
    #[error("the request for a certificate is refused: it must be a PKCS#10 over a P-256 key, signed by that key")]
    Request,
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Sign(#[source] rcgen::Error),
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random,
}

/// A certificate that was just made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issued {
    /// The certificate.
    pub der: Vec<u8>,
    /// Lower-case hex.
    pub serial: String,
    /// Unix ms.
    pub not_after_ms: i64,
}

/// The CA with its key.
pub struct Ca {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// Trusted beside it, while one takes over from another.
    also: Vec<CertificateDer<'static>>,
    client_life: Duration,
}

impl Ca {
    /// Reads the CA in `dir`.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        let shown = || dir.display().to_string();
        let read = |name| fs::read_to_string(dir.join(name)).map_err(|source| CaError::Files { path: shown(), source });
        let (certificate, key) = (read("ca.crt")?, read("ca.key")?);
        let damaged = || CaError::Damaged(shown());
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| damaged())?;
        let key = KeyPair::from_pem(&key).map_err(|_| damaged())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| damaged())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(damaged());
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| damaged())?;
        Ok(Self { certificate, issuer, also: Vec::new(), client_life: CLIENT_LIFE })
    }
    /// The same, giving certificates of this life.
    #[must_use]
    pub fn with_client_life(self, client_life: Duration) -> Self {
        Self { client_life, ..self }
    }
    /// Every CA (DER) by which this coordinator and its clients know each other: this one first.
    #[must_use]
    pub fn trusted(&self) -> Vec<Vec<u8>> {
        std::iter::once(&self.certificate).chain(&self.also).map(|der| der.to_vec()).collect()
    }
    /// What a client knows that was given all of `trusted`: their fingerprints, in a fixed order.
    #[must_use]
    pub fn roots(&self) -> Vec<Digest> {
        let mut roots: Vec<Digest> = self.trusted().iter().map(|der| Digest::of(der)).collect();
        roots.sort();
        roots
    }
    /// Trusts these, too.
    #[must_use]
    fn beside(self, also: Vec<CertificateDer<'static>>) -> Self {
        Self { also, ..self }
    }
    /// Makes a new CA in `dir`, which must not exist: all of it or nothing.
    pub fn create(dir: &Path) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Sign)?;
        let (mut params, ..) = params("drover coordinator CA", CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(CaError::Sign)?;
        let write = || {
            let new = dir.with_added_extension("new");
            if new.exists() {
                fs::remove_dir_all(&new)?;
            }
            fs::DirBuilder::new().mode(0o700).create(&new)?;
            write_private(&new.join("ca.key"), key.serialize_pem().as_bytes())?;
            write_private(&new.join("ca.crt"), certificate.pem().as_bytes())?;
            fs::File::open(&new)?.sync_all()?;
            fs::rename(&new, dir)
        };
        write().map_err(|source| CaError::Files { path: dir.display().to_string(), source })?;
        Self::load(dir)
    }
    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
    /// By which tokens name it.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.certificate)
    }
    /// Signs a host's key. Of the request only the key counts.
    pub fn sign_host(&self, csr_der: &[u8], id: &HostId) -> Result<Issued, CaError> {
        self.sign_client(csr_der, id.as_str(), &format!("{HOST_URI_PREFIX}{id}"))
    }
    /// Signs an operator's key. Of the request only the key counts.
    pub fn sign_operator(&self, csr_der: &[u8], name: &OperatorName) -> Result<Issued, CaError> {
        self.sign_client(csr_der, name.as_str(), &format!("{OPERATOR_URI_PREFIX}{name}"))
    }
    /// A new key and certificate for the coordinator itself. They live in memory and are made at each start, so that they
    /// need no renewal; they are good for as long as the CA.
    pub fn server_identity(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Sign)?;
        let (mut params, ..) = params(SERVER_NAME, CA_LIFE)?;
        params.subject_alt_names = vec![SanType::DnsName(SERVER_NAME.try_into().map_err(CaError::Sign)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer).map_err(CaError::Sign)?;
        // The CA goes along: who comes with a token knows it by its fingerprint only.
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        Ok((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
    }

    fn sign_client(&self, csr_der: &[u8], common_name: &str, uri: &str) -> Result<Issued, CaError> {
        if csr_der.len() > MAX_CSR_BYTES {
            return Err(CaError::Request);
        }
        // This also checks the request's signature by its own key.
        let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
            .map_err(|_| CaError::Request)?;
        if csr.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(CaError::Request);
        }
        let (mut params, serial, not_after_ms) = params(common_name, self.client_life)?;
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(CaError::Sign)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&csr.public_key, &self.issuer).map_err(CaError::Sign)?;
        Ok(Issued { der: certificate.der().to_vec(), serial, not_after_ms })
    }
}

/// What all our certificates share: a random serial of 128 bits, and a life that begins a little in the past. With the
/// serial in hex and the end in Unix ms.
fn params(common_name: &str, life: Duration) -> Result<(CertificateParams, String, i64), CaError> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| CaError::Random)?;
    // Positive, and always 16 bytes long in DER.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let now = SystemTime::now();
    // A certificate's times are whole seconds.
    let seconds = (now + life).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = (now - CLOCK_TOLERANCE).into();
    params.not_after = (UNIX_EPOCH + Duration::from_secs(seconds)).into();
    Ok((params, serial_hex(&serial), i64::try_from(seconds * 1000).unwrap_or(i64::MAX)))
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub mod rollover;
#[cfg(test)]
mod tests;
