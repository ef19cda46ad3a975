//! Hosts that are cordoned and uncordoned while rollouts come and go.

use drover_proto::wire::{ControlRolloutRequest, CordonHostRequest, control_rollout_request::Control};

use super::*;

async fn cordon(world: &mut World, host: &str, cordoned: bool) {
    world.operator.cordon_host(CordonHostRequest { host: host.to_owned(), cordoned }).await.unwrap();
}

#[tokio::test]
async fn a_host_that_a_rollout_never_reached_gets_what_passed_it_by_when_that_rollout_ends() {
    let mut world = World::new().await;
    let stuck_3 = fate(|release| if release == 3 { Phase::Pending } else { healthy() });
    world.web_hosts(2, &stuck_3).await;
    let started = world.apply(&spec("one")).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    cordon(&mut world, "web-2", true).await;
    let started = world.apply(&spec("two")).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);

    // It waits for its turn in a rollout that never comes to it.
    let started = world.apply(&spec("three")).await.unwrap();
    cordon(&mut world, "web-2", false).await;
    let desired = async |world: &mut World| world.status().await.hosts[1].desired;
    assert_eq!(desired(&mut world).await, Some(1));
    let abort = ControlRolloutRequest { rollout_id: started.rollout_id, control: Control::Abort as i32 };
    world.operator.control_rollout(abort).await.unwrap();
    let given = async {
        while desired(&mut world).await != Some(2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), given).await.expect("it missed release 2");
}

#[tokio::test]
async fn a_rollout_takes_hosts_as_they_are_when_it_begins() {
    let mut world = World::new().await;
    world.web_hosts(2, &fate(|_| healthy())).await;
    let store = world.app.store.clone();
    let looked_up = store.hosts().await.unwrap();
    cordon(&mut world, "web-1", true).await;
    world.operator.remove_host(RemoveHostRequest { host: "web-2".to_owned() }).await.unwrap();
    let wish = crate::rollout::Wish {
        app: "mono".parse().unwrap(),
        kind: crate::rollout::Kind::Apply,
        target: Some(1),
        strategy: Strategy::default(),
        by: "ada".to_owned(),
        once: false,
    };
    let id = world.services.rollouts.begin(wish, looked_up).await.unwrap();
    let end = world.end(id).await;
    assert_eq!(end.targets.len(), 1, "{end:?}");
    assert!(store.hosts_of(&"mono".parse().unwrap()).await.unwrap().is_empty(), "nothing is given to a cordoned host");
}
