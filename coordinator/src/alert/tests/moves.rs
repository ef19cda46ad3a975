//! Alerts that come to other receivers while they fire, and what is taken by some of a receiver's people.

use super::*;

/// Two of them, and the routes between them.
fn two(one: &Receiver, other: &Receiver, routes: &str) -> String {
    let notifier = |name: &str, receiver: &Receiver| {
        format!("[notifiers.{name}]\ntype = \"webhook\"\nurl = \"{}\"\n", receiver.url)
    };
    format!("{}{}{routes}", notifier("one", one), notifier("other", other))
}

#[tokio::test]
async fn what_comes_to_another_receiver_is_not_over_for_the_first() {
    let (one, other) = (Receiver::start(Mode::Answers(200)).await, Receiver::start(Mode::Answers(200)).await);
    let all = "[[routes]]\nnotify = [\"one\"]\ngroup_interval = \"1s\"\n";
    let world = World::new(1, &two(&one, &other, all)).await;
    world.says(0, vec![full("/")]);
    world.time.until(async || one.taken().len() == 1).await;
    let critical = "[[routes]]\nmatch = [\"severity=critical\"]\nnotify = [\"other\"]\ngroup_interval = \"1s\"\n";
    world.alerts.follow(read(&two(&one, &other, &format!("{critical}{all}")))).await.unwrap();
    world.time.until(async || other.taken().len() == 1).await;
    world.time.passes(Duration::from_secs(10)).await;
    assert_eq!((one.taken().len(), other.taken()[0]["status"].as_str()), (1, Some("firing")));
    world.says(0, vec![]);
    world.time.until(async || one.taken().len() == 2 && other.taken().len() == 2).await;
    assert!([one, other].iter().all(|receiver| receiver.taken()[1]["status"] == "resolved"));
}

#[tokio::test]
async fn after_an_outage_a_receiver_is_sent_no_more_than_it_takes_in_a_minute() {
    let receiver = Receiver::start(Mode::Answers(500)).await;
    let by_disk = "[[routes]]\nnotify = [\"hook\"]\ngroup_by = [\"subject\"]\n[limits]\nper_minute = 5\n";
    let world = World::new(1, &hook(&receiver, by_disk)).await;
    world.says(0, (0..20).map(|number| full(&format!("/{number:02}"))).collect());
    world.time.passes(Duration::from_secs(190)).await;
    assert_eq!(world.waiting().await, 20);
    receiver.does(Mode::Answers(200));
    world.time.until(async || !receiver.taken().is_empty()).await;
    world.time.passes(Duration::from_secs(30)).await;
    assert!(receiver.taken().len() <= 5, "{}", receiver.taken().len());
    world.time.passes(Duration::from_secs(240)).await;
    assert_eq!((receiver.taken().len(), world.waiting().await), (20, 0));
}

#[tokio::test]
async fn what_is_left_for_some_keeps_nothing_from_the_others() {
    let kept = temporary().await;
    let name: drover_proto::name::NotifierName = "mail".parse().unwrap();
    for key in ["a", "b"] {
        let notification = NewNotification { notifier: name.clone(), document: key.to_owned() };
        let change = GroupChange { key: key.to_owned(), group: None, notification: Some(notification) };
        kept.store.change_groups(&[change], 1).await.unwrap();
    }
    let next = async |now_ms| kept.store.next_notification(&name, now_ms).await.unwrap().unwrap();
    let first = next(10).await;
    let again = Some(Again { next_ms: 500, rest: Some("the rest of a".to_owned()) });
    let by_some = Attempt { is_taken: true, again, ..Attempt::default() };
    kept.store.notification_tried(&name, first.seq, &by_some, 10).await.unwrap();
    assert_eq!(next(10).await.document, "b", "what is not due keeps nothing waiting");
    let due = next(500).await;
    assert_eq!((due.document.as_str(), due.is_rest), ("the rest of a", true));
    assert_eq!(kept.store.groups_waiting().await.unwrap(), [(name.clone(), "b".to_owned())]);
    assert_eq!(kept.store.rests_waiting(&name).await.unwrap(), 1);
    let taken = Attempt { is_taken: true, ..Attempt::default() };
    kept.store.notification_tried(&name, next(10).await.seq, &taken, 20).await.unwrap();
    assert_eq!(next(20).await.document, "the rest of a", "and then there is nothing else to wait for");
}
