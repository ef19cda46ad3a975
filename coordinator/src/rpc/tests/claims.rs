//! Two apps that want the same path on one host: the second is refused before a spec that no agent takes is written.

use super::*;

#[tokio::test]
async fn what_another_app_has_on_a_host_is_refused() {
    let mut world = World::new().await;
    // Not connected: only the coordinator can tell.
    world.host("web-1", "web").await;
    let started = world.apply(&spec("one")).await.unwrap();
    let other = AppSpec { app: "other".parse().unwrap(), ..spec("two") };
    for status in [world.plan(&other).await.unwrap_err(), world.apply(&other).await.unwrap_err()] {
        assert_eq!(code::of_status(&status), Some(Code::OwnedByOther), "its rollout has begun: {status:?}");
        let said = status.message();
        assert!(said.contains("web-1: file /etc/mono.conf: it belongs to app mono"), "{said}");
    }
    world.end(started.rollout_id).await;
    let status = world.apply(&other).await.unwrap_err();
    assert_eq!(code::of_status(&status), Some(Code::OwnedByOther), "it waits in the spec: {status:?}");

    let mut elsewhere = other.clone();
    elsewhere.files[0].path = "/etc/other.conf".parse().unwrap();
    world.apply(&elsewhere).await.unwrap();
}

#[tokio::test]
async fn a_host_that_comes_to_match_is_not_given_what_another_app_has() {
    let mut world = World::new().await;
    let good = fate(|_| healthy());
    world.web_hosts(1, &good).await;
    let started = world.apply(&spec("one")).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    let identity = world.host("db-1", "db").await;
    let mut specs = world.connect(identity, good).await;
    let targets = [("role".parse().unwrap(), "db".parse().unwrap())].into();
    let other = AppSpec { app: "other".parse().unwrap(), targets, ..spec("two") };
    let started = world.apply(&other).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    assert_eq!(specs.recv().await.unwrap().apps.len(), 1);

    let set = [("role".to_owned(), "web".to_owned())].into();
    let label = LabelHostRequest { host: "db-1".to_owned(), set, remove: vec![] };
    let host: HostView = read(world.operator.label_host(label).await.unwrap().into_inner());
    assert_eq!(host.apps.keys().map(ToString::to_string).collect::<Vec<_>>(), ["other"]);
}
