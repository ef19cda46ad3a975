//! The task: nobody waits for it, everything comes out, and nothing for another coordinator.

use std::time::Duration;

use drover_proto::{event::EventKind, name::HostId};

use crate::event::{Batch, Events, Outbox, QUEUE, open};

const LIMIT: u64 = 1 << 20;

fn host(n: u8) -> HostId {
    format!("h-{n:016}").parse().unwrap()
}

fn start(dir: &std::path::Path) -> (Events, Outbox, tokio::task::JoinHandle<()>) {
    let (events, outbox, task) = open(dir, LIMIT);
    (events, outbox, tokio::spawn(task))
}

async fn drain(outbox: &Outbox) -> Vec<(String, EventKind)> {
    let mut all = Vec::new();
    while let Ok(Batch { spool, first_seq, events }) =
        tokio::time::timeout(Duration::from_millis(500), outbox.next()).await
    {
        outbox.acked(spool, first_seq + events.len() as u64 - 1).await;
        all.extend(events.into_iter().map(|event| (event.message, event.kind)));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn what_is_emitted_comes_out_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (events, outbox, task) = start(dir.path());
    outbox.bind(host(1)).await;
    let app = "mono".parse().unwrap();
    events.emit(Some(&app), EventKind::DriftFound, "one");
    events.emit(None, EventKind::DriftRepaired, "two");
    assert_eq!(outbox.next().await.events.len(), 2, "at once, without waiting for a sync");
    task.abort();
    let (events, outbox, _task) = start(dir.path());
    outbox.bind(host(1)).await;
    events.emit(None, EventKind::AgentStarted, "three");
    let all: Vec<String> = drain(&outbox).await.into_iter().map(|(message, _)| message).collect();
    assert_eq!(all, ["one", "two", "three"]);
}

#[tokio::test]
async fn what_is_kept_is_on_the_disk_or_with_the_coordinator() {
    let dir = tempfile::tempdir().unwrap();
    let (events, outbox, task) = start(dir.path());
    assert!(events.kept().await, "nothing was emitted");
    events.emit(None, EventKind::DriftFound, "one");
    assert!(events.kept().await, "synced a moment later");
    events.emit(None, EventKind::DriftFound, "two");
    assert_eq!(drain(&outbox).await.len(), 2);
    assert!(events.kept().await, "nothing is left to be synced");
    task.abort();
    drop(task.await);
    events.emit(None, EventKind::DriftFound, "three");
    assert!(!events.kept().await, "nobody takes it any more");
}

#[tokio::test(start_paused = true)]
async fn what_was_spooled_for_another_coordinator_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (events, outbox, _task) = start(dir.path());
    events.emit(None, EventKind::DriftFound, "before the first enrolment");
    outbox.bind(host(1)).await;
    assert_eq!(outbox.next().await.events.len(), 1, "that is for whoever comes");
    outbox.bind(host(1)).await;
    assert_eq!(outbox.next().await.events.len(), 1);
    outbox.bind(host(2)).await;
    events.emit(None, EventKind::DriftFound, "for the second");
    let all = drain(&outbox).await;
    assert_eq!(all, [("for the second".to_owned(), EventKind::DriftFound)]);
    drop((events, outbox, _task));
    // The owner is remembered over a restart.
    let (events, outbox, task) = start(dir.path());
    events.emit(None, EventKind::DriftFound, "secret of the second");
    tokio::time::sleep(Duration::from_secs(1)).await;
    task.abort();
    let (_events, outbox_of_third, _task) = start(dir.path());
    outbox_of_third.bind(host(3)).await;
    drop(outbox);
    assert!(drain(&outbox_of_third).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_spooled_for_nobody_knows_whom_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (events, outbox, task) = start(dir.path());
    outbox.bind(host(1)).await;
    events.emit(None, EventKind::DriftFound, "secret of the first");
    outbox.close().await;
    task.abort();
    std::fs::remove_file(dir.path().join("events").join("owner")).unwrap();
    let (events, outbox, _task) = start(dir.path());
    outbox.bind(host(2)).await;
    events.emit(None, EventKind::DriftFound, "for the second");
    assert_eq!(drain(&outbox).await, [("for the second".to_owned(), EventKind::DriftFound)]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_counted_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (events, outbox, task) = open(dir.path(), LIMIT);
    // The task does not run yet: the queue is all there is.
    for n in 0..QUEUE + 500 {
        events.emit(None, EventKind::DriftFound, format!("{n}"));
    }
    let _task = tokio::spawn(task);
    let all = drain(&outbox).await;
    let (told, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, kind)| *kind == EventKind::EventsDropped);
    assert_eq!(kept.len(), QUEUE);
    assert!(told.len() == 1 && told[0].0.starts_with("500 events from "), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn repeats_are_counted_and_told_at_the_latest_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (events, outbox, _task) = start(dir.path());
    outbox.bind(host(1)).await;
    for _ in 0..50 {
        events.emit(None, EventKind::DriftFound, "again");
    }
    assert_eq!(drain(&outbox).await.len(), 5);
    tokio::time::sleep(Duration::from_secs(61)).await;
    let told = drain(&outbox).await;
    assert!(told.len() == 1 && told[0].0.contains("(45 more of these within 60 s)"), "{told:?}");
    for _ in 0..50 {
        events.emit(None, EventKind::DriftFound, "again");
    }
    outbox.close().await;
    let (_events, outbox, _task) = start(dir.path());
    let told = drain(&outbox).await;
    assert!(told.len() == 1 && told[0].0.contains("(50 more of these"), "{told:?}");
}
