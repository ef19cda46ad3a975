//! The containers of a compose project, found by compose's labels, and how all of them go. Part of `docker`.

use std::{collections::HashMap, path::PathBuf};

use bollard::{
    Docker,
    models::RestartPolicyNameEnum,
    query_parameters::{
        ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
        StopContainerOptionsBuilder, TagImageOptionsBuilder,
    },
};
use drover_proto::{image::ImageRef, name::ProjectName};
use futures_util::future::join_all;

use super::{ANSWER, ContainerState, DockerError, Engine, Result, STOP_SLACK, WORK, gone, state, within};

/// Compose's own labels.
pub(super) const PROJECT_LABEL: &str = "com.docker.compose.project";
const SERVICE_LABEL: &str = "com.docker.compose.service";
pub(super) const HASH_LABEL: &str = "com.docker.compose.config-hash";
const ONE_OFF_LABEL: &str = "com.docker.compose.oneoff";

/// A container of a project.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    /// Of the container.
    pub name: String,
    /// Which service's.
    pub service: String,
    /// What compose made it of.
    pub hash: String,
    /// As its image is called.
    pub image: String,
    /// Whether somebody runs it once, by `compose run`: it is no part of the service.
    pub one_off: bool,
    /// Whether the engine leaves it ended when it ends well.
    pub runs_once: bool,
    /// How it is.
    pub state: ContainerState,
}

/// Where a project came from, as compose wrote it on a container: nothing of it is checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// In which its paths lead.
    pub directory: PathBuf,
    /// Its files; relative ones from there.
    pub files: Vec<PathBuf>,
    /// What `${…}` was filled in from, if it was named. 1.29 does not say.
    pub env_file: Option<PathBuf>,
}

/// The containers that belong to a service, not those that somebody runs once.
pub fn of_service<'a>(members: &'a [Member], service: &'a str) -> impl Iterator<Item = &'a Member> {
    members.iter().filter(move |member| member.service == service && !member.one_off)
}

impl Engine {
    /// What an image is that is here: `sha256:…` of its configuration. By name or by that.
    pub async fn image_id(&self, name: &str) -> Result<Option<String>> {
        let client = self.client()?;
        match within(ANSWER, client.inspect_image(name)).await {
            Ok(image) => Ok(image.id),
            Err(DockerError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// From now on the name means this image.
    pub async fn tag(&self, id: &str, name: &ImageRef) -> Result<()> {
        let client = self.client()?;
        let tag = name.tag.as_deref().unwrap_or("latest");
        let options = TagImageOptionsBuilder::new().repo(&name.repository).tag(tag).build();
        within(WORK, client.tag_image(id, Some(options))).await
    }

    /// All containers of a project.
    pub async fn project(&self, project: &ProjectName) -> Result<Vec<Member>> {
        let client = self.client()?;
        let mut members = Vec::new();
        for id in listed(&client, project).await? {
            members.extend(member(&client, &id).await?);
        }
        members.sort_by(|a, b| (&a.service, &a.name).cmp(&(&b.service, &b.name)));
        Ok(members)
    }

    /// Where it came from; `None` = it has no container.
    pub async fn origin(&self, project: &ProjectName) -> Result<Option<Origin>> {
        let filters = of_project(project);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = within(ANSWER, self.client()?.list_containers(Some(options))).await?;
        let once = |labels: &HashMap<String, String>| labels.get(ONE_OFF_LABEL).is_some_and(|it| it == "True");
        let labels = listed.into_iter().filter_map(|it| it.labels).find(|labels| !once(labels));
        Ok(labels.map(|labels| {
            let label = |name: &str| labels.get(&format!("{PROJECT_LABEL}.{name}")).cloned().unwrap_or_default();
            let directory = PathBuf::from(label("working_dir"));
            let files = label("config_files").split(',').map(|file| directory.join(file)).collect();
            let env_file = Some(label("environment_file")).filter(|file| !file.is_empty() && !file.contains(','));
            Origin { files, env_file: env_file.map(|file| directory.join(file)), directory }
        }))
    }

    /// Stops and removes all containers of a project, and its networks. Volumes stay.
    pub async fn remove_project(&self, project: &ProjectName) -> Result<()> {
        let client = self.client()?;
        let members = self.project(project).await?;
        let mut stops = Vec::new();
        for Member { state, .. } in &members {
            let seconds = i32::try_from(state.stop_timeout.as_secs()).unwrap_or(i32::MAX);
            let options = StopContainerOptionsBuilder::new().t(seconds).build();
            stops.push(within(state.stop_timeout + STOP_SLACK, client.stop_container(&state.id, Some(options))));
        }
        for stopped in join_all(stops).await {
            gone(stopped)?;
        }
        for member in &members {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(false).build();
            gone(within(WORK, client.remove_container(&member.state.id, Some(options))).await)?;
        }
        let filters = of_project(project);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        for network in within(ANSWER, client.list_networks(Some(options))).await? {
            let id = network.id.unwrap_or_default();
            // Containers of others may be in it.
            if let Err(error) = gone(within(WORK, client.remove_network(&id)).await) {
                tracing::warn!(%project, network = network.name.unwrap_or_default(), %error, "a network stays");
            }
        }
        Ok(())
    }
}

fn of_project(project: &ProjectName) -> HashMap<&'static str, Vec<String>> {
    HashMap::from([("label", vec![format!("{PROJECT_LABEL}={project}")])])
}

async fn listed(client: &Docker, project: &ProjectName) -> Result<Vec<String>> {
    let filters = of_project(project);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let listed = within(ANSWER, client.list_containers(Some(options))).await?;
    Ok(listed.into_iter().filter_map(|container| container.id).collect())
}

/// `None` = it has gone meanwhile.
async fn member(client: &Docker, id: &str) -> Result<Option<Member>> {
    let seen = match within(ANSWER, client.inspect_container(id, None)).await {
        Ok(seen) => seen,
        Err(DockerError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let config = seen.config.clone().unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let policy = seen.host_config.as_ref().and_then(|host| host.restart_policy.as_ref()?.name);
    let runs_once = matches!(policy, None | Some(RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY));
    let mut member = Member {
        name: seen.name.clone().unwrap_or_default().trim_start_matches('/').to_owned(),
        service: label(SERVICE_LABEL),
        hash: label(HASH_LABEL),
        image: config.image.unwrap_or_default(),
        one_off: label(ONE_OFF_LABEL).eq_ignore_ascii_case("true"),
        runs_once,
        state: ContainerState::from(seen),
    };
    member.state.digests = match within(ANSWER, client.inspect_image(&member.state.image_id)).await {
        Ok(image) => state::digests(image.repo_digests.unwrap_or_default()),
        Err(DockerError::NotFound(_)) => Default::default(),
        Err(error) => return Err(error),
    };
    Ok(Some(member))
}
