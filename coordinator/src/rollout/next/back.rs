//! The way back: every host that the rollout touched gets what it had before, within the same slots. Pure, a part of
//! `next`.

use drover_proto::rollout::{HostState, RolloutState};

use super::Step;
use crate::rollout::state::{HostRun, Kind, Link, Way, grace_ms};

impl Step {
    /// Every host that was touched goes back: those in flight at once, in the slots they hold; the others as slots
    /// become free.
    pub(super) fn roll_back(&mut self, cause: String) {
        self.rollout.state = RolloutState::RollingBack { cause: cause.clone() };
        self.progressed();
        self.skip_pending();
        for index in 0..self.rollout.hosts.len() {
            let goal = self.rollout.goal(&self.rollout.hosts[index]);
            let host = &mut self.rollout.hosts[index];
            if host.asked.is_none() {
                // It was not touched.
            } else if host.removed || host.left_alone || host.before == goal {
                // There is nothing to go back to; one in flight settles by itself.
            } else if host.in_flight() {
                self.send_back(index, &cause);
            } else {
                host.way = Way::BackDue;
            }
        }
        self.run_back();
    }

    fn send_back(&mut self, index: usize, cause: &str) {
        let grace = grace_ms(&self.rollout.strategy);
        let host = &mut self.rollout.hosts[index];
        let cause = host.failed().unwrap_or(cause).to_owned();
        host.way = Way::Back;
        host.grace_left_ms = grace;
        host.state = HostState::Reverting { cause };
        let before = host.before;
        self.ask(index, before, false);
    }

    pub(super) fn run_back(&mut self) {
        let RolloutState::RollingBack { cause } = self.rollout.state.clone() else { return };
        self.let_go_of_lost();
        for index in 0..self.rollout.hosts.len() {
            let host = &self.rollout.hosts[index];
            if host.way != Way::BackDue {
                continue;
            }
            if self.gone(host) {
                let Link::Down { since_unix_ms } = host.link else { continue };
                let before = host.before;
                self.rollout.hosts[index].way = Way::BackDone;
                self.rollout.hosts[index].state = HostState::Unreachable { since_unix_ms };
                self.ask(index, before, false);
            } else if host.link == Link::Up && self.rollout.in_flight() < self.rollout.slots() {
                self.send_back(index, &cause);
            }
        }
        let going = |host: &HostRun| host.in_flight() || host.way == Way::BackDue;
        if self.rollout.progress_left_ms == 0 && self.rollout.hosts.iter().any(going) {
            // Hosts that were still to be told are told, so that they go back in their own time.
            for index in 0..self.rollout.hosts.len() {
                let host = &mut self.rollout.hosts[index];
                if !going(host) {
                    continue;
                }
                let due = host.way == Way::BackDue;
                host.way = Way::BackFailed;
                host.state = HostState::Failed { cause: "it was not seen back in time (progress_deadline)".to_owned() };
                let before = host.before;
                if due {
                    self.ask(index, before, false);
                }
            }
        }
        if self.rollout.hosts.iter().any(going) {
            return;
        }
        self.leave_alone();
        if self.rollout.hosts.iter().any(|host| host.way == Way::BackFailed) {
            self.end(RolloutState::RollbackFailed { cause });
        } else if self.rollout.kind == Kind::Restart {
            // There was no other release, and so there is no way back.
            self.end(RolloutState::Failed { cause });
        } else {
            self.end(RolloutState::RolledBack { cause });
        }
    }

    /// Hosts whose release of before the store does not know: nothing is written for them. One whose agent has reverted
    /// has it back by itself; any other stays where it is, and that is no way back.
    fn leave_alone(&mut self) {
        for host in
            self.rollout.hosts.iter_mut().filter(|host| host.left_alone && !host.removed && host.asked.is_some())
        {
            if matches!(host.state, HostState::Reverted { .. } | HostState::Unreachable { .. }) {
                continue;
            }
            host.way = Way::BackFailed;
            if host.state == HostState::Healthy {
                let before = host.before.unwrap_or_default();
                let cause = format!(
                    "it stays on the new release: the one before, {}/{before}, is not in this coordinator's store",
                    self.rollout.app
                );
                host.state = HostState::Failed { cause };
            }
        }
    }
}
