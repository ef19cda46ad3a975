//! A port that a unit listens on, as a manifest says it: `5000`, `127.0.0.1:5000`, `[::1]:5000`, each perhaps with `/udp`.
//! Beside `name`; held by `app::Unit`, compared with a host's open sockets by the agent.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// TCP or UDP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Tcp { "tcp" } else { "udp" })
    }
}

/// Where something listens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Port {
    /// On this address; `None` = on all.
    pub address: Option<IpAddr>,
    /// 1 to 65535.
    pub number: u16,
    /// `tcp` unless said.
    pub transport: Transport,
}

impl Port {
    /// TCP, for whoever is on the same host.
    #[must_use]
    pub fn of_this_host(number: u16) -> Self {
        Self { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), number, transport: Transport::Tcp }
    }

    /// Whether two cannot listen at the same time. A wildcard of IPv6 takes IPv4's ports, too, unless it says otherwise,
    /// which cannot be seen from outside.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        let everywhere = |address: Option<IpAddr>| address.is_none_or(|a| a.is_unspecified());
        self.number == other.number
            && self.transport == other.transport
            && (everywhere(self.address) || everywhere(other.address) || self.address == other.address)
    }
}

/// Why a text is no port.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no port: write 5000, 127.0.0.1:5000 or [::1]:5000, perhaps with /udp")]
pub struct PortError(String);

impl FromStr for Port {
    type Err = PortError;
    fn from_str(text: &str) -> Result<Self, PortError> {
        let wrong = || PortError(text.chars().take(80).collect());
        let (place, transport) = match text.rsplit_once('/') {
            None | Some((_, "tcp")) => (text.strip_suffix("/tcp").unwrap_or(text), Transport::Tcp),
            Some((place, "udp")) => (place, Transport::Udp),
            Some(_) => return Err(wrong()),
        };
        let (address, number) = match place.rsplit_once(':') {
            None => (None, place),
            Some((address, number)) => {
                let v6 = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                let address: IpAddr = v6.unwrap_or(address).parse().map_err(|_| wrong())?;
                if address.is_ipv6() != v6.is_some() {
                    return Err(wrong());
                }
                (Some(address), number)
            }
        };
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        let number: u16 = number.parse().ok().filter(|n| *n > 0 && digits).ok_or_else(wrong)?;
        Ok(Self { address, number, transport })
    }
}

impl TryFrom<String> for Port {
    type Error = PortError;
    fn try_from(text: String) -> Result<Self, PortError> {
        text.parse()
    }
}

impl From<Port> for String {
    fn from(port: Port) -> Self {
        port.to_string()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.number)?,
            Some(IpAddr::V4(address)) => write!(f, "{address}:{}", self.number)?,
            None => write!(f, "{}", self.number)?,
        }
        if self.transport == Transport::Udp { f.write_str("/udp") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    //! How ports are written, and which get in each other's way.
    use super::*;

    fn port(text: &str) -> Port {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn ports_are_read_as_they_are_written() {
        for text in ["5000", "127.0.0.1:5000", "[::1]:5000", "53/udp", "10.0.0.1:53/udp"] {
            assert_eq!(port(text).to_string(), text);
            let json = serde_json::to_string(&port(text)).unwrap();
            assert_eq!(serde_json::from_str::<Port>(&json).unwrap(), port(text));
        }
        assert_eq!(port("80/tcp"), port("80"));
        for bad in ["", "0", "65536", "+80", "::1:80", "[127.0.0.1]:80", "localhost:80", "80/sctp", "80/", ":80"] {
            assert!(bad.parse::<Port>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_listens_everywhere_collides_with_every_address() {
        let rows = [
            ("80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "10.0.0.1:80", true),
            ("[::]:80", "10.0.0.1:80", true),
            ("127.0.0.1:80", "10.0.0.1:80", false),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("80", "80/udp", false),
            ("80", "81", false),
        ];
        for (a, b, want) in rows {
            assert_eq!((port(a).collides(&port(b)), port(b).collides(&port(a))), (want, want), "{a} {b}");
        }
    }
}
