//! An artifact under way: what has come of it, on disk, so that it goes on where it broke off. Beside `blob`.

use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
};

use drover_proto::{
    digest::{Digest, Hasher},
    limits::MAX_ARTIFACT_BYTES,
};
use tokio::{
    fs,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
};

use super::{Attempt, BlobError, disk};

/// The part file of one artifact.
pub(super) struct Part {
    path: PathBuf,
    file: fs::File,
    hasher: Hasher,
    /// Bytes in it.
    pub(super) have: u64,
    /// Bytes that were in it before this attempt.
    before: u64,
}

impl Part {
    /// What has come of the artifact of `size_bytes` (0 = not known) that will be at `path`.
    pub(super) async fn open(path: &Path, size_bytes: u64) -> Result<Self, Attempt> {
        let path = path.with_extension("part");
        let never = |e| Attempt::Never(disk(&path, e));
        let (mut hasher, mut have) = match hash_file(&path).await {
            Ok(found) => found,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => (Hasher::new(), 0),
            Err(e) => return Err(never(e)),
        };
        // More than there is to come: what a broken disk or another size left.
        if have > most(size_bytes) {
            fs::remove_file(&path).await.map_err(never)?;
            (hasher, have) = (Hasher::new(), 0);
        }
        let mut file =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).await.map_err(never)?;
        file.seek(SeekFrom::Start(have)).await.map_err(never)?;
        Ok(Self { path, file, hasher, have, before: have })
    }

    /// Begins anew: the other side does not go on where this ends.
    pub(super) async fn restart(&mut self) -> Result<(), Attempt> {
        let emptied = async {
            self.file.set_len(0).await?;
            self.file.seek(SeekFrom::Start(0)).await
        };
        emptied.await.map_err(|e| Attempt::Never(disk(&self.path, e)))?;
        (self.hasher, self.have, self.before) = (Hasher::new(), 0, 0);
        Ok(())
    }

    /// Takes the next piece; `false`: there is more than the artifact has (`size_bytes`, or any if that is 0).
    pub(super) async fn write(&mut self, piece: &[u8], size_bytes: u64) -> Result<bool, Attempt> {
        self.have += piece.len() as u64;
        if self.have > most(size_bytes) {
            return Ok(false);
        }
        self.hasher.update(piece);
        self.file.write_all(piece).await.map_err(|e| Attempt::Never(disk(&self.path, e)))?;
        Ok(true)
    }

    /// The stream has ended: gives the artifact its name if it is whole.
    pub(super) async fn finish(mut self, digest: Digest, size_bytes: u64, to: &Path) -> Result<(), Attempt> {
        let never = |e| Attempt::Never(disk(&self.path, e));
        self.file.flush().await.map_err(never)?;
        self.file.sync_all().await.map_err(never)?;
        if self.have < size_bytes {
            return Err(Attempt::Again(format!("the stream ended after {} of {size_bytes} bytes", self.have)));
        }
        let hasher = std::mem::take(&mut self.hasher);
        let too_much = size_bytes > 0 && self.have > size_bytes;
        if too_much || hasher.finish() != digest {
            fs::remove_file(&self.path).await.map_err(never)?;
            // What was there from before may be at fault: from a disk that lost it, or of a file that was replaced.
            return Err(match self.before {
                0 => Attempt::Never(BlobError::Mismatch {
                    digest,
                    got: self.have,
                    want: if size_bytes == 0 { self.have } else { size_bytes },
                }),
                _ => Attempt::Again("what had come before was of no use".to_owned()),
            });
        }
        fs::rename(&self.path, to).await.map_err(never)
    }
}

/// The most bytes that an artifact of `size_bytes` (0 = not known) may have.
fn most(size_bytes: u64) -> u64 {
    if size_bytes == 0 { MAX_ARTIFACT_BYTES } else { size_bytes }
}

/// The running digest and length of what a file holds.
pub(super) async fn hash_file(path: &Path) -> std::io::Result<(Hasher, u64)> {
    let mut file = fs::File::open(path).await?;
    let (mut hasher, mut length, mut buffer) = (Hasher::new(), 0, vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok((hasher, length));
        }
        hasher.update(&buffer[..read]);
        length += read as u64;
    }
}
