//! What is known of units, checks, containers and certificates when rules are looked at. Plain values; `alert` brings them together,
//! `judge` reads them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use drover_proto::{
    alert::AlertRule,
    name::{AlertName, AppName, CheckName, ContainerName, ProjectName, UnitName},
};

use super::forecast::Forecast;

/// One that is started again so often …
const RESTARTS: usize = 3;
/// … within this time is in trouble, and it is over when it has not been for as long. So is a process that was killed.
pub const RECENT_MS: u64 = 10 * 60_000;

/// What an app has on this host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scope {
    /// Rules of its own.
    pub rules: BTreeMap<AlertName, AlertRule>,
    /// Its checks.
    pub checks: BTreeSet<CheckName>,
    /// Its units.
    pub units: BTreeSet<UnitName>,
    /// Its containers.
    pub containers: BTreeSet<ContainerName>,
    /// Its compose projects, whose containers are its own, too.
    pub projects: BTreeSet<ProjectName>,
    /// Paths of certificates that it reads.
    pub certificates: BTreeSet<String>,
    /// It is being activated, reverted or removed.
    pub in_flight: bool,
}

impl Scope {
    /// Whether what is said of the containers of one is said of the other's, too.
    #[must_use]
    pub fn has_containers_of(&self, other: &Self) -> bool {
        let parts = |scope: &Self| (scope.containers.clone(), scope.projects.clone(), scope.in_flight);
        parts(self) == parts(other)
    }
}

/// How a check stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// It passes.
    pub ok: bool,
    /// The last answer, where it does not.
    pub answer: String,
    /// How long that took.
    pub took: Duration,
}

/// A container.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Container {
    /// Or it has ended well, where it was to end. `None`: the engine does not say.
    pub is_running: Option<bool>,
    /// How it is, such as `exited with code 1`.
    pub words: String,
    /// Its starts.
    pub restarts: Restarts,
    /// Of which service of which project; `None`: it is one by itself.
    pub service: Option<String>,
}

/// How often a container was started by itself lately.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restarts {
    /// Which container, and how often by then.
    last: Option<(String, i64)>,
    /// When, ms since the boot; no more than matter.
    at: VecDeque<u64>,
}

impl Restarts {
    /// It was in trouble at `boot_ms`, as somebody remembers.
    #[must_use]
    pub fn remembered(boot_ms: u64) -> Self {
        Self { last: None, at: VecDeque::from([boot_ms; RESTARTS]) }
    }

    /// The engine says how often it has started it.
    pub fn see(&mut self, id: &str, count: i64, boot_ms: u64) {
        let before = self.last.replace((id.to_owned(), count));
        if let Some((_, before)) = before.filter(|(of, before)| of == id && *before < count) {
            let more = usize::try_from(count.saturating_sub(before)).unwrap_or(RESTARTS).min(RESTARTS);
            self.at.extend(std::iter::repeat_n(boot_ms, more));
            self.at.drain(..self.at.len().saturating_sub(RESTARTS));
        }
    }

    /// Whether it is again and again; and whether it was at all lately.
    #[must_use]
    pub fn lately(&self, boot_ms: u64) -> (bool, bool) {
        let recent = self.at.iter().filter(|at| boot_ms.saturating_sub(**at) < RECENT_MS).count();
        (recent >= RESTARTS, recent > 0)
    }
}

/// A certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// Who reads it; `None`: the agent itself.
    pub app: Option<AppName>,
    /// Its path, or `agent`.
    pub subject: String,
    /// Unix seconds; `None`: it cannot be read.
    pub until_s: Option<i64>,
}

/// A file system.
#[derive(Clone, PartialEq, Debug)]
pub struct Disk {
    /// Where it is mounted.
    pub point: String,
    /// One of this host's own disks. What is in memory, or elsewhere, counts only for a rule that names it: anybody who has logged in
    /// may fill memory of his own, and a server's disk is no host's.
    pub is_disk: bool,
    /// The same one is mounted elsewhere, too, and told of there.
    pub is_further: bool,
    /// `None`: it does not answer.
    pub room: Option<Room>,
}

/// Room on a file system.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Room {
    /// In use, of what a user may use; %. `None`: it has no size.
    pub used: Option<f64>,
    /// Inodes in use; %. `None`: it does not count them.
    pub inodes: Option<f64>,
    /// When it is full.
    pub forecast: Forecast,
}

/// All of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Scene {
    /// By app.
    pub apps: BTreeMap<AppName, Scope>,
    /// Units that have failed; `None`: systemd does not say.
    pub failed: Option<BTreeSet<String>>,
    /// One that is missing was not answered yet.
    pub checks: BTreeMap<(AppName, CheckName), Checked>,
    /// By app and name. An app that is missing was not looked at yet.
    pub containers: BTreeMap<AppName, BTreeMap<String, Container>>,
    /// By app; `None`: the agent's own. One that is missing was not looked at yet.
    pub certificates: BTreeMap<Option<AppName>, Vec<Expiry>>,
    /// File systems; `None`: they cannot be listed.
    pub disks: Option<Vec<Disk>>,
    /// The last process that was killed for want of memory, ms since the boot; `None`: the kernel does not say.
    pub oom_kill: Option<Option<u64>>,
}

impl Scene {
    /// The app whose unit it is, also as an instance of its template.
    #[must_use]
    pub fn owner_of(&self, unit: &str) -> Option<&AppName> {
        let template =
            unit.split_once('@').and_then(|(name, rest)| Some(format!("{name}@.{}", rest.rsplit_once('.')?.1)));
        let is = |name: &UnitName| name.as_str() == unit || template.as_deref() == Some(name.as_str());
        self.apps.iter().find(|(_, scope)| scope.units.iter().any(is)).map(|(app, _)| app)
    }
}

#[cfg(test)]
mod tests {
    //! Whose a unit is, and what is again and again.
    use super::*;

    #[test]
    fn units_and_instances_have_their_owners() {
        let units = ["a.service", "w@.service"].map(|name| name.parse().unwrap()).into();
        let mono: AppName = "mono".parse().unwrap();
        let apps = BTreeMap::from([(mono.clone(), Scope { units, ..Scope::default() })]);
        let scene = Scene { apps, ..Scene::default() };
        for name in ["a.service", "w@1.service", "w@a.b.service"] {
            assert_eq!(scene.owner_of(name), Some(&mono), "{name}");
        }
        for name in ["b.service", "w.service", "w@1.timer", "w@1", "@", ""] {
            assert_eq!(scene.owner_of(name), None, "{name}");
        }
    }

    #[test]
    fn three_starts_in_ten_minutes_are_again_and_again() {
        let minute = 60_000;
        let mut restarts = Restarts::default();
        restarts.see("a", 5, 0);
        assert_eq!(restarts.lately(0), (false, false), "what was before is not known");
        restarts.see("a", 6, minute);
        restarts.see("a", 7, 2 * minute);
        assert_eq!(restarts.lately(2 * minute), (false, true));
        restarts.see("b", 9, 3 * minute);
        assert_eq!(restarts.lately(3 * minute), (false, true), "another container counts anew");
        restarts.see("b", 10, 4 * minute);
        assert_eq!(restarts.lately(4 * minute), (true, true));
        assert_eq!(restarts.lately(11 * minute), (false, true));
        assert_eq!(restarts.lately(14 * minute), (false, false));
        restarts.see("b", i64::MAX, 20 * minute);
        assert_eq!(restarts.lately(20 * minute), (true, true));
        assert_eq!(Restarts::remembered(5).lately(5), (true, true));
    }
}
