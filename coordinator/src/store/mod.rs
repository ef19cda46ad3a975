//! Everything durable, in domain terms: one file per noun, and no SQL anywhere else. `rpc`, `session`, `rollout` and
//! `admin` call it; `vault` seals the secrets in it.
//!
//! SQLite in WAL mode. Reads go through a small pool; writes through one connection, each in a `BEGIN IMMEDIATE`
//! transaction. No method reads the clock: `now_ms` and `at_ms` are Unix ms given by the caller.

use std::{path::Path, time::Duration};

use drover_proto::code::Code;
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;

use crate::vault::{Vault, VaultError};

mod alerts;
mod audit;
mod cordon;
mod certificates;
mod compared;
mod endpoints;
mod events;
mod figures;
mod hosts;
mod migrate;
mod numbers;
mod operators;
mod releases;
mod restored;
mod rollouts;
mod secrets;
mod specs;
mod tally;
mod tokens;
mod verify;

pub use alerts::{
    Again, Attempt, FleetChange, GroupChange, NewNotification, NotifierState, StoredNotification, StoredSilence,
};
pub use certificates::{Certificate, Holder, Successor};
pub use endpoints::Endpoint;
pub use events::{EventFilter, OfHost, Retention};
pub use hosts::{Host, NewHost, StoredReport};
pub use migrate::SCHEMA_VERSION;
pub use operators::NewLogin;
pub use releases::{Release, Standing};
pub use restored::{Rested, put_to_rest};
pub use rollouts::{RolloutEnd, StoredRollout};
pub use secrets::{SecretPin, SecretPins};
pub use specs::{StoredApp, StoredSpec};
pub use tally::{Tallied, Tally};
pub use tokens::{NewToken, TokenGrant, TokenRefusal};
pub use verify::verify;

/// How long one statement waits for another process's write.
const BUSY_TIMEOUT_MS: u64 = 5_000;
/// Connections that read at the same time.
const READERS: u32 = 4;

/// What can go wrong. Only `NotFound`, `Exists`, `SecretMissing` and `Token` are the caller's to see in full.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("the store {path} cannot be opened")]
    Open {
        /** Of the database. */
        path: String,
        /** Why. */
        #[source]
        source: sqlx::Error,
    },
    /// The file cannot be made.
    #[error("the store {path} cannot be made")]
    Create {
        /** Of the database. */
        path: String,
        /** Why. */
        #[source]
        source: std::io::Error,
    },
    /// A migration failed; nothing has changed.
    #[error("the store cannot be brought from version {from} to {to}; it is unchanged")]
    Migrate {
        /** Before. */
        from: i64,
        /** Wanted. */
        to: i64,
        /** Why. */
        #[source]
        source: sqlx::Error,
    },
    /// Written by a newer program, or by an older one that still runs.
    #[error("the store has version {found}, and this program wants {wanted}: {hint}")]
    Version {
        /** In the file. */
        found: i64,
        /** By this program. */
        wanted: i64,
        /** What to do. */
        hint: &'static str,
    },
    /// A statement failed.
    #[error("the store could not {0}")]
    Sql(&'static str, #[source] sqlx::Error),
    /// Something read back is not what was written.
    #[error("what the store holds of {0} is damaged")]
    Damaged(&'static str),
    /// A secret could not be sealed or opened.
    #[error("a secret could not be sealed or opened")]
    Vault(#[from] VaultError),
    /// No such thing; says which.
    #[error("there is no {0}")]
    NotFound(String),
    /// The name is taken; says which.
    #[error("{0}")]
    Exists(String),
    /// These secrets have not been stored.
    #[error("not stored: {}", .0.join(", "))]
    SecretMissing(Vec<String>),
    /// The token is refused.
    #[error("{0}")]
    Token(#[from] TokenRefusal),
}

impl StoreError {
    /// The code for clients. With `Store` and `Internal` the text stays here, in the log.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Open { .. }
            | Self::Create { .. }
            | Self::Migrate { .. }
            | Self::Version { .. }
            | Self::Sql(..)
            | Self::Damaged(_) => Code::Store,
            Self::Vault(_) => Code::Internal,
            Self::NotFound(_) => Code::NotFound,
            Self::Exists(_) => Code::Exists,
            Self::SecretMissing(_) => Code::SecretMissing,
            Self::Token(_) => Code::Token,
        }
    }
}

/// What every method answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What to do with a file of an older version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upgrade {
    /// Copy it, then migrate it; a missing file is made. For the coordinator, which alone holds the lock.
    Migrate,
    /// Refuse it, and a missing one too. For commands beside a coordinator that may be running.
    Refuse,
}

/// The open store; clones share it.
#[derive(Clone)]
pub struct Store {
    read: SqlitePool,
    write: SqlitePool,
    vault: Vault,
    retention: Retention,
    /// Told when there are more events.
    events: watch::Sender<()>,
    /// Numbers that this store is known to hold, for every report repeats them.
    seen: numbers::Seen,
    /// What was stored since the start.
    tally: Tally,
}

impl Store {
    /// Opens `path`. Files are made with mode 0600.
    pub async fn open(path: &Path, vault: Vault, upgrade: Upgrade) -> Result<Self> {
        let open = |source| StoreError::Open { path: path.display().to_string(), source };
        if upgrade == Upgrade::Migrate {
            migrate::create_private(path)
                .map_err(|source| StoreError::Create { path: path.display().to_string(), source })?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS));
        let write = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(open)?;
        migrate::run(&write, path, upgrade).await?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(open)?;
        let (retention, events) = (Retention::default(), watch::Sender::new(()));
        Ok(Self { read, write, vault, retention, events, seen: numbers::Seen::default(), tally: Tally::default() })
    }
    /// With other limits for events.
    #[must_use]
    pub fn keeping(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }
    /// Closes every connection, so that the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
    /// Writes one consistent copy of the whole database to `path`, which must not exist.
    pub async fn copy_to(&self, path: &Path) -> Result<()> {
        migrate::copy(&self.write, path).await.map_err(|e| StoreError::Sql("copy itself", e))
    }

    /// Begins a write; dropped without `commit` it is undone.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        self.write.begin_with("BEGIN IMMEDIATE").await.map_err(|e| StoreError::Sql("begin a write", e))
    }
}

async fn commit(tx: Transaction<'static, Sqlite>) -> Result<()> {
    tx.commit().await.map_err(|e| StoreError::Sql("commit a write", e))
}

/// Reads back a name or number that was written from its own type.
fn parse<T: std::str::FromStr>(text: &str, of: &'static str) -> Result<T> {
    text.parse().map_err(|_| StoreError::Damaged(of))
}

/// Reads back a JSON column.
fn from_json<T: serde::de::DeserializeOwned>(text: &str, of: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| StoreError::Damaged(of))
}

/// Writes a JSON column.
fn to_json<T: serde::Serialize>(value: &T, of: &'static str) -> Result<String> {
    serde_json::to_string(value).map_err(|_| StoreError::Damaged(of))
}

/// A count or number of ours in a BIGINT column.
fn to_int(number: u64, of: &'static str) -> Result<i64> {
    i64::try_from(number).map_err(|_| StoreError::Damaged(of))
}

/// A count or number of ours out of a BIGINT column.
fn from_int(number: i64, of: &'static str) -> Result<u64> {
    u64::try_from(number).map_err(|_| StoreError::Damaged(of))
}

#[cfg(test)]
pub(crate) mod tests;
