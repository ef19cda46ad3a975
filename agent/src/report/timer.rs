//! What a timer has done and will do, in words for the status. Beside `report`.

use std::collections::BTreeMap;

use drover_proto::name::UnitName;

use crate::{gate::verdict, host::systemd::UnitState, observe::Observed, render::Rendered};

/// systemd's word for "never".
const NEVER: u64 = u64::MAX;
const MINUTE_US: i64 = 60_000_000;

/// Now, on the two clocks of timers, in µs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Since 1970.
    pub(super) unix_us: i64,
    /// Since boot, without the time asleep.
    pub(super) boot_us: i64,
}

impl Now {
    pub(super) fn read() -> Self {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Self {
            unix_us: jiff::Timestamp::now().as_microsecond(),
            boot_us: boot.tv_sec * 1_000_000 + boot.tv_nsec / 1000,
        }
    }
}

/// Its last and its next run; `job` is the unit that it starts, if that is the app's.
pub(super) fn runs(timer: &UnitState, job: Option<(&UnitName, &UnitState)>, now: Now) -> String {
    let last = match time(timer.last_trigger_us) {
        Some(at) => format!(", last run {}{}", shown(at), job.map_or_else(String::new, |(n, s)| result(n, s))),
        None => ", has not run yet".to_owned(),
    };
    format!("{last}{}", next(timer, now))
}

fn next(timer: &UnitState, now: Now) -> String {
    let by_calendar = time(timer.next_elapse_us);
    // To the minute: two clocks are compared, and the status must not change with every look.
    let since_boot = time(timer.next_elapse_boot_us);
    let by_boot = since_boot.map(|at| now.unix_us + at - now.boot_us).map(|at| at - at.rem_euclid(MINUTE_US));
    match (by_calendar, by_boot) {
        (Some(calendar), Some(boot)) if calendar <= boot => format!(", next run {}", shown(calendar)),
        (_, Some(boot)) => format!(", next run about {}", shown(boot)),
        (Some(calendar), None) => format!(", next run {}", shown(calendar)),
        (None, None) => String::new(),
    }
}

fn result(name: &UnitName, job: &UnitState) -> String {
    match job.active_state.as_str() {
        "active" | "activating" | "reloading" | "deactivating" => ": running".to_owned(),
        _ if job.exec_main_code == 0 && matches!(job.result.as_str(), "" | "success") => String::new(),
        "inactive" if job.result == "success" => ": succeeded".to_owned(),
        _ => format!(": failed ({})", verdict::ended(name, job)),
    }
}

/// The jobs of a release's timers whose last run failed, and how; one that runs just now is what it `was`.
pub(crate) fn failing(
    rendered: &Rendered,
    observed: &Observed,
    was: impl Fn(&UnitName) -> Option<String>,
) -> BTreeMap<UnitName, String> {
    let timers = rendered.units.keys().filter(|name| name.kind() == "timer");
    let jobs = timers.filter_map(|timer| observed.units.get(timer)?.triggers.parse::<UnitName>().ok());
    // What also runs by itself is looked after as every unit.
    let jobs = jobs.filter(|job| rendered.units.get(job).is_some_and(|unit| !unit.start));
    let how = |job: &UnitName| {
        let state = observed.units.get(job)?;
        match state.active_state.as_str() {
            "failed" => Some(last_run(state)),
            "inactive" => None,
            _ => was(job),
        }
    };
    jobs.filter_map(|job| how(&job).map(|how| (job, how))).collect()
}

/// Without times: the same failure again is no news.
fn last_run(job: &UnitState) -> String {
    let ended = verdict::ended_line(job);
    match job.result.as_str() {
        "exit-code" | "signal" | "core-dump" => format!("its last run failed: {ended}"),
        result if job.exec_main_code == 0 => format!("its last run failed ({result})"),
        result => format!("its last run failed ({result}): {ended}"),
    }
}

fn time(us: u64) -> Option<i64> {
    i64::try_from(us).ok().filter(|at| *at > 0 && us != NEVER)
}

