//! A release's tree: fetched, unpacked at its final path, built there, sealed. Only a marker in the private state makes
//! it complete; without that it is wiped and made again. Beside `exec`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use drover_proto::code::Code;

use super::{Exec, StepFailure, accounts, directories, program};
use crate::{
    blob::BlobError,
    host::{
        archive::{self, ArchiveError},
        files,
        process::{self, Ended},
        room,
        unpack::{self, UnpackError},
    },
    render::{Layout, Rendered, RenderedBuild, Tree},
};

impl Exec<'_> {
    fn tree(&self) -> Result<&Tree, StepFailure> {
        let tree = self.wanted()?.tree.as_ref();
        tree.ok_or_else(|| StepFailure::new(Code::Internal, "artifact", "the release has no artifact"))
    }

    pub(super) async fn fetch(&self) -> Result<PathBuf, StepFailure> {
        let tree = self.tree()?;
        let size_bytes = tree.size_bytes;
        for place in [&self.layout.state_dir, &self.layout.releases_dir] {
            match room::at(place).map(|room| room.free_bytes) {
                Ok(free) if free < size_bytes => {
                    let cause = format!(
                        "{} has {} MiB free, the artifact needs {} MiB",
                        place.display(),
                        free >> 20,
                        size_bytes >> 20
                    );
                    return Err(StepFailure::new(Code::Disk, "fetch", cause));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "free space is unknown"),
            }
        }
        self.blobs.ensure(self.app, tree.digest, size_bytes, &tree.origin, self.say).await.map_err(|error| {
            let why = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            let code = match error {
                BlobError::Mismatch { .. } => Code::DigestMismatch,
                BlobError::Disk { .. } | BlobError::Refused(_) | BlobError::Source(_) | BlobError::GaveUp(..) => {
                    Code::Fetch
                }
            };
            StepFailure::new(code, "fetch", format!("the artifact could not be fetched: {error}{why}"))
        })
    }

    pub(super) async fn unpack(&self) -> Result<(), StepFailure> {
        let tree = self.tree()?;
        let archive = self.fetch().await?;
        self.wipe_tree()?;
        directories::make(&self.layout.releases_of(self.app), 0o755).map_err(|e| self.cannot("made", e))?;
        let archive = fs::File::open(&archive).map_err(|e| self.cannot("filled", e))?;
        let size_bytes = archive.metadata().map_err(|e| self.cannot("filled", e))?.len();
        unpack::unpack(archive, tree.directory.as_path(), unpack::Bounds::of(size_bytes))
            .await
            .map_err(not_unpacked)?;
        let unpacker = unpack::account().map_err(not_unpacked)?.uid;
        let Some(build) = &tree.build else { return self.finish_tree(unpacker).await };
        let account = accounts::user(&build.user)?;
        let owner = (account.uid, account.gid);
        self.own_tree("unpack", move |directory| archive::hand_over(directory, unpacker, owner)).await
    }

    pub(super) async fn build(&self) -> Result<(), StepFailure> {
        let tree = self.tree()?;
        let Some(build) = &tree.build else { return Ok(()) };
        let account = accounts::user(&build.user)?;
        let home = self.layout.releases_of(self.app).join(format!(".home-{}", tree.key));
        let home_path = home
            .to_string_lossy()
            .parse()
            .map_err(|e: drover_proto::name::NameError| StepFailure::new(Code::Internal, "build", e.to_string()))?;
        files::ensure_directory(&home_path, account.uid, account.gid, 0o700)
            .map_err(|error| StepFailure::new(error.code(), "build", error.to_string()))?;
        let built = self.build_steps(build, tree, &account, &home).await;
        if let Err(error) = fs::remove_dir_all(&home) {
            tracing::warn!(%error, home = %home.display(), "a build's home stays behind");
        }
        built?;
        self.finish_tree(account.uid).await
    }

    async fn build_steps(
        &self,
        build: &RenderedBuild,
        tree: &Tree,
        account: &crate::host::users::Account,
        home: &Path,
    ) -> Result<(), StepFailure> {
        let output = self.output_file("build")?;
        let until = Instant::now() + build.timeout.as_duration();
        for (i, argv) in build.run.iter().enumerate() {
            let title = argv.join(" ");
            let mut command = program::command(argv, until.saturating_duration_since(Instant::now()))?;
            command.account = Some(account.clone());
            command.cwd = Some(tree.directory.as_path().to_owned());
            command.env = build.env.clone();
            command.env.insert("HOME".to_owned(), home.to_string_lossy().into_owned());
            command.output_file = Some(output.clone());
            let fail = |cause: String| StepFailure::new(Code::Build, format!("build: {title}"), cause);
            let outcome = process::run(command)
                .await
                .map_err(|error| fail(format!("build step {} ({title}) could not be run: {error}", i + 1)))?;
            let cause = match outcome.ended {
                Ended::Code(0) => continue,
                Ended::TimedOut => {
                    format!("the build took longer than {} and was killed in step {} ({title})", build.timeout, i + 1)
                }
                Ended::Code(_) | Ended::Signal(_) => {
                    let last = program::telling_line(&outcome);
                    format!("build step {} ({title}) failed ({}): {last}", i + 1, outcome.ended)
                }
            };
            return Err(fail(cause).with(format!("output of {title}"), outcome.tail));
        }
        Ok(())
    }

    /// Root owns it, nobody else writes there, it is on the disk; then the marker says so. `from`: whose it is, a uid.
    async fn finish_tree(&self, from: u32) -> Result<(), StepFailure> {
        let tree = self.tree()?;
        // A build's processes may live on with files open for writing.
        let fresh = tree.build.is_some();
        self.own_tree("seal", move |directory| archive::seal(directory, from, fresh)).await?;
        let marker = self.layout.seal_marker(self.app, &tree.key);
        if let Some(parent) = marker.parent() {
            directories::make(parent, 0o700).map_err(|e| self.cannot("sealed", e))?;
        }
        files::write_private(&marker, b"").map_err(|e| StepFailure::new(Code::Write, "seal", e.to_string()))?;
        self.blobs.discard(self.app, tree.digest).await;
        Ok(())
    }

    /// Gives the tree to another owner.
    async fn own_tree(
        &self,
        step: &str,
        own: impl FnOnce(&Path) -> Result<(), ArchiveError> + Send + 'static,
    ) -> Result<(), StepFailure> {
        let directory = self.tree()?.directory.as_path().to_owned();
        match tokio::task::spawn_blocking(move || own(&directory)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(StepFailure::new(Code::Write, step, format!("the release cannot be made its owner's: {error}")))
            }
            Err(panic) => Err(StepFailure::new(Code::Internal, step, panic.to_string())),
        }
    }

    fn wipe_tree(&self) -> Result<(), StepFailure> {
        let tree = self.tree()?;
        remove_tree(self.layout, self.app, &tree.key).map_err(|e| self.cannot("wiped", e))
    }

    fn cannot(&self, what: &str, error: io::Error) -> StepFailure {
        StepFailure::new(Code::Write, "unpack", format!("the release's directory cannot be {what}: {error}"))
    }
}

fn not_unpacked(error: UnpackError) -> StepFailure {
    let code = match error {
        UnpackError::Refused(_) | UnpackError::Stopped(_) => Code::Archive,
        UnpackError::Write(_) => Code::Write,
        UnpackError::NoUser | UnpackError::User(_) => Code::NoSuchUser,
        UnpackError::Process(_) => Code::Internal,
    };
    StepFailure::new(code, "unpack", error.to_string())
}

/// Removes the release's tree if it is not complete: staging failed.
pub fn discard_unsealed(layout: &Layout, rendered: &Rendered) {
    let Some(tree) = &rendered.tree else { return };
    if layout.seal_marker(&rendered.app, &tree.key).exists() {
        return;
    }
    if let Err(error) = remove_tree(layout, &rendered.app, &tree.key) {
        tracing::warn!(app = %rendered.app, %error, "a half-made release stays behind");
    }
}

/// Removes one tree: first the marker, on the disk too, so that a half-removed one never counts as complete.
pub fn remove_tree(layout: &Layout, app: &drover_proto::name::AppName, key: &str) -> io::Result<()> {
    files::remove_private(&layout.seal_marker(app, key))?;
    match fs::remove_dir_all(layout.releases_of(app).join(key)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
