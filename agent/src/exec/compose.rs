//! Compose projects: brought up or taken over, with what stood there then in the ledger, and removed. Beside `exec`.

use std::{collections::BTreeMap, path::Path, time::Duration};

use drover_proto::{code::Code, digest::Digest, name::ProjectName};
use tokio::time::Instant;

use super::{Exec, StepFailure, containers::has_engine};
use crate::{
    host::{
        compose::{self, Compose, Config},
        docker::{DockerError, HeldCache, Member, of_service},
    },
    ledger::{AppLedger, Brought, Built, ServiceRecord},
    observe::compose::forbidden,
    policy,
    render::RenderedProject,
};

/// Compose has at least so long, however little of the deadline is left: cut off in the middle it leaves halves.
const LEAST: Duration = Duration::from_secs(20);

/// To build a project's images.
const BUILD: Duration = Duration::from_secs(30 * 60);

fn failed(name: &ProjectName, code: Code, why: impl std::fmt::Display) -> StepFailure {
    StepFailure::new(code, "compose", format!("compose project {name}: {why}"))
}

impl Exec<'_> {
    /// What compose makes of a project just now, and whether the host allows it: since the plan was made a path may have
    /// come to lead elsewhere.
    async fn read_project(&self, name: &ProjectName) -> Result<(Compose, Config), StepFailure> {
        let wanted = self.wanted()?;
        let compose = compose::find().await.map_err(|why| failed(name, Code::Compose, why))?;
        let config = compose.config(name, self.project(name)?, &wanted.files, self.layout).await;
        let config = config.map_err(|why| failed(name, Code::Compose, why.join("; ")))?;
        let policy = policy::read(Path::new(policy::FILE));
        match forbidden(&policy, wanted, &config, self.layout).into_iter().next() {
            None => Ok((compose, config)),
            Some(why) => Err(failed(name, Code::Policy, why)),
        }
    }

    fn project(&self, name: &ProjectName) -> Result<&RenderedProject, StepFailure> {
        let unknown = || failed(name, Code::Internal, "the release does not have it");
        self.wanted()?.compose.get(name).ok_or_else(unknown)
    }

    pub(super) async fn build_project(&self, name: &ProjectName, ledger: &mut AppLedger) -> Result<(), StepFailure> {
        let (compose, config) = self.read_project(name).await?;
        let missing = || failed(name, Code::Internal, "there is no artifact to build from");
        let tree = self.wanted()?.tree.as_ref().ok_or_else(missing)?;
        let output = (self.output_file(&format!("compose-build-{name}"))?, BUILD);
        let before = self.engine.image_ids().await.map_err(|error| failed(name, Code::Docker, error))?;
        let cached = self.build_cache().await;
        if let Some(cache) = &cached {
            self.stock.build_begins(self.app, cache);
        }
        let built = compose.build(name, &config, tree.directory.as_path(), self.layout, output).await;
        // Also of a build that failed. Of one that is dropped here the next one, or a clean-up, sees to it.
        if cached.is_some()
            && let Some(cache) = self.build_cache().await
        {
            self.stock.build_ended(self.app, &cache);
        }
        built.map_err(|(why, tail)| {
            failed(name, Code::Build, format!("its images could not be built: {why}"))
                .with(format!("output of the build of {name}"), tail)
        })?;
        let mut images = BTreeMap::new();
        for (service, image, _) in config.builds() {
            let id =
                self.engine.image_id(&image.pullable()).await.map_err(|error| failed(name, Code::Docker, error))?;
            let lost =
                || failed(name, Code::Build, format!("the image of service {service} is not here after its build"));
            let id = id.ok_or_else(lost)?;
            self.stock.built(&image.pullable(), &id, self.app, &before);
            images.insert(image.pullable(), id);
        }
        ledger.note_built(name, Built { of: config.identity(Some(&tree.key)), images });
        Ok(self.ledgers.save(ledger)?)
    }

    /// What the engine keeps of builds. What nobody notes stays on the disk, which is no reason not to build.
    async fn build_cache(&self) -> Option<Vec<HeldCache>> {
        let cache = self.engine.build_cache().await;
        cache.unwrap_or_else(|error| {
            tracing::warn!(%error, "what a build leaves in the engine's cache will not be known");
            None
        })
    }

    /// Gives the images that were built for this release their names, which another build may have taken.
    async fn name_images(
        &self,
        name: &ProjectName,
        config: &Config,
        of: Digest,
        ledger: &AppLedger,
    ) -> Result<(), StepFailure> {
        for (service, image, _) in config.builds() {
            let id = ledger.built_of(name, of).and_then(|built| built.images.get(&image.pullable()));
            let lost = || failed(name, Code::Build, format!("the image of service {service} has not been built"));
            let tagged = self.engine.tag(id.ok_or_else(lost)?, image).await;
            tagged.map_err(|error| failed(name, Code::Docker, format!("the image of service {service}: {error}")))?;
        }
        Ok(())
    }

    pub(super) async fn up_project(
        &self,
        name: &ProjectName,
        recreate: bool,
        ledger: &mut AppLedger,
    ) -> Result<(), StepFailure> {
        let (compose, config) = self.read_project(name).await?;
        let project = self.project(name)?;
        let identity = config.identity(self.wanted()?.tree.as_ref().map(|tree| tree.key.as_str()));
        self.name_images(name, &config, identity, ledger).await?;
        note_images(name, &config, ledger);
        // From here on nobody can say what is there, until it is seen.
        ledger.projects.insert(name.clone(), None);
        self.ledgers.save(ledger)?;
        let left = self.jobs_until.saturating_duration_since(Instant::now()).max(LEAST);
        let up = compose.up(name, project, (&config, recreate), self.layout, left).await;
        up.map_err(|(why, tail)| failed(name, Code::Compose, why).with(format!("output of compose for {name}"), tail))?;
        let members = self.engine.project(name).await.map_err(|error| failed(name, Code::Docker, error))?;
        ledger.projects.insert(name.clone(), Some(brought(project, (&config, identity), &members)));
        Ok(self.ledgers.save(ledger)?)
    }

    /// A project that runs becomes the app's as it is. Its files are in their places: what compose makes of them there is
    /// what runs, or nothing is touched.
    pub(super) async fn adopt_project(&self, name: &ProjectName, ledger: &mut AppLedger) -> Result<(), StepFailure> {
        let (compose, config) = self.read_project(name).await?;
        let (wanted, project) = (self.wanted()?, self.project(name)?);
        let members = self.engine.project(name).await.map_err(|error| failed(name, Code::Docker, error))?;
        if let Some(why) = compose.differs(name, (wanted, &config), &members, self.layout).await.into_iter().next() {
            return Err(failed(name, Code::NotOwned, format!("it cannot be taken over as it runs: {why}")));
        }
        let identity = config.identity(wanted.tree.as_ref().map(|tree| tree.key.as_str()));
        let built = config.builds().filter_map(|(service, image, _)| {
            let member = of_service(&members, service).next()?;
            Some((image.pullable(), member.state.image_id.clone()))
        });
        let built: BTreeMap<String, String> = built.collect();
        if !built.is_empty() {
            ledger.note_built(name, Built { of: identity, images: built });
        }
        note_images(name, &config, ledger);
        ledger.stood.insert(name.clone(), identity);
        ledger.projects.insert(name.clone(), Some(brought(project, (&config, identity), &members)));
        Ok(self.ledgers.save(ledger)?)
    }

    /// It runs on as it was taken over.
    pub(super) fn leave_project(&self, name: &ProjectName, ledger: &mut AppLedger) -> Result<(), StepFailure> {
        ledger.projects.remove(name);
        ledger.stood.remove(name);
        Ok(self.ledgers.save(ledger)?)
    }

    pub(super) async fn remove_project(&self, name: &ProjectName) -> Result<(), StepFailure> {
        match self.engine.remove_project(name).await {
            Ok(()) => Ok(()),
            Err(DockerError::Absent) if !has_engine() => Ok(()),
            Err(error) => {
                let cause = format!("compose project {name} could not be removed: {error}");
                Err(StepFailure::new(Code::Docker, "remove", cause))
            }
        }
    }
}

/// What its services are made of is claimed, those that are scaled to nothing included.
fn note_images(name: &ProjectName, config: &Config, ledger: &mut AppLedger) {
    let images = config.services.values().filter_map(|service| service.image.as_ref());
    ledger.note_project_images(name, images.map(|image| image.pullable()).collect());
}

/// What stands there, made of this.
fn brought(project: &RenderedProject, (config, identity): (&Config, Digest), members: &[Member]) -> Brought {
    let services = config.services.keys().filter_map(|service| Some((service.clone(), record(members, service)?)));
    let services: BTreeMap<String, ServiceRecord> = services.collect();
    Brought { inputs: project.inputs, config: identity, restart: project.restart, services }
}

/// What stands there of a service; `None` = nothing, as it is scaled to nothing.
fn record(members: &[Member], service: &str) -> Option<ServiceRecord> {
    let own: Vec<&Member> = of_service(members, service).collect();
    let first = own.first()?;
    Some(ServiceRecord {
        hash: first.hash.clone(),
        image: first.state.image_id.clone(),
        image_name: first.image.clone(),
        count: own.len(),
    })
}
