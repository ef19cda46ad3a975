//! A coordinator that ends in the middle and begins again.

use super::*;

#[tokio::test]
async fn a_coordinator_that_restarts_goes_on_with_its_rollouts() {
    let mut world = World::new().await;
    let hosts = [world.host("web-1", "web").await, world.host("web-2", "web").await];
    // The first host never ends; then the coordinator does.
    let mut specs = world.connect(hosts[0].clone(), fate(|_| Phase::Pending)).await;
    let started = world.apply(&spec("one")).await.unwrap();
    specs.recv().await.unwrap();
    world.app.stop.cancel();
    world.services.ended().await;

    let again = tokio_util::sync::CancellationToken::new();
    let services = Services::start(
        world.app.store.clone(),
        world.app.blobs.clone(),
        world.app.ca.clone(),
        crate::alert::Alerting::default(),
        again.clone(),
    )
    .await
    .unwrap();
    let config = listen::server_config(&world.app.ca).unwrap();
    let (address, connections) = listen::bind("127.0.0.1:0".parse().unwrap(), config, again.clone()).await.unwrap();
    let routes = services.routes();
    tokio::spawn(
        crate::app::server().add_routes(routes).serve_with_incoming_shutdown(connections, again.cancelled_owned()),
    );
    world.address = address.to_string();
    world.services = services.clone();
    let mut views = services.rollouts.watch(started.rollout_id).unwrap();
    for host in hosts {
        world.connect(host, fate(|_| healthy())).await;
    }
    let ended = views.wait_for(|view| view.summary.state.is_final()).await.unwrap();
    assert_eq!(ended.summary.state, RolloutState::Succeeded);
}
