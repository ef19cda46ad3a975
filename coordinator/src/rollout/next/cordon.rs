//! Hosts that an operator keeps rollouts away from: skipped, as long as the rollout has not touched them. Pure, a part of
//! `next`.

use drover_proto::{
    name::HostId,
    rollout::{HostState, RolloutState},
};

use super::Step;
use crate::rollout::state::{HostRun, Link};

impl HostRun {
    /// Takes it out of the rollout, which has not touched it.
    pub(in crate::rollout) fn cordon(&mut self, by: &str) {
        self.cordoned = true;
        self.state = HostState::Skipped { reason: format!("cordoned by {by}") };
    }
}

impl Step {
    pub(super) fn cordoned(&mut self, id: &HostId, by: &str) {
        if let Some(host) = self.host(id)
            && host.asked.is_none()
        {
            host.cordon(by);
        }
    }

    /// It takes its turn, if there still is one.
    pub(super) fn uncordoned(&mut self, id: &HostId) {
        let going_on = matches!(self.rollout.state, RolloutState::Running | RolloutState::Paused { .. });
        let Some(host) = self.host(id).filter(|host| host.cordoned) else { return };
        host.cordoned = false;
        if going_on && host.link == Link::Up {
            host.state = HostState::Pending;
        }
    }
}
