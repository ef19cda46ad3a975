//! Waits until a release has been healthy without a break for long enough, or says in one sentence why it was not. Called
//! by `reconcile` after the switch; `verdict` and `stretch` decide, this looks.

mod checks;
pub mod compose;
pub mod containers;
mod stretch;
pub mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_proto::{
    code::Code,
    digest::Digest,
    duration::Span,
    name::{AbsPath, ContainerName, UnitName},
};
use tokio::time::{Instant, MissedTickBehavior};

use self::{
    checks::Checks,
    stretch::{Look, Problem, Severity, Stretch, Verdict},
    verdict::{Restarts, Standing},
};
use crate::{
    check::Asker,
    exec::StepFailure,
    host::{
        docker::Engine,
        files::{self, FileState},
        journal,
        systemd::{Systemd, UnitState},
    },
    ledger::Projects,
    render::Rendered,
};

const POLL: Duration = Duration::from_millis(400);
const FILES_EVERY: Duration = Duration::from_secs(2);
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// systemd has given up on a unit for so long: waiting on is no use.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// A unit is simply not running for so long.
const ENDED_FOR: Duration = Duration::from_secs(3);
/// Lines of a unit's journal that go up as evidence.
const EVIDENCE_LINES: usize = 20;
/// Units whose journal goes up when no single one is to blame.
const EVIDENCE_UNITS: usize = 3;

/// What the world outside says about this gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    /// Go on.
    On,
    /// Go on; the deadline stands still.
    Paused,
    /// Something newer is wanted.
    Superseded,
}

/// How it ended.
#[derive(Debug)]
pub enum GateEnd {
    /// Healthy for long enough.
    Healthy,
    /// Not in time, or hopeless.
    Failed(StepFailure),
    /// Stopped for something newer.
    Superseded,
}

/// One gate.
pub struct Gate<'a> {
    /// What must be healthy.
    pub wanted: &'a Rendered,
    /// The critical alerts that fire now and count here: the name and a sentence of each.
    pub alerts: &'a (dyn Fn() -> Vec<(String, String)> + Send + Sync),
    /// systemd.
    pub systemd: &'a Systemd,
    /// Docker.
    pub engine: &'a Engine,
    /// Asks the checks. One for the whole host: what hangs for one gate is not asked again by the next.
    pub asker: &'a Asker,
    /// What was brought up of the release's compose projects.
    pub brought: &'a Projects,
    /// Without a break.
    pub min_healthy: Duration,
    /// What is left of the deadline.
    pub left: Duration,
    /// How long units have had already, while their jobs were waited for.
    pub waited: Duration,
    /// The journal before this is of no interest; unix ms.
    pub since_unix_ms: i64,
}

