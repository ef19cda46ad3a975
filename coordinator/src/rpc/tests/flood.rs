//! Callers who do far too much of what is allowed, and peers who do what is not: everybody else is served meanwhile.

use drover_proto::wire::{Hello, RenewRequest};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    hostile::Liar,
    raw::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, Raw, SETTINGS, frame, header, headers},
    *,
};

/// Who else is there gets an answer.
async fn is_served(world: &mut World) {
    let listed = tokio::time::timeout(Duration::from_secs(10), world.operator.list_hosts(Empty {})).await;
    listed.expect("others have to wait").unwrap();
}

#[tokio::test]
async fn one_host_has_its_calls_and_no_more() {
    let mut world = World::with(Limits { per_host: 3, ..Limits::default() }).await;
    let (flooding, other) = (world.host("web-1", "web").await, world.host("web-2", "web").await);
    let channel = dial(&world.address, client_config(&world.trust, Some(&flooding)).unwrap()).await.unwrap();
    let mut client = AgentLinkClient::new(channel);
    let mut open = Vec::new();
    for _ in 0..3 {
        // Streams on which no hello is said: one is being greeted, and the others wait.
        let (sender, hello) = mpsc::channel::<FromAgent>(1);
        open.push((sender, client.session(ReceiverStream::new(hello)).await.unwrap()));
    }
    for _ in 0..200 {
        let status = client.renew(RenewRequest::default()).await.unwrap_err();
        assert_eq!((status.code(), code::of_status(&status)), (tonic::Code::ResourceExhausted, Some(Code::Limit)));
    }
    Liar::new(&world, &other, Hello::default()).await.unwrap().welcome().await;
    is_served(&mut world).await;
    drop(open);
    let mut host = loop {
        match Liar::new(&world, &flooding, Hello::default()).await {
            Ok(host) => break host,
            Err(status) => assert_eq!(code::of_status(&status), Some(Code::Limit), "{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    host.welcome().await;
}

#[tokio::test]
async fn a_host_that_calls_without_end_waits_for_itself() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let channel = dial(&world.address, client_config(&world.trust, Some(&identity)).unwrap()).await.unwrap();
    let calls = (0..400).map(|_| {
        let mut client = AgentLinkClient::new(channel.clone());
        async move { client.renew(RenewRequest::default()).await.map_err(|status| code::of_status(&status)).err() }
    });
    let said = futures_util::future::join_all(calls).await;
    let count = |code: Code| said.iter().filter(|said| **said == Some(Some(code))).count();
    // Those that were let in are no CSRs: as many as may go at once or be waited for, and no more.
    let (let_in, refused) = (count(Code::Invalid), count(Code::Limit));
    assert_eq!(let_in + refused, 400, "{said:?}");
    assert!((20..200).contains(&let_in), "{let_in} were let in");
    is_served(&mut world).await;
}

#[tokio::test]
async fn a_stream_that_is_not_greeted_holds_up_only_its_own_host() {
    let mut world = World::new().await;
    let (flooding, other) = (world.host("web-1", "web").await, world.host("web-2", "web").await);
    let channel = dial(&world.address, client_config(&world.trust, Some(&flooding)).unwrap()).await.unwrap();
    let (sender, hello) = mpsc::channel::<FromAgent>(1);
    let silent = AgentLinkClient::new(channel).session(ReceiverStream::new(hello)).await.unwrap();
    let mut second = Liar::new(&world, &flooding, Hello::default()).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(300), second.incoming.message()).await;
    assert!(waits.is_err(), "two at a time: {waits:?}");
    Liar::new(&world, &other, Hello::default()).await.unwrap().welcome().await;
    drop((sender, silent));
    second = Liar::new(&world, &flooding, Hello::default()).await.unwrap();
    second.welcome().await;
    is_served(&mut world).await;
}

/// Writes `bytes` again and again, until that much was taken or the other side takes no more; answers how much it took.
async fn pour(raw: &mut Raw, most: usize, mut bytes: impl FnMut() -> Vec<u8>) -> usize {
    let mut taken = 0;
    while taken < most {
        let next = bytes();
        match tokio::time::timeout(Duration::from_secs(2), raw.write(&next)).await {
            Ok(Ok(())) => taken += next.len(),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    taken
}

#[tokio::test]
async fn floods_of_frames_are_not_taken_without_end() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let most = 64 << 20;
    let mut stream = 1;
    let path = "/drover.v1.AgentLink/Renew";
    for what in ["pings", "settings", "resets", "headers without end"] {
        let mut raw = Raw::new(&world, Some(&identity), 0).await;
        let bytes = || match what {
            "pings" => frame(PING, 0, 0, &[7; 8]).repeat(1000),
            "settings" => frame(SETTINGS, 0, 0, &[]).repeat(1000),
            "resets" => {
                let mut all = Vec::new();
                for _ in 0..100 {
                    all.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &headers(path)));
                    all.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                    stream += 2;
                }
                all
            }
            _ => {
                let begin = if stream == 0 { Vec::new() } else { frame(HEADERS, 0, 1, &headers(path)) };
                stream = 0;
                [begin, frame(CONTINUATION, 0, 1, &header("x", &"y".repeat(8000)))].concat()
            }
        };
        let taken = pour(&mut raw, most, bytes).await;
        assert!(taken < most, "{what}: without end");
        is_served(&mut world).await;
        stream = 1;
    }
    let ended = async {
        while world.services.calls.total() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("calls of peers that are gone");
}

#[tokio::test]
async fn a_frame_or_headers_that_are_too_large_end_the_connection_or_the_call() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    for (what, bytes) in [
        ("a frame of 16 MiB", vec![255, 255, 255, PING, 0, 0, 0, 0, 0]),
        ("metadata of 40 kB", {
            let mut block = headers("/drover.v1.AgentLink/Renew");
            for _ in 0..5 {
                block.extend(header("x", &"y".repeat(8000)));
            }
            let (first, rest) = block.split_at(16 << 10);
            let (second, third) = rest.split_at(16 << 10);
            [
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, 0, 1, second),
                frame(CONTINUATION, END_HEADERS, 1, third),
            ]
            .concat()
        }),
        ("half a frame", frame(HEADERS, 0, 1, &[0; 64])[..20].to_vec()),
    ] {
        let mut raw = Raw::new(&world, Some(&identity), 1 << 16).await;
        raw.write(&bytes).await.unwrap();
        // No call comes of it.
        let cut = tokio::time::timeout(Duration::from_secs(1), raw.until_cut()).await;
        assert!(cut.is_ok() || what != "a frame of 16 MiB", "{what} is taken");
        assert_eq!(world.services.calls.total(), 0, "{what}");
        is_served(&mut world).await;
    }
}

