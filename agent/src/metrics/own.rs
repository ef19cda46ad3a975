//! The agent itself and its apps, as `drover_…`, and its process under the names that Prometheus' own libraries use. From what
//! `report` publishes, so that metrics and `drover status` say the same.

use drover_proto::{
    name::{AppName, ReleaseId},
    status::{AppStatus, HostStatus, Phase},
};

use super::{
    Standings,
    node::{Root, TICKS_PER_SECOND},
    text::Text,
};
use crate::check::standing::Standing;

pub(super) fn apps(status: &HostStatus, text: &mut Text) {
    // What is not there any more is not told any more.
    let there = |status: &AppStatus| !matches!(status.phase, Phase::Removed);
    let apps: Vec<_> = status.apps.iter().filter(|(_, status)| there(status)).collect();
    let mut states = text.gauge("drover_app_state", "Whether the app is in this state.");
    for (app, status) in &apps {
        let now = status.phase.word();
        for state in Phase::WORDS {
            states.sample(&[("app", app.as_str()), ("state", state)], u8::from(state == now));
        }
    }
    let help = "The release of an app that was committed last, and the one that is wanted; always 1.";
    let mut releases = text.gauge("drover_release_info", help);
    let release = |release: &Option<ReleaseId>| release.as_ref().map(ToString::to_string).unwrap_or_default();
    for (app, status) in &apps {
        let (running, desired) = (release(&status.running), release(&status.desired));
        releases.sample(&[("app", app.as_str()), ("desired", &desired), ("release", &running)], 1);
    }
    since(&apps, text);
    let mut parts = text.gauge("drover_part_in_sync", "Whether a part of the committed release is as it is wanted.");
    for (app, status) in &apps {
        for part in &status.parts {
            let labels = [("app", app.as_str()), ("kind", &part.kind), ("name", &part.name)];
            parts.sample(&labels, u8::from(part.in_sync));
        }
    }
}

fn since(apps: &[(&AppName, &AppStatus)], text: &mut Text) {
    let seconds = |unix_ms: i64| unix_ms as f64 / 1000.0;
    let committed = |status: &AppStatus| match status.phase {
        Phase::Healthy { since_unix_ms } => Some(since_unix_ms),
        _ => None,
    };
    let help = "When the release was committed that is healthy, in unixtime.";
    let mut family = text.gauge("drover_app_healthy_since_timestamp_seconds", help);
    for (app, at) in apps.iter().filter_map(|(app, status)| Some((app, committed(status)?))) {
        family.sample(&[("app", app.as_str())], seconds(at));
    }
    let help = "When the last activation failed, if none has succeeded since, in unixtime.";
    let mut family = text.gauge("drover_app_failed_timestamp_seconds", help);
    for (app, failure) in apps.iter().filter_map(|(app, status)| Some((app, status.failure.as_ref()?))) {
        let code = failure.code.to_string();
        family.sample(&[("app", app.as_str()), ("code", &code)], seconds(failure.at_unix_ms));
    }
}

pub(super) fn checks(standings: &Standings, text: &mut Text) {
    let mut family = |name: &str, help: &str, value: fn(&Standing) -> f64| {
        let mut family = text.gauge(name, help);
        for ((app, check), standing) in standings {
            family.sample(&[("app", app.as_str()), ("check", check.as_str())], value(standing));
        }
    };
    family(
        "drover_check_passing",
        "Whether the check passes; one bad answer is no news, two in a row are.",
        |standing| f64::from(u8::from(standing.ok)),
    );
    family("drover_check_failures", "Answers in a row that were not as wanted.", |standing| {
        f64::from(standing.failures)
    });
    family("drover_check_duration_seconds", "How long the last answer took.", |standing| standing.took.as_secs_f64());
    let help = "When the check was asked last, in unixtime.";
    family("drover_check_last_timestamp_seconds", help, |standing| standing.at_unix_ms as f64 / 1000.0);
}

pub(super) fn agent(status: &HostStatus, is_connected: bool, text: &mut Text) {
    text.gauge("drover_build_info", "The agent's version; always 1.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.gauge("drover_coordinator_connected", "Whether the stream to the coordinator is up.")
        .value(u8::from(is_connected));
    text.gauge("drover_spec_generation", "The generation of the host spec that was accepted last.")
        .value(status.generation);
}

/// As everything that Prometheus scrapes tells of its own process.
pub(super) fn process(root: &Root, text: &mut Text) {
    let Ok(stat) = root.read("proc/self/stat") else { return };
    // Its name may have blanks and brackets in it; the last bracket ends it.
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    let words: Vec<u64> = rest.split_ascii_whitespace().map(|word| word.parse().unwrap_or_default()).collect();
    let word = |field: usize| words.get(field - 3).copied().unwrap_or_default();
    // Fields of proc(5), counted from 1: the state is the third.
    let (user, system, started, virtual_bytes, resident_pages) = (word(14), word(15), word(22), word(23), word(24));
    let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
    text.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")
        .value(seconds(user + system));
    if let Ok(names) = root.names("proc/self/fd") {
        text.gauge("process_open_fds", "Number of open file descriptors.").value(names.len());
    }
    let page = rustix::param::page_size() as u64;
    text.gauge("process_resident_memory_bytes", "Resident memory size in bytes.").value(resident_pages * page);
    let boot = root.read("proc/stat").ok();
    let boot = boot.as_deref().and_then(|stat| stat.lines().find_map(|line| line.strip_prefix("btime ")));
    if let Some(boot) = boot.and_then(|boot| boot.trim().parse::<f64>().ok()) {
        text.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
            .value(boot + seconds(started));
    }
    text.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.").value(virtual_bytes);
}
