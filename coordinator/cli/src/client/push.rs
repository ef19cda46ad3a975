//! Sending an artifact's archive, in chunks from its file, never whole in memory. Called by `cmd/apply` when the coordinator
//! has not got it.

use std::{
    fs::File,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use drover_proto::{
    digest::Digest,
    limits,
    wire::{self, push_blob_request::Part},
};
use futures_util::{StreamExt as _, stream};
use tokio::io::AsyncReadExt as _;

use super::Client;
use crate::fault::Fault;

impl Client {
    /// Sends `file`, from its beginning; `sent` is told the size in bytes of every chunk that goes out.
    pub async fn push_blob(
        &mut self,
        digest: &Digest,
        size_bytes: u64,
        file: File,
        sent: impl Fn(u64) + Send + 'static,
    ) -> Result<(), Fault> {
        let broken: Arc<Mutex<Option<io::Error>>> = Arc::default();
        let header = wire::BlobHeader { digest: digest.to_string(), size_bytes };
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
        let chunks = chunks.map(move |data| {
            sent(data.len() as u64);
            wire::PushBlobRequest { part: Some(Part::Data(data)) }
        });
        let reply = self.calls.push_blob(first.chain(chunks)).await;
        if let Some(error) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Fault::io("cannot read the packed artifact", &error));
        }
        self.done(reply).map(drop)
    }
}
