//! What listens on this host, and whose it is: the kernel's tables of sockets, the processes that hold them, and the units
//! that those belong to. `observe` asks, `plan` judges.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use drover_proto::port::{Port, Transport};

/// Processes looked at; on a host with more the owner may stay unknown.
const MAX_PROCESSES: usize = 20_000;
/// Open files looked at in all of them.
const MAX_FILES: usize = 1_000_000;
/// A table of the kernel; every line has about 150 bytes.
const MAX_TABLE_BYTES: u64 = 64 << 20;
/// `TCP_LISTEN`, and the state of a UDP socket that is not connected.
const LISTENING: [(&str, Transport, &str); 4] = [
    ("tcp", Transport::Tcp, "0A"),
    ("tcp6", Transport::Tcp, "0A"),
    ("udp", Transport::Udp, "07"),
    ("udp6", Transport::Udp, "07"),
];

/// `TCP_ESTABLISHED`.
const ESTABLISHED: &str = "01";

/// A socket that something listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Where.
    pub port: Port,
    /// The processes that hold it; empty = none that could be seen.
    pub owners: Vec<Owner>,
}

/// A process that holds a socket.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Its name, without control characters.
    pub name: String,
    /// Its unit, such as `nginx.service` or `session-3.scope`.
    pub unit: Option<String>,
}

