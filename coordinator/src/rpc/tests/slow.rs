//! Callers who ask and do not read: what waits for them has an end, and so have they.

use drover_proto::wire::{EventsRequest, FetchBlobRequest, Hello, from_agent};

use super::{
    hostile::{Liar, push},
    raw::Raw,
    *,
};

const PATIENCE: Duration = Duration::from_millis(400);

async fn world() -> World {
    World::with(Limits { patience: PATIENCE, ..Limits::default() }).await
}

/// Nothing more is held for anybody.
async fn calls(world: &World, expected: usize) {
    let all = async {
        while world.services.calls.total() != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(10), all).await;
    assert!(done.is_ok(), "{} calls are under way, not {expected}", world.services.calls.total());
}

async fn is_cut(raw: &mut Raw, what: &str) {
    let cut = tokio::time::timeout(Duration::from_secs(10), raw.until_cut()).await;
    assert!(cut.is_ok(), "{what} is kept for ever");
}

#[tokio::test]
async fn an_operator_who_does_not_read_is_cut_off_whatever_was_asked() {
    let mut world = world().await;
    let state = StateDir(world._dir.path().join("state"));
    let word = crate::admin::operator_add(&state, &"bob".parse().unwrap(), Duration::from_secs(60)).unwrap();
    let (bob, _) = identity(&world.address, word.expose(), TokenKind::Login, "").await.unwrap();
    world.web_hosts(1, &fate(|_| Phase::Pending)).await;
    let rollout_id = world.apply(&spec("one")).await.unwrap().rollout_id;
    calls(&world, 1).await;
    let logs = LogsRequest { app: "mono".to_owned(), follow: true, ..LogsRequest::default() };
    let events = EventsRequest { follow: true, ..EventsRequest::default() };
    // Nothing is asked for, or one byte: then the rest waits.
    for (what, window) in
        ["ListHosts", "WatchRollout", "Logs", "Events"].into_iter().flat_map(|what| [(what, 0), (what, 1)])
    {
        let mut raw = Raw::new(&world, Some(&bob), window).await;
        let path = format!("/drover.v1.Operator/{what}");
        let stream = match what {
            "WatchRollout" => raw.call(&path, &RolloutRequest { rollout_id }).await,
            "Logs" => raw.call(&path, &logs).await,
            "Events" => raw.call(&path, &events).await,
            _ => raw.call(&path, &Empty {}).await,
        };
        raw.close(stream).await;
        calls(&world, 2).await;
        is_cut(&mut raw, what).await;
        calls(&world, 1).await;
    }
}

#[tokio::test]
async fn who_reads_stays_however_little_there_is_to_read() {
    let mut world = world().await;
    let identity = world.host("web-1", "web").await;
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    host.welcome().await;
    let request = EventsRequest { follow: true, ..EventsRequest::default() };
    let mut events = world.operator.events(request).await.unwrap().into_inner();
    events.message().await.unwrap().expect("the host was enrolled");
    let silent = tokio::time::timeout(PATIENCE * 5, events.message()).await;
    assert!(silent.is_err(), "{silent:?}");
    let silent = tokio::time::timeout(PATIENCE, host.spec()).await;
    assert!(silent.is_err(), "{silent:?}");
    calls(&world, 2).await;
}

#[tokio::test]
async fn a_host_that_reads_neither_its_stream_nor_its_download_is_cut_off() {
    let mut world = world().await;
    let identity = world.host("web-1", "web").await;
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    host.welcome().await;
    let content = vec![7; 24 << 20];
    let digest = drover_proto::digest::Digest::of(&content);
    let mut large = spec("one");
    large.artifact = Some(drover_proto::app::Artifact {
        digest,
        size_bytes: content.len() as u64,
        source: drover_proto::source::Source::Pushed,
        build: None,
    });
    push(&mut world, digest, &content).await;
    host.takes(&mut world, &large).await;
    host.spec().await.unwrap();
    drop(host);
    calls(&world, 0).await;

    // None of it, a part of it, and a byte of the last part of it.
    let last = content.len() as u64 - (100 << 10);
    for (window, offset) in [(0, 0), (600 << 10, 0), (1, last)] {
        let fetch = FetchBlobRequest { digest: digest.to_string(), offset };
        let mut raw = Raw::new(&world, Some(&identity), window).await;
        let stream = raw.call("/drover.v1.AgentLink/FetchBlob", &fetch).await;
        raw.close(stream).await;
        is_cut(&mut raw, "a download").await;
        calls(&world, 0).await;
    }
    let hello = Hello { protocol_version: drover_proto::PROTOCOL_VERSION, ..Hello::default() };
    let hello = FromAgent { message: Some(from_agent::Message::Hello(hello)) };
    for window in [0, 1] {
        let mut raw = Raw::new(&world, Some(&identity), window).await;
        raw.call("/drover.v1.AgentLink/Session", &hello).await;
        calls(&world, 1).await;
        is_cut(&mut raw, "a stream").await;
        calls(&world, 0).await;
    }
    // A stream that another one takes the place of is at its end, and yet not read.
    let mut raw = Raw::new(&world, Some(&identity), 1).await;
    raw.call("/drover.v1.AgentLink/Session", &hello).await;
    while world.services.sessions.connected().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    host.welcome().await;
    calls(&world, 2).await;
    is_cut(&mut raw, "a stream that was replaced").await;
    calls(&world, 1).await;
}
