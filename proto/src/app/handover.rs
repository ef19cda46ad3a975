//! How a part gives its work to the next one of its kind without a failed request: another instance beside it, on a port
//! that the agent allots, behind an upstream of nginx that the agent writes. Beside `app`.

use serde::{Deserialize, Serialize};

use super::{AppError, AppSpec, Unit};
use crate::{
    duration::Span,
    limits,
    name::{UnitName, UpstreamName},
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
}

impl UnitName {
    /// The instance of this service on a port: `mono-api.service` on 20001 is `mono-api@20001.service`.
    #[must_use]
    pub fn on_port(&self, port: u16) -> Option<Self> {
        let stem = self.as_str().strip_suffix(".service").filter(|stem| !stem.contains('@'))?;
        format!("{stem}@{port}.service").parse().ok()
    }
}

impl AppSpec {
    /// The units that are replaced by an instance beside them.
    pub fn handovers(&self) -> impl Iterator<Item = (&UnitName, &Unit, &BlueGreen)> {
        self.units.iter().filter_map(|(name, unit)| Some((name, unit, unit.handover.as_ref()?)))
    }
}

/// Every rule about it that one field's type cannot hold.
pub(super) fn check(app: &AppSpec) -> Vec<AppError> {
    let mut found = Vec::new();
    let mut say = |field: String, what: String| found.push(AppError { field, what });
    for (name, unit, own) in app.handovers() {
        let field = |of: &str| format!("units.{name}{of}");
        if name.on_port(u16::MAX).is_none() {
            say(field(".handover"), "blue_green is for a .service whose name has no @: its instances get one".into());
        }
        let stem = name.as_str().strip_suffix(".service").unwrap_or_default();
        if let Some(other) = app.units.keys().find(|other| other.as_str().starts_with(&format!("{stem}@"))) {
            say(field(".handover"), format!("{other} would be taken for an instance of it; give one another name"));
        }
        let rules = [
            (!unit.start, ".start", "a unit that is not started hands nothing over: say handover: recreate"),
            (unit.adopt, ".adopt", "with handover: blue_green every instance is new; stop what is there by hand"),
            (
                unit.restart_on_change.is_some(),
                ".restart_on_change",
                "a restart in place would fail requests, which handover: blue_green is there to prevent",
            ),
            (
                !unit.ports.is_empty(),
                ".ports",
                "with handover: blue_green the agent allots the port: {{ port }} in the unit",
            ),
            (
                !unit.text.holes().any(|hole| *hole == Hole::Port),
                "",
                "with handover: blue_green two instances run at once, each on its own port: name {{ port }} in the unit (a \
                 variable of that name would hide it)",
            ),
            (
                app.strategy.min_healthy_time.as_ms().saturating_mul(2) >= app.strategy.healthy_deadline.as_ms(),
                ".handover",
                "a new instance is seen healthy for min_healthy_time twice, before and after it serves: that takes less than \
                 healthy_deadline",
            ),
            (own.drain.as_ms() > limits::MAX_DRAIN_MS, ".drain", "at most 1h"),
            (
                app.strategy.healthy_deadline.as_ms().saturating_add(own.drain.as_ms())
                    >= app.strategy.progress_deadline.as_ms(),
                ".drain",
                "healthy_deadline and drain together are less than progress_deadline: otherwise a rollout may end before the \
                 host has",
            ),
        ];
        rules.into_iter().filter(|(broken, ..)| *broken).for_each(|(_, of, what)| say(field(of), what.to_owned()));
        let twin = app.handovers().find(|(other, _, its)| *other < name && its.upstream == own.upstream);
        if let Some((twin, ..)) = twin {
            say(field(".upstream"), format!("{} is the upstream of {twin} already", own.upstream));
        }
    }
    holes(app, &mut say);
    found
}

/// Where a port may be named: it is one instance's.
fn holes(app: &AppSpec, say: &mut impl FnMut(String, String)) {
    let own: Vec<String> = app.handovers().map(|(name, ..)| format!("units.{name}")).collect();
    for (field, template, _) in app.templates() {
        for hole in template.holes() {
            let what = match hole {
                Hole::Port if own.contains(&field) => continue,
                Hole::Port | Hole::PortOf(_) if !field.starts_with("checks.") => {
                    "{{ port }} means something only in a unit with handover: blue_green and in checks".to_owned()
                }
                Hole::Port if own.len() == 1 => continue,
                Hole::Port if own.is_empty() => "{{ port }} needs a unit with handover: blue_green".to_owned(),
                Hole::Port => "several units hand over: say whose port, {{ port.UPSTREAM }}".to_owned(),
                Hole::PortOf(name) if app.handovers().any(|(_, _, its)| its.upstream == *name) => continue,
                Hole::PortOf(name) => format!("no unit hands over behind an upstream {name}"),
                _ => continue,
            };
            say(field.clone(), what);
        }
    }
}
