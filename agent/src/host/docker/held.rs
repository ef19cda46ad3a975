//! What the engine keeps on the disk: images with the layers that they are made of, and containers that do not run; and how one of
//! them goes, never by force. Part of `docker`.

use std::collections::{BTreeMap, BTreeSet};

use bollard::{
    Docker,
    models::{ContainerSummary, ContainerSummaryStateEnum, ImageSummary},
    query_parameters::{
        InspectContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
        RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
    },
};
use drover_proto::name::{AppName, ProjectName};

use super::{ANSWER, APP_LABEL, DockerError, Engine, FINGERPRINT_LABEL, Result, WORK, project::PROJECT_LABEL, within};

/// An image that is here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeldImage {
    /// `sha256:…` of its configuration.
    pub id: String,
    /// `name:tag` and `name@digest`.
    pub names: BTreeSet<String>,
    /// With all layers.
    pub size_bytes: u64,
    /// Each with its size, if it was asked for.
    pub layers: Vec<(String, u64)>,
    /// The containers that are made of it, whether they run or not.
    pub containers: BTreeSet<String>,
}

/// A container that does not run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeldContainer {
    /// 64 hex digits.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// For which app drover made it; `None` = it was not drover.
    pub app: Option<AppName>,
    /// Of which compose project it is, whoever brought that up.
    pub project: Option<ProjectName>,
    /// What it has written itself; of drover's only.
    pub size_bytes: u64,
    /// When it ended, or was made; Unix ms; of drover's only.
    pub since_unix_ms: Option<i64>,
}

impl Engine {
    /// The ids of all images, also of those that are only a step to others.
    pub async fn image_ids(&self) -> Result<BTreeSet<String>> {
        let options = ListImagesOptionsBuilder::new().all(true).build();
        let images = within(ANSWER, self.client()?.list_images(Some(options))).await?;
        Ok(images.into_iter().map(|image| image.id).collect())
    }

    /// What is there. `own`: the images whose layers count.
    pub async fn held(&self, own: &BTreeSet<String>) -> Result<(Vec<HeldImage>, Vec<HeldContainer>)> {
        let client = self.client()?;
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let all = within(WORK, client.list_containers(Some(options))).await?;
        let options = ListImagesOptionsBuilder::new().digests(true).build();
        let listed = within(WORK, client.list_images(Some(options))).await?;
        let labelled: BTreeSet<String> =
            listed.iter().filter(|image| image.labels.contains_key(APP_LABEL)).map(|image| image.id.clone()).collect();
        let mut users: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for container in &all {
            users.entry(container.image_id.as_deref().unwrap_or_default()).or_default().insert(called(container));
        }
        let mut images = Vec::new();
        for image in listed {
            let mut image = HeldImage::from(image);
            image.containers = users.get(image.id.as_str()).cloned().unwrap_or_default();
            if own.contains(&image.id) {
                image.layers = layers_of(&client, &image).await?;
            }
            images.push(image);
        }
        let mut containers = Vec::new();
        for container in all.iter().filter(|container| has_ended(container)) {
            let mut held = held(container, &labelled);
            if held.app.is_some() && !measure(&client, &mut held).await? {
                continue;
            }
            containers.push(held);
        }
        Ok((images, containers))
    }

