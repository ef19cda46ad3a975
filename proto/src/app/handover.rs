//! How a part gives its work to the next one of its kind without a failed request: another instance beside it, on a port
//! that the agent allots, behind an upstream of nginx that the agent writes. Beside `app`.

use serde::{Deserialize, Serialize};

use super::{AppError, AppSpec, Container, Drift, Namespace, Restart, Unit};
use crate::{
    duration::Span,
    limits,
    name::{ContainerName, UnitName, UpstreamName},
    template::Hole,
};

/// `handover: blue_green`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlueGreen {
    /// How sites name it: `proxy_pass http://mono-api;`. One on a host.
    pub upstream: UpstreamName,
    /// For so long at most the one before may finish what it has begun.
    pub drain: Span,
    /// Of a container: where its program listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
}

/// A part that is replaced by an instance beside it.
#[derive(Clone, Copy, Debug)]
pub enum HandsOver<'a> {
    /// A service of systemd.
    Unit(&'a UnitName, &'a Unit),
    /// A container.
    Container(&'a ContainerName, &'a Container),
}

impl HandsOver<'_> {
    /// Its place in the manifest.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Self::Unit(name, _) => format!("units.{name}"),
            Self::Container(name, _) => format!("containers.{name}"),
        }
    }

    /// As the manifest calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Unit(name, _) => name.as_str(),
            Self::Container(name, _) => name.as_str(),
        }
    }

    /// What is done by itself when it is not as it should be.
    #[must_use]
    pub fn drift(&self) -> Drift {
        match self {
            Self::Unit(_, unit) => unit.drift,
            Self::Container(_, container) => container.drift,
        }
    }
}

impl UnitName {
    /// The instance of this service on a port: `mono-api.service` on 20001 is `mono-api@20001.service`.
    #[must_use]
    pub fn on_port(&self, port: u16) -> Option<Self> {
        let stem = self.as_str().strip_suffix(".service").filter(|stem| !stem.contains('@'))?;
        format!("{stem}@{port}.service").parse().ok()
    }
}

impl ContainerName {
    /// The instance of this container on a port: `web` on 20001 is `web-20001`.
    #[must_use]
    pub fn on_port(&self, port: u16) -> Option<Self> {
        format!("{self}-{port}").parse().ok()
    }
}

impl AppSpec {
    /// The parts that are replaced by an instance beside them.
    pub fn handovers(&self) -> impl Iterator<Item = (HandsOver<'_>, &BlueGreen)> {
        let units = self.units.iter();
        let units = units.filter_map(|(name, unit)| Some((HandsOver::Unit(name, unit), unit.handover.as_ref()?)));
        let containers = self.containers.iter();
        units.chain(containers.filter_map(|(name, container)| {
            Some((HandsOver::Container(name, container), container.handover.as_ref()?))
        }))
    }
}

/// A rule that is broken: of which field, and what it says.
type Rule = (bool, &'static str, &'static str);

/// Every rule about it that one field's type cannot hold.
pub(super) fn check(app: &AppSpec) -> Vec<AppError> {
    let mut found = Vec::new();
    let mut say = |field: String, what: String| found.push(AppError { field, what });
    for (part, own) in app.handovers() {
        let field = |of: &str| format!("{}{of}", part.field());
        let rules: Vec<Rule> = match part {
            HandsOver::Unit(name, unit) => of_unit(name, unit, own),
            HandsOver::Container(name, container) => of_container(app, name, container, own),
        };
        let rules = rules.into_iter().chain(times(app, own));
        rules.filter(|(broken, ..)| *broken).for_each(|(_, of, what)| say(field(of), what.to_owned()));
        if let Some(other) = taken_for_an_instance(app, part) {
            say(field(".handover"), format!("{other} would be taken for an instance of it; give one another name"));
        }
        let twin = app.handovers().find(|(other, its)| other.field() < part.field() && its.upstream == own.upstream);
        if let Some((twin, _)) = twin {
            say(field(".upstream"), format!("{} is the upstream of {} already", own.upstream, twin.name()));
        }
    }
    holes(app, &mut say);
    found
}

fn taken_for_an_instance(app: &AppSpec, part: HandsOver<'_>) -> Option<String> {
    match part {
        HandsOver::Unit(name, _) => {
            let stem = name.as_str().strip_suffix(".service").unwrap_or_default();
            let other = app.units.keys().find(|other| other.as_str().starts_with(&format!("{stem}@")));
            other.map(ToString::to_string)
        }
        HandsOver::Container(name, _) => {
            let port = |other: &ContainerName| other.as_str().strip_prefix(&format!("{name}-"))?.parse::<u16>().ok();
            app.containers.keys().find(|other| port(other).is_some()).map(ToString::to_string)
        }
    }
}

