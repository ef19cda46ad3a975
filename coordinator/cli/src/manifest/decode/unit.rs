//! Reads `units`: verbatim text, or typed fields, which `unit_text` writes out as a unit file.

use std::collections::BTreeMap;

use drover_proto::{
    app::{Certificate, Content, RestartBudget, Signal, Unit, Watch},
    name::{EnvKey, UnitName, UserName},
    template::Template,
};

use super::{
    Decoder, drift, flag, one_or_many, span,
    timer::{self, Course},
};
use crate::manifest::{
    holes::Allow,
    unit_text::{UnitText, escape_percent, quote},
    yaml::{Node, Value},
};

/// Fields that go with every form of a unit.
const COMMON: [&str; 13] = [
    "text",
    "from",
    "enable",
    "start",
    "adopt",
    "instances",
    "ports",
    "drift",
    "restart_budget",
    "restart_on_change",
    "handover",
    "upstream",
    "drain",
];
/// Fields of any kind of typed unit; all others are a service's.
const GENERAL: [&str; 5] = ["description", "after", "wants", "requires", "options"];

/// A field, systemd's setting, what its text must be, and that in words.
type Limit = (&'static str, &'static str, fn(&str) -> bool, &'static str);

impl Decoder<'_> {
    pub(super) fn units(&mut self, root: &Node) -> BTreeMap<UnitName, Unit> {
        let has_env = root.get("env").is_some_and(|env| {
            ["values", "secrets"].iter().any(|k| env.get(k).is_some_and(|map| !map.entries().is_empty()))
        });
        let timed = timer::started(root);
        let mut units = BTreeMap::new();
        for (key, node) in root.get("units").into_iter().flat_map(Node::entries) {
            let name: Option<UnitName> = self.parse_at(key.at, &node.path, &key.text);
            if !matches!(node.value, Value::Map(_)) {
                continue;
            }
            let course = Course::of(&key.text, node, &timed);
            let text = match (node.get("text"), node.get("from")) {
                (None, None) => self.typed(name.as_ref().map_or("a.service", UnitName::as_str), node, course, has_env),
                (verbatim, from) => self.verbatim(node, verbatim, from, course),
            };
            let (Course { enable, start, .. }, adopt) = (course, flag(node, "adopt"));
            let (instances, ports) = (self.names(node.get("instances")), self.names(node.get("ports")));
            let stem = key.text.rsplit_once('.').map_or(key.text.as_str(), |(stem, _)| stem);
            let handover = self.handover(stem, node);
            if let Some(name) = name {
                let (drift, restart_budget) = (drift(node), node.get("restart_budget").and_then(restart_budget));
                let (text, restart_on_change) = (text.unwrap_or_default(), self.watch(node));
                let unit = Unit {
                    text,
                    enable,
                    start,
                    adopt,
                    instances,
                    ports,
                    drift,
                    restart_budget,
                    restart_on_change,
                    handover,
                };
                units.insert(name, unit);
            }
        }
        units
    }

    fn verbatim(&mut self, node: &Node, text: Option<&Node>, from: Option<&Node>, course: Course) -> Option<Template> {
        for (key, value) in node.entries().iter().filter(|(key, _)| !COMMON.contains(&key.text.as_str())) {
            let message = format!("{} cannot stand beside a verbatim unit", key.text);
            self.reports.at(value, message, "write it into the unit's text, or describe the whole unit by fields");
        }
        let (template, place) = match (text, from) {
            (Some(text), None) => (self.template(text, Allow::PORT)?, text),
            (None, Some(from)) => match self.content_from(from, Some(Allow::PORT))? {
                Content::Text(template) => (template, from),
                Content::Base64(_) => {
                    self.reports.at(from, "is not text", "a unit file is UTF-8 text");
                    return None;
                }
            },
            _ => {
                self.reports.at(node, "has both text and from", "keep one of the two");
                return None;
            }
        };
        let plain = template.plain_text();
        if plain.contains('\0') {
            self.reports.at(place, "holds a NUL character", "");
        }
        let installs = plain.lines().any(|line| line.trim() == "[Install]");
        if course.enable && !installs {
            self.reports.at(
                place,
                "has no [Install] section, so it cannot be enabled",
                "add one, or say enable: false",
            );
        }
        Some(template)
    }

    fn typed(&mut self, name: &str, node: &Node, course: Course, has_env: bool) -> Option<Template> {
        let before = self.reports.list.len();
        let mut unit = UnitText::default();
        self.unit_section(node, &mut unit);
        let (is_service, is_timer) = (name.ends_with(".service"), name.ends_with(".timer"));
        for (key, value) in node.entries() {
            let key = key.text.as_str();
            let of_timers = timer::FIELDS.contains(&key);
            let general = COMMON.contains(&key) || GENERAL.contains(&key);
            let fits = general || if of_timers { is_timer } else { is_service };
            if !fits && crate::manifest::table::UNIT.field(key).is_some() {
                let kind = if of_timers { "timer" } else { "service" };
                let hint = "for other kinds of units use options: { Section: { Key: value } }";
                self.reports.at(value, format!("{key} is a field of .{kind} units"), hint);
            }
        }
        if is_service {
            self.service_section(node, &mut unit, course, has_env);
        } else if is_timer && self.reports.list.len() == before {
            self.timer_section(node, &mut unit);
        }
        self.options(node, &mut unit);
        if course.enable && !unit.has_section("Install") {
            unit.set("Install", "WantedBy", Template::literal(wanted_by(name)));
        }
        (self.reports.list.len() == before).then(|| unit.finish())
    }

    fn unit_section(&mut self, node: &Node, unit: &mut UnitText) {
        let description = match node.get("description") {
            Some(node) => self.line(node, Allow::PORT),
            None => Some(Template::literal(&self.names.app)),
        };
        if let Some(description) = description {
            unit.set("Unit", "Description", escape_percent(description));
        }
        for (key, directive) in [("after", "After"), ("wants", "Wants"), ("requires", "Requires")] {
            let names: Vec<UnitName> = self.names(node.get(key));
            if !names.is_empty() {
                unit.set_words("Unit", directive, &names);
            }
        }
    }

    fn service_section(&mut self, node: &Node, unit: &mut UnitText, course: Course, has_env: bool) {
        const S: &str = "Service";
        let word = |key: &str| node.get(key).and_then(Node::scalar).map(|s| s.text.clone());
        unit.set(
            S,
            "Type",
            Template::literal(word("type").unwrap_or_else(|| if course.timed { "oneshot" } else { "exec" }.into())),
        );
        for (key, directive) in [("user", "User"), ("group", "Group")] {
            if let Some(name) = self.name_of::<UserName>(node, key) {
                unit.set(S, directive, Template::literal(name.as_str()));
            }
        }
        match node.get("working_directory") {
            Some(directory) => self.directive(unit, S, "WorkingDirectory", directory),
            None if self.names.has_artifact => {
                unit.set(S, "WorkingDirectory", hole(drover_proto::template::Hole::Release))
            }
            None => {}
        }
        if has_env {
            unit.set(S, "EnvironmentFile", hole(drover_proto::template::Hole::EnvFile));
        }
        self.environment(node, unit);
        for command in one_or_many(node.get("exec_start_pre")) {
            self.command(unit, "ExecStartPre", command);
        }
        self.exec(node, unit);
        if let Some(command) = node.get("exec_reload") {
            self.command(unit, "ExecReload", command);
        }
        if let Some(restart) = word("restart") {
            unit.set(S, "Restart", Template::literal(restart));
        }
        for (key, directive) in [
            ("restart_sec", "RestartSec"),
            ("timeout_start", "TimeoutStartSec"),
            ("timeout_stop", "TimeoutStopSec"),
            ("watchdog", "WatchdogSec"),
        ] {
            if let Some(span) = span(node, key) {
                unit.set(S, directive, Template::literal(format!("{}ms", span.as_ms())));
            }
        }
        self.limits(node, unit);
    }

    fn limits(&mut self, node: &Node, unit: &mut UnitText) {
        const LIMITS: [Limit; 4] = [
            ("memory_max", "MemoryMax", is_size, "bytes with K, M, G or T, a percentage, or infinity"),
            ("cpu_quota", "CPUQuota", |t| t.strip_suffix('%').is_some_and(is_number), "a percentage: 100% is one core"),
            ("nofile", "LimitNOFILE", |t| t == "infinity" || is_number(t), "a number, or infinity"),
            (
                "tasks_max",
                "TasksMax",
                |t| t == "infinity" || is_number(t.trim_end_matches('%')),
                "a number, or infinity",
            ),
        ];
        if let Some(signal) = node.get("kill_signal")
            && let Some(text) = self.plain(signal)
        {
            if text.starts_with("SIG")
                && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'+')
            {
                unit.set("Service", "KillSignal", Template::literal(text));
            } else {
                self.reports.at(signal, format!("{text:?} is no signal"), "write its name, such as SIGTERM or SIGINT");
            }
        }
        let Some(limits) = node.get("limits") else { return };
        for (key, directive, fits, hint) in LIMITS {
            let Some(value) = limits.get(key) else { continue };
            let Some(text) = self.plain(value) else { continue };
            if fits(&text) {
                unit.set("Service", directive, Template::literal(text));
            } else {
                self.reports.at(value, format!("{text:?} is no value for it"), format!("write {hint}"));
            }
        }
    }

    fn directive(&mut self, unit: &mut UnitText, section: &str, key: &str, node: &Node) {
        if let Some(value) = self.line(node, Allow::PORT) {
            unit.set(section, key, value);
        }
    }

    /// A command line as systemd reads it; it would refuse a relative path only on the host.
    fn command(&mut self, unit: &mut UnitText, key: &str, node: &Node) {
        let Some(line) = self.line(node, Allow::PORT) else { return };
        if let Some(drover_proto::template::Segment::Text(text)) = line.0.first() {
            let program = text.trim_start_matches(['@', '-', ':', '+', '!', '|', '"', '\'', ' ']);
            let program = program.split_whitespace().next().unwrap_or_default();
            if program.contains('/') && !program.starts_with(['/', '%']) {
                let hint = format!(
                    "for a program of the artifact write {{{{ release }}}}/{}",
                    program.trim_start_matches("./")
                );
                self.reports.at(node, format!("{program} is a relative path"), hint);
            }
        }
        unit.set("Service", key, line);
    }

    fn environment(&mut self, node: &Node, unit: &mut UnitText) {
        for (key, value) in node.get("environment").into_iter().flat_map(Node::entries) {
            let name: Option<EnvKey> = self.parse_at(key.at, &value.path, &key.text);
            if let (Some(name), Some(text)) = (name, self.line(value, Allow::PORT)) {
                let mut assignment = Template::literal(format!("{name}="));
                assignment.0.extend(text.0);
                unit.set("Service", "Environment", quote(&assignment, false));
            }
        }
    }

    fn exec(&mut self, node: &Node, unit: &mut UnitText) {
        let Some(exec) = node.get("exec") else {
            let hint = "a service needs exec: COMMAND, or text: or from: with the whole unit";
            return self.reports.at(node, "exec is missing", hint);
        };
        if !matches!(exec.value, Value::List(_)) {
            if exec.scalar().is_some_and(|s| s.text.trim().is_empty()) {
                self.reports.at(exec, "names no program", "for example exec: /usr/bin/mono --port 80");
            }
            return self.command(unit, "ExecStart", exec);
        }
        let mut words = Vec::new();
        for (i, item) in exec.items().iter().enumerate() {
            let Some(word) = self.line(item, Allow::PORT) else { continue };
            if i == 0 && word.plain_text().starts_with(['@', '-', ':', '+', '!', '|']) {
                let hint = "systemd gives it a special meaning there: to use that, write exec as one text";
                self.reports.at(item, "a program cannot begin with that character", hint);
            }
            words.push(quote(&word, true));
        }
        if words.is_empty() {
            self.reports.at(exec, "names no program", "the first item is the program");
        }
        unit.set("Service", "ExecStart", join_words(words));
    }

    fn options(&mut self, node: &Node, unit: &mut UnitText) {
        for (section, keys) in node.get("options").into_iter().flat_map(Node::entries) {
            if !is_word(&section.text) {
                self.reports.say(section.at, &keys.path, format!("{:?} is no section's name", section.text), None);
                continue;
            }
            for (key, values) in keys.entries() {
                if !is_word(&key.text) {
                    self.reports.say(key.at, &values.path, format!("{:?} is no setting's name", key.text), None);
                } else if unit.is_typed(&section.text, &key.text) && key.text != "Environment" {
                    let hint = "say it once, preferably there".to_owned();
                    let message = format!("{} is set by a field of the unit already", key.text);
                    self.reports.say(key.at, &values.path, message, Some(hint));
                } else {
                    for value in one_or_many(Some(values)) {
                        if let Some(text) = self.line(value, Allow::PORT) {
                            unit.add_option(&section.text, &key.text, text);
                        }
                    }
                }
            }
        }
    }
}

