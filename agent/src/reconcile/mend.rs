//! Puts right what is not as the committed release says, as far as `drift` says so and the budget lasts: the same steps as
//! an activation, without its phases. What cannot be put right is left as it is, and told. Beside `reconcile`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_proto::{
    app::Drift,
    code::Code,
    digest::Digest,
    event::EventKind,
    name::{AbsPath, UnitName},
    plan::{Action, Reason, Step},
};
use tokio::time::Instant;

use super::{Work, told::clock, turns::turn_of};
use crate::{
    budget::{Allowance, REPAIRS},
    drift::{self, Cure, Found, Part, Sight},
    exec::{Exec, StepFailure, Undo, describe},
    ledger::{reload_effect, unit_effect},
    observe::Observed,
    plan::{Leg, leg},
    render::{FileKind, Origin, Rendered},
    report::now_unix_ms,
};

/// For the jobs of one repair.
const JOBS: Duration = Duration::from_secs(60);
/// For fetching an artifact again before the rest of the host is looked at; the next look goes on with it.
const FETCH: Duration = Duration::from_secs(60);

/// What there is to say of parts, beside what is seen.
pub(super) type Notes = BTreeMap<Part, String>;

/// What one round of repair did.
#[derive(Default)]
struct Round {
    /// In words, by part.
    done: BTreeMap<Part, Vec<String>>,
    failed: BTreeMap<Part, String>,
    /// Puts back the files of the manifest that were written, until they have been checked.
    undo: Undo,
    /// Those, and the files of the manifest of which nothing has to be told.
    unchecked: Vec<AbsPath>,
}

