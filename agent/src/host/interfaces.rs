//! Network interfaces as the kernel lists them over netlink: everything about all of them in one answer, where `/sys/class/net` has
//! some twenty files for each. For `metrics`.

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink, recvfrom, send,
    socket_with, sockopt,
};

/// The kernel answers at once; this is for the day on which it does not.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// The most that the kernel puts into one answer.
const ANSWER_BYTES: usize = 32 << 10;
/// A host has a few, and one for each of its containers.
const MAX_INTERFACES: usize = 4096;
/// `nlmsghdr` and `ifinfomsg`.
const HEADER_BYTES: usize = 16;
/// `NLM_F_DUMP_INTR`: they became others while they were listed.
const DUMP_INTERRUPTED: i32 = 0x10;
/// Its address.
const KERNEL: u32 = 0;
/// What begins a message, and each of its attributes, is a multiple of this from the beginning.
const ALIGNED: usize = 4;
/// What `rtnl_link_stats64` counts, in its order.
pub const COUNTS: usize = 24;

/// One interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// Its name: up to 15 bytes without blanks and `/`, which may be anything else.
    pub name: String,
    /// Its number, which no other one gets while the host is up.
    pub index: i32,
    /// Its hardware's type (`ARPHRD_…`).
    pub hardware: u16,
    /// `IFF_…`, those that say how it is just now among them.
    pub flags: u32,
    /// The hardware's addresses, as `02:00:5e:00:53:01`; empty if it has none.
    pub address: String,
    /// The one that reaches all.
    pub broadcast: String,
    /// What somebody called it.
    pub alias: String,
    /// `IF_OPER_…`.
    pub state: u8,
    /// Whether it has a carrier.
    pub carrier: u8,
    /// How often that changed, of that to having one, and to having none.
    pub carrier_changes: [Option<u32>; 3],
    /// `IF_LINK_MODE_…`.
    pub link_mode: u8,
    /// Bytes.
    pub mtu: u32,
    /// Packets.
    pub transmit_queue: u32,
    /// Of interfaces.
    pub group: u32,
    /// The number of the interface that it lies on; its own if there is none.
    pub link: i32,
    /// How many have asked for packets that are not for it, and for those to every group; `None` from an older kernel.
    pub promiscuous: Option<u32>,
    /// See `promiscuous`.
    pub all_groups: Option<u32>,
    /// What it counts, in the order of the kernel's `rtnl_link_stats64`.
    pub counts: [u64; COUNTS],
}

/// All of them, by name. When they become others meanwhile, it is asked once more.
pub fn list() -> io::Result<Vec<Interface>> {
    let (mut interfaces, is_torn) = ask()?;
    if is_torn {
        (interfaces, _) = ask()?;
    }
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    interfaces.dedup_by(|a, b| a.name == b.name);
    Ok(interfaces)
}

