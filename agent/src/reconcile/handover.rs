//! What is replaced by another instance beside it: its port chosen and kept for it before anything else is done, and the new
//! instance seen healthy before anything is sent to it. Beside `reconcile`; `handover` chooses, `plan` says the steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};

use drover_proto::{
    code::Code,
    duration::Span,
    plan::Step,
    port::{Port, Transport},
    spec::DesiredApp,
    status::Phase,
};
use tokio::time::Instant;

use super::{
    Work,
    revert::MIN_HEALTHY,
    steps::{GateTimes, Setting, Stop},
    turns::Turn,
};
use crate::{
    check::{RenderedCheck, RenderedProbe},
    exec::{StepFailure, Undo},
    gate::GateEnd,
    handover::{Choice, NoChoice},
    host::listeners,
    ledger::{AppLedger, Stage},
    observe::Observed,
    plan::is_read_by,
    render::{Instance, Ports, RenderError, Rendered, RenderedHandover, render},
};

/// How an instance is asked whether it accepts connections, beside the manifest's checks.
const ACCEPTS: &str = "accepts-connections";
const ACCEPTS_EVERY: Span = Span::from_ms(500);
const ACCEPTS_WITHIN: Span = Span::from_secs(5);

impl From<NoChoice> for StepFailure {
    fn from(error: NoChoice) -> Self {
        match error {
            NoChoice::Render(error) => Self::new(Code::Invalid, "render", error.to_string()),
            error @ NoChoice::NoPort(_) => Self::new(Code::PortTaken, "plan", error.to_string()),
        }
    }
}

impl Work<'_> {
    /// A release as it would be here: with the ports that its instances would get.
    pub(super) async fn sketched(&self, desired: &DesiredApp) -> Result<Rendered, StepFailure> {
        let listening = self.listening(desired).await?;
        let apps = self.shared.all();
        self.chosen(desired, &apps, listening)
    }

    /// The same, and the ports are kept for it from now on, also over the end of the agent.
    pub(super) async fn rendered(&mut self, desired: &DesiredApp) -> Result<Rendered, StepFailure> {
        let listening = self.listening(desired).await?;
        let rendered = {
            // Two apps that choose at the same time would choose the same.
            let mut apps = self.shared.apps.lock().unwrap_or_else(PoisonError::into_inner);
            let rendered = self.chosen(desired, &apps, listening)?;
            if rendered.handovers.is_empty() {
                return Ok(rendered);
            }
            self.ledger.allot(&rendered);
            apps.insert(self.app.clone(), self.ledger.clone());
            rendered
        };
        self.keep()?;
        Ok(rendered)
    }

    fn chosen(
        &self,
        desired: &DesiredApp,
        apps: &BTreeMap<drover_proto::name::AppName, AppLedger>,
        listening: BTreeSet<u16>,
    ) -> Result<Rendered, StepFailure> {
        let others = apps.values().filter(|ledger| ledger.app != self.app).flat_map(AppLedger::instance_ports);
        let (layout, range) = (&self.shared.parts.layout, &self.shared.parts.ports);
        let taken = listening.into_iter().chain(others).collect();
        let choice = Choice { desired, facts: &self.facts, layout, ledger: &self.ledger, taken: &taken, range };
        let ports = choice.ports()?;
        render(desired, &self.facts, layout, &ports).map_err(|error| NoChoice::Render(error).into())
    }

    /// Where something listens in the range of the ports that are allotted, and is no instance of this app.
    async fn listening(&self, desired: &DesiredApp) -> Result<BTreeSet<u16>, StepFailure> {
        if desired.spec.handovers().next().is_none() {
            return Ok(BTreeSet::new());
        }
        let port = |number| Port { address: None, number, transport: Transport::Tcp };
        let ports: BTreeSet<Port> = self.shared.parts.ports.ports().map(port).collect();
        let failed = |error: String| StepFailure::new(Code::Internal, "observe", format!("open ports: {error}"));
        let found = tokio::task::spawn_blocking(move || listeners::on(&ports)).await;
        let found = found.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        let own = |it: &listeners::Listener| {
            it.owners.iter().any(|owner| self.ledger.has_instance(owner.unit.as_deref(), it.port.number))
        };
        Ok(found.into_iter().filter(|it| !own(it)).map(|it| it.port.number).collect())
    }

    /// The committed release as this host has it.
    pub(super) fn committed(&self, current: &DesiredApp) -> Result<Rendered, RenderError> {
        render(current, &self.facts, &self.shared.parts.layout, &self.ledger.live_ports())
    }

    /// The same with the ports of `beside`: what differs from that is not only the port.
    pub(super) fn previous_beside(&self, beside: Option<&Rendered>) -> Option<Rendered> {
        let current = self.ledger.current.as_ref()?;
        let of = beside.iter().flat_map(|rendered| &rendered.handovers);
        let ports: Ports =
            self.ledger.live_ports().into_iter().chain(of.map(|(name, its)| (name.clone(), its.port))).collect();
        render(current, &self.facts, &self.shared.parts.layout, &ports).ok()
    }

    /// Waits until a new instance has been healthy for long enough; nothing is sent to it before. `Err` also when it is too
    /// late for that.
    pub(super) async fn prove_beside(&mut self, instance: &str, setting: &Setting<'_>) -> Result<(), Stop> {
        let found = setting.wanted.and_then(|wanted| {
            let handover = wanted.handovers.values().find(|handover| handover.instance.to_string() == instance)?;
            Some((alone(wanted, handover)?, handover.clone(), wanted))
        });
        let (Some((alone, handover, wanted)), Some(asked)) = (found, setting.asked) else {
            let cause = format!("the plan has a step for {instance}, which is no instance of the release");
            return Err(Stop::Failed(StepFailure::new(Code::Internal, "plan", cause)));
        };
        let reverting = match self.ledger.activation.as_ref().map(|activation| &activation.stage) {
            Some(Stage::Reverting(failure)) => Some(failure.cause.clone()),
            _ => None,
        };
        let strategy = &wanted.strategy;
        let min_healthy = strategy.min_healthy_time.as_duration();
        let began = self.ledger.activation.as_ref().map_or(0, |activation| activation.switched().unix_ms);
        let times = GateTimes {
            min_healthy: if reverting.is_some() { min_healthy.min(MIN_HEALTHY) } else { min_healthy },
            left: (setting.jobs_until + self.held.waited()).saturating_duration_since(Instant::now()),
            waited: Duration::ZERO,
            since_unix_ms: began,
        };
        let show = |healthy_for_ms: u64, waiting_for: Vec<String>| match &reverting {
            Some(cause) => Phase::Reverting { cause: cause.clone() },
            None if waiting_for.is_empty() => {
                let seconds = healthy_for_ms as f64 / 1000.0;
                Phase::Activating {
                    step: format!("{instance}, which serves nobody yet, is healthy for {seconds:.1} s"),
                }
            }
            None => Phase::Activating { step: format!("{instance}: waiting for {}", waiting_for.join(", ")) },
        };
        match self.gate(&alone, asked, times, show).await {
            GateEnd::Healthy => {}
            GateEnd::Superseded => return Err(Stop::Superseded),
            GateEnd::Failed(failed) => return Err(Stop::Failed(failed)),
        }
        if let Some(fingerprint) = wanted.fingerprint_of(&handover.instance) {
            self.ledger.proved(&handover.instance, fingerprint);
        }
        self.keep()?;
        // Others were at work meanwhile.
        self.shared.turns.take(Some(Turn::Switch), &mut self.held).await;
        Ok(self.still_free(wanted)?)
    }
}

