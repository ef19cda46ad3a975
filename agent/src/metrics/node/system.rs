//! The system as a whole: load, pressure, entropy, open files, names. Collectors of `node`.

use std::{collections::BTreeMap, io};

use super::{Root, odd};
use crate::metrics::text::Text;

pub(super) fn loadavg(root: &Root, text: &mut Text) -> io::Result<()> {
    let loadavg = root.read("proc/loadavg")?;
    let mut words = loadavg.split_ascii_whitespace().map(str::parse::<f64>);
    let families =
        [("node_load1", "1m load average."), ("node_load5", "5m load average."), ("node_load15", "15m load average.")];
    for (name, help) in families {
        let Some(Ok(load)) = words.next() else { return Err(odd("proc/loadavg")) };
        text.gauge(name, help).value(load);
    }
    Ok(())
}

/// How long somebody (`some`) or everybody (`full`) waited. A kernel without it has no such files.
pub(super) fn pressure(root: &Root, text: &mut Text) -> io::Result<()> {
    let families = [
        (
            "cpu",
            "some",
            "node_pressure_cpu_waiting_seconds_total",
            "Total time in seconds that processes have waited for CPU time",
        ),
        (
            "io",
            "some",
            "node_pressure_io_waiting_seconds_total",
            "Total time in seconds that processes have waited due to IO congestion",
        ),
        (
            "io",
            "full",
            "node_pressure_io_stalled_seconds_total",
            "Total time in seconds no process could make progress due to IO congestion",
        ),
        (
            "memory",
            "some",
            "node_pressure_memory_waiting_seconds_total",
            "Total time in seconds that processes have waited for memory",
        ),
        (
            "memory",
            "full",
            "node_pressure_memory_stalled_seconds_total",
            "Total time in seconds no process could make progress due to memory congestion",
        ),
    ];
    for (of, who, name, help) in families {
        let pressure = root.read(format!("proc/pressure/{of}"))?;
        let line = pressure.lines().find_map(|line| line.strip_prefix(who));
        let total = line.and_then(|line| line.rsplit_once("total=")?.1.trim().parse::<u64>().ok());
        let total = total.ok_or_else(|| odd("proc/pressure"))?;
        text.counter(name, help).value(total as f64 / 1e6);
    }
    Ok(())
}

/// For what.
#[derive(Clone, Copy)]
pub(in crate::metrics) enum Waiting {
    Cpu,
    Memory,
    Io,
}

/// Share of the last 10 s in which somebody waited, of 100.
pub(in crate::metrics) fn waiting(root: &Root, what: Waiting) -> Option<f64> {
    let path = match what {
        Waiting::Cpu => "proc/pressure/cpu",
        Waiting::Memory => "proc/pressure/memory",
        Waiting::Io => "proc/pressure/io",
    };
    let pressure = root.read(path).ok()?;
    let some = pressure.lines().find_map(|line| line.strip_prefix("some avg10="))?;
    some.split(' ').next()?.parse().ok()
}

/// The first number of a file.
pub(in crate::metrics) fn first_number(root: &Root, path: &str) -> Option<f64> {
    root.read(path).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

pub(super) fn entropy(root: &Root, text: &mut Text) -> io::Result<()> {
    let available = root.read("proc/sys/kernel/random/entropy_avail")?;
    text.gauge("node_entropy_available_bits", "Bits of available entropy.").value(whole(&available)?);
    let size = root.read("proc/sys/kernel/random/poolsize")?;
    text.gauge("node_entropy_pool_size_bits", "Bits of entropy pool.").value(whole(&size)?);
    Ok(())
}

pub(super) fn filefd(root: &Root, text: &mut Text) -> io::Result<()> {
    let file_nr = root.read("proc/sys/fs/file-nr")?;
    let words: Vec<&str> = file_nr.split_ascii_whitespace().collect();
    let [allocated, _, most] = words[..] else { return Err(odd("proc/sys/fs/file-nr")) };
    text.gauge("node_filefd_allocated", "File descriptor statistics: allocated.").value(whole(allocated)?);
    text.gauge("node_filefd_maximum", "File descriptor statistics: maximum.").value(whole(most)?);
    Ok(())
}

pub(super) fn selinux(root: &Root, text: &mut Text) -> io::Result<()> {
    let is_enabled = root.at("sys/fs/selinux/enforce").exists();
    text.gauge("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false").value(u8::from(is_enabled));
    Ok(())
}

pub(super) fn uname(_: &Root, text: &mut Text) -> io::Result<()> {
    let uname = rustix::system::uname();
    let labels = [
        ("domainname", uname.domainname().to_string_lossy()),
        ("machine", uname.machine().to_string_lossy()),
        ("nodename", uname.nodename().to_string_lossy()),
        ("release", uname.release().to_string_lossy()),
        ("sysname", uname.sysname().to_string_lossy()),
        ("version", uname.version().to_string_lossy()),
    ];
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    let help = "Labeled system information as provided by the uname system call.";
    text.gauge("node_uname_info", help).sample(&labels, 1);
    Ok(())
}

/// In node_exporter's order, and the key of each in `/etc/os-release`.
const OS_LABELS: [(&str, &str); 12] = [
    ("build_id", "BUILD_ID"),
    ("id", "ID"),
    ("id_like", "ID_LIKE"),
    ("image_id", "IMAGE_ID"),
    ("image_version", "IMAGE_VERSION"),
    ("name", "NAME"),
    ("pretty_name", "PRETTY_NAME"),
    ("variant", "VARIANT"),
    ("variant_id", "VARIANT_ID"),
    ("version", "VERSION"),
    ("version_codename", "VERSION_CODENAME"),
    ("version_id", "VERSION_ID"),
];

pub(super) fn os(root: &Root, text: &mut Text) -> io::Result<()> {
    let release = root.read("etc/os-release").or_else(|_| root.read("usr/lib/os-release"))?;
    let fields: BTreeMap<&str, &str> = release
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim().trim_matches(['"', '\''])))
        .collect();
    let field = |key: &str| fields.get(key).copied().unwrap_or_default();
    let labels = OS_LABELS.map(|(label, key)| (label, field(key)));
    let help = "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, name, \
                pretty_name, variant, variant_id, version, version_codename, version_id.";
    text.gauge("node_os_info", help).sample(&labels, 1);
    if let Some(version) = major_minor(field("VERSION_ID")) {
        let labels = [("id", field("ID")), ("id_like", field("ID_LIKE")), ("name", field("NAME"))];
        text.gauge("node_os_version", "Metric containing the major.minor part of the OS version.")
            .sample(&labels, version);
    }
    Ok(())
}

/// `22.04.3` is 22.04.
fn major_minor(version: &str) -> Option<f64> {
    let mut parts = version.splitn(3, '.');
    match (parts.next()?, parts.next()) {
        (major, Some(minor)) => format!("{major}.{minor}").parse().ok(),
        (major, None) => major.parse().ok(),
    }
}

fn whole(text: &str) -> io::Result<u64> {
    text.trim().parse().map_err(|_| odd("a number"))
}
