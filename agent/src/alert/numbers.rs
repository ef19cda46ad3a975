//! The numbers of the host that rules are about: what the kernel says, read once per look, and what follows from two looks. Beside
//! `alert`; the file systems are asked in `disks`.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::alert::Metric;

use crate::metrics::node::Root;

/// A file of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// `/proc/stat`.
    Stat,
    /// `/proc/meminfo`.
    Meminfo,
    /// `/proc/loadavg`, and `/proc/stat` for the number of processors.
    Loadavg,
    /// `/proc/pressure/cpu`.
    PressureCpu,
    /// `/proc/pressure/memory`.
    PressureMemory,
    /// `/proc/pressure/io`.
    PressureIo,
    /// `/proc/sys/fs/file-nr`.
    Files,
    /// `/proc/vmstat`.
    Vmstat,
}

impl Source {
    /// Where a number is; `None`: it is asked of the file systems.
    #[must_use]
    pub const fn of(metric: Metric) -> Option<Self> {
        Some(match metric {
            Metric::Cpu | Metric::Iowait | Metric::Steal => Self::Stat,
            Metric::Memory | Metric::Swap => Self::Meminfo,
            Metric::Load | Metric::Load5 | Metric::Load15 => Self::Loadavg,
            Metric::PressureCpu => Self::PressureCpu,
            Metric::PressureMemory => Self::PressureMemory,
            Metric::PressureIo => Self::PressureIo,
            Metric::Files => Self::Files,
            Metric::Disk | Metric::Inodes => return None,
        })
    }
}

/// What the kernel said. What could not be read is absent.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Raw {
    /// When, ms since the boot.
    pub at_boot_ms: u64,
    /// The first eight columns of `cpu`, in ticks.
    ticks: Option<[u64; 8]>,
    processors: u32,
    /// Total, available, total swap and free swap; kB.
    memory: Option<[u64; 4]>,
    load: Option<[f64; 3]>,
    /// `some`, µs.
    pressure: [Option<u64>; 3],
    /// In use, and at most.
    files: Option<[u64; 2]>,
    /// Processes that were killed for want of memory, since the boot.
    pub oom_kills: Option<u64>,
}

/// Columns of `cpu` in `/proc/stat`.
const IDLE: usize = 3;
const IOWAIT: usize = 4;
const STEAL: usize = 7;

impl Raw {
    /// Reads what is asked for; `boot_ms`: now.
    #[must_use]
    pub fn read(root: &Root, sources: &BTreeSet<Source>, boot_ms: u64) -> Self {
        let mut raw = Self { at_boot_ms: boot_ms, ..Self::default() };
        let wants = |source| sources.contains(&source);
        let text = |path: &str| root.read(path).ok();
        if (wants(Source::Stat) || wants(Source::Loadavg))
            && let Some(text) = text("proc/stat")
        {
            (raw.ticks, raw.processors) = (ticks(&text), processors(&text));
        }
        if wants(Source::Meminfo) {
            raw.memory = text("proc/meminfo").and_then(|text| memory(&text));
        }
        if wants(Source::Loadavg) {
            raw.load = text("proc/loadavg").and_then(|text| numbers(&mut text.split_ascii_whitespace()));
        }
        let pressures = [
            (Source::PressureCpu, "proc/pressure/cpu"),
            (Source::PressureMemory, "proc/pressure/memory"),
            (Source::PressureIo, "proc/pressure/io"),
        ];
        for (held, (source, path)) in raw.pressure.iter_mut().zip(pressures) {
            *held = if wants(source) { text(path).and_then(|text| waited(&text)) } else { None };
        }
        if wants(Source::Files) {
            raw.files = text("proc/sys/fs/file-nr").and_then(|text| {
                let [in_use, _, most] = numbers(&mut text.split_ascii_whitespace())?;
                Some([in_use, most])
            });
        }
        if wants(Source::Vmstat) {
            let line = |text: String| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
            raw.oom_kills = text("proc/vmstat").and_then(line);
        }
        raw
    }

