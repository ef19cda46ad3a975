//! Block devices: `/proc/diskstats`, and what udev knows of them. A collector of `node`.

use std::io;

use super::{Root, odd};
use crate::metrics::text::Text;

/// What `/proc/diskstats` counts in, whatever the disk's own sectors are.
const SECTOR_BYTES: f64 = 512.0;

/// How a number of the kernel's becomes the sample.
#[derive(Clone, Copy)]
enum Unit {
    Count,
    Sectors,
    Milliseconds,
}

/// A column of `/proc/diskstats`, counted from the first number.
const COUNTERS: [(usize, Unit, &str, &str); 16] = [
    (0, Unit::Count, "node_disk_reads_completed_total", "The total number of reads completed successfully."),
    (1, Unit::Count, "node_disk_reads_merged_total", "The total number of reads merged."),
    (2, Unit::Sectors, "node_disk_read_bytes_total", "The total number of bytes read successfully."),
    (3, Unit::Milliseconds, "node_disk_read_time_seconds_total", "The total number of seconds spent by all reads."),
    (4, Unit::Count, "node_disk_writes_completed_total", "The total number of writes completed successfully."),
    (5, Unit::Count, "node_disk_writes_merged_total", "The number of writes merged."),
    (6, Unit::Sectors, "node_disk_written_bytes_total", "The total number of bytes written successfully."),
    (
        7,
        Unit::Milliseconds,
        "node_disk_write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
    ),
    (9, Unit::Milliseconds, "node_disk_io_time_seconds_total", "Total seconds spent doing I/Os."),
    (10, Unit::Milliseconds, "node_disk_io_time_weighted_seconds_total", "The weighted # of seconds spent doing I/Os."),
    (11, Unit::Count, "node_disk_discards_completed_total", "The total number of discards completed successfully."),
    (12, Unit::Count, "node_disk_discards_merged_total", "The total number of discards merged."),
    (13, Unit::Count, "node_disk_discarded_sectors_total", "The total number of sectors discarded successfully."),
    (
        14,
        Unit::Milliseconds,
        "node_disk_discard_time_seconds_total",
        "This is the total number of seconds spent by all discards.",
    ),
    (15, Unit::Count, "node_disk_flush_requests_total", "The total number of flush requests completed successfully"),
    (
        16,
        Unit::Milliseconds,
        "node_disk_flush_requests_time_seconds_total",
        "This is the total number of seconds spent by all flush requests.",
    ),
];
const IO_NOW: usize = 8;

struct Disk<'t> {
    major: &'t str,
    minor: &'t str,
    device: &'t str,
    numbers: Vec<u64>,
}

pub(super) fn diskstats(root: &Root, text: &mut Text) -> io::Result<()> {
    let diskstats = root.read("proc/diskstats")?;
    let disks: Vec<Disk<'_>> = diskstats
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (major, minor, device) = (words.next()?, words.next()?, words.next()?);
            let numbers = words.filter_map(|word| word.parse().ok()).collect();
            (!is_left_out(device)).then_some(Disk { major, minor, device, numbers })
        })
        .collect();
    if disks.is_empty() && !diskstats.is_empty() && diskstats.lines().all(|line| line.split_whitespace().count() < 4) {
        return Err(odd("proc/diskstats"));
    }
    for (column, unit, name, help) in COUNTERS {
        let mut family = text.counter(name, help);
        for disk in &disks {
            let Some(number) = disk.numbers.get(column) else { continue };
            let labels = [("device", disk.device)];
            match unit {
                Unit::Count => family.sample(&labels, number),
                Unit::Sectors => family.sample(&labels, *number as f64 * SECTOR_BYTES),
                Unit::Milliseconds => family.sample(&labels, *number as f64 / 1000.0),
            };
        }
    }
    let mut now = text.gauge("node_disk_io_now", "The number of I/Os currently in progress.");
    for disk in &disks {
        if let Some(number) = disk.numbers.get(IO_NOW) {
            now.sample(&[("device", disk.device)], number);
        }
    }
    let mut info = text.gauge("node_disk_info", "Info of /sys/block/<block_device>.");
    for disk in &disks {
        let udev = root.read(format!("run/udev/data/b{}:{}", disk.major, disk.minor)).unwrap_or_default();
        let told = |key: &str| {
            let value = udev.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='));
            value.unwrap_or_default()
        };
        let labels = [
            ("device", disk.device),
            ("major", disk.major),
            ("minor", disk.minor),
            ("model", told("ID_MODEL")),
            ("path", told("ID_PATH")),
            ("revision", told("ID_REVISION")),
            ("serial", told("ID_SERIAL_SHORT")),
            ("wwn", told("ID_WWN")),
        ];
        info.sample(&labels, 1);
    }
    Ok(())
}

/// Bytes read from all disks, and written. What lies on other disks (LVM, RAID), which count it, too, or in memory, is left out.
pub(in crate::metrics) fn moved(root: &Root) -> Option<(u64, u64)> {
    let diskstats = root.read("proc/diskstats").ok()?;
    let bytes = |sectors: Option<&str>| sectors.and_then(|word| word.parse::<u64>().ok()).unwrap_or_default() * 512;
    let mut sum = (0, 0);
    for line in diskstats.lines() {
        let mut words = line.split_ascii_whitespace().skip(2);
        let Some(device) = words.next() else { continue };
        if is_left_out(device) || ["dm-", "md", "zram"].iter().any(|kind| device.starts_with(kind)) {
            continue;
        }
        sum.0 += bytes(words.nth(2));
        sum.1 += bytes(words.nth(3));
    }
    Some(sum)
}

/// node_exporter's `^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`: what is in memory, and partitions.
fn is_left_out(device: &str) -> bool {
    let stem = device.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == device.len() {
        return false;
    }
    let is_partition = ["hd", "sd", "vd", "xvd"].iter().any(|kind| {
        let letter = stem.strip_prefix(kind);
        letter.is_some_and(|letter| letter.len() == 1 && letter.chars().all(|c| c.is_ascii_lowercase()))
    });
    let of_nvme =
        stem.strip_prefix("nvme").and_then(|rest| rest.strip_suffix('p')).and_then(|rest| rest.split_once('n'));
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    matches!(stem, "ram" | "loop" | "fd")
        || is_partition
        || of_nvme.is_some_and(|(disk, namespace)| digits(disk) && digits(namespace))
}

#[cfg(test)]
mod tests {
    //! Which devices are told.
    use super::*;

    #[test]
    fn partitions_and_memory_are_left_out() {
        for out in ["ram0", "loop12", "fd0", "sda1", "vdb12", "xvda2", "hdc3", "nvme0n1p2"] {
            assert!(is_left_out(out), "{out}");
        }
        for told in ["sda", "zram0", "vda", "xvda", "nvme0n1", "dm-0", "md127", "sdaa1", "mmcblk0p1", "sr0", "nbd0"] {
            assert!(!is_left_out(told), "{told}");
        }
    }
}
