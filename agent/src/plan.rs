//! Pure: what to do with one app on this host, step by step, with reasons, or why not to touch it. No clock, no I/O.
//!
//! `reconcile` carries the very value out that `drover plan` prints. The order keeps one promise: nothing that works is
//! touched before everything that replaces it has been fetched, built and checked.

mod adopted;
pub(crate) mod compose;
pub(crate) mod containers;
mod diff;
mod files;
mod handover;
mod needs;
mod preflight;
mod units;

use std::collections::BTreeMap;

use drover_proto::{
    app::HookPoint,
    code::Code,
    digest::Digest,
    name::{AbsPath, AppName, ContainerName, ProjectName, UnitName, UpstreamName},
    plan::{Action, Plan, Reason, Refusal, Step},
};

use crate::{
    ledger::{AppLedger, OnceState},
    observe::Observed,
    render::{Layout, Rendered, RenderedHook},
};

/// What planning looks at.
pub struct Input<'a> {
    /// The app.
    pub app: &'a AppName,
    /// The release; `None` removes the app.
    pub wanted: Option<&'a Rendered>,
    /// The committed release, for reasons and masked diffs.
    pub previous: Option<&'a Rendered>,
    /// What is there.
    pub observed: &'a Observed,
    /// What this app did here.
    pub ledger: &'a AppLedger,
    /// What other apps own.
    pub others: &'a Owners,
    /// Which directories are drover's own.
    pub layout: &'a Layout,
}

/// What the other apps of this host own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Owners {
    /// Files.
    pub files: BTreeMap<AbsPath, AppName>,
    /// Units.
    pub units: BTreeMap<UnitName, AppName>,
    /// Containers.
    pub containers: BTreeMap<ContainerName, AppName>,
    /// Upstreams of nginx.
    pub upstreams: BTreeMap<UpstreamName, AppName>,
    /// Compose projects.
    pub projects: BTreeMap<ProjectName, AppName>,
}

impl Owners {
    /// What all apps but `app` own.
    #[must_use]
    pub fn beside(app: &AppName, ledgers: &BTreeMap<AppName, AppLedger>) -> Self {
        let mut owners = Self::default();
        for ledger in ledgers.values().filter(|ledger| ledger.app != *app) {
            let name = &ledger.app;
            let files = ledger.owned_files.iter().filter(|(_, file)| !file.removed);
            owners.files.extend(files.map(|(path, _)| (path.clone(), name.clone())));
            owners.containers.extend(ledger.owned_containers.iter().map(|it| (it.clone(), name.clone())));
            owners.projects.extend(ledger.projects.keys().map(|it| (it.clone(), name.clone())));
            owners.units.extend(ledger.owned_units.keys().map(|unit| (unit.clone(), name.clone())));
            owners.upstreams.extend(ledger.handovers.keys().map(|upstream| (upstream.clone(), name.clone())));
        }
        owners
    }
}

pub(crate) use handover::is_read_by;
pub(crate) use units::{at_boot, is_done, runs};

pub(crate) fn step(action: Action, reason: Reason) -> Step {
    Step { action, reason }
}

/// Collects why not.
#[derive(Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    fn say(&mut self, code: Code, part: impl ToString, message: impl Into<String>) {
        self.0.push(Refusal { code, part: part.to_string(), message: message.into() });
    }
}

/// Plans one app.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let mut refusals = Refusals::default();
    let mut files = files::changes(input, &mut refusals);
    let mut units = units::changes(input, &files, &mut refusals);
    let mut containers = containers::changes(input, &mut refusals);
    let changes = handover::Changes { files: &mut files, units: &mut units, containers: &mut containers };
    let handover = handover::split(input, changes, &mut refusals);
    let projects = compose::changes(input, &mut refusals);
    let mut steps = Vec::new();
    if let Some(wanted) = input.wanted {
        steps.extend(needs::steps(wanted, input, &mut refusals));
        steps.extend(needs::tree(wanted, input.observed));
        steps.extend(containers.ready);
        steps.extend(projects.ready);
    }
    let staged = steps.len();
    steps.extend(files.validate_staged);
    let before_switch = steps.len();
    steps.extend(handover.beside);
    steps.extend(files.write);
    steps.extend(files.remove_checked);
    steps.extend(files.validate_in_place);
    steps.extend(units.stop);
    steps.extend(containers.remove);
    steps.extend(projects.remove);
    steps.extend(files.remove);
    steps.extend(units.enable);
    // Once for all of them: each costs systemd a look at every unit of the host.
    let enabled = |step: &&Step| matches!(step.action, Action::Enable(_));
    if units.daemon_reload || files.units_changed {
        steps.push(step(Action::DaemonReload, Reason::UnitChanged));
    } else if let Some(enabled) = steps.iter().find(enabled) {
        steps.push(step(Action::DaemonReload, enabled.reason.clone()));
    }
    // With its new settings before it is asked to run anything: they are those of containers that are made afterwards.
    let (engine, units): (Vec<Step>, Vec<Step>) = units.run.into_iter().partition(is_of_engine);
    steps.extend(engine);
    // What units of the app ask of them is there when they come up.
    steps.extend(containers.run);
    steps.extend(projects.run);
    steps.extend(units);
    let from = input.ledger.current.as_ref().map(|current| current.release.clone());
    let to = input.wanted.map(|wanted| wanted.release.clone());
    if let Some(wanted) = input.wanted {
        if !steps.is_empty() || from != to {
            steps.extend(hooks(wanted, input, HookPoint::AfterSwitch));
            let before = hooks(wanted, input, HookPoint::BeforeSwitch);
            steps.splice(before_switch..before_switch, before);
        }
        steps.push(gate(wanted));
        steps.extend(handover.retire);
        steps.push(step(Action::Commit, Reason::ProveHealth));
    }
    debug_assert!(staged <= before_switch, "staging comes before the switch");
    let mut warnings = Refusals::default();
    if let Some(wanted) = input.wanted {
        preflight::judge(wanted, input, &steps, &mut refusals, &mut warnings);
    }
    let (refusals, warnings) = (refusals.0, warnings.0);
    Plan { app: input.app.clone(), from, to, steps, refusals, warnings, made_unix_ms: None }
}

