//! What is being sent while the coordinator stops, or takes up other settings.

use super::*;

#[tokio::test]
async fn what_is_being_sent_at_a_stop_is_sent_once() {
    let receiver = Receiver::start(Mode::Waits).await;
    let mut world = World::new(1, &hook(&receiver, "")).await;
    world.says(0, vec![full("/")]);
    world.time.until(async || receiver.heard().len() == 1).await;
    world.stop.cancel();
    let ended = tokio::spawn({
        let alerts = world.alerts.clone();
        async move { alerts.ended().await }
    });
    settle(50).await;
    assert!(!ended.is_finished(), "it waits for the answer");
    receiver.does(Mode::Answers(200));
    ended.await.unwrap();
    assert_eq!((world.waiting().await, receiver.taken().len()), (0, 1));

    world.starts_again(&hook(&receiver, "")).await;
    world.says(0, vec![full("/")]);
    world.time.passes(Duration::from_secs(5)).await;
    assert_eq!(receiver.heard().len(), 1, "the next start does not send it again");
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_hold_up_a_stop_for_long() {
    let receiver = Receiver::start(Mode::Hangs).await;
    let world = World::new(1, &hook(&receiver, "timeout = \"1m\"")).await;
    world.says(0, vec![full("/")]);
    world.time.until(async || receiver.heard().len() == 1).await;
    world.stop.cancel();
    let began = tokio::time::Instant::now();
    let ended = tokio::spawn({
        let alerts = world.alerts.clone();
        async move { alerts.ended().await }
    });
    world.time.until(async || ended.is_finished()).await;
    assert!(began.elapsed() <= Duration::from_secs(16), "{:?}", began.elapsed());
    assert_eq!(world.waiting().await, 1, "the next start sends it");
}

#[tokio::test]
async fn what_is_being_sent_when_a_notifier_becomes_another_is_sent_once() {
    let receiver = Receiver::start(Mode::Waits).await;
    let world = World::new(1, &hook(&receiver, "")).await;
    world.says(0, vec![full("/")]);
    world.time.until(async || receiver.heard().len() == 1).await;
    for timeout in ["9s", "8s"] {
        let other = hook(&receiver, &format!("timeout = \"{timeout}\""));
        world.alerts.follow(read(&other)).await.unwrap();
    }
    world.time.passes(Duration::from_secs(1)).await;
    assert_eq!(receiver.heard().len(), 1, "nothing is begun beside it");
    receiver.does(Mode::Answers(200));
    world.time.passes(Duration::from_secs(3)).await;
    assert_eq!((receiver.heard().len(), world.waiting().await), (1, 0));
    world.says(0, vec![]);
    world.time.until(async || receiver.taken().len() == 2).await;
    assert_eq!(receiver.heard()[1]["status"], "resolved", "and the new one goes on");
}

#[tokio::test]
async fn a_notifier_that_is_gone_leaves_nothing() {
    let receiver = Receiver::start(Mode::Waits).await;
    let world = World::new(1, &hook(&receiver, "")).await;
    world.says(0, vec![full("/")]);
    world.time.until(async || receiver.heard().len() == 1).await;
    world.alerts.follow(read("")).await.unwrap();
    receiver.does(Mode::Answers(500));
    world.time.passes(Duration::from_secs(3)).await;
    assert_eq!((receiver.heard().len(), world.waiting().await), (1, 0));
    assert!(world.kept.store.notifier_states().await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_stored_for_a_notifier_that_is_gone() {
    let receiver = Receiver::start(Mode::Hangs).await;
    let settings = hook(&receiver, "[[routes]]\nnotify = [\"hook\"]\ngroup_wait = \"0s\"\ngroup_by = [\"subject\"]\n");
    let world = World::new(1, &settings).await;
    for round in 0..60 {
        world.alerts.follow(read(&settings)).await.unwrap();
        world.says(0, vec![full(&format!("/{round}"))]);
        settle(round % 6).await;
        world.alerts.follow(read("")).await.unwrap();
        settle(5).await;
        assert_eq!(world.waiting().await, 0, "in round {round}");
    }
}
