//! Artifacts by digest, on disk: `rpc/operator` pushes them, `rpc/link` sends them to hosts. What has its final name is
//! whole and has that digest; in `incoming/` is what has come so far, so that a push goes on where it broke off.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_proto::{
    code::Code,
    digest::{Digest, Hasher},
    limits::MAX_ARTIFACT_BYTES,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
    /// Somebody else is sending the same just now.
    #[error("artifact {0} is being pushed already; it goes on when that has ended")]
    Busy(Digest),
    /// It does not go on where what is here ends.
    #[error("the push goes on at {asked}, and {have} bytes are here")]
    Offset {
        /** Announced. */
        asked: u64,
        /** Of the push before. */
        have: u64,
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
            // Offset and Busy are told as a lost connection is.
            Self::Disk(..) | Self::Busy(_) | Self::Offset { .. } => Code::Internal,
            Self::TooLarge(_) => Code::Limit,
            Self::Size { .. } | Self::Mismatch { .. } => Code::DigestMismatch,
            Self::Missing(_) => Code::ArtifactMissing,
        }
    }
}

/// What is left of a push that broke off is kept for so long.
const KEEP_PARTS: Duration = Duration::from_secs(24 * 3600);

/// The directory of blobs; clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    dir: PathBuf,
    /// What is being pushed just now.
    coming: Arc<Mutex<BTreeSet<Digest>>>,
}

impl Blobs {
    /// Opens or makes the directory. What was half pushed when the last coordinator ended is kept, to be gone on with.
    pub fn open(dir: &Path) -> Result<Self, BlobError> {
        let blobs = Self { dir: dir.to_owned(), coming: Arc::default() };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(blobs.incoming());
        made.and_then(|()| blobs.sweep()).map_err(|e| BlobError::Disk("kept", e))?;
        Ok(blobs)
    }
    /// Whether it is here.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }
    /// How many bytes are here of a push that broke off; 0 while it is being pushed.
    #[must_use]
    pub fn begun_bytes(&self, digest: &Digest) -> u64 {
        if self.coming().contains(digest) {
            return 0;
        }
        fs::metadata(self.part(digest)).map_or(0, |data| data.len())
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
    /// Begins to take in a blob of `size_bytes`, or goes on with it at `offset`, of which there must be as much. Dropped
    /// without `finish` it leaves what has come, which is nothing more than that.
    pub async fn begin(&self, digest: Digest, size_bytes: u64, offset: u64) -> Result<Incoming, BlobError> {
        if size_bytes > MAX_ARTIFACT_BYTES {
            return Err(BlobError::TooLarge(size_bytes));
        }
        let turn = self.turn(digest)?;
        let disk = |e| BlobError::Disk("kept", e);
        self.sweep().map_err(disk)?;
        let part = self.part(&digest);
        let mut options = tokio::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(offset == 0);
        let mut file = options.open(&part).await.map_err(disk)?;
        let mut hasher = Hasher::new();
        let got = hash(&mut file, &mut hasher).await.map_err(disk)?;
        if got != offset {
            return Err(BlobError::Offset { asked: offset, have: got });
        }
        Ok(Incoming { target: self.path(&digest), part, file, hasher, digest, wanted: size_bytes, got, _turn: turn })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }
    fn incoming(&self) -> PathBuf {
        self.dir.join("incoming")
    }
    fn part(&self, digest: &Digest) -> PathBuf {
        self.incoming().join(digest.hex())
    }
    fn coming(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// One push of the same content at a time.
    fn turn(&self, digest: Digest) -> Result<Turn, BlobError> {
        if !self.coming().insert(digest) {
            return Err(BlobError::Busy(digest));
        }
        Ok(Turn { blobs: self.clone(), digest })
    }
    /// Removes what nobody went on with.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.incoming())? {
            let entry = entry?;
            let is_old =
                |data: fs::Metadata| data.modified().is_ok_and(|at| at.elapsed().is_ok_and(|t| t > KEEP_PARTS));
            let busy = |name: &str| self.coming().iter().any(|digest| digest.hex() == name);
            if entry.metadata().is_ok_and(is_old) && !entry.file_name().to_str().is_some_and(busy) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Counts what is in a file and leaves it at its end; its length in bytes.
async fn hash(file: &mut tokio::fs::File, hasher: &mut Hasher) -> io::Result<u64> {
    let (mut length, mut buffer) = (0, vec![0; 256 << 10]);
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok(length);
        }
        hasher.update(&buffer[..read]);
        length += read as u64;
    }
}

/// The right to push a content; dropped, the next may.
struct Turn {
    blobs: Blobs,
    digest: Digest,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.blobs.coming().remove(&self.digest);
    }
}

