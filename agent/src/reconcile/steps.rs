//! One step after another, with progress for people and an eye on whether something newer is wanted. Beside `reconcile`.

use std::time::Duration;

use drover_proto::{
    app::HookPoint,
    code::Code,
    event::EventKind,
    name::{AppName, UnitName},
    plan::{Action, Extent, Plan, Step},
    spec::{DesiredApp, HostSpec},
    status::{Failure, Phase},
};
use tokio::time::Instant;

use super::{Shared, Work, turns::turn_of};
use crate::{
    exec::{Exec, StepFailure, Undo, describe},
    gate::{Course, Gate, GateEnd},
    ledger::AppLedger,
    observe::{Depth, Observed, observe, preflight::preflight},
    plan::{Input, Leg, leg, plan},
    render::Rendered,
    report::{Redactor, now_unix_ms},
};

/// A step that did not end well.
pub(super) enum Stop {
    /// It failed.
    Failed(StepFailure),
    /// Something newer is wanted.
    Superseded,
}

impl From<StepFailure> for Stop {
    fn from(failure: StepFailure) -> Self {
        Self::Failed(failure)
    }
}

/// What the steps of one activation have in common.
pub(super) struct Setting<'a> {
    /// The release whose plan is carried out; `None` = removal.
    pub(super) wanted: Option<&'a Rendered>,
    /// What the plan was made from.
    pub(super) observed: &'a Observed,
    /// When jobs are not waited for any longer.
    pub(super) jobs_until: Instant,
    /// What the host spec asks for: anything else is newer.
    pub(super) asked: Option<&'a DesiredApp>,
    /// Progress is shown as this, if the step alone does not say what goes on.
    pub(super) phase: Option<fn(String) -> Phase>,
}

