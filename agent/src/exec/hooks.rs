//! Lifecycle hooks: run as their user, their output kept in full; those that run on one host of a rollout only are in the
//! ledger before they start and after they end. Beside `exec`.

use drover_proto::{app::HookPoint, code::Code};

use super::{
    Exec, StepFailure, accounts, directories,
    program::{command, telling_line},
};
use crate::{
    host::process::{self, Ended},
    ledger::{AppLedger, OnceState, hook_of},
    outputs::{self, HookRun, How},
    render::{Rendered, RenderedHook},
    report::now_unix_ms,
};

impl Exec<'_> {
    pub(super) async fn hook(&self, when: HookPoint, index: usize, ledger: &mut AppLedger) -> Result<(), StepFailure> {
        let wanted = self.wanted()?;
        let missing = || StepFailure::new(Code::Internal, "hook", format!("there is no hook {index}"));
        let hook = wanted.hooks.get(index).ok_or_else(missing)?;
        if !hook.run_once {
            return self.run_unless_done(when, wanted, hook, ledger).await;
        }
        self.not_begun(wanted, hook, ledger)?;
        let mut note = |state| {
            ledger.set_once(wanted.rollout, &wanted.release, &hook.name, state);
            self.ledgers.save(ledger)
        };
        note(OnceState::Started)?;
        let ended = self.run_hook(when, wanted, hook).await;
        let noted = note(if ended.is_ok() { OnceState::Finished } else { OnceState::Failed });
        // Unnoted it counts as interrupted: its own failure says more.
        ended?;
        noted.map_err(StepFailure::from)
    }

    /// Not again in the same activation, when the agent was interrupted after it.
    async fn run_unless_done(
        &self,
        when: HookPoint,
        wanted: &Rendered,
        hook: &RenderedHook,
        ledger: &mut AppLedger,
    ) -> Result<(), StepFailure> {
        let key = hook_of(&wanted.release, &hook.name);
        if ledger.activation.as_ref().is_some_and(|activation| activation.hooks.contains(&key)) {
            tracing::info!(app = %self.app, hook = %hook.name, "has run before the agent was interrupted");
            return Ok(());
        }
        self.run_hook(when, wanted, hook).await?;
        if let Some(activation) = &mut ledger.activation {
            activation.hooks.insert(key);
        }
        Ok(self.ledgers.save(ledger)?)
    }

    /// A hook that runs once and has begun is not run again for this rollout: what it did by half nobody knows.
    fn not_begun(&self, wanted: &Rendered, hook: &RenderedHook, ledger: &AppLedger) -> Result<(), StepFailure> {
        let (app, name) = (self.app, &hook.name);
        let look = format!("look at its output (drover logs {app} --hook {name}), then apply again");
        let (code, cause) = match ledger.once(wanted.rollout, &wanted.release, name) {
            None => return Ok(()),
            Some(OnceState::Started) => {
                (Code::Interrupted, format!("interrupted in the middle of hook {name}: {look}"))
            }
            Some(OnceState::Failed) => (Code::Hook, format!("hook {name} failed and runs once: {look}")),
            Some(OnceState::Finished) => (Code::Internal, format!("hook {name} has run for this rollout already")),
        };
        Err(StepFailure::new(code, format!("hook {name}"), cause))
    }

    async fn run_hook(&self, when: HookPoint, wanted: &Rendered, hook: &RenderedHook) -> Result<(), StepFailure> {
        let title = format!("hook {} ({})", hook.name, hook.run.join(" "));
        let mut command = command(&hook.run, hook.timeout.as_duration())?;
        command.account = accounts::runner(&hook.user)?;
        command.cwd = wanted.tree.as_ref().map(|tree| tree.directory.as_path().to_owned());
        command.env = hook.env.expose().clone();
        let run = HookRun {
            name: hook.name.clone(),
            release: wanted.release.number,
            rollout: wanted.rollout,
            began_unix_ms: now_unix_ms(),
            ended: None,
        };
        let directory = self.layout.output_of(self.app);
        directories::make(&directory, 0o700).map_err(|e| {
            StepFailure::new(Code::Write, "output", format!("{} cannot be made: {e}", directory.display()))
        })?;
        outputs::prune(self.layout, self.app);
        command.output_file = Some(run.path(self.layout, self.app));
        let point = match when {
            HookPoint::BeforeSwitch => "before the switch",
            HookPoint::AfterSwitch => "after the switch",
        };
        let outcome = process::run(command)
            .await
            .map_err(|error| StepFailure::new(Code::Hook, &title, format!("the {title} could not be run: {error}")))?;
        run.end(self.layout, self.app, now_unix_ms(), How::Program(outcome.ended), self.redactor);
        if outcome.ok() {
            return Ok(());
        }
        let cause = match outcome.ended {
            Ended::TimedOut => format!("the {title} {point} took longer than {} and was killed", hook.timeout),
            Ended::Code(_) | Ended::Signal(_) => {
                format!("the {title} {point} failed ({}): {}", outcome.ended, telling_line(&outcome))
            }
        };
        Err(StepFailure::new(Code::Hook, &title, cause).with(format!("output of {title}"), outcome.tail))
    }
}
