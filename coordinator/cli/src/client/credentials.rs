//! Who the operator is, on this machine: `~/.config/drover/{config.toml,operator.key,operator.crt,ca.crt}`. Written by
//! `drover login`, read by `client` before every call.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use drover_proto::{name::OperatorName, secret::Secret, tls};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Word};

const CONFIG: &str = "config.toml";
const KEY: &str = "operator.key";
const CERTIFICATE: &str = "operator.crt";
const CA: &str = "ca.crt";

/// `config.toml`: which coordinator, and as whom.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `HOST:PORT`.
    pub coordinator: String,
    /// The name in the certificate.
    pub operator: OperatorName,
    /// Unix ms; the certificate is useless afterwards.
    pub certificate_not_after_unix_ms: i64,
}

/// Everything a call needs.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The file.
    pub config: Config,
    /// Certificate and key.
    pub identity: tls::Identity,
    /// The coordinator's CA, DER.
    pub ca_der: Vec<u8>,
}

/// The directory: `DROVER_CONFIG_DIR`, or `drover` in `XDG_CONFIG_HOME`, or `~/.config/drover`. `get` reads a variable.
pub fn directory(get: impl Fn(&str) -> Option<String>) -> Result<PathBuf, Fault> {
    let set = |name| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(own) = set("DROVER_CONFIG_DIR") {
        return Ok(own);
    }
    // A relative XDG_CONFIG_HOME is to be ignored: the XDG specification says so.
    let base =
        set("XDG_CONFIG_HOME").filter(|path| path.is_absolute()).or_else(|| set("HOME").map(|h| h.join(".config")));
    let base = base.ok_or_else(|| {
        Fault::word(Word::Config, "there is no home directory to keep the login in").hint("set DROVER_CONFIG_DIR")
    })?;
    Ok(base.join("drover"))
}

/// The directory, by this process's environment.
pub fn own_directory() -> Result<PathBuf, Fault> {
    directory(|name| std::env::var(name).ok())
}

/// Reads what `login` left in `directory`.
pub fn load(directory: &Path) -> Result<Credentials, Fault> {
    let path = directory.join(CONFIG);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_logged_in()),
        Err(error) => return Err(Fault::io(format_args!("cannot read {}", path.display()), &error)),
    };
    let config: Config = toml::from_str(&text)
        .map_err(|e| damaged(&path, &e.to_string().lines().next_back().unwrap_or_default().to_owned()))?;
    let key_path = directory.join(KEY);
    let mode = fs::metadata(&key_path).map(|m| m.permissions().mode()).unwrap_or(0);
    if mode & 0o077 != 0 {
        return Err(Fault::word(Word::Config, format!("{} can be read by others", key_path.display()))
            .hint(format!("chmod 600 {}", key_path.display())));
    }
    let key = PrivatePkcs8KeyDer::from_pem_slice(read(&key_path)?.expose()).map_err(|e| damaged(&key_path, &e))?;
    Ok(Credentials {
        identity: tls::Identity {
            certificate_der: certificate(&directory.join(CERTIFICATE))?,
            key_der: Secret::new(key.secret_pkcs8_der().to_vec()),
        },
        ca_der: certificate(&directory.join(CA))?,
        config,
    })
}

/// Writes everything; `config.toml` last, so that an interrupted login is no login.
pub fn save(directory: &Path, credentials: &Credentials) -> Result<(), Fault> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|e| Fault::io(format_args!("cannot make {}", directory.display()), &e))?;
    let config = toml::to_string(&credentials.config).map_err(|e| Fault::word(Word::Config, e.to_string()))?;
    let identity = &credentials.identity;
    write(directory, KEY, 0o600, pem("PRIVATE KEY", identity.key_der.expose()).as_bytes())?;
    write(directory, CERTIFICATE, 0o644, pem("CERTIFICATE", &identity.certificate_der).as_bytes())?;
    write(directory, CA, 0o644, pem("CERTIFICATE", &credentials.ca_der).as_bytes())?;
    write(directory, CONFIG, 0o644, config.as_bytes())
}

fn not_logged_in() -> Fault {
    Fault::word(Word::NotLoggedIn, "this machine is not logged in to a coordinator").hint(
        "run `drover-coordinator operator add NAME` on the coordinator's machine, then `drover login HOST:PORT --token -` here",
    )
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Fault {
    Fault::word(Word::Config, format!("{} is damaged: {why}", path.display()))
        .hint("log in again: `drover login HOST:PORT --token -`")
}

fn read(path: &Path) -> Result<Secret<Vec<u8>>, Fault> {
    match fs::read(path) {
        Ok(bytes) => Ok(Secret::new(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(not_logged_in()),
        Err(error) => Err(Fault::io(format_args!("cannot read {}", path.display()), &error)),
    }
}

fn certificate(path: &Path) -> Result<Vec<u8>, Fault> {
    let bytes = read(path)?;
    CertificateDer::from_pem_slice(bytes.expose()).map(|der| der.to_vec()).map_err(|e| damaged(path, &e))
}

/// Written beside and renamed, so that no reader ever sees half a file or a key with loose permissions.
fn write(directory: &Path, name: &str, mode: u32, content: &[u8]) -> Result<(), Fault> {
    let put = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(content)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(directory.join(name)).map_err(|e| e.error)?;
        Ok(())
    };
    put().map_err(|e| Fault::io(format_args!("cannot write {}", directory.join(name).display()), &e))
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    //! What is saved comes back, with the key readable by its owner only.
    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            config: Config {
                coordinator: "10.0.0.1:7443".to_owned(),
                operator: "ada".parse().unwrap(),
                certificate_not_after_unix_ms: 5,
            },
            identity: tls::Identity { certificate_der: vec![1; 100], key_der: Secret::new(vec![2; 100]) },
            ca_der: vec![3; 48],
        }
    }

    #[test]
    fn a_login_is_kept() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("a/drover");
        assert_eq!(load(&directory).unwrap_err().code, "not-logged-in");
        save(&directory, &credentials()).unwrap();
        let back = load(&directory).unwrap();
        assert_eq!(back.config, credentials().config);
        assert_eq!(back.identity.key_der, credentials().identity.key_der);
        assert_eq!((back.identity.certificate_der, back.ca_der), (vec![1; 100], vec![3; 48]));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(KEY))), (0o700, 0o600));
        fs::set_permissions(directory.join(KEY), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(&directory).unwrap_err().hint.unwrap().starts_with("chmod 600"));
    }

    #[test]
    fn the_directory_follows_the_environment() {
        let with = |pairs: &'static [(&str, &str)]| {
            directory(move |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(with(&[("DROVER_CONFIG_DIR", "/x"), ("HOME", "/h")]).unwrap(), Path::new("/x"));
        assert_eq!(with(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]).unwrap(), Path::new("/c/drover"));
        assert_eq!(with(&[("XDG_CONFIG_HOME", "c"), ("HOME", "/h")]).unwrap(), Path::new("/h/.config/drover"));
        assert!(with(&[]).is_err());
    }
}
