//! Unpacks an artifact in a child that has nothing to lose: the agent's own program as a user of its own, without any
//! further rights, which can write below the new tree and nowhere else, within limits, and is killed when time is up.
//!
//! `child` is what runs there; `exec` calls this and then gives the tree to whom it belongs.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, chown},
    path::Path,
    sync::Arc,
    time::Duration,
};

use drover_proto::{limits, name::UserName};

use super::{
    archive::Limits,
    confine,
    process::{self, Command, Ended, ITSELF, Outcome, ProcessError},
    users::{self, Account, UserError},
};

pub mod child;

/// The user that unpacks; the package makes it. Tests take one that every system has.
const USER: &str = if cfg!(test) { "nobody" } else { "drover-unpack" };
/// For one artifact.
const UNPACK_TIMEOUT: Duration = Duration::from_secs(600);
/// An archive may always hold this much …
const SMALL_BYTES: u64 = 256 << 20;
/// … and otherwise so many times its own size: more is a bomb.
const MAX_RATIO: u64 = 200;

/// What the child may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Of the archive's content.
    pub archive: Limits,
    /// Of one file, whatever the archive's limits say.
    pub file_bytes: u64,
    /// Then it is killed.
    pub timeout: Duration,
}

impl Bounds {
    /// For an archive of that size.
    #[must_use]
    pub fn of(archive_bytes: u64) -> Self {
        let bytes = archive_bytes.saturating_mul(MAX_RATIO).clamp(SMALL_BYTES, limits::MAX_UNPACKED_BYTES);
        Self {
            archive: Limits { bytes, entries: limits::MAX_ARCHIVE_ENTRIES },
            file_bytes: limits::MAX_UNPACKED_BYTES,
            timeout: UNPACK_TIMEOUT,
        }
    }
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is bad; the child says why.
    #[error("the artifact is refused: {0}")]
    Refused(String),
    /// The tree could not be written, there or here.
    #[error("the artifact cannot be unpacked: {0}")]
    Write(String),
    /// It used more than it may, or broke.
    #[error("the artifact is refused: unpacking it {0}")]
    Stopped(String),
    /// The user that the package makes is not there.
    #[error("user {USER} does not exist on this host; `systemd-sysusers drover-agent.conf` makes it")]
    NoUser,
    /// It could not be looked up.
    #[error(transparent)]
    User(#[from] UserError),
    /// The child did not start.
    #[error("the unpacking process could not be started: {0}")]
    Process(#[from] ProcessError),
}

/// Logs what this kernel lacks to keep unpacking in bounds. Once, when the agent starts.
pub fn tell_confinement() {
    if !confine::has_landlock() {
        tracing::info!("this kernel has no Landlock: unpacking and git are kept in bounds by their user alone");
    }
}

/// Who unpacks, and fetches what other programs have to fetch.
pub fn account() -> Result<Account, UnpackError> {
    let name: UserName = USER.parse().map_err(|_| UnpackError::NoUser)?;
    users::account(&name)?.ok_or(UnpackError::NoUser)
}

/// Unpacks `archive` into `into`, which must not exist. When this returns no process has anything in it open any more, and
/// all of it is the unpacking user's. On failure nothing is left.
pub async fn unpack(archive: File, into: &Path, bounds: Bounds) -> Result<(), UnpackError> {
    let account = account()?;
    let write = |e: io::Error| UnpackError::Write(format!("{}: {}", into.display(), plain(&e)));
    DirBuilder::new().mode(0o700).create(into).map_err(write)?;
    let unpacked = match chown(into, Some(account.uid), Some(account.gid)) {
        Ok(()) => in_child(archive, into, account, bounds).await,
        Err(error) => Err(write(error)),
    };
    if unpacked.is_err()
        && let Err(error) = std::fs::remove_dir_all(into)
    {
        tracing::warn!(into = %into.display(), %error, "what was unpacked of a bad archive stays behind");
    }
    unpacked
}

async fn in_child(archive: File, into: &Path, account: Account, bounds: Bounds) -> Result<(), UnpackError> {
    let (args, env) = child::call(bounds);
    let mut command = Command::new(ITSELF, args, bounds.timeout);
    command.account = Some(account);
    command.cwd = Some(into.to_owned());
    command.stdin = Some(Arc::new(archive));
    command.env.extend(env);
    let outcome = process::run(command).await?;
    judge(&outcome, bounds)
}

/// What the child's end means. It may have been taken over by what it read: nothing that it says is more than text.
fn judge(outcome: &Outcome, bounds: Bounds) -> Result<(), UnpackError> {
    let line = outcome.tail.iter().rev().find_map(|line| line.strip_prefix(child::SAYS));
    let said = || line.map_or_else(|| outcome.last_line(), str::to_owned);
    let stopped = |why: String| Err(UnpackError::Stopped(why));
    match outcome.ended {
        Ended::Code(0) => Ok(()),
        Ended::Code(child::REFUSED) => Err(UnpackError::Refused(said())),
        Ended::Code(child::CANNOT_WRITE) => Err(UnpackError::Write(said())),
        Ended::Code(code) => stopped(format!("ended with exit code {code}: {}", said())),
        Ended::TimedOut => stopped(format!("took longer than {} s and was killed", bounds.timeout.as_secs_f32())),
        Ended::Signal(signal) => stopped(format!("was ended by signal {signal}: {}", child::limit_behind(signal))),
    }
}

/// A full disk in words that people can act on.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
