//! Rollouts step by step; `properties` has their invariants over random events.

mod cordon;
mod once;
mod properties;
mod restart;

use drover_proto::{
    name::{AppName, ReleaseId},
    status::{AppStatus, Phase},
    strategy::{CountOrPercent, Strategy},
};

use super::*;
use crate::rollout::state::{Before, Once};

/// A rollout to release 2, with the bookkeeping that the driver does.
struct World {
    rollout: Rollout,
    now: i64,
    generation: u64,
    /// Every effect so far.
    effects: Vec<Effect>,
}

fn app() -> AppName {
    "mono".parse().unwrap()
}

fn host(index: usize) -> HostId {
    format!("h-{index:016x}").parse().unwrap()
}

fn strategy(max_parallel: u32, max_failures: u32, on_failure: OnFailure) -> Strategy {
    Strategy {
        max_parallel: CountOrPercent::Count(max_parallel),
        min_healthy_time: "1s".parse().unwrap(),
        healthy_deadline: "5s".parse().unwrap(),
        progress_deadline: "20s".parse().unwrap(),
        max_failures,
        on_failure,
    }
}

impl World {
    fn new(hosts: usize, strategy: Strategy, target: Option<u64>) -> Self {
        let hosts = (0..hosts)
            .map(|i| {
                let name = format!("web-{i}").parse().unwrap();
                HostRun::pending(host(i), name, Before::Release(1), Link::Up, &strategy)
            })
            .collect();
        let rollout = Rollout {
            id: 7,
            app: app(),
            kind: if target.is_some() { Kind::Apply } else { Kind::Remove },
            target,
            progress_left_ms: 0,
            strategy,
            started_by: "ann".to_owned(),
            started_unix_ms: 0,
            ended_unix_ms: None,
            state: RolloutState::Planned,
            hosts,
            counted_unix_ms: 1_000_000,
            excused: 0,
            due: vec![],
            once: None,
        };
        Self { rollout, now: 1_000_000, generation: 10, effects: vec![] }
    }
    fn started(hosts: usize, strategy: Strategy) -> Self {
        let mut world = Self::new(hosts, strategy, Some(2));
        world.send(What::Start);
        world
    }
    /// One event, and `SpecWritten` for each spec that it writes. Gives the effects.
    fn send(&mut self, what: What) -> Vec<Effect> {
        let (rollout, effects) = next(&self.rollout, &Event { now_unix_ms: self.now, what });
        self.rollout = rollout;
        for effect in &effects {
            if let Effect::WriteSpec { host, .. } = effect {
                self.generation += 1;
                let written = What::SpecWritten { host: host.clone(), generation: self.generation };
                let (rollout, more) = next(&self.rollout, &Event { now_unix_ms: self.now, what: written });
                assert!(more.is_empty() || !self.rollout.state.is_final());
                self.rollout = rollout;
            }
        }
        self.effects.extend(effects.clone());
        effects
    }
    /// A report on the newest generation, about what the host was asked.
    fn report(&mut self, index: usize, phase: Phase) -> Vec<Effect> {
        let asked = self.rollout.hosts[index].asked.and_then(|asked| asked.release);
        let desired = asked.map(|number| ReleaseId { app: app(), number });
        let status = AppStatus {
            running: desired.clone(),
            desired,
            rollout: self.rollout.id,
            phase,
            parts: vec![],
            failure: None,
            checks: std::collections::BTreeMap::new(),
        };
        self.send(What::HostReport { host: host(index), generation: self.generation, status: Some(Box::new(status)) })
    }
    fn healthy(&mut self, index: usize) -> Vec<Effect> {
        self.report(index, Phase::Healthy { since_unix_ms: 1 })
    }
    fn reverted(&mut self, index: usize) -> Vec<Effect> {
        self.report(index, Phase::Reverted { to: None, cause: "api answered 500".to_owned() })
    }
    fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += 1000;
            self.send(What::Tick);
        }
    }
    fn words(&self) -> Vec<&'static str> {
        self.rollout.hosts.iter().map(|host| host.state.word()).collect()
    }
    fn state(&self) -> &'static str {
        self.rollout.state.word()
    }
}

fn wrote(effects: &[Effect], index: usize, release: Option<u64>, paused: bool) -> bool {
    effects.contains(&Effect::WriteSpec { host: host(index), asked: Asked { release, paused, run_once: false } })
}

#[test]
fn one_host_after_the_other_and_the_release_is_good() {
    let mut world = World::started(2, strategy(1, 0, OnFailure::Rollback));
    assert_eq!(world.words(), ["fetching", "pending"]);
    assert!(wrote(&world.healthy(0), 1, Some(2), false));
    let effects = world.healthy(1);
    assert_eq!(effects, [Effect::MarkGood { release: 2 }, Effect::Finished]);
    assert_eq!(world.rollout.state, RolloutState::Succeeded);
}

