//! Each event once, whatever is sent again; filters; and an end to what is kept.

use std::collections::BTreeMap;

use super::*;
use crate::{
    store::{NewHost, NewToken, Upgrade},
    vault::Vault,
};

struct Temporary {
    _dir: tempfile::TempDir,
    store: Store,
}

/// A store with the hosts `web-1` and `web-2`; their enrolment is in it as two events.
async fn temporary() -> Temporary {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::create(&dir.path().join("secret.key")).unwrap();
    let store = Store::open(&dir.path().join("coordinator.db"), vault, Upgrade::Migrate).await.unwrap();
    let labels = BTreeMap::new();
    let token = NewToken { id: "t1", secret: b"correct", labels: &labels, uses: 2, expires_ms: 1000 };
    store.create_token(token, "ada", 1).await.unwrap();
    for n in 1..=2 {
        let new = NewHost {
            id: id(n),
            name: format!("web-{n}").parse().unwrap(),
            agent_version: "0.1.0".to_owned(),
            serial: format!("0{n}"),
            not_after_ms: 9000,
        };
        store.enroll_host("t1", b"correct", new, 2).await.unwrap();
    }
    Temporary { _dir: dir, store }
}

fn id(n: u8) -> HostId {
    format!("h-{n:016}").parse().unwrap()
}

fn events(numbers: std::ops::RangeInclusive<i64>) -> Vec<Option<Event>> {
    let app = |n| (n % 2 == 0).then(|| "mono".parse().unwrap());
    let event =
        |n: i64| Event { at_unix_ms: n, app: app(n), kind: EventKind::DriftRepaired, message: format!("number {n}") };
    numbers.map(|n| Some(event(n))).collect()
}

async fn all(store: &Store, filter: &EventFilter) -> Vec<String> {
    let rows = store.events_before(filter, i64::MAX, 10_000).await.unwrap();
    rows.into_iter().filter(|row| row.kind != "host-enrolled").map(|row| row.message).collect()
}

fn named(numbers: impl IntoIterator<Item = i64>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("number {n}")).collect()
}

#[tokio::test]
async fn what_is_sent_again_is_left_out() {
    let t = temporary().await;
    let everything = EventFilter::default();
    t.store.add_events(&id(1), "a", 1, &events(1..=3), 10).await.unwrap();
    for _ in 0..2 {
        t.store.add_events(&id(1), "a", 1, &events(1..=3), 11).await.unwrap();
    }
    // The same again with more behind it, and then a gap: something was dropped.
    t.store.add_events(&id(1), "a", 2, &events(2..=5), 12).await.unwrap();
    t.store.add_events(&id(1), "a", 9, &events(9..=9), 13).await.unwrap();
    assert_eq!(all(&t.store, &everything).await, named([1, 2, 3, 4, 5, 9]));
    // Other runs and other hosts count by themselves; one that cannot be read is counted, too.
    t.store.add_events(&id(1), "b", 1, &events(11..=12), 14).await.unwrap();
    t.store.add_events(&id(2), "a", 1, &[None, events(14..=14).remove(0)], 14).await.unwrap();
    t.store.add_events(&id(2), "a", 2, &events(14..=14), 14).await.unwrap();
    t.store.add_events(&id(1), "a", 1, &events(1..=3), 15).await.unwrap();
    assert_eq!(all(&t.store, &everything).await, named([1, 2, 3, 4, 5, 9, 11, 12, 14]));
    let row = t.store.events_before(&everything, i64::MAX, 1).await.unwrap().remove(0);
    assert_eq!((row.at_unix_ms, row.received_unix_ms, row.host.as_deref()), (14, 14, Some("web-2")));
    assert_eq!((row.host_id, row.app.as_ref().map(AppName::as_str)), (Some(id(2)), Some("mono")));
}

