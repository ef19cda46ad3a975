//! Pure: what a rule's condition comes to, with what is known now: one finding per subject, with the words for it. Beside `alert`;
//! `machine` takes it from there.

use std::{cmp::Ordering, collections::BTreeMap};

use drover_proto::{
    alert::{Level, Metric, Test},
    duration::Span,
    name::{AppName, MountPoint},
};

use super::{
    forecast::Forecast,
    machine::{Finding, Now, Verdict},
    rules::Active,
    scene::{Checked, Container, Disk, RECENT_MS, Scene},
};

/// Bytes of a subject: others may have chosen it.
const MAX_SUBJECT: usize = 200;
/// Bytes of what a check answered.
const MAX_ANSWER: usize = 300;
/// A forecast that has come true once must be wrong by so much to be taken back.
const SURELY: f64 = 1.25;

/// What a rule is held against.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The numbers of the host, from this rule's last look to this one; one that is missing is not known.
    pub numbers: &'a BTreeMap<Metric, f64>,
    /// All else.
    pub scene: &'a Scene,
    /// When.
    pub now: Now,
}

/// Whether a rule is about what the agent is told of, or reads in its own time, rather than about a number that is read for the rule.
#[must_use]
pub const fn is_told(test: &Test) -> bool {
    matches!(
        test,
        Test::CheckFailing(_)
            | Test::UnitFailed(_)
            | Test::ContainerRestarting(_)
            | Test::ContainerGone(_)
            | Test::CertificateExpires(_)
    )
}

/// One finding per subject; `None`: nobody can say anything.
#[must_use]
pub fn judge(active: &Active, view: &View<'_>) -> Option<Vec<Finding>> {
    let judging = Judging { active, view };
    match &active.rule.when.test {
        Test::Level(level) if level.metric.is_of_mounts() => {
            judging.disks(level.mount.as_ref(), |disk| judging.level_of(disk, level))
        }
        Test::Level(level) => {
            let value = *view.numbers.get(&level.metric)?;
            let said = format!("{} {}", words(level.metric), shown(level.metric, value));
            Some(vec![judging.of_host(judging.beyond(level, value), said)])
        }
        Test::DiskFull { mount, within } => judging.disks(mount.as_ref(), |disk| Some(filling(disk, *within))),
        Test::CheckFailing(name) => Some(judging.checks(name.as_deref())),
        Test::UnitFailed(name) => judging.units(name.as_deref()),
        Test::ContainerRestarting(name) => Some(judging.containers(name.as_deref(), Judging::restarting)),
        Test::ContainerGone(name) => Some(judging.containers(name.as_deref(), Judging::gone)),
        Test::OomKill => {
            let is_recent = |at: u64| view.now.boot_ms.saturating_sub(at) < RECENT_MS;
            let verdict = verdict(view.scene.oom_kill?.is_some_and(is_recent));
            let said = match verdict {
                Verdict::Holds => "the kernel has killed a process, because the memory ran out",
                _ => "no process was killed for want of memory in the last 10m",
            };
            Some(vec![judging.of_host(verdict, said.to_owned())])
        }
        Test::CertificateExpires(within) => Some(judging.certificates(*within)),
        Test::ClockSkew(_) | Test::HostUnreachable | Test::VersionSkew => None,
    }
}

struct Judging<'a> {
    active: &'a Active,
    view: &'a View<'a>,
}

