//! What a program tells of its own process, under the names that Prometheus' own libraries use.

use std::fs;

use crate::text::Text;

/// The kernel counts in hundredths of a second for everybody, whatever it counts in itself.
const TICKS_PER_SECOND: f64 = 100.0;

/// As everything that Prometheus scrapes tells of its own process.
pub fn write(text: &mut Text) {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return };
    // Its name may have blanks and brackets in it; the last bracket ends it.
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    let words: Vec<u64> = rest.split_ascii_whitespace().map(|word| word.parse().unwrap_or_default()).collect();
    let word = |field: usize| words.get(field - 3).copied().unwrap_or_default();
    // Fields of proc(5), counted from 1: the state is the third.
    let (user, system, started, virtual_bytes, resident_pages) = (word(14), word(15), word(22), word(23), word(24));
    let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
    text.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")
        .value(seconds(user + system));
    if let Ok(names) = fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Number of open file descriptors.").value(names.count());
    }
    let page = rustix::param::page_size() as u64;
    text.gauge("process_resident_memory_bytes", "Resident memory size in bytes.").value(resident_pages * page);
    text.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
        .value(booted_unix_s() + seconds(started));
    text.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.").value(virtual_bytes);
}

/// When the kernel was started, as its clocks tell it.
fn booted_unix_s() -> f64 {
    let seconds = |clock| {
        let time = rustix::time::clock_gettime(clock);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    seconds(rustix::time::ClockId::Realtime) - seconds(rustix::time::ClockId::Boottime)
}
