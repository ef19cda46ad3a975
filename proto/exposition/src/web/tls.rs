//! Certificates for those who read the metrics: `tls_server_config`. The half of `web` with rustls; TLS 1.3 only, as everywhere.

use std::{path::Path, sync::Arc};

use drover_proto::tls;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{Stamps, fields, stamp};
use crate::{bounded::read_bounded, yaml::Yaml};

/// `None`: it names no certificate, and none is asked for.
pub(super) fn read(value: &Yaml, directory: &Path, files: &mut Stamps) -> Result<Option<Arc<ServerConfig>>, String> {
    let (mut cert, mut key, mut ca, mut policy) = (None, None, None, String::new());
    for (name, value) in fields(value, "tls_server_config")? {
        let (text, field) = (value.text(), format!("tls_server_config.{name}"));
        let path = || directory.join(text);
        match name.as_str() {
            "cert_file" => cert = Some(path()),
            "key_file" => key = Some(path()),
            "client_ca_file" => ca = Some(path()),
            "client_auth_type" => policy = text.to_owned(),
            "min_version" if matches!(text, "TLS10" | "TLS11" | "TLS12" | "TLS13") => {}
            "max_version" if text == "TLS13" => {}
            "min_version" | "max_version" => {
                return Err(format!("{field}: TLS13 is what is spoken, and nothing older"));
            }
            // With TLS 1.3 there is nothing to choose.
            "prefer_server_cipher_suites" => {}
            "cipher_suites" | "curve_preferences" | "client_allowed_sans" => {
                return Err(format!("{field}: cannot be chosen here; leave it out"));
            }
            _ => return Err(format!("{field}: there is no such setting")),
        }
    }
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) if ca.is_none() && policy.is_empty() => return Ok(None),
        _ => return Err("tls_server_config: cert_file and key_file go together".to_owned()),
    };
    let named = [Some(cert.clone()), Some(key.clone()), ca.clone()].into_iter().flatten();
    files.extend(named.map(|path| (path.clone(), stamp(&path))));
    let chain = certificates(&cert, "cert_file")?;
    let failed = |why: String| format!("tls_server_config.key_file: {}: {why}", key.display());
    let key = read_bounded(&key).map_err(|error| failed(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| failed(error.to_string()))?;
    let builder = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| format!("tls_server_config: {error}"))?;
    let builder = match verifier(&policy, ca.as_deref())? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| format!("tls_server_config.cert_file: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn certificates(path: &Path, field: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |why: String| format!("tls_server_config.{field}: {}: {why}", path.display());
    let bytes = read_bounded(path).map_err(|error| failed(error.to_string()))?;
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))?;
    if all.is_empty() { Err(failed("there is no certificate in it".to_owned())) } else { Ok(all) }
}

/// Whose certificates are asked for.
fn verifier(policy: &str, ca: Option<&Path>) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let is_required = match (policy, ca) {
        ("" | "NoClientCert", None) => return Ok(None),
        ("" | "NoClientCert", Some(_)) => {
            return Err("tls_server_config.client_ca_file: without client_auth_type nobody is asked for a certificate"
                .to_owned());
        }
        ("RequireAndVerifyClientCert", _) => true,
        ("VerifyClientCertIfGiven", _) => false,
        ("RequestClientCert" | "RequireAnyClientCert", _) => {
            return Err(format!(
                "tls_server_config.client_auth_type: {policy} would take certificates that nobody verifies"
            ));
        }
        _ => return Err(format!("tls_server_config.client_auth_type: there is no {policy}")),
    };
    let ca = ca.ok_or("tls_server_config.client_ca_file: is missing, by which certificates would be verified")?;
    let roots = tls::roots(certificates(ca, "client_ca_file")?)
        .map_err(|error| format!("tls_server_config.client_ca_file: {error}"))?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider());
    let builder = if is_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map(Some).map_err(|error| format!("tls_server_config.client_ca_file: {error}"))
}