impl Work<'_> {
    pub(super) async fn look(&self, wanted: Option<&Rendered>) -> Result<(Observed, Plan), StepFailure> {
        self.look_ahead(wanted, None).await
    }

    /// The same with what is known of an artifact that has not arrived yet.
    pub(super) async fn look_ahead(
        &self,
        wanted: Option<&Rendered>,
        extent: Option<Extent>,
    ) -> Result<(Observed, Plan), StepFailure> {
        let mut observed = self.observe(wanted, Depth::Whole).await?;
        if let Some(wanted) = wanted {
            let ports = observed.projects.ports().map(|(_, port)| *port).collect();
            let ahead = preflight(wanted, &self.shared.parts.layout, extent, ports).await;
            observed.preflight =
                ahead.map_err(|error| StepFailure::new(Code::Internal, "observe", error.to_string()))?;
        }
        Ok(self.planned(wanted, observed))
    }

    /// What is there of a release that is committed, and what would have to be done.
    pub(super) async fn look_again(&self, wanted: &Rendered) -> Result<(Observed, Plan), StepFailure> {
        let observed = self.observe(Some(wanted), Depth::Again(self.shared.known.clone())).await?;
        Ok(self.planned(Some(wanted), observed))
    }

    async fn observe(&self, wanted: Option<&Rendered>, depth: Depth) -> Result<Observed, StepFailure> {
        let parts = &self.shared.parts;
        let observed = observe(wanted, &self.ledger, &parts.layout, &parts.systemd, &parts.engine, depth).await;
        observed.map_err(|error| StepFailure::new(Code::Internal, "observe", error.to_string()))
    }

    fn planned(&self, wanted: Option<&Rendered>, observed: Observed) -> (Observed, Plan) {
        let previous = self.previous_beside(wanted);
        let others = self.shared.owners_beside(&self.app);
        let input = Input {
            app: &self.app,
            wanted,
            previous: previous.as_ref(),
            observed: &observed,
            ledger: &self.ledger,
            others: &others,
            layout: &self.shared.parts.layout,
        };
        let plan = plan(&input);
        (observed, plan)
    }

    /// The committed release, as this host has it.
    pub(super) fn previous(&self) -> Option<Rendered> {
        self.previous_beside(None)
    }

    /// Whether a unit is this app's, on the host or in the release.
    pub(super) fn is_own(&self, unit: &UnitName, wanted: Option<&Rendered>) -> bool {
        self.ledger.owned_units.contains_key(unit) || wanted.is_some_and(|wanted| wanted.units.contains_key(unit))
    }

    pub(super) fn keep(&self) -> Result<(), StepFailure> {
        self.shared.ledgers.save(&self.ledger)?;
        self.shared.remember(&self.ledger);
        Ok(())
    }

    /// Carries out one step.
    pub(super) async fn step(&mut self, step: &Step, setting: &Setting<'_>, undo: &mut Undo) -> Result<(), Stop> {
        let words = self.redactor().text(&describe(&step.action));
        tracing::info!(app = %self.app, reason = %step.reason, "{words}");
        let phase = |words: String| match setting.phase {
            Some(of) => of(words),
            None => phase_of(&step.action, words),
        };
        // Dropped halfway these do no harm; everything else is brought to its end.
        let harmless = matches!(
            step.action,
            Action::Fetch { .. }
                | Action::PullImage(_)
                | Action::Build { .. }
                | Action::BuildProject(_)
                | Action::Start(_)
                | Action::Restart(_)
                | Action::Drain { .. }
        );
        let mut specs = self.specs.clone();
        let turn = turn_of(&step.action, |unit| self.is_own(unit, setting.wanted));
        if self.shared.turns.is_waited_for(turn, &self.held) {
            self.shared.board.phase(&self.app, phase(format!("waiting for other apps before {words}")));
        }
        tokio::select! {
            biased;
            // Behind the switch only what is harmless: files that are written are checked, too.
            () = superseded(&mut specs, setting.asked, &self.app), if harmless || leg(&step.action) != Leg::Switch => {
                return Err(Stop::Superseded);
            }
            () = self.shared.turns.take(turn, &mut self.held) => {}
        }
        self.shared.board.phase(&self.app, phase(words.clone()));
        if let Action::Prove { instance, .. } = &step.action {
            return self.prove_beside(instance, setting).await;
        }
        let redactor = self.redactor();
        let parts = &self.shared.parts;
        let (board, hide) = (&self.shared.board, self.redactor());
        let app = self.app.clone();
        let say = move |what: String| board.phase(&app, phase(hide.text(&format!("{words}: {what}"))));
        let exec = Exec {
            layout: &parts.layout,
            systemd: &parts.systemd,
            engine: &parts.engine,
            blobs: &parts.blobs,
            ledgers: &self.shared.ledgers,
            stock: &parts.stock,
            app: &self.app,
            wanted: setting.wanted,
            observed: setting.observed,
            jobs_until: setting.jobs_until + self.held.waited(),
            redactor: &redactor,
            say: &say,
        };
        let ledger: &mut AppLedger = &mut self.ledger;
        let done = tokio::select! {
            biased;
            () = superseded(&mut specs, setting.asked, &self.app), if harmless => Err(Stop::Superseded),
            done = exec.step(&step.action, ledger, undo) => {
                done.map_err(|failed| Stop::Failed(redactor.step_failure(failed)))
            }
        };
        // What it has written is its own from now on, also for those that are at work beside it.
        self.shared.remember(&self.ledger);
        done
    }

    /// What the spec says just now of the activation of `asked`.
    pub(super) fn course(&self, asked: &DesiredApp) -> Course {
        let spec = self.specs.borrow();
        match spec.as_ref().and_then(|spec| spec.apps.get(&self.app)) {
            Some(now) if now.release == asked.release && now.rollout == asked.rollout => {
                if now.paused {
                    Course::Paused
                } else {
                    Course::On
                }
            }
            Some(_) | None => Course::Superseded,
        }
    }

    /// Waits for health; `show` makes a phase of (healthy for ms, what is missing).
    pub(super) async fn gate(
        &mut self,
        wanted: &Rendered,
        asked: &DesiredApp,
        times: GateTimes,
        show: impl Fn(u64, Vec<String>) -> Phase,
    ) -> GateEnd {
        self.shared.turns.take(None, &mut self.held).await;
        let brought = self.ledger.projects.clone();
        let alerts = self.alerts_of(&asked.spec);
        let gate = Gate {
            wanted,
            alerts: &alerts,
            brought: &brought,
            systemd: &self.shared.parts.systemd,
            engine: &self.shared.parts.engine,
            asker: self.shared.standings.asker(),
            min_healthy: times.min_healthy,
            left: times.left,
            waited: times.waited,
            since_unix_ms: times.since_unix_ms,
        };
        let say = |ms, missing| self.shared.board.phase(&self.app, show(ms, missing));
        match gate.run(|| self.course(asked), say).await {
            GateEnd::Failed(failed) => GateEnd::Failed(self.redactor().step_failure(failed)),
            end @ (GateEnd::Healthy | GateEnd::Superseded) => end,
        }
    }

    /// Of all releases whose secrets a program of this app may know just now.
    pub(super) fn redactor(&self) -> Redactor {
        let spec = self.specs.borrow().clone();
        Redactor::of(known(spec.as_deref(), &self.ledger))
    }

    /// Removes what no release needs any more. A damaged ledger may have named anything, so then all is kept.
    pub(super) fn clean_up(&self) {
        match self.shared.ledgers.damaged().get(&self.app) {
            None => super::cleanup::unneeded(&self.shared.parts.layout, &self.ledger),
            Some(aside) => tracing::warn!(
                app = %self.app,
                "old releases are kept, and fill the disk, until {} is looked at and deleted",
                aside.display()
            ),
        }
    }

    /// From now on the app's status holds none of the values of its secrets.
    pub(super) fn conceal(&self) {
        self.shared.board.conceal(&self.app, self.redactor());
    }

    /// Something happened to this app, in one sentence.
    pub(super) fn tell(&self, kind: EventKind, message: impl AsRef<str>) {
        self.shared.parts.events.emit(Some(&self.app), kind, self.redactor().text(message.as_ref()));
    }

    /// A failed step as the report carries it.
    pub(super) fn failure(&self, desired: &DesiredApp, failed: StepFailure) -> Failure {
        let mut failed = self.redactor().step_failure(failed);
        if failed.code == Code::NotOwned
            && let Some(aside) = self.shared.ledgers.damaged().remove(&self.app)
        {
            failed.cause = format!("{}; {}", failed.cause, super::cleanup::damaged(&self.app, &aside));
        }
        Failure {
            code: failed.code,
            release: desired.release.clone(),
            rollout: desired.rollout,
            at_unix_ms: now_unix_ms(),
            step: failed.step,
            cause: failed.cause,
            evidence: failed.evidence,
        }
    }
}

