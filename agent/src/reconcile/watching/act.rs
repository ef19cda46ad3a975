//! The look at the watched files of one part, and what follows from it: nothing, a restart or a signal within the part's
//! budget, or waiting. Part of `watching`.

use std::{collections::BTreeSet, io, os::fd::BorrowedFd, sync::Arc, time::Duration};

use drover_proto::{event::EventKind, name::AppName};

use super::{
    Key, Target, Whom,
    certificates::{Judged, judged},
    targets,
};
use crate::{
    budget::Allowance,
    drift::Part,
    host::{
        docker::ContainerState,
        files::tree,
        notice::{Interest, Notices},
        systemd::UnitState,
    },
    reconcile::{
        Shared, Since,
        revive::{is_at_rest, since},
        told::clock,
    },
    report::now_unix_ms,
    watch::{Applied, Due, Seen, Standing, due},
};

/// The part is starting or stopping, or cannot be looked at.
const BETWEEN: Duration = Duration::from_secs(2);

/// What a look has come to.
#[derive(Default)]
pub(super) struct Looked {
    /// What is there.
    pub(super) seen: Option<Seen>,
    /// To be looked at again after that.
    pub(super) again: Option<Duration>,
}

impl Looked {
    fn later(again: Duration) -> Self {
        Self { seen: None, again: Some(again) }
    }
}

/// Whether a part knows of a change now.
pub(super) enum Done {
    Yes,
    /// To be tried again after that; without, at the next look.
    NotYet(Option<Duration>),
}

/// A part as it is.
enum Body {
    Unit(UnitState),
    Container(Option<ContainerState>),
    /// Of a certificate.
    Units(Vec<UnitState>),
}

impl Body {
    fn standing(&self) -> Standing {
        match self {
            Self::Unit(state) => unit_standing(state),
            // It is new for all of them if it is for the oldest.
            Self::Units(states) => {
                let all = || states.iter().map(unit_standing);
                let oldest = all().filter_map(|one| if let Standing::Since(at) = one { Some(at) } else { None }).min();
                match oldest {
                    _ if all().any(|one| one == Standing::Between) => Standing::Between,
                    Some(at) => Standing::Since(at),
                    None => Standing::Down,
                }
            }
            Self::Container(Some(state)) if state.running => {
                let started: Option<jiff::Timestamp> = state.started_at.parse().ok();
                let since = started.and_then(|at| u64::try_from(at.as_microsecond()).ok()).unwrap_or(0);
                Standing::Since(Duration::from_micros(since))
            }
            Self::Container(Some(state)) if state.status == "restarting" => Standing::Between,
            Self::Container(_) => Standing::Down,
        }
    }
}

fn unit_standing(state: &UnitState) -> Standing {
    match state.active_state.as_str() {
        _ if state.has_job => Standing::Between,
        // With its start a job reads what is there, and it is not cut short.
        "activating" if state.unit_type == "oneshot" => Standing::Down,
        "active" | "reloading" => Standing::Since(Duration::from_micros(state.exec_main_start_us)),
        "activating" | "deactivating" => Standing::Between,
        _ => Standing::Down,
    }
}

