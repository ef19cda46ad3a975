//! Artifacts from the coordinator, by digest: downloaded to a part file, resumed where they broke off, verified whole.
//! `exec` asks; `link` lends its connection.

use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
    time::Duration,
};

use drover_proto::{
    digest::{Digest, Hasher},
    limits,
    wire::{FetchBlobRequest, agent_link_client::AgentLinkClient},
};
use tokio::{
    fs,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
    sync::watch,
    time::timeout,
};
use tonic::transport::Channel;

/// Without a byte for so long an attempt is given up and resumed.
const STALL: Duration = Duration::from_secs(30);
/// For one artifact, all attempts together.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Without a connection for so long the artifact is given up: other apps wait behind it, and they may need none.
const ALONE: Duration = Duration::from_secs(60);

/// The downloaded artifacts.
#[derive(Clone)]
pub struct Blobs {
    directory: PathBuf,
    connection: watch::Receiver<Option<Channel>>,
    alone: Duration,
}

/// Why an artifact is not there.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk would not.
    #[error("cannot keep {path}")]
    Disk {
        /** Which file. */
        path: PathBuf,
        /** Why. */
        #[source]
        source: std::io::Error,
    },
    /// The coordinator has no such blob, or does not give it to this host.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// It has another digest or size than the release says.
    #[error("what came is not {digest}: it has {got} of {want} bytes, or other content")]
    Mismatch {
        /** Wanted. */
        digest: Digest,
        /** Bytes. */
        got: u64,
        /** Bytes. */
        want: u64,
    },
    /// The network did not hold for long enough.
    #[error("no artifact after {0:?} of trying; the last trouble: {1}")]
    GaveUp(Duration, String),
}

/// How one attempt ended when it did not end well.
enum Attempt {
    Again(String),
    Never(BlobError),
}

