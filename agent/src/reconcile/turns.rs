//! Who may do what just now: apps are worked on side by side, and what of it concerns the whole host goes one after
//! another. `steps` and `mend` take a turn for each step, and `workers` for a look. Beside `reconcile`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use drover_proto::{
    name::{AppName, UnitName},
    plan::Action,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

/// Artifacts that are on their way at once: each has a buffer, and the disk has one head.
const FETCHES: usize = 4;
/// Apps that are looked at at once.
const LOOKS: usize = 4;

/// What has to wait for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Packages, accounts, swap: their own programs lock each other out.
    Needs,
    /// From the coordinator or elsewhere, until it is unpacked.
    Fetch,
    /// Takes a whole processor, and memory: one after another.
    Build,
    /// What is written is judged together with what others have written (all sites of nginx), and made known to units that
    /// others use, too. It lasts from the first of such steps to the next that is none.
    Switch,
    /// At what is committed.
    Look,
}

/// Which turn a step needs; `None`: it concerns its own app only, and may take long. `own`: whether a unit is the app's.
/// Without a wildcard: a new action is a decision here.
pub(super) fn turn_of(action: &Action, own: impl Fn(&UnitName) -> bool) -> Option<Turn> {
    match action {
        Action::InstallPackages(_)
        | Action::CreateUser(_)
        | Action::MakeSwap { .. }
        | Action::EnsureDirectory(_)
        | Action::MakeNetwork(_) => Some(Turn::Needs),
        Action::Fetch { .. } | Action::Unpack { .. } | Action::PullImage(_) => Some(Turn::Fetch),
        Action::Build { .. } | Action::BuildProject(_) => Some(Turn::Build),
        Action::WriteFile { .. }
        | Action::Validate { .. }
        | Action::RemoveFile { .. }
        | Action::DaemonReload
        | Action::Enable(_)
        | Action::Disable(_) => Some(Turn::Switch),
        // A unit of others reads the files of all.
        Action::Reload(unit) | Action::Restart(unit) => (!own(unit)).then_some(Turn::Switch),
        Action::Hook { .. }
        | Action::RunContainer { .. }
        | Action::AdoptContainer(_)
        | Action::ReturnContainer(_)
        | Action::StartContainer(_)
        | Action::RemoveContainer(_)
        | Action::UpProject { .. }
        | Action::AdoptProject(_)
        | Action::LeaveProject(_)
        | Action::RemoveProject(_)
        | Action::Stop(_)
        | Action::Start(_)
        | Action::Prove { .. }
        | Action::Drain { .. }
        | Action::Gate { .. }
        | Action::Commit => None,
    }
}

/// The turns of a host.
pub(super) struct Turns {
    needs: Arc<Semaphore>,
    fetch: Arc<Semaphore>,
    build: Arc<Semaphore>,
    switch: Arc<Semaphore>,
    look: Arc<Semaphore>,
    /// Apps in the middle of whose switch the agent ended: their files may be unchecked, and nobody else is to be judged by
    /// them. They have the first turns.
    unproven: watch::Sender<BTreeSet<AppName>>,
}

/// The turn that an app has; never two, so that nobody waits in a circle.
pub(super) struct Held {
    app: AppName,
    turn: Option<(Turn, OwnedSemaphorePermit)>,
    /// What waiting for turns has taken: the app is not to blame for it.
    waited: Duration,
}

impl Turns {
    pub(super) fn new(unproven: BTreeSet<AppName>) -> Self {
        let of = |permits| Arc::new(Semaphore::new(permits));
        Self {
            needs: of(1),
            fetch: of(FETCHES),
            build: of(1),
            switch: of(1),
            look: of(LOOKS),
            unproven: watch::Sender::new(unproven),
        }
    }

    fn of(&self, turn: Turn) -> &Arc<Semaphore> {
        match turn {
            Turn::Needs => &self.needs,
            Turn::Fetch => &self.fetch,
            Turn::Build => &self.build,
            Turn::Switch => &self.switch,
            Turn::Look => &self.look,
        }
    }

