//! The clock: its time, its zone, where it comes from, and how well it is kept. Collectors of `node`.

use std::io;

use super::Root;
use crate::metrics::text::Text;

pub(super) fn time(root: &Root, text: &mut Text) -> io::Result<()> {
    let now = jiff::Zoned::now();
    let seconds = now.timestamp().as_nanosecond() as f64 / 1e9;
    text.gauge("node_time_seconds", "System time in seconds since epoch (1970).").value(seconds);
    let zone = now.strftime("%Z").to_string();
    text.gauge("node_time_zone_offset_seconds", "System time zone offset in seconds.")
        .sample(&[("time_zone", &zone)], now.offset().seconds());
    let sources = |file: &str| {
        let read = root.read(format!("sys/devices/system/clocksource/clocksource0/{file}")).unwrap_or_default();
        read.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let families = [
        (
            "node_time_clocksource_available_info",
            "Available clocksources read from '/sys/devices/system/clocksource'.",
            sources("available_clocksource"),
        ),
        (
            "node_time_clocksource_current_info",
            "Current clocksource read from '/sys/devices/system/clocksource'.",
            sources("current_clocksource"),
        ),
    ];
    for (name, help, sources) in families {
        let mut family = text.gauge(name, help);
        for source in sources {
            family.sample(&[("clocksource", &source), ("device", "0")], 1);
        }
    }
    Ok(())
}

/// The clock is not kept by anybody.
const UNSYNCHRONIZED: i32 = libc::TIME_ERROR;
/// Parts per million, with 16 bits behind the point.
const PPM_16: f64 = 1_000_000.0 * 65_536.0;

pub(super) fn timex(_: &Root, text: &mut Text) -> io::Result<()> {
    let (state, timex) = adjtimex()?;
    // The kernel counts in ns if it is told to, otherwise in µs.
    let fine = if timex.status & libc::STA_NANO == 0 { 1e6 } else { 1e9 };
    let micro = 1e6;
    let gauges: [(&str, &str, f64); 13] = [
        ("node_timex_estimated_error_seconds", "Estimated error in seconds.", timex.esterror as f64 / micro),
        (
            "node_timex_frequency_adjustment_ratio",
            "Local clock frequency adjustment.",
            1.0 + timex.freq as f64 / PPM_16,
        ),
        ("node_timex_loop_time_constant", "Phase-locked loop time constant.", timex.constant as f64),
        ("node_timex_maxerror_seconds", "Maximum error in seconds.", timex.maxerror as f64 / micro),
        (
            "node_timex_offset_seconds",
            "Time offset in between local system and reference clock.",
            timex.offset as f64 / fine,
        ),
        ("node_timex_pps_frequency_hertz", "Pulse per second frequency.", timex.ppsfreq as f64 / PPM_16),
        ("node_timex_pps_jitter_seconds", "Pulse per second jitter.", timex.jitter as f64 / fine),
        ("node_timex_pps_shift_seconds", "Pulse per second interval duration.", f64::from(timex.shift)),
        (
            "node_timex_pps_stability_hertz",
            "Pulse per second stability, average of recent frequency changes.",
            timex.stabil as f64 / PPM_16,
        ),
        ("node_timex_status", "Value of the status array bits.", f64::from(timex.status)),
        (
            "node_timex_sync_status",
            "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
            f64::from(u8::from(state != UNSYNCHRONIZED)),
        ),
        ("node_timex_tai_offset_seconds", "International Atomic Time (TAI) offset.", f64::from(timex.tai)),
        ("node_timex_tick_seconds", "Seconds between clock ticks.", timex.tick as f64 / micro),
    ];
    for (name, help, value) in gauges {
        text.gauge(name, help).value(value);
    }
    let counters = [
        ("node_timex_pps_calibration_total", "Pulse per second count of calibration intervals.", timex.calcnt),
        ("node_timex_pps_error_total", "Pulse per second count of calibration errors.", timex.errcnt),
        ("node_timex_pps_jitter_total", "Pulse per second count of jitter limit exceeded events.", timex.jitcnt),
        (
            "node_timex_pps_stability_exceeded_total",
            "Pulse per second count of stability limit exceeded events.",
            timex.stbcnt,
        ),
    ];
    for (name, help, value) in counters {
        text.counter(name, help).value(value);
    }
    Ok(())
}

/// What the kernel says of its clock; changes nothing.
#[expect(unsafe_code, reason = "no crate that is kept wraps this call")]
fn adjtimex() -> io::Result<(i32, libc::timex)> {
    // SAFETY: plain integers, for which zero is a value; zero `modes` only asks.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes into the structure, which is its own.
    match unsafe { libc::adjtimex(&raw mut timex) } {
        -1 => Err(io::Error::last_os_error()),
        state => Ok((state, timex)),
    }
}
