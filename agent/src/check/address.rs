//! Where checks may connect to: a name is looked up once, each of its addresses is judged by the host's policy, and one of these is
//! connected to, so that a name cannot lead elsewhere in between. Beside `check`.

use std::{net::SocketAddr, path::Path};

use tokio::net::{TcpStream, lookup_host};

use crate::policy;

/// Of one name.
const MAX_ADDRESSES: usize = 32;

/// The addresses of a host, all of them allowed; or why not. `host` may be an address, an IPv6 one in brackets.
pub(super) async fn allowed(host: &str, port: u16, policy: &Path) -> Result<Vec<SocketAddr>, String> {
    let rules = policy::read(policy)?.checks;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let found: Vec<SocketAddr> = lookup_host((bare, port)).await.map_err(|e| e.to_string())?.collect();
    judged(host, found, &rules)
}

/// Pure: all, if there are any, and none is refused.
fn judged(host: &str, mut found: Vec<SocketAddr>, rules: &policy::Checks) -> Result<Vec<SocketAddr>, String> {
    for address in &found {
        if let Some(why) = rules.refusal(address.ip()) {
            let leads = if host.trim_matches(['[', ']']) == address.ip().to_string() {
                String::new()
            } else {
                format!("{host} leads to {}: ", address.ip())
            };
            return Err(format!("{leads}{why}"));
        }
    }
    found.truncate(MAX_ADDRESSES);
    if found.is_empty() { Err(format!("{host} has no address")) } else { Ok(found) }
}

/// Connects to `host:port`.
pub(super) async fn connect(endpoint: &str, policy: &Path) -> Result<TcpStream, String> {
    let split = endpoint.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = split else { return Err("it is no host:port".to_owned()) };
    let addresses = allowed(host, port, policy).await?;
    TcpStream::connect(&addresses[..]).await.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    //! A name with several addresses, one of them forbidden.
    use super::*;

    #[test]
    fn one_forbidden_address_refuses_the_name() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let rules = policy::Checks::default();
        let good = vec![at("127.0.0.1:80"), at("[::1]:80")];
        assert_eq!(judged("localhost", good.clone(), &rules), Ok(good));
        let both = vec![at("192.0.2.1:80"), at("169.254.169.254:80")];
        let said = judged("evil.test", both, &rules).unwrap_err();
        assert!(said.starts_with("evil.test leads to 169.254.169.254: "), "{said}");
        let mapped = judged("[::ffff:169.254.169.254]", vec![at("[::ffff:169.254.169.254]:80")], &rules).unwrap_err();
        assert!(mapped.contains("/etc/drover/policy.toml"), "{mapped}");
        assert!(judged("none.test", vec![], &rules).is_err());
    }
}
