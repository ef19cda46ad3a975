//! Network interfaces: `/proc/net/dev`, `/sys/class/net`, `/proc/net/arp`. Collectors of `node`.

use std::{collections::BTreeMap, io};

use super::{Directory, Root, odd};
use crate::metrics::text::{Kind, Text};

pub(super) fn arp(root: &Root, text: &mut Text) -> io::Result<()> {
    let arp = root.read("proc/net/arp")?;
    let mut entries: BTreeMap<&str, u64> = BTreeMap::new();
    for line in arp.lines().skip(1) {
        if let Some(device) = line.split_ascii_whitespace().nth(5) {
            *entries.entry(device).or_default() += 1;
        }
    }
    let mut family = text.gauge("node_arp_entries", "ARP entries by device");
    for (device, count) in entries {
        family.sample(&[("device", device)], count);
    }
    Ok(())
}

/// The columns of `/proc/net/dev`.
const COLUMNS: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

/// Bytes received and sent by all interfaces but loopback.
pub(in crate::metrics) fn moved(root: &Root) -> Option<(u64, u64)> {
    let dev = root.read("proc/net/dev").ok()?;
    let others = dev.lines().skip(2).filter_map(|line| line.rsplit_once(':')).filter(|(name, _)| name.trim() != "lo");
    Some(others.fold((0, 0), |(received, sent), (_, numbers)| {
        let column = |index: usize| numbers.split_ascii_whitespace().nth(index)?.parse::<u64>().ok();
        (received + column(0).unwrap_or_default(), sent + column(8).unwrap_or_default())
    }))
}

pub(super) fn netdev(root: &Root, text: &mut Text) -> io::Result<()> {
    let dev = root.read("proc/net/dev")?;
    let rows: Vec<(&str, Vec<u64>)> = dev
        .lines()
        .skip(2)
        .filter_map(|line| {
            // An alias may have a colon in its name; the last one ends it.
            let (device, numbers) = line.rsplit_once(':')?;
            let numbers = numbers.split_ascii_whitespace().filter_map(|word| word.parse().ok());
            Some((device.trim(), numbers.collect()))
        })
        .collect();
    if rows.is_empty() {
        return Err(odd("proc/net/dev"));
    }
    for (index, column) in COLUMNS.iter().enumerate() {
        let (name, help) = (format!("node_network_{column}_total"), format!("Network device statistic {column}."));
        let mut family = text.counter(&name, &help);
        for (device, numbers) in &rows {
            if let Some(number) = numbers.get(index) {
                family.sample(&[("device", device)], number);
            }
        }
    }
    let help = "Network device statistic receive_nohandler.";
    let mut family = text.counter("node_network_receive_nohandler_total", help);
    for (device, _) in &rows {
        if let Some(number) = root.line(format!("sys/class/net/{device}/statistics/rx_nohandler")).and_then(number) {
            family.sample(&[("device", device)], number);
        }
    }
    Ok(())
}

/// Files of an interface with one number, by the name of their family.
const PROPERTIES: [(&str, &str); 13] = [
    ("address_assign_type", "addr_assign_type"),
    ("carrier", "carrier"),
    ("device_id", "dev_id"),
    ("dormant", "dormant"),
    ("flags", "flags"),
    ("iface_id", "ifindex"),
    ("iface_link", "iflink"),
    ("iface_link_mode", "link_mode"),
    ("mtu_bytes", "mtu"),
    ("name_assign_type", "name_assign_type"),
    ("net_dev_group", "netdev_group"),
    ("protocol_type", "type"),
    ("transmit_queue_length", "tx_queue_len"),
];
const COUNTED: [(&str, &str); 3] = [
    ("carrier_changes_total", "carrier_changes"),
    ("carrier_down_changes_total", "carrier_down_count"),
    ("carrier_up_changes_total", "carrier_up_count"),
];
/// Megabits a second.
const SPEED_BYTES: i64 = 1_000_000 / 8;

pub(super) fn netclass(root: &Root, text: &mut Text) -> io::Result<()> {
    // `bonding_masters` is a file among them.
    let names = root.names("sys/class/net")?;
    let open = |device: &String| Some((device.clone(), root.directory(format!("sys/class/net/{device}")).ok()?));
    let devices: Vec<(String, Directory)> = names.iter().filter_map(open).collect();
    let mut property = |kind: Kind, (name, file): (&str, &str)| {
        let (full, help) = (format!("node_network_{name}"), format!("Network device property: {name}"));
        let mut family = text.family(kind, &full, &help);
        for (device, files) in &devices {
            if let Some(number) = files.line(file).and_then(number) {
                family.sample(&[("device", device)], number);
            }
        }
    };
    PROPERTIES.into_iter().for_each(|one| property(Kind::Gauge, one));
    COUNTED.into_iter().for_each(|one| property(Kind::Counter, one));
    let mut speed = text.gauge("node_network_speed_bytes", "Network device property: speed_bytes");
    for (device, files) in &devices {
        if let Some(megabits) = files.line("speed").and_then(number) {
            speed.sample(&[("device", device)], megabits.saturating_mul(SPEED_BYTES));
        }
    }
    // Nothing where the driver has no answer, or the interface has just gone.
    let word = |files: &Directory, file: &str| files.line(file).unwrap_or_default();
    let states: Vec<String> = devices.iter().map(|(_, files)| word(files, "operstate")).collect();
    let help = "Non-numeric data from /sys/class/net/<iface>, value is always 1.";
    let mut info = text.gauge("node_network_info", help);
    for ((device, files), state) in devices.iter().zip(&states) {
        let [address, broadcast, duplex, alias] =
            ["address", "broadcast", "duplex", "ifalias"].map(|file| word(files, file));
        let labels = [
            ("address", address.as_str()),
            ("broadcast", &broadcast),
            ("device", device),
            ("duplex", &duplex),
            ("ifalias", &alias),
            ("operstate", state),
        ];
        info.sample(&labels, 1);
    }
    let mut up = text.gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.");
    for ((device, _), state) in devices.iter().zip(&states) {
        up.sample(&[("device", device)], u8::from(state == "up"));
    }
    Ok(())
}

fn number(line: String) -> Option<i64> {
    match line.strip_prefix("0x") {
        Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16).ok(),
        None => line.parse().ok(),
    }
}