/// Looks at what is watched for a part, and does what follows from it.
pub(super) async fn look(
    shared: &Shared,
    notices: Option<Arc<Notices<Key>>>,
    target: &Target,
    before: Option<Arc<Seen>>,
) -> Looked {
    // Without the hand: a file system that hangs keeps nobody from the app.
    let Some((seen, judged)) = seen(notices, target).await else { return Looked::later(BETWEEN) };
    let hand = shared.hand(&target.app);
    // Whoever works on the app may be writing just these files, and restarts the part himself: then all is looked at anew.
    let Ok(_held) = hand.try_lock() else {
        drop(hand.lock().await);
        return Looked::later(Duration::ZERO);
    };
    // Of one that is gone, or has another release now, `learn` is told.
    let ledger = shared.ledger(&target.app).filter(|ledger| targets(ledger).get(&target.part()) == Some(target));
    let Some(ledger) = ledger else { return Looked::default() };
    let Some(since) = since(&ledger).filter(|_| is_at_rest(&ledger)) else { return Looked::default() };
    let body = match shared.body(target).await {
        Ok(body) => body,
        Err(error) => {
            tracing::warn!(app = %target.app, part = %target.part(), error, "cannot be looked at");
            return Looked::later(BETWEEN);
        }
    };
    let applied = Applied::new(&target.watch, &seen);
    let part = target.part().to_string();
    let last = shared.upkeeps.with(&target.app, &since, |upkeep| upkeep.watched.get(&part).copied());
    let remember = || {
        shared.upkeeps.with(&target.app, &since, |upkeep| upkeep.watched.insert(part.clone(), applied));
        shared.note(target, None);
    };
    if let Some(Err(why)) = &judged {
        // What is there from the beginning is in use: what comes after it is new.
        if last.is_none() {
            remember();
        }
        shared.refuse(target, why);
        return Looked { seen: Some(seen), again: None };
    }
    match due(last.as_ref(), &applied, seen.newest(), body.standing()) {
        Due::Nothing => drop(shared.note(target, None)),
        Due::Remember => remember(),
        Due::Later => return Looked::later(BETWEEN),
        Due::Act => {
            let reason = seen.reason(before.as_deref());
            let done = match (&target.whom, &body, judged) {
                (Whom::Certificate(certificate), Body::Units(units), Some(Ok(until))) => {
                    shared.put_to_use(target, certificate, &since, units, until).await
                }
                _ => shared.act(target, &since, &body, &reason).await,
            };
            match done {
                Done::Yes => remember(),
                // How it was before is still to be known, for the reason.
                Done::NotYet(again) => return Looked { seen: None, again },
            }
        }
    }
    Looked { seen: Some(seen), again: None }
}

/// What is there, and what a certificate is worth; from then on the kernel tells of changes.
async fn seen(notices: Option<Arc<Notices<Key>>>, target: &Target) -> Option<(Seen, Option<Judged>)> {
    let (key, paths) = ((target.app.clone(), target.part()), target.watch.paths.clone());
    let certificate = match &target.whom {
        Whom::Certificate(certificate) => Some(certificate.clone()),
        Whom::Unit(_) | Whom::Container(_) => None,
    };
    let look = move || {
        let mut numbers = BTreeSet::new();
        let listen: &mut dyn FnMut(BorrowedFd<'_>, Interest) -> io::Result<()> = &mut |directory, interest| {
            if let Some(notices) = &notices {
                numbers.insert(notices.add(&key, directory, interest)?);
            }
            Ok(())
        };
        let seen = match &certificate {
            Some(_) => tree::followed(&paths, listen),
            None => tree::seen(&paths, listen),
        };
        if let Some(notices) = &notices {
            notices.keep(&key, &numbers);
        }
        // Only now: what is read here is not older than what was seen.
        (seen, certificate.as_ref().map(judged))
    };
    tokio::task::spawn_blocking(look).await.ok()
}

impl Shared {
    async fn body(&self, target: &Target) -> Result<Body, String> {
        match &target.whom {
            Whom::Unit(unit) => self.parts.systemd.unit(unit).await.map(Body::Unit).map_err(|error| error.to_string()),
            Whom::Container(name) => {
                let seen = self.parts.engine.container(name).await.map_err(|error| error.to_string())?;
                Ok(Body::Container(seen.filter(|seen| seen.app.as_ref() == Some(&target.app))))
            }
            Whom::Certificate(certificate) => {
                let mut states = Vec::new();
                for unit in &certificate.reload {
                    states.push(self.parts.systemd.unit(unit).await.map_err(|error| error.to_string())?);
                }
                Ok(Body::Units(states))
            }
        }
    }