/// For the jobs behind the gate: units have their own time to stop.
const JOBS: Duration = Duration::from_secs(180);

impl Work<'_> {
    /// What served before goes, once everything has been seen healthy without it: it may finish what it has begun.
    pub(super) async fn retire(
        &mut self,
        steps: &[Step],
        rendered: &Rendered,
        observed: &Observed,
        asked: &DesiredApp,
        phase: Option<fn(String) -> Phase>,
    ) -> Result<(), Stop> {
        for step in steps {
            let setting = Setting {
                wanted: Some(rendered),
                observed,
                jobs_until: Instant::now() + JOBS,
                asked: Some(asked),
                phase,
            };
            self.step(step, &setting, &mut Undo::default()).await?;
        }
        Ok(())
    }
}

/// Of a release only one instance, with what it reads and the checks that ask it.
fn alone(wanted: &Rendered, handover: &RenderedHandover) -> Option<Rendered> {
    wanted.fingerprint_of(&handover.instance)?;
    let mut alone = wanted.clone();
    alone.containers.retain(|name, _| handover.instance == Instance::Container(name.clone()));
    alone.units.retain(|name, _| handover.instance == Instance::Unit(name.clone()));
    alone.files.retain(|file| is_read_by(wanted, &handover.instance, &file.path));
    alone.checks.retain(|name, _| handover.checks.contains(name));
    let probe = RenderedProbe::Tcp(format!("127.0.0.1:{}", handover.port));
    let accepts = RenderedCheck::new(probe, ACCEPTS_EVERY, ACCEPTS_WITHIN);
    alone.checks.insert(ACCEPTS.parse().ok()?, accepts);
    Some(alone)
}