impl Decoder<'_> {
    /// `restart_on_change` of a unit or a container. What does not parse has been reported by the table's types.
    pub(super) fn watch(&mut self, node: &Node) -> Option<Watch> {
        let node = node.get("restart_on_change")?;
        let word = node.get("signal").and_then(Node::scalar).map(|scalar| scalar.text.as_str());
        let signal = Signal::ALL.into_iter().find(|signal| Some(signal.word()) == word);
        Some(Watch { paths: self.names(node.get("paths")), signal, debounce: span(node, "debounce")? })
    }
}

impl Decoder<'_> {
    pub(super) fn certificates(&mut self, root: &Node) -> Vec<Certificate> {
        let mut certificates = Vec::new();
        for node in root.get("certificates").into_iter().flat_map(Node::items) {
            let (path, key) = (self.name_of(node, "path"), self.name_of(node, "key"));
            let validate = node.get("validate").map(|argv| self.argv(argv, Allow::PLAIN));
            let reload = self.names(node.get("reload"));
            certificates.extend(path.map(|path| Certificate { path, key, validate, reload }));
        }
        certificates
    }
}

/// What does not parse has been reported by the table's types.
pub(super) fn restart_budget(node: &Node) -> Option<RestartBudget> {
    let attempts = node.get("attempts")?.scalar()?.text.parse().ok()?;
    Some(RestartBudget { attempts, window: span(node, "window")?, backoff: span(node, "backoff")? })
}

fn hole(hole: drover_proto::template::Hole) -> Template {
    Template(vec![drover_proto::template::Segment::Hole(hole)])
}

fn join_words(words: Vec<Template>) -> Template {
    let mut line = Template::default();
    for (i, word) in words.into_iter().enumerate() {
        if i > 0 {
            line.0.extend(Template::literal(" ").0);
        }
        line.0.extend(word.0);
    }
    line
}

fn wanted_by(unit: &str) -> &'static str {
    match unit.rsplit('.').next() {
        Some("timer") => "timers.target",
        Some("socket") => "sockets.target",
        Some("path") => "paths.target",
        _ => "multi-user.target",
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_size(text: &str) -> bool {
    text == "infinity" || is_number(text.strip_suffix(['K', 'M', 'G', 'T', '%']).unwrap_or(text))
}
