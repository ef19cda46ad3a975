//! The heart of a rollout: `next(state, event) -> (state, effects)`. Pure: time comes in events, and what has to be done
//! comes out as effects. docs/ARCHITECTURE.md says what it means; `next/tests/properties.rs` holds its invariants; `next/back` is the way back,
//! `next/once` holds the others until the hooks that run once have run.
//!
//! Neighbours: `state` (the document), `sight` (what a report says), `driver` (which feeds it).

use drover_proto::{
    name::{HostId, ReleaseNumber},
    rollout::{HostState, RolloutState},
    strategy::OnFailure,
};

use super::{
    sight::{Sight, sight},
    state::{Asked, Effect, Event, HostRun, Kind, Link, RECONNECT_GRACE_MS, Rollout, Way, What},
};

/// Between two events no more than this (ms) is counted: a clock that jumps, or a machine that slept, is no reason to
/// give up a rollout.
const MAX_STEP_MS: i64 = 5_000;

/// The state after an event, and what has to be done. A final state never changes and has no effects.
#[must_use]
pub fn next(state: &Rollout, event: &Event) -> (Rollout, Vec<Effect>) {
    let mut step = Step { rollout: state.clone(), effects: Vec::new(), now: event.now_unix_ms };
    if state.state.is_final() {
        return (step.rollout, step.effects);
    }
    if event.what != What::Restarted {
        step.count_time();
    }
    step.rollout.counted_unix_ms = step.now;
    step.take(&event.what);
    match step.rollout.state {
        RolloutState::Running => step.run(),
        RolloutState::RollingBack { .. } => step.run_back(),
        _ => {}
    }
    (step.rollout, step.effects)
}

struct Step {
    rollout: Rollout,
    effects: Vec<Effect>,
    now: i64,
}

impl Step {
    /// Deadlines run only while hosts are being moved; what a host that is away costs is its own grace.
    fn count_time(&mut self) {
        let moving = matches!(self.rollout.state, RolloutState::Running | RolloutState::RollingBack { .. });
        let passed = (self.now - self.rollout.counted_unix_ms).clamp(0, MAX_STEP_MS).unsigned_abs();
        if !moving {
            return;
        }
        let (mut away, mut there) = (false, false);
        for host in self.rollout.hosts.iter_mut().filter(|host| host.in_flight()) {
            match host.link {
                Link::Up => there = true,
                Link::Down { .. } => {
                    away = true;
                    host.grace_left_ms = host.grace_left_ms.saturating_sub(passed);
                }
            }
        }
        if there || !away {
            self.rollout.progress_left_ms = self.rollout.progress_left_ms.saturating_sub(passed);
        }
    }

    fn take(&mut self, what: &What) {
        match what {
            What::Start => {
                if self.rollout.state == RolloutState::Planned {
                    self.rollout.state = RolloutState::Running;
                    self.progressed();
                }
            }
            What::Tick => {}
            What::Restarted => {
                let since_unix_ms = self.now;
                for host in self.rollout.hosts.iter_mut().filter(|host| host.link == Link::Up) {
                    host.link = Link::Down { since_unix_ms };
                }
            }
            What::HostConnected(host) => self.connected(host),
            What::HostLost(host) => {
                let since_unix_ms = self.now;
                if let Some(host) = self.host(host)
                    && host.link == Link::Up
                {
                    host.link = Link::Down { since_unix_ms };
                }
            }
            What::HostReport { host, generation, status } => {
                self.reported(host, *generation, status.as_deref());
            }
            What::SpecWritten { host, generation } => {
                if let Some(host) = self.host(host)
                    && host.generation.is_none()
                {
                    host.generation = Some(*generation);
                }
            }
            What::SpecRefused { host, generation, message } => self.refused(host, *generation, message),
            What::HostRemoved(host) => {
                if let Some(host) = self.host(host) {
                    host.removed = true;
                    host.way = if host.way == Way::Forward { Way::Forward } else { Way::BackDone };
                    host.state = HostState::Skipped { reason: "the host was removed".to_owned() };
                }
            }
            What::HostCordoned { host, by } => self.cordoned(host, by),
            What::HostUncordoned(host) => self.uncordoned(host),
            What::Pause { by } => {
                if self.rollout.state == RolloutState::Running {
                    self.pause(format!("paused by {by}"));
                }
            }
            What::Resume => self.resume(),
            What::Abort { by } => {
                self.unpause();
                self.end(RolloutState::Aborted { by: by.clone() });
            }
            What::Superseded { by } => {
                self.unpause();
                self.end(RolloutState::Superseded { by: *by });
            }
        }
    }

    fn host(&mut self, id: &HostId) -> Option<&mut HostRun> {
        self.rollout.hosts.iter_mut().find(|host| host.id == *id && !host.removed)
    }

