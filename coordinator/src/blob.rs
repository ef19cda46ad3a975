//! Artifacts by digest, on disk: `rpc/operator` pushes them, `rpc/link` sends them to hosts. What has its final name is
//! whole and has that digest.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use drover_proto::{
    code::Code,
    digest::{Digest, Hasher},
    limits::MAX_ARTIFACT_BYTES,
};
use tokio::io::AsyncWriteExt as _;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk failed or is full.
    #[error("an artifact could not be {0}")]
    Disk(&'static str, #[source] io::Error),
    /// Announced larger than any may be.
    #[error("the artifact has {0} bytes, and {MAX_ARTIFACT_BYTES} are allowed")]
    TooLarge(u64),
    /// More or fewer bytes came than announced.
    #[error("the artifact should have {wanted} bytes, and {got} came")]
    Size {
        /** Announced. */
        wanted: u64,
        /** Come; when there were too many, so far. */
        got: u64,
    },
    /// Other bytes came than announced.
    #[error("the artifact should have the digest {wanted}, and has {got}")]
    Mismatch {
        /** Announced. */
        wanted: Digest,
        /** Come. */
        got: Digest,
    },
    /// No such blob here.
    #[error("there is no artifact {0}")]
    Missing(Digest),
}

impl BlobError {
    /// The code for clients; with `Internal` the text stays in the log.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Disk(..) => Code::Internal,
            Self::TooLarge(_) => Code::Limit,
            Self::Size { .. } | Self::Mismatch { .. } => Code::DigestMismatch,
            Self::Missing(_) => Code::ArtifactMissing,
        }
    }
}

/// The directory of blobs; clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// Opens or makes the directory, and throws away what was half pushed when the last coordinator ended.
    pub fn open(dir: &Path) -> Result<Self, BlobError> {
        let prepare = || {
            let incoming = dir.join("incoming");
            if incoming.exists() {
                fs::remove_dir_all(&incoming)?;
            }
            fs::DirBuilder::new().recursive(true).mode(0o700).create(incoming)
        };
        prepare().map_err(|e| BlobError::Disk("kept", e))?;
        Ok(Self { dir: dir.to_owned() })
    }
    /// Whether it is here.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }
    /// Opens a blob for reading, with its size in bytes.
    pub async fn read(&self, digest: &Digest) -> Result<(tokio::fs::File, u64), BlobError> {
        let file = tokio::fs::File::open(self.path(digest)).await.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => BlobError::Missing(*digest),
            _ => BlobError::Disk("read", e),
        })?;
        let size = file.metadata().await.map_err(|e| BlobError::Disk("read", e))?.len();
        Ok((file, size))
    }
    /// Begins to take in a blob of `size_bytes`; dropped without `finish` it leaves nothing.
    pub async fn begin(&self, digest: Digest, size_bytes: u64) -> Result<Incoming, BlobError> {
        if size_bytes > MAX_ARTIFACT_BYTES {
            return Err(BlobError::TooLarge(size_bytes));
        }
        let temporary =
            tempfile::NamedTempFile::new_in(self.dir.join("incoming")).map_err(|e| BlobError::Disk("kept", e))?;
        let file = temporary.reopen().map_err(|e| BlobError::Disk("kept", e))?;
        Ok(Incoming {
            target: self.path(&digest),
            file: tokio::fs::File::from_std(file),
            temporary,
            hasher: Hasher::new(),
            digest,
            wanted: size_bytes,
            got: 0,
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }
}

/// A blob on its way in.
pub struct Incoming {
    target: PathBuf,
    file: tokio::fs::File,
    /// Removes the file when dropped.
    temporary: tempfile::NamedTempFile,
    hasher: Hasher,
    digest: Digest,
    wanted: u64,
    got: u64,
}

impl Incoming {
    /// Takes the next piece; refuses at once what exceeds the announced size.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        self.got = self.got.saturating_add(piece.len() as u64);
        if self.got > self.wanted {
            return Err(BlobError::Size { wanted: self.wanted, got: self.got });
        }
        self.hasher.update(piece);
        self.file.write_all(piece).await.map_err(|e| BlobError::Disk("written", e))
    }
    /// Checks size and digest, syncs, and gives the blob its name.
    pub async fn finish(mut self) -> Result<(), BlobError> {
        if self.got != self.wanted {
            return Err(BlobError::Size { wanted: self.wanted, got: self.got });
        }
        let got = self.hasher.finish();
        if got != self.digest {
            return Err(BlobError::Mismatch { wanted: self.digest, got });
        }
        self.file.flush().await.map_err(|e| BlobError::Disk("written", e))?;
        self.file.sync_all().await.map_err(|e| BlobError::Disk("written", e))?;
        self.temporary.persist(&self.target).map_err(|e| BlobError::Disk("kept", e.error))?;
        let dir = self.target.parent().unwrap_or(Path::new("/")).to_owned();
        let dir = tokio::fs::File::open(dir).await.map_err(|e| BlobError::Disk("kept", e))?;
        dir.sync_all().await.map_err(|e| BlobError::Disk("kept", e))
    }
}

#[cfg(test)]
mod tests {
    //! Only what is whole gets its name.
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_blob_comes_back_as_it_went() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello world");
        assert!(matches!(blobs.read(&digest).await, Err(BlobError::Missing(_))));
        let mut incoming = blobs.begin(digest, 11).await.unwrap();
        incoming.write(b"hello ").await.unwrap();
        incoming.write(b"world").await.unwrap();
        assert!(!blobs.has(&digest));
        incoming.finish().await.unwrap();
        let (mut file, size) = blobs.read(&digest).await.unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), size), ("hello world", 11));
    }

    #[tokio::test]
    async fn what_is_not_as_announced_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello");
        let mut other = blobs.begin(digest, 5).await.unwrap();
        other.write(b"jello").await.unwrap();
        assert!(matches!(other.finish().await, Err(BlobError::Mismatch { .. })));
        let mut short = blobs.begin(digest, 5).await.unwrap();
        short.write(b"hell").await.unwrap();
        assert!(matches!(short.finish().await, Err(BlobError::Size { .. })));
        let mut long = blobs.begin(digest, 5).await.unwrap();
        assert!(matches!(long.write(b"hello!").await, Err(BlobError::Size { .. })));
        drop(long);
        assert!(matches!(blobs.begin(digest, MAX_ARTIFACT_BYTES + 1).await, Err(BlobError::TooLarge(_))));
        assert!(!blobs.has(&digest));
        assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    }
}