impl Judging<'_> {
    /// Whether the rule is about what this app has: an app's rule of the same name takes the place of the host's for it.
    fn counts(&self, app: &AppName) -> bool {
        match &self.active.id.app {
            Some(of) => of == app,
            None => !self.view.scene.apps.get(app).is_some_and(|scope| scope.rules.contains_key(&self.active.id.alert)),
        }
    }

    fn of_host(&self, verdict: Verdict, said: String) -> Finding {
        Finding { app: self.active.id.app.clone(), subject: String::new(), service: None, verdict, said }
    }

    fn beyond(&self, level: &Level, value: f64) -> Verdict {
        match (level.is_beyond(value), level.is_cleared(value, self.active.rule.clear)) {
            (true, _) => Verdict::Holds,
            (false, true) => Verdict::Clear,
            (false, false) => Verdict::Between,
        }
    }

    fn disks(
        &self,
        mount: Option<&MountPoint>,
        judge: impl Fn(&Disk) -> Option<(Verdict, String)>,
    ) -> Option<Vec<Finding>> {
        let disks = self.view.scene.disks.as_deref()?;
        let is_meant =
            |disk: &&Disk| mount.map_or(disk.is_disk && !disk.is_further, |mount| mount.as_str() == disk.point);
        let finding = |disk: &Disk| {
            let (verdict, said) = judge(disk)?;
            let (app, subject) = (self.active.id.app.clone(), plain(&disk.point, MAX_SUBJECT));
            Some(Finding { app, subject, service: None, verdict, said })
        };
        Some(disks.iter().filter(is_meant).filter_map(finding).collect())
    }

    fn level_of(&self, disk: &Disk, level: &Level) -> Option<(Verdict, String)> {
        let point = plain(&disk.point, MAX_SUBJECT);
        let Some(room) = &disk.room else { return Some((Verdict::Unknown, String::new())) };
        let value = if level.metric == Metric::Inodes { room.inodes? } else { room.used? };
        let what = if level.metric == Metric::Inodes { "of its inodes in use" } else { "full" };
        let said = match level.metric {
            Metric::Inodes => format!("disk {point} has {} {what}", shown(level.metric, value)),
            _ => format!("disk {point} is {} {what}", shown(level.metric, value)),
        };
        Some((self.beyond(level, value), said))
    }

    fn checks(&self, name: Option<&str>) -> Vec<Finding> {
        let scene = self.view.scene;
        let mut findings = Vec::new();
        for (app, scope) in scene.apps.iter().filter(|(app, _)| self.counts(app)) {
            for check in scope.checks.iter().filter(|check| name.is_none_or(|name| name == check.as_str())) {
                let (verdict, said) = match scene.checks.get(&(app.clone(), check.clone())) {
                    Some(Checked { ok: true, .. }) => (Verdict::Clear, format!("check {check} of {app} passes")),
                    Some(Checked { ok: false, answer, took }) => {
                        let (answer, ms) = (plain(answer, MAX_ANSWER), took.as_millis());
                        (Verdict::Holds, format!("check {check} of {app} fails ({answer}; after {ms} ms)"))
                    }
                    None => (Verdict::Unknown, String::new()),
                };
                let subject = check.to_string();
                findings.push(Finding { app: Some(app.clone()), subject, service: None, verdict, said });
            }
        }
        findings
    }

    fn units(&self, name: Option<&str>) -> Option<Vec<Finding>> {
        let failed = self.view.scene.failed.as_ref()?;
        let is_meant = |unit: &str| {
            name.is_none_or(|name| unit == name || (!name.contains('.') && unit.strip_suffix(".service") == Some(name)))
        };
        let mut findings = Vec::new();
        for unit in failed.iter().filter(|unit| is_meant(unit)) {
            let owner = self.view.scene.owner_of(unit);
            let counts = match owner {
                Some(app) => self.counts(app),
                None => self.active.id.app.is_none(),
            };
            if counts {
                let subject = plain(unit, MAX_SUBJECT);
                let said = format!("unit {subject} has failed");
                findings.push(Finding { app: owner.cloned(), subject, service: None, verdict: Verdict::Holds, said });
            }
        }
        Some(findings)
    }

    fn containers(
        &self,
        name: Option<&str>,
        judge: impl Fn(&Self, &Container, &str) -> (Verdict, String),
    ) -> Vec<Finding> {
        let scene = self.view.scene;
        let mut findings = Vec::new();
        for (app, scope) in scene.apps.iter().filter(|(app, _)| self.counts(app)) {
            // Of an app that could not be asked for yet there are those that alerts are about already.
            for (container, seen) in scene.containers.get(app).into_iter().flatten() {
                if name.is_some_and(|name| name != container) {
                    continue;
                }
                // While the app is in flight it is being replaced.
                let (verdict, said) =
                    if scope.in_flight { (Verdict::Unknown, String::new()) } else { judge(self, seen, container) };
                let (subject, service) = (container.clone(), seen.service.clone());
                findings.push(Finding { app: Some(app.clone()), subject, service, verdict, said });
            }
        }
        findings
    }

    fn restarting(&self, seen: &Container, name: &str) -> (Verdict, String) {
        match seen.restarts.lately(self.view.now.boot_ms) {
            (true, _) => (
                Verdict::Holds,
                format!("container {name} was started again and again within 10m; now it is {}", seen.words),
            ),
            (false, true) => (Verdict::Between, String::new()),
            (false, false) => (Verdict::Clear, format!("container {name} was not started again for 10m")),
        }
    }

    fn gone(&self, seen: &Container, name: &str) -> (Verdict, String) {
        match seen.is_running {
            Some(true) => (Verdict::Clear, format!("container {name} is {}", seen.words)),
            Some(false) => (Verdict::Holds, format!("container {name} does not run: {}", seen.words)),
            None => (Verdict::Unknown, String::new()),
        }
    }

    fn certificates(&self, within: Span) -> Vec<Finding> {
        let mut findings = Vec::new();
        for expiry in self.view.scene.certificates.values().flatten() {
            let counts = match &expiry.app {
                Some(app) => self.counts(app),
                None => self.active.id.app.is_none(),
            };
            if !counts {
                continue;
            }
            let subject = plain(&expiry.subject, MAX_SUBJECT);
            let (verdict, said) = match expiry.until_s {
                None => (Verdict::Unknown, String::new()),
                Some(until) => {
                    let left_ms = until.saturating_mul(1000).saturating_sub(self.view.now.unix_ms);
                    let within_ms = i64::try_from(within.as_ms()).unwrap_or(i64::MAX);
                    let ends = if left_ms < 0 { "has ended" } else { "ends" };
                    let said = format!("certificate {subject} {ends} {}", crate::host::certificate::day(until));
                    (verdict(left_ms < within_ms), said)
                }
            };
            findings.push(Finding { app: expiry.app.clone(), subject, service: None, verdict, said });
        }
        findings
    }
}