#[tokio::test]
async fn a_certificate_that_was_replaced_takes_nothing_from_its_host() {
    let mut world = World::new().await;
    let old = world.host("web-1", "web").await;
    let client = async |with: &Identity| {
        let config = client_config(&world.trust, Some(with)).unwrap();
        AgentLinkClient::new(dial(&world.address, config).await.unwrap())
    };
    let key = new_key().unwrap();
    let renewed = client(&old).await.renew(RenewRequest { csr_der: key.csr_der }).await.unwrap().into_inner();
    let new = Identity { certificate_der: renewed.certificate_der, key_der: key.key_der };
    let said = async |client: &mut AgentLinkClient<Channel>| {
        let status = client.renew(RenewRequest::default()).await.unwrap_err();
        code::of_status(&status)
    };
    assert_eq!(said(&mut client(&new).await).await, Some(Code::Invalid), "let in, and no CSR");

    // Who has found the old one takes all connections that it may have.
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(Raw::new(&world, Some(&old), 0).await);
    }
    assert_eq!(said(&mut client(&new).await).await, Some(Code::Invalid), "no place is left for the host");
    let mut raw = idle.pop().unwrap();
    let stream = raw.call("/drover.v1.AgentLink/Renew", &RenewRequest::default()).await;
    raw.close(stream).await;
    let cut = tokio::time::timeout(Duration::from_secs(10), raw.until_cut()).await;
    assert!(cut.is_ok(), "its connection stays");
    drop(idle);

    // And calls without end.
    let flooding = client(&old).await;
    let calls = (0..400).map(|_| {
        let mut flooding = flooding.clone();
        async move { said(&mut flooding).await }
    });
    for said in futures_util::future::join_all(calls).await {
        assert_ne!(said, Some(Code::Invalid), "it was let in");
    }
    let (mut quick, begun) = (client(&new).await, tokio::time::Instant::now());
    for _ in 0..15 {
        assert_eq!(said(&mut quick).await, Some(Code::Invalid));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "it waits for another: {:?}", begun.elapsed());
}
