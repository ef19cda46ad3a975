//! Works out what a damaged ledger said: when everything that the wanted release has on this host is there, to the byte,
//! and nothing would have to be done but start what does not run, then it is that release that was committed. Otherwise
//! the app stays nobody's. Beside `reconcile`.

use std::path::Path;

use drover_proto::{
    event::EventKind,
    plan::{Action, Plan},
    spec::DesiredApp,
};

use super::{Work, activation};
use crate::{
    event::Events,
    handover::on_disk,
    ledger::{AdoptedUnit, AppLedger, Original, SetAside},
    observe::Observed,
    render::{FileKind, Layout, Rendered, render},
    report::now_unix_ms,
};

/// Tells what could not be read when the agent started.
pub(super) fn tell(events: &Events, desired: Option<&str>, ledgers: &[SetAside]) {
    if let Some(said) = desired {
        events.emit(None, EventKind::StateSetAside, said);
    }
    for SetAside { app, aside, why } in ledgers {
        let said = format!("a ledger is damaged or another app's ({why}); it lies in {} now", aside.display());
        events.emit(app.as_ref(), EventKind::StateSetAside, said);
    }
}

impl Work<'_> {
    /// Takes over what is exactly as `desired` has it, if this app's ledger was damaged and says nothing since. Whether it
    /// did; then there is nothing left to do.
    pub(super) async fn recover(&mut self, desired: &DesiredApp) -> bool {
        let Some(aside) = self.shared.ledgers.damaged().remove(&self.app) else { return false };
        if self.ledger.current.is_some() || !self.ledger.owned_files.is_empty() {
            return false;
        }
        match self.take_over(desired, &aside).await {
            Ok(()) => {
                let said = format!(
                    "the ledger was damaged; everything here is exactly as {} has it, and is this app's again",
                    desired.release
                );
                self.tell(EventKind::StateRecovered, said);
                self.refresh(desired).await;
                self.shared.say(&self.ledger, Some(desired));
                true
            }
            Err(why) => {
                let why = self.redactor().text(&why);
                tracing::warn!(app = %self.app, "what its damaged ledger said cannot be worked out: {why}");
                false
            }
        }
    }

    async fn take_over(&mut self, desired: &DesiredApp, aside: &Path) -> Result<(), String> {
        let layout = &self.shared.parts.layout;
        let ports = on_disk(desired, layout, |path| std::fs::read_to_string(path).ok());
        let rendered = render(desired, &self.facts, layout, &ports).map_err(|error| error.to_string())?;
        let empty = self.ledger.clone();
        let (observed, _) = self.look(Some(&rendered)).await.map_err(|failed| failed.cause)?;
        self.ledger = as_committed(desired, &rendered, &observed, &self.shared.parts.layout);
        let done = match self.look(Some(&rendered)).await {
            Ok((_, plan)) => nothing_to_do(&plan),
            Err(failed) => Err(failed.cause),
        };
        if let Err(why) = done.and_then(|()| self.keep().map_err(|failed| failed.cause)) {
            self.ledger = empty;
            return Err(why);
        }
        self.shared.ledgers.recovered(aside).map_err(|error| format!("{} cannot be renamed: {error}", aside.display()))
    }
}

/// The ledger that a host would have on which `desired` was committed and that has what was observed.
fn as_committed(desired: &DesiredApp, rendered: &Rendered, observed: &Observed, layout: &Layout) -> AppLedger {
    let mut ledger = AppLedger::new(desired.spec.app.clone());
    for file in &rendered.files {
        // Whose the original was stood in the ledger. Its place is the same, and so are those who may read it.
        let kept = file.adopt && layout.original_of(&ledger.app, &file.path).exists();
        let (uid, gid) = (observed.users.get(&file.owner), observed.groups.get(&file.group));
        let of = |id: Option<&Option<u32>>| id.copied().flatten().unwrap_or(0);
        let original = kept.then(|| Original { uid: of(uid), gid: of(gid), mode: file.mode });
        let unit = match &file.kind {
            FileKind::Unit(name) => rendered.units.get(name).filter(|unit| unit.adopt).and(observed.units.get(name)),
            FileKind::Env | FileKind::Plain => None,
        };
        ledger.claim(file, original, unit.map(|state| AdoptedUnit { active: true, ..AdoptedUnit::from(state) }));
    }
    ledger.claim_containers(rendered);
    ledger.commit(desired, rendered, now_unix_ms());
    ledger
}

/// Whether a plan finds everything in its place. What has only stopped since is started again by whoever watches over
/// it, and what was taken over is taken over again; no other step is taken for granted.
fn nothing_to_do(plan: &Plan) -> Result<(), String> {
    activation::refuse(plan).map_err(|failed| failed.cause)?;
    let due = |action: &Action| {
        !matches!(
            action,
            Action::Start(_)
                | Action::StartContainer(_)
                | Action::AdoptContainer(_)
                | Action::Gate { .. }
                | Action::Commit
        )
    };
    match plan.steps.iter().find(|step| due(&step.action)) {
        Some(step) => Err(format!("{} would be needed", crate::exec::describe(&step.action))),
        None => Ok(()),
    }
}
