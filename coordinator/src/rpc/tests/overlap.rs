//! Agents of earlier protocols, as they were captured (tests/fixtures), are served; and which others are.

use drover_proto::{
    event::Event,
    status::HostStatus,
    view::{EventView, HostDetail, HostPlanOutcome},
    wire::{EventsRequest, FromAgent, Hello, ToAgent, from_agent, job::Job as Kind, to_agent},
};
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::*;

/// What the agent said on one stream.
fn captured(protocol: u32, which: &str) -> Vec<FromAgent> {
    let name = format!("../tests/fixtures/protocol-{protocol}/AgentLink.Session.{which}.up.grpc");
    let bytes = std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let (mut rest, mut messages) = (bytes.as_slice(), Vec::new());
    while let [0, a, b, c, d, tail @ ..] = rest {
        let (message, after) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        messages.push(FromAgent::decode(message).unwrap());
        rest = after;
    }
    messages
}

pub(super) async fn open(
    world: &World,
    identity: &Identity,
    first: FromAgent,
) -> (mpsc::Sender<FromAgent>, Streaming<ToAgent>) {
    let channel = dial(&world.address, client_config(&world.trust, Some(identity)).unwrap()).await.unwrap();
    let (out, outgoing) = mpsc::channel(64);
    out.send(first).await.unwrap();
    let incoming = AgentLinkClient::new(channel).session(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    (out, incoming)
}

async fn detail(world: &mut World) -> HostDetail {
    read(world.operator.get_host(HostRequest { host: "web-1".to_owned() }).await.unwrap().into_inner())
}

/// Plays streams of a captured agent, one after the other; `knows` says which messages its protocol has.
async fn play(world: &mut World, identity: &Identity, protocol: u32, streams: &[&str], knows: Knows) {
    for which in streams {
        let messages = captured(protocol, which);
        let last = messages.iter().rev().find_map(|message| match &message.message {
            Some(from_agent::Message::Report(report)) => Some(report.host_status_json.clone()),
            _ => None,
        });
        let last: HostStatus = serde_json::from_slice(&last.unwrap()).unwrap();
        let mut messages = messages.into_iter();
        let first = messages.next().unwrap();
        let Some(from_agent::Message::Hello(Hello { generation, .. })) = &first.message else { panic!("{first:?}") };
        let generation = *generation;
        let (out, mut incoming) = open(world, identity, first).await;
        let welcome = incoming.message().await.unwrap().and_then(|message| message.message);
        let Some(to_agent::Message::Welcome(welcome)) = welcome else { panic!("{welcome:?}") };
        assert_eq!((welcome.protocol_version, welcome.host_name.as_str()), (protocol, "web-1"));
        for message in messages {
            out.send(message).await.unwrap();
        }
        let told = loop {
            let told = detail(world).await;
            let report = world.app.store.report(&told.host.id).await.unwrap();
            let seen: Option<HostStatus> = report.and_then(|report| serde_json::from_str(&report.status_json).ok());
            if seen.is_some_and(|seen| seen.observed_unix_ms == last.observed_unix_ms) {
                break told;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(told.host.connected, "the stream ended");
        assert_eq!((told.host.agent_version.as_str(), told.host.generation_accepted), ("0.1.0", generation));
        // It knows nothing that came later.
        while let Ok(message) = tokio::time::timeout(Duration::from_millis(200), incoming.message()).await {
            let message = message.unwrap().expect("the stream ended").message.unwrap();
            assert!(knows(&message), "{message:?}");
        }
    }
}

/// Whether an agent knows a message.
type Knows = fn(&to_agent::Message) -> bool;

#[tokio::test]
async fn an_agent_of_protocol_1_is_served() {
    use to_agent::Message::{HostSpec, Job};
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let knows: Knows = |message| match message {
        HostSpec(_) => true,
        Job(job) => matches!(job.job, Some(Kind::Plan(_) | Kind::Logs(_))),
        _ => false,
    };
    play(&mut world, &identity, 1, &["first", "again"], knows).await;
}

#[tokio::test]
async fn an_agent_of_protocol_2_is_served_and_its_events_are_kept_once() {
    use to_agent::Message::{EventsAck, HostSpec, Job, RenewCertificate};
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let knows: Knows = |message| match message {
        HostSpec(_) | EventsAck(_) | RenewCertificate(_) => true,
        Job(job) => matches!(job.job, Some(Kind::Plan(_) | Kind::Logs(_) | Kind::HookLogs(_))),
        _ => false,
    };
    // Whoever is not sure that something has come says it again.
    play(&mut world, &identity, 2, &["1", "3", "3"], knows).await;
    let times = |message: FromAgent| match message.message {
        Some(from_agent::Message::Events(events)) => {
            let events: Vec<Event> = serde_json::from_slice(&events.events_json).unwrap();
            events.iter().map(|event| event.at_unix_ms).collect()
        }
        _ => Vec::new(),
    };
    let said: Vec<i64> = ["1", "3"].iter().flat_map(|which| captured(2, which)).flat_map(times).collect();
    let everything = EventsRequest { limit: 1000, ..EventsRequest::default() };
    let mut listed = world.operator.events(everything).await.unwrap().into_inner();
    let mut kept = Vec::new();
    while let Some(view) = listed.message().await.unwrap() {
        kept.extend(read::<Vec<EventView>>(view));
    }
    // The coordinator has its own, too.
    kept.retain(|event| event.kind != "host-enrolled");
    assert_eq!(kept.iter().map(|event| event.at_unix_ms).collect::<Vec<_>>(), said);
}

#[tokio::test]
async fn an_agent_of_protocol_3_is_served() {
    use to_agent::Message::{EventsAck, HostSpec, Job, RenewCertificate};
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let knows: Knows = |message| match message {
        HostSpec(_) | EventsAck(_) | RenewCertificate(_) => true,
        Job(job) => matches!(job.job, Some(Kind::Plan(_) | Kind::Logs(_) | Kind::HookLogs(_) | Kind::Image(_))),
        _ => false,
    };
    play(&mut world, &identity, 3, &["1", "3"], knows).await;
}

#[tokio::test]
async fn an_agent_of_protocol_4_is_served() {
    use to_agent::Message::{EventsAck, HostSpec, Job, RenewCertificate};
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let knows: Knows = |message| match message {
        HostSpec(_) | EventsAck(_) | RenewCertificate(_) => true,
        Job(job) => matches!(
            job.job,
            Some(Kind::Plan(_) | Kind::Logs(_) | Kind::HookLogs(_) | Kind::Image(_) | Kind::Prune(_) | Kind::Import(_))
        ),
        _ => false,
    };
    play(&mut world, &identity, 4, &["1", "3"], knows).await;
}

#[tokio::test]
async fn a_newer_agent_is_served_if_it_can_fall_back() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let newest = drover_proto::PROTOCOL_VERSION;
    let rows = [(newest, 0, Some(newest)), (newest + 1, newest, Some(newest)), (newest + 1, newest + 1, None)];
    for (protocol_version, min_protocol_version, spoken) in rows {
        let hello = Hello { protocol_version, min_protocol_version, ..Hello::default() };
        let first = FromAgent { message: Some(from_agent::Message::Hello(hello)) };
        let (_out, mut incoming) = open(&world, &identity, first).await;
        let said = incoming.message().await.map(|message| match message.unwrap().message {
            Some(to_agent::Message::Welcome(welcome)) => welcome.protocol_version,
            other => panic!("{other:?}"),
        });
        match spoken {
            Some(spoken) => assert_eq!(said.unwrap(), spoken),
            None => assert_eq!(code::of_status(&said.unwrap_err()), Some(Code::Protocol)),
        }
    }
}

#[tokio::test]
async fn what_an_agent_is_too_old_for_is_refused_in_the_plan_and_it_is_asked_nothing() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let hello = Hello { protocol_version: 1, ..Hello::default() };
    let (_out, mut incoming) =
        open(&world, &identity, FromAgent { message: Some(from_agent::Message::Hello(hello)) }).await;
    let welcome = incoming.message().await.unwrap().unwrap().message;
    assert!(matches!(welcome, Some(to_agent::Message::Welcome(_))), "{welcome:?}");
    let mut app = spec("one");
    app.files[0].drift = Drift::Report;
    let plan = world.plan(&app).await.unwrap();
    let HostPlanOutcome::Planned(on_host) = &plan.hosts[0].outcome else { panic!("{plan:?}") };
    let refusal = &on_host.refusals[0];
    assert_eq!((refusal.code, refusal.part.as_str()), (Code::Protocol, "files[0].drift"), "{refusal:?}");
    assert!(refusal.message.contains("upgrade drover-agent there"), "{refusal:?}");
    let refused = world.apply(&app).await.unwrap_err();
    assert!(refused.message().contains("web-1") && refused.message().contains("older version"), "{refused:?}");
    while let Ok(message) = tokio::time::timeout(Duration::from_millis(200), incoming.message()).await {
        let message = message.unwrap().expect("the stream ended").message;
        let Some(to_agent::Message::HostSpec(document)) = &message else { panic!("{message:?}") };
        assert!(!String::from_utf8_lossy(&document.document_json).contains("mono"), "{message:?}");
    }
}
