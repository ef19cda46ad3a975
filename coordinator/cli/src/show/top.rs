//! What hosts are doing: the table of `drover top`, and the lines of the last day in `drover hosts show`.

use comfy_table::{Cell, Color};
use drover_proto::view::{FiguresView, HistoryPoint, HistoryView, TopRow, TopView};
use owo_colors::OwoColorize as _;

use super::{
    table::{finish, state_cell, table as empty_table},
    time::relative,
};

/// Of 100: from here on it is worth a look, and from here on it is wrong.
const HIGH: (f64, f64) = (80.0, 90.0);
/// Columns of a line of the last day.
const COLUMNS: usize = 48;
const DAY_MS: i64 = 86_400_000;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `drover top`.
#[must_use]
pub fn table(view: &TopView, now_unix_ms: i64) -> String {
    let mut rows = empty_table(&[
        "HOST",
        "STATE",
        "CPU",
        "MEMORY",
        "SWAP",
        "DISK",
        "LOAD",
        "NET IN",
        "NET OUT",
        "READ",
        "WRITE",
        "ALERTS",
        "UNHEALTHY",
        "UP",
    ]);
    for row in &view.hosts {
        let mut cells = vec![Cell::new(&row.host), state_cell(if row.connected { "connected" } else { "offline" })];
        match row.figures.filter(|_| row.connected) {
            Some(figures) => cells.extend(numbers(row, &figures)),
            None => cells.extend((0..9).map(|_| Cell::new("-"))),
        }
        cells.push(counted(row.firing));
        cells.push(counted(row.unhealthy));
        cells.push(Cell::new(match row.at_unix_ms {
            Some(_) if row.connected => span(row.uptime_s),
            Some(at) => format!("seen {}", relative(at, now_unix_ms)),
            None => "-".to_owned(),
        }));
        rows.add_row(cells);
    }
    finish(&rows, "no hosts; `drover token create` lets the first one in")
}

fn numbers(row: &TopRow, figures: &FiguresView) -> [Cell; 9] {
    let share = |value: f64| coloured(Cell::new(percent(value)), value);
    let load = Cell::new(format!("{:.2}", figures.load1));
    let per_core = figures.load1 / f64::from(row.cores.max(1)) * 100.0;
    [
        share(figures.cpu),
        share(figures.memory),
        share(figures.swap),
        share(figures.disk),
        // As many as there are cores is not much yet.
        coloured(load, per_core / 2.0),
        Cell::new(rate(figures.received)),
        Cell::new(rate(figures.sent)),
        Cell::new(rate(figures.disk_read)),
        Cell::new(rate(figures.disk_written)),
    ]
}

fn coloured(cell: Cell, value: f64) -> Cell {
    match value {
        value if value >= HIGH.1 => cell.fg(Color::Red),
        value if value >= HIGH.0 => cell.fg(Color::Yellow),
        _ => cell,
    }
}

fn counted(count: usize) -> Cell {
    let cell = Cell::new(count);
    if count > 0 { cell.fg(Color::Red) } else { cell }
}

/// The last day of a host, a line per number.
#[must_use]
pub fn history(view: &HistoryView, now_unix_ms: i64) -> String {
    if view.points.is_empty() {
        return String::new();
    }
    let head = format!("{:<8} {:<COLUMNS$} {:>9} {:>9} {:>9}", "24 HOURS", "", "NOW", "MEAN", "MAX");
    let mut out = format!("{}\n", head.bold());
    let mut line = |name: &str, of: fn(&FiguresView) -> f64, full: Option<f64>, words: fn(f64) -> String| {
        let max = view.points.iter().map(|point| of(&point.max)).fold(0.0, f64::max);
        let mean = view.points.iter().map(|point| of(&point.mean)).sum::<f64>() / view.points.len() as f64;
        let now = view.points.last().map_or(0.0, |point| of(&point.mean));
        let paint = |value: f64| {
            let text = format!("{:>9}", words(value));
            match full.map(|full| value / full * 100.0) {
                Some(share) if share >= HIGH.1 => text.red().to_string(),
                Some(share) if share >= HIGH.0 => text.yellow().to_string(),
                _ => text,
            }
        };
        let bars = bars(&view.points, now_unix_ms, of, full.unwrap_or(max));
        out.push_str(&format!("{name:<8} {bars} {} {} {}\n", paint(now), paint(mean), paint(max)));
    };
    line("cpu", |f| f.cpu, Some(100.0), percent);
    line("memory", |f| f.memory, Some(100.0), percent);
    line("disk", |f| f.disk, Some(100.0), percent);
    line("load", |f| f.load1, None, |value| format!("{value:.2}"));
    line("net in", |f| f.received, None, rate);
    line("net out", |f| f.sent, None, rate);
    out
}

