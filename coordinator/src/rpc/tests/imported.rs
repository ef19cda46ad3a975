//! `drover import`: what a host says is understood before it is handed on, and no host says anything of who asks.

use drover_proto::{
    code::{self, Code},
    found::Found,
    wire::{FromAgent, Hello, ImportRequest, from_agent},
};

use super::{overlap::open, *};

fn request(host: &str, kind: &str, name: &str) -> ImportRequest {
    ImportRequest { host: host.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

#[tokio::test]
async fn a_host_is_asked_what_it_has() {
    let mut world = World::new().await;
    world.web_hosts(1, &fate(|_| healthy())).await;
    let host = "web-1";
    let found = world.operator.import(request(host, "container", "web")).await.unwrap().into_inner();
    assert_eq!(serde_json::from_slice::<Found>(&found.json).unwrap(), Found::default());
    for (kind, name, expected) in [
        ("container", "none", Code::NotFound),
        ("container", "odd", Code::Internal),
        ("container", "revoked", Code::Internal),
        ("container", "../x", Code::Invalid),
        ("unit", "a", Code::Invalid),
        ("file", "web", Code::Invalid),
    ] {
        let said = world.operator.import(request(host, kind, name)).await.unwrap_err();
        assert_eq!(code::of_status(&said), Some(expected), "{kind} {name}: {said:?}");
    }
    let said = world.operator.import(request("nobody", "container", "web")).await.unwrap_err();
    assert_eq!(code::of_status(&said), Some(Code::NotFound));
}

#[tokio::test]
async fn an_agent_that_is_too_old_or_away_is_named() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let said = world.operator.import(request("web-1", "container", "web")).await.unwrap_err();
    assert_eq!(code::of_status(&said), Some(Code::HostOffline), "{said:?}");
    let hello = Hello { protocol_version: 3, ..Hello::default() };
    let first = FromAgent { message: Some(from_agent::Message::Hello(hello)) };
    let (_out, mut incoming) = open(&world, &identity, first).await;
    incoming.message().await.unwrap();
    let said = world.operator.import(request("web-1", "container", "web")).await.unwrap_err();
    assert_eq!(code::of_status(&said), Some(Code::Protocol));
    assert!(said.message().contains("too old"), "{said:?}");
}
