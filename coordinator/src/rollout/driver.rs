//! One task per active rollout: feeds `next`, stores the state with the effects that are due, carries them out, and
//! stores that they are. Effects are idempotent, so that a restart may carry them out again.
//!
//! `keeper` starts it and sends it what happens.

use std::{collections::VecDeque, time::Duration};

use drover_proto::{
    name::{Generation, HostId},
    rollout::RolloutState,
    view::RolloutView,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{
    keeper::ControlError,
    next::next,
    state::{Asked, Effect, Event, Kind, Rollout, What},
    writes::Writes,
};
use crate::{
    clock,
    session::Sessions,
    store::{Result, RolloutEnd, Store, StoreError, StoredApp},
};

const TICK: Duration = Duration::from_secs(1);
/// Clocks alone are stored this often (ms): what a restart may give back to a deadline.
const CLOCK_STORE_MS: i64 = 10_000;
/// After the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// What a rollout's task is sent.
pub(super) enum Message {
    /// Something happened.
    Event(What),
    /// Somebody wants something, and an answer.
    Control(What, oneshot::Sender<std::result::Result<RolloutView, ControlError>>),
}

/// The task's own data.
pub(super) struct Driver {
    pub(super) store: Store,
    pub(super) sessions: Sessions,
    pub(super) writes: Writes,
    pub(super) rollout: Rollout,
    pub(super) inbox: mpsc::Receiver<Message>,
    pub(super) view: watch::Sender<RolloutView>,
    pub(super) stop: CancellationToken,
    pub(super) stored_unix_ms: i64,
}

/// The task was told to stop; the rollout goes on at the next start.
pub(super) struct Stopped;

type Going<T> = std::result::Result<T, Stopped>;

impl Driver {
    /// Until the rollout is final (and everything that is due is done), or the coordinator stops.
    pub(super) async fn run(mut self, first: Vec<What>) -> Going<Rollout> {
        // The coordinator ended before this was done, or before it was stored that it was.
        let came = self.carry_out_due().await?;
        for what in first.into_iter().chain(came) {
            self.step(what).await?;
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.rollout.state.is_final() {
            tokio::select! {
                () = self.stop.cancelled() => return Err(Stopped),
                _ = tick.tick() => self.step(What::Tick).await?,
                message = self.inbox.recv() => match message {
                    Some(Message::Event(what)) => self.step(what).await?,
                    Some(Message::Control(what, answer)) => self.control(what, answer).await?,
                    None => return Err(Stopped),
                },
            }
        }
        Ok(self.rollout)
    }

    async fn control(
        &mut self,
        what: What,
        answer: oneshot::Sender<std::result::Result<RolloutView, ControlError>>,
    ) -> Going<()> {
        let state = &self.rollout.state;
        let fits = match &what {
            What::Pause { .. } => *state == RolloutState::Running,
            What::Resume => matches!(state, RolloutState::Paused { .. }),
            _ => true,
        };
        let said = if fits {
            self.step(what).await?;
            Ok(self.rollout.view())
        } else {
            Err(ControlError::State { id: self.rollout.id, state: state.word() })
        };
        if answer.send(said).is_err() {
            info!(rollout = self.rollout.id, "who asked for this did not wait for the answer");
        }
        Ok(())
    }

    /// One event, and those that its effects bring about.
    async fn step(&mut self, what: What) -> Going<()> {
        let mut events = VecDeque::from([what]);
        while let Some(what) = events.pop_front() {
            let now_unix_ms = clock::unix_ms();
            let (mut after, effects) = next(&self.rollout, &Event { now_unix_ms, what });
            let changed = differs(&self.rollout, &after) || !effects.is_empty();
            if after.state != self.rollout.state {
                info!(rollout = after.id, app = %after.app, state = after.state.word(), reason = after.state.reason());
            }
            after.due = effects;
            self.rollout = after;
            if changed || now_unix_ms - self.stored_unix_ms >= CLOCK_STORE_MS {
                self.save(false).await?;
            }
            if changed {
                self.view.send_replace(self.rollout.view());
            }
            events.extend(self.carry_out_due().await?);
        }
        Ok(())
    }

    /// Carries out what is due and stores that it is done. Answers what came of it.
    async fn carry_out_due(&mut self) -> Going<Vec<What>> {
        if self.rollout.due.is_empty() {
            return Ok(Vec::new());
        }
        let mut came = Vec::new();
        let ends = self.rollout.due.contains(&Effect::Finished);
        for effect in self.rollout.due.clone() {
            came.extend(self.carry_out(effect).await?);
        }
        self.rollout.due.clear();
        self.save(ends).await?;
        Ok(came)
    }

    async fn carry_out(&self, effect: Effect) -> Going<Option<What>> {
        let (store, rollout) = (&self.store, &self.rollout);
        match effect {
            Effect::WriteSpec { host, asked } => Ok(Some(self.write_spec(host, asked).await?)),
            Effect::MarkGood { release } => {
                self.insist(|| store.mark_good(&rollout.app, release, clock::unix_ms())).await?;
                Ok(None)
            }
            // Told in the write that says that nothing is due any more: what is told twice cannot be taken back.
            Effect::Finished => Ok(None),
        }
    }

    async fn write_spec(&self, host: HostId, asked: Asked) -> Going<What> {
        let (store, app, rollout) = (&self.store, &self.rollout.app, self.rollout.id);
        let Asked { release, paused, run_once } = asked;
        let restart = if self.rollout.kind == Kind::Restart { rollout } else { 0 };
        let wanted = release.map(|release| StoredApp { paused, run_once, restart, ..StoredApp::new(release, rollout) });
        let written: Option<Generation> = self
            .insist(|| async {
                match store.set_app(&host, app, wanted).await {
                    Ok(generation) => Ok(Some(generation)),
                    Err(StoreError::NotFound(_)) => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .await?;
        let Some(generation) = written else { return Ok(What::HostRemoved(host)) };
        self.writes.note(&host, generation, rollout);
        self.sessions.spec_changed(&host);
        Ok(What::SpecWritten { host, generation })
    }

    /// `ends`: its end is told, too.
    async fn save(&mut self, ends: bool) -> Going<()> {
        let rollout = &self.rollout;
        let now_ms = clock::unix_ms();
        let reason = rollout.state.reason();
        let end = RolloutEnd {
            app: &rollout.app,
            who: &rollout.started_by,
            state: rollout.state.word(),
            reason: reason.as_deref(),
        };
        self.insist(|| async {
            let document = serde_json::to_string(rollout).map_err(|_| StoreError::Damaged("a rollout"))?;
            self.store.save_rollout(rollout.id, &document, rollout.is_active(), ends.then_some(end), now_ms).await
        })
        .await?;
        self.stored_unix_ms = now_ms;
        Ok(())
    }

    /// A rollout goes nowhere without its store: tries until it works.
    async fn insist<T, F: Future<Output = Result<T>>>(&self, attempt: impl Fn() -> F) -> Going<T> {
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    error!(rollout = self.rollout.id, %error, source, "the rollout waits for the store");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(Stopped),
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}

/// Whether more than clocks has changed.
fn differs(before: &Rollout, after: &Rollout) -> bool {
    let mut still = after.clone();
    still.counted_unix_ms = before.counted_unix_ms;
    still.progress_left_ms = before.progress_left_ms;
    for (host, was) in still.hosts.iter_mut().zip(&before.hosts) {
        host.grace_left_ms = was.grace_left_ms;
    }
    still.due.clone_from(&before.due);
    still != *before
}
