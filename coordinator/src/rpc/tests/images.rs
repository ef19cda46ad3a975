//! Tags of images become digests when a release is made.

use drover_proto::{
    app::{Container, Limits, Restart, Rights},
    digest::Digest,
    source::Credentials,
};

use super::*;

fn with(image: &str) -> AppSpec {
    let container = Container {
        image: image.parse().unwrap(),
        credentials: None,
        entrypoint: None,
        command: None,
        env: None,
        environment: [].into(),
        secrets: [].into(),
        ports: [].into(),
        volumes: vec![],
        networks: [].into(),
        limits: Limits::default(),
        rights: Rights::default(),
        user: None,
        working_dir: None,
        restart: Restart::Always,
        healthcheck: None,
        logging: None,
        stop_signal: None,
        stop_grace_period: "10s".parse().unwrap(),
        labels: [].into(),
        drift: drover_proto::app::Drift::Repair,
        restart_on_change: None,
        adopt: false,
        handover: None,
    };
    AppSpec { containers: [("shop".parse().unwrap(), container)].into(), ..spec("one") }
}

fn image_of(spec: &drover_proto::spec::HostSpec) -> String {
    spec.apps.values().flat_map(|app| app.spec.containers.values()).map(|c| c.image.to_string()).collect()
}

#[tokio::test]
async fn a_release_holds_what_its_tags_meant_when_it_was_made() {
    let mut world = World::new().await;
    let mut specs = world.web_hosts(1, &fate(|_| healthy())).await;
    let started = world.apply(&with("shop:1")).await.unwrap();
    world.end(started.rollout_id).await;
    let one = Digest::of(b"shop:1");
    assert_eq!(image_of(&specs[0].recv().await.unwrap()), format!("shop:1@{one}"));

    let again = world.apply(&with("shop:1")).await.unwrap();
    assert!(again.rollout_id == 0 && again.message.contains("nothing to do"), "{again:?}");
    let pinned = world.apply(&with(&format!("shop:2@{one}"))).await.unwrap();
    assert_eq!(pinned.release, 2, "another tag is another release, and is not looked up where a digest says it");
    world.end(pinned.rollout_id).await;
}

#[tokio::test]
async fn an_image_that_cannot_be_looked_up_refuses_the_plan() {
    let mut world = World::new().await;
    world.host("web-1", "web").await;
    let offline = world.plan(&with("shop:1")).await.unwrap_err();
    assert_eq!(code::of_status(&offline), Some(Code::Image));
    assert!(offline.message().contains("none of its hosts is connected"), "{}", offline.message());

    let mut world = World::new().await;
    world.web_hosts(1, &fate(|_| healthy())).await;
    let refused = world.plan(&with("registry.example.org/private/shop:1")).await.unwrap_err();
    assert_eq!(code::of_status(&refused), Some(Code::Image));
    assert!(refused.message().contains("unauthorized (asked by web-"), "{}", refused.message());

    let mut known = with("registry.example.org/private/shop:1");
    let secret = "registry".parse().unwrap();
    known.secrets.insert("registry".parse().unwrap(), SecretSource::Stored(secret));
    let credentials = Credentials { username: Some("ada".to_owned()), secret: "registry".parse().unwrap() };
    known.containers.values_mut().for_each(|container| container.credentials = Some(credentials.clone()));
    let missing = world.plan(&known).await.unwrap_err();
    assert_eq!(code::of_status(&missing), Some(Code::SecretMissing), "{missing:?}");
    let set = SetSecretRequest { name: "registry".to_owned(), environment: String::new(), value: b"hunter2".to_vec() };
    world.operator.set_secret(set).await.unwrap();
    world.plan(&known).await.unwrap();
}

#[tokio::test]
async fn a_host_that_has_just_gone_is_waited_for() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let _specs = world.connect(identity.clone(), fate(|_| healthy())).await;
    let host = world.services.sessions.connected().pop_first().unwrap();
    world.services.sessions.close(&host);
    while world.services.sessions.away_since(&host).is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut operator = world.operator.clone();
    let request = PlanRequest { app_spec_json: serde_json::to_vec(&with("shop:1")).unwrap(), extent: None };
    let planned = tokio::spawn(async move { operator.plan(request).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!planned.is_finished(), "it is being started again");
    let _specs = world.connect(identity, fate(|_| healthy())).await;
    planned.await.unwrap().unwrap();
}
