//! Hooks that run once: one host gets the permission, the others wait for it. Beside the steps in `tests`.

use super::*;

/// A rollout over hosts with hooks that run once; `away` = not connected.
fn world(hosts: usize, away: &[usize], on_failure: OnFailure) -> World {
    let mut world = World::new(hosts, strategy(3, 3, on_failure), Some(2));
    world.rollout.once = Some(Once::default());
    for index in away {
        world.rollout.hosts[*index].link = Link::Down { since_unix_ms: 0 };
    }
    world.send(What::Start);
    world
}

/// Which hosts have ever been given the permission.
fn given(world: &World) -> Vec<HostId> {
    let with = |effect: &Effect| match effect {
        Effect::WriteSpec { host, asked } if asked.run_once => Some(host.clone()),
        _ => None,
    };
    world.effects.iter().filter_map(with).collect()
}

#[test]
fn the_others_wait_for_the_one() {
    let mut world = world(3, &[0], OnFailure::Rollback);
    assert_eq!(world.words(), ["skipped", "fetching", "pending"], "three slots, one host");
    world.send(What::HostConnected(host(0)));
    assert_eq!(world.words(), ["pending", "fetching", "pending"]);
    let effects = world.healthy(1);
    assert!(wrote(&effects, 0, Some(2), false) && wrote(&effects, 2, Some(2), false), "{effects:?}");
    world.healthy(0);
    world.healthy(2);
    assert_eq!((world.state(), given(&world)), ("succeeded", vec![host(1)]));
    assert!(world.rollout.view().targets[1].run_once);
}

#[test]
fn its_failure_ends_the_rollout_whatever_max_failures_says() {
    for (on_failure, state) in
        [(OnFailure::Rollback, "rolled_back"), (OnFailure::Continue, "failed"), (OnFailure::Pause, "paused")]
    {
        let mut world = world(3, &[], on_failure);
        world.reverted(0);
        world.report(0, Phase::Healthy { since_unix_ms: 1 });
        assert_eq!(world.state(), state);
        let reason = world.rollout.state.reason().unwrap();
        assert!(reason.contains("api answered 500") && reason.contains("run on no other host"), "{reason}");
        // Nobody can make it go on, since nobody knows what was done by half.
        world.send(What::Resume);
        assert!(world.rollout.state.is_final() && world.state() != "succeeded", "{}", world.state());
        assert_eq!((given(&world), &world.words()[1..]), (vec![host(0)], &["skipped", "skipped"][..]));
    }
}

#[test]
fn one_that_goes_away_or_is_removed_is_not_replaced() {
    let mut away = world(2, &[], OnFailure::Rollback);
    away.send(What::HostLost(host(0)));
    away.pass(16);
    assert_eq!(away.words()[1], "skipped");
    assert!(away.rollout.state.reason().unwrap().contains("web-0 went away"));
    let mut removed = world(2, &[], OnFailure::Continue);
    removed.send(What::HostRemoved(host(0)));
    assert!(removed.rollout.state.reason().unwrap().contains("web-0 was removed"));
    for world in [away, removed] {
        assert!(world.rollout.state.is_final() && given(&world) == [host(0)]);
    }
}

#[test]
fn after_a_pause_it_may_turn_out_to_be_well() {
    let mut world = world(2, &[], OnFailure::Pause);
    world.send(What::HostLost(host(0)));
    world.pass(16);
    assert_eq!(world.state(), "paused");
    world.send(What::HostConnected(host(0)));
    world.healthy(0);
    world.send(What::Resume);
    assert_eq!(world.words(), ["healthy", "fetching"]);
}

#[test]
fn a_pause_takes_nothing_back_and_going_back_does() {
    let mut world = world(1, &[], OnFailure::Rollback);
    let effects = world.send(What::Pause { by: "ann".to_owned() });
    let asked = Asked { release: Some(2), paused: true, run_once: true };
    assert_eq!(effects, [Effect::WriteSpec { host: host(0), asked }]);
    world.send(What::Resume);
    let effects = world.reverted(0);
    assert!(wrote(&effects, 0, Some(1), false), "{effects:?}");
}

#[test]
fn hosts_that_were_all_away_are_not_given_the_release_without_them() {
    let mut world = world(2, &[0, 1], OnFailure::Rollback);
    world.pass(1);
    assert_eq!((world.state(), world.effects.as_slice()), ("failed", &[Effect::Finished][..]));
    assert!(world.rollout.hosts[0].state.detail().contains("run nowhere"));
}
