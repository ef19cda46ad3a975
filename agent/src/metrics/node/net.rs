//! Network interfaces: what the kernel lists of them, the few files that only `/sys/class/net` has, and `/proc/net/arp`. Collectors of
//! `node`.

use std::{collections::BTreeMap, io};

use super::Root;
use crate::{
    host::interfaces::{self, Interface},
    metrics::text::{Kind, Text},
};

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

/// Bytes received and sent by all interfaces but loopback.
pub(in crate::metrics) fn moved(root: &Root) -> Option<(u64, u64)> {
    let dev = root.read("proc/net/dev").ok()?;
    let others = dev.lines().skip(2).filter_map(|line| line.rsplit_once(':')).filter(|(name, _)| name.trim() != "lo");
    Some(others.fold((0, 0), |(received, sent), (_, numbers)| {
        let column = |index: usize| numbers.split_ascii_whitespace().nth(index)?.parse::<u64>().ok();
        (received + column(0).unwrap_or_default(), sent + column(8).unwrap_or_default())
    }))
}

/// What is told of one interface: what the kernel lists of it, and what only its files have.
pub(super) struct Device {
    interface: Interface,
    own: Own,
    /// In files that change by themselves: megabits a second, which some drivers say as -1, and `full` or `half`.
    speed: Option<i64>,
    duplex: String,
}

/// What stays as it is as long as an interface keeps its number, name and address.
#[derive(Clone, Copy, Default)]
struct Own {
    address_assigned: Option<i64>,
    device: Option<i64>,
    name_assigned: Option<i64>,
}

/// Lists them, and remembers what stays.
#[derive(Default)]
pub struct Interfaces(BTreeMap<(i32, String, String), Own>);

impl Interfaces {
    pub(super) fn look(&mut self, root: &Root) -> io::Result<Vec<Device>> {
        let devices: Vec<Device> = interfaces::list()?.into_iter().map(|one| self.device(root, one)).collect();
        self.0 = devices.iter().map(|device| (device.key(), device.own)).collect();
        Ok(devices)
    }

    pub(super) fn device(&self, root: &Root, interface: Interface) -> Device {
        // One that has just gone has no files.
        let at = format!("sys/class/net/{}", interface.name);
        let line = |file: &str| root.line(format!("{at}/{file}"));
        let mut device = Device { interface, own: Own::default(), speed: None, duplex: String::new() };
        device.own = self.0.get(&device.key()).copied().unwrap_or_else(|| Own {
            address_assigned: line("addr_assign_type").and_then(number),
            device: line("dev_id").and_then(number),
            name_assigned: line("name_assign_type").and_then(number),
        });
        // The driver has no answer for one that is down, and for loopback never.
        if device.is_up() && device.interface.flags & flag(libc::IFF_LOOPBACK) == 0 {
            device.speed = line("speed").and_then(number);
            device.duplex = line("duplex").unwrap_or_default();
        }
        device
    }
}

impl Device {
    fn key(&self) -> (i32, String, String) {
        (self.interface.index, self.interface.name.clone(), self.interface.address.clone())
    }
    /// Somebody wants it up, whatever its state.
    fn is_up(&self) -> bool {
        self.interface.flags & flag(libc::IFF_UP) != 0
    }
    /// Those that were set, as `/sys` has them; not those that say how it is just now.
    fn flags(&self) -> u32 {
        let Interface { flags, promiscuous, all_groups, .. } = &self.interface;
        let now = flag(libc::IFF_RUNNING) | flag(libc::IFF_LOWER_UP) | flag(libc::IFF_DORMANT);
        let asked = [(libc::IFF_PROMISC, promiscuous), (libc::IFF_ALLMULTI, all_groups)];
        asked.into_iter().fold(flags & !now, |flags, (one, asked)| match asked {
            Some(0) => flags & !flag(one),
            Some(_) => flags | flag(one),
            None => flags,
        })
    }
    fn state(&self) -> &'static str {
        match i32::from(self.interface.state) {
            libc::IF_OPER_NOTPRESENT => "notpresent",
            libc::IF_OPER_DOWN => "down",
            libc::IF_OPER_LOWERLAYERDOWN => "lowerlayerdown",
            libc::IF_OPER_TESTING => "testing",
            libc::IF_OPER_DORMANT => "dormant",
            libc::IF_OPER_UP => "up",
            _ => "unknown",
        }
    }
}

fn flag(flag: libc::c_int) -> u32 {
    flag.cast_unsigned()
}

