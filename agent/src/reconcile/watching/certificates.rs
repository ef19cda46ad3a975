//! A certificate of others that was renewed: tested, and only then are its units reloaded. One that is not good stays where it
//! is, and nobody is told to read it. Part of `watching`.

use std::time::Duration;

use drover_proto::{app::Certificate, event::EventKind};

use super::{Target, act::Done};
use crate::{
    budget::{Allowance, Budget},
    exec::telling_line,
    host::{
        certificate::{day, judge, read},
        process,
        systemd::{JobResult, UnitState},
    },
    reconcile::{
        Shared, Since,
        steps::known,
        told::clock,
        turns::{Held, Turn},
    },
    report::{Redactor, now_unix_ms},
};

/// How often one is tried by itself.
pub(super) const TRIES: Budget =
    Budget { attempts: 10, window: Duration::from_secs(600), backoff: Duration::from_secs(1) };
/// For `validate`.
const VALIDATE: Duration = Duration::from_secs(60);
/// For a reload.
const RELOAD: Duration = Duration::from_secs(60);

/// Until when a certificate is good (unix seconds), or why it is not.
pub(super) type Judged = Result<i64, String>;

/// Blocks while it reads.
pub(super) fn judged(certificate: &Certificate) -> Judged {
    let chain = read(certificate.path.as_path())?;
    let key = certificate.key.as_ref().map(|key| read(key.as_path())).transpose()?;
    judge(&chain, key.as_deref(), now_unix_ms() / 1000)
}

impl Shared {
    /// It is not put to use.
    pub(super) fn refuse(&self, target: &Target, why: &str) {
        if self.note(target, Some(why.to_owned())) {
            let said = format!("{} is not put to use: {why}", target.part());
            self.parts.events.emit(Some(&target.app), EventKind::CertificateRefused, said);
        }
    }

    /// Has the units that run read it, if `validate` says that they can.
    pub(super) async fn put_to_use(
        &self,
        target: &Target,
        certificate: &Certificate,
        since: &Since,
        units: &[UnitState],
        until: i64,
    ) -> Done {
        let now = now_unix_ms();
        match self.allowance(target, since, now) {
            Allowance::Now(_) => {}
            Allowance::NotBefore(at) | Allowance::SpentUntil(at) => {
                self.note(target, Some(format!("it was changed: it is tried at {}", clock(at))));
                return Done::NotYet(Some(Duration::from_millis(u64::try_from(at.saturating_sub(now)).unwrap_or(0))));
            }
        }
        // `nginx -t` looks at the files of all apps, and so does nginx.
        let mut held = Held::none(target.app.clone());
        self.turns.take(Some(Turn::Switch), &mut held).await;
        if let Err(why) = self.validate(target, certificate).await {
            self.refuse(target, &why);
            return Done::NotYet(None);
        }
        let running = certificate.reload.iter().zip(units).filter(|(_, state)| state.active_state == "active");
        let mut reloaded = Vec::new();
        for (unit, _) in running {
            match self.parts.systemd.reload_or_restart(unit, RELOAD).await {
                Ok(JobResult::Done) => reloaded.push(unit.to_string()),
                Ok(_) => {
                    self.refuse(target, &format!("{unit} could not be reloaded"));
                    return Done::NotYet(None);
                }
                Err(error) => {
                    self.refuse(target, &format!("{unit} could not be reloaded: {error}"));
                    return Done::NotYet(None);
                }
            }
        }
        let said = format!("{}, good until {}: {} reloaded", target.part(), day(until), reloaded.join(", "));
        self.parts.events.emit(Some(&target.app), EventKind::CertificateReloaded, said);
        Done::Yes
    }

    async fn validate(&self, target: &Target, certificate: &Certificate) -> Result<(), String> {
        let argv: Vec<String> = certificate.validate.iter().flatten().map(|arg| arg.plain_text()).collect();
        let Some((program, args)) = argv.split_first() else { return Ok(()) };
        let shown = argv.join(" ");
        let outcome = process::run(process::Command::new(program.clone(), args.to_vec(), VALIDATE)).await;
        let outcome = outcome.map_err(|error| format!("{shown} could not be run: {error}"))?;
        if outcome.ok() {
            return Ok(());
        }
        // What it says of files of this app may have their secrets in it.
        let spec = self.parts.desired.subscribe().borrow().clone();
        let redactor = self.ledger(&target.app).map(|ledger| Redactor::of(known(spec.as_deref(), &ledger)));
        let line = telling_line(&outcome);
        Err(format!("{shown} failed: {}", redactor.map_or_else(String::new, |redactor| redactor.text(&line))))
    }
}
