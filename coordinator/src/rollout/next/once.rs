//! Hooks that run once: one host is given the release with the permission to run them, the others only after it has been
//! seen healthy. It stays the one whatever becomes of it: what it did by half is not built upon. Pure, a part of `next`.

use drover_proto::{
    name::HostId,
    rollout::{HostState, RolloutState},
    strategy::OnFailure,
};

use super::Step;
use crate::rollout::state::Way;

impl Step {
    /// Whether another host may be given the release now.
    pub(super) fn once_lets_begin(&self) -> bool {
        self.rollout.once.as_ref().is_none_or(|once| once.done || once.host.is_none())
    }

    /// The release is about to be given to a host: the first is the one, for good.
    pub(super) fn choose_for_once(&mut self, index: usize) {
        let host = self.rollout.hosts[index].id.clone();
        if let Some(once) = &mut self.rollout.once
            && !once.done
        {
            once.host.get_or_insert(host);
        }
    }

    /// Whether what is asked of a host comes with the permission.
    pub(super) fn may_run_once(&self, index: usize) -> bool {
        let host = &self.rollout.hosts[index];
        host.way == Way::Forward && self.rollout.once.as_ref().is_some_and(|once| once.host.as_ref() == Some(&host.id))
    }

    /// A host has been seen healthy with the release.
    pub(super) fn seen_healthy_for_once(&mut self, host: &HostId) {
        if let Some(once) = self.rollout.once.as_mut().filter(|once| once.host.as_ref() == Some(host)) {
            once.done = true;
        }
    }

    /// Hosts that were skipped may have the release all the same.
    pub(super) fn once_is_done(&self) -> bool {
        self.rollout.once.as_ref().is_none_or(|once| once.done)
    }

    /// Why the rollout cannot go on: the one host did not become healthy, and no other takes its place.
    pub(super) fn once_lost(&self) -> Option<String> {
        let once = self.rollout.once.as_ref().filter(|once| !once.done)?;
        let host = self.rollout.hosts.iter().find(|host| once.host.as_ref() == Some(&host.id))?;
        if host.in_flight() {
            return None;
        }
        let (name, rest) = (&host.name, "hooks that run once are run on no other host");
        Some(match (host.failed(), &host.state) {
            (Some(cause), _) => format!("{name}: {cause} ({rest})"),
            (None, HostState::Unreachable { .. }) => {
                format!("{name} went away, and nobody knows how far it came ({rest})")
            }
            (None, _) => format!("{name} was removed while it was being moved ({rest})"),
        })
    }

    /// Whatever `max_failures` says.
    pub(super) fn stop_for_once(&mut self, cause: String) {
        let told = self.rollout.once.as_ref().is_some_and(|once| once.told);
        match self.rollout.strategy.on_failure {
            OnFailure::Rollback => self.roll_back(cause),
            OnFailure::Pause if !told => {
                self.rollout.excused = self.failures().count();
                self.rollout.once.iter_mut().for_each(|once| once.told = true);
                self.pause(cause);
            }
            OnFailure::Pause | OnFailure::Continue => {
                self.skip_pending();
                self.end(RolloutState::Failed { cause });
            }
        }
    }

    pub(super) fn skip_pending(&mut self) {
        for host in self.rollout.hosts.iter_mut().filter(|host| host.state == HostState::Pending) {
            host.state = HostState::Skipped { reason: "the rollout stopped before its turn".to_owned() };
        }
    }
}