/// The columns of `/proc/net/dev`, each the sum of these of the kernel's counts.
const COLUMNS: [(&str, &[usize]); 17] = [
    ("receive_bytes", &[2]),
    ("receive_packets", &[0]),
    ("receive_errs", &[4]),
    ("receive_drop", &[6, 15]),
    ("receive_fifo", &[14]),
    ("receive_frame", &[10, 11, 12, 13]),
    ("receive_compressed", &[21]),
    ("receive_multicast", &[8]),
    ("transmit_bytes", &[3]),
    ("transmit_packets", &[1]),
    ("transmit_errs", &[5]),
    ("transmit_drop", &[7]),
    ("transmit_fifo", &[18]),
    ("transmit_colls", &[9]),
    ("transmit_carrier", &[16, 17, 19, 20]),
    ("transmit_compressed", &[22]),
    ("receive_nohandler", &[23]),
];

pub(super) fn netdev(devices: &[Device], text: &mut Text) {
    for (column, counts) in COLUMNS {
        let (name, help) = (format!("node_network_{column}_total"), format!("Network device statistic {column}."));
        let mut family = text.counter(&name, &help);
        for Device { interface, .. } in devices {
            let sum = counts.iter().filter_map(|index| interface.counts.get(*index));
            family.sample(&[("device", &interface.name)], sum.fold(0_u64, |sum, count| sum.wrapping_add(*count)));
        }
    }
}

/// Megabits a second.
const SPEED_BYTES: i64 = 1_000_000 / 8;

/// Of one device; `None`: it has none.
type Property = fn(&Device) -> Option<i64>;

/// Under the names that its files have with node_exporter.
const PROPERTIES: [(&str, Property); 13] = [
    ("address_assign_type", |device| device.own.address_assigned),
    ("carrier", |device| device.is_up().then(|| device.interface.carrier.into())),
    ("device_id", |device| device.own.device),
    ("dormant", |device| device.is_up().then(|| i64::from(device.interface.flags & flag(libc::IFF_DORMANT) != 0))),
    ("flags", |device| Some(device.flags().into())),
    ("iface_id", |device| Some(device.interface.index.into())),
    ("iface_link", |device| Some(device.interface.link.into())),
    ("iface_link_mode", |device| Some(device.interface.link_mode.into())),
    ("mtu_bytes", |device| Some(device.interface.mtu.into())),
    ("name_assign_type", |device| device.own.name_assigned),
    ("net_dev_group", |device| Some(device.interface.group.into())),
    ("protocol_type", |device| Some(device.interface.hardware.into())),
    ("transmit_queue_length", |device| Some(device.interface.transmit_queue.into())),
];
const COUNTED: [(&str, Property); 3] = [
    ("carrier_changes_total", |device| device.interface.carrier_changes[0].map(i64::from)),
    ("carrier_down_changes_total", |device| device.interface.carrier_changes[2].map(i64::from)),
    ("carrier_up_changes_total", |device| device.interface.carrier_changes[1].map(i64::from)),
];
const SPEED: (&str, Property) = ("speed_bytes", |device| Some(device.speed?.saturating_mul(SPEED_BYTES)));

pub(super) fn netclass(devices: &[Device], text: &mut Text) {
    let mut property = |kind: Kind, (name, of): (&str, Property)| {
        let (full, help) = (format!("node_network_{name}"), format!("Network device property: {name}"));
        let mut family = text.family(kind, &full, &help);
        for device in devices {
            if let Some(number) = of(device) {
                family.sample(&[("device", &device.interface.name)], number);
            }
        }
    };
    PROPERTIES.into_iter().for_each(|one| property(Kind::Gauge, one));
    COUNTED.into_iter().for_each(|one| property(Kind::Counter, one));
    property(Kind::Gauge, SPEED);
    let help = "Non-numeric data from /sys/class/net/<iface>, value is always 1.";
    let mut info = text.gauge("node_network_info", help);
    for device in devices {
        let Interface { name, address, broadcast, alias, .. } = &device.interface;
        let labels = [
            ("address", address.as_str()),
            ("broadcast", broadcast),
            ("device", name),
            ("duplex", &device.duplex),
            ("ifalias", alias),
            ("operstate", device.state()),
        ];
        info.sample(&labels, 1);
    }
    let mut up = text.gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.");
    for device in devices {
        up.sample(&[("device", &device.interface.name)], u8::from(device.state() == "up"));
    }
}

fn number(line: String) -> Option<i64> {
    match line.strip_prefix("0x") {
        Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16).ok(),
        None => line.parse().ok(),
    }
}