fn shown(unix_us: i64) -> String {
    let at = jiff::Timestamp::from_microsecond(unix_us);
    at.map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    //! Timers in every condition.
    use super::*;

    const AT: u64 = 1_800_000_000_000_000;

    #[test]
    fn a_job_fails_until_it_has_run_well() {
        use crate::render::tests::{desired, rendered, unit};
        let mut desired = desired();
        let mut job = unit("[Service]\nType=oneshot\nExecStart=/bin/report\n");
        (job.start, job.enable) = (false, false);
        let timer = unit("[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n");
        let (name, its_timer): (UnitName, UnitName) =
            ("report.service".parse().unwrap(), "report.timer".parse().unwrap());
        desired.spec.units.extend([(name.clone(), job), (its_timer.clone(), timer)]);
        let rendered = rendered(&desired);
        let seen = |active: &str, result: &str, code, was: Option<&str>| {
            let job = UnitState {
                active_state: active.into(),
                result: result.into(),
                exec_main_code: code,
                exec_main_status: 3,
                ..UnitState::default()
            };
            let timer = UnitState { triggers: name.to_string(), ..UnitState::default() };
            let units = [(name.clone(), job), (its_timer.clone(), timer)].into();
            let observed = Observed { units, ..Observed::default() };
            failing(&rendered, &observed, |_| was.map(ToOwned::to_owned)).remove(&name)
        };
        let rows = [
            ("inactive", "success", 1, None, None),
            ("failed", "exit-code", 1, None, Some("its last run failed: main process exited with code 3")),
            ("failed", "timeout", 2, None, Some("its last run failed (timeout): main process ended by signal 3")),
            ("failed", "resources", 0, None, Some("its last run failed (resources)")),
            ("activating", "success", 0, Some("so"), Some("so")),
            ("activating", "success", 0, None, None),
            ("inactive", "success", 1, Some("so"), None),
        ];
        for (active, result, code, was, want) in rows {
            assert_eq!(seen(active, result, code, was).as_deref(), want, "{active} {result}");
        }
    }

    #[test]
    fn a_timer_says_when_it_ran_how_that_ended_and_when_it_runs_next() {
        let now = Now { unix_us: 1_800_000_000_000_000, boot_us: 500_000_000 };
        let name: UnitName = "report.service".parse().unwrap();
        let timer = |last, calendar, boot| UnitState {
            last_trigger_us: last,
            next_elapse_us: calendar,
            next_elapse_boot_us: boot,
            ..UnitState::default()
        };
        let job = |active: &str, result: &str, code, status| UnitState {
            active_state: active.into(),
            result: result.into(),
            exec_main_code: code,
            exec_main_status: status,
            ..UnitState::default()
        };
        let good = job("inactive", "success", 1, 0);
        let bad = job("failed", "exit-code", 1, 3);
        let rows = [
            (timer(0, 0, NEVER), None, ", has not run yet"),
            (timer(0, AT + 1_000_000, 0), None, ", has not run yet, next run 2027-01-15 08:00:01 UTC"),
            (timer(AT, 0, 0), Some(&good), ", last run 2027-01-15 08:00:00 UTC: succeeded"),
            (
                timer(AT, 0, 0),
                Some(&bad),
                ", last run 2027-01-15 08:00:00 UTC: failed (report.service exited with code 3)",
            ),
            (
                timer(AT, AT + 7_200_000_000, 590_000_000),
                None,
                ", last run 2027-01-15 08:00:00 UTC, next run about 2027-01-15 08:01:00 UTC",
            ),
        ];
        for (timer, job, want) in rows {
            assert_eq!(runs(&timer, job.map(|job| (&name, job)), now), want);
        }
        let running = job("activating", "success", 0, 0);
        assert_eq!(result(&name, &running), ": running");
        assert_eq!(result(&name, &job("inactive", "success", 0, 0)), "", "the host has booted since");
    }
}