/// A blob on its way in.
pub struct Incoming {
    target: PathBuf,
    part: PathBuf,
    file: tokio::fs::File,
    hasher: Hasher,
    digest: Digest,
    wanted: u64,
    got: u64,
    /// Held until the file has its name or is left.
    _turn: Turn,
}

impl Incoming {
    /// Takes the next piece; refuses at once what exceeds the announced size.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        self.got = self.got.saturating_add(piece.len() as u64);
        if self.got > self.wanted {
            self.forget();
            return Err(BlobError::Size { wanted: self.wanted, got: self.got });
        }
        self.hasher.update(piece);
        let written = self.file.write_all(piece).await;
        written.map_err(|e| BlobError::Disk("written", e))
    }
    /// Checks size and digest, syncs, and gives the blob its name. One that broke off before its end can be gone on with;
    /// one with another content is gone.
    pub async fn finish(mut self) -> Result<(), BlobError> {
        self.file.flush().await.map_err(|e| BlobError::Disk("written", e))?;
        if self.got != self.wanted {
            return Err(BlobError::Size { wanted: self.wanted, got: self.got });
        }
        let hasher = std::mem::take(&mut self.hasher);
        let got = hasher.finish();
        if got != self.digest {
            self.forget();
            return Err(BlobError::Mismatch { wanted: self.digest, got });
        }
        self.file.sync_all().await.map_err(|e| BlobError::Disk("written", e))?;
        fs::rename(&self.part, &self.target).map_err(|e| BlobError::Disk("kept", e))?;
        let dir = self.target.parent().unwrap_or(Path::new("/")).to_owned();
        let dir = tokio::fs::File::open(dir).await.map_err(|e| BlobError::Disk("kept", e))?;
        dir.sync_all().await.map_err(|e| BlobError::Disk("kept", e))
    }
    /// Nothing that came is of use.
    fn forget(&self) {
        if let Err(error) = fs::remove_file(&self.part) {
            tracing::warn!(%error, part = %self.part.display(), "what came of an artifact stays behind");
        }
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
        let mut incoming = blobs.begin(digest, 11, 0).await.unwrap();
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
        let mut other = blobs.begin(digest, 5, 0).await.unwrap();
        other.write(b"jello").await.unwrap();
        assert!(matches!(other.finish().await, Err(BlobError::Mismatch { .. })));
        let mut long = blobs.begin(digest, 5, 0).await.unwrap();
        assert!(matches!(long.write(b"hello!").await, Err(BlobError::Size { .. })));
        drop(long);
        assert!(matches!(blobs.begin(digest, MAX_ARTIFACT_BYTES + 1, 0).await, Err(BlobError::TooLarge(_))));
        assert!(!blobs.has(&digest));
        assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_push_goes_on_where_it_broke_off_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello");
        let mut short = blobs.begin(digest, 5, 0).await.unwrap();
        short.write(b"hel").await.unwrap();
        assert_eq!(blobs.begun_bytes(&digest), 0, "somebody is pushing it");
        assert!(matches!(blobs.begin(digest, 5, 0).await, Err(BlobError::Busy(_))));
        assert!(matches!(short.finish().await, Err(BlobError::Size { .. })));
        let blobs = Blobs::open(dir.path()).unwrap();
        assert_eq!(blobs.begun_bytes(&digest), 3);
        assert!(matches!(blobs.begin(digest, 5, 2).await, Err(BlobError::Offset { asked: 2, have: 3 })));
        let mut rest = blobs.begin(digest, 5, 3).await.unwrap();
        rest.write(b"lo").await.unwrap();
        rest.finish().await.unwrap();
        assert!(blobs.has(&digest));
    }

    #[tokio::test]
    async fn what_broke_off_damaged_or_long_ago_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello");
        fs::write(blobs.part(&digest), b"hex").unwrap();
        let mut rest = blobs.begin(digest, 5, 3).await.unwrap();
        rest.write(b"lo").await.unwrap();
        assert!(matches!(rest.finish().await, Err(BlobError::Mismatch { .. })));
        assert_eq!(blobs.begun_bytes(&digest), 0);
        fs::write(blobs.part(&digest), b"hel").unwrap();
        let long_ago = std::time::SystemTime::now() - 2 * KEEP_PARTS;
        fs::File::options().write(true).open(blobs.part(&digest)).unwrap().set_modified(long_ago).unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        assert_eq!(blobs.begun_bytes(&digest), 0);
    }
}
