//! A container of somebody else in whose place drover made another: it stands aside, stopped, under another name, and comes
//! back from there. Never removed: nobody but its owner knows what is in it. Part of `docker`.
//!
//! Each of the two can be done again from wherever it was interrupted.

use bollard::{
    Docker,
    models::{ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum},
    query_parameters::RenameContainerOptionsBuilder,
};
use drover_proto::name::{AppName, ContainerName};

use super::{ANSWER, BEFORE, DockerError, Engine, NEXT, Result, WORK, stop, within};
use crate::ledger::AdoptedContainer;

impl Engine {
    /// The id of what stands aside for a container, whoever put it there.
    pub async fn aside(&self, name: &ContainerName) -> Result<Option<String>> {
        let client = self.client()?;
        Ok(self.inspect(&client, &aside_of(name)).await?.map(|state| state.id))
    }

    /// Stops it, and gives its name away. The engine would start some again with itself: not while it stands there.
    pub(super) async fn stand_aside(
        &self,
        client: &Docker,
        name: &ContainerName,
        before: &AdoptedContainer,
    ) -> Result<()> {
        if let Some(state) = self.inspect(client, name.as_str()).await?.filter(|state| state.id == before.id) {
            stop(client, &state).await?;
            rename(client, &before.id, &aside_of(name)).await?;
        }
        if self.aside(name).await?.as_ref() == Some(&before.id) {
            restart_policy(client, &before.id, (String::from("no"), 0)).await?;
        }
        Ok(())
    }

    /// Brings it back under its name, in place of what drover made, and as it was before; `start`: whether it shall run. One
    /// that is gone for good does not come back.
    pub async fn give_back(
        &self,
        app: &AppName,
        name: &ContainerName,
        before: &AdoptedContainer,
        start: bool,
    ) -> Result<()> {
        let client = self.client()?;
        self.remove_own(&client, app, &format!("{name}{NEXT}")).await?;
        self.remove_own(&client, app, name.as_str()).await?;
        if self.aside(name).await?.as_ref() == Some(&before.id) {
            if self.inspect(&client, name.as_str()).await?.is_some() {
                let why =
                    format!("a container {name} has come that is not drover's; {} waits for its name", aside_of(name));
                return Err(DockerError::Refused(why));
            }
            restart_policy(&client, &before.id, before.restart.clone()).await?;
            rename(&client, &before.id, name.as_str()).await?;
        }
        let state = self.inspect(&client, name.as_str()).await?.filter(|state| state.id == before.id);
        let Some(state) = state else { return Ok(()) };
        if state.restart != before.restart {
            restart_policy(&client, &before.id, before.restart.clone()).await?;
        }
        match start && !state.running {
            true => within(WORK, client.start_container(&before.id, None)).await,
            false => Ok(()),
        }
    }
}

/// The name of what stands aside for a container.
#[must_use]
pub fn aside_of(name: &ContainerName) -> String {
    format!("{name}{BEFORE}")
}

async fn rename(client: &Docker, id: &str, name: &str) -> Result<()> {
    let options = RenameContainerOptionsBuilder::new().name(name).build();
    within(WORK, client.rename_container(id, options)).await
}

async fn restart_policy(client: &Docker, id: &str, (word, retries): (String, i64)) -> Result<()> {
    let name = word.parse().unwrap_or(RestartPolicyNameEnum::NO);
    let policy = RestartPolicy { name: Some(name), maximum_retry_count: Some(retries) };
    let body = ContainerUpdateBody { restart_policy: Some(policy), ..ContainerUpdateBody::default() };
    within(ANSWER, client.update_container(id, body)).await
}
