//! A real agent and a coordinator of protocol 1: one that says what was captured in tests/fixtures/protocol-1, and refuses
//! every other number as that one did. The other direction is in coordinator/src/rpc/tests/overlap.rs.

use drover_proto::{
    PROTOCOL_VERSION,
    code::{self, Code},
    status::{HostStatus, Phase},
    wire::{from_agent::Message, spec_ack::Outcome},
};

use crate::scripted::{Scripted, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_deploys_with_a_coordinator_of_protocol_1() {
    let mut coordinator = Scripted::start().await;
    let mut refused = Vec::new();
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
    talk.send_spec(&spec()).await;
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
        other => panic!("protocol 1 knows no {other:?}"),
    })
    .await;
    assert!(accepted);
    let output =
        tokio::task::block_in_place(|| coordinator.host.exec(&["curl", "-s", "-m", "2", "http://127.0.0.1:8000/"]));
    assert!(output.stdout.contains("\"version\""), "{output}");
}
