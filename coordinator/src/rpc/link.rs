//! What agents call: their one stream, and the download of artifacts. The host is the one in the certificate.

use std::io::SeekFrom;

use drover_proto::{
    code::{self, Code},
    digest::Digest,
    limits::BLOB_CHUNK_BYTES,
    name::HostId,
    wire::{BlobChunk, Certificate, FetchBlobRequest, FromAgent, RenewRequest, agent_link_server},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Services, authorise, blob_failed, invalid,
    lease::{Lease, Leased},
    renew, store_failed,
};
use crate::{
    caller::{Caller, Peer},
    session::stream::Outgoing,
};

/// Chunks that wait for a slow host.
const CHUNKS_AHEAD: usize = 4;

pub(super) struct Link(pub(super) Services);

#[tonic::async_trait]
impl agent_link_server::AgentLink for Link {
    type SessionStream = Outgoing;
    type FetchBlobStream = Leased<BlobChunk>;

    async fn session(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Outgoing>, Status> {
        let host = authorise::host(&request)?;
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
        Ok(Response::new(self.0.agents.open(host, peer, request.into_inner())))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Certificate>, Status> {
        let host = authorise::host(&request)?;
        let caller = Caller::Host { id: host, serial: authorise::serial(&request)? };
        renew::renew(&self.0, &caller, &request.into_inner().csr_der).await.map(Response::new)
    }

    async fn fetch_blob(&self, request: Request<FetchBlobRequest>) -> Result<Response<Self::FetchBlobStream>, Status> {
        let (host, lease) = (authorise::host(&request)?, Lease::of(&request)?);
        let FetchBlobRequest { digest, offset } = request.into_inner();
        let digest: Digest = digest.parse().map_err(|_| invalid("that is no digest"))?;
        if !self.wants(&host, &digest).await? {
            return Err(code::status(Code::Forbidden, "no app of this host has that artifact"));
        }
        let (mut file, size) = self.0.blobs.read(&digest).await.map_err(blob_failed)?;
        if offset > size {
            return Err(invalid(format!("the artifact has {size} bytes, and {offset} was asked for")));
        }
        file.seek(SeekFrom::Start(offset)).await.map_err(|error| unreadable(&digest, &error))?;
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        tokio::spawn(send_chunks(digest, file, sender));
        Ok(Response::new(lease.hold(ReceiverStream::new(receiver))))
    }
}

impl Link {
    /// A host gets only what its own spec names.
    async fn wants(&self, host: &HostId, digest: &Digest) -> Result<bool, Status> {
        let store = &self.0.store;
        for (app, wanted) in store.spec(host).await.map_err(store_failed)?.apps {
            let Some(release) = store.release(&app, wanted.release).await.map_err(store_failed)? else { continue };
            let spec = release.spec().map_err(store_failed)?;
            if spec.artifact.is_some_and(|artifact| artifact.digest == *digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn unreadable(digest: &Digest, error: &std::io::Error) -> Status {
    tracing::error!(?digest, %error, "an artifact cannot be read");
    code::status(Code::Internal, "the coordinator's disk failed; its log says why")
}

/// Until the file ends or the host goes away.
async fn send_chunks(digest: Digest, mut file: File, sender: mpsc::Sender<Result<BlobChunk, Status>>) {
    loop {
        let mut data = Vec::with_capacity(BLOB_CHUNK_BYTES);
        let read = (&mut file).take(BLOB_CHUNK_BYTES as u64).read_to_end(&mut data).await;
        let chunk = match read {
            Ok(0) => return,
            Ok(_) => Ok(BlobChunk { data }),
            Err(error) => Err(unreadable(&digest, &error)),
        };
        let failed = chunk.is_err();
        if sender.send(chunk).await.is_err() || failed {
            return;
        }
    }
}