impl Shared {
    /// Knows the values of an app's secrets.
    pub(super) fn redactor(&self, app: &AppName) -> Redactor {
        let ledger = self.ledger(app).unwrap_or_else(|| AppLedger::new(app.clone()));
        let spec = self.parts.desired.subscribe().borrow().clone();
        Redactor::of(known(spec.as_deref(), &ledger))
    }
}

/// The releases whose secrets a program of this app may know just now.
pub(super) fn known<'a>(spec: Option<&'a HostSpec>, ledger: &'a AppLedger) -> Vec<&'a DesiredApp> {
    let wanted = spec.and_then(|spec| spec.apps.get(&ledger.app));
    let activating = ledger.activation.as_ref().and_then(|activation| activation.desired.as_ref());
    wanted.into_iter().chain(activating).chain(&ledger.current).collect()
}

/// How patient a gate is.
pub(super) struct GateTimes {
    pub(super) min_healthy: Duration,
    pub(super) left: Duration,
    pub(super) waited: Duration,
    pub(super) since_unix_ms: i64,
}

/// Returns when the newest spec asks for something else than `asked`.
pub(super) async fn superseded(
    specs: &mut tokio::sync::watch::Receiver<Option<std::sync::Arc<HostSpec>>>,
    asked: Option<&DesiredApp>,
    app: &drover_proto::name::AppName,
) {
    let same = |now: Option<&DesiredApp>| match (now, asked) {
        (None, None) => true,
        (Some(now), Some(asked)) => now.release == asked.release && now.rollout == asked.rollout,
        (Some(_), None) | (None, Some(_)) => false,
    };
    let newer = |spec: &Option<std::sync::Arc<HostSpec>>| !same(spec.as_ref().and_then(|spec| spec.apps.get(app)));
    if specs.wait_for(newer).await.is_err() {
        // The agent is stopping; nothing newer will come.
        std::future::pending::<()>().await;
    }
}

fn phase_of(action: &Action, step: String) -> Phase {
    match action {
        Action::InstallPackages(_)
        | Action::CreateUser(_)
        | Action::MakeSwap { .. }
        | Action::EnsureDirectory(_)
        | Action::MakeNetwork(_)
        | Action::PullImage(_)
        | Action::Fetch { .. } => Phase::Fetching { step },
        Action::Unpack { .. }
        | Action::Build { .. }
        | Action::BuildProject(_)
        | Action::Validate { staged: true, .. }
        | Action::Hook { when: HookPoint::BeforeSwitch, .. } => Phase::Staging { step },
        Action::Validate { staged: false, .. }
        | Action::Hook { when: HookPoint::AfterSwitch, .. }
        | Action::WriteFile { .. }
        | Action::RemoveFile { .. }
        | Action::DaemonReload
        | Action::Enable(_)
        | Action::Disable(_)
        | Action::Stop(_)
        | Action::Start(_)
        | Action::Restart(_)
        | Action::Reload(_)
        | Action::RunContainer { .. }
        | Action::AdoptContainer(_)
        | Action::ReturnContainer(_)
        | Action::StartContainer(_)
        | Action::RemoveContainer(_)
        | Action::Prove { .. }
        | Action::Drain { .. }
        | Action::UpProject { .. }
        | Action::AdoptProject(_)
        | Action::LeaveProject(_)
        | Action::RemoveProject(_)
        | Action::Commit => Phase::Activating { step },
        Action::Gate { .. } => Phase::Gating { healthy_for_ms: 0, waiting_for: Vec::new() },
    }
}