    /// The numbers. What counts up says nothing without the look before.
    #[must_use]
    pub fn values(&self, before: Option<&Self>) -> BTreeMap<Metric, f64> {
        let of = |part: u64, whole: u64| (whole > 0).then(|| 100.0 * part as f64 / whole as f64);
        let mut values: Vec<(Metric, Option<f64>)> = Vec::new();
        if let (Some(now), Some(before)) = (self.ticks, before.and_then(|before| before.ticks)) {
            // Idle and iowait may go back a little.
            let passed: Vec<u64> = now.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect();
            let (all, column) = (passed.iter().sum(), |at: usize| passed.get(at).copied().unwrap_or_default());
            values.push((Metric::Cpu, of(all - column(IDLE) - column(IOWAIT), all)));
            values.push((Metric::Iowait, of(column(IOWAIT), all)));
            values.push((Metric::Steal, of(column(STEAL), all)));
        }
        if let Some([total, available, swap, swap_free]) = self.memory {
            values.push((Metric::Memory, of(total.saturating_sub(available), total)));
            // A host without swap has none in use.
            values.push((Metric::Swap, Some(of(swap.saturating_sub(swap_free), swap).unwrap_or(0.0))));
        }
        if let (Some(load), true) = (self.load, self.processors > 0) {
            let names = [Metric::Load, Metric::Load5, Metric::Load15];
            values.extend(
                names.into_iter().zip(load).map(|(name, load)| (name, Some(load / f64::from(self.processors)))),
            );
        }
        if let Some(before) = before {
            let passed_us = self.at_boot_ms.saturating_sub(before.at_boot_ms).saturating_mul(1000);
            let names = [Metric::PressureCpu, Metric::PressureMemory, Metric::PressureIo];
            for (name, (now, before)) in names.into_iter().zip(self.pressure.iter().zip(before.pressure)) {
                let waited = now.zip(before).map(|(now, before)| now.saturating_sub(before));
                values.push((name, waited.and_then(|waited| of(waited, passed_us)).map(|share| share.min(100.0))));
            }
        }
        if let Some([in_use, most]) = self.files {
            values.push((Metric::Files, of(in_use, most)));
        }
        values.into_iter().filter_map(|(metric, value)| Some((metric, value?))).collect()
    }
}

/// The next numbers of a line.
fn numbers<'t, T: std::str::FromStr, const N: usize>(words: &mut impl Iterator<Item = &'t str>) -> Option<[T; N]> {
    let numbers: Vec<T> = words.take(N).map_while(|word| word.parse().ok()).collect();
    numbers.try_into().ok()
}

fn ticks(stat: &str) -> Option<[u64; 8]> {
    numbers(&mut stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace())
}

fn processors(stat: &str) -> u32 {
    let count = stat.lines().skip(1).take_while(|line| line.starts_with("cpu")).count();
    u32::try_from(count).unwrap_or_default()
}

fn memory(meminfo: &str) -> Option<[u64; 4]> {
    let mut found = [None; 4];
    for line in meminfo.lines() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        let slot = match key {
            "MemTotal" => 0,
            "MemAvailable" => 1,
            "SwapTotal" => 2,
            "SwapFree" => 3,
            _ => continue,
        };
        if let Some(held) = found.get_mut(slot) {
            *held = rest.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        }
    }
    let [total, available, swap, swap_free] = found;
    Some([total?, available?, swap?, swap_free?])
}

