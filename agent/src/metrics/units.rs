//! Units of systemd: the state of all of them under node_exporter's names, and what those of drover's apps use. The states are in the
//! table that follows systemd's signals, so they are those of the moment of the scrape without a question; what else is told of a
//! unit is asked when the table says that something of it has changed, and what comes of all that is kept as text until then.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use drover_proto::status::HostStatus;

use super::{
    cgroup::{Usage, Version},
    node::Root,
    text::{Format, Kind, Text},
};
use crate::host::systemd::{ListedUnit, Systemd, SystemdError, UnitTable, Units as Table};

/// In this order node_exporter writes them.
const STATES: [&str; 5] = ["activating", "active", "deactivating", "failed", "inactive"];
/// Kinds that node_exporter leaves out.
const LEFT_OUT: [&str; 5] = ["automount", "device", "mount", "scope", "slice"];
/// What may change without a signal is asked again after this: how systemd stands, and that restarts are forgotten.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Units that are told, at most.
const MAX_UNITS: usize = 2000;

/// Knows what is not in the table.
pub(super) struct Units {
    systemd: Systemd,
    table: UnitTable,
    manager: Option<Manager>,
    /// By unit, what was asked of services and timers.
    asked: BTreeMap<String, Asked>,
    /// For which revision of the table, and whose units, all was asked that there is to ask.
    complete: Option<(u64, BTreeMap<String, String>)>,
    written: Option<(Format, Arc<str>)>,
}

/// systemd itself.
struct Manager {
    version: String,
    is_running: bool,
    reading: u64,
    at: Instant,
}

/// Of one unit.
struct Asked {
    /// As the table was then.
    changed: u64,
    reading: u64,
    about: About,
}

enum About {
    /// `Type=` of a service.
    Service(String),
    /// When a timer elapsed last, unix µs.
    Timer(u64),
    /// A service of an app.
    Own(Own),
}

/// A service of an app.
#[derive(Clone)]
struct Own {
    kind: String,
    app: String,
    unit: String,
    cgroup: String,
    restarts: u32,
    at: Instant,
}

/// What one look found.
pub(super) struct Seen {
    /// What is told of all units.
    states: Arc<str>,
    own: Vec<Own>,
}

impl Units {
    pub(super) fn new(systemd: Systemd, table: UnitTable) -> Self {
        Self { systemd, table, manager: None, asked: BTreeMap::new(), complete: None, written: None }
    }

    /// Looks at all of them. `status`: whose are an app's. Waits while the table is not there; what was asked counts also when that
    /// is broken off.
    pub(super) async fn look(&mut self, status: &HostStatus, format: Format) -> Result<Seen, SystemdError> {
        let mut waiting = self.table.subscribe();
        // Nobody keeps it any more where the agent ends.
        let Ok(Some(table)) = waiting.wait_for(Option::is_some).await.map(|table| table.clone()) else {
            return std::future::pending().await;
        };
        let owners = owners(status);
        let is_complete =
            |(revision, of): &(u64, BTreeMap<String, String>)| *revision == table.revision() && *of == owners;
        if !self.complete.as_ref().is_some_and(is_complete) || self.is_old() {
            (self.complete, self.written) = (None, None);
            self.ask(&table, &owners).await?;
            self.complete = Some((table.revision(), owners));
        }
        let states = match &self.written {
            Some((written, states)) if *written == format => states.clone(),
            _ => {
                let states: Arc<str> = self.states(&table, format).into();
                self.written = Some((format, states.clone()));
                states
            }
        };
        let own = self.asked.values().filter_map(|asked| match &asked.about {
            About::Own(own) => Some(own.clone()),
            About::Service(_) | About::Timer(_) => None,
        });
        Ok(Seen { states, own: own.collect() })
    }

    fn is_old(&self) -> bool {
        // What does not last is looked at again: a host that starts runs one day.
        self.manager.as_ref().is_none_or(|manager| !manager.is_running || manager.at.elapsed() > KNOWN_FOR)
    }

    async fn ask(&mut self, table: &Table, owners: &BTreeMap<String, String>) -> Result<(), SystemdError> {
        let is_running = self.systemd.system_state().await? == "running";
        let known = self.manager.take().filter(|known| known.reading == table.reading());
        let version = match known {
            Some(known) => known.version,
            None => self.systemd.version().await?,
        };
        self.manager = Some(Manager { version, is_running, reading: table.reading(), at: Instant::now() });
        self.asked.retain(|name, _| table.get(name).is_some_and(is_told));
        for unit in told(table) {
            let owner = owners.get(&unit.name);
            if !self.asked.get(&unit.name).is_some_and(|asked| asked.is_good_for(unit, owner, table)) {
                let Some(about) = self.about(unit, owner).await? else { continue };
                let asked = Asked { changed: unit.changed, reading: table.reading(), about };
                self.asked.insert(unit.name.clone(), asked);
            }
        }
        Ok(())
    }

    /// `None`: there is nothing to ask of this kind.
    async fn about(&self, unit: &ListedUnit, owner: Option<&String>) -> Result<Option<About>, SystemdError> {
        if unit.name.ends_with(".timer") {
            return Ok(Some(About::Timer(self.property(unit, "Timer", "LastTriggerUSec").await?)));
        }
        if !unit.name.ends_with(".service") {
            return Ok(None);
        }
        let kind = self.property(unit, "Service", "Type").await?;
        let Some(app) = owner else { return Ok(Some(About::Service(kind))) };
        Ok(Some(About::Own(Own {
            kind,
            app: app.clone(),
            unit: unit.name.clone(),
            cgroup: self.property(unit, "Service", "ControlGroup").await?,
            restarts: self.property(unit, "Service", "NRestarts").await?,
            at: Instant::now(),
        })))
    }

