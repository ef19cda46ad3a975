//! Who this host is: its key, certificate and CA, in one mode-0600 file. Written by `enroll`, read by `link`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use drover_proto::{
    name::{HostId, HostName},
    secret::Secret,
    tls,
};
use serde::{Deserialize, Serialize};

use crate::host::files;

/// All that enrolment gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The coordinator's name for this host.
    pub host: HostId,
    /// People's name for it at enrolment.
    pub host_name: HostName,
    /// `HOST:PORT` of the coordinator.
    pub coordinator: String,
    /// DER, hex.
    pub certificate: String,
    /// PKCS#8, hex.
    pub key: Secret<String>,
    /// DER, hex.
    pub ca: String,
    /// Of the certificate, unix ms.
    pub not_after_unix_ms: i64,
    /// The id whose desired state was on this host's disk at enrolment: the host goes on with it until a spec for the new
    /// id comes. One of any other host that is found there is not this host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_on_with: Option<HostId>,
}

/// The file within the state directory.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("identity.json")
}

impl Identity {
    /// Reads it; `None` = not enrolled yet.
    pub fn load(state_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = path(state_dir);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let identity = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; enroll again with --replace", path.display()))?;
        Ok(Some(identity))
    }
    /// Writes it, atomically and durably.
    pub fn store(&self, state_dir: &Path) -> anyhow::Result<()> {
        let path = path(state_dir);
        files::write_private(&path, &serde_json::to_vec(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
    /// The TLS client configuration that speaks as this host.
    pub fn client_config(&self) -> anyhow::Result<rustls::ClientConfig> {
        let identity = tls::Identity {
            certificate_der: unhex(&self.certificate)?,
            key_der: Secret::new(unhex(self.key.expose())?),
        };
        Ok(tls::client_config(&tls::Trust::Ca(unhex(&self.ca)?), Some(&identity))?)
    }
}

fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    hex::decode(text).context("the identity file holds something that is not hex")
}
