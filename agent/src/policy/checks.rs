//! Where checks may connect to. Whoever writes a manifest could otherwise have a host ask what only its cloud may be asked, such as
//! for the credentials of the machine. Part of `policy`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::Deserialize;

use super::FILE;

/// Where no check goes unless the host's owner says so: link-local, and with it the metadata of most clouds; that of Amazon and of Google
/// by IPv6, of Alibaba, Azure and Oracle; this host under another name, multicast, broadcast.
const REFUSED: [(IpAddr, u8); 14] = [
    (IpAddr::V4(Ipv4Addr::new(0, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), 32),
    (IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 32),
    (IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)), 32),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0)), 32),
    // NAT64 of a network's own: what stands behind which address nobody can tell.
    (IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0)), 48),
    (IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), 128),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
    (IpAddr::V6(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0)), 10),
];

/// What the host's owner says of addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checks {
    /// Reachable although they are refused by default.
    pub allow: Vec<Net>,
    /// Not reachable, whatever is allowed.
    pub deny: Vec<Net>,
}

/// A network: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Net {
    of: IpAddr,
    bits: u8,
}

impl Checks {
    /// Why no check may connect there.
    #[must_use]
    pub fn refusal(&self, address: IpAddr) -> Option<String> {
        let all = meant(address);
        let within = |nets: &[Net]| all.iter().any(|address| nets.iter().any(|net| net.has(*address)));
        if within(&self.deny) {
            return Some(format!("{address} is denied to checks by {FILE} (checks.deny)"));
        }
        let refused = REFUSED.map(|(of, bits)| Net { of, bits });
        // Each address that it stands for must be free.
        let is_free = |address: &IpAddr| {
            self.allow.iter().any(|net| net.has(*address)) || !refused.iter().any(|net| net.has(*address))
        };
        (!all.iter().all(is_free))
            .then(|| format!("{address} is no address for checks; {FILE} can allow it (checks.allow)"))
    }
}

/// The addresses that one stands for: itself, or the IPv4 address within it.
fn meant(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(six) = address else { return vec![address] };
    if let Some(four) = six.to_ipv4_mapped() {
        return vec![address, IpAddr::V4(four)];
    }
    let at = |from: usize| {
        let bytes = six.octets();
        let four = bytes.get(from..from + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
        four.map(|four| IpAddr::V4(Ipv4Addr::from(four)))
    };
    let within = match six.segments() {
        // NAT64, translation without state, and the old way of writing an IPv4 address (but ::1 and ::).
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => at(12),
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => at(12),
        // 6to4.
        [0x2002, ..] => at(2),
        _ => None,
    };
    [address].into_iter().chain(within).collect()
}

impl Net {
    fn has(&self, address: IpAddr) -> bool {
        let (of, it, width) = match (self.of, address) {
            (IpAddr::V4(of), IpAddr::V4(it)) => (u128::from(of.to_bits()), u128::from(it.to_bits()), 32),
            (IpAddr::V6(of), IpAddr::V6(it)) => (of.to_bits(), it.to_bits(), 128),
            _ => return false,
        };
        let rest = u32::from(width - self.bits.min(width));
        of.checked_shr(rest) == it.checked_shr(rest)
    }
}

impl FromStr for Net {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no network: write an address, perhaps with /BITS, such as 10.0.0.0/8");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let of: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if of.is_ipv4() { 32 } else { 128 };
        let bits =
            bits.map_or(Some(width), |bits| bits.parse().ok().filter(|bits| *bits <= width)).ok_or_else(wrong)?;
        Ok(Self { of, bits })
    }
}

impl TryFrom<String> for Net {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.of, self.bits)
    }
}

#[cfg(test)]
mod tests {
    //! Addresses in every dress.
    use super::*;

    #[test]
    fn what_is_the_clouds_own_is_refused_in_every_dress() {
        let rules = Checks::default();
        for refused in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "64:ff9b:1::1",
            "::ffff:0:a9fe:a9fe",
            "fd20:ce::254",
            "ff02::1",
            "::",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(rules.refusal(refused.parse().unwrap()).is_some(), "{refused}");
        }
        for good in [
            "127.0.0.1",
            "10.1.2.3",
            "100.100.100.201",
            "192.0.2.1",
            "::1",
            "fd00::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(rules.refusal(good.parse().unwrap()), None, "{good}");
        }
    }

    #[test]
    fn the_owner_allows_and_denies_and_deny_goes_first() {
        let rules: Checks = toml::from_str(
            "allow = [\"169.254.169.254/32\", \"fe80::/10\"]\ndeny = [\"10.0.0.0/8\", \"192.0.2.7\", \"fe80::7\"]",
        )
        .unwrap();
        let refused = |text: &str| rules.refusal(text.parse().unwrap()).is_some();
        assert!(!refused("169.254.169.254") && refused("169.254.169.253") && !refused("::ffff:169.254.169.254"));
        assert!(refused("10.255.0.1") && refused("::ffff:10.0.0.1") && !refused("11.0.0.1"));
        assert!(refused("192.0.2.7") && !refused("192.0.2.8"));
        let mapped: Checks = toml::from_str("deny = [\"::ffff:11.0.0.0/104\"]").unwrap();
        assert!(mapped.refusal("::ffff:11.0.0.1".parse().unwrap()).is_some());
        assert!(!refused("fe80::8") && refused("fe80::7"));
        for bad in ["allow = [\"10.0.0.0/33\"]", "deny = [\"here\"]", "deny = [\"::/129\"]", "permit = []"] {
            assert!(toml::from_str::<Checks>(bad).is_err(), "{bad}");
        }
        let all: Net = "0.0.0.0/0".parse().unwrap();
        assert!(all.has("1.2.3.4".parse().unwrap()) && !all.has("::1".parse().unwrap()));
        assert_eq!(all.to_string(), "0.0.0.0/0");
    }
}
