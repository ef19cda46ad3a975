//! Reads `hooks` and `checks`; `probe` has what a check looks at.

use std::collections::BTreeMap;

use drover_proto::{
    app::{Check, Hook, HookPoint, HttpProbe},
    name::CheckName,
    template::Template,
};

use super::{Decoder, flag, span};
use crate::manifest::{
    holes::Allow,
    yaml::{Node, Value},
};

impl Decoder<'_> {
    pub(super) fn hooks(&mut self, root: &Node) -> Vec<Hook> {
        let mut hooks = Vec::new();
        for (key, when) in [("before_switch", HookPoint::BeforeSwitch), ("after_switch", HookPoint::AfterSwitch)] {
            let list = root.get("hooks").and_then(|node| node.get(key));
            for item in list.into_iter().flat_map(Node::items) {
                let run = item.get("run").map(|argv| self.argv(argv, Allow::HOST));
                let user = self.name_of(item, "user");
                let env = self.names(item.get("env"));
                let name = item.get("name").and_then(|_| self.name_of(item, "name"));
                let run_once = flag(item, "run_once");
                if let (Some(run), Some(user), Some(timeout)) = (run, user, span(item, "timeout")) {
                    self.origin(format!("hooks[{}]", hooks.len()), item);
                    hooks.push(Hook { name, when, run, user, timeout, env, run_once });
                }
            }
        }
        hooks
    }

    pub(super) fn checks(&mut self, root: &Node) -> BTreeMap<CheckName, Check> {
        let mut checks = BTreeMap::new();
        for (key, node) in root.get("checks").into_iter().flat_map(Node::entries) {
            let name = self.parse_at(key.at, &node.path, &key.text);
            let probe = self.probe(node);
            let (interval, timeout) = (span(node, "interval"), span(node, "timeout"));
            let number = |key| node.get(key).and_then(Node::scalar).and_then(|it| it.text.parse().ok()).unwrap_or(1);
            let (rise, fall) = (number("rise"), number("fall"));
            let start_period = span(node, "start_period").unwrap_or_default();
            let restart = node.get("restart").and_then(|it| self.restarted(it, root));
            if let (Some(name), Some(probe), Some(interval), Some(timeout)) = (name, probe, interval, timeout) {
                checks.insert(name, Check { probe, interval, timeout, rise, fall, start_period, restart });
            }
        }
        checks
    }

    pub(super) fn http(&mut self, node: &Node, target: &Node) -> Option<HttpProbe> {
        let url = self.line(target, Allow::PORT);
        let headers = self.headers(node.get("header"), Allow::PORT);
        let mut probe = HttpProbe {
            url: Template::default(),
            method: node.get("method").and_then(|n| self.plain(n)).unwrap_or_else(|| "GET".into()),
            headers,
            status: None,
            expect_headers: BTreeMap::new(),
            body_contains: None,
            json: BTreeMap::new(),
        };
        if let Some(expect) = node.get("expect") {
            probe.status = expect.get("status").and_then(Node::scalar).and_then(|s| s.text.parse().ok());
            probe.expect_headers = self
                .headers(expect.get("header"), Allow::PLAIN)
                .into_iter()
                .map(|(name, value)| (name, value.plain_text()))
                .collect();
            probe.body_contains = expect.get("body").and_then(|n| self.plain(n));
            for (key, value) in expect.get("json").into_iter().flat_map(Node::entries) {
                let path = json_path(&key.text);
                if let Err(error) = serde_json_path::JsonPath::parse(&path) {
                    let hint = "write a name such as status, or JSONPath (RFC 9535) from $".to_owned();
                    self.reports.say(
                        key.at,
                        &value.path,
                        format!("{:?} is no JSON path: {error}", key.text),
                        Some(hint),
                    );
                }
                if let Some(wanted) = self.json(value) {
                    probe.json.insert(path, wanted);
                }
            }
        }
        probe.url = url?;
        Some(probe)
    }

    fn headers(&mut self, node: Option<&Node>, allow: Allow) -> BTreeMap<String, Template> {
        let mut headers = BTreeMap::new();
        for (key, value) in node.into_iter().flat_map(Node::entries) {
            let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if key.text.is_empty() || !key.text.chars().all(is_token) {
                self.reports.say(key.at, &value.path, format!("{:?} is no header's name", key.text), None);
            }
            if let Some(text) = self.line(value, allow) {
                headers.insert(key.text.clone(), text);
            }
        }
        headers
    }

    /// A value to compare with, as JSON; texts may have variables.
    fn json(&mut self, node: &Node) -> Option<serde_json::Value> {
        Some(match &node.value {
            Value::List(items) => items.iter().map(|item| self.json(item)).collect::<Option<_>>()?,
            Value::Map(entries) => {
                let pairs = entries.iter().map(|(key, value)| Some((key.text.clone(), self.json(value)?)));
                serde_json::Value::Object(pairs.collect::<Option<_>>()?)
            }
            Value::Scalar(scalar) if scalar.is_null() => serde_json::Value::Null,
            Value::Scalar(scalar) => {
                // A JSON number or truth value means the same in YAML, if nobody quoted it.
                let bare = scalar.plain.then(|| serde_json::from_str(&scalar.text).ok()).flatten();
                match bare {
                    Some(value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => value,
                    _ => serde_json::Value::String(self.plain(node)?),
                }
            }
        })
    }
}

/// `data.ready` is short for `$.data.ready`; names that JSONPath could not have so are quoted.
fn json_path(text: &str) -> String {
    if text.starts_with('$') {
        return text.to_owned();
    }
    if text.starts_with('[') {
        return format!("${text}");
    }
    let mut path = "$".to_owned();
    for part in text.split('.') {
        let (name, index) = part.find('[').map_or((part, ""), |at| part.split_at(at));
        path.push_str(&format!("[{}]{index}", serde_json::Value::String(name.to_owned())));
    }
    path
}
