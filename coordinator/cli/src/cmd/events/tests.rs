//! Following outlives the coordinator that it began with, and shows every event once.

use std::sync::{Arc, Mutex};

use super::*;
use crate::{
    client::double::{Double, Listening},
    show::events::tests::event,
};

fn with(ids: std::ops::RangeInclusive<i64>) -> Double {
    Double { events: ids.map(|id| event(id, "x")).collect(), ..Double::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_where_it_was_when_the_coordinator_is_back() {
    let first = Listening::start(with(1..=3), 0);
    let port = first.address.port();
    let mut client = first.client().await;
    let seen = Arc::<Mutex<Vec<i64>>>::default();
    let shown = seen.clone();
    let following = tokio::spawn(async move {
        let request = EventsRequest { follow: true, ..EventsRequest::default() };
        go_on(&mut client, request, |batch| {
            shown.lock().unwrap().extend(batch.value.iter().map(|event| event.id));
            Ok(())
        })
        .await
    });
    let until = async |count: usize| {
        while seen.lock().unwrap().len() < count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), until(3)).await.unwrap();
    drop(first);
    let _second = Listening::start(with(1..=5), port);
    tokio::time::timeout(Duration::from_secs(10), until(5)).await.unwrap();
    following.abort();
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_call_without_a_coordinator_fails_at_once() {
    let coordinator = Listening::start(Double::default(), 0);
    let mut client = coordinator.client().await;
    drop(coordinator);
    sleep(Duration::from_millis(100)).await;
    let fault = go_on(&mut client, EventsRequest::default(), |_| Ok(())).await.unwrap_err();
    assert!(["connect", "connection-lost"].contains(&fault.code), "{fault:?}");
}
