//! What is not told, or not taken: a maintenance window holds back, and a receiver refuses for good.

use super::*;
use crate::store::EventFilter;

fn alerts_in(told: &[serde_json::Value]) -> Vec<String> {
    let of = |alert: &serde_json::Value| alert["labels"]["alert"].as_str().unwrap().to_owned();
    told.iter().flat_map(|told| told["alerts"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn a_maintenance_window_holds_back_what_it_matches_until_it_closes() {
    let receiver = Receiver::start(Mode::Answers(200)).await;
    let minute = clock::unix_ms().div_euclid(60_000).rem_euclid(24 * 60);
    let (hour, minute) = (minute / 60, minute % 60);
    let window = format!(
        "[[maintenance]]\nname = \"now\"\nmatch = [\"alert=disk\"]\nstart = \"{hour:02}:{minute:02}\"\nlasts = \"10m\"\n"
    );
    let world = World::new(1, &format!("{}\n{window}", hook(&receiver, ""))).await;
    world.says(0, vec![full("/"), status("cpu", "", Severity::Warning)]);
    world.time.passes(Duration::from_secs(120)).await;
    assert_eq!(alerts_in(&receiver.taken()), ["cpu"]);
    let muted: Vec<_> = world.alerts.views(world.now_ms()).into_iter().map(|alert| alert.muted).collect();
    assert_eq!(muted, [Some("in the maintenance window \"now\"".to_owned()), None]);
    world.time.passes(Duration::from_secs(600)).await;
    assert_eq!(alerts_in(&receiver.taken()), ["cpu", "disk"]);
}

#[tokio::test]
async fn what_a_receiver_refuses_for_good_is_told_as_an_event_and_not_tried_again() {
    let receiver = Receiver::start(Mode::Answers(400)).await;
    let world = World::new(1, &hook(&receiver, "")).await;
    world.says(0, vec![full("/")]);
    world.time.until(async || !receiver.heard().is_empty() && world.waiting().await == 0).await;
    let events = world.kept.store.events_before(&EventFilter::default(), i64::MAX, 100).await.unwrap();
    let failed = events.iter().filter(|event| event.kind == "notification-failed");
    let said: Vec<&str> = failed.map(|event| event.message.as_str()).collect();
    assert!(said.len() == 1 && said[0].contains("hook") && said[0].contains("400"), "{events:#?}");
    let states = world.kept.store.notifier_states().await.unwrap();
    assert!(states.values().all(|state| state.failure.is_some()), "until one is taken");
    world.time.passes(Duration::from_secs(400)).await;
    assert_eq!(receiver.heard().len(), 1);
}
