//! Jobs that a timer starts: one whose last run failed is told, and its app is degraded until it runs well. Beside `refresh`.

use std::collections::BTreeMap;

use drover_proto::{app::Drift, event::EventKind, name::UnitName};

use super::Work;
use crate::{drift::Part, observe::Observed, render::Rendered, report};

impl Work<'_> {
    /// Those whose last run failed, and how. One that runs just now is as it was: it may be the next to fail.
    pub(super) fn failing(&self, rendered: &Rendered, observed: &Observed) -> BTreeMap<UnitName, String> {
        let was = |job: &UnitName| self.shared.told.last(&self.app, &Part::Run(job.clone()));
        let mut failing = report::failing(rendered, observed, was);
        let ignored = |job: &UnitName| rendered.units.get(job).is_some_and(|unit| unit.drift == Drift::Ignore);
        failing.retain(|job, _| !ignored(job));
        failing
    }

    /// Tells of those that did not fail when they were last looked at.
    pub(super) fn tell_of_jobs(&self, failing: &BTreeMap<UnitName, String>) {
        for (job, how) in failing {
            if self.shared.told.is_news(&self.app, &Part::Run(job.clone()), how) {
                self.tell(EventKind::JobFailed, format!("{job}: {how}"));
            }
        }
    }
}
