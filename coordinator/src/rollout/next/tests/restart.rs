//! Restarts: each host keeps its release. Beside the steps in `tests`.

use super::*;

/// A restart of hosts with release 1 and 2; `away` = not connected.
fn world(away: &[usize], on_failure: OnFailure) -> World {
    let mut world = World::new(3, strategy(1, 0, on_failure), Some(2));
    world.rollout.kind = Kind::Restart;
    world.rollout.hosts[1].before = Some(2);
    for index in away {
        world.rollout.hosts[*index].link = Link::Down { since_unix_ms: 0 };
    }
    world.send(What::Start);
    world
}

#[test]
fn each_host_keeps_its_release_and_proves_itself() {
    let mut world = world(&[2], OnFailure::Rollback);
    assert!(wrote(&world.effects, 0, Some(1), false));
    let effects = world.healthy(0);
    assert!(wrote(&effects, 1, Some(2), false), "{effects:?}");
    assert_eq!(world.healthy(1), [Effect::Finished], "no release becomes good, and nobody is restarted later");
    assert_eq!((world.state(), world.words()), ("succeeded", vec!["healthy", "healthy", "skipped"]));
    assert_eq!(world.rollout.hosts[2].state.detail(), "not connected; it is not restarted");
}

#[test]
fn a_failure_stops_it_and_there_is_nothing_to_go_back_to() {
    for on_failure in [OnFailure::Rollback, OnFailure::Pause] {
        let mut world = world(&[], on_failure);
        world.reverted(0);
        world.send(What::Abort { by: "ann".to_owned() });
        let wanted = if on_failure == OnFailure::Rollback { "failed" } else { "aborted" };
        assert_eq!(world.state(), wanted);
        let writes = |effect: &&Effect| matches!(effect, Effect::WriteSpec { .. });
        assert_eq!(world.effects.iter().filter(writes).count(), 1, "{:?}", world.effects);
    }
}
