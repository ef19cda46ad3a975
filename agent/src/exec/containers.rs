//! Containers: their networks and images, and what is run, started and removed. One that does not come up is not judged
//! here: the gate sees it, and says why. Beside `exec`.

use std::path::Path;

use drover_proto::{
    code::Code,
    image::ImageRef,
    name::{ContainerName, NetworkName},
};

use super::{Exec, StepFailure};
use crate::{
    host::docker::{ContainerState, Credentials, DockerError},
    ledger::AppLedger,
    policy::{self, Places},
    render::RenderedContainer,
};

/// The engine itself, of Debian and of Docker's own packages.
const ENGINES: [&str; 2] = ["/usr/sbin/dockerd", "/usr/bin/dockerd"];

/// Whether it is installed, whether it runs or not.
pub(super) fn has_engine() -> bool {
    ENGINES.iter().any(|engine| Path::new(engine).exists())
}

fn refused(step: &str, error: DockerError) -> StepFailure {
    StepFailure::new(Code::Docker, step, error.to_string())
}

impl Exec<'_> {
    pub(super) async fn make_network(&self, network: &NetworkName) -> Result<(), StepFailure> {
        self.engine.make_network(self.app, network).await.map_err(|e| refused("network", e))
    }

    pub(super) async fn pull_image(&self, image: &ImageRef) -> Result<(), StepFailure> {
        let of_image = self.wanted()?.containers.values().filter(|container| container.image == *image);
        let mut of_registry =
            self.wanted()?.compose.values().filter_map(|project| project.registries.get(image.registry()));
        let own = of_image.filter_map(|container| container.credentials.clone()).next();
        let credentials = own.or_else(|| of_registry.next().cloned());
        let credentials = credentials.map(|(username, password)| Credentials { username, password });
        let name = image.pullable();
        // Somebody may have brought it since the plan was made: then it is theirs.
        if let Ok(true) = self.engine.has_image(image).await {
            return Ok(());
        }
        self.stock.expect(&name, self.app);
        let pulled = self.engine.pull(image, credentials.as_ref(), self.say).await;
        if pulled.is_err() && !matches!(self.engine.image_id(&name).await, Ok(Some(_))) {
            // What somebody else fetches under that name is theirs.
            self.stock.missed(&name);
        }
        pulled.map_err(|error| {
            let code = if error == DockerError::Absent { Code::Docker } else { Code::Image };
            StepFailure::new(code, "pull", format!("image {image} could not be fetched: {error}"))
        })?;
        // Whatever the engine does not say now, the next clean-up asks again.
        if let Ok(Some(id)) = self.engine.image_id(&name).await {
            self.stock.arrived(&name, &id, self.app);
        }
        Ok(())
    }

    /// What stands there and drover has not made stands aside; how it was is on disk before it is touched.
    pub(super) async fn run_container(&self, name: &ContainerName, ledger: &mut AppLedger) -> Result<(), StepFailure> {
        let container = self.own_container(name)?;
        let places = self.allowed(name, container)?;
        let theirs = |state: &&ContainerState| state.adopted || (state.app.is_none() && container.spec.adopt);
        if let Some(state) = self.observed.containers.states.get(name).filter(theirs) {
            ledger.set_aside(name, state);
            self.ledgers.save(ledger)?;
        }
        let before = ledger.adopted.get(name);
        self.engine.run(self.app, name, container, &places, before).await.map_err(|error| {
            StepFailure::new(Code::Docker, "run", format!("container {name} could not be run: {error}"))
        })
    }

    pub(super) async fn adopt_container(
        &self,
        name: &ContainerName,
        ledger: &mut AppLedger,
    ) -> Result<(), StepFailure> {
        let failed = |why: String| StepFailure::new(Code::Docker, "adopt", format!("container {name}: {why}"));
        let container = self.own_container(name)?;
        self.allowed(name, container)?;
        let state = self.observed.containers.states.get(name);
        let now = self.engine.container(name).await.map_err(|error| failed(error.to_string()))?;
        match (state, now) {
            (Some(state), Some(now)) if state.id == now.id => {
                ledger.adopt_container(name, &now, container.fingerprint);
                Ok(self.ledgers.save(ledger)?)
            }
            _ => Err(failed("it is not the one that was looked at any more".to_owned())),
        }
    }

    /// It runs if it ran before, or if the release has it.
    pub(super) async fn return_container(&self, name: &ContainerName, ledger: &AppLedger) -> Result<(), StepFailure> {
        let Some(before) = ledger.adopted.get(name) else { return Ok(()) };
        let wanted = self.wanted.and_then(|wanted| wanted.containers.get(name));
        if let Some(container) = wanted {
            self.allowed(name, container)?;
        }
        match self.engine.give_back(self.app, name, before, before.ran || wanted.is_some()).await {
            Ok(()) => Ok(()),
            Err(DockerError::Absent) if !has_engine() => Ok(()),
            Err(error) => {
                let cause = format!("container {name} could not be brought back: {error}");
                Err(StepFailure::new(Code::Docker, "bring back", cause))
            }
        }
    }

    fn own_container(&self, name: &ContainerName) -> Result<&RenderedContainer, StepFailure> {
        let unknown = || StepFailure::new(Code::Internal, "containers", format!("the release has no container {name}"));
        self.wanted()?.containers.get(name).ok_or_else(unknown)
    }

    /// Looked at once more: since the plan was made a path may have come to lead elsewhere. Returns where they lead now.
    fn allowed(&self, name: &ContainerName, container: &RenderedContainer) -> Result<Places, StepFailure> {
        let (policy, places) = (policy::read(Path::new(policy::FILE)), policy::places(container, self.layout));
        let refusals = match policy {
            Ok(policy) => policy::refusals(&policy, self.app, container, &places, self.layout),
            Err(why) => vec![why],
        };
        match refusals.into_iter().next() {
            None => Ok(places),
            Some(why) => Err(StepFailure::new(Code::Policy, "policy", format!("container {name}: {why}"))),
        }
    }

    pub(super) async fn start_container(&self, name: &ContainerName) -> Result<(), StepFailure> {
        self.allowed(name, self.own_container(name)?)?;
        self.engine.start(name).await.map_err(|error| {
            StepFailure::new(Code::Docker, "start", format!("container {name} could not be started: {error}"))
        })
    }

    pub(super) async fn remove_container(&self, name: &ContainerName) -> Result<(), StepFailure> {
        match self.engine.remove(self.app, name).await {
            Ok(()) => Ok(()),
            // One that is only switched off brings its containers back.
            Err(DockerError::Absent) if !has_engine() => Ok(()),
            Err(error) => {
                let cause = format!("container {name} could not be removed: {error}");
                Err(StepFailure::new(Code::Docker, "remove", cause))
            }
        }
    }
}