fn waited(pressure: &str) -> Option<u64> {
    pressure.lines().find_map(|line| line.strip_prefix("some ")?.rsplit_once("total=")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    //! Files of the kernel, whole, odd and missing.
    use std::fs;

    use super::*;

    const ALL: [Source; 8] = [
        Source::Stat,
        Source::Meminfo,
        Source::Loadavg,
        Source::PressureCpu,
        Source::PressureMemory,
        Source::PressureIo,
        Source::Files,
        Source::Vmstat,
    ];

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::new(dir.path());
        (dir, root)
    }
    fn read(root: &Root, boot_ms: u64) -> Raw {
        Raw::read(root, &ALL.into_iter().collect(), boot_ms)
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        let files = |cpu: &str, io: u64| {
            vec![
                ("proc/stat".to_owned(), format!("cpu  {cpu} 0 0\ncpu0 1 1\ncpu1 1 1\nintr 5 0\n")),
                (
                    "proc/meminfo".to_owned(),
                    "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\nSwapTotal: 100 kB\nSwapFree: 40 kB\n"
                        .to_owned(),
                ),
                ("proc/loadavg".to_owned(), "3.00 2.00 1.00 1/100 5\n".to_owned()),
                (
                    "proc/pressure/io".to_owned(),
                    format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={io}\nfull avg10=0.00 total=9\n"),
                ),
                ("proc/sys/fs/file-nr".to_owned(), "50\t0\t200\n".to_owned()),
                ("proc/vmstat".to_owned(), "pgfault 1\noom_kill 7\noom_kill_x 9\n".to_owned()),
            ]
        };
        let look = |cpu: &str, io, boot_ms| {
            let files = files(cpu, io);
            let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            let (_dir, root) = host(&files);
            read(&root, boot_ms)
        };
        let first = look("100 0 100 700 50 0 0 50", 1_000_000, 10_000);
        let second = look("130 0 110 740 60 0 0 60", 2_000_000, 20_000);
        let values = second.values(Some(&first));
        let wanted = [
            (Metric::Cpu, 50.0),
            (Metric::Iowait, 10.0),
            (Metric::Steal, 10.0),
            (Metric::Memory, 75.0),
            (Metric::Swap, 60.0),
            (Metric::Load, 1.5),
            (Metric::Load5, 1.0),
            (Metric::Load15, 0.5),
            (Metric::PressureIo, 10.0),
            (Metric::Files, 25.0),
        ];
        assert_eq!(values, wanted.into_iter().collect());
        assert_eq!(second.oom_kills, Some(7));
        let alone = second.values(None);
        assert!(!alone.contains_key(&Metric::Cpu) && !alone.contains_key(&Metric::PressureIo) && alone.len() == 6);
        // Idle time that goes back, and two looks at one moment.
        let back = look("130 0 110 700 40 0 0 60", 1, 20_000).values(Some(&second));
        assert!(!back.contains_key(&Metric::Cpu) && !back.contains_key(&Metric::PressureIo), "{back:?}");
    }

    #[test]
    fn what_is_missing_or_odd_is_no_number() {
        let odd = [
            "",
            "x",
            "cpu \n",
            "cpu  1 2 3\n",
            "some\n",
            "some total=\n",
            "MemTotal:\nMemAvailable: x kB\n",
            "\0\u{7f}",
        ];
        for text in odd {
            let paths = ["stat", "meminfo", "loadavg", "pressure/cpu", "pressure/io", "sys/fs/file-nr", "vmstat"];
            let paths: Vec<String> = paths.iter().map(|path| format!("proc/{path}")).collect();
            let files: Vec<_> = paths.iter().map(|path| (path.as_str(), text)).collect();
            let (_dir, root) = host(&files);
            let raw = read(&root, 5);
            assert_eq!((raw.values(Some(&raw)), raw.oom_kills), (BTreeMap::new(), None), "{text:?}");
        }
        let (_dir, root) = host(&[]);
        assert!(read(&root, 5).values(None).is_empty());
        let (_dir, root) =
            host(&[("proc/meminfo", "MemTotal: 10 kB\nMemAvailable: 20 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")]);
        assert_eq!(read(&root, 5).values(None), [(Metric::Memory, 0.0), (Metric::Swap, 0.0)].into());
    }
}
