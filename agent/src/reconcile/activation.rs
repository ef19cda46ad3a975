//! The activation of one release: stage, journal, switch, gate, commit. Up to the journal nothing that runs is touched;
//! from there on failing means `revert`. Beside `reconcile`.

use std::time::Duration;

use drover_proto::{
    app::HookPoint,
    event::EventKind,
    name::{AbsPath, UnitName},
    plan::{Action, Plan, Step},
    spec::DesiredApp,
    status::Phase,
};
use tokio::time::Instant;

use super::{
    End, Work,
    steps::{GateTimes, Setting, Stop, superseded},
    turns::Turn,
};
use crate::{
    exec::{self, StepFailure, Undo},
    gate::GateEnd,
    host::clock::Moment,
    ledger::{Activation, AdoptedUnit, Settled, Stage},
    observe::Observed,
    plan::{Leg, around_gate, leg, switch_at},
    render::{FileKind, Rendered},
    report::now_unix_ms,
};

impl Work<'_> {
    /// Goes on with an activation that the agent's end interrupted.
    pub(super) async fn resume(&mut self, desired: &DesiredApp) -> End {
        let Some(activation) = self.ledger.activation.clone() else { return self.activate(desired, None).await };
        let step = format!("going on with {} after the agent was interrupted", desired.release);
        self.shared.board.phase(&self.app, Phase::Activating { step });
        self.activate(desired, Some(activation)).await
    }

    /// Activates a release. `interrupted`: its switch had begun already.
    pub(super) async fn activate(&mut self, desired: &DesiredApp, interrupted: Option<Activation>) -> End {
        self.shared.say(&self.ledger, Some(desired));
        let (touched, began) = match (&interrupted, &self.ledger.activation) {
            (Some(activation), _) => (true, activation.started_unix_ms),
            (None, Some(before)) => (before.touched, now_unix_ms()),
            (None, None) => (false, now_unix_ms()),
        };
        if interrupted.is_none() {
            let same = |before: &Activation| {
                before.rollout == desired.rollout
                    && before.desired.as_ref().is_some_and(|d| d.release == desired.release)
            };
            let hooks = self.ledger.activation.take_if(|before| same(before)).map(|before| before.hooks);
            let hooks = hooks.unwrap_or_default();
            self.ledger.activation = Some(Activation {
                desired: Some(desired.clone()),
                rollout: desired.rollout,
                started_unix_ms: began,
                switched_unix_ms: None,
                switched_at: None,
                touched,
                stage: Stage::Preparing,
                hooks,
            });
            if let Err(failed) = self.keep() {
                return self.give_up(desired, failed).await;
            }
            // Told once it is on disk: what is told as begun is told as gone on with, too.
            self.tell(EventKind::ActivationStarted, format!("activating {}", desired.release));
        }
        let rendered = match self.rendered(desired).await {
            Ok(rendered) => rendered,
            Err(failed) => return self.give_up(desired, failed).await,
        };
        let resumed = interrupted.is_some();
        if self.others_have_left(desired, &rendered).await == End::Superseded {
            return End::Superseded;
        }
        let (observed, plan) = match self.stage(desired, &rendered, resumed).await {
            Ok(staged) => staged,
            Err(Stop::Superseded) => return End::Superseded,
            Err(Stop::Failed(failed)) => {
                exec::discard_unsealed(&self.shared.parts.layout, &rendered);
                return self.give_up(desired, failed).await;
            }
        };
        self.switch(desired, &rendered, &observed, plan, interrupted).await
    }

    /// Everything up to the switch. The plan is made again when something had to be made ready: packages may have
    /// brought users and files, and a build may have taken minutes.
    async fn stage(
        &mut self,
        desired: &DesiredApp,
        rendered: &Rendered,
        resumed: bool,
    ) -> Result<(Observed, Plan), Stop> {
        let (mut observed, mut plan) = self.look(Some(rendered)).await?;
        refuse(&plan)?;
        let ready = plan.steps.iter().take_while(|step| leg(&step.action) == Leg::Ready).count();
        if ready > 0 {
            self.prepare(&plan.steps[..ready], desired, rendered, &observed).await?;
            (observed, plan) = self.look(Some(rendered)).await?;
            refuse(&plan)?;
        }
        let switch = switch_at(&plan.steps);
        let before_hook = |step: &Step| matches!(step.action, Action::Hook { when: HookPoint::BeforeSwitch, .. });
        let staged: Vec<Step> =
            plan.steps[..switch].iter().filter(|step| !(resumed && before_hook(step))).cloned().collect();
        self.prepare(&staged, desired, rendered, &observed).await?;
        Ok((observed, plan))
    }

    async fn prepare(
        &mut self,
        steps: &[Step],
        desired: &DesiredApp,
        rendered: &Rendered,
        observed: &Observed,
    ) -> Result<(), Stop> {
        let setting = Setting {
            wanted: Some(rendered),
            observed,
            jobs_until: Instant::now() + desired.spec.strategy.healthy_deadline.as_duration(),
            asked: Some(desired),
            phase: None,
        };
        for step in steps {
            if self.course(desired) == crate::gate::Course::Superseded {
                return Err(Stop::Superseded);
            }
            self.step(step, &setting, &mut Undo::default()).await?;
        }
        Ok(())
    }

    async fn switch(
        &mut self,
        desired: &DesiredApp,
        rendered: &Rendered,
        observed: &Observed,
        plan: Plan,
        interrupted: Option<Activation>,
    ) -> End {
        let gating = interrupted.as_ref().is_some_and(|activation| activation.stage == Stage::Gating);
        let (switch, retire) = around_gate(&plan.steps[switch_at(&plan.steps)..]);
        let steps = left_to_do(switch, gating);
        let before = self.ledger.clone();
        let mut specs = self.specs.clone();
        tokio::select! {
            biased;
            () = superseded(&mut specs, Some(desired), &self.app) => return End::Superseded,
            () = self.shared.turns.take(Some(Turn::Switch), &mut self.held) => {}
        }
        if let Err(failed) = self.still_free(rendered) {
            return self.give_up(desired, failed).await;
        }
        let times = match self.journal(desired, rendered, observed, [&steps[..], retire].concat(), interrupted) {
            Ok(times) => times,
            Err(failed) => {
                // What is not on disk has not begun.
                self.ledger = before;
                return self.give_up(desired, failed).await;
            }
        };
        let setting = Setting {
            wanted: Some(rendered),
            observed,
            jobs_until: Instant::now() + times.left,
            asked: Some(desired),
            phase: None,
        };
        let (mut undo, mut seen_by_nobody) = (Undo::default(), true);
        for step in &steps {
            seen_by_nobody &=
                matches!(step.action, Action::WriteFile { .. } | Action::RemoveFile { .. } | Action::Validate { .. });
            match self.step(step, &setting, &mut undo).await {
                Ok(()) => {}
                // Only starting a unit is given up for something newer, which is then activated from here.
                Err(Stop::Superseded) => return End::Superseded,
                Err(Stop::Failed(failed)) if seen_by_nobody => {
                    return match undo.put_back() {
                        Ok(()) => {
                            self.ledger = before;
                            self.settle_unit_files().await;
                            self.give_up(desired, failed).await
                        }
                        Err(worse) => {
                            tracing::error!(app = %self.app, cause = worse.cause, "what was written could not be put back");
                            self.revert(desired, self.failure(desired, failed)).await
                        }
                    };
                }
                Err(Stop::Failed(failed)) => return self.revert(desired, self.failure(desired, failed)).await,
            }
        }
        let left = (setting.jobs_until + self.held.waited()).saturating_duration_since(Instant::now());
        let times = GateTimes { waited: times.left.saturating_sub(left), left, ..times };
        self.prove(desired, rendered, times, observed, retire).await
    }

    /// Unit files were written and put back: their times changed, and systemd would call them changed from now on.
    async fn settle_unit_files(&self) {
        if let Err(error) = self.shared.parts.systemd.daemon_reload().await {
            tracing::warn!(app = %self.app, %error, "systemd did not read its unit files again");
        }
    }

    /// The point of no return, on disk before it is passed.
    fn journal(
        &mut self,
        desired: &DesiredApp,
        rendered: &Rendered,
        observed: &Observed,
        steps: Vec<Step>,
        interrupted: Option<Activation>,
    ) -> Result<GateTimes, StepFailure> {
        let changing = !steps.is_empty();
        let stage = if changing { Stage::Switching } else { Stage::Gating };
        let units: Vec<UnitName> = steps.iter().filter_map(|step| run_by(&step.action, rendered)).collect();
        let files: Vec<AbsPath> = steps.iter().filter_map(|step| written_by(&step.action, rendered)).collect();
        self.ledger.expect(units, files);
        let there = |name: &UnitName| observed.units.get(name).filter(|state| !state.fragment_path.is_empty());
        self.shared.standings.forget(&self.app);
        self.ledger.claim_containers(rendered);
        self.ledger.claim_instances(rendered, |name| there(name).map(AdoptedUnit::from));
        let strategy = &desired.spec.strategy;
        let deadline = strategy.healthy_deadline.as_duration();
        let now = Moment::now();
        let passed = interrupted.map_or(Duration::ZERO, |activation| now.since(&activation.switched(), deadline));
        // Many that go on after a restart wait for each other.
        let passed = passed.saturating_sub(self.held.waited());
        self.held.begin_to_count();
        // By the clocks of today: they may have been set, or have begun anew with the host.
        let switched = now.before(passed);
        let since_unix_ms = switched.unix_ms;
        if let Some(activation) = &mut self.ledger.activation {
            activation.stage = stage;
            activation.switched_unix_ms = Some(since_unix_ms);
            activation.switched_at = Some(switched);
            activation.touched |= changing;
        }
        self.keep()?;
        // While a rollout is paused no deadline runs, also not over a restart of the agent.
        let left = if desired.paused { deadline } else { deadline.saturating_sub(passed) };
        Ok(GateTimes {
            min_healthy: strategy.min_healthy_time.as_duration(),
            left,
            waited: Duration::ZERO,
            since_unix_ms,
        })
    }

    async fn prove(
        &mut self,
        desired: &DesiredApp,
        rendered: &Rendered,
        times: GateTimes,
        observed: &Observed,
        retire: &[Step],
    ) -> End {
        self.ledger.switched(rendered);
        if let Err(failed) = self.keep() {
            return self.give_up(desired, failed).await;
        }
        let show = |healthy_for_ms, waiting_for| Phase::Gating { healthy_for_ms, waiting_for };
        self.shared.board.phase(&self.app, show(0, Vec::new()));
        match self.gate(rendered, desired, times, show).await {
            GateEnd::Superseded => End::Superseded,
            GateEnd::Failed(failed) => self.give_up(desired, failed).await,
            GateEnd::Healthy => {
                match self.retire(retire, rendered, observed, desired, None).await {
                    Ok(()) => {}
                    Err(Stop::Superseded) => return End::Superseded,
                    Err(Stop::Failed(failed)) => return self.give_up(desired, failed).await,
                }
                let uncommitted = self.ledger.clone();
                self.ledger.commit(desired, rendered, now_unix_ms());
                self.ledger.untold = true;
                if let Err(failed) = self.keep() {
                    // Only what is on disk is committed: going back leads to the release before.
                    self.ledger = uncommitted;
                    return self.give_up(desired, failed).await;
                }
                self.tell(EventKind::ActivationCommitted, format!("{} is healthy and committed", desired.release));
                self.clean_up();
                self.let_go(desired).await;
                // The parts first: who reads "healthy" reads what it was seen by.
                self.refresh(desired).await;
                self.shared.say(&self.ledger, Some(desired));
                End::LookedAt
            }
        }
    }

    /// Nothing of this activation is in effect: the release before goes on, or comes back if this activation or one in
    /// between had touched it.
    pub(super) async fn give_up(&mut self, desired: &DesiredApp, failed: StepFailure) -> End {
        let failure = self.failure(desired, failed);
        if self.ledger.activation.as_ref().is_some_and(|activation| activation.touched) {
            return self.revert(desired, failure).await;
        }
        let to = self.ledger.current.as_ref().map(|current| current.release.clone());
        let hooks = self.ledger.activation.as_ref().is_some_and(|activation| !activation.hooks.is_empty());
        let touched = if hooks { "nothing is touched but by its hooks that have run" } else { "nothing was touched" };
        self.tell(EventKind::ActivationReverted, format!("{} failed, {touched}: {}", desired.release, failure.cause));
        let phase = Phase::Reverted { to, cause: failure.cause.clone() };
        self.settle_failed(desired, failure, phase).await;
        End::Settled
    }

    /// The artifact of an activation that has ended. An agent that was interrupted behind unpacking still has it.
    async fn let_go(&self, desired: &DesiredApp) {
        if let Some(artifact) = &desired.spec.artifact {
            self.shared.parts.blobs.discard(&self.app, artifact.digest).await;
        }
    }

    /// Records a failure for good: this release is not tried again for this rollout.
    pub(super) async fn settle_failed(
        &mut self,
        desired: &DesiredApp,
        failure: drover_proto::status::Failure,
        phase: Phase,
    ) {
        self.let_go(desired).await;
        tracing::error!(app = %self.app, release = %desired.release, code = %failure.code, step = failure.step, "{}", failure.cause);
        self.ledger.activation = None;
        self.ledger.forget_allotted();
        self.ledger.failed_attempt = Some((desired.release.clone(), desired.rollout));
        self.ledger.failure = Some(failure);
        self.ledger.settled = Some(Settled { release: desired.release.clone(), rollout: desired.rollout, phase });
        if let Err(failed) = self.keep() {
            tracing::error!(app = %self.app, cause = failed.cause, "the failure is not on disk; it is tried again after a restart");
            self.shared.remember(&self.ledger);
        }
        self.shared.say(&self.ledger, Some(desired));
    }
}

