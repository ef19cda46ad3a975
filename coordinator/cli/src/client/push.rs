//! Sending an artifact's archive, in chunks from its file, never whole in memory. Called by `cmd/apply`;
//! what the coordinator has already is not sent again.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use drover_proto::{
    code::{self, Code},
    digest::Digest,
    limits,
    wire::{self, push_blob_request::Part},
};
use futures_util::{StreamExt as _, stream};
use tokio::io::AsyncReadExt as _;
use tonic::Status;

use super::{Client, error};
use crate::fault::Fault;

/// Without a byte getting there for so long the push is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// An archive to be sent.
pub struct Archive {
    /// Of all of it.
    pub digest: Digest,
    /// Of all of it.
    pub size_bytes: u64,
    /// Where it is; opened for each attempt, since an older one may still be reading.
    pub path: PathBuf,
}

/// Told how many bytes of the archive are on their way or there.
pub type Sent = Arc<dyn Fn(u64) + Send + Sync>;

impl Client {
    /// Sends the archive unless the coordinator has it, and goes on where a push broke off: this one, or one of before.
    /// Whether anything was sent.
    pub async fn push_blob(&mut self, archive: &Archive, sent: Sent) -> Result<bool, Fault> {
        let mut lost: Option<(Instant, u64)> = None;
        let mut pushed = false;
        loop {
            let (status, offset) = match self.begun(&archive.digest).await {
                Ok(None) => return Ok(pushed),
                Ok(Some(offset)) => {
                    pushed = true;
                    sent(offset);
                    match self.push_from(archive, offset, sent.clone()).await? {
                        Ok(()) => return Ok(true),
                        Err(status) => (status, offset),
                    }
                }
                Err(status) => (status, lost.map_or(0, |(_, before)| before)),
            };
            if offset > 0 && code::of_status(&status) == Some(Code::DigestMismatch) {
                // What was there from before was not what it should be, and is gone now.
                continue;
            }
            let spent = lost.is_some_and(|(at, before)| offset <= before && at.elapsed() > PATIENCE);
            if spent || !error::is_lost_connection(&status) {
                return Err(self.fault(&status));
            }
            if lost.is_none_or(|(_, before)| offset > before) {
                lost = Some((Instant::now(), offset));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How much the coordinator has of it; `None` = all.
    async fn begun(&mut self, digest: &Digest) -> Result<Option<u64>, Status> {
        let request = wire::BlobList { digests: vec![digest.to_string()], ..Default::default() };
        let missing = self.calls.missing_blobs(request).await?.into_inner();
        // A coordinator of before answers without.
        Ok((!missing.digests.is_empty()).then(|| missing.have_bytes.first().copied().unwrap_or(0)))
    }

    /// One attempt. The outer error is this machine's, the inner one the connection's or the coordinator's.
    async fn push_from(&mut self, archive: &Archive, offset: u64, sent: Sent) -> Result<Result<(), Status>, Fault> {
        let unreadable = |error: &io::Error| Fault::io("cannot read the packed artifact", error);
        let mut file = File::open(&archive.path).map_err(|e| unreadable(&e))?;
        file.seek(SeekFrom::Start(offset)).map_err(|e| unreadable(&e))?;
        let broken: Arc<Mutex<Option<io::Error>>> = Arc::default();
        let header = wire::BlobHeader { digest: archive.digest.to_string(), size_bytes: archive.size_bytes, offset };
        let first = stream::once(async move { wire::PushBlobRequest { part: Some(Part::Header(header)) } });
        let on_error = Arc::clone(&broken);
        let chunks = stream::unfold(tokio::fs::File::from_std(file), move |mut file| {
            let on_error = Arc::clone(&on_error);
            async move {
                let mut data = Vec::with_capacity(limits::BLOB_CHUNK_BYTES);
                match (&mut file).take(limits::BLOB_CHUNK_BYTES as u64).read_to_end(&mut data).await {
                    Ok(0) => None,
                    Ok(_) => Some((data, file)),
                    Err(error) => {
                        // The stream ends early and the coordinator refuses it; this is the true reason.
                        *on_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        None
                    }
                }
            }
        });
        let mut reached = offset;
        let chunks = chunks.map(move |data| {
            reached += data.len() as u64;
            sent(reached);
            wire::PushBlobRequest { part: Some(Part::Data(data)) }
        });
        let reply = self.calls.push_blob(first.chain(chunks)).await;
        if let Some(error) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(unreadable(&error));
        }
        Ok(reply.map(drop))
    }
}
