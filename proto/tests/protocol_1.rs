//! The messages of protocol 1, as they were captured (tests/fixtures/protocol-1), are read by this version, and a document
//! that uses nothing newer is written as the same bytes: hosts compare digests of them.

use std::path::Path;

use drover_proto::{
    app::AppSpec,
    plan::Plan,
    spec::{DesiredApp, HostSpec},
    status::HostStatus,
    view, wire,
};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

/// The messages in one file, without their framing.
fn messages(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/protocol-1/{name}.grpc"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut rest, mut messages) = (bytes.as_slice(), Vec::new());
    while let [0, a, b, c, d, tail @ ..] = rest {
        let (message, after) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        messages.push(message.to_vec());
        rest = after;
    }
    assert!(rest.is_empty() && !messages.is_empty(), "{name} is cut off");
    messages
}

/// Reads every message of a file; what is written again has the same bytes.
fn read<M: Message + Default>(name: &str) -> Vec<M> {
    let same = |bytes: Vec<u8>| {
        let message = M::decode(bytes.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(message.encode_to_vec(), bytes, "{name} lost something");
        message
    };
    messages(name).into_iter().map(same).collect()
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> T {
    serde_json::from_slice(json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(json)))
}

/// A document that somebody hashes or reads strictly: not a byte may be added.
fn same_bytes<T: DeserializeOwned + Serialize>(json: &[u8]) {
    let document: T = parse(json);
    let again = serde_json::to_vec(&document).unwrap();
    assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(json));
}

#[test]
fn what_an_agent_said() {
    let (mut hellos, mut acks, mut reports, mut plans, mut lines) = (0, 0, 0, 0, 0);
    for name in ["AgentLink.Session.first.up", "AgentLink.Session.again.up"] {
        for message in read::<wire::FromAgent>(name) {
            match message.message.unwrap() {
                wire::from_agent::Message::Hello(hello) => {
                    assert_eq!(hello.protocol_version, 1);
                    hellos += 1;
                }
                wire::from_agent::Message::SpecAck(_) => acks += 1,
                wire::from_agent::Message::Report(report) => {
                    parse::<HostStatus>(&report.host_status_json);
                    reports += 1;
                }
                wire::from_agent::Message::JobReply(reply) => match reply.reply.unwrap() {
                    wire::job_reply::Reply::PlanJson(json) => {
                        parse::<Plan>(&json);
                        plans += 1;
                    }
                    wire::job_reply::Reply::LogLine(_) => lines += 1,
                    _ => {}
                },
                #[allow(unreachable_patterns, reason = "later protocols have more messages")]
                other => panic!("protocol 1 had no {other:?}"),
            }
        }
    }
    assert_eq!(hellos, 2);
    assert!(acks > 5 && reports > 10 && plans > 3 && lines > 3, "{acks} {reports} {plans} {lines}");
    assert_eq!(read::<wire::FetchBlobRequest>("AgentLink.FetchBlob.up").len(), 3);
    let enrolment = read::<wire::EnrollHostRequest>("Enrolment.EnrollHost.up");
    assert_eq!(enrolment[0].host_name, "web-1");
}

#[test]
fn what_a_coordinator_told_an_agent() {
    let (mut specs, mut jobs) = (0, 0);
    for name in ["AgentLink.Session.first.down", "AgentLink.Session.again.down"] {
        for message in read::<wire::ToAgent>(name) {
            match message.message.unwrap() {
                wire::to_agent::Message::Welcome(welcome) => assert_eq!(welcome.protocol_version, 1),
                wire::to_agent::Message::HostSpec(document) => {
                    same_bytes::<HostSpec>(&document.document_json);
                    specs += 1;
                }
                wire::to_agent::Message::Job(job) => {
                    if let Some(wire::job::Job::Plan(plan)) = job.job
                        && !plan.desired_app_json.is_empty()
                    {
                        same_bytes::<DesiredApp>(&plan.desired_app_json);
                    }
                    jobs += 1;
                }
                wire::to_agent::Message::CancelJob(_) => {}
                #[allow(unreachable_patterns, reason = "later protocols have more messages")]
                other => panic!("protocol 1 had no {other:?}"),
            }
        }
    }
    assert!(specs > 5 && jobs > 3, "{specs} {jobs}");
    assert_eq!(read::<wire::BlobChunk>("AgentLink.FetchBlob.down").len(), 3);
    assert_eq!(read::<wire::Certificate>("Enrolment.EnrollHost.down")[0].subject_id.len(), 18);
    assert_eq!(read::<wire::Certificate>("Enrolment.LoginOperator.down")[0].subject_id, "alice");
}