/// And whether they became others while they were listed.
fn ask() -> io::Result<(Vec<Interface>, bool)> {
    // Without a protocol it is `NETLINK_ROUTE`.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWERS_WITHIN))?;
    send(&socket, &request(), SendFlags::empty())?;
    let (mut interfaces, mut is_torn) = (Vec::new(), false);
    let mut buffer = Vec::with_capacity(ANSWER_BYTES);
    let until = Instant::now() + ANSWERS_WITHIN;
    while Instant::now() < until {
        buffer.clear();
        // `TRUNC`: how long it is, not how much of that there was room for.
        let (_, length, from) = recvfrom(&socket, rustix::buffer::spare_capacity(&mut buffer), RecvFlags::TRUNC)?;
        if !from.is_some_and(|from| SocketAddrNetlink::try_from(from).is_ok_and(|from| from.pid() == KERNEL)) {
            // Whoever may set up networks may write to this socket.
            continue;
        }
        if length == 0 || length > buffer.len() {
            return Err(odd());
        }
        match read(&buffer, &mut interfaces)? {
            Answer::Complete => return Ok((interfaces, is_torn)),
            Answer::Continued { is_torn: now } => is_torn |= now,
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// `RTM_GETLINK` for all of them.
fn request() -> [u8; 2 * HEADER_BYTES] {
    let mut request = [0; 2 * HEADER_BYTES];
    let length = u32::try_from(request.len()).unwrap_or_default();
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).unwrap_or_default();
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request
}

/// What one answer was.
#[derive(PartialEq, Eq, Debug)]
enum Answer {
    /// The last.
    Complete,
    /// More follows. `is_torn`: of other interfaces than the one before.
    Continued { is_torn: bool },
}

/// The messages of one answer.
fn read(mut bytes: &[u8], interfaces: &mut Vec<Interface>) -> io::Result<Answer> {
    let mut is_torn = false;
    while !bytes.is_empty() {
        let length = usize::try_from(u32::from_ne_bytes(part(bytes, 0)?)).map_err(|_| odd())?;
        let body = bytes.get(HEADER_BYTES..length).ok_or_else(odd)?;
        is_torn |= i32::from(u16::from_ne_bytes(part(bytes, 6)?)) & DUMP_INTERRUPTED != 0;
        match i32::from(u16::from_ne_bytes(part(bytes, 4)?)) {
            kind @ (libc::NLMSG_DONE | libc::NLMSG_ERROR) => match part(body, 0).map_or(0, i32::from_ne_bytes) {
                // Said of a whole list, and of one that broke off.
                0 if kind == libc::NLMSG_DONE => return Ok(Answer::Complete),
                0 => return Err(odd()),
                number => return Err(io::Error::from_raw_os_error(number.saturating_neg())),
            },
            kind if kind == i32::from(libc::RTM_NEWLINK) && interfaces.len() < MAX_INTERFACES => {
                interfaces.push(interface(body)?);
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(ALIGNED)..).unwrap_or_default();
    }
    Ok(Answer::Continued { is_torn })
}

fn interface(body: &[u8]) -> io::Result<Interface> {
    let index = i32::from_ne_bytes(part(body, 4)?);
    let mut interface = Interface {
        hardware: u16::from_ne_bytes(part(body, 2)?),
        index,
        link: index,
        flags: u32::from_ne_bytes(part(body, 8)?),
        ..Interface::default()
    };
    let mut rest = body.get(HEADER_BYTES..).ok_or_else(odd)?;
    while rest.len() >= ALIGNED {
        let length = usize::from(u16::from_ne_bytes(part(rest, 0)?));
        let value = rest.get(ALIGNED..length).ok_or_else(odd)?;
        attribute(&mut interface, u16::from_ne_bytes(part(rest, 2)?), value)?;
        rest = rest.get(length.next_multiple_of(ALIGNED)..).unwrap_or_default();
    }
    // The kernel has none of another kind, and it becomes part of a path.
    let is_name = !matches!(interface.name.as_str(), "" | "." | "..") && !interface.name.contains('/');
    if is_name { Ok(interface) } else { Err(odd()) }
}

fn attribute(interface: &mut Interface, kind: u16, value: &[u8]) -> io::Result<()> {
    let number = || part(value, 0).map(u32::from_ne_bytes);
    let byte = || value.first().copied().ok_or_else(odd);
    match kind {
        libc::IFLA_IFNAME => interface.name = text(value),
        libc::IFLA_IFALIAS => interface.alias = text(value),
        libc::IFLA_ADDRESS => interface.address = hardware_address(value),
        libc::IFLA_BROADCAST => interface.broadcast = hardware_address(value),
        libc::IFLA_MTU => interface.mtu = number()?,
        libc::IFLA_TXQLEN => interface.transmit_queue = number()?,
        libc::IFLA_GROUP => interface.group = number()?,
        libc::IFLA_LINK => interface.link = number()?.cast_signed(),
        libc::IFLA_OPERSTATE => interface.state = byte()?,
        libc::IFLA_LINKMODE => interface.link_mode = byte()?,
        libc::IFLA_CARRIER => interface.carrier = byte()?,
        libc::IFLA_CARRIER_CHANGES => interface.carrier_changes[0] = Some(number()?),
        libc::IFLA_CARRIER_UP_COUNT => interface.carrier_changes[1] = Some(number()?),
        libc::IFLA_CARRIER_DOWN_COUNT => interface.carrier_changes[2] = Some(number()?),
        libc::IFLA_PROMISCUITY => interface.promiscuous = Some(number()?),
        libc::IFLA_ALLMULTI => interface.all_groups = Some(number()?),
        libc::IFLA_STATS64 => {
            // An older kernel counts fewer things.
            for (count, bytes) in interface.counts.iter_mut().zip(value.as_chunks().0) {
                *count = u64::from_ne_bytes(*bytes);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The bytes of a number.
fn part<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or_else(odd)
}

/// A NUL ends it.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn hardware_address(value: &[u8]) -> String {
    value.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn odd() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's list of network interfaces is not as expected")
}

#[cfg(test)]
mod tests {
    //! This host's, beside what `/sys` says of them; and answers that are none.
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernel_says_the_same_in_both_places() {
        let there: Vec<String> = list().unwrap().into_iter().map(|interface| interface.name).collect();
        assert!(there.contains(&"lo".to_owned()), "{there:?}");
        // One that comes or goes meanwhile is in one place only.
        for seen in list().unwrap() {
            let file = |name: &str| {
                let read = fs::read_to_string(format!("/sys/class/net/{}/{name}", seen.name));
                read.map(|text| text.trim().to_owned()).unwrap_or_default()
            };
            if file("ifindex") != seen.index.to_string() {
                continue;
            }
            let expected = [
                ("address", seen.address.clone()),
                ("broadcast", seen.broadcast.clone()),
                ("ifalias", seen.alias.clone()),
                ("mtu", seen.mtu.to_string()),
                ("tx_queue_len", seen.transmit_queue.to_string()),
                ("netdev_group", seen.group.to_string()),
                ("iflink", seen.link.to_string()),
                ("link_mode", seen.link_mode.to_string()),
                ("type", seen.hardware.to_string()),
                ("carrier_changes", seen.carrier_changes[0].unwrap().to_string()),
                ("carrier_up_count", seen.carrier_changes[1].unwrap().to_string()),
                ("carrier_down_count", seen.carrier_changes[2].unwrap().to_string()),
            ];
            for (name, told) in expected {
                assert_eq!(file(name), told, "{name} of {seen:?}");
            }
        }
    }

    /// A message, or an attribute with a header of 4 bytes.
    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8], body].concat();
        bytes.resize(bytes.len().next_multiple_of(ALIGNED), 0);
        bytes
    }

    fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ALIGNED + value.len()).unwrap();
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(ALIGNED), 0);
        bytes
    }

    #[test]
    fn what_the_kernel_answers_is_read() {
        let mut header = [0; HEADER_BYTES];
        header[4] = 7;
        let attributes = [
            attribute_of(libc::IFLA_IFNAME, b"a \"b\"\0"),
            attribute_of(libc::IFLA_ADDRESS, &[2, 0, 0x5e, 0, 0x53, 1]),
            attribute_of(libc::IFLA_STATS64, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]),
        ];
        let link = message(libc::RTM_NEWLINK, 2, &[&header[..], &attributes.concat()].concat());
        let done = message(3, 2, &[0; 4]);
        let mut seen = Vec::new();
        assert_eq!(read(&link, &mut seen).unwrap(), Answer::Continued { is_torn: false });
        assert_eq!(read(&[link, done].concat(), &mut seen).unwrap(), Answer::Complete);
        assert_eq!(seen.len(), 2);
        let interface = &seen[0];
        assert_eq!((interface.name.as_str(), interface.index, interface.link), ("a \"b\"", 7, 7));
        assert_eq!((interface.address.as_str(), interface.counts[0], interface.counts[1]), ("02:00:5e:00:53:01", 1, 2));
        let refused = message(2, 0, &(-libc::EPERM).to_ne_bytes());
        assert_eq!(read(&refused, &mut seen).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let broken_off = message(3, 2, &(-libc::ENOMEM).to_ne_bytes());
        assert_eq!(read(&broken_off, &mut seen).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        let torn = message(0, 0x12, &[]);
        assert_eq!(read(&torn, &mut seen).unwrap(), Answer::Continued { is_torn: true });
        let elsewhere = [&header[..], &attribute_of(libc::IFLA_IFNAME, b"../../../x\0")].concat();
        assert_eq!(
            read(&message(libc::RTM_NEWLINK, 2, &elsewhere), &mut seen).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let nameless = message(libc::RTM_NEWLINK, 2, &header);
        assert_eq!(read(&nameless, &mut seen).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn whatever_is_answered_ends(kind in 0_u16..20, body in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..240) {
            let mut bytes = message(kind, 2, &body);
            bytes.truncate(cut);
            read(&bytes, &mut Vec::new()).ok();
            read(&body, &mut Vec::new()).ok();
        }
    }
}