#[tokio::test]
async fn events_are_found_by_host_app_time_and_number() {
    let t = temporary().await;
    t.store.add_events(&id(1), "a", 1, &events(1..=4), 10).await.unwrap();
    t.store.add_events(&id(2), "a", 1, &events(5..=8), 10).await.unwrap();
    let none = EventFilter::default;
    let of_host = |host| EventFilter { host: Some(host), ..none() };
    assert_eq!(all(&t.store, &of_host(OfHost::Id(id(1)))).await, named(1..=4));
    assert_eq!(all(&t.store, &of_host(OfHost::Name("web-2".parse().unwrap()))).await, named(5..=8));
    assert_eq!(all(&t.store, &EventFilter { app: "mono".parse().ok(), ..none() }).await, named([2, 4, 6, 8]));
    assert_eq!(all(&t.store, &EventFilter { since_ms: Some(7), ..none() }).await, named([7, 8]));
    let newest = t.store.newest_event().await.unwrap();
    let last_two = t.store.events_before(&none(), newest, 2).await.unwrap();
    assert_eq!(last_two.iter().map(|row| row.at_unix_ms).collect::<Vec<_>>(), [7, 8], "oldest first");
    let after = t.store.events_between(&none(), last_two[0].id - 2, newest, 2).await.unwrap();
    assert_eq!(after.iter().map(|row| row.at_unix_ms).collect::<Vec<_>>(), [6, 7]);
}

#[tokio::test]
async fn a_removed_host_keeps_its_events_and_cannot_add_to_them() {
    let t = temporary().await;
    let mut more = t.store.watch_events();
    t.store.add_events(&id(1), "a", 1, &events(1..=1), 10).await.unwrap();
    assert!(more.has_changed().unwrap());
    more.mark_unchanged();
    t.store.remove_host(&id(1), "ada", 11).await.unwrap();
    assert!(more.has_changed().unwrap());
    let said = t.store.add_events(&id(1), "a", 2, &events(2..=2), 12).await;
    assert!(matches!(said, Err(StoreError::NotFound(_))), "{said:?}");
    let of_it = EventFilter { host: Some(OfHost::Id(id(1))), ..EventFilter::default() };
    assert_eq!(all(&t.store, &of_it).await, ["number 1", "removed by ada"]);
}

#[tokio::test]
async fn the_newest_are_kept() {
    let Temporary { _dir, store } = temporary().await;
    let store = store.keeping(Retention { max_total: 8, max_per_host: 5, max_age_ms: 100 });
    let everything = EventFilter::default();
    for n in 1..=20 {
        store.add_events(&id(1), "a", n as u64, &events(n..=n), n).await.unwrap();
    }
    assert_eq!(all(&store, &everything).await, named(16..=20), "a loud host has its own limit");
    store.add_events(&id(2), "a", 1, &events(21..=25), 30).await.unwrap();
    store.sweep_events(31).await.unwrap();
    assert_eq!(all(&store, &everything).await, named(20..=25));
    let rows = store.events_before(&everything, i64::MAX, 100).await.unwrap();
    assert_eq!(
        rows.iter().filter(|row| row.kind == "host-enrolled").count(),
        2,
        "no host pushes out what is told of it"
    );
    store.sweep_events(125).await.unwrap();
    assert_eq!(all(&store, &everything).await, named(21..=25));
    // What has gone is not taken again.
    store.add_events(&id(1), "a", 1, &events(1..=20), 126).await.unwrap();
    assert_eq!(all(&store, &everything).await, named(21..=25));
}

#[tokio::test]
async fn an_app_that_a_host_told_of_is_remembered() {
    let t = temporary().await;
    t.store.add_events(&id(1), "a", 1, &events(1..=4), 10).await.unwrap();
    assert_eq!(t.store.apps_told(&id(1)).await.unwrap(), ["mono".parse().unwrap()].into());
    assert!(t.store.apps_told(&id(2)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_host_is_known_by_few_runs() {
    let t = temporary().await;
    for n in 1..=100 {
        t.store.add_events(&id(1), &format!("run-{n}"), 1, &events(n..=n), 10).await.unwrap();
    }
    let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM event_spools").fetch_one(&t.store.read).await.unwrap();
    assert_eq!(count, SPOOLS_PER_HOST);
    t.store.add_events(&id(1), "run-100", 1, &events(100..=100), 10).await.unwrap();
    assert_eq!(all(&t.store, &EventFilter::default()).await, named(1..=100), "the newest runs are remembered");
}