/// The first thing that forbids the plan, with the others as evidence.
pub(super) fn refuse(plan: &Plan) -> Result<(), StepFailure> {
    let Some(first) = plan.refusals.first() else { return Ok(()) };
    let all = plan.refusals.iter().map(|refusal| refusal.message.clone()).collect();
    Err(StepFailure::new(first.code, "plan", first.message.clone()).with("refused", all))
}

/// The steps from the switch to the gate. An activation that was interrupted in the gate (`gating`) had carried all of them out,
/// hooks too: if the host is still so that only hooks are left, they have run.
fn left_to_do(steps: &[Step], gating: bool) -> Vec<Step> {
    let hook = |step: &Step| matches!(step.action, Action::Hook { .. });
    let hooks_only = steps.iter().all(hook);
    steps.iter().filter(|step| !(gating && hooks_only && hook(step))).cloned().collect()
}

/// The unit of the release that a step makes run.
fn run_by(action: &Action, rendered: &Rendered) -> Option<UnitName> {
    match action {
        Action::Start(unit) | Action::Restart(unit) if rendered.units.contains_key(unit) => Some(unit.clone()),
        _ => None,
    }
}

/// The file of the manifest that a step writes.
fn written_by(action: &Action, rendered: &Rendered) -> Option<AbsPath> {
    match action {
        Action::WriteFile { path, .. } if rendered.file(path).is_some_and(|f| f.kind == FileKind::Plain) => {
            Some(path.clone())
        }
        _ => None,
    }
}
