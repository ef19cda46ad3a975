//! A real agent and coordinators of earlier protocols: they say what was captured of them (tests/fixtures), and take or refuse
//! what a newer agent says of itself as they did. The other direction is in coordinator/src/rpc/tests/overlap.rs.

use drover_proto::{
    PROTOCOL_VERSION,
    code::{self, Code},
    event::Event,
    status::{HostStatus, Phase},
    wire::{Welcome, from_agent::Message, spec_ack::Outcome, to_agent},
};

use crate::scripted::{Scripted, Talk, spec};

/// Sends the protocol's spec and waits until the host is healthy. `else_said` is given all that is neither about that nor a
/// report.
async fn deploys(coordinator: &Scripted, talk: &mut Talk, protocol: u32, mut else_said: impl FnMut(Message)) {
    talk.send_spec(&spec(protocol)).await;
    let mut accepted = false;
    talk.hear("the release is healthy", |message| match message {
        Message::SpecAck(ack) => {
            assert_eq!(ack.outcome(), Outcome::Accepted, "{}", ack.message);
            accepted = true;
            None
        }
        Message::Report(report) => {
            let status: HostStatus = serde_json::from_slice(&report.host_status_json).expect("a report");
            status.apps.values().any(|app| matches!(app.phase, Phase::Healthy { .. })).then_some(())
        }
        other => {
            else_said(other);
            None
        }
    })
    .await;
    assert!(accepted);
    let output =
        tokio::task::block_in_place(|| coordinator.host.exec(&["curl", "-s", "-m", "2", "http://127.0.0.1:8000/"]));
    assert!(output.stdout.contains("\"version\""), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_deploys_with_a_coordinator_of_protocol_1() {
    let mut coordinator = Scripted::start(1).await;
    let mut refused = Vec::new();
    // It knew no other number, and did not look at what else an agent speaks.
    let mut talk = loop {
        let talk = coordinator.talk().await;
        refused.push(talk.hello.protocol_version);
        if talk.hello.protocol_version == 1 {
            break talk;
        }
        talk.refuse(code::status(Code::Protocol, "this coordinator speaks protocol 1")).await;
    };
    // A stream that is cut later begins with all of them again.
    let all: Vec<u32> = (1..=PROTOCOL_VERSION).rev().collect();
    assert!(refused.starts_with(&all), "it said hello with {refused:?}: {}", coordinator.journal());
    talk.welcome(1).await;
    deploys(&coordinator, &mut talk, 1, |other| panic!("protocol 1 knows no {other:?}")).await;
}

/// One of the protocols that take whoever can fall back to what they speak.
async fn deploys_with(protocol: u32) {
    let mut coordinator = Scripted::start(protocol).await;
    let mut talk = coordinator.talk().await;
    let (newest, oldest) = (talk.hello.protocol_version, talk.hello.min_protocol_version);
    assert!(newest == PROTOCOL_VERSION && oldest <= protocol, "{newest} down to {oldest}");
    let (coordinator_version, host_name) = ("0.1.0".to_owned(), "web-1".to_owned());
    let welcome = Welcome { protocol_version: protocol, coordinator_version, host_name, takes_events: true };
    talk.say(to_agent::Message::Welcome(welcome)).await;
    let mut told = Vec::new();
    deploys(&coordinator, &mut talk, protocol, |other| match other {
        Message::Events(events) => {
            told.extend(serde_json::from_slice::<Vec<Event>>(&events.events_json).expect("events"));
        }
        other => panic!("nobody has asked for {other:?}"),
    })
    .await;
    assert!(told.iter().any(|event| event.kind.to_string() == "agent-started"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_deploys_with_a_coordinator_of_protocol_2() {
    deploys_with(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_deploys_with_a_coordinator_of_protocol_3() {
    deploys_with(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_deploys_with_a_coordinator_of_protocol_4() {
    deploys_with(4).await;
}
