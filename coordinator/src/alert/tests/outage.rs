//! A receiver that takes nothing for an hour.

use super::*;

/// `/1 firing` and the like, in the order in which it was told.
fn said(told: &[serde_json::Value]) -> Vec<String> {
    let of = |alert: &serde_json::Value| format!("{} {}", alert["labels"]["subject"], alert["status"]).replace('"', "");
    told.iter().flat_map(|told| told["alerts"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn an_hour_without_a_receiver_loses_nothing_and_doubles_nothing() {
    let receiver = Receiver::start(Mode::Answers(500)).await;
    let world = World::new(2, &hook(&receiver, "")).await;
    let mut expected = Vec::new();
    for part in 0..6 {
        receiver.does([Mode::Answers(500), Mode::Hangs, Mode::Answers(503)][part % 3]);
        let (stays, goes) = (format!("/{part}"), format!("/{part}-goes"));
        // Those of the parts before go on; one more stays, and one more goes.
        let before: Vec<AlertStatus> = (0..part).map(|part| full(&format!("/{part}"))).collect();
        world.says(0, [before.clone(), vec![full(&stays), full(&goes)]].concat());
        world.time.passes(Duration::from_secs(301)).await;
        world.says(0, [before, vec![full(&stays)]].concat());
        world.time.passes(Duration::from_secs(301)).await;
        expected.extend([format!("{stays} firing"), format!("{goes} firing"), format!("{goes} resolved")]);
    }
    assert!(receiver.taken().is_empty() && receiver.heard().len() > 10, "{}", receiver.heard().len());
    assert_eq!(world.waiting().await, 12);
    let states = world.kept.store.notifier_states().await.unwrap();
    assert!(states.values().all(|state| state.failure.is_some()));
    receiver.does(Mode::Answers(200));
    world.time.passes(Duration::from_secs(400)).await;
    assert_eq!((said(&receiver.taken()), world.waiting().await), (expected, 0));
    world.time.passes(Duration::from_secs(600)).await;
    assert_eq!(receiver.taken().len(), 12, "and nothing comes after it");
    let states = world.kept.store.notifier_states().await.unwrap();
    assert!(states.values().all(|state| state.failure.is_none()));
}