#[test]
fn what_an_operator_asked() {
    for plan in read::<wire::PlanRequest>("Operator.Plan.up") {
        same_bytes::<AppSpec>(&plan.app_spec_json);
    }
    for apply in read::<wire::ApplyRequest>("Operator.Apply.up") {
        same_bytes::<AppSpec>(&apply.app_spec_json);
    }
    read::<wire::BlobList>("Operator.MissingBlobs.up");
    read::<wire::PushBlobRequest>("Operator.PushBlob.up");
    read::<wire::RollbackRequest>("Operator.Rollback.up");
    read::<wire::RemoveRequest>("Operator.Remove.up");
    read::<wire::RolloutRequest>("Operator.WatchRollout.up");
    read::<wire::RolloutRequest>("Operator.GetRollout.up");
    read::<wire::AppFilter>("Operator.ListRollouts.up");
    read::<wire::AppFilter>("Operator.Status.up");
    read::<wire::AppFilter>("Operator.ListReleases.up");
    read::<wire::HostRequest>("Operator.GetHost.up");
    read::<wire::LabelHostRequest>("Operator.LabelHost.up");
    read::<wire::LogsRequest>("Operator.Logs.up");
    read::<wire::SetSecretRequest>("Operator.SetSecret.up");
    read::<wire::CreateTokenRequest>("Operator.CreateToken.up");
    read::<wire::AuditRequest>("Operator.ListAudit.up");
    read::<wire::LoginOperatorRequest>("Enrolment.LoginOperator.up");
}

#[test]
fn what_a_coordinator_answered_an_operator() {
    fn views<T: DeserializeOwned>(name: &str) {
        for reply in read::<wire::View>(name) {
            parse::<T>(&reply.json);
        }
    }
    for reply in read::<wire::PlanReply>("Operator.Plan.down") {
        parse::<view::PlanView>(&reply.json);
    }
    views::<view::RolloutView>("Operator.WatchRollout.down");
    views::<view::RolloutView>("Operator.GetRollout.down");
    views::<Vec<view::RolloutSummary>>("Operator.ListRollouts.down");
    views::<Vec<view::HostView>>("Operator.ListHosts.down");
    views::<view::HostDetail>("Operator.GetHost.down");
    views::<view::HostView>("Operator.LabelHost.down");
    views::<Vec<view::AppView>>("Operator.Status.down");
    views::<Vec<view::ReleaseView>>("Operator.ListReleases.down");
    views::<Vec<view::SecretView>>("Operator.ListSecrets.down");
    views::<Vec<view::TokenView>>("Operator.ListTokens.down");
    views::<Vec<view::OperatorView>>("Operator.ListOperators.down");
    views::<Vec<view::AuditView>>("Operator.ListAudit.down");
    read::<wire::RolloutStarted>("Operator.Apply.down");
    read::<wire::RolloutStarted>("Operator.Rollback.down");
    read::<wire::RolloutStarted>("Operator.Remove.down");
    read::<wire::LogLine>("Operator.Logs.down");
    read::<wire::CreateTokenReply>("Operator.CreateToken.down");
    read::<wire::BlobList>("Operator.MissingBlobs.down");
}
