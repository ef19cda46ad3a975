//! Reads the fields of a typed `.timer`, and knows which services timers start. Beside `unit`.

use std::collections::BTreeSet;

use drover_proto::{name::UnitName, template::Template};

use super::{Decoder, one_or_many, span};
use crate::manifest::{
    holes::Allow,
    unit_text::UnitText,
    yaml::{Node, Value},
};

/// Fields of a typed timer.
pub(super) const FIELDS: [&str; 6] =
    ["on_calendar", "on_boot_sec", "on_unit_active_sec", "persistent", "randomized_delay_sec", "unit"];

/// The services that timers of this manifest start: of the same name, or the one that a typed timer names.
pub(super) fn started(root: &Node) -> BTreeSet<String> {
    let units = root.get("units").into_iter().flat_map(Node::entries);
    let timers = units.filter_map(|(key, node)| Some((key.text.strip_suffix(".timer")?, node)));
    timers
        .map(|(stem, node)| match node.get("unit").and_then(Node::scalar) {
            Some(named) => named.text.clone(),
            None => format!("{stem}.service"),
        })
        .collect()
}

impl Decoder<'_> {
    pub(super) fn timer_section(&mut self, node: &Node, unit: &mut UnitText) {
        const S: &str = "Timer";
        let times = FIELDS.iter().take(3).any(|field| node.get(field).is_some());
        let by_options = node.get("options").is_some_and(|options| options.get(S).is_some());
        if !times && !by_options {
            let hint = "say on_calendar, on_boot_sec or on_unit_active_sec";
            return self.reports.at(node, "a timer needs a time", hint);
        }
        for calendar in one_or_many(node.get("on_calendar")) {
            if let Some(when) = self.line(calendar, Allow::HOST) {
                unit.set(S, "OnCalendar", when);
            }
        }
        for (key, directive) in [
            ("on_boot_sec", "OnBootSec"),
            ("on_unit_active_sec", "OnUnitActiveSec"),
            ("randomized_delay_sec", "RandomizedDelaySec"),
        ] {
            if let Some(span) = span(node, key) {
                unit.set(S, directive, Template::literal(format!("{}ms", span.as_ms())));
            }
        }
        if let Some(persistent) = node.get("persistent").and_then(Node::scalar) {
            unit.set(S, "Persistent", Template::literal(persistent.text.as_str()));
        }
        if let Some(name) = self.name_of::<UnitName>(node, "unit") {
            unit.set(S, "Unit", Template::literal(name.as_str()));
        }
    }
}

/// How a unit comes to run, where the manifest does not say it: by itself, at boot and now, or when its timer says so.
#[derive(Clone, Copy)]
pub(super) struct Course {
    pub(super) enable: bool,
    pub(super) start: bool,
    /// A timer of the manifest starts it.
    pub(super) timed: bool,
}

impl Course {
    pub(super) fn of(name: &str, node: &Node, timed: &BTreeSet<String>) -> Self {
        let timed = timed.contains(name);
        let said = |key: &str| match node.get(key).and_then(Node::scalar) {
            Some(scalar) => scalar.text == "true",
            None => !timed,
        };
        debug_assert!(matches!(node.value, Value::Map(_)), "a unit is a map");
        Self { enable: said("enable"), start: said("start"), timed }
    }
}
