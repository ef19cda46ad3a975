//! What the processors did: `/proc/stat`, `/proc/schedstat`, `/proc/net/softnet_stat`. A collector of `node`.

use std::{collections::BTreeMap, io};

use super::{Root, TICKS_PER_SECOND, number, odd};
use crate::metrics::text::Text;

/// As `/proc/stat` has them.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// The most that each processor has shown of each of its columns, in ticks. The kernel's idle and iowait may go back a little,
/// which a counter must not: it would be taken for a new beginning.
#[derive(Default)]
pub struct Processors(BTreeMap<String, Vec<u64>>);

/// Idle time that goes back by so much has begun anew: the processor was taken away and came back.
const BEGUN_ANEW_TICKS: u64 = 300;
const IDLE: usize = 3;

impl Processors {
    /// `stat`: `/proc/stat`.
    pub(super) fn collect(&mut self, stat: &str, text: &mut Text) -> io::Result<()> {
        let mut seen = BTreeMap::new();
        // `cpu` alone is the sum.
        for line in stat.lines().filter_map(|line| line.strip_prefix("cpu")).filter(|line| !line.starts_with(' ')) {
            let Some((cpu, rest)) = line.split_once(' ') else { continue };
            let ticks: Vec<u64> = rest.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
            seen.insert(cpu.to_owned(), self.most(cpu, ticks));
        }
        if seen.is_empty() {
            return Err(odd("proc/stat"));
        }
        self.0 = seen;
        self.write(text);
        Ok(())
    }

    fn most(&self, cpu: &str, ticks: Vec<u64>) -> Vec<u64> {
        let Some(before) = self.0.get(cpu) else { return ticks };
        let idle = |ticks: &[u64]| ticks.get(IDLE).copied().unwrap_or_default();
        if idle(&ticks) + BEGUN_ANEW_TICKS < idle(before) {
            return ticks;
        }
        let most = |(index, now): (usize, u64)| before.get(index).copied().unwrap_or_default().max(now);
        ticks.into_iter().enumerate().map(most).collect()
    }

    fn write(&self, text: &mut Text) {
        let seconds = |ticks: &u64| *ticks as f64 / TICKS_PER_SECOND;
        let help = "Seconds the CPUs spent in guests (VMs) for each mode.";
        let mut guests = text.counter("node_cpu_guest_seconds_total", help);
        for (cpu, ticks) in &self.0 {
            for (mode, ticks) in ["user", "nice"].iter().zip(ticks.iter().skip(MODES.len())) {
                guests.sample(&[("cpu", cpu), ("mode", mode)], seconds(ticks));
            }
        }
        let mut modes = text.counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");
        for (cpu, ticks) in &self.0 {
            for (mode, ticks) in MODES.iter().zip(ticks) {
                modes.sample(&[("cpu", cpu), ("mode", mode)], seconds(ticks));
            }
        }
    }
}

/// What all processors together did, in ticks.
pub(in crate::metrics) struct Used {
    /// Neither idle nor waiting for a disk.
    pub busy: u64,
    /// All.
    pub ticks: u64,
    /// How many are there.
    pub cores: u32,
}

/// `None`: `/proc/stat` is not as expected.
pub(in crate::metrics) fn used(root: &Root) -> Option<Used> {
    let stat = root.read("proc/stat").ok()?;
    let (mut sum, mut cores) = (None, 0);
    for line in stat.lines().filter_map(|line| line.strip_prefix("cpu")) {
        if line.starts_with(' ') {
            sum = Some(line);
        } else {
            cores += 1;
        }
    }
    // Guests are counted among users already.
    let ticks: Vec<u64> = sum?.split_ascii_whitespace().take(MODES.len()).map_while(|word| word.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(IDLE).take(2).sum();
    Some(Used { busy: all - idle, ticks: all, cores })
}

/// `stat`: `/proc/stat`.
pub(super) fn stat(stat: &str, text: &mut Text) {
    let value = |key: &str| {
        stat.lines().find_map(|line| number(&mut line.strip_prefix(key)?.strip_prefix(' ')?.split_ascii_whitespace()))
    };
    let counters = [
        ("intr", "node_intr_total", "Total number of interrupts serviced."),
        ("ctxt", "node_context_switches_total", "Total number of context switches."),
        ("processes", "node_forks_total", "Total number of forks."),
    ];
    for (key, name, help) in counters {
        if let Some(value) = value(key) {
            text.counter(name, help).value(value);
        }
    }
    let gauges = [
        ("btime", "node_boot_time_seconds", "Node boot time, in unixtime."),
        ("procs_running", "node_procs_running", "Number of processes in runnable state."),
        ("procs_blocked", "node_procs_blocked", "Number of processes blocked waiting for I/O to complete."),
    ];
    for (key, name, help) in gauges {
        if let Some(value) = value(key) {
            text.gauge(name, help).value(value);
        }
    }
}

pub(super) fn schedstat(root: &Root, text: &mut Text) -> io::Result<()> {
    let schedstat = root.read("proc/schedstat")?;
    let rows: Vec<(&str, Vec<u64>)> = schedstat
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("cpu")?.split_ascii_whitespace();
            let cpu = words.next()?;
            // The last three of nine: ns on a processor, ns waiting for one, and how often.
            Some((cpu, words.skip(6).filter_map(|word| word.parse().ok()).collect()))
        })
        .collect();
    let mut family =
        text.counter("node_schedstat_running_seconds_total", "Number of seconds CPU spent running a process.");
    for (cpu, numbers) in rows.iter().filter(|(_, numbers)| numbers.len() == 3) {
        family.sample(&[("cpu", cpu)], numbers[0] as f64 / 1e9);
    }
    let help = "Number of seconds spent by processing waiting for this CPU.";
    let mut family = text.counter("node_schedstat_waiting_seconds_total", help);
    for (cpu, numbers) in rows.iter().filter(|(_, numbers)| numbers.len() == 3) {
        family.sample(&[("cpu", cpu)], numbers[1] as f64 / 1e9);
    }
    let mut family = text.counter("node_schedstat_timeslices_total", "Number of timeslices executed by CPU.");
    for (cpu, numbers) in rows.iter().filter(|(_, numbers)| numbers.len() == 3) {
        family.sample(&[("cpu", cpu)], numbers[2]);
    }
    Ok(())
}

pub(super) fn softnet(root: &Root, text: &mut Text) -> io::Result<()> {
    let softnet = root.read("proc/net/softnet_stat")?;
    // One line per processor that is on, in hexadecimal.
    let rows: Vec<Vec<u64>> = softnet
        .lines()
        .map(|line| line.split_ascii_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok()).collect())
        .collect();
    let families = [
        ("node_softnet_processed_total", "Number of processed packets"),
        ("node_softnet_dropped_total", "Number of dropped packets"),
        ("node_softnet_times_squeezed_total", "Number of times processing packets ran out of quota"),
    ];
    for (column, (name, help)) in families.into_iter().enumerate() {
        let mut family = text.counter(name, help);
        for (cpu, row) in rows.iter().enumerate() {
            if let Some(value) = row.get(column) {
                family.sample(&[("cpu", &cpu.to_string())], value);
            }
        }
    }
    Ok(())
}