    /// Restarts a part or tells it, if its budget allows.
    async fn act(&self, target: &Target, since: &Since, body: &Body, reason: &str) -> Done {
        // Whatever stops now shall stop.
        if self.parts.systemd.is_going_down().await.unwrap_or(false) {
            return Done::NotYet(None);
        }
        let (part, of) = (target.part(), target.budget.attempts);
        let (verb, done) = match target.watch.signal {
            None => ("restarted".to_owned(), "restarted".to_owned()),
            Some(signal) => ("told".to_owned(), format!("sent {signal}")),
        };
        let now = now_unix_ms();
        let until = |at: i64| Some(Duration::from_millis(u64::try_from(at.saturating_sub(now)).unwrap_or(0)));
        let (kind, left, again) = match self.allowance(target, since, now) {
            Allowance::Now(number) => match self.tell_part(target, body).await {
                Ok(()) => {
                    let said = format!("{reason}: {part} {done} ({number} of {of})");
                    self.parts.events.emit(Some(&target.app), EventKind::FilesChanged, said);
                    return Done::Yes;
                }
                Err(error) => {
                    let left = format!("it could not be {done}: {error}");
                    (EventKind::FilesChanged, left, Some(target.budget.backoff))
                }
            },
            Allowance::NotBefore(at) => {
                self.note(target, Some(format!("{reason}: it is {verb} at {}", clock(at))));
                return Done::NotYet(until(at));
            }
            Allowance::SpentUntil(i64::MAX) => {
                (EventKind::RestartsSpent, format!("its restart budget allows nothing: it is not {verb}"), None)
            }
            Allowance::SpentUntil(at) => {
                let left = format!("its restart budget is spent: it is {verb} at {}", clock(at));
                (EventKind::RestartsSpent, left, until(at))
            }
        };
        if self.note(target, Some(format!("{reason}, and {left}"))) {
            self.parts.events.emit(Some(&target.app), kind, format!("{part}: {reason}, and {left}"));
        }
        Done::NotYet(again)
    }

    async fn tell_part(&self, target: &Target, body: &Body) -> Result<(), String> {
        let (systemd, engine) = (&self.parts.systemd, &self.parts.engine);
        match (&target.whom, body, target.watch.signal) {
            (Whom::Unit(unit), _, None) => systemd.restart_soon(unit).await.map_err(|error| error.to_string()),
            (Whom::Unit(unit), _, Some(signal)) => {
                systemd.signal(unit, signal).await.map_err(|error| error.to_string())
            }
            (Whom::Container(_), Body::Container(Some(state)), None) => {
                engine.restart(state).await.map_err(|error| error.to_string())
            }
            (Whom::Container(_), Body::Container(Some(state)), Some(signal)) => {
                engine.signal(state, signal).await.map_err(|error| error.to_string())
            }
            (Whom::Container(_) | Whom::Certificate(_), _, _) => Err("it is gone".to_owned()),
        }
    }

    /// Draws on the part's budget.
    pub(super) fn allowance(&self, target: &Target, since: &Since, now: i64) -> Allowance {
        self.upkeeps.with(&target.app, since, |upkeep| {
            let attempts = match &target.whom {
                // The same that count when it is down.
                Whom::Unit(unit) => upkeep.starts.entry(unit.clone()).or_default(),
                Whom::Container(_) | Whom::Certificate(_) => {
                    upkeep.repairs.entry(target.part().to_string()).or_default()
                }
            };
            let allowance = attempts.ask(&target.budget, now);
            if matches!(allowance, Allowance::Now(_)) {
                attempts.draw(&target.budget, now);
            }
            allowance
        })
    }

    /// Whether it is news; then it is shown.
    pub(super) fn note(&self, target: &Target, why: Option<String>) -> bool {
        let news = self.unread.note(&(target.app.clone(), target.part()), why);
        if news {
            self.looks.ask(target.app.clone());
        }
        news
    }

    /// Not all that is to be watched can be.
    pub(super) fn say_left_out(&self, (app, part): &(AppName, Part), left_out: &[String]) {
        let said = format!("not all that {part} depends on is watched: {}", left_out.join("; "));
        self.parts.events.emit(Some(app), EventKind::FilesChanged, said);
    }
}