    /// Whether others have all there is of it just now.
    pub(super) fn is_waited_for(&self, wanted: Option<Turn>, held: &Held) -> bool {
        let mine = held.turn.as_ref().map(|(turn, _)| *turn);
        wanted.is_some_and(|turn| mine != wanted && self.of(turn).available_permits() == 0)
    }

    /// Gives back what is held and waits for `wanted`; who has it already keeps it. First come, first served.
    pub(super) async fn take(&self, wanted: Option<Turn>, held: &mut Held) {
        if held.turn.as_ref().map(|(turn, _)| *turn) == wanted {
            return;
        }
        if held.turn.take().is_some_and(|(turn, _)| turn == Turn::Switch) {
            self.proven(&held.app);
        }
        let Some(turn) = wanted else { return };
        let asked = Instant::now();
        if turn == Turn::Switch {
            let mut unproven = self.unproven.subscribe();
            // Err: never, the sender is here.
            drop(unproven.wait_for(|apps| apps.is_empty() || apps.contains(&held.app)).await);
        }
        // They are never closed.
        held.turn = self.of(turn).clone().acquire_owned().await.ok().map(|permit| (turn, permit));
        held.waited += asked.elapsed();
    }
}

impl Turns {
    /// What the app's interrupted switch left has been put right, or is nobody's business any more.
    pub(super) fn proven(&self, app: &AppName) {
        self.unproven.send_if_modified(|apps| apps.remove(app));
    }
}

impl Held {
    /// None yet.
    pub(super) fn none(app: AppName) -> Self {
        Self { app, turn: None, waited: Duration::ZERO }
    }

    /// What waiting has taken since `begin_to_count`.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// From here on a deadline runs.
    pub(super) fn begin_to_count(&mut self) {
        self.waited = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    //! One after another where it has to be.
    use super::*;

    fn held(app: &str) -> Held {
        Held::none(app.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupted_switch_goes_before_all_others() {
        let turns = Turns::new(["b".parse().unwrap()].into());
        let (mut first, mut second) = (held("a"), held("b"));
        let other = async {
            turns.take(Some(Turn::Switch), &mut first).await;
            first.waited()
        };
        let interrupted = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            turns.take(Some(Turn::Switch), &mut second).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            turns.take(None, &mut second).await;
        };
        let (waited, ()) = tokio::join!(other, interrupted);
        assert_eq!(waited, Duration::from_secs(3));
    }

    #[test]
    fn a_unit_of_others_is_told_in_turn_and_the_apps_own_whenever_it_likes() {
        let (own, others) = ("mono.service".parse::<UnitName>().unwrap(), "nginx.service".parse::<UnitName>().unwrap());
        let turn = |action: Action| turn_of(&action, |unit| *unit == own);
        assert_eq!((turn(Action::Restart(own.clone())), turn(Action::Reload(own.clone()))), (None, None));
        let switch = Some(Turn::Switch);
        assert_eq!((turn(Action::Restart(others.clone())), turn(Action::Reload(others))), (switch, switch));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_kept_over_steps_of_its_kind_and_its_wait_is_counted() {
        let turns = Turns::new(BTreeSet::new());
        let (mut first, mut second) = (held("a"), held("b"));
        turns.take(Some(Turn::Switch), &mut first).await;
        turns.take(Some(Turn::Switch), &mut first).await;
        turns.take(Some(Turn::Needs), &mut second).await;
        let waiting = async {
            turns.take(Some(Turn::Switch), &mut second).await;
            assert!(turns.of(Turn::Needs).available_permits() == 1, "never two");
        };
        let working = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(turns.of(Turn::Switch).available_permits(), 0);
            turns.take(None, &mut first).await;
        };
        tokio::join!(waiting, working);
        assert_eq!((first.waited(), second.waited()), (Duration::ZERO, Duration::from_secs(3)));
        second.begin_to_count();
        turns.take(None, &mut second).await;
        assert_eq!((second.waited(), turns.of(Turn::Switch).available_permits()), (Duration::ZERO, 1));
    }
}
