//! Where the agents' own metrics are, as Prometheus' HTTP service discovery asks for it: every enrolled host whose agent serves
//! some, also while it is not connected. Part of `metrics`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;

use crate::{
    session::Sessions,
    store::{Endpoint, Host, Result, Store, StoreError},
};

/// A target, as Prometheus wants it.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct Target {
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

/// All of them, by name, as JSON.
pub(super) async fn document(store: &Store, sessions: &Sessions) -> Result<Vec<u8>> {
    let (endpoints, connected) = (store.endpoints().await?, sessions.connected());
    let mut targets = Vec::new();
    for host in store.hosts().await? {
        if let Some(endpoint) = endpoints.get(&host.id) {
            targets.extend(target(&host, endpoint, connected.contains(&host.id)));
        }
    }
    serde_json::to_vec(&targets).map_err(|_| StoreError::Damaged("the targets"))
}

/// Pure. `None`: it serves nothing.
fn target(host: &Host, endpoint: &Endpoint, is_connected: bool) -> Option<Target> {
    let listen = endpoint.listen?;
    let is_loopback = listen.ip().to_canonical().is_loopback();
    // One that listens everywhere is reached where it comes from; one that only its own host reaches might be, through
    // something else there.
    let address: IpAddr = if is_loopback || listen.ip().is_unspecified() { endpoint.peer } else { listen.ip() };
    let own = [
        ("__meta_drover_host", host.name.to_string()),
        ("__meta_drover_host_id", host.id.to_string()),
        ("__meta_drover_agent_version", host.agent_version.clone()),
        ("__meta_drover_connected", is_connected.to_string()),
        ("__meta_drover_loopback", is_loopback.to_string()),
        ("__scheme__", if endpoint.tls { "https" } else { "http" }.to_owned()),
    ];
    let labels = host
        .labels
        .iter()
        .map(|(key, value)| (format!("__meta_drover_label_{}", word(key.as_str())), value.to_string()));
    let labels = labels.chain(own.map(|(name, value)| (name.to_owned(), value))).collect();
    Some(Target { targets: [SocketAddr::new(address, listen.port()).to_string()], labels })
}

/// What may be part of a label's name.
fn word(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    //! Which address, for every way to listen.
    use super::*;

    fn host() -> Host {
        Host {
            id: "h-0123456789abcdef".parse().unwrap(),
            name: "web-1".parse().unwrap(),
            labels: [("zone-b".parse().unwrap(), "a".parse().unwrap())].into(),
            token_id: String::new(),
            enrolled_by: String::new(),
            enrolled_ms: 0,
            serial: String::new(),
            not_after_ms: 0,
            last_seen_ms: None,
            agent_version: "0.1.0".to_owned(),
            os: String::new(),
            generation: 0,
            accepted: 0,
            refused: None,
            revoked_ms: None,
            cordoned: None,
        }
    }

    #[test]
    fn an_agent_is_asked_where_it_can_be_reached() {
        for (listen, peer, expected, loopback) in [
            ("0.0.0.0:7444", "10.0.0.5", "10.0.0.5:7444", "false"),
            ("[::]:9100", "fd00::5", "[fd00::5]:9100", "false"),
            ("192.168.1.5:7444", "10.0.0.5", "192.168.1.5:7444", "false"),
            ("127.0.0.1:7444", "10.0.0.5", "10.0.0.5:7444", "true"),
            ("[::1]:7444", "10.0.0.5", "10.0.0.5:7444", "true"),
        ] {
            let endpoint = Endpoint { peer: peer.parse().unwrap(), listen: Some(listen.parse().unwrap()), tls: true };
            let target = target(&host(), &endpoint, true).unwrap();
            assert_eq!(target.targets, [expected]);
            assert_eq!(target.labels["__meta_drover_loopback"], loopback, "{listen}");
        }
        let silent = Endpoint { peer: "10.0.0.5".parse().unwrap(), listen: None, tls: false };
        assert_eq!(target(&host(), &silent, true), None);
    }

    #[test]
    fn labels_are_named_as_prometheus_may_name_them() {
        let endpoint =
            Endpoint { peer: "10.0.0.5".parse().unwrap(), listen: Some("0.0.0.0:1".parse().unwrap()), tls: false };
        let json = serde_json::to_value(target(&host(), &endpoint, false)).unwrap();
        let expected = serde_json::json!({ "targets": ["10.0.0.5:1"], "labels": {
            "__meta_drover_host": "web-1", "__meta_drover_host_id": "h-0123456789abcdef",
            "__meta_drover_agent_version": "0.1.0", "__meta_drover_connected": "false",
            "__meta_drover_loopback": "false", "__meta_drover_label_zone_b": "a", "__scheme__": "http",
        }});
        assert_eq!(json, expected);
    }
}
