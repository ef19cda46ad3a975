//! Which protocol an app's document needs of those who read it. An agent refuses a document with a field that it does not
//! know; whoever is about to send one asks here first. Beside `app`.

use serde_json::Value;

use super::AppSpec;

/// Where a map has keys of the operator's own, such as the names of units.
const ANY: &str = "*";

/// Every field of protocol 1, by the place of its object. Later fields are found by not being here, so that nobody has to
/// think of listing them. What is not here as a place is a value whose inside did not change.
const FIRST: [(&[&str], &[&str]); 9] = [
    (&[], &["app", "targets", "strategy", "host", "artifact", "env", "secrets", "units", "files", "hooks", "checks"]),
    (&["host"], &["packages", "users", "directories"]),
    (&["artifact"], &["digest", "size_bytes", "build"]),
    (&["artifact", "build"], &["user", "run", "env", "timeout"]),
    (&["units", ANY], &["text", "enable", "start", "adopt"]),
    (&["files", ANY], &["path", "content", "owner", "group", "mode", "validate", "reload", "restart", "adopt"]),
    (&["hooks", ANY], &["when", "run", "user", "timeout", "env"]),
    (&["checks", ANY], &["probe", "interval", "timeout"]),
    (
        &["strategy"],
        &["max_parallel", "min_healthy_time", "healthy_deadline", "progress_deadline", "max_failures", "on_failure"],
    ),
];

/// The same of protocol 2.
const SECOND: [(&[&str], &[&str]); 10] = [
    (
        &[],
        &[
            "app",
            "targets",
            "strategy",
            "host",
            "artifact",
            "env",
            "secrets",
            "units",
            "files",
            "hooks",
            "checks",
            "restart_budget",
        ],
    ),
    (&["host"], &["packages", "users", "directories", "swap_bytes"]),
    (&["artifact"], &["digest", "size_bytes", "build", "source"]),
    (&["artifact", "build"], &["user", "run", "env", "timeout"]),
    (&["units", ANY], &["text", "enable", "start", "adopt", "instances", "ports", "drift", "restart_budget"]),
    (
        &["files", ANY],
        &["path", "content", "owner", "group", "mode", "validate", "reload", "restart", "adopt", "drift"],
    ),
    (&["hooks", ANY], &["name", "when", "run", "user", "timeout", "env", "run_once"]),
    (&["checks", ANY], &["probe", "interval", "timeout"]),
    (&["checks", ANY, "probe"], &["http", "tcp", "command", "unit"]),
    (
        &["strategy"],
        &["max_parallel", "min_healthy_time", "healthy_deadline", "progress_deadline", "max_failures", "on_failure"],
    ),
];

/// The same of protocol 3.
const THIRD: [(&[&str], &[&str]); 14] = [
    (
        &[],
        &[
            "app",
            "targets",
            "strategy",
            "host",
            "artifact",
            "env",
            "secrets",
            "units",
            "containers",
            "compose",
            "files",
            "hooks",
            "checks",
            "certificates",
            "restart_budget",
        ],
    ),
    (&["host"], &["packages", "users", "directories", "swap_bytes"]),
    (&["artifact"], &["digest", "size_bytes", "build", "source"]),
    (&["artifact", "build"], &["user", "run", "env", "timeout"]),
    (
        &["units", ANY],
        &[
            "text",
            "enable",
            "start",
            "adopt",
            "instances",
            "ports",
            "drift",
            "restart_budget",
            "restart_on_change",
            "handover",
        ],
    ),
    (
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
    (&["containers", ANY, "limits"], &["memory_bytes", "cpu_millis", "pids", "ulimits", "shm_bytes"]),
    (
        &["containers", ANY, "rights"],
        &["privileged", "cap_add", "cap_drop", "read_only", "tmpfs", "host_namespaces", "devices"],
    ),
    (&["compose", ANY], &["directory", "files", "env_file", "profiles", "registries", "drift"]),
    (
        &["files", ANY],
        &["path", "content", "owner", "group", "mode", "validate", "reload", "restart", "adopt", "drift"],
    ),
    (&["hooks", ANY], &["name", "when", "run", "user", "timeout", "env", "run_once"]),
    (&["certificates", ANY], &["path", "key", "validate", "reload"]),
    (&["checks", ANY], &["probe", "interval", "timeout"]),
    (
        &["strategy"],
        &["max_parallel", "min_healthy_time", "healthy_deadline", "progress_deadline", "max_failures", "on_failure"],
    ),
];

impl AppSpec {
    /// A field that whoever speaks only `protocol` would refuse, e.g. `units.worker@.service.instances`; `None` = it can
    /// read all.
    #[must_use]
    pub fn unknown_to(&self, protocol: u32) -> Option<String> {
        let known: &[(&[&str], &[&str])] = match protocol {
            0 | 1 => &FIRST,
            2 => &SECOND,
            3 => &THIRD,
            _ => return None,
        };
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
