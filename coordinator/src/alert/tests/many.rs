//! Many hosts at once.

use super::*;

#[tokio::test]
async fn hosts_that_go_away_at_once_cost_one_write() {
    let world = World::new(400, "").await;
    world.time.passes(STEP).await;
    let log = world.kept.emptied_log().await;
    (0..400).for_each(|host| world.goes(host));
    world.time.until(async || world.alerts.views(world.now_ms()).len() == 400).await;
    // Each write of its own would add the pages that it changes; together they are written once.
    let bytes = std::fs::metadata(log).unwrap().len();
    assert!(bytes < 1_000_000, "{bytes} bytes");
    assert_eq!(world.kept.store.fleet_alerts().await.unwrap().len(), 400);
}