impl Gate<'_> {
    /// Waits. `course` is asked at every look; `progress` hears at most once a second how long it has been healthy, in
    /// ms, and what is missing.
    pub async fn run(&self, course: impl Fn() -> Course, mut progress: impl FnMut(u64, Vec<String>)) -> GateEnd {
        let begun = Instant::now();
        let checks = Checks::begin(&self.wanted.checks, self.asker);
        let mut stretch = Stretch::new(u64::try_from(self.min_healthy.as_millis()).unwrap_or(u64::MAX));
        let mut watch =
            Watch { begun, given_up: BTreeMap::new(), restarts: BTreeMap::new(), files: Vec::new(), files_at: None };
        let (mut left, mut last_look, mut said) = (self.left, begun, None::<Instant>);
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            poll.tick().await;
            let now = Instant::now();
            match course() {
                Course::Superseded => return GateEnd::Superseded,
                Course::Paused => {}
                Course::On => left = left.saturating_sub(now - last_look),
            }
            last_look = now;
            let units = self.units().await;
            let containers = containers::seen(self.wanted, self.engine).await;
            let projects = compose::seen(self.wanted, self.engine).await;
            if watch.files_at.is_none_or(|at| now - at >= FILES_EVERY) {
                watch.files_at = Some(now);
                watch.files = self.files().await;
            }
            let (mut look, mut hopeless) = self.look(&units, &checks, &mut watch, now);
            hopeless |= self.look_at(&containers, &mut look, &mut watch, now);
            let wrong = |(of, sentence)| Problem { severity: Severity::Wrong, of, sentence };
            look.problems.extend((self.alerts)().into_iter().map(wrong));
            for (of, standing) in compose::standings(self.brought, &projects) {
                hopeless |= watch.judged(&of, standing, &mut look, now);
            }
            let at_ms = u64::try_from((now - begun).as_millis()).unwrap_or(u64::MAX);
            match stretch.see(at_ms, look) {
                Verdict::Healthy => return GateEnd::Healthy,
                Verdict::Going { healthy_for_ms, waiting_for } => {
                    if said.is_none_or(|said| now - said >= PROGRESS_EVERY) {
                        said = Some(now);
                        progress(healthy_for_ms, waiting_for);
                    }
                }
            }
            if hopeless || left.is_zero() {
                let seen = LookedAt { units: &units, containers: &containers, projects: &projects, checks: &checks };
                return GateEnd::Failed(self.failure(self.waited + (now - begun), stretch.cause(), seen).await);
            }
        }
    }

    async fn units(&self) -> BTreeMap<UnitName, Result<UnitState, String>> {
        let mut units = BTreeMap::new();
        for (name, _) in self.wanted.started().filter(|(name, _)| !name.is_template()) {
            units.insert(name.clone(), self.systemd.unit(name).await.map_err(|error| error.to_string()));
        }
        units
    }

    /// One look at everything; true = waiting on is no use.
    fn look(
        &self,
        units: &BTreeMap<UnitName, Result<UnitState, String>>,
        checks: &Checks,
        watch: &mut Watch,
        now: Instant,
    ) -> (Look, bool) {
        let mut look = Look::default();
        let mut hopeless = false;
        for (name, state) in units {
            let standing = match state {
                Ok(state) => {
                    let restarts = watch.restarts.entry(name.clone()).or_default();
                    if let Some(sentence) = restarts.see(name, state, now - watch.begun) {
                        hopeless = true;
                        look.problems.push(Problem { severity: Severity::Broken, of: name.to_string(), sentence });
                        continue;
                    }
                    verdict::judge(name, state)
                }
                Err(error) => Standing::Waiting(error.clone()),
            };
            hopeless |= watch.judged(name.as_str(), standing, &mut look, now);
        }
        let answers = checks.answers();
        for name in self.wanted.checks.keys() {
            let problem = |severity, sentence| Problem { severity, of: format!("check {name}"), sentence };
            match answers.get(name) {
                Some(answer) if answer.ok => {
                    look.identity.insert(format!("check {name}"), answer.failures.to_string());
                }
                Some(answer) => {
                    look.problems.push(problem(Severity::Wrong, format!("check {name}: {}", answer.text)));
                }
                None => look.problems.push(problem(Severity::Waiting, format!("check {name} has not answered yet"))),
            }
        }
        look.problems.extend(watch.files.iter().cloned());
        (look, hopeless)
    }

    /// The same at the containers.
    fn look_at(&self, containers: &containers::Seen, look: &mut Look, watch: &mut Watch, now: Instant) -> bool {
        let mut hopeless = false;
        for (name, wanted) in &self.wanted.containers {
            let standing = match containers.get(name) {
                Some(Ok(state)) => containers::judge(name, wanted, state.as_ref()),
                Some(Err(error)) => Standing::Waiting(error.clone()),
                None => continue,
            };
            hopeless |= watch.judged(&of_container(name), standing, look, now);
        }
        hopeless
    }

    async fn files(&self) -> Vec<Problem> {
        let wrong = |of: &str, what: &str| Problem {
            severity: Severity::Wrong,
            of: of.to_owned(),
            sentence: format!("{of} {what}"),
        };
        let look = move |(path, wanted): (AbsPath, Digest)| match files::state(&path) {
            Ok(FileState::File { digest, .. }) if digest == Some(wanted) => None,
            Ok(_) => Some(wrong(path.as_str(), "is not as it was written")),
            Err(error) => Some(wrong(path.as_str(), &format!("cannot be read: {error}"))),
        };
        let wanted: Vec<_> = self.wanted.files.iter().map(|file| (file.path.clone(), file.digest)).collect();
        let looked = tokio::task::spawn_blocking(move || wanted.into_iter().filter_map(look).collect()).await;
        looked.unwrap_or_else(|panic| vec![wrong("the app's files", &format!("cannot be looked at: {panic}"))])
    }

    async fn failure(&self, waited: Duration, cause: Option<Problem>, seen: LookedAt<'_>) -> StepFailure {
        let LookedAt { units, containers, projects, checks } = seen;
        let deadline = self.wanted.strategy.healthy_deadline;
        let culprit = cause.as_ref().and_then(|problem| units.keys().find(|unit| unit.as_str() == problem.of));
        let container =
            cause.as_ref().and_then(|problem| containers.keys().find(|name| of_container(name) == problem.of));
        let service = cause.as_ref().map(|problem| problem.of.clone()).filter(|of| of.starts_with("service "));
        let blamed: BTreeSet<&UnitName> = match culprit {
            Some(unit) => BTreeSet::from([unit]),
            None if container.is_some() || service.is_some() => BTreeSet::new(),
            None => units.keys().take(EVIDENCE_UNITS).collect(),
        };
        let mut failure = StepFailure::new(Code::Gate, "gate", String::new());
        let severity = cause.as_ref().map(|problem| problem.severity);
        let mut sentence = cause.map(|problem| problem.sentence).unwrap_or_else(|| {
            format!("not healthy for {} without a break within {deadline}", self.wanted.strategy.min_healthy_time)
        });
        if self.left < self.min_healthy && severity.is_none_or(|severity| severity == Severity::Waiting) {
            sentence = begun_late(self.left, deadline, &sentence);
        }
        for unit in blamed {
            let lines = journal::tail(unit, self.since_unix_ms, EVIDENCE_LINES).await;
            if let Some(Ok(state)) = units.get(unit) {
                if culprit == Some(unit) {
                    sentence = sharpened(unit, state, sentence, &lines, waited);
                }
                failure = failure.with(format!("unit {unit}"), vec![verdict::line(state), verdict::ended_line(state)]);
            }
            failure = failure.with(format!("journal of {unit}"), lines);
        }
        if culprit.is_none() {
            let blamed = |name: &ContainerName| container.map_or(service.is_none(), |culprit| culprit == name);
            let since = self.since_unix_ms;
            failure = containers::evidence(failure, containers, blamed, since, self.engine).await;
            let blamed = |name: &str| service.as_ref().map_or(container.is_none(), |culprit| culprit == name);
            failure = compose::evidence(failure, projects, blamed, since, self.engine).await;
        }
        for (name, answer) in checks.answers().into_iter().filter(|(_, answer)| !answer.ok || answer.failures > 0) {
            failure = failure.with(format!("check {name}"), std::iter::once(answer.text).chain(answer.body).collect());
        }
        failure.cause = sentence;
        failure
    }
}

