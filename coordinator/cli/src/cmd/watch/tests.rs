//! A watch outlives the coordinator that it began with, and an upload arrives as it was.

use std::io::Write as _;

use drover_proto::{
    digest::Digest,
    limits,
    rollout::{HostState, RolloutState},
};

use super::*;
use crate::{
    client::{
        double::{Double, Listening, Pushed},
        push::Archive,
    },
    show::rollout::tests::view,
};

fn answering(state: RolloutState) -> Double {
    Double { views: vec![view(state, vec![("web-1", HostState::Pending)])], ..Double::default() }
}

#[test]
fn nothing_to_do_is_always_said_so() {
    assert_eq!(nothing(""), "nothing to do");
    assert_eq!(nothing("mono/2 already runs"), "nothing to do: mono/2 already runs");
    assert_eq!(nothing("mono/2 runs everywhere; nothing to do"), "mono/2 runs everywhere; nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_when_the_coordinator_is_back() {
    let running = answering(RolloutState::Running);
    let watched = running.watched.clone();
    let first = Listening::start(running, 0);
    let port = first.address.port();
    let mut client = first.client().await;
    let mut other = client.clone();
    let watching = tokio::spawn(async move {
        let mut progress = Progress::new(false, Sink::Errors);
        to_the_end(&mut client, 7, &mut progress, false).await
    });
    watched.notified().await;
    // Over the same connection, so that the watch is open at both ends when this is answered.
    assert!(other.rollout(7).await.is_err(), "the double knows none");
    drop(first);
    sleep(Duration::from_millis(400)).await;
    assert!(!watching.is_finished(), "it waits for the coordinator");
    let _second = Listening::start(answering(RolloutState::Succeeded), port);
    let last = tokio::time::timeout(Duration::from_secs(10), watching).await.unwrap().unwrap().unwrap();
    assert_eq!(last.value.summary.state, RolloutState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_the_exit_code_of_its_end() {
    for (state, exit) in [
        (RolloutState::Succeeded, Exit::Done),
        (RolloutState::RolledBack { cause: "web-1 failed".to_owned() }, Exit::Error),
        (RolloutState::Running, Exit::Timeout),
    ] {
        let coordinator = Listening::start(answering(state), 0);
        let mut client = coordinator.client().await;
        let timeout = Some(Span::from_ms(300));
        assert_eq!(follow(&mut client, 7, timeout, Output::Json).await.unwrap(), exit);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_watch_without_a_coordinator_fails_at_once() {
    let coordinator = Listening::start(Double::default(), 0);
    let mut client = coordinator.client().await;
    drop(coordinator);
    sleep(Duration::from_millis(100)).await;
    let fault = follow(&mut client, 7, None, Output::Table).await.unwrap_err();
    assert!(["connect", "connection-lost"].contains(&fault.code), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_arrives_as_it_was_and_goes_on_where_it_broke_off() {
    let content: Vec<u8> = (0..limits::BLOB_CHUNK_BYTES * 2 + 5).map(|i| (i % 251) as u8).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&content).unwrap();
    let double = Double::default();
    *double.break_off_at.lock().unwrap() = Some(limits::BLOB_CHUNK_BYTES);
    let coordinator = Listening::start(double.clone(), 0);
    let digest = Digest::of(&content);
    let reached = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = reached.clone();
    let count = std::sync::Arc::new(move |bytes| count.store(bytes, std::sync::atomic::Ordering::SeqCst));
    let archive = Archive { digest, size_bytes: content.len() as u64, path: file.path().to_owned() };
    assert!(coordinator.client().await.push_blob(&archive, count).await.unwrap());
    assert_eq!(reached.load(std::sync::atomic::Ordering::SeqCst), content.len() as u64);
    let (first, rest) = content.split_at(limits::BLOB_CHUNK_BYTES);
    let pushed = |content: &[u8]| Pushed {
        digest: digest.to_string(),
        size_bytes: archive.size_bytes,
        content: content.to_vec(),
    };
    let blobs = double.blobs.lock().unwrap();
    assert_eq!(*blobs, [pushed(first), pushed(rest)]);
}
