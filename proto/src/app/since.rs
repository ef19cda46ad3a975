//! Which protocol an app's document needs of those who read it. An agent refuses a document with a field that it does not
//! know; whoever is about to send one asks here first. Beside `app`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::AppSpec;

/// Where a map has keys of the operator's own, such as the names of units.
const ANY: &str = "*";

/// Fields by the protocol that brought them and the place of their object. Later ones are found by not being here, so that
/// nobody has to think of listing them. What is not here as a place is a value whose inside did not change.
const FIELDS: &[(u32, &[&str], &[&str])] = &[
    (
        1,
        &[],
        &["app", "targets", "strategy", "host", "artifact", "env", "secrets", "units", "files", "hooks", "checks"],
    ),
    (2, &[], &["restart_budget"]),
    (3, &[], &["containers", "compose", "certificates"]),
    (1, &["host"], &["packages", "users", "directories"]),
    (2, &["host"], &["swap_bytes"]),
    (1, &["artifact"], &["digest", "size_bytes", "build"]),
    (2, &["artifact"], &["source"]),
    (1, &["artifact", "build"], &["user", "run", "env", "timeout"]),
    (1, &["units", ANY], &["text", "enable", "start", "adopt"]),
    (2, &["units", ANY], &["instances", "ports", "drift", "restart_budget"]),
    (3, &["units", ANY], &["restart_on_change", "handover"]),
    (
        3,
        &["containers", ANY],
        &[
            "image",
            "credentials",
            "entrypoint",
            "command",
            "env",
            "environment",
            "secrets",
            "ports",
            "volumes",
            "networks",
            "limits",
            "rights",
            "user",
            "working_dir",
            "restart",
            "healthcheck",
            "logging",
            "stop_signal",
            "stop_grace_period",
            "labels",
            "drift",
            "restart_on_change",
            "handover",
        ],
    ),
    (4, &["containers", ANY], &["adopt"]),
    (3, &["containers", ANY, "limits"], &["memory_bytes", "cpu_millis", "pids", "ulimits", "shm_bytes"]),
    (
        3,
        &["containers", ANY, "rights"],
        &["privileged", "cap_add", "cap_drop", "read_only", "tmpfs", "host_namespaces", "devices"],
    ),
    (3, &["compose", ANY], &["directory", "files", "env_file", "profiles", "registries", "drift"]),
    (4, &["compose", ANY], &["adopt"]),
    (1, &["files", ANY], &["path", "content", "owner", "group", "mode", "validate", "reload", "restart", "adopt"]),
    (2, &["files", ANY], &["drift"]),
    (1, &["hooks", ANY], &["when", "run", "user", "timeout", "env"]),
    (2, &["hooks", ANY], &["name", "run_once"]),
    (3, &["certificates", ANY], &["path", "key", "validate", "reload"]),
    (1, &["checks", ANY], &["probe", "interval", "timeout"]),
    (1, &["checks", ANY, "probe"], &["http", "tcp", "command", "unit"]),
    (
        1,
        &["strategy"],
        &["max_parallel", "min_healthy_time", "healthy_deadline", "progress_deadline", "max_failures", "on_failure"],
    ),
];

/// The newest protocol whose fields are all in `FIELDS`.
const LISTED: u32 = 4;

impl AppSpec {
    /// A field that whoever speaks only `protocol` would refuse, e.g. `units.worker@.service.instances`; `None` = it can
    /// read all.
    #[must_use]
    pub fn unknown_to(&self, protocol: u32) -> Option<String> {
        if protocol > LISTED {
            return None;
        }
        let mut known = BTreeMap::<&[&str], Vec<&str>>::new();
        for (_, place, fields) in FIELDS.iter().filter(|(since, ..)| *since <= protocol.max(1)) {
            known.entry(place).or_default().extend(*fields);
        }
        let document = serde_json::to_value(self).ok()?;
        known.iter().find_map(|(place, fields)| later(&document, place, fields, String::new()))
    }
}

/// The first field at `place` that is none of `fields`; `path` is where `value` is.
fn later(value: &Value, place: &[&str], fields: &[&str], path: String) -> Option<String> {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let Some((next, rest)) = place.split_first() else {
        let unknown = value.as_object()?.keys().find(|key| !fields.contains(&key.as_str()))?;
        return Some(join(unknown));
    };
    match value {
        Value::Array(items) if *next == ANY => {
            items.iter().enumerate().find_map(|(i, item)| later(item, rest, fields, format!("{path}[{i}]")))
        }
        Value::Object(entries) if *next == ANY => {
            entries.iter().find_map(|(key, item)| later(item, rest, fields, join(key)))
        }
        Value::Object(entries) => later(entries.get(*next)?, rest, fields, join(next)),
        _ => None,
    }
}
