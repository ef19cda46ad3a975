//! Hosts that invent apps, and what a revoked one gets.

use drover_proto::wire::{HeldApp, Hello};

use super::{
    hostile::{Liar, detail},
    *,
};

#[tokio::test]
async fn a_host_that_invents_apps_is_turned_away_and_leaves_nothing() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let held = |numbers: std::ops::Range<usize>| {
        numbers.map(|n| HeldApp { app: format!("app-{n:04}"), release: 1, rollout: 1 }).collect::<Vec<_>>()
    };
    let ahead = |generation, apps| Hello { generation, apps, ..Hello::default() };
    let mut host = Liar::new(&world, &identity, ahead(50, held(0..201))).await.unwrap();
    assert_eq!(code::of_status(&host.spec().await.unwrap_err()), Some(Code::Protocol));
    assert_eq!((detail(&mut world).await.host.generation, detail(&mut world).await.host.kept.len()), (0, 0));
    for from in (50..100).step_by(10) {
        let mut host = Liar::new(&world, &identity, ahead(from as u64, held(from..from + 200))).await.unwrap();
        host.welcome().await;
        let kept = detail(&mut world).await.host.kept;
        assert!(kept.len() == 200 && kept.contains(&format!("app-{from:04}").parse().unwrap()), "{}", kept.len());
    }
}

#[tokio::test]
async fn what_is_left_of_a_revoked_hosts_spec_is_not_sent() {
    let mut world = World::new().await;
    world.web_hosts(1, &fate(|_| healthy())).await;
    let started = world.apply(&spec("one")).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    let id = detail(&mut world).await.host.id;
    let sent = crate::session::document(&world.services.store, &id).await.unwrap();
    assert!(sent.is_some());
    world.operator.revoke_host(HostRequest { host: "web-1".to_owned() }).await.unwrap();
    assert!(crate::session::document(&world.services.store, &id).await.unwrap().is_none());
}
