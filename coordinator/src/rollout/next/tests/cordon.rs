//! Hosts that are cordoned while a rollout runs, and before. Beside the steps in `tests`.

use super::*;

fn cordon(index: usize) -> What {
    What::HostCordoned { host: host(index), by: "ann".to_owned() }
}

#[test]
fn a_cordoned_host_is_skipped_and_given_nothing_at_the_end() {
    let mut world = World::started(3, strategy(1, 0, OnFailure::Rollback));
    world.send(cordon(2));
    assert_eq!(world.rollout.hosts[2].state.detail(), "cordoned by ann");
    world.send(What::HostLost(host(2)));
    world.send(What::HostConnected(host(2)));
    world.healthy(0);
    world.healthy(1);
    assert_eq!((world.state(), world.words()), ("succeeded", vec!["healthy", "healthy", "skipped"]));
    let to_it = |effect: &Effect| matches!(effect, Effect::WriteSpec { host: id, .. } if *id == host(2));
    assert!(!world.effects.iter().any(to_it));
}

#[test]
fn what_has_begun_ends_there_and_may_go_back() {
    let mut world = World::started(2, strategy(1, 0, OnFailure::Rollback));
    world.send(cordon(0));
    assert_eq!(world.words(), ["fetching", "pending"]);
    world.healthy(0);
    let effects = world.reverted(1);
    assert!(wrote(&effects, 0, Some(1), false), "{effects:?}");
}

#[test]
fn uncordoned_in_time_it_takes_its_turn() {
    let mut world = World::started(2, strategy(1, 0, OnFailure::Rollback));
    world.send(cordon(1));
    world.send(What::HostUncordoned(host(1)));
    assert_eq!(world.words(), ["fetching", "pending"]);
    world.healthy(0);
    world.healthy(1);
    assert_eq!(world.state(), "succeeded");
}
