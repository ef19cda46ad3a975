//! A container that runs, by its id, for `metrics`. Part of `docker`.

use super::{ANSWER, DockerError, Engine, Result, within};

/// What is told of one beside what it uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunningContainer {
    /// Without the slash that the engine puts before it.
    pub name: String,
    /// As it was asked for when it was made.
    pub image: String,
    /// Unix ms.
    pub started_unix_ms: i64,
    /// By the engine, since it was made.
    pub restarts: i64,
}

impl Engine {
    /// The container with this id; `None` = there is none.
    pub async fn running(&self, id: &str) -> Result<Option<RunningContainer>> {
        let client = self.client()?;
        let seen = match within(ANSWER, client.inspect_container(id, None)).await {
            Ok(seen) => seen,
            Err(DockerError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let started = seen.state.and_then(|state| state.started_at?.parse::<jiff::Timestamp>().ok());
        Ok(Some(RunningContainer {
            name: seen.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image: seen.config.and_then(|config| config.image).unwrap_or_default(),
            started_unix_ms: started.map_or(0, |at| at.as_millisecond()),
            restarts: seen.restart_count.unwrap_or(0),
        }))
    }
}