impl Work<'_> {
    /// The app is at rest, and nobody is about to take it away.
    fn is_mendable(&self) -> bool {
        let wanted = self
            .specs
            .borrow()
            .as_ref()
            .is_some_and(|spec| spec.apps.contains_key(&self.app) || spec.keep.contains(&self.app));
        wanted && self.is_at_rest()
    }

    /// Looks at the committed release, and puts right what may be. Returns what is there then.
    pub(super) async fn mend(&mut self, rendered: &Rendered) -> Result<(Observed, Notes), StepFailure> {
        let (mut observed, mut plan) = self.look_again(rendered).await?;
        let Some(since) = self.since().filter(|_| self.is_mendable()) else { return Ok((observed, Notes::new())) };
        let proven = self.shared.upkeeps.with(&self.app, &since, |upkeep| upkeep.proven.clone());
        let sight = Sight { wanted: rendered, observed: &observed, plan: &plan, proven: &proven };
        let mut found = drift::find(&sight);
        let mut notes = Notes::new();
        let allowed = self.allowed(&found, &mut notes);
        if !allowed.is_empty() {
            let mut round = Round::default();
            let masked = drift::unmask(&sight, &allowed);
            for unit in &masked {
                let part = Part::Unit(unit.clone());
                match self.shared.parts.systemd.unmask(unit).await {
                    Ok(()) => round.done.entry(part).or_default().push("unmasked".to_owned()),
                    Err(error) => drop(round.failed.insert(part, error.to_string())),
                }
            }
            let mut allowed = allowed;
            if !masked.is_empty() {
                (observed, plan) = self.look_again(rendered).await?;
                // The unit file is written again as a part of that.
                let files =
                    rendered.files.iter().filter(|file| matches!(&file.kind, FileKind::Unit(u) if masked.contains(u)));
                allowed.extend(files.map(|file| Part::File(file.path.clone())));
            }
            let sight = Sight { wanted: rendered, observed: &observed, plan: &plan, proven: &proven };
            let steps = drift::steps(&sight, &allowed);
            round.unchecked = drift::settled(&sight, &allowed, &steps);
            self.put_right(rendered, &observed, &steps, &mut round).await?;
            self.tell_of(&found, round, &mut notes);
            (observed, plan) = self.look_again(rendered).await?;
            found = drift::find(&Sight { wanted: rendered, observed: &observed, plan: &plan, proven: &proven });
        }
        let failing = self.failing(rendered, &observed);
        self.tell_of_what_stays(&found, &failing, &mut notes);
        self.tell_of_jobs(&failing);
        tracing::debug!(app = %self.app, found = found.len(), steps = plan.steps.len(), "looked");
        let seen = drift::proven(rendered, &observed, &found);
        self.shared.upkeeps.with(&self.app, &since, |upkeep| upkeep.proven.extend(seen));
        for found in &found {
            if let (Cure::Start, Part::Unit(unit)) = (&found.cure, &found.part) {
                self.shared.down.ask(unit.clone());
            }
        }
        Ok((observed, notes))
    }

    /// Draws on the budget of each part for which steps help.
    fn allowed(&self, found: &[Found], notes: &mut Notes) -> BTreeSet<Part> {
        let Some(since) = self.since() else { return BTreeSet::new() };
        let repair = |found: &&Found| found.drift == Drift::Repair && found.cure == Cure::Steps;
        let wrong: Vec<&Found> = found.iter().filter(repair).collect();
        if wrong.is_empty() {
            return BTreeSet::new();
        }
        let now = now_unix_ms();
        let mut allowed = BTreeSet::new();
        let mut spent = Vec::new();
        self.shared.upkeeps.with(&self.app, &since, |upkeep| {
            for found in wrong {
                let part = &found.part;
                let attempts = upkeep.repairs.entry(part.to_string()).or_default();
                match attempts.ask(&REPAIRS, now) {
                    Allowance::Now(_) => {
                        attempts.draw(&REPAIRS, now);
                        allowed.insert(part.clone());
                    }
                    Allowance::NotBefore(at) => {
                        let pause = Duration::from_millis(u64::try_from(at - now).unwrap_or_default());
                        self.shared.looks.ask_at(self.app.clone(), Instant::now() + pause);
                        let before = self.shared.told.last(&self.app, part);
                        let why = before.map(|before| format!("{before}; ")).unwrap_or_default();
                        notes.insert(part.clone(), format!("{why}it is tried again at {}", clock(at)));
                    }
                    Allowance::SpentUntil(until) => spent.push((found, until)),
                }
            }
        });
        for (Found { part, what, .. }, until) in spent {
            let tried = format!("tried {} times: it is left as it is until {}", REPAIRS.attempts, clock(until));
            // Some of the attempts may have failed: the last cause goes before.
            let left = match self.shared.told.last(&self.app, part) {
                Some(before) if before.ends_with(&tried) => before,
                Some(before) => format!("{before}; {tried}"),
                None => tried,
            };
            if self.shared.told.is_news(&self.app, part, &left) {
                self.tell(EventKind::DriftLeft, format!("{part} {what}; {left}"));
            }
            notes.insert(part.clone(), left);
        }
        allowed
    }

    async fn put_right(
        &mut self,
        rendered: &Rendered,
        observed: &Observed,
        steps: &[(Part, Step)],
        round: &mut Round,
    ) -> Result<(), StepFailure> {
        let before = self.ledger.effects.clone();
        self.expect(rendered, steps)?;
        for (part, step) in steps {
            if round.failed.contains_key(part) {
                // It runs on with what it was started with.
                if let Action::Restart(unit) = &step.action {
                    self.take_back(&before, unit_effect(unit));
                }
                continue;
            }
            match self.carry_out(rendered, observed, step, round).await {
                Ok(()) => {
                    let words = round.done.entry(part.clone()).or_default();
                    words.extend(past(&step.action));
                    if let Action::WriteFile { path, .. } = &step.action
                        && rendered.file(path).is_some_and(|file| file.kind == FileKind::Plain)
                    {
                        round.unchecked.push(path.clone());
                    }
                }
                Err(failed) if matches!(step.action, Action::Validate { staged: false, .. }) => {
                    // It looks at all of them together: none is to blame for sure.
                    for path in std::mem::take(&mut round.unchecked) {
                        self.take_back(&before, reload_effect(&path));
                        round.failed.insert(Part::File(path), failed.cause.clone());
                    }
                    round.failed.insert(part.clone(), failed.cause);
                    if let Err(worse) = std::mem::take(&mut round.undo).put_back() {
                        tracing::error!(app = %self.app, cause = worse.cause, "what was written could not be put back");
                    }
                }
                Err(failed) => drop(round.failed.insert(part.clone(), failed.cause)),
            }
        }
        let told = steps.iter().filter(|(_, step)| matches!(step.reason, Reason::FileChanged(_))).map(|(part, _)| part);
        let unchecked = round.unchecked.iter().map(|path| Part::File(path.clone()));
        for part in told.cloned().chain(unchecked).filter(|part| !round.failed.contains_key(part)) {
            if let Part::File(path) = part
                && let Some(file) = rendered.file(&path).filter(|file| file.kind == FileKind::Plain)
            {
                self.ledger.effects.insert(reload_effect(&path), file.digest);
            }
        }
        self.keep()
    }

    /// What was expected did not come about: the ledger says what it said before.
    fn take_back(&mut self, before: &BTreeMap<String, Digest>, key: String) {
        match before.get(&key) {
            Some(effect) => drop(self.ledger.effects.insert(key, *effect)),
            None => drop(self.ledger.effects.remove(&key)),
        }
    }

    /// On disk before anything is written: what follows from it is still to be done, whatever happens to the agent.
    fn expect(&mut self, rendered: &Rendered, steps: &[(Part, Step)]) -> Result<(), StepFailure> {
        let (mut units, mut files) = (Vec::new(), Vec::new());
        for (_, step) in steps {
            match &step.action {
                Action::Restart(unit) if rendered.units.contains_key(unit) => units.push(unit.clone()),
                Action::WriteFile { path, .. } if step.reason != Reason::OwnerOrModeDiffers => {
                    files.extend(
                        rendered.file(path).filter(|file| file.kind == FileKind::Plain).map(|f| f.path.clone()),
                    );
                }
                _ => {}
            }
        }
        if units.is_empty() && files.is_empty() {
            return Ok(());
        }
        self.ledger.expect(units, files);
        self.keep()
    }

    async fn carry_out(
        &mut self,
        rendered: &Rendered,
        observed: &Observed,
        step: &Step,
        round: &mut Round,
    ) -> Result<(), StepFailure> {
        let turn = turn_of(&step.action, |unit| self.is_own(unit, Some(rendered)));
        let mut specs = self.specs.clone();
        tokio::select! {
            biased;
            _ = specs.changed(), if leg(&step.action) == Leg::Ready => {
                return Err(StepFailure::new(Code::Fetch, "fetch", "something newer was asked for"));
            }
            () = self.shared.turns.take(turn, &mut self.held) => {}
        }
        let parts = &self.shared.parts;
        let redactor = self.redactor();
        tracing::info!(app = %self.app, reason = %step.reason, "drift: {}", redactor.text(&describe(&step.action)));
        let exec = Exec {
            layout: &parts.layout,
            systemd: &parts.systemd,
            engine: &parts.engine,
            blobs: &parts.blobs,
            ledgers: &self.shared.ledgers,
            stock: &parts.stock,
            app: &self.app,
            wanted: Some(rendered),
            observed,
            jobs_until: Instant::now() + JOBS,
            redactor: &redactor,
            // Putting right what drifted has no phase to show it in.
            say: &|_| {},
        };
        let pushed = rendered.tree.as_ref().is_none_or(|tree| matches!(tree.origin, Origin::Coordinator));
        if matches!(step.action, Action::Fetch { .. }) && pushed && !parts.blobs.is_connected() {
            let cause = "the artifact is needed again, and the coordinator cannot be reached";
            return Err(StepFailure::new(Code::Fetch, "fetch", cause));
        }
        let plain = |path: &AbsPath| rendered.file(path).is_some_and(|file| file.kind == FileKind::Plain);
        let mut for_good = Undo::default();
        let undo = match &step.action {
            Action::WriteFile { path, .. } if plain(path) => &mut round.undo,
            _ => &mut for_good,
        };
        let ledger = &mut self.ledger;
        let doing = exec.step(&step.action, ledger, undo);
        let done = match &step.action {
            // Something newer does not wait for it; what has come is kept.
            Action::Fetch { .. } | Action::PullImage(_) => tokio::select! {
                done = tokio::time::timeout(FETCH, doing) => done.unwrap_or_else(|_| {
                    Err(StepFailure::new(Code::Fetch, "fetch", "it is not here yet; the next look goes on with it"))
                }),
                _ = specs.changed() => Err(StepFailure::new(Code::Fetch, "fetch", "something newer was asked for")),
            },
            _ => doing.await,
        };
        if let Action::Restart(unit) = &step.action
            && let Some(own) = rendered.units.get(unit)
        {
            // Whether it came up or not, what is started from now on is the release's.
            self.ledger.started(unit, own.fingerprint);
        }
        done.map_err(|failed| redactor.step_failure(failed))
    }

    fn tell_of(&self, found: &[Found], round: Round, notes: &mut Notes) {
        for (part, cause) in &round.failed {
            let what = found.iter().find(|found| found.part == *part).map_or("", |found| found.what.as_str());
            let left = format!("it could not be put right: {cause}");
            if self.shared.told.is_news(&self.app, part, &left) {
                self.tell(EventKind::DriftLeft, format!("{part} {what}, and {left}"));
            }
            notes.insert(part.clone(), left);
        }
        for (part, words) in round.done.iter().filter(|(part, _)| !round.failed.contains_key(part)) {
            let Some(found) = found.iter().find(|found| found.part == *part) else { continue };
            self.tell(EventKind::DriftRepaired, format!("{part} {}: {}", found.what, words.join(", ")));
        }
    }

    /// What nobody puts right is told once, as long as it stays so.
    fn tell_of_what_stays(&self, found: &[Found], failing: &BTreeMap<UnitName, String>, notes: &mut Notes) {
        for found in found {
            let (kind, text) = match (found.drift, &found.cure) {
                (Drift::Ignore, _) | (Drift::Repair, Cure::Start | Cure::Steps) => continue,
                (Drift::Report, Cure::Nobody(why)) | (Drift::Repair, Cure::Nobody(why)) => {
                    notes.insert(found.part.clone(), why.clone());
                    (EventKind::DriftLeft, format!("{} {}: {why}", found.part, found.what))
                }
                (Drift::Report, Cure::Start | Cure::Steps) => {
                    (EventKind::DriftFound, format!("{} {}; drift: report leaves it so", found.part, found.what))
                }
            };
            if self.shared.told.is_news(&self.app, &found.part, &text) {
                self.tell(kind, text);
            }
        }
        let still: BTreeSet<&Part> = found.iter().map(|found| &found.part).collect();
        let fails = |part: &Part| matches!(part, Part::Run(job) if failing.contains_key(job));
        self.shared.told.keep(&self.app, |part| still.contains(part) || fails(part));
    }
}

/// A step that was carried out, in the words of an event; some go without saying.
fn past(action: &Action) -> Option<String> {
    match action {
        Action::WriteFile { .. } => Some("written as the release says".to_owned()),
        Action::Enable(_) => Some("enabled at boot".to_owned()),
        Action::Disable(_) => Some("disabled at boot".to_owned()),
        Action::Restart(unit) => Some(format!("{unit} restarted")),
        Action::Reload(unit) => Some(format!("{unit} reloaded")),
        Action::DaemonReload => Some("read again by systemd".to_owned()),
        Action::EnsureDirectory(_) | Action::CreateUser(_) => Some("made as the release says".to_owned()),
        Action::RunContainer { name, .. } => Some(format!("container {name} run anew")),
        Action::StartContainer(name) => Some(format!("container {name} started")),
        Action::AdoptContainer(name) => Some(format!("container {name} taken over as it is")),
        Action::ReturnContainer(name) => Some(format!("container {name} brought back")),
        Action::UpProject { name, .. } => Some(format!("compose project {name} brought up")),
        Action::Unpack { .. } => Some("unpacked again".to_owned()),
        Action::Build { .. } => Some("built again".to_owned()),
        _ => None,
    }
}
