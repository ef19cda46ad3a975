//! Artifacts by digest, from the coordinator or a web server (`web`): downloaded to a file of what has come (`part`), resumed
//! where they broke off, verified whole. Or from a git repository (`git`), which makes the archive here, of what the digest
//! stands for. `exec` asks; `link` lends its connection.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use drover_proto::{
    digest::Digest,
    limits,
    name::AppName,
    secret::Secret,
    wire::{FetchBlobRequest, agent_link_client::AgentLinkClient},
};
use tokio::{fs, sync::watch, time::timeout};
use tonic::transport::Channel;

use self::{
    part::{Part, hash_file},
    web::Download,
};
use crate::{
    host::git::is_here,
    render::{GitTree, Layout, Origin},
};

mod git;
mod part;
mod web;

/// Without a byte for so long an attempt is given up and resumed.
const STALL: Duration = Duration::from_secs(30);
/// Without a byte for so long, over all attempts, the artifact is given up: other apps wait behind it.
const STUCK: Duration = Duration::from_secs(120);
/// For one artifact, all attempts together.
const PATIENCE: Duration = Duration::from_secs(1800);
/// For a look whether it is there.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);
/// Without a connection for so long the artifact is given up: other apps wait behind it, and they may need none.
const ALONE: Duration = Duration::from_secs(60);

/// The downloaded artifacts.
#[derive(Clone)]
pub struct Blobs {
    layout: Layout,
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
    /// The server that the manifest names has no such thing, does not give it to this host, or leads where it should not.
    #[error("{0}")]
    Source(String),
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
    /// Keeps blobs where `layout` says, over whatever connection there is.
    pub fn open(layout: &Layout, connection: watch::Receiver<Option<Channel>>) -> std::io::Result<Self> {
        std::fs::create_dir_all(layout.blobs_dir())?;
        Ok(Self { layout: layout.clone(), connection, alone: ALONE })
    }

