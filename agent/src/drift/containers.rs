//! What of drift concerns containers only. Part of `drift`.

use drover_proto::{
    name::ProjectName,
    plan::{Action, Reason},
};

use super::{Cure, Findings, Part};
use crate::render::{Rendered, RenderedContainer};

/// What happened to a container that is made or started for this reason.
pub(super) fn how(reason: &Reason) -> &'static str {
    match reason {
        Reason::NotRunning => "was not running",
        Reason::Missing | Reason::New => "was removed",
        _ => "was not the one that drover had made",
    }
}

impl Findings {
    pub(super) fn of_project(&mut self, wanted: &Rendered, name: &ProjectName, reason: &Reason) {
        let what = format!("had a service that {}", how(reason));
        let drift = wanted.compose.get(name).map(|project| project.drift).unwrap_or_default();
        self.say(Part::Project(name.clone()), what, drift, Cure::Steps);
    }
}

/// The containers that want a network or an image.
pub(super) fn needed_by(wanted: &Rendered, action: &Action) -> impl Iterator<Item = Part> {
    let wants = move |container: &RenderedContainer| match action {
        Action::MakeNetwork(network) => container.spec.networks.contains(network),
        Action::PullImage(image) => container.image == *image,
        _ => false,
    };
    let names = wanted.containers.iter().filter(move |(_, container)| wants(container));
    names.map(|(name, _)| Part::Container(name.clone()))
}
