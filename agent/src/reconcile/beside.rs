//! What other apps of the host have that a release wants: it is refused, unless they are just leaving. Beside `activation`.

use std::collections::BTreeMap;

use drover_proto::{code::Code, name::AppName, spec::DesiredApp, status::Phase};

use super::{End, Work, steps::superseded};
use crate::{exec::StepFailure, render::Rendered};

impl Work<'_> {
    /// What the release wants and other apps have, and who.
    fn taken(&self, rendered: &Rendered) -> BTreeMap<String, AppName> {
        let others = self.shared.owners_beside(&self.app);
        let files =
            rendered.files.iter().filter_map(|file| Some((file.path.to_string(), others.files.get(&file.path)?)));
        let units = rendered.units.keys().filter_map(|unit| Some((unit.to_string(), others.units.get(unit)?)));
        let containers = rendered.containers.keys();
        let containers = containers.filter_map(|name| Some((name.to_string(), others.containers.get(name)?)));
        let upstreams = rendered.handovers.keys();
        let upstreams = upstreams.filter_map(|name| Some((format!("upstream {name}"), others.upstreams.get(name)?)));
        let projects = rendered.compose.keys();
        let projects = projects.filter_map(|name| Some((name.to_string(), others.projects.get(name)?)));
        files
            .chain(units)
            .chain(containers)
            .chain(upstreams)
            .chain(projects)
            .map(|(part, app)| (part, app.clone()))
            .collect()
    }

    /// Other apps were at work since the plan was made.
    pub(super) fn still_free(&self, rendered: &Rendered) -> Result<(), StepFailure> {
        let Some((part, app)) = self.taken(rendered).pop_first() else { return Ok(()) };
        Err(StepFailure::new(Code::OwnedByOther, "plan", format!("{part} belongs to app {app} by now")))
    }

    /// Waits for apps that are to be removed from this host and still have what the release takes over. One whose removal
    /// fails keeps it.
    pub(super) async fn others_have_left(&self, desired: &DesiredApp, rendered: &Rendered) -> End {
        let (mut board, mut specs) = (self.shared.board.subscribe(), self.specs.clone());
        loop {
            let status = board.borrow_and_update().clone();
            let leaves = |app: &AppName| {
                let specs = self.specs.borrow();
                let stays = specs.as_ref().is_none_or(|spec| spec.apps.contains_key(app) || spec.keep.contains(app));
                !stays && !matches!(status.apps.get(app).map(|app| &app.phase), Some(Phase::Failed { .. }))
            };
            let Some((part, app)) = self.taken(rendered).into_iter().find(|(_, app)| leaves(app)) else {
                return End::Settled;
            };
            let step = format!("waiting until {app} is removed, which has {part}");
            self.shared.board.phase(&self.app, Phase::Fetching { step });
            tokio::select! {
                biased;
                () = superseded(&mut specs, Some(desired), &self.app) => return End::Superseded,
                changed = board.changed() => if changed.is_err() { return End::Superseded },
            }
        }
    }
}