    /// The verified file of `app` with this content; fetches it from `origin` if need be. `say` is told of trouble.
    pub async fn ensure(
        &self,
        app: &AppName,
        digest: Digest,
        size_bytes: u64,
        origin: &Origin,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PathBuf, BlobError> {
        let path = self.layout.blob(app, &digest);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await.map_err(|e| disk(parent, e))?;
        }
        if fs::try_exists(&path).await.unwrap_or(false) {
            // The archive of a commit was made here, and has its name only since it is whole and on the disk.
            if matches!(origin, Origin::Git { .. })
                || hash_file(&path).await.map_err(|e| disk(&path, e))?.0.finish() == digest
            {
                return Ok(path);
            }
            fs::remove_file(&path).await.map_err(|e| disk(&path, e))?;
        }
        let (begun, mut moved, mut furthest) = (Instant::now(), Instant::now(), 0);
        let (mut pause, mut under_way) = (Duration::from_millis(500), git::UnderWay::default());
        loop {
            let mut have = furthest;
            let attempt = async {
                match origin {
                    Origin::Git { tree, authorization, .. } => {
                        let wanted = self.in_repository(tree, authorization.as_ref());
                        git::fetch(&wanted, &mut under_way, &path, &mut have).await
                    }
                    Origin::Coordinator | Origin::Web { .. } => {
                        self.attempt(digest, size_bytes, origin, &path, &mut have).await
                    }
                }
            };
            // Nothing is held up for longer by something that comes drop by drop.
            let trouble = match timeout(PATIENCE.saturating_sub(begun.elapsed()), attempt).await {
                Ok(Ok(())) => return Ok(path),
                Ok(Err(Attempt::Never(error))) => return Err(error),
                Ok(Err(Attempt::Again(why))) => why,
                Err(_) => return Err(BlobError::GaveUp(PATIENCE, "it came too slowly".to_owned())),
            };
            if have > furthest {
                (moved, furthest, pause) = (Instant::now(), have, Duration::from_millis(500));
            }
            if moved.elapsed() > STUCK {
                return Err(BlobError::GaveUp(moved.elapsed(), trouble));
            }
            tracing::warn!(%digest, have, "{trouble}; trying again");
            say(format!("{trouble}; trying again"));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    /// Whether there is a connection just now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.borrow().is_some()
    }

    /// Lets go of an app's blob that has been unpacked.
    pub async fn discard(&self, app: &AppName, digest: Digest) {
        let path = self.layout.blob(app, &digest);
        match fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a downloaded artifact stays behind");
            }
            _ => {
                // Err: what broke off of another one is still in there.
                drop(fs::remove_dir(path.parent().unwrap_or(&path)).await);
            }
        }
    }

    /// Leaves the artifact at `path`, and in any case in `have` how much of it has come.
    async fn attempt(
        &self,
        digest: Digest,
        size_bytes: u64,
        origin: &Origin,
        path: &Path,
        have: &mut u64,
    ) -> Result<(), Attempt> {
        let mut part = Part::open(path, size_bytes).await?;
        let done = if let Origin::Web { url, authorization, .. } = origin {
            web::fetch(&Download { url, authorization: authorization.as_ref() }, &mut part, size_bytes).await
        } else {
            self.over_the_link(digest, size_bytes, &mut part).await
        };
        *have = part.have;
        done?;
        part.finish(digest, size_bytes, path).await
    }

    fn in_repository<'a>(&'a self, tree: &'a GitTree, authorization: Option<&'a Secret<String>>) -> git::Wanted<'a> {
        git::Wanted { tree, authorization, within: &self.layout.releases_dir }
    }

    async fn over_the_link(&self, digest: Digest, size_bytes: u64, part: &mut Part) -> Result<(), Attempt> {
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
        let mut client = AgentLinkClient::new(channel).max_decoding_message_size(limits::MAX_MESSAGE_BYTES);
        let request = FetchBlobRequest { digest: digest.to_string(), offset: part.have };
        let asked = timeout(STALL, client.fetch_blob(request)).await;
        let asked = asked.map_err(|_| Attempt::Again(format!("no answer for {STALL:?}")))?;
        let mut chunks = asked.map_err(|status| judge(&status))?.into_inner();
        loop {
            let chunk = match timeout(STALL, chunks.message()).await {
                Err(_) => return Err(Attempt::Again(format!("no data for {STALL:?}"))),
                Ok(Err(status)) => return Err(judge(&status)),
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(chunk))) => chunk,
            };
            if !part.write(&chunk.data, size_bytes).await? {
                return Ok(());
            }
        }
    }

    /// Whether the artifact could be fetched just now, and its size in bytes, if that is found out; one sentence if not. What
    /// comes from the coordinator always could. `packages_come`: with them the program for it may.
    pub async fn reach(&self, origin: &Origin, packages_come: bool) -> Result<Option<u64>, String> {
        match origin {
            Origin::Coordinator => Ok(None),
            Origin::Web { url, authorization, .. } => {
                web::reach(&Download { url, authorization: authorization.as_ref() }).await
            }
            Origin::Git { .. } if packages_come && !is_here() => Ok(None),
            Origin::Git { tree, authorization, .. } => {
                git::reach(&self.in_repository(tree, authorization.as_ref())).await.map(|()| None)
            }
        }
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

#[cfg(test)]
mod tests {
    //! Without a coordinator. With one, tests/ has the rest.
    use super::*;

    #[tokio::test]
    async fn without_a_connection_it_gives_up_soon() {
        let directory = tempfile::tempdir().unwrap();
        let (_nobody, connection) = watch::channel(None);
        let layout = crate::render::tests::layout_in(directory.path());
        let mut blobs = Blobs::open(&layout, connection).unwrap();
        blobs.alone = Duration::from_millis(20);
        let ensured = timeout(
            Duration::from_secs(20),
            blobs.ensure(&"mono".parse().unwrap(), Digest::of(b"x"), 1, &Origin::Coordinator, &|_| {}),
        )
        .await;
        assert!(matches!(ensured, Ok(Err(BlobError::GaveUp(..)))), "{ensured:?}");
    }
}
