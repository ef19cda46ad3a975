//! Reads what the engine has of an app's containers, and what the host's policy says of them. Beside `observe`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use drover_proto::name::{ContainerName, NetworkName};
use tokio::time::Instant;

use crate::{
    host::docker::{ContainerState, DockerError, Engine, Made},
    ledger::AppLedger,
    policy::{self, Places, Policy},
    render::{Layout, Rendered},
};

/// How long those that are being removed are waited for: they can be neither started nor made anew before they are gone.
const GOING: Duration = Duration::from_secs(5);
/// Between two looks at it.
const GOING_LOOK: Duration = Duration::from_millis(100);

/// What is there of containers.
#[derive(Clone, Debug)]
pub struct SeenContainers {
    /// Whether the engine answers; why not. What is below is only what it said.
    pub engine: Result<(), String>,
    /// Wanted and owned ones that are there.
    pub states: BTreeMap<ContainerName, ContainerState>,
    /// How those were made that are not drover's and that the release would take over.
    pub made: BTreeMap<ContainerName, Made>,
    /// The ids of those in whose place drover made others, or that have their names.
    pub aside: BTreeMap<ContainerName, String>,
    /// The release's images that are here, as they are asked for.
    pub images: BTreeSet<String>,
    /// The release's networks that are there.
    pub networks: BTreeSet<NetworkName>,
    /// What containers may do here; why nothing may be allowed.
    pub policy: Result<Policy, String>,
    /// Where the paths lead that they shall see.
    pub places: BTreeMap<ContainerName, Places>,
}

impl Default for SeenContainers {
    fn default() -> Self {
        Self {
            engine: Ok(()),
            states: BTreeMap::new(),
            made: BTreeMap::new(),
            aside: BTreeMap::new(),
            images: BTreeSet::new(),
            networks: BTreeSet::new(),
            policy: Ok(Policy::default()),
            places: BTreeMap::new(),
        }
    }
}

/// Looks. An app without containers asks nobody.
pub(super) async fn look(
    wanted: Option<&Rendered>,
    ledger: &AppLedger,
    layout: &Layout,
    engine: &Engine,
) -> SeenContainers {
    let mut seen = SeenContainers::default();
    let wanted = wanted.filter(|rendered| !rendered.containers.is_empty());
    if wanted.is_none() && ledger.owned_containers.is_empty() {
        return seen;
    }
    if let Some(rendered) = wanted {
        seen.policy = policy::read(Path::new(policy::FILE));
        let places = |(name, container): (&ContainerName, _)| (name.clone(), policy::places(container, layout));
        seen.places = rendered.containers.iter().map(places).collect();
    }
    if let Err(error) = ask(wanted, ledger, engine, &mut seen).await {
        seen.engine = Err(error.to_string());
    }
    seen
}

async fn ask(
    wanted: Option<&Rendered>,
    ledger: &AppLedger,
    engine: &Engine,
    seen: &mut SeenContainers,
) -> Result<(), DockerError> {
    let of_release = wanted.iter().flat_map(|rendered| rendered.containers.keys());
    let names: BTreeSet<&ContainerName> = of_release.chain(&ledger.owned_containers).collect();
    let patience = Instant::now() + GOING;
    for name in names {
        let adopt = wanted.and_then(|rendered| rendered.containers.get(name)).is_some_and(|it| it.spec.adopt);
        let state = at_rest(engine, name, patience).await?;
        if adopt && state.as_ref().is_some_and(|state| state.app.is_none()) {
            seen.made.extend(engine.made(name).await?.map(|made| (name.clone(), made)));
        }
        if adopt || ledger.adopted.contains_key(name) {
            seen.aside.extend(engine.aside(name).await?.map(|id| (name.clone(), id)));
        }
        seen.states.extend(state.map(|state| (name.clone(), state)));
    }
    for container in wanted.iter().flat_map(|rendered| rendered.containers.values()) {
        let image = container.image.pullable();
        if !seen.images.contains(&image) && engine.has_image(&container.image).await? {
            seen.images.insert(image);
        }
        for network in &container.spec.networks {
            if !seen.networks.contains(network) && engine.has_network(network).await? {
                seen.networks.insert(network.clone());
            }
        }
    }
    Ok(())
}

/// The container, unless it goes away right now.
async fn at_rest(engine: &Engine, name: &ContainerName, until: Instant) -> Result<Option<ContainerState>, DockerError> {
    loop {
        let state = engine.container(name).await?;
        let going = state.as_ref().is_some_and(|state| state.status == "removing");
        if !going || Instant::now() >= until {
            return Ok(state);
        }
        tokio::time::sleep(GOING_LOOK).await;
    }
}
