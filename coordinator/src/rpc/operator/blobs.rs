//! Artifacts pushed by their digest, each once.

use std::time::Duration;

use drover_proto::{
    code::{self, Code},
    digest::Digest,
    name::OperatorName,
    wire::{BlobList, Empty, PushBlobRequest, push_blob_request::Part},
};
use tonic::{Status, Streaming};

use super::super::{Services, blob_failed, invalid};

/// Digests asked for at once.
const MAX_DIGESTS: usize = 1000;
/// For the next piece.
const PATIENCE: Duration = Duration::from_secs(60);

fn digest(text: &str) -> Result<Digest, Status> {
    text.parse().map_err(|_| invalid("a digest is 'sha256:' and 64 lower-case hex digits"))
}

/// Which of these are not here yet, and how much of each has come.
pub(super) fn missing(services: &Services, list: BlobList) -> Result<BlobList, Status> {
    if list.digests.len() > MAX_DIGESTS {
        return Err(code::status(Code::Limit, format!("at most {MAX_DIGESTS} digests at once")));
    }
    let mut missing = BlobList::default();
    for text in list.digests {
        let digest = digest(&text)?;
        if !services.blobs.has(&digest) {
            missing.have_bytes.push(services.blobs.begun_bytes(&digest));
            missing.digests.push(text);
        }
    }
    Ok(missing)
}

/// Takes an artifact in. It has its name only when it is whole and has its digest.
pub(super) async fn push(
    services: &Services,
    mut pieces: Streaming<PushBlobRequest>,
    by: &OperatorName,
) -> Result<Empty, Status> {
    let Some(Part::Header(header)) = next(&mut pieces).await? else {
        return Err(invalid("an artifact's header comes first"));
    };
    let digest = digest(&header.digest)?;
    let mut incoming = services.blobs.begin(digest, header.size_bytes, header.offset).await.map_err(blob_failed)?;
    while let Some(part) = next(&mut pieces).await? {
        match part {
            Part::Data(data) => incoming.write(&data).await.map_err(blob_failed)?,
            Part::Header(_) => return Err(invalid("an artifact has one header")),
        }
    }
    incoming.finish().await.map_err(blob_failed)?;
    tracing::info!(?digest, bytes = header.size_bytes, from = header.offset, %by, "artifact pushed");
    Ok(Empty {})
}

async fn next(pieces: &mut Streaming<PushBlobRequest>) -> Result<Option<Part>, Status> {
    let message = tokio::time::timeout(PATIENCE, pieces.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the next piece of the artifact did not come"))??;
    match message {
        None => Ok(None),
        Some(PushBlobRequest { part: None }) => Err(invalid("an empty piece")),
        Some(PushBlobRequest { part }) => Ok(part),
    }
}
