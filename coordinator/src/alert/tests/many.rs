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

/// So many of them fire and so many are over, those among them that are only counted.
fn counted(told: &serde_json::Value) -> (u64, u64) {
    let (firing, resolved) = (told["firing"].as_u64().unwrap(), told["resolved"].as_u64().unwrap());
    let more = told["more"].as_u64().unwrap();
    if told["status"] == "firing" { (firing + more, resolved) } else { (firing, resolved + more) }
}

#[tokio::test]
async fn a_thousand_hosts_that_alert_at_once_are_told_in_one() {
    let receiver = Receiver::start(Mode::Answers(200)).await;
    let world = World::new(1000, &hook(&receiver, "")).await;
    (0..1000).for_each(|host| world.says(host, vec![full("/")]));
    world.time.until(async || !receiver.taken().is_empty()).await;
    world.time.passes(Duration::from_secs(5)).await;
    let told = receiver.taken();
    assert_eq!((told.len(), counted(&told[0])), (1, (1000, 0)), "all of them in the count");
    assert_eq!((told[0]["alerts"].as_array().unwrap().len(), &told[0]["more"]), (50, &950.into()));
    assert_eq!(told[0]["title"], "[FIRING:50+] disk on 50 hosts (critical)");
    (0..1000).for_each(|host| world.says(host, vec![]));
    world.time.until(async || receiver.taken().len() > 1).await;
    world.time.passes(Duration::from_secs(5)).await;
    let told = receiver.taken();
    assert_eq!((told.len(), counted(&told[1])), (2, (0, 1000)), "and their end");
}

#[tokio::test]
async fn hundreds_of_groups_are_told_no_faster_than_the_limit_and_each_once() {
    let receiver = Receiver::start(Mode::Answers(200)).await;
    let routes = "[[routes]]\nnotify = [\"hook\"]\ngroup_by = [\"host\"]\n[limits]\nper_minute = 60\n";
    let world = World::new(300, &hook(&receiver, routes)).await;
    (0..300).for_each(|host| world.says(host, vec![full("/")]));
    for minute in 1..=3 {
        world.time.passes(Duration::from_secs(58)).await;
        let heard = receiver.heard().len();
        assert!(heard <= 60 * minute, "{heard} in {minute} minutes");
    }
    world.time.until(async || receiver.taken().len() >= 300).await;
    world.time.passes(Duration::from_secs(70)).await;
    let hosts = receiver.taken().iter().map(|told| told["group"]["host"].to_string()).collect::<Vec<_>>();
    let different: std::collections::BTreeSet<&String> = hosts.iter().collect();
    assert_eq!((hosts.len(), different.len()), (300, 300));
}
