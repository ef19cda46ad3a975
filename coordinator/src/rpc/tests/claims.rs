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

#[tokio::test]
async fn of_two_apps_applied_at_once_that_want_the_same_path_one_is_refused() {
    let mut world = World::new().await;
    let mut specs = world.web_hosts(1, &fate(|_| healthy())).await;
    let named = |app: &str| AppSpec { app: app.parse().unwrap(), ..spec("one") };
    let request = |spec: &AppSpec| {
        let app_spec_json = serde_json::to_vec(spec).unwrap();
        ApplyRequest { app_spec_json, plan_id: String::new(), extent: None }
    };
    let (mut ada, mut too) = (world.operator.clone(), world.operator.clone());
    let (one, other) = (named("one"), named("other"));
    let (one, other) = tokio::join!(ada.apply(request(&one)), too.apply(request(&other)));
    let (started, refused, has) = match (one, other) {
        (Ok(started), Err(refused)) => (started.into_inner(), refused, "one"),
        (Err(refused), Ok(started)) => (started.into_inner(), refused, "other"),
        both => panic!("{both:?}"),
    };
    assert_eq!(code::of_status(&refused), Some(Code::OwnedByOther), "{refused:?}");
    let said = refused.message();
    assert!(said.contains(&format!("web-1: file /etc/mono.conf: it belongs to app {has}")), "{said}");
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);

    let mut third = named("third");
    third.files[0].path = "/etc/third.conf".parse().unwrap();
    let started = world.apply(&third).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    let apps = loop {
        let spec = specs[0].recv().await.unwrap();
        if spec.apps.contains_key(&third.app) {
            break spec.apps.into_keys().map(|app| app.to_string()).collect::<Vec<_>>();
        }
    };
    assert_eq!(apps, [has, "third"]);
}
