//! Reads what the engine has of an app's compose projects, what compose makes of their files, and what the host's policy
//! says of that. Beside `observe`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use drover_proto::{
    name::{ContainerName, ProjectName},
    port::Port,
};

use crate::{
    host::{
        compose::{self, Config},
        docker::{DockerError, Engine, Member},
    },
    ledger::{AppLedger, Projects},
    policy::{self, Policy},
    render::{Layout, Rendered},
};

/// What is there of compose projects.
#[derive(Clone, Debug)]
pub struct SeenProjects {
    /// Whether the engine answers; why not. What is below is only what it said.
    pub engine: Result<(), String>,
    /// The containers of wanted and owned projects.
    pub members: BTreeMap<ProjectName, Vec<Member>>,
    /// What should be there: what was last brought up.
    pub brought: Projects,
    /// Wanted ones, where the host was asked.
    pub configs: BTreeMap<ProjectName, SeenConfig>,
    /// The images of those that are here, as they are asked for.
    pub images: BTreeSet<String>,
}

/// What compose makes of a project's files.
#[derive(Clone, Debug)]
pub struct SeenConfig {
    /// That, or what is wrong with them, one sentence each.
    pub config: Result<Config, Vec<String>>,
    /// There is no compose that could say.
    pub absent: bool,
    /// Everything that is to be built has been, and is here.
    pub built: bool,
    /// Why the host does not allow it, one sentence each.
    pub forbidden: Vec<String>,
    /// Names for containers that somebody else's have.
    pub taken: BTreeSet<String>,
    /// Of one that is there and could be taken over: why it is not what compose would make of the files, one sentence each.
    pub differs: Vec<String>,
}

impl Default for SeenProjects {
    fn default() -> Self {
        Self {
            engine: Ok(()),
            members: BTreeMap::new(),
            brought: Projects::new(),
            configs: BTreeMap::new(),
            images: BTreeSet::new(),
        }
    }
}

impl SeenProjects {
    /// Every port that a wanted project publishes, as far as compose was asked.
    pub fn ports(&self) -> impl Iterator<Item = (&ProjectName, &Port)> {
        let read = self.configs.iter().filter_map(|(name, seen)| Some((name, seen.config.as_ref().ok()?)));
        read.flat_map(|(name, config)| {
            config.services.values().flat_map(move |it| it.ports.iter().map(move |p| (name, p)))
        })
    }
}

/// Looks. An app without projects asks nobody. `whole`: compose is asked, too.
pub(super) async fn look(
    wanted: Option<&Rendered>,
    ledger: &AppLedger,
    layout: &Layout,
    engine: &Engine,
    whole: bool,
) -> SeenProjects {
    let mut seen = SeenProjects { brought: ledger.projects.clone(), ..SeenProjects::default() };
    let of_release = wanted.iter().flat_map(|rendered| rendered.compose.keys());
    let names: BTreeSet<&ProjectName> = of_release.chain(ledger.projects.keys()).collect();
    for name in names {
        match engine.project(name).await {
            Ok(members) => drop(seen.members.insert(name.clone(), members)),
            Err(error) => seen.engine = Err(error.to_string()),
        }
    }
    if let Some(rendered) = wanted.filter(|rendered| whole && !rendered.compose.is_empty()) {
        let policy = policy::read(Path::new(policy::FILE));
        let found = compose::find().await;
        for name in rendered.compose.keys() {
            let config = match &found {
                Err(why) => SeenConfig::without(Err(vec![why.clone()]), true),
                Ok(compose) => {
                    let mut config = judged(compose, rendered, name, layout, &policy).await;
                    let stands = seen.members.get(name).filter(|_| !ledger.projects.contains_key(name));
                    if let (Some(members), Ok(read)) = (stands.filter(|members| !members.is_empty()), &config.config) {
                        config.differs = compose.differs(name, (rendered, read), members, layout).await;
                    }
                    config
                }
            };
            seen.configs.insert(name.clone(), config);
        }
        if let Err(error) = ask(engine, ledger, rendered, &mut seen).await {
            seen.engine = Err(error.to_string());
        }
    }
    seen
}

impl SeenConfig {
    fn without(config: Result<Config, Vec<String>>, absent: bool) -> Self {
        Self { config, absent, built: true, forbidden: Vec::new(), taken: BTreeSet::new(), differs: Vec::new() }
    }
}

/// What compose makes of a project, and what the policy says of it.
async fn judged(
    compose: &compose::Compose,
    rendered: &Rendered,
    name: &ProjectName,
    layout: &Layout,
    policy: &Result<Policy, String>,
) -> SeenConfig {
    let project = &rendered.compose[name];
    let mut seen = SeenConfig::without(compose.config(name, project, &rendered.files, layout).await, false);
    if let Ok(config) = &seen.config {
        seen.forbidden = forbidden(policy, rendered, config, layout);
    }
    seen
}

/// Why the host does not allow a project. `exec` asks once more, before it is brought up.
pub(crate) fn forbidden(
    policy: &Result<Policy, String>,
    rendered: &Rendered,
    config: &Config,
    layout: &Layout,
) -> Vec<String> {
    match policy {
        Ok(policy) => {
            let places = policy::places_of_project(config, layout);
            policy::of_project(policy, &rendered.app, config, &places, layout)
        }
        Err(why) => vec![format!("nothing is allowed while the policy cannot be read: {why}")],
    }
}

async fn ask(
    engine: &Engine,
    ledger: &AppLedger,
    rendered: &Rendered,
    seen: &mut SeenProjects,
) -> Result<(), DockerError> {
    let tree = rendered.tree.as_ref().map(|tree| tree.key.as_str());
    for (name, held) in &mut seen.configs {
        let Ok(config) = &held.config else { continue };
        let built = ledger.built_of(name, config.identity(tree));
        for (_, image, _) in config.builds() {
            let id = built.and_then(|built| built.images.get(&image.pullable()));
            held.built &= match id {
                Some(id) => engine.image_id(id).await?.is_some(),
                None => false,
            };
        }
        for service in config.services.values() {
            if let Some(image) = &service.image
                && !seen.images.contains(&image.pullable())
                && engine.has_image(image).await?
            {
                seen.images.insert(image.pullable());
            }
            let container: Option<ContainerName> = service.container_name.as_ref().and_then(|name| name.parse().ok());
            let Some(wanted) = container else { continue };
            let own = seen.members.get(name).into_iter().flatten().any(|member| member.name == wanted.as_str());
            if !own && engine.container(&wanted).await?.is_some() {
                held.taken.insert(wanted.to_string());
            }
        }
    }
    Ok(())
}