impl Blobs {
    /// Keeps blobs in `directory`, over whatever connection there is.
    pub fn open(directory: PathBuf, connection: watch::Receiver<Option<Channel>>) -> std::io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory, connection, alone: ALONE })
    }

    /// The verified file with this content; downloads it if need be.
    pub async fn ensure(&self, digest: Digest, size_bytes: u64) -> Result<PathBuf, BlobError> {
        let path = self.directory.join(digest.hex());
        if fs::try_exists(&path).await.unwrap_or(false) {
            if hash_file(&path).await.map_err(|e| disk(&path, e))?.0.finish() == digest {
                return Ok(path);
            }
            fs::remove_file(&path).await.map_err(|e| disk(&path, e))?;
        }
        let mut trouble = "no connection to the coordinator".to_owned();
        let attempts = async {
            let mut pause = Duration::from_millis(500);
            loop {
                match self.attempt(digest, size_bytes, &path).await {
                    Ok(()) => return Ok(()),
                    Err(Attempt::Never(error)) => return Err(error),
                    Err(Attempt::Again(why)) => trouble = why,
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
        };
        match timeout(PATIENCE, attempts).await {
            Ok(result) => result.map(|()| path),
            Err(_) => Err(BlobError::GaveUp(PATIENCE, trouble)),
        }
    }

    /// Whether there is a connection just now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.borrow().is_some()
    }

    /// Lets go of a blob that has been unpacked.
    pub async fn discard(&self, digest: Digest) {
        let path = self.directory.join(digest.hex());
        if let Err(error) = fs::remove_file(&path).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a downloaded artifact stays behind");
        }
    }

    async fn attempt(&self, digest: Digest, size_bytes: u64, path: &Path) -> Result<(), Attempt> {
        let mut connection = self.connection.clone();
        let channel = match timeout(self.alone, connection.wait_for(Option::is_some)).await {
            Ok(Ok(channel)) => channel.clone(),
            Ok(Err(_)) => return Err(Attempt::Again("the agent is shutting down".to_owned())),
            Err(_) => {
                let trouble = "no connection to the coordinator".to_owned();
                return Err(Attempt::Never(BlobError::GaveUp(self.alone, trouble)));
            }
        };
        let Some(channel) = channel else { return Err(Attempt::Again("no connection".to_owned())) };
        let part = path.with_extension("part");
        let never = |e| Attempt::Never(disk(&part, e));
        let (mut hasher, mut have) = match hash_file(&part).await {
            Ok(found) => found,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => (Hasher::new(), 0),
            Err(e) => return Err(never(e)),
        };
        // More than there is to come: what a broken disk or another size left.
        if have > size_bytes {
            fs::remove_file(&part).await.map_err(never)?;
            (hasher, have) = (Hasher::new(), 0);
        }
        let resumed = have > 0;
        let mut file =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(&part).await.map_err(never)?;
        file.seek(SeekFrom::Start(have)).await.map_err(never)?;
        let mut client = AgentLinkClient::new(channel).max_decoding_message_size(limits::MAX_MESSAGE_BYTES);
        let request = FetchBlobRequest { digest: digest.to_string(), offset: have };
        let mut chunks = client.fetch_blob(request).await.map_err(|status| judge(&status))?.into_inner();
        loop {
            let chunk = match timeout(STALL, chunks.message()).await {
                Err(_) => break Err(Attempt::Again(format!("no data for {STALL:?}"))),
                Ok(Err(status)) => break Err(judge(&status)),
                Ok(Ok(None)) => break Ok(()),
                Ok(Ok(Some(chunk))) => chunk,
            };
            have += chunk.data.len() as u64;
            if have > size_bytes {
                break Ok(());
            }
            hasher.update(&chunk.data);
            file.write_all(&chunk.data).await.map_err(never)?;
        }?;
        file.sync_all().await.map_err(never)?;
        if have < size_bytes {
            return Err(Attempt::Again(format!("the stream ended after {have} of {size_bytes} bytes")));
        }
        if have > size_bytes || hasher.finish() != digest {
            fs::remove_file(&part).await.map_err(never)?;
            let mismatch = BlobError::Mismatch { digest, got: have, want: size_bytes };
            // What lay here may have been damaged; only what came whole says what there is.
            return Err(if resumed { Attempt::Again(mismatch.to_string()) } else { Attempt::Never(mismatch) });
        }
        fs::rename(&part, path).await.map_err(never)
    }
}

fn disk(path: &Path, source: std::io::Error) -> BlobError {
    BlobError::Disk { path: path.to_owned(), source }
}

/// Which refusals are final. Matched without a wildcard: a new gRPC code would be a decision.
fn judge(status: &tonic::Status) -> Attempt {
    use tonic::Code::{
        Aborted, AlreadyExists, Cancelled, DataLoss, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument,
        NotFound, Ok, OutOfRange, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable, Unimplemented,
        Unknown,
    };
    match status.code() {
        NotFound | InvalidArgument | PermissionDenied | Unauthenticated | FailedPrecondition | OutOfRange
        | Unimplemented | AlreadyExists => Attempt::Never(BlobError::Refused(status.message().to_owned())),
        Ok | Aborted | Cancelled | DataLoss | DeadlineExceeded | Internal | ResourceExhausted | Unavailable
        | Unknown => Attempt::Again(status.message().to_owned()),
    }
}

/// The running digest and length of what a file holds.
async fn hash_file(path: &Path) -> std::io::Result<(Hasher, u64)> {
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

#[cfg(test)]
mod tests {
    //! Without a coordinator. With one, tests/ has the rest.
    use super::*;

    #[tokio::test]
    async fn without_a_connection_it_gives_up_soon() {
        let directory = tempfile::tempdir().unwrap();
        let (_nobody, connection) = watch::channel(None);
        let mut blobs = Blobs::open(directory.path().to_owned(), connection).unwrap();
        blobs.alone = Duration::from_millis(20);
        let ensured = timeout(Duration::from_secs(20), blobs.ensure(Digest::of(b"x"), 1)).await;
        assert!(matches!(ensured, Ok(Err(BlobError::GaveUp(..)))), "{ensured:?}");
    }
}
