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
/// Key, certificate and CAs after a renewal, in one file, so that one rename puts all of them in place. While it is there the
/// three above are what was before.
const RENEWED: &str = "renewed.pem";
/// Before the end of the certificate in it, in Unix ms; text before the first section of a PEM file is not read.
const UNTIL: &str = "not after, unix ms: ";

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
    /// The coordinator's CAs, DER: one, or two while it changes from one to the other.
    pub ca_ders: Vec<Vec<u8>>,
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
    let renewed = directory.join(RENEWED);
    if renewed.exists() {
        return load_renewed(&renewed, config);
    }
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
        ca_ders: certificates(&directory.join(CA))?,
        config,
    })
}

fn load_renewed(path: &Path, config: Config) -> Result<Credentials, Fault> {
    let text = read(path)?;
    let line = std::str::from_utf8(text.expose()).ok().and_then(|text| text.lines().next());
    let until = line.and_then(|line| line.strip_prefix(UNTIL)?.parse().ok());
    let until = until.ok_or_else(|| damaged(path, &"its first line"))?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(text.expose()).map_err(|e| damaged(path, &e))?;
    let mut certificates = certificates(path)?;
    if certificates.len() < 2 {
        return Err(damaged(path, &"certificate or CA is missing"));
    }
    let ca_ders = certificates.split_off(1);
    let certificate_der = certificates.pop().unwrap_or_default();
    Ok(Credentials {
        identity: tls::Identity { certificate_der, key_der: Secret::new(key.secret_pkcs8_der().to_vec()) },
        ca_ders,
        config: Config { certificate_not_after_unix_ms: until, ..config },
    })
}

/// Puts a renewed certificate in place of the one that is there, all of it or nothing.
pub fn save_renewed(directory: &Path, credentials: &Credentials) -> Result<(), Fault> {
    let Credentials { config, identity, ca_ders } = credentials;
    let mut text = format!("{UNTIL}{}\n", config.certificate_not_after_unix_ms);
    text.push_str(&pem("PRIVATE KEY", identity.key_der.expose()));
    for der in std::iter::once(&identity.certificate_der).chain(ca_ders) {
        text.push_str(&pem("CERTIFICATE", der));
    }
    write(directory, RENEWED, 0o600, text.as_bytes())
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
    let cas: String = credentials.ca_ders.iter().map(|der| pem("CERTIFICATE", der)).collect();
    write(directory, CA, 0o644, cas.as_bytes())?;
    write(directory, CONFIG, 0o644, config.as_bytes())?;
    let renewed = directory.join(RENEWED);
    match fs::remove_file(&renewed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Fault::io(format_args!("cannot remove {}", renewed.display()), &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
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

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, Fault> {
    let text = read(path)?;
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text.expose()).map(|der| der.map(|der| der.to_vec())).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(|| damaged(path, &"it holds no certificate"))
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
            ca_ders: vec![vec![3; 48], vec![4; 48]],
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
        assert_eq!((back.identity.certificate_der, back.ca_ders), (vec![1; 100], credentials().ca_ders));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(KEY))), (0o700, 0o600));
        fs::set_permissions(directory.join(KEY), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(&directory).unwrap_err().hint.unwrap().starts_with("chmod 600"));
    }

    #[test]
    fn a_renewal_takes_the_place_of_the_login_and_a_login_that_of_a_renewal() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path();
        save(directory, &credentials()).unwrap();
        let mut renewed = credentials();
        renewed.identity = tls::Identity { certificate_der: vec![7; 90], key_der: Secret::new(vec![8; 90]) };
        renewed.config.certificate_not_after_unix_ms = 9;
        renewed.ca_ders.truncate(1);
        save_renewed(directory, &renewed).unwrap();
        let back = load(directory).unwrap();
        assert_eq!((back.config, back.ca_ders), (renewed.config, renewed.ca_ders));
        assert_eq!((back.identity.certificate_der, back.identity.key_der.expose()), (vec![7; 90], &vec![8; 90]));
        assert_eq!(fs::metadata(directory.join(RENEWED)).unwrap().permissions().mode() & 0o777, 0o600);
        save(directory, &credentials()).unwrap();
        assert_eq!(load(directory).unwrap().identity.certificate_der, vec![1; 100]);
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
