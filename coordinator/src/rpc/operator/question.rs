//! One question to one host, and its one answer. Asked by `plan`, `images`, `import` and `prune`; `session/registry` carries it.

use std::time::Duration;

use drover_proto::wire::{JobError, job::Job, job_reply::Reply};
use serde::de::DeserializeOwned;

use super::super::Services;
use crate::{session::AskError, store::Host};

/// For an answer that was given at the last moment, such as that there was no time for one.
const UNDERWAY_MS: u64 = 3_000;

/// What is asked.
#[derive(Clone)]
pub(super) struct Question {
    /// In the host's words.
    pub job: Job,
    /// The host may take so long.
    pub ttl_ms: u64,
    /// The first protocol that knows it.
    pub since: u32,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// It was not sent.
    #[error(transparent)]
    NotAsked(#[from] AskError),
    /// The agent would not understand it.
    #[error("its agent is too old: it speaks protocol {spoken}, and this takes {since}; upgrade drover-agent there")]
    TooOld {
        /// What it speaks.
        spoken: u32,
        /// What it would have to.
        since: u32,
    },
    /// In this time (ms).
    #[error("it is connected and did not answer within {} s; look at journalctl -u drover-agent there", .0 / 1000)]
    Silent(u64),
    /// It is not connected any more.
    #[error("it went away before it had answered")]
    Away,
    /// What it was asked on another connection it does not answer on this one.
    #[error("it connected anew before it had answered; try again")]
    Anew,
    /// It says no.
    #[error("{} ({})", .0.message, .0.code)]
    Refused(JobError),
    /// It answers what was not asked.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
}

impl Question {
    /// Asks.
    pub async fn ask(self, services: &Services, host: &Host) -> Result<Reply, Unanswered> {
        let sessions = &services.sessions;
        let spoken = sessions.protocol(&host.id).ok_or(AskError::Offline)?;
        let Self { job, ttl_ms, since } = self;
        if spoken < since {
            return Err(Unanswered::TooOld { spoken, since });
        }
        let mut answers = sessions.ask(&host.id, job, ttl_ms)?;
        let patience_ms = ttl_ms + UNDERWAY_MS;
        match tokio::time::timeout(Duration::from_millis(patience_ms), answers.next()).await {
            Err(_) => Err(Unanswered::Silent(patience_ms)),
            Ok(Some(Reply::Error(error))) => Err(Unanswered::Refused(error)),
            Ok(Some(reply)) => Ok(reply),
            Ok(None) if sessions.away_since(&host.id).is_none() => Err(Unanswered::Anew),
            Ok(None) => Err(Unanswered::Away),
        }
    }

    /// Asks for a document; `json` takes it out of the answer that has it.
    pub async fn ask_for<T: DeserializeOwned>(
        self,
        services: &Services,
        host: &Host,
        json: impl Fn(Reply) -> Option<Vec<u8>>,
    ) -> Result<T, Unanswered> {
        let bytes = json(self.ask(services, host).await?).ok_or_else(Unanswered::other)?;
        serde_json::from_slice(&bytes).map_err(|error| Unanswered::Unreadable(error.to_string()))
    }
}

impl Unanswered {
    /// An answer to another question.
    pub fn other() -> Self {
        Self::Unreadable("it is one to something else".to_owned())
    }
}