/// Whether it is about Docker itself.
fn is_of_engine(step: &Step) -> bool {
    const ENGINE: [&str; 3] = ["containerd.service", "docker.service", "docker.socket"];
    match &step.action {
        Action::Start(unit) | Action::Restart(unit) | Action::Reload(unit) => ENGINE.contains(&unit.as_str()),
        _ => false,
    }
}

/// Those that run on one host only run where the host may, once for its rollout, and for something new: a migration is no
/// part of starting a unit again, or of another timeout.
fn hooks(wanted: &Rendered, input: &Input<'_>, when: HookPoint) -> Vec<Step> {
    let done = |name: &str| input.ledger.once(wanted.rollout, &wanted.release, name) == Some(OnceState::Finished);
    let may = wanted.run_once && input.previous.is_none_or(|previous| is_news(previous, wanted));
    let is_due = |hook: &RenderedHook| !hook.run_once || (may && !done(&hook.name));
    let hooks = wanted.hooks.iter().enumerate().filter(|(_, hook)| hook.when == when && is_due(hook));
    hooks
        .map(|(index, hook)| {
            let (run, user, name) = (hook.run.clone(), hook.user.clone(), Some(hook.name.clone()));
            let action = Action::Hook { when, index, run, user, name, run_once: hook.run_once };
            step(action, Reason::Declared)
        })
        .collect()
}

/// Whether a release has anything on a host that the committed one has not. Not by what is there: in the middle of an
/// activation the new one may be there already.
fn is_news(previous: &Rendered, wanted: &Rendered) -> bool {
    let tree = |rendered: &Rendered| rendered.tree.as_ref().map(|tree| tree.key.clone());
    let files = |rendered: &Rendered| -> BTreeMap<AbsPath, Digest> {
        rendered.files.iter().map(|file| (file.path.clone(), file.digest)).collect()
    };
    let units = |rendered: &Rendered| -> BTreeMap<UnitName, Digest> {
        rendered.units.iter().map(|(name, unit)| (name.clone(), unit.fingerprint)).collect()
    };
    let made_of = |rendered: &Rendered| -> BTreeMap<ContainerName, Digest> {
        rendered.containers.iter().map(|(name, container)| (name.clone(), container.fingerprint)).collect()
    };
    tree(previous) != tree(wanted)
        || files(previous) != files(wanted)
        || units(previous) != units(wanted)
        || made_of(previous) != made_of(wanted)
        || compose::differ(previous, wanted)
        || previous.hooks != wanted.hooks
}

fn gate(wanted: &Rendered) -> Step {
    let action = Action::Gate {
        units: wanted.started().map(|(name, _)| name.clone()).collect(),
        containers: wanted.containers.keys().cloned().collect(),
        projects: wanted.compose.keys().cloned().collect(),
        checks: wanted.checks.keys().cloned().collect(),
        min_healthy_time: wanted.strategy.min_healthy_time,
        healthy_deadline: wanted.strategy.healthy_deadline,
    };
    step(action, Reason::ProveHealth)
}

/// Whether a refusal keeps a host from going back, too. What has changed around a release that ran here before is seen by
/// its steps and its gate: refusing it would leave the host with nothing.
#[must_use]
pub fn forbids_going_back(code: Code) -> bool {
    !matches!(code, Code::Systemd | Code::Docker | Code::PortTaken | Code::Disk | Code::NoSuchUser)
}

/// A leg of an activation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leg {
    /// Host needs, and the new release beside the one that runs.
    Ready,
    /// What may still say no before anything that runs is touched.
    Check,
    /// From here on what runs is touched.
    Switch,
}

/// Which leg of an activation a step belongs to. Without a wildcard: a new action is a decision here.
#[must_use]
pub fn leg(action: &Action) -> Leg {
    match action {
        Action::InstallPackages(_)
        | Action::CreateUser(_)
        | Action::MakeSwap { .. }
        | Action::EnsureDirectory(_)
        | Action::Fetch { .. }
        | Action::Unpack { .. }
        | Action::Build { .. }
        | Action::MakeNetwork(_)
        | Action::PullImage(_)
        | Action::BuildProject(_) => Leg::Ready,
        Action::Validate { staged: true, .. } | Action::Hook { when: HookPoint::BeforeSwitch, .. } => Leg::Check,
        Action::Hook { when: HookPoint::AfterSwitch, .. }
        | Action::Validate { staged: false, .. }
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
        | Action::Gate { .. }
        | Action::Commit => Leg::Switch,
    }
}

/// The steps up to the gate, and those between gate and commit: what served before goes only then.
#[must_use]
pub fn around_gate(steps: &[Step]) -> (&[Step], &[Step]) {
    let is_gate = |step: &Step| matches!(step.action, Action::Gate { .. });
    let Some(gate) = steps.iter().position(is_gate) else { return (steps, &[]) };
    let end = steps.iter().position(|step| step.action == Action::Commit).unwrap_or(steps.len());
    (&steps[..gate], steps.get(gate + 1..end).unwrap_or(&[]))
}

/// The index of the first step that touches what runs; everything before only prepares.
#[must_use]
pub fn switch_at(steps: &[Step]) -> usize {
    steps.iter().position(|step| leg(&step.action) == Leg::Switch).unwrap_or(steps.len())
}

#[cfg(test)]
pub(crate) mod tests;