    fn progressed(&mut self) {
        self.rollout.progress_left_ms = self.rollout.strategy.progress_deadline.as_ms();
    }

    fn connected(&mut self, id: &HostId) {
        let running = matches!(self.rollout.state, RolloutState::Running | RolloutState::Paused { .. });
        let Some(host) = self.host(id) else { return };
        host.link = Link::Up;
        // It is back in time for its turn.
        if running && host.asked.is_none() && !host.cordoned && matches!(host.state, HostState::Skipped { .. }) {
            host.state = HostState::Pending;
        }
    }

    fn reported(&mut self, id: &HostId, generation: u64, status: Option<&drover_proto::status::AppStatus>) {
        let (app, rollout) = (self.rollout.app.clone(), self.rollout.id);
        let Some(host) = self.host(id) else { return };
        let Some(asked) = host.asked else { return };
        if host.generation.is_none_or(|written| generation < written) {
            return;
        }
        let may_still_end = host.in_flight() || matches!(host.state, HostState::Unreachable { .. });
        if !may_still_end || host.way == Way::BackDue {
            return;
        }
        let forward = host.way == Way::Forward;
        match sight(&app, rollout, asked.release, status) {
            Sight::Nothing => return,
            Sight::Moving(state) => {
                if host.in_flight() && forward {
                    host.state = state;
                }
                return;
            }
            Sight::Good => {
                if forward {
                    host.state = HostState::Healthy;
                    self.seen_healthy_for_once(id);
                } else {
                    let cause = match &host.state {
                        HostState::Reverting { cause } => cause.clone(),
                        _ => "the rollout was rolled back".to_owned(),
                    };
                    host.state = HostState::Reverted { cause };
                    host.way = Way::BackDone;
                }
            }
            Sight::Bad { cause, reverted } => {
                if let Some(failure) =
                    status.and_then(|s| s.failure.clone()).filter(|f| f.rollout == rollout || asked.release.is_none())
                {
                    host.failure = Some(failure);
                }
                host.state =
                    if reverted && forward { HostState::Reverted { cause } } else { HostState::Failed { cause } };
                if !forward {
                    host.way = Way::BackFailed;
                }
                return;
            }
        }
        self.progressed();
    }

    fn refused(&mut self, id: &HostId, generation: u64, message: &str) {
        let Some(host) = self.host(id) else { return };
        if !host.in_flight() || host.generation.is_none_or(|written| generation < written) {
            return;
        }
        host.state = HostState::Failed { cause: format!("the agent refused its host spec: {message}") };
        if host.way != Way::Forward {
            host.way = Way::BackFailed;
        }
    }

    fn pause(&mut self, reason: String) {
        self.rollout.state = RolloutState::Paused { reason };
        for index in 0..self.rollout.hosts.len() {
            let host = &self.rollout.hosts[index];
            // A removal has no deadline that could stand still.
            if let Some(Asked { release: Some(release), paused: false, .. }) = host.asked
                && host.in_flight()
            {
                self.ask(index, Some(release), true);
            }
        }
    }

    fn unpause(&mut self) {
        for index in 0..self.rollout.hosts.len() {
            let host = &self.rollout.hosts[index];
            if let Some(Asked { release, paused: true, .. }) = host.asked
                && !host.removed
            {
                self.ask(index, release, false);
            }
        }
    }

    fn resume(&mut self) {
        if !matches!(self.rollout.state, RolloutState::Paused { .. }) {
            return;
        }
        self.rollout.state = RolloutState::Running;
        self.unpause();
        if self.rollout.progress_left_ms == 0 {
            self.progressed();
        }
    }

    fn ask(&mut self, index: usize, release: Option<ReleaseNumber>, paused: bool) {
        let run_once = self.may_run_once(index);
        let host = &mut self.rollout.hosts[index];
        if host.asked.is_none_or(|asked| asked.release != release) {
            host.generation = None;
        }
        let asked = Asked { release, paused, run_once };
        host.asked = Some(asked);
        self.effects.push(Effect::WriteSpec { host: host.id.clone(), asked });
    }

    fn end(&mut self, state: RolloutState) {
        self.rollout.state = state;
        self.rollout.ended_unix_ms = Some(self.now);
        self.effects.push(Effect::Finished);
    }

    /// A host that was away in flight for too long gives its slot up. That is no failure.
    fn let_go_of_lost(&mut self) {
        let mut let_go = false;
        for host in self.rollout.hosts.iter_mut().filter(|host| host.in_flight() && host.grace_left_ms == 0) {
            if let Link::Down { since_unix_ms } = host.link {
                host.state = HostState::Unreachable { since_unix_ms };
                host.way = if host.way == Way::Forward { Way::Forward } else { Way::BackDone };
                let_go = true;
            }
        }
        if let_go {
            self.progressed();
        }
    }