const fn verdict(holds: bool) -> Verdict {
    if holds { Verdict::Holds } else { Verdict::Clear }
}

fn filling(disk: &Disk, within: Span) -> (Verdict, String) {
    let point = plain(&disk.point, MAX_SUBJECT);
    let within_s = within.as_ms() as f64 / 1000.0;
    match disk.room.map(|room| room.forecast) {
        None | Some(Forecast::Unknown) => (Verdict::Unknown, String::new()),
        Some(Forecast::FullIn(seconds)) if seconds < within_s * SURELY => {
            let said =
                format!("disk {point} has no room left in {}, if it goes on as in the last hours", about(seconds));
            (if seconds < within_s { Verdict::Holds } else { Verdict::Between }, said)
        }
        Some(Forecast::FullIn(_) | Forecast::Never) => {
            (Verdict::Clear, format!("disk {point} does not fill within {within} any more"))
        }
    }
}

/// A length of time with its two largest units.
fn about(seconds: f64) -> Span {
    // It is less than what a rule can say.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float past the limit becomes the limit"
    )]
    let seconds = seconds as u64;
    let whole = [86_400, 3600, 60].into_iter().find(|unit| seconds >= *unit).map_or(1, |unit| (unit / 24).max(1));
    Span::from_secs(seconds - seconds % whole)
}

/// The number with its name, as a sentence begins.
const fn words(metric: Metric) -> &'static str {
    match metric {
        Metric::Cpu => "the CPUs are busy for",
        Metric::Iowait => "the CPUs wait for disks for",
        Metric::Steal => "the hypervisor takes of the CPUs",
        Metric::Memory => "memory is in use to",
        Metric::Swap => "swap is in use to",
        Metric::Disk | Metric::Inodes => "disk",
        Metric::Load => "the load of 1m per core is",
        Metric::Load5 => "the load of 5m per core is",
        Metric::Load15 => "the load of 15m per core is",
        Metric::PressureCpu => "programs wait for a CPU for",
        Metric::PressureMemory => "programs wait for memory for",
        Metric::PressureIo => "programs wait for disks for",
        Metric::Files => "file handles are in use to",
    }
}

fn shown(metric: Metric, value: f64) -> String {
    if !metric.is_percent() {
        return format!("{value:.2}");
    }
    // Never rounded to what it is not: 99.96% is not yet all of it.
    let tenths = if value.partial_cmp(&100.0) == Some(Ordering::Less) { (value * 10.0).floor() } else { value * 10.0 };
    format!("{:.1}%", tenths / 10.0)
}

/// One line, and no more than `most` bytes.
fn plain(text: &str, most: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(most).collect();
    shortened(&text, most)
}

/// No more than `most` bytes, of whole characters.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