fn of_unit(name: &UnitName, unit: &Unit, own: &BlueGreen) -> Vec<Rule> {
    vec![
        (
            name.on_port(u16::MAX).is_none(),
            ".handover",
            "blue_green is for a .service whose name has no @: its instances get one",
        ),
        (!unit.start, ".start", "a unit that is not started hands nothing over: say handover: recreate"),
        (unit.adopt, ".adopt", "with handover: blue_green every instance is new; stop what is there by hand"),
        (
            !unit.ports.is_empty(),
            ".ports",
            "with handover: blue_green the agent allots the port: {{ port }} in the unit",
        ),
        (
            !unit.text.holes().any(|hole| *hole == Hole::Port),
            "",
            "with handover: blue_green two instances run at once, each on its own port: name {{ port }} in the unit (a variable \
             of that name would hide it)",
        ),
        (own.container_port.is_some(), ".container_port", "a unit has none"),
        (
            unit.restart_on_change.is_some(),
            ".restart_on_change",
            "a restart in place would fail requests, which handover: blue_green is there to prevent",
        ),
    ]
}

fn of_container(app: &AppSpec, name: &ContainerName, container: &Container, own: &BlueGreen) -> Vec<Rule> {
    let asks = |hole: &Hole| match hole {
        Hole::Port => true,
        Hole::PortOf(upstream) => *upstream == own.upstream,
        _ => false,
    };
    let templates = app.templates();
    let asked = templates.iter().any(|(field, template, _)| field.starts_with("checks.") && template.holes().any(asks));
    vec![
        (
            name.on_port(u16::MAX).is_none(),
            ".handover",
            "its instances get \"-\" and a port behind their name: it is too long",
        ),
        (
            own.container_port.is_none_or(|port| port == 0),
            ".container_port",
            "with handover: blue_green say where in the container its program listens; the agent publishes that on a port \
             of its own",
        ),
        (
            !container.ports.is_empty(),
            ".ports",
            "with handover: blue_green two containers run at once, and cannot both publish these: say container_port",
        ),
        (
            container.rights.host_namespaces.contains(&Namespace::Network),
            ".host_namespaces",
            "with handover: blue_green it has a network of its own: two of them would listen on the same port",
        ),
        (
            container.restart_on_change.is_some(),
            ".restart_on_change",
            "a restart in place would fail requests, which handover: blue_green is there to prevent",
        ),
        (container.adopt, ".adopt", "with handover: blue_green every instance is new; stop what is there by hand"),
        (container.restart == Restart::No, ".restart", "one that runs once hands nothing over: say handover: recreate"),
        (
            !asked,
            ".handover",
            "a check that names its {{ port }} is needed: Docker accepts connections for a container before its program does",
        ),
    ]
}

/// How the times of a handover fit those of a rollout.
fn times(app: &AppSpec, own: &BlueGreen) -> [Rule; 3] {
    let strategy = &app.strategy;
    [
        (
            strategy.min_healthy_time.as_ms().saturating_mul(2) >= strategy.healthy_deadline.as_ms(),
            ".handover",
            "a new instance is seen healthy for min_healthy_time twice, before and after it serves: that takes less than \
             healthy_deadline",
        ),
        (own.drain.as_ms() > limits::MAX_DRAIN_MS, ".drain", "at most 1h"),
        (
            strategy.healthy_deadline.as_ms().saturating_add(own.drain.as_ms()) >= strategy.progress_deadline.as_ms(),
            ".drain",
            "healthy_deadline and drain together are less than progress_deadline: otherwise a rollout may end before the \
             host has",
        ),
    ]
}

/// Where a port may be named: it is one instance's.
fn holes(app: &AppSpec, say: &mut impl FnMut(String, String)) {
    let own: Vec<String> = app.handovers().map(|(part, _)| part.field()).collect();
    for (field, template, _) in app.templates() {
        for hole in template.holes() {
            let what = match hole {
                Hole::Port if own.contains(&field) => continue,
                Hole::Port | Hole::PortOf(_) if !field.starts_with("checks.") => {
                    "{{ port }} means something only in a unit with handover: blue_green and in checks".to_owned()
                }
                Hole::Port if own.len() == 1 => continue,
                Hole::Port if own.is_empty() => "{{ port }} needs a part with handover: blue_green".to_owned(),
                Hole::Port => "several parts hand over: say whose port, {{ port.UPSTREAM }}".to_owned(),
                Hole::PortOf(name) if app.handovers().any(|(_, its)| its.upstream == *name) => continue,
                Hole::PortOf(name) => format!("nothing hands over behind an upstream {name}"),
                _ => continue,
            };
            say(field.clone(), what);
        }
    }
}