    /// Removes an image under all names that it had when it was looked at. The engine refuses while a container is made of it; it is
    /// refused here if people have given it another name meanwhile, or one of its names to another.
    pub async fn remove_image(&self, image: &HeldImage) -> Result<()> {
        let client = self.client()?;
        let now = match within(ANSWER, client.inspect_image(&image.id)).await {
            Err(DockerError::NotFound(_)) => return Ok(()),
            now => now?,
        };
        let names = now.repo_tags.into_iter().flatten().chain(now.repo_digests.into_iter().flatten());
        let names: BTreeSet<String> = names.filter(|name| !name.contains("<none>")).collect();
        if names != image.names {
            return Err(DockerError::Refused("it has got another name meanwhile".to_owned()));
        }
        // By name first: an image that has several does not go by its id.
        for name in image.names.iter().chain([&image.id]) {
            let options = RemoveImageOptionsBuilder::new().force(false).build();
            match within(WORK, client.remove_image(name, Some(options), None)).await {
                // With its last name it went as a whole.
                Ok(_) | Err(DockerError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes a container that does not run. The engine refuses if it runs by now. Volumes stay.
    pub async fn remove_ended(&self, container: &HeldContainer) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(false).v(false).build();
        super::gone(within(WORK, self.client()?.remove_container(&container.id, Some(options))).await)
    }
}

impl From<ImageSummary> for HeldImage {
    fn from(seen: ImageSummary) -> Self {
        // Older engines call what has no name so.
        let names = seen.repo_tags.into_iter().chain(seen.repo_digests).filter(|name| !name.contains("<none>"));
        let size_bytes = u64::try_from(seen.size).unwrap_or(0);
        Self { id: seen.id, names: names.collect(), size_bytes, ..Self::default() }
    }
}

fn called(container: &ContainerSummary) -> String {
    let name = container.names.iter().flatten().next().map(|name| name.trim_start_matches('/').to_owned());
    name.or_else(|| container.id.clone()).unwrap_or_default()
}

/// Its program does not run, and nobody is about to change that.
fn has_ended(container: &ContainerSummary) -> bool {
    use ContainerSummaryStateEnum::{CREATED, DEAD, EMPTY, EXITED, PAUSED, REMOVING, RESTARTING, RUNNING, STOPPING};
    match container.state {
        Some(CREATED | EXITED | DEAD) => true,
        Some(EMPTY | RUNNING | PAUSED | RESTARTING | REMOVING | STOPPING) | None => false,
    }
}

/// `labelled`: images that carry drover's label themselves, which says nothing of their containers.
fn held(container: &ContainerSummary, labelled: &BTreeSet<String>) -> HeldContainer {
    let labels = container.labels.clone().unwrap_or_default();
    let inherited = container.image_id.as_ref().is_none_or(|image| labelled.contains(image));
    let own = labels.contains_key(FINGERPRINT_LABEL) && !inherited;
    HeldContainer {
        id: container.id.clone().unwrap_or_default(),
        name: called(container),
        app: labels.get(APP_LABEL).filter(|_| own).and_then(|app| app.parse().ok()),
        project: labels.get(PROJECT_LABEL).and_then(|project| project.parse().ok()),
        ..HeldContainer::default()
    }
}

/// `false` = it has gone meanwhile.
async fn measure(client: &Docker, held: &mut HeldContainer) -> Result<bool> {
    let options = InspectContainerOptionsBuilder::new().size(true).build();
    let seen = match within(WORK, client.inspect_container(&held.id, Some(options))).await {
        Ok(seen) => seen,
        Err(DockerError::NotFound(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    held.size_bytes = seen.size_rw.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
    // One that never ran ended in year 1.
    let ended = seen.state.and_then(|state| state.finished_at).filter(|at| !at.starts_with("0001-"));
    let made = seen.created.map(|at| at.to_string());
    let at = ended.or(made).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    held.since_unix_ms = at.map(jiff::Timestamp::as_millisecond);
    Ok(true)
}

async fn layers_of(client: &Docker, image: &HeldImage) -> Result<Vec<(String, u64)>> {
    let whole = || vec![(image.id.clone(), image.size_bytes)];
    let ids = match within(ANSWER, client.inspect_image(&image.id)).await {
        Ok(seen) => seen.root_fs.and_then(|root| root.layers).unwrap_or_default(),
        Err(DockerError::NotFound(_)) => return Ok(whole()),
        Err(error) => return Err(error),
    };
    let sizes: Vec<i64> = match within(ANSWER, client.image_history(&image.id)).await {
        // Newest first, unlike the layers.
        Ok(history) => history.iter().rev().map(|step| step.size).collect(),
        Err(DockerError::NotFound(_)) => return Ok(whole()),
        Err(error) => return Err(error),
    };
    Ok(layers(&ids, &sizes).unwrap_or_else(whole))
}

/// How large each layer is; a layer is what it is together with all below it. Steps that change no file have no layer: unless
/// the number of the others is that of the layers nobody can say which is which.
fn layers(ids: &[String], sizes: &[i64]) -> Option<Vec<(String, u64)>> {
    let sizes: Vec<u64> = sizes.iter().filter_map(|size| u64::try_from(*size).ok().filter(|size| *size > 0)).collect();
    if ids.len() != sizes.len() {
        return None;
    }
    let mut chain = String::new();
    let named = ids.iter().zip(sizes).map(|(id, size)| {
        chain = drover_proto::digest::Digest::of(format!("{chain} {id}").as_bytes()).to_string();
        (chain.clone(), size)
    });
    Some(named.collect())
}

#[cfg(test)]
mod tests {
    //! Which layers are the same, and whose a container is.
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_layer_is_shared_when_all_below_it_is() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let first = layers(&ids(&["base", "app"]), &[100, 0, 7]).unwrap();
        let second = layers(&ids(&["base", "job"]), &[100, 5]).unwrap();
        let third = layers(&ids(&["other", "app"]), &[100, 7]).unwrap();
        assert_eq!(first.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [100, 7]);
        assert_eq!(first[0], second[0]);
        assert!(first[1] != second[1] && first[1] != third[1] && first[0] != third[0]);
        assert_eq!(layers(&ids(&["base", "empty"]), &[100, 0]), None);
    }

    #[test]
    fn a_label_that_an_image_brings_makes_no_container_drovers() {
        let labels = [(APP_LABEL, "shop"), (FINGERPRINT_LABEL, "sha256:1")];
        let labels: HashMap<String, String> = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let container = ContainerSummary {
            labels: Some(labels),
            image_id: Some("sha256:a".to_owned()),
            names: Some(vec!["/web".to_owned()]),
            state: Some(ContainerSummaryStateEnum::EXITED),
            ..ContainerSummary::default()
        };
        let app = |labelled: &[&str]| held(&container, &labelled.iter().map(|id| (*id).to_owned()).collect()).app;
        assert_eq!(app(&[]).map(|app| app.to_string()).as_deref(), Some("shop"));
        assert_eq!(app(&["sha256:a"]), None);
        assert!(has_ended(&container) && called(&container) == "web");
        assert!(!has_ended(&ContainerSummary { state: Some(ContainerSummaryStateEnum::RUNNING), ..container }));
    }
}