    /// Of a unit that has gone since it was listed it is the default.
    async fn property<T>(&self, unit: &ListedUnit, of: &str, name: &str) -> Result<T, SystemdError>
    where
        T: TryFrom<zbus::OwnedVariant> + Default,
    {
        match self.systemd.property(unit.path.as_str(), of, name).await {
            Err(SystemdError::Refused { .. }) => Ok(T::default()),
            answer => answer,
        }
    }

    /// The families about all units.
    fn states(&self, table: &Table, format: Format) -> String {
        let mut text = Text::new(format, 0);
        let running = self.manager.as_ref().is_some_and(|manager| manager.is_running);
        let help = "Whether the system is operational (see 'systemctl is-system-running')";
        text.gauge("node_systemd_system_running", help).value(u8::from(running));
        let help = "Seconds since epoch of last trigger.";
        let mut triggered = text.gauge("node_systemd_timer_last_trigger_seconds", help);
        for (name, asked) in &self.asked {
            if let About::Timer(at_us) = asked.about {
                triggered.sample(&[("name", name)], at_us as f64 / 1e6);
            }
        }
        let mut states = text.gauge("node_systemd_unit_state", "Systemd unit");
        for unit in told(table) {
            let kind = self.asked.get(&unit.name).map_or("", |asked| asked.about.kind());
            for state in STATES {
                let labels = [("name", unit.name.as_str()), ("state", state), ("type", kind)];
                states.sample(&labels, u8::from(unit.active_state == state));
            }
        }
        // Of all units, those that are not told one by one too.
        let mut counts = text.gauge("node_systemd_units", "Summary of systemd unit states");
        for state in STATES {
            counts.sample(&[("state", state)], table.iter().filter(|unit| unit.active_state == state).count());
        }
        if let Some(Manager { version, .. }) = &self.manager {
            text.gauge("node_systemd_version", "Detected systemd version")
                .sample(&[("version", version)], number_of(version));
        }
        text.section()
    }
}

impl Asked {
    fn is_good_for(&self, unit: &ListedUnit, owner: Option<&String>, table: &Table) -> bool {
        let is_of_same = match &self.about {
            About::Own(own) => Some(&own.app) == owner && own.at.elapsed() < KNOWN_FOR,
            About::Service(_) => owner.is_none(),
            About::Timer(_) => true,
        };
        is_of_same && self.changed == unit.changed && self.reading == table.reading()
    }
}

impl About {
    fn kind(&self) -> &str {
        match self {
            Self::Service(kind) | Self::Own(Own { kind, .. }) => kind,
            Self::Timer(_) => "",
        }
    }
}

/// Those that are told one by one.
fn told(table: &Table) -> impl Iterator<Item = &ListedUnit> {
    table.iter().filter(|unit| is_told(unit)).take(MAX_UNITS)
}

fn is_told(unit: &ListedUnit) -> bool {
    let kind = unit.name.rsplit_once('.').map_or("", |(_, kind)| kind);
    unit.is_loaded && !LEFT_OUT.contains(&kind)
}

/// By unit.
fn owners(status: &HostStatus) -> BTreeMap<String, String> {
    let units = status.apps.iter().flat_map(|(app, status)| {
        let units = status.parts.iter().filter(|part| part.kind == "unit");
        units.map(move |part| (part.name.clone(), app.to_string()))
    });
    units.collect()
}

pub(super) fn write(root: &Root, version: Version, seen: &Seen, text: &mut Text) {
    if !seen.own.is_empty() {
        own(root, version, &seen.own, text);
    }
    text.add(&seen.states);
}

fn labels<'r>((unit, _): &'r (&Own, Usage)) -> [(&'static str, &'r str); 2] {
    [("app", &unit.app), ("unit", &unit.unit)]
}

fn own(root: &Root, version: Version, own: &[Own], text: &mut Text) {
    let rows: Vec<_> = own.iter().map(|unit| (unit, version.usage(root, &unit.cgroup))).collect();
    let mut column = |kind, name, help, value: fn(&(&Own, Usage)) -> Option<f64>| {
        text.column((kind, name, help), &rows, labels, value);
    };
    let help = "CPU time that the unit has used since it was started.";
    column(Kind::Counter, "drover_unit_cpu_seconds_total", help, |(_, usage)| usage.cpu_seconds);
    let help = "Memory of the unit, with what of files is cached.";
    column(Kind::Gauge, "drover_unit_memory_bytes", help, |(_, usage)| Some(usage.memory_bytes? as f64));
    let help = "How often systemd has restarted the unit since it was last started by hand or by drover.";
    column(Kind::Counter, "drover_unit_restarts_total", help, |(unit, _)| Some(f64::from(unit.restarts)));
}

/// `252.39-1~deb12u1` is 252.39.
fn number_of(version: &str) -> f64 {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    version[..end].trim_end_matches('.').parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! What systemd says, in words and numbers.
    use super::*;

    #[test]
    fn versions_are_numbers() {
        for (version, number) in [("252.39-1~deb12u1", 252.39), ("247", 247.0), ("255.4-1ubuntu8", 255.4), ("v", 0.0)] {
            assert_eq!(number_of(version), number);
        }
    }

    #[test]
    fn what_node_exporter_leaves_out_is_left_out() {
        let unit = |name: &str, is_loaded| ListedUnit {
            name: name.to_owned(),
            is_loaded,
            active_state: "active".to_owned(),
            sub_state: String::new(),
            path: zbus::ObjectPath::try_from("/x").unwrap().into(),
            changed: 1,
        };
        assert!(is_told(&unit("nginx.service", true)) && is_told(&unit("multi-user.target", true)));
        assert!(!is_told(&unit("nginx.service", false)) && !is_told(&unit("system.slice", true)));
    }
}