/// A bar per half hour, of its mean; a blank where nothing is known.
fn bars(points: &[HistoryPoint], now_unix_ms: i64, of: fn(&FiguresView) -> f64, full: f64) -> String {
    let column_ms = DAY_MS / COLUMNS as i64;
    let begin = now_unix_ms - DAY_MS;
    let mut columns = [(0.0, 0_u32); COLUMNS];
    for point in points {
        let index = usize::try_from((point.unix_ms - begin).div_euclid(column_ms)).unwrap_or_default();
        if let Some((sum, count)) = columns.get_mut(index.min(COLUMNS - 1)) {
            *sum += of(&point.mean);
            *count += 1;
        }
    }
    let bar = |(sum, count): (f64, u32)| {
        if count == 0 {
            return ' ';
        }
        let share = if full > 0.0 { sum / f64::from(count) / full } else { 0.0 };
        let height = (share * BARS.len() as f64).clamp(0.0, (BARS.len() - 1) as f64) as usize;
        BARS.get(height).copied().unwrap_or(' ')
    };
    columns.into_iter().map(bar).collect()
}

fn percent(value: f64) -> String {
    format!("{value:.0} %")
}

/// Bytes per second.
fn rate(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B/s", "K/s", "M/s", "G/s", "T/s"];
    let mut value = bytes;
    for unit in UNITS {
        if value < 1000.0 {
            return if value < 10.0 && unit != "B/s" {
                format!("{value:.1} {unit}")
            } else {
                format!("{value:.0} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.0} P/s")
}

/// `3d 4h`, `5h 7m`, `12m`.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m"),
        (0, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! Rows, lines, and the words for numbers.
    use super::*;
    use crate::show::tests::bare;

    /// A connected host.
    pub(crate) fn row(name: &str, cpu: f64, load1: f64) -> TopRow {
        let figures = FiguresView { cpu, memory: 42.0, disk: 93.4, load1, received: 2_500.0, ..FiguresView::default() };
        TopRow {
            host: name.parse().unwrap(),
            id: "h-0123456789abcdef".parse().unwrap(),
            connected: true,
            cores: 2,
            memory_bytes: 1 << 30,
            uptime_s: 93_600,
            figures: Some(figures),
            at_unix_ms: Some(40_000),
            firing: 1,
            unhealthy: 0,
        }
    }

    #[test]
    fn hosts_have_a_row_each() {
        let mut offline = row("web-2", 5.0, 1.0);
        offline.connected = false;
        let text = bare(&table(&TopView { hosts: vec![row("web-1", 12.4, 0.5), offline] }, 100_000));
        let lines: Vec<Vec<&str>> =
            text.lines().map(|l| l.split("  ").map(str::trim).filter(|w| !w.is_empty()).collect()).collect();
        assert_eq!(
            lines[1],
            [
                "web-1",
                "connected",
                "12 %",
                "42 %",
                "0 %",
                "93 %",
                "0.50",
                "2.4 K/s",
                "0 B/s",
                "0 B/s",
                "0 B/s",
                "1",
                "0",
                "1d 2h"
            ]
        );
        assert_eq!(lines[2][..4], ["web-2", "offline", "-", "-"]);
        assert_eq!(lines[2].last(), Some(&"seen 60s ago"));
        let coloured = table(&TopView { hosts: vec![row("web-1", 85.0, 0.5)] }, 100_000);
        assert!(coloured.contains("\u{1b}[") && coloured.contains("85 %"), "{coloured}");
    }

    #[test]
    fn a_day_is_a_line_with_gaps() {
        let now = 2 * DAY_MS;
        let point = |ago_ms: i64, cpu: f64| {
            let figures = FiguresView { cpu, load1: cpu / 10.0, ..FiguresView::default() };
            HistoryPoint { unix_ms: now - ago_ms, mean: figures, max: FiguresView { cpu: cpu + 5.0, ..figures } }
        };
        let view = HistoryView {
            host: "web-1".parse().unwrap(),
            step_ms: 300_000,
            points: vec![point(DAY_MS, 0.0), point(DAY_MS / 2, 50.0), point(300_000, 95.0)],
        };
        let text = bare(&history(&view, now));
        let cpu = text.lines().nth(1).unwrap();
        let bars: String = cpu.chars().skip(9).take(COLUMNS).collect();
        assert_eq!(bars, format!("▁{}▅{}█", " ".repeat(23), " ".repeat(22)));
        assert!(cpu.ends_with("95 %      48 %     100 %"), "{cpu}");
        assert_eq!(text.lines().count(), 7);
        assert_eq!(history(&HistoryView { points: vec![], ..view }, now), "");
    }

    #[test]
    fn numbers_are_short() {
        for (bytes, text) in
            [(0.0, "0 B/s"), (999.0, "999 B/s"), (1500.0, "1.5 K/s"), (52_428_800.0, "50 M/s"), (1e18, "888 P/s")]
        {
            assert_eq!(rate(bytes), text);
        }
        for (seconds, text) in [(59, "0m"), (720, "12m"), (18_420, "5h 7m"), (273_600, "3d 4h")] {
            assert_eq!(span(seconds), text);
        }
    }
}
