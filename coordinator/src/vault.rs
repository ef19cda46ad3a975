//! Seals secrets for the store: AES-256-GCM under `secret.key`, which lies beside the database and not in it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

const KEY_BYTES: usize = 32;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be read or made.
    #[error("the secret key {path} cannot be read or made")]
    Key {
        /** Of the key. */
        path: String,
        /** Why. */
        #[source]
        source: io::Error,
    },
    /// The key file is not 32 bytes.
    #[error("the secret key {0} is damaged: it must be 32 bytes; restore it from a backup")]
    Damaged(String),
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random,
    /// A value could not be sealed.
    #[error("a value could not be sealed")]
    Seal,
    /// A value was sealed by another key, for another place, or is damaged.
    #[error("a value could not be opened: another key, another place, or damaged")]
    Open,
}

/// The key, ready for use; clones share it.
#[derive(Clone)]
pub struct Vault(Arc<LessSafeKey>);

impl Vault {
    /// Reads the key at `path`.
    pub fn load(path: &Path) -> Result<Self, VaultError> {
        let shown = || path.display().to_string();
        let key = fs::read(path).map_err(|source| VaultError::Key { path: shown(), source })?;
        if key.len() != KEY_BYTES {
            return Err(VaultError::Damaged(shown()));
        }
        UnboundKey::new(&AES_256_GCM, &key)
            .map(|key| Self(Arc::new(LessSafeKey::new(key))))
            .map_err(|_| VaultError::Damaged(shown()))
    }
    /// Makes a new key at `path`, mode 0600, and syncs it; fails if there is one.
    pub fn create(path: &Path) -> Result<Self, VaultError> {
        let mut key = [0; KEY_BYTES];
        rand::fill(&mut key).map_err(|_| VaultError::Random)?;
        // A crash leaves no half a key under the final name.
        let new = path.with_added_extension("new");
        let write = || {
            if path.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        write().map_err(|source| VaultError::Key { path: path.display().to_string(), source })?;
        Self::load(path)
    }
    /// Seals `value` for `place`: base64 of nonce, ciphertext and tag.
    pub fn seal(&self, place: &str, value: &[u8]) -> Result<String, VaultError> {
        let nonce = nonce()?;
        let (mut sealed, mut buffer) = (nonce.to_vec(), value.to_vec());
        let (nonce, place) = (Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()));
        self.0.seal_in_place_append_tag(nonce, place, &mut buffer).map_err(|_| VaultError::Seal)?;
        sealed.append(&mut buffer);
        Ok(STANDARD.encode(sealed))
    }
    /// Opens what was sealed for the same `place`.
    pub fn open(&self, place: &str, sealed: &str) -> Result<Vec<u8>, VaultError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| VaultError::Open)?;
        let (nonce, body) = bytes.split_at_checked(NONCE_LEN).ok_or(VaultError::Open)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Open)?;
        let mut buffer = body.to_vec();
        let value =
            self.0.open_in_place(nonce, Aad::from(place.as_bytes()), &mut buffer).map_err(|_| VaultError::Open)?;
        Ok(value.to_vec())
    }
}
/// From the kernel, which knows when a machine goes on from the memory of another; a generator in this process would repeat itself:
/// docs/decisions/0010.
fn nonce() -> Result<[u8; NONCE_LEN], VaultError> {
    let mut nonce = [0; NONCE_LEN];
    match rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty()) {
        Ok(NONCE_LEN) => Ok(nonce),
        Ok(_) | Err(_) => Err(VaultError::Random),
    }
}