#[test]
fn a_report_on_an_older_generation_or_another_rollout_says_nothing() {
    let mut world = World::started(1, strategy(1, 0, OnFailure::Rollback));
    world.generation -= 1;
    world.healthy(0);
    assert_eq!(world.words(), ["fetching"]);
    world.generation += 1;
    world.rollout.id = 6;
    let status = AppStatus {
        desired: Some(ReleaseId { app: app(), number: 2 }),
        rollout: 5,
        running: Some(ReleaseId { app: app(), number: 2 }),
        phase: Phase::Healthy { since_unix_ms: 0 },
        parts: vec![],
        failure: None,
        checks: std::collections::BTreeMap::new(),
    };
    let report = What::HostReport { host: host(0), generation: world.generation, status: Some(Box::new(status)) };
    world.send(report);
    assert_eq!(world.words(), ["fetching"]);
}

#[test]
fn one_failure_too_many_takes_every_touched_host_back() {
    let mut world = World::started(3, strategy(1, 0, OnFailure::Rollback));
    world.healthy(0);
    let effects = world.reverted(1);
    assert_eq!(world.state(), "rolling_back");
    assert_eq!(world.words(), ["reverting", "reverted", "skipped"]);
    assert!(wrote(&effects, 0, Some(1), false));
    let effects = world.healthy(0);
    assert!(wrote(&effects, 1, Some(1), false), "the failed host's spec says what runs there, too");
    world.healthy(1);
    assert_eq!(world.state(), "rolled_back");
    assert_eq!(world.rollout.state.reason().unwrap(), "web-1: api answered 500");
    assert_eq!(world.words(), ["reverted", "reverted", "skipped"]);
    assert!(!world.effects.contains(&Effect::MarkGood { release: 2 }));
}

#[test]
fn a_host_that_cannot_go_back_fails_the_rollback() {
    let mut world = World::started(1, strategy(1, 0, OnFailure::Rollback));
    world.report(0, Phase::Failed { cause: "build failed".to_owned() });
    assert_eq!(world.state(), "rolling_back");
    world.report(0, Phase::Failed { cause: "no room".to_owned() });
    assert_eq!(world.state(), "rollback_failed");
}

#[test]
fn pausing_on_failure_waits_and_resuming_goes_on() {
    let mut world = World::started(3, strategy(1, 0, OnFailure::Pause));
    world.reverted(0);
    assert_eq!(world.state(), "paused");
    world.pass(100);
    assert_eq!(world.state(), "paused");
    world.send(What::Resume);
    assert_eq!(world.state(), "running");
    world.healthy(1);
    world.healthy(2);
    assert_eq!(world.state(), "failed", "more failed than max_failures allows");
}

#[test]
fn continuing_moves_every_host_and_says_that_some_failed() {
    let mut world = World::started(2, strategy(1, 0, OnFailure::Continue));
    world.reverted(0);
    world.healthy(1);
    assert_eq!(world.state(), "failed");
    assert_eq!(world.words(), ["reverted", "healthy"]);
}

#[test]
fn failures_up_to_max_failures_are_borne() {
    let mut world = World::started(2, strategy(1, 1, OnFailure::Rollback));
    world.reverted(0);
    world.healthy(1);
    assert_eq!(world.state(), "succeeded");
}

#[test]
fn a_pause_freezes_deadlines_here_and_on_the_host() {
    let mut world = World::started(2, strategy(1, 0, OnFailure::Rollback));
    world.pass(15);
    let effects = world.send(What::Pause { by: "ann".to_owned() });
    assert!(wrote(&effects, 0, Some(2), true));
    world.pass(1000);
    world.healthy(0);
    assert_eq!(world.words(), ["healthy", "pending"], "nothing new begins while paused");
    let effects = world.send(What::Resume);
    assert!(wrote(&effects, 0, Some(2), false) && wrote(&effects, 1, Some(2), false));
    assert_eq!(world.state(), "running");
}

#[test]
fn no_progress_is_a_failure_after_the_remainder_only() {
    let mut world = World::started(1, strategy(1, 0, OnFailure::Rollback));
    world.pass(15);
    world.send(What::Pause { by: "ann".to_owned() });
    world.pass(60);
    world.send(What::Resume);
    world.pass(4);
    assert_eq!(world.state(), "running");
    world.pass(2);
    assert_eq!(world.state(), "rolling_back");
}

#[test]
fn a_restart_or_a_jump_of_the_clock_eats_no_deadline() {
    let mut world = World::started(1, strategy(1, 0, OnFailure::Rollback));
    world.now += 3_600_000;
    world.send(What::Restarted);
    world.send(What::HostConnected(host(0)));
    world.now += 3_600_000;
    world.send(What::Tick);
    assert_eq!(world.rollout.progress_left_ms, 15_000);
}