    /// Whether a host that is away has been so for long enough to go on without it.
    fn gone(&self, host: &HostRun) -> bool {
        match host.link {
            Link::Up => false,
            Link::Down { since_unix_ms } => self.now.saturating_sub(since_unix_ms) >= RECONNECT_GRACE_MS,
        }
    }

    fn failures(&self) -> impl Iterator<Item = (&HostRun, &str)> {
        self.rollout.hosts.iter().filter_map(|host| host.failed().map(|cause| (host, cause)))
    }

    /// One sentence over all failed hosts.
    fn failure_cause(&self) -> String {
        let mut all = self.failures();
        let Some((host, cause)) = all.next() else { return "no host failed".to_owned() };
        match all.count() {
            0 => format!("{}: {cause}", host.name),
            more => format!("{}: {cause} (and {more} more)", host.name),
        }
    }

    fn run(&mut self) {
        self.let_go_of_lost();
        if let Some(cause) = self.once_lost() {
            return self.stop_for_once(cause);
        }
        let failed = self.failures().count();
        let most = (self.rollout.strategy.max_failures as usize).max(self.rollout.excused);
        if failed > most && self.rollout.strategy.on_failure != OnFailure::Continue {
            return self.stop(self.failure_cause());
        }
        let settled = self.rollout.hosts.iter().all(|h| !h.in_flight() && h.state != HostState::Pending);
        if self.rollout.progress_left_ms == 0 && !settled {
            let deadline = self.rollout.strategy.progress_deadline;
            return self.stop(format!("no host became healthy for {deadline} (progress_deadline)"));
        }
        for index in 0..self.rollout.hosts.len() {
            let host = &self.rollout.hosts[index];
            if host.state != HostState::Pending || self.rollout.in_flight() >= self.rollout.slots() {
                continue;
            }
            if host.link == Link::Up {
                if !self.once_lets_begin() {
                    continue;
                }
                self.choose_for_once(index);
                self.rollout.hosts[index].state = HostState::Fetching { step: "told to begin".to_owned() };
                let goal = self.rollout.goal(&self.rollout.hosts[index]);
                self.ask(index, goal, false);
            } else if self.gone(host) {
                let then = match self.rollout.kind {
                    Kind::Apply | Kind::Rollback | Kind::Remove => "it converges when it is back",
                    Kind::Restart => "it is not restarted",
                };
                self.rollout.hosts[index].state = HostState::Skipped { reason: format!("not connected; {then}") };
            }
        }
        if self.rollout.hosts.iter().all(|h| !h.in_flight() && h.state != HostState::Pending) {
            self.finish();
        }
    }

    /// What the strategy wants when too much has failed.
    fn stop(&mut self, cause: String) {
        match self.rollout.strategy.on_failure {
            OnFailure::Rollback => self.roll_back(cause),
            OnFailure::Pause => {
                self.rollout.excused = self.failures().count();
                self.pause(cause);
            }
            OnFailure::Continue => self.end(RolloutState::Failed { cause }),
        }
    }

    fn finish(&mut self) {
        for index in 0..self.rollout.hosts.len() {
            let host = &self.rollout.hosts[index];
            let left_out = host.removed || host.cordoned || self.rollout.kind == Kind::Restart;
            if host.asked.is_some() || left_out || !matches!(host.state, HostState::Skipped { .. }) {
                continue;
            }
            if self.once_is_done() {
                self.ask(index, self.rollout.target, false);
            } else {
                let reason = "not connected; not given the release, since its hooks that run once have run nowhere";
                self.rollout.hosts[index].state = HostState::Skipped { reason: reason.to_owned() };
            }
        }
        let failed = self.failures().count();
        let most = match self.rollout.strategy.on_failure {
            OnFailure::Continue => 0,
            OnFailure::Rollback | OnFailure::Pause => self.rollout.strategy.max_failures as usize,
        };
        let healthy = self.rollout.hosts.iter().filter(|host| host.state == HostState::Healthy).count();
        if failed > most {
            return self.end(RolloutState::Failed { cause: self.failure_cause() });
        }
        if healthy == 0 {
            let cause = match failed {
                0 if self.rollout.kind == Kind::Restart => "no host could be seen healthy".to_owned(),
                0 => "no host could be seen healthy; those that are away converge when they are back".to_owned(),
                _ => self.failure_cause(),
            };
            return self.end(RolloutState::Failed { cause });
        }
        if let (Kind::Apply | Kind::Rollback, Some(release)) = (self.rollout.kind, self.rollout.target) {
            self.effects.push(Effect::MarkGood { release });
        }
        self.end(RolloutState::Succeeded);
    }
}

mod back;
mod cordon;
mod once;
#[cfg(test)]
mod tests;
