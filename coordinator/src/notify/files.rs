//! What is secret lies in files of its own, named by the settings: they are read anew for each notification, so that a new
//! value counts at once, and nothing of them is in the settings, a log or an error. Used by every kind of receiver.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use drover_proto::secret::Secret;
use reqwest::Url;
use rustix::fs::OFlags;
use serde::Deserialize;

/// Far more than a URL, a password or a token has.
const MAX_SECRET_BYTES: u64 = 16 * 1024;
const MAX_CA_BYTES: u64 = 1024 * 1024;

/// What is wrong with one key of a notifier. Says nothing of what is secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{field}`: {reason}")]
pub struct FieldError {
    /// The key.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// For `map_err`.
pub(super) fn at<E: Into<String>>(field: &'static str) -> impl Fn(E) -> FieldError {
    move |reason| FieldError { field, reason: reason.into() }
}

/// Where a secret lies: one line of text, in a file that only the coordinator (and its group) can read.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct SecretFile(PathBuf);

impl SecretFile {
    /// The line, without space around it.
    pub(super) fn read(&self) -> Result<Secret<String>, String> {
        let (path, mut file) = (self.0.display(), open(&self.0)?);
        let about = file.metadata().map_err(|e| format!("{path} cannot be read: {e}"))?;
        let mode = about.permissions().mode() & 0o777;
        if mode & 0o027 != 0 {
            return Err(format!("{path} has mode {mode:04o}, and others may read or change it: chmod 0600 or 0640"));
        }
        let text = Secret::new(take(&mut file, MAX_SECRET_BYTES).map_err(|why| format!("{path} {why}"))?);
        let line = text.expose().trim();
        if line.is_empty() {
            return Err(format!("{path} is empty"));
        }
        if line.chars().any(char::is_control) {
            return Err(format!("{path} has more than one line, or characters that are none"));
        }
        Ok(Secret::new(line.to_owned()))
    }

    /// A URL that is a secret itself.
    pub(super) fn read_url(&self, plaintext: bool) -> Result<Url, String> {
        let text = self.read()?;
        web_url(text.expose(), true, plaintext).map_err(|why| format!("what {} holds {why}", self.0.display()))
    }
}

/// PEM, of which nothing is secret.
pub(super) fn read_ca(path: &Path) -> Result<Vec<u8>, String> {
    let text = take(&mut open(path)?, MAX_CA_BYTES).map_err(|why| format!("{} {why}", path.display()))?;
    if text.contains("-----BEGIN CERTIFICATE-----") {
        Ok(text.into_bytes())
    } else {
        Err(format!("{} has no certificate in PEM", path.display()))
    }
}

fn open(path: &Path) -> Result<File, String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(format!("{shown} must be an absolute path"));
    }
    // NONBLOCK: a pipe that nobody writes to must not keep the notifier waiting.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|e| format!("{shown} cannot be read: {e}"))?;
    if file.metadata().is_ok_and(|about| about.is_file()) { Ok(file) } else { Err(format!("{shown} is no file")) }
}

fn take(file: &mut File, max_bytes: u64) -> Result<String, String> {
    let mut text = String::new();
    file.take(max_bytes + 1).read_to_string(&mut text).map_err(|e| format!("cannot be read: {e}"))?;
    if text.len() as u64 > max_bytes { Err(format!("is longer than {max_bytes} bytes")) } else { Ok(text) }
}

/// Where to send; the reason never repeats it. `carries_secret`: unencrypted only to this machine, unless the settings say
/// `plaintext`.
pub(super) fn web_url(text: &str, carries_secret: bool, plaintext: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("is no URL: {e}"))?;
    let host = url.host_str().unwrap_or_default();
    if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
        return Err("is no URL of a web server: write https://…".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in it: write those as keys of their own".to_owned());
    }
    if url.scheme() == "http" && carries_secret && !plaintext && !is_this_machine(host) {
        return Err("begins with http, and what is sent there is secret: write https, or plaintext = true".to_owned());
    }
    Ok(url)
}

/// For people: the server, without path and query, which may be a key.
pub(super) fn server<E>(url: Result<Url, E>) -> String {
    let Ok(url) = url else { return "its URL cannot be read".to_owned() };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// Whether what is sent to `host` stays here.
pub(super) fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    //! Which files and URLs are taken, and that no refusal repeats a secret.
    use std::fs;

    use super::*;

    #[test]
    fn a_secret_is_one_line_that_others_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let rows: [(&str, u32, Result<&str, &str>); 8] = [
            ("hunter2\n", 0o600, Ok("hunter2")),
            ("  hunter2  ", 0o640, Ok("hunter2")),
            ("hunter2", 0o400, Ok("hunter2")),
            ("hunter2", 0o644, Err("has mode 0644")),
            ("hunter2", 0o660, Err("has mode 0660")),
            ("hunter2", 0o604, Err("has mode 0604")),
            (" \n", 0o600, Err("is empty")),
            ("hunter2\nmore", 0o600, Err("more than one line")),
        ];
        for (text, mode, expected) in rows {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match (SecretFile(path.clone()).read(), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read.expose(), expected),
                (Err(said), Err(expected)) => {
                    assert!(said.contains(expected) && said.contains("token") && !said.contains("hunter2"), "{said}");
                }
                (read, _) => panic!("{text:?} {mode:o}: {read:?}"),
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "x".repeat(20_000)).unwrap();
        assert!(SecretFile(path).read().unwrap_err().contains("longer than"));
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(SecretFile(pipe).read().unwrap_err().contains("no file"));
        assert!(SecretFile(dir.path().to_owned()).read().unwrap_err().contains("no file"));
        assert!(SecretFile("relative".into()).read().unwrap_err().contains("absolute"));
        assert!(SecretFile(dir.path().join("gone")).read().unwrap_err().contains("gone cannot be read"));
    }

    #[test]
    fn what_is_secret_goes_unencrypted_to_this_machine_only() {
        let rows = [
            ("https://hooks.example.org/S3CRET", true, false, true),
            ("http://hooks.example.org/S3CRET", true, false, false),
            ("http://hooks.example.org/S3CRET", true, true, true),
            ("http://hooks.example.org/S3CRET", false, false, true),
            ("http://127.0.0.1:9/S3CRET", true, false, true),
            ("http://[::1]/S3CRET", true, false, true),
            ("http://localhost/S3CRET", true, false, true),
            ("http://127.0.0.1.example.org/S3CRET", true, false, false),
            ("ftp://example.org/S3CRET", false, true, false),
            ("https://user:S3CRET@example.org/", false, true, false),
            ("S3CRET", false, true, false),
            ("https://exa mple/S3CRET", false, true, false),
        ];
        for (text, secret, plaintext, taken) in rows {
            match web_url(text, secret, plaintext) {
                Ok(_) => assert!(taken, "{text}"),
                Err(why) => assert!(!taken && !why.contains("S3CRET"), "{text}: {why}"),
            }
        }
    }
}
