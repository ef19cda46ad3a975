//! Events from a host's stream to an operator's, once each, over lost acknowledgements.

use drover_proto::{
    event::{Event, EventKind},
    view::EventView,
    wire::{Events, EventsRequest, Hello, from_agent, to_agent},
};
use tonic::Streaming;

use super::{hostile::Liar, *};

fn batch(first_seq: u64, numbers: std::ops::RangeInclusive<i64>) -> from_agent::Message {
    let event = |n| Event { at_unix_ms: n, app: None, kind: EventKind::DriftRepaired, message: format!("number {n}") };
    let events: Vec<Event> = numbers.map(event).collect();
    let events_json = serde_json::to_vec(&events).unwrap();
    from_agent::Message::Events(Events { spool_id: "run".to_owned(), first_seq, events_json })
}

async fn acked(host: &mut Liar) -> u64 {
    loop {
        let message = host.incoming.message().await.unwrap().and_then(|message| message.message);
        if let to_agent::Message::EventsAck(ack) = message.expect("the stream ended") {
            assert_eq!(ack.spool_id, "run");
            return ack.up_to_seq;
        }
    }
}

/// The next `count` events of hosts.
async fn next(stream: &mut Streaming<View>, count: usize) -> Vec<i64> {
    let mut times = Vec::new();
    while times.len() < count {
        let view = stream.message().await.unwrap().expect("the stream ended");
        let events: Vec<EventView> = read(view);
        times.extend(events.iter().filter(|event| event.kind == "drift-repaired").map(|event| event.at_unix_ms));
    }
    times
}

#[tokio::test]
async fn events_are_acknowledged_listed_and_followed_once_each() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    host.welcome().await;
    host.say(batch(1, 1..=3)).await;
    assert_eq!(acked(&mut host).await, 3);
    let everything = EventsRequest::default();
    let mut listed = world.operator.events(everything.clone()).await.unwrap().into_inner();
    assert_eq!(next(&mut listed, 3).await, [1, 2, 3]);
    assert!(listed.message().await.unwrap().is_none(), "a list has an end");

    let follow = EventsRequest { follow: true, limit: 2, host: "web-1".to_owned(), ..EventsRequest::default() };
    let mut followed = world.operator.events(follow.clone()).await.unwrap().into_inner();
    assert_eq!(next(&mut followed, 2).await, [2, 3], "first the newest");
    // The acknowledgement was lost: the same once more on the next stream, and what came after it.
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    host.welcome().await;
    host.say(batch(1, 1..=3)).await;
    assert_eq!(acked(&mut host).await, 3);
    host.say(batch(4, 4..=600)).await;
    let said = host.incoming.message().await.map(|message| message.map(|m| m.message));
    assert_eq!(code::of_status(&said.unwrap_err()), Some(Code::Protocol), "more than a batch may have");
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    host.welcome().await;
    for first in (4_i64..=600).step_by(199) {
        host.say(batch(first as u64, first..=first + 198)).await;
        acked(&mut host).await;
    }
    assert_eq!(next(&mut followed, 597).await, (4..=600).collect::<Vec<_>>(), "then all that come, and none twice");
    let last = read::<Vec<EventView>>({
        let limited = EventsRequest { limit: 1, ..everything };
        world.operator.events(limited).await.unwrap().into_inner().message().await.unwrap().unwrap()
    });
    // Taken up again somewhere in the middle, more than one message behind.
    let again = EventsRequest { after_id: last[0].id - 550, ..follow };
    let mut again = world.operator.events(again).await.unwrap().into_inner();
    assert_eq!(next(&mut again, 550).await, (51..=600).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_coordinator_does_is_told_in_the_same_stream() {
    let mut world = World::new().await;
    world.web_hosts(1, &fate(|_| healthy())).await;
    let started = world.apply(&spec("one")).await.unwrap();
    world.end(started.rollout_id).await;
    world.operator.remove_host(RemoveHostRequest { host: "web-1".to_owned() }).await.unwrap();
    let mut listed = world.operator.events(EventsRequest::default()).await.unwrap().into_inner();
    let events: Vec<EventView> = read(listed.message().await.unwrap().unwrap());
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["host-enrolled", "rollout-started", "rollout-ended", "host-removed"]);
    assert_eq!(events[2].message, format!("rollout {}: succeeded", started.rollout_id));
    assert!(events[1].app.is_some() && events[1].host.is_none() && events[3].host.as_deref() == Some("web-1"));
    // The name is another host's now, which has nothing of the one before.
    world.host("web-1", "web").await;
    let of_host = EventsRequest { host: "web-1".to_owned(), ..EventsRequest::default() };
    let mut listed = world.operator.events(of_host).await.unwrap().into_inner();
    let events: Vec<EventView> = read(listed.message().await.unwrap().unwrap());
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["host-enrolled"]);
}
