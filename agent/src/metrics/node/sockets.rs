//! What the network stack counts: sockets, protocols, connection tracking. Collectors of `node`.

use std::{collections::BTreeMap, io};

use super::Root;
use crate::metrics::text::{Kind, Text};

/// How much is told of `/proc/net/snmp`, `netstat` and `snmp6`, as `protocol_field`: node_exporter's choice.
fn is_told(protocol: &str, field: &str) -> bool {
    let is_one_of = |fields: &[&str]| fields.contains(&field);
    is_one_of(&["InErrors", "InErrs"])
        || match protocol {
            "Ip" => field == "Forwarding",
            "Ip6" | "IpExt" => is_one_of(&["InOctets", "OutOctets"]),
            "Icmp" | "Icmp6" => is_one_of(&["InMsgs", "OutMsgs"]),
            "TcpExt" => {
                field.starts_with("Listen")
                    || field.starts_with("Syncookies")
                    || is_one_of(&["TCPSynRetrans", "TCPTimeouts"])
            }
            "Tcp" => {
                is_one_of(&["ActiveOpens", "InSegs", "OutSegs", "OutRsts", "PassiveOpens", "RetransSegs", "CurrEstab"])
            }
            "Udp" | "Udp6" => is_one_of(&["InDatagrams", "OutDatagrams", "NoPorts", "RcvbufErrors", "SndbufErrors"]),
            _ => false,
        }
}

pub(super) fn netstat(root: &Root, text: &mut Text) -> io::Result<()> {
    let (netstat, snmp) = (root.read("proc/net/netstat")?, root.read("proc/net/snmp")?);
    // Without IPv6 there is no such file.
    let snmp6 = root.read("proc/net/snmp6").unwrap_or_default();
    let mut told: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for file in [&netstat, &snmp] {
        let mut lines = file.lines();
        // Two lines each: names, then values.
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let Some((protocol, names)) = names.split_once(':') else { continue };
            let Some((_, values)) = values.split_once(':') else { continue };
            for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
                if is_told(protocol, name)
                    && let Ok(value) = value.parse::<i64>()
                {
                    told.insert((protocol, name), value);
                }
            }
        }
    }
    for line in snmp6.lines() {
        // `Ip6InOctets   123`: the protocol ends with the 6.
        let mut words = line.split_ascii_whitespace();
        let (Some(key), Some(Ok(value))) = (words.next(), words.next().map(str::parse::<i64>)) else { continue };
        if let Some(end) = key.find('6') {
            let (protocol, field) = key.split_at(end + 1);
            if is_told(protocol, field) {
                told.insert((protocol, field), value);
            }
        }
    }
    for ((protocol, field), value) in told {
        let (name, help) = (format!("node_netstat_{protocol}_{field}"), format!("Statistic {protocol}{field}."));
        text.family(Kind::Untyped, &name, &help).value(value);
    }
    Ok(())
}

pub(super) fn sockstat(root: &Root, text: &mut Text) -> io::Result<()> {
    let page = rustix::param::page_size() as u64;
    let sockstat = root.read("proc/net/sockstat")?;
    let sockstat6 = root.read("proc/net/sockstat6").unwrap_or_default();
    for line in sockstat.lines().chain(sockstat6.lines()) {
        let Some((protocol, rest)) = line.split_once(':') else { continue };
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        for pair in words.chunks_exact(2) {
            let (state, Ok(value)) = (pair[0], pair[1].parse::<u64>()) else { continue };
            let name = format!("node_sockstat_{protocol}_{state}");
            if (protocol, state) == ("sockets", "used") {
                text.gauge(&name, "Number of IPv4 sockets in use.").value(value);
                continue;
            }
            text.gauge(&name, &format!("Number of {protocol} sockets in state {state}.")).value(value);
            if state == "mem" {
                let help = format!("Number of {protocol} sockets in state mem_bytes.");
                text.gauge(&format!("{name}_bytes"), &help).value(value.saturating_mul(page));
            }
        }
    }
    Ok(())
}

/// More bytes than a line has: `/proc/net/udp` fills each up to 128, `udp6` has longer addresses.
pub(super) const UDP_LINE: usize = 256;

pub(super) fn udp_queues(root: &Root, text: &mut Text) -> io::Result<()> {
    let help = "Number of allocated memory in the kernel for UDP datagrams in bytes.";
    let v4 = queues(&root.rows("proc/net/udp", UDP_LINE)?);
    let v6 = root.rows("proc/net/udp6", UDP_LINE).ok().map(|udp| queues(&udp));
    let mut family = text.gauge("node_udp_queues", help);
    for (ip, (tx, rx)) in [("v4", Some(v4)), ("v6", v6)].into_iter().filter_map(|(ip, sums)| Some((ip, sums?))) {
        family.sample(&[("ip", ip), ("queue", "rx")], rx);
        family.sample(&[("ip", ip), ("queue", "tx")], tx);
    }
    Ok(())
}

/// What waits to be sent, and to be read, over all sockets: `tx:rx` in hexadecimal, the fifth word of a line.
fn queues(udp: &str) -> (u64, u64) {
    let lines = udp.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(4)?.split_once(':'));
    let hexadecimal = |word: &str| u64::from_str_radix(word, 16).unwrap_or_default();
    lines.fold((0, 0), |(tx, rx), (t, r)| (tx + hexadecimal(t), rx + hexadecimal(r)))
}

const TRACKED: [(&str, &str, &str); 8] = [
    ("found", "node_nf_conntrack_stat_found", "Number of searched entries which were successful."),
    ("invalid", "node_nf_conntrack_stat_invalid", "Number of packets seen which can not be tracked."),
    (
        "ignore",
        "node_nf_conntrack_stat_ignore",
        "Number of packets seen which are already connected to a conntrack entry.",
    ),
    ("insert", "node_nf_conntrack_stat_insert", "Number of entries inserted into the list."),
    (
        "insert_failed",
        "node_nf_conntrack_stat_insert_failed",
        "Number of entries for which list insertion was attempted but failed.",
    ),
    ("drop", "node_nf_conntrack_stat_drop", "Number of packets dropped due to conntrack failure."),
    (
        "early_drop",
        "node_nf_conntrack_stat_early_drop",
        "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached.",
    ),
    (
        "search_restart",
        "node_nf_conntrack_stat_search_restart",
        "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
    ),
];

pub(super) fn conntrack(root: &Root, text: &mut Text) -> io::Result<()> {
    let count = root.read("proc/sys/net/netfilter/nf_conntrack_count")?;
    let help = "Number of currently allocated flow entries for connection tracking.";
    text.gauge("node_nf_conntrack_entries", help).value(count.trim());
    let most = root.read("proc/sys/net/netfilter/nf_conntrack_max")?;
    text.gauge("node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.").value(most.trim());
    let stat = root.read("proc/net/stat/nf_conntrack")?;
    let mut lines = stat.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    // One line per processor, in hexadecimal.
    for line in lines {
        for (name, word) in names.iter().zip(line.split_ascii_whitespace()) {
            *sums.entry(name).or_default() += u64::from_str_radix(word, 16).unwrap_or_default();
        }
    }
    for (field, name, help) in TRACKED {
        if let Some(sum) = sums.get(field) {
            text.gauge(name, help).value(sum);
        }
    }
    Ok(())
}
