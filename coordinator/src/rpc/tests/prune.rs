//! `drover prune`: every host answers for itself, and one that cannot hides no other.

use drover_proto::{
    prune::{HostPruneOutcome, PruneView},
    view::AuditView,
    wire::{AuditRequest, Hello, PruneRequest, from_agent, to_agent},
};
use tokio_stream::wrappers::ReceiverStream;

use super::*;

#[tokio::test]
async fn hosts_that_cannot_clean_up_are_told_beside_those_that_can() {
    let mut world = World::new().await;
    let _specs = world.web_hosts(1, &fate(|_| healthy())).await;
    world.host("away", "web").await;
    let old = world.host("old", "web").await;
    let channel = dial(&world.address, client_config(&world.trust, Some(&old)).unwrap()).await.unwrap();
    let (out, outgoing) = mpsc::channel(8);
    let hello = Hello { protocol_version: 3, ..Hello::default() };
    out.send(FromAgent { message: Some(from_agent::Message::Hello(hello)) }).await.unwrap();
    let mut incoming = AgentLinkClient::new(channel).session(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let welcome = incoming.message().await.unwrap().unwrap().message;
    assert!(matches!(welcome, Some(to_agent::Message::Welcome(_))), "{welcome:?}");

    let mut prune = async |hosts: &[&str], plan| -> Result<PruneView, Status> {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        world.operator.prune(PruneRequest { hosts, plan }).await.map(|reply| read(reply.into_inner()))
    };
    let view = prune(&[], true).await.unwrap();
    let said: Vec<(String, String)> = view
        .hosts
        .into_iter()
        .map(|host| match host.outcome {
            HostPruneOutcome::Pruned(report) => (host.host.to_string(), format!("held {}", report.held_bytes)),
            HostPruneOutcome::Error(why) => (host.host.to_string(), why),
        })
        .collect();
    assert_eq!(said[0], ("away".to_owned(), "the host is not connected".to_owned()));
    assert!(said[1].0 == "old" && said[1].1.contains("too old: it speaks protocol 3"), "{said:?}");
    assert_eq!(said[2], ("web-1".to_owned(), "held 1".to_owned()));

    assert_eq!(prune(&["web-1", "web-1"], false).await.unwrap().hosts.len(), 1);
    let unknown = prune(&["web-1", "nobody"], false).await.unwrap_err();
    assert_eq!(code::of_status(&unknown), Some(Code::NotFound));
    let audit = world.operator.list_audit(AuditRequest { limit: 50 }).await.unwrap().into_inner();
    let pruned: Vec<String> = read::<Vec<AuditView>>(audit)
        .into_iter()
        .filter(|entry| entry.action == "prune")
        .map(|entry| format!("{} {}", entry.who, entry.subject))
        .collect();
    assert_eq!(pruned, ["ada web-1"], "a plan changes nothing");
}
