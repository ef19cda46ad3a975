//! Who this host is: its key, certificate and CA, in one mode-0600 file. Written by `enroll`, read and
//! renewed by `link`.

use std::{
    io,
    path::{Path, PathBuf},
};

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
    /// The CA that signed the certificate; DER, hex.
    pub ca: String,
    /// Further CAs by which the coordinator may be known: it is changing from one to another. DER, hex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_cas: Vec<String>,
    /// Of the certificate, unix ms.
    pub not_after_unix_ms: i64,
    /// The renewed certificate, until the coordinator has welcomed it; from then on it is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// The id whose desired state was on this host's disk at enrolment: the host goes on with it until a spec for the new
    /// id comes. One of any other host that is found there is not this host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_on_with: Option<HostId>,
}

/// A renewed certificate that has not been used yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// DER, hex.
    pub certificate: String,
    /// PKCS#8, hex.
    pub key: Secret<String>,
    /// DER, hex.
    pub ca: String,
    /// DER, hex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_cas: Vec<String>,
    /// Unix ms.
    pub not_after_unix_ms: i64,
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
            .with_context(|| format!("{} is damaged; enroll this host again, with a new token", path.display()))?;
        Ok(Some(identity))
    }
    /// Reads it when the agent starts. A damaged one says nothing that can be used: it is put aside, and answered as one
    /// sentence for people; the host goes on by itself until it is enrolled anew.
    pub fn open(state_dir: &Path) -> io::Result<(Option<Self>, Option<String>)> {
        let path = path(state_dir);
        let error = match Self::load(state_dir) {
            Ok(identity) => return Ok((identity, None)),
            Err(error) if error.is::<serde_json::Error>() => error,
            // The disk may only be away just now: `link` says it, and goes on asking.
            Err(_) => return Ok((None, None)),
        };
        let aside = files::set_aside(&path)?;
        let said =
            format!("{error:#}; it lies in {} now, and what runs here goes on by itself until then", aside.display());
        Ok((None, Some(said)))
    }
    /// Writes it, atomically and durably.
    pub fn store(&self, state_dir: &Path) -> anyhow::Result<()> {
        let path = path(state_dir);
        files::write_private(&path, &serde_json::to_vec(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
    /// This host with its renewed certificate, if there is one that has not been used yet.
    #[must_use]
    pub fn successor(&self) -> Option<Self> {
        let Next { certificate, key, ca, more_cas, not_after_unix_ms } = self.next.clone()?;
        Some(Self { certificate, key, ca, more_cas, not_after_unix_ms, next: None, ..self.clone() })
    }
    /// The TLS client configuration that speaks as this host.
    pub fn client_config(&self) -> anyhow::Result<rustls::ClientConfig> {
        let identity = tls::Identity {
            certificate_der: unhex(&self.certificate)?,
            key_der: Secret::new(unhex(self.key.expose())?),
        };
        let roots = std::iter::once(&self.ca).chain(&self.more_cas).map(|ca| unhex(ca)).collect::<Result<_, _>>()?;
        Ok(tls::client_config(&tls::Trust::Roots(roots), Some(&identity))?)
    }
}

fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    hex::decode(text).context("the identity file holds something that is not hex")
}

#[cfg(test)]
mod tests {
    //! What is kept while a certificate is renewed, and of a file that cannot be read.
    use super::*;

    #[test]
    fn a_damaged_one_is_put_aside_and_one_that_cannot_be_read_stays() {
        let directory = tempfile::tempdir().unwrap();
        let kept = || std::fs::read_dir(directory.path()).unwrap().next().map(|entry| entry.unwrap().file_name());
        assert!(matches!(Identity::open(directory.path()), Ok((None, None))), "not enrolled yet");
        std::fs::create_dir(path(directory.path())).unwrap();
        let (identity, said) = Identity::open(directory.path()).unwrap();
        assert!(identity.is_none() && said.is_none());
        assert_eq!(kept().unwrap(), "identity.json");
        std::fs::remove_dir(path(directory.path())).unwrap();
        std::fs::write(path(directory.path()), r#"{"host":"h-01234"#).unwrap();
        let (identity, said) = Identity::open(directory.path()).unwrap();
        assert!(identity.is_none() && said.as_ref().unwrap().contains("enroll this host again"), "{said:?}");
        assert!(kept().unwrap().to_str().unwrap().starts_with("identity.json.damaged-"), "{said:?}");
        assert!(matches!(Identity::open(directory.path()), Ok((None, None))), "said once");
    }

    #[test]
    fn a_renewal_is_kept_beside_until_it_is_used_and_an_older_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let first = r#"{"host":"h-0123456789abcdef","host_name":"web-1","coordinator":"c:7443","certificate":"01","key":"02",
            "ca":"03","not_after_unix_ms":4}"#;
        files::write_private(&path(directory.path()), first.as_bytes()).unwrap();
        let identity = Identity::load(directory.path()).unwrap().unwrap();
        assert!(identity.successor().is_none());
        let next = Next {
            certificate: "11".to_owned(),
            key: Secret::new("12".to_owned()),
            ca: "13".to_owned(),
            more_cas: vec!["03".to_owned()],
            not_after_unix_ms: 14,
        };
        Identity { next: Some(next), ..identity }.store(directory.path()).unwrap();
        let both = Identity::load(directory.path()).unwrap().unwrap();
        assert_eq!(
            (both.certificate.as_str(), both.not_after_unix_ms),
            ("01", 4),
            "the old one until the new one is used"
        );
        let renewed = both.successor().unwrap();
        renewed.store(directory.path()).unwrap();
        let renewed = Identity::load(directory.path()).unwrap().unwrap();
        assert_eq!(
            (renewed.certificate.as_str(), renewed.key.expose().as_str(), renewed.ca.as_str()),
            ("11", "12", "13")
        );
        assert!(renewed.next.is_none() && renewed.more_cas == ["03"]);
    }
}