/// How many ends there are of connections to a port of this host that both ends still have open, those included that nobody
/// has accepted yet. Only one end of a connection into a container is among this host's own.
pub fn connections_to(port: u16) -> io::Result<usize> {
    let mut open = 0;
    for table in ["tcp", "tcp6"] {
        let text = match read(&Path::new("/proc/net").join(table)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        open += text.lines().skip(1).filter(|line| is_connected_to(line, port)).count();
    }
    Ok(open)
}

fn is_connected_to(line: &str, port: u16) -> bool {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (words.next().and_then(end), words.next().and_then(end), words.next());
    let to_this_host = |(address, number): (IpAddr, u16)| number == port && address.is_loopback();
    state == Some(ESTABLISHED) && (local.is_some_and(|(_, number)| number == port) || remote.is_some_and(to_this_host))
}

/// What listens where one of `ports` wants to.
pub fn on(ports: &BTreeSet<Port>) -> io::Result<Vec<Listener>> {
    let mut sockets = BTreeMap::new();
    for (table, transport, state) in LISTENING {
        let text = match read(&Path::new("/proc/net").join(table)) {
            Ok(text) => text,
            // Without IPv6 its tables are missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let open = text.lines().skip(1).filter_map(|line| socket(line, transport, state));
        sockets.extend(open.filter(|(_, port)| ports.iter().any(|wanted| wanted.collides(port))));
    }
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    let mut owners = holders(&sockets);
    Ok(sockets
        .into_iter()
        .map(|(inode, port)| Listener { port, owners: owners.remove(&inode).unwrap_or_default() })
        .collect())
}

fn read(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_TABLE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// A line of a table → its inode and where it listens.
fn socket(line: &str, transport: Transport, state: &str) -> Option<(u64, Port)> {
    let mut words = line.split_ascii_whitespace();
    let local = words.nth(1)?;
    if words.nth(1)? != state {
        return None;
    }
    let inode = words.nth(5)?.parse().ok()?;
    let (address, number) = end(local)?;
    let port = Port { address: Some(address), number, transport };
    (port.number != 0).then_some((inode, port))
}

/// `0100007F:0050`.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, number) = text.split_once(':')?;
    Some((address_of(address)?, u16::from_str_radix(number, 16).ok()?))
}

/// Hex digits, each four bytes as this machine orders a number.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |i: usize| Some(u32::from_str_radix(hex.get(i * 8..i * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for i in 0..4 {
                bytes[i * 4..i * 4 + 4].copy_from_slice(&word(i)?);
            }
            Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

/// Which processes hold these sockets. What has ended meanwhile, or may not be looked at, is passed over.
fn holders(sockets: &BTreeMap<u64, Port>) -> BTreeMap<u64, Vec<Owner>> {
    let mut found: BTreeMap<u64, Vec<Owner>> = BTreeMap::new();
    let mut files_left = MAX_FILES;
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in numbers.take(MAX_PROCESSES) {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(files_left);
        let mut held = BTreeSet::new();
        for file in open {
            files_left = files_left.saturating_sub(1);
            let Ok(target) = fs::read_link(file.path()) else { continue };
            let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            held.extend(inode.filter(|inode| sockets.contains_key(inode)));
        }
        if !held.is_empty() {
            let owner = owner(pid);
            held.into_iter().for_each(|inode| found.entry(inode).or_default().push(owner.clone()));
        }
    }
    found.values_mut().for_each(|owners| owners.sort());
    found
}

fn owner(pid: u32) -> Owner {
    let text = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let name = text("comm").trim().chars().filter(|c| !c.is_control()).collect();
    Owner { pid, name, unit: unit_of(&text("cgroup")) }
}

/// The unit in a process's control groups: the outermost service or scope of systemd's own hierarchy. What lies further in
/// was named by whoever has that unit, such as a user's own systemd, and may be called like one of ours.
fn unit_of(cgroups: &str) -> Option<String> {
    let ours = |line: &&str| line.starts_with("0::/") || line.contains(":name=systemd:");
    let paths = cgroups.lines().filter(ours).filter_map(|line| line.splitn(3, ':').nth(2));
    let units =
        paths.filter_map(|path| path.split('/').find(|part| part.ends_with(".service") || part.ends_with(".scope")));
    units.map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    //! Tables as the kernel writes them, and a socket of this very process.
    use super::*;

    #[test]
    fn the_tables_of_the_kernel_are_read() {
        let line =
            "   3: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  33        0 48213 1 0000";
        let (inode, port) = socket(line, Transport::Tcp, "0A").unwrap();
        assert_eq!((inode, port.to_string().as_str()), (48213, "127.0.0.1:8080"));
        assert_eq!(socket(&line.replace(" 0A ", " 01 "), Transport::Tcp, "0A"), None, "a connection");
        assert_eq!(socket("nonsense", Transport::Tcp, "0A"), None);
        let all = "00000000000000000000000000000000";
        assert_eq!(address_of(all), Some("::".parse().unwrap()));
        assert_eq!(address_of("0000000000000000FFFF00000100007F"), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(address_of("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
        assert_eq!(address_of("01"), None);
    }

    #[test]
    fn a_processes_unit_is_the_one_that_the_hosts_systemd_named() {
        assert_eq!(unit_of("0::/system.slice/nginx.service\n").as_deref(), Some("nginx.service"));
        let old =
            "5:memory:/x.service\n1:name=systemd:/user.slice/user-1.slice/user@1.service/app.slice/a.service\n0::/\n";
        assert_eq!(unit_of(old).as_deref(), Some("user@1.service"));
        assert_eq!(unit_of("0::/user.slice/user-1.slice/session-3.scope\n").as_deref(), Some("session-3.scope"));
        assert_eq!(unit_of("0::/system.slice/docker.service/payload\n").as_deref(), Some("docker.service"));
        assert_eq!(unit_of("0::/\n"), None);
    }

    #[test]
    fn a_port_of_this_process_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted: Port = socket.local_addr().unwrap().to_string().parse().unwrap();
        let found = on(&[wanted].into()).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].owners.iter().any(|owner| owner.pid == std::process::id()), "{found:?}");
        assert_eq!(connections_to(wanted.number).unwrap(), 0);
        let client = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        assert_eq!(connections_to(wanted.number).unwrap(), 2, "both ends, also before it is accepted");
        drop(client);
        assert_eq!(connections_to(wanted.number).unwrap(), 0);
        drop(socket);
        assert_eq!(on(&[wanted].into()).unwrap(), vec![]);
    }
}
