//! Which hooks that run on one host of a rollout only have begun and ended here: durable before such a hook starts and
//! after its end, so that it runs once also when the agent is killed in its middle. Part of `ledger`; `plan` and
//! `exec/hooks` read it.

use std::collections::BTreeMap;

use drover_proto::name::{ReleaseId, RolloutId};
use serde::{Deserialize, Serialize};

use super::AppLedger;

/// The newest rollout for which such a hook was begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Once {
    /// Which.
    pub rollout: RolloutId,
    /// To which release.
    pub release: ReleaseId,
    /// By the hook's name.
    pub hooks: BTreeMap<String, OnceState>,
}

/// How far one of them is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnceState {
    /// It was begun; found so at the start, the agent was killed in its middle.
    Started,
    /// It ended well.
    Finished,
    /// It ended otherwise.
    Failed,
}

impl AppLedger {
    /// How far the hook `name` is for that rollout of that release; `None` = not begun.
    #[must_use]
    pub fn once(&self, rollout: RolloutId, release: &ReleaseId, name: &str) -> Option<OnceState> {
        let once = self.once.as_ref().filter(|once| once.rollout == rollout && once.release == *release)?;
        once.hooks.get(name).copied()
    }

    /// The hook is about to begin, or has ended. What is known of another rollout is forgotten.
    pub fn set_once(&mut self, rollout: RolloutId, release: &ReleaseId, name: &str, state: OnceState) {
        let is_it = |once: &mut Once| once.rollout == rollout && once.release == *release;
        let known = self.once.take_if(|once| is_it(once));
        let new = || Once { rollout, release: release.clone(), hooks: BTreeMap::new() };
        self.once.insert(known.unwrap_or_else(new)).hooks.insert(name.to_owned(), state);
    }
}

#[cfg(test)]
mod tests {
    //! One rollout is remembered.
    use super::*;

    #[test]
    fn a_hook_is_remembered_for_its_rollout_and_release_only() {
        let mut ledger = AppLedger::new("mono".parse().unwrap());
        let release = |number| ReleaseId { app: "mono".parse().unwrap(), number };
        ledger.set_once(7, &release(2), "migrate", OnceState::Started);
        ledger.set_once(7, &release(2), "warm", OnceState::Finished);
        assert_eq!(ledger.once(7, &release(2), "migrate"), Some(OnceState::Started));
        assert_eq!(ledger.once(8, &release(2), "migrate"), None);
        assert_eq!(ledger.once(7, &release(3), "migrate"), None);
        ledger.set_once(8, &release(2), "migrate", OnceState::Failed);
        assert_eq!(ledger.once(8, &release(2), "migrate"), Some(OnceState::Failed));
        assert_eq!(ledger.once(7, &release(2), "warm"), None);
    }
}
