//! What the rest of the agent may ask of the reconciler: a plan without carrying it out, the units of an app, the status.
//! Beside `reconcile`; `link` holds one.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use drover_proto::{
    code::Code,
    found::Subject,
    name::{AppName, CheckName, ContainerName, UnitName},
    plan::{Action, Extent, Plan, Refusal},
    prune::PruneReport,
    spec::DesiredApp,
    status::HostStatus,
};
use tokio::sync::watch;

use super::{Shared, Work, cleanup::damaged, steps::known};
use crate::{
    check::standing::Standing,
    exec::StepFailure,
    host::{docker::Engine, systemd::Systemd},
    ledger::AppLedger,
    outputs::{self, HookRun},
    report::{Redactor, now_unix_ms},
};

/// Asks; changes nothing but what a clean-up removes. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// What would happen if `desired` were asked of this host; `None` = removing the app. The error is one sentence.
    /// `extent`: how large its artifact is when unpacked, if that is known.
    pub async fn preview(
        &self,
        app: &AppName,
        mut desired: Option<DesiredApp>,
        extent: Option<Extent>,
    ) -> Result<Plan, String> {
        let shared = &*self.0;
        let ledger = shared.ledger(app).unwrap_or_else(|| AppLedger::new(app.clone()));
        desired.iter_mut().for_each(|desired| ledger.remember_restart(desired));
        let specs = shared.parts.desired.subscribe();
        let work = Work::new(shared, specs, app.clone(), shared.facts(), ledger);
        let mut rendered = match &desired {
            Some(desired) => Some(work.sketched(desired).await.map_err(|failed| failed.cause)?),
            None => None,
        };
        let cause = |failed: StepFailure| failed.cause;
        let (_, mut plan) = work.look_ahead(rendered.as_ref(), extent).await.map_err(cause)?;
        let mut unreachable = None;
        let packages_come = plan.steps.iter().any(|step| matches!(step.action, Action::InstallPackages(_)));
        let fetches = plan.steps.iter().any(|step| matches!(step.action, Action::Fetch { .. }));
        if let Some(tree) = rendered.as_mut().and_then(|rendered| rendered.tree.as_mut()).filter(|_| fetches) {
            match shared.parts.blobs.reach(&tree.origin, packages_come).await {
                // Only now it is known how much room it needs.
                Ok(Some(size_bytes)) if tree.size_bytes == 0 => {
                    tree.size_bytes = size_bytes;
                    plan = work.look_ahead(rendered.as_ref(), extent).await.map_err(cause)?.1;
                }
                Ok(_) => {}
                Err(why) => unreachable = Some(format!("this host cannot fetch the artifact: {why}")),
            }
        }
        plan.made_unix_ms = Some(now_unix_ms());
        if let Some(aside) = shared.ledgers.damaged().get(app) {
            for refusal in plan.refusals.iter_mut().filter(|refusal| refusal.code == Code::NotOwned) {
                refusal.message = format!("{}; {}", refusal.message, damaged(app, aside));
            }
        }
        // Compose's words may hold what it was filled in with.
        let redactor = Redactor::of(desired.iter());
        for refusal in plan.refusals.iter_mut().filter(|refusal| refusal.code == Code::Compose) {
            refusal.message = redactor.text(&refusal.message);
        }
        if let Some(why) = unreachable {
            let message = redactor.text(&why);
            plan.refusals.push(Refusal { code: Code::Fetch, part: "artifact".to_owned(), message });
        }
        Ok(plan)
    }

    /// The units that an app has on this host: those of the committed release and of one being activated.
    #[must_use]
    pub fn units_of(&self, app: &AppName) -> Vec<UnitName> {
        self.0.ledger(app).map(|ledger| ledger.owned_units.into_keys().collect()).unwrap_or_default()
    }

    /// The containers that an app has on this host, likewise, and those of its compose projects that are there.
    pub async fn containers_of(&self, app: &AppName) -> Vec<ContainerName> {
        let Some(ledger) = self.0.ledger(app) else { return Vec::new() };
        let mut containers: Vec<ContainerName> = ledger.owned_containers.into_iter().collect();
        for project in ledger.projects.keys() {
            match self.engine().project(project).await {
                Ok(members) => containers.extend(members.iter().filter_map(|member| member.name.parse().ok())),
                Err(error) => tracing::warn!(%project, %error, "the logs of its services cannot be read"),
            }
        }
        containers
    }

    /// Docker of this host.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.parts.engine
    }

    /// systemd of this host.
    #[must_use]
    pub fn systemd(&self) -> &Systemd {
        &self.0.parts.systemd
    }

    /// The app that has it on this host already.
    #[must_use]
    pub fn owner_of(&self, subject: &Subject) -> Option<AppName> {
        let apps = self.0.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |ledger: &&AppLedger| match subject {
            Subject::Unit(name) => ledger.owned_units.contains_key(name),
            Subject::Container(name) => ledger.owned_containers.contains(name),
            Subject::Compose(name) => ledger.projects.contains_key(name),
        };
        apps.values().find(has).map(|ledger| ledger.app.clone())
    }

    /// Knows the values of the app's secrets.
    #[must_use]
    pub fn redactor(&self, app: &AppName) -> Redactor {
        self.0.redactor(app)
    }

    /// The runs of an app's hooks whose output is kept, newest first.
    #[must_use]
    pub fn hook_runs(&self, app: &AppName) -> Vec<HookRun> {
        outputs::runs(&self.0.parts.layout, app)
    }

    /// The last `most` lines of a run, without the values of secrets; how many bytes before them are left out; and where
    /// all of it is on this host. An error also if values of secrets may be in it that are not known any more. Blocks while it reads.
    pub fn output_of(&self, app: &AppName, run: &HookRun, most: usize) -> io::Result<(Vec<String>, u64, PathBuf)> {
        let (shared, layout) = (&*self.0, &self.0.parts.layout);
        let ledger = shared.ledger(app).unwrap_or_else(|| AppLedger::new(app.clone()));
        let spec = shared.parts.desired.subscribe().borrow().clone();
        let (lines, left_out) = run.lines(layout, app, most, &known(spec.as_deref(), &ledger))?;
        Ok((lines, left_out, run.path(layout, app)))
    }

    /// What of the disk nobody needs; unless it is only planned, that goes. Whoever stops to wait for it does not stop it: the
    /// engine would go on with what it was asked, while others begin.
    pub async fn prune(&self, plan: bool) -> Result<PruneReport, String> {
        let shared = self.0.clone();
        let pass = tokio::spawn(async move { shared.prune(plan).await });
        pass.await.map_err(|error| error.to_string())
    }

    /// How the checks of all committed releases stand, as far as that is known.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<(AppName, CheckName), Standing> {
        self.0.standings.all()
    }

    /// The status, and every one after it.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<HostStatus>> {
        self.0.board.subscribe()
    }
}