#[test]
fn an_offline_host_is_skipped_and_gets_its_spec_at_the_end() {
    let mut world = World::new(2, strategy(1, 0, OnFailure::Rollback), Some(2));
    world.rollout.hosts[0].link = Link::Down { since_unix_ms: 0 };
    world.send(What::Start);
    assert_eq!(world.words(), ["skipped", "fetching"]);
    let effects = world.healthy(1);
    assert!(wrote(&effects, 0, Some(2), false));
    assert_eq!(world.rollout.state, RolloutState::Succeeded);
}

#[test]
fn a_skipped_host_that_is_back_takes_its_turn() {
    let mut world = World::new(2, strategy(1, 0, OnFailure::Rollback), Some(2));
    world.rollout.hosts[0].link = Link::Down { since_unix_ms: 0 };
    world.send(What::Start);
    world.send(What::HostConnected(host(0)));
    assert_eq!(world.words(), ["pending", "fetching"], "max_parallel holds for it, too");
    assert!(wrote(&world.healthy(1), 0, Some(2), false));
    world.healthy(0);
    assert_eq!(world.state(), "succeeded");
}

#[test]
fn a_host_away_for_a_moment_is_waited_for() {
    let mut world = World::started(2, strategy(1, 0, OnFailure::Rollback));
    world.send(What::HostLost(host(1)));
    world.healthy(0);
    assert_eq!(world.words(), ["healthy", "pending"]);
    world.pass(5);
    world.send(What::HostConnected(host(1)));
    assert_eq!(world.words(), ["healthy", "fetching"]);
}

#[test]
fn a_host_lost_in_flight_keeps_its_slot_and_is_no_failure() {
    let mut world = World::started(2, strategy(1, 0, OnFailure::Rollback));
    world.send(What::HostLost(host(0)));
    world.pass(14);
    assert_eq!(world.words(), ["fetching", "pending"]);
    world.pass(2);
    assert_eq!(world.words(), ["unreachable", "fetching"]);
    world.send(What::HostConnected(host(0)));
    world.healthy(0);
    world.healthy(1);
    assert_eq!(world.words(), ["healthy", "healthy"]);
    assert_eq!(world.state(), "succeeded");
}

#[test]
fn a_newer_rollout_or_an_operator_ends_it_and_leaves_no_host_paused() {
    for what in [What::Superseded { by: 8 }, What::Abort { by: "ann".to_owned() }] {
        let mut world = World::started(2, strategy(1, 0, OnFailure::Rollback));
        world.send(What::Pause { by: "ann".to_owned() });
        let effects = world.send(what);
        assert!(wrote(&effects, 0, Some(2), false));
        assert!(world.rollout.state.is_final());
        assert_eq!(world.healthy(0), [], "and writes nothing more");
    }
}

#[test]
fn a_removal_succeeds_when_the_app_is_gone() {
    let mut world = World::new(1, strategy(1, 0, OnFailure::Continue), None);
    assert!(wrote(&world.send(What::Start), 0, None, false));
    world.send(What::HostReport { host: host(0), generation: world.generation - 1, status: None });
    assert_eq!(world.state(), "running");
    let effects = world.send(What::HostReport { host: host(0), generation: world.generation, status: None });
    assert_eq!((world.state(), effects), ("succeeded", vec![Effect::Finished]));
}

#[test]
fn a_refused_spec_is_a_failure_with_its_reason() {
    let mut world = World::started(1, strategy(1, 0, OnFailure::Continue));
    let generation = world.generation;
    world.send(What::SpecRefused { host: host(0), generation, message: "unknown field".to_owned() });
    assert!(world.rollout.state.reason().unwrap().contains("unknown field"));
}

#[test]
fn all_targets_away_is_no_success() {
    let mut world = World::new(1, strategy(1, 0, OnFailure::Rollback), Some(2));
    world.rollout.hosts[0].link = Link::Down { since_unix_ms: 0 };
    let effects = world.send(What::Start);
    assert!(wrote(&effects, 0, Some(2), false));
    assert_eq!(world.state(), "failed");
}

#[test]
fn a_host_whose_release_of_before_is_unknown_is_left_alone() {
    let mut world = World::new(3, strategy(1, 0, OnFailure::Rollback), Some(2));
    for index in [0, 1] {
        world.rollout.hosts[index].before = Some(46);
        world.rollout.hosts[index].left_alone = true;
    }
    world.send(What::Start);
    world.healthy(0);
    world.reverted(1);
    world.pass(1);
    let back = |effect: &&Effect| matches!(effect, Effect::WriteSpec { asked, .. } if asked.release != Some(2));
    assert_eq!(world.effects.iter().filter(back).count(), 0, "{:?}", world.effects);
    assert_eq!(world.rollout.state.word(), "rollback_failed");
    let said = world.rollout.hosts[0].failed().unwrap();
    assert!(said.contains("mono/46, is not in this coordinator's store"), "{said}");
    assert!(matches!(world.rollout.hosts[1].state, HostState::Reverted { .. }), "its agent has it back");
}