/// What is kept from look to look.
struct Watch {
    begun: Instant,
    restarts: BTreeMap<UnitName, Restarts>,
    given_up: BTreeMap<String, Instant>,
    files: Vec<Problem>,
    files_at: Option<Instant>,
}

/// What the last look saw, for evidence.
#[derive(Clone, Copy)]
struct LookedAt<'a> {
    units: &'a BTreeMap<UnitName, Result<UnitState, String>>,
    containers: &'a containers::Seen,
    projects: &'a compose::Seen,
    checks: &'a Checks,
}

fn of_container(name: &ContainerName) -> String {
    format!("container {name}")
}

impl Watch {
    /// Notes how one stands; true = waiting on is no use.
    fn judged(&mut self, of: &str, standing: Standing, look: &mut Look, now: Instant) -> bool {
        let (severity, sentence, patience) = match standing {
            Standing::Healthy(identity) => {
                look.identity.insert(of.to_owned(), identity);
                self.given_up.remove(of);
                return false;
            }
            Standing::Waiting(sentence) => (Severity::Waiting, sentence, None),
            Standing::Broken(sentence) => (Severity::Broken, sentence, None),
            Standing::Ended(sentence) => (Severity::Broken, sentence, Some(ENDED_FOR)),
            Standing::GaveUp(sentence) => (Severity::Broken, sentence, Some(FAILED_FOR)),
        };
        look.problems.push(Problem { severity, of: of.to_owned(), sentence });
        let Some(patience) = patience else {
            self.given_up.remove(of);
            return false;
        };
        let since = *self.given_up.entry(of.to_owned()).or_insert(now);
        now - since > patience
    }
}

/// What is still waited for was given no time: what came before took all of it.
fn begun_late(left: Duration, deadline: Span, sentence: &str) -> String {
    let left = left.as_secs_f64();
    format!("the gate began with {left:.1} s left of the healthy_deadline of {deadline}: {sentence}")
}

/// Makes the sentence say more with what only shows at the end: a unit that stayed silent, an exit code that only the
/// journal still knows.
fn sharpened(unit: &UnitName, state: &UnitState, sentence: String, journal: &[String], waited: Duration) -> String {
    if state.active_state == "activating"
        && state.unit_type.starts_with("notify")
        && sentence.contains("has not reported")
    {
        return verdict::never_ready(unit, &format!("systemd waited {:.0} s", waited.as_secs_f64()));
    }
    if !sentence.contains("between two looks") {
        return sentence;
    }
    let exit = journal.iter().rev().find_map(|line| line.split_once("Main process exited, ").map(|(_, how)| how));
    match exit {
        Some(how) => format!("{unit} ended again and again (its main process: {how})"),
        None => format!("{unit} was started again while it had to stay healthy"),
    }
}

#[cfg(test)]
mod tests;
