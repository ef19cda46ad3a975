//! Memory: `/proc/meminfo` and `/proc/vmstat`. A collector of `node`.

use std::io;

use super::{Root, number, odd};
use crate::metrics::text::{Kind, Text};

pub(super) fn meminfo(root: &Root, text: &mut Text) -> io::Result<()> {
    let meminfo = root.read("proc/meminfo")?;
    let mut is_empty = true;
    for line in meminfo.lines() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        let mut words = rest.split_ascii_whitespace();
        let Some(value) = number(&mut words) else { continue };
        // `Active(anon)`: a name has no brackets.
        let key = key.replace('(', "_").replace(')', "");
        let (field, value) = match words.next() {
            Some("kB") => (format!("{key}_bytes"), value.saturating_mul(1024)),
            _ => (key, value),
        };
        let (name, help) = (format!("node_memory_{field}"), format!("Memory information field {field}."));
        text.gauge(&name, &help).value(value);
        is_empty = false;
    }
    if is_empty { Err(odd("proc/meminfo")) } else { Ok(()) }
}

/// In bytes.
#[derive(Default)]
pub(in crate::metrics) struct Room {
    pub memory: u64,
    pub available: u64,
    pub swap: u64,
    pub swap_free: u64,
}

pub(in crate::metrics) fn room(root: &Root) -> Option<Room> {
    let meminfo = root.read("proc/meminfo").ok()?;
    let mut room = Room::default();
    for (key, rest) in meminfo.lines().filter_map(|line| line.split_once(':')) {
        let field = match key {
            "MemTotal" => &mut room.memory,
            "MemAvailable" => &mut room.available,
            "SwapTotal" => &mut room.swap,
            "SwapFree" => &mut room.swap_free,
            _ => continue,
        };
        *field = number(&mut rest.split_ascii_whitespace())?.saturating_mul(1024);
    }
    Some(room)
}

pub(super) fn vmstat(root: &Root, text: &mut Text) -> io::Result<()> {
    let vmstat = root.read("proc/vmstat")?;
    for line in vmstat.lines() {
        let Some((key, value)) = line.split_once(' ').filter(|(key, _)| is_told(key)) else { continue };
        let Ok(value) = value.parse::<u64>() else { continue };
        let (name, help) = (format!("node_vmstat_{key}"), format!("/proc/vmstat information field {key}."));
        text.family(Kind::Untyped, &name, &help).value(value);
    }
    Ok(())
}

/// node_exporter's `^(oom_kill|pgpg|pswp|pg.*fault)`.
fn is_told(key: &str) -> bool {
    let is_fault = key.strip_prefix("pg").is_some_and(|rest| rest.contains("fault"));
    is_fault || ["oom_kill", "pgpg", "pswp"].iter().any(|prefix| key.starts_with(prefix))
}
