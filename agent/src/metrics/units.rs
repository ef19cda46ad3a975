//! Units of systemd: the state of all of them under node_exporter's names, and what those of drover's apps use. systemd is asked at
//! each scrape; what hardly ever changes of a unit is remembered for a while.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use drover_proto::status::HostStatus;

use super::{
    cgroup,
    node::Root,
    text::{Kind, Text},
};
use crate::host::systemd::{ListedUnit, Systemd, SystemdError};

/// In this order node_exporter writes them.
const STATES: [&str; 5] = ["activating", "active", "deactivating", "failed", "inactive"];
/// Kinds that node_exporter leaves out.
const LEFT_OUT: [&str; 5] = ["automount", "device", "mount", "scope", "slice"];
/// For how long it is remembered of what type a service is: another one takes a new unit file.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// Units that are told, at most.
const MAX_UNITS: usize = 2000;

/// Asks systemd.
pub(super) struct Units {
    systemd: Systemd,
    /// `Type=` of services, and when that was asked.
    kinds: HashMap<String, (String, Instant)>,
}

/// What one look found.
pub(super) struct Seen {
    version: String,
    state: String,
    units: Vec<Unit>,
    /// Of all units, those that are not told one by one too.
    counts: [usize; STATES.len()],
    /// Of timers: unix µs.
    triggered: Vec<(String, u64)>,
    own: Vec<Own>,
}

struct Unit {
    name: String,
    active_state: String,
    kind: String,
}

/// A service of an app.
struct Own {
    app: String,
    unit: String,
    cgroup: String,
    restarts: u32,
}

impl Units {
    pub(super) fn new(systemd: Systemd) -> Self {
        Self { systemd, kinds: HashMap::new() }
    }

    /// Looks at all of them. `status`: whose are an app's.
    pub(super) async fn look(&mut self, status: &HostStatus) -> Result<Seen, SystemdError> {
        let (version, state) = self.systemd.version_and_state().await?;
        let listed = self.systemd.list().await?;
        let mut counts = [0; STATES.len()];
        for unit in &listed {
            if let Some(index) = STATES.iter().position(|state| *state == unit.active_state) {
                counts[index] += 1;
            }
        }
        let mut told: Vec<ListedUnit> = listed.into_iter().filter(is_told).collect();
        told.sort_by(|a, b| a.name.cmp(&b.name));
        told.truncate(MAX_UNITS);
        let owners = owners(status);
        let (mut units, mut triggered, mut own) = (Vec::with_capacity(told.len()), Vec::new(), Vec::new());
        for unit in told {
            if unit.name.ends_with(".timer") {
                triggered.push((unit.name.clone(), self.property(&unit, "Timer", "LastTriggerUSec").await?));
            }
            let is_service = unit.name.ends_with(".service");
            let kind = if is_service { self.kind(&unit).await? } else { String::new() };
            if let Some(app) = owners.get(unit.name.as_str()).filter(|_| is_service) {
                let restarts = self.property(&unit, "Service", "NRestarts").await?;
                let cgroup = self.property(&unit, "Service", "ControlGroup").await?;
                own.push(Own { app: (*app).to_owned(), unit: unit.name.clone(), cgroup, restarts });
            }
            units.push(Unit { name: unit.name, active_state: unit.active_state, kind });
        }
        self.kinds.retain(|name, _| units.binary_search_by(|unit| unit.name.cmp(name)).is_ok());
        Ok(Seen { version, state, units, counts, triggered, own })
    }

    /// `Type=` of a service.
    async fn kind(&mut self, unit: &ListedUnit) -> Result<String, SystemdError> {
        if let Some((kind, _)) = self.kinds.get(&unit.name).filter(|(_, at)| at.elapsed() < KNOWN_FOR) {
            return Ok(kind.clone());
        }
        let kind: String = self.property(unit, "Service", "Type").await?;
        self.kinds.insert(unit.name.clone(), (kind.clone(), Instant::now()));
        Ok(kind)
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
}

fn is_told(unit: &ListedUnit) -> bool {
    let kind = unit.name.rsplit_once('.').map_or("", |(_, kind)| kind);
    unit.is_loaded && !LEFT_OUT.contains(&kind)
}

/// By unit.
fn owners(status: &HostStatus) -> BTreeMap<&str, &str> {
    let units = status.apps.iter().flat_map(|(app, status)| {
        let units = status.parts.iter().filter(|part| part.kind == "unit");
        units.map(move |part| (part.name.as_str(), app.as_str()))
    });
    units.collect()
}

pub(super) fn write(root: &Root, seen: &Seen, text: &mut Text) {
    if !seen.own.is_empty() {
        own(root, &seen.own, text);
    }
    text.gauge("node_systemd_system_running", "Whether the system is operational (see 'systemctl is-system-running')")
        .value(u8::from(seen.state == "running"));
    let mut triggered = text.gauge("node_systemd_timer_last_trigger_seconds", "Seconds since epoch of last trigger.");
    for (name, at_us) in &seen.triggered {
        triggered.sample(&[("name", name)], *at_us as f64 / 1e6);
    }
    let mut states = text.gauge("node_systemd_unit_state", "Systemd unit");
    for unit in &seen.units {
        for state in STATES {
            let labels = [("name", unit.name.as_str()), ("state", state), ("type", unit.kind.as_str())];
            states.sample(&labels, u8::from(unit.active_state == state));
        }
    }
    let mut counts = text.gauge("node_systemd_units", "Summary of systemd unit states");
    for (state, count) in STATES.iter().zip(seen.counts) {
        counts.sample(&[("state", state)], count);
    }
    text.gauge("node_systemd_version", "Detected systemd version")
        .sample(&[("version", &seen.version)], number_of(&seen.version));
}

fn labels<'r>((unit, _): &'r (&Own, cgroup::Usage)) -> [(&'static str, &'r str); 2] {
    [("app", &unit.app), ("unit", &unit.unit)]
}

fn own(root: &Root, own: &[Own], text: &mut Text) {
    let rows: Vec<_> = own.iter().map(|unit| (unit, cgroup::usage(root, &unit.cgroup))).collect();
    let mut column = |kind, name, help, value: fn(&(&Own, cgroup::Usage)) -> Option<f64>| {
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
            path: zbus::ObjectPath::try_from("/x").unwrap().into(),
        };
        assert!(is_told(&unit("nginx.service", true)) && is_told(&unit("multi-user.target", true)));
        assert!(!is_told(&unit("nginx.service", false)) && !is_told(&unit("system.slice", true)));
    }
}
