//! Reads `env`: values, and where secrets come from.

use std::collections::BTreeMap;

use drover_proto::{
    app::SecretSource,
    name::{EnvKey, SecretName},
    template::{Hole, Segment, Template},
};

use super::Decoder;
use crate::manifest::{holes::Allow, yaml::Node};

impl Decoder<'_> {
    pub(super) fn env(&mut self, root: &Node) -> (BTreeMap<EnvKey, Template>, BTreeMap<SecretName, SecretSource>) {
        let (mut env, mut secrets) = (BTreeMap::new(), BTreeMap::new());
        let Some(node) = root.get("env") else { return (env, secrets) };
        for (key, value) in node.get("values").into_iter().flat_map(Node::entries) {
            let name: Option<EnvKey> = self.parse_at(key.at, &value.path, &key.text);
            let template = self.line(value, Allow::SECRET).unwrap_or_default();
            if let Some(name) = name {
                self.origins.insert(format!("env.{name}"), (value.at, value.path.clone()));
                env.insert(name, template);
            }
        }
        for (key, value) in node.get("secrets").into_iter().flat_map(Node::entries) {
            let name: Option<EnvKey> = self.parse_at(key.at, &value.path, &key.text);
            let source = self.secret(value);
            let Some((name, secret)) = name.and_then(|n| Some((n, key.text.parse::<SecretName>().ok()?))) else {
                continue;
            };
            if env.contains_key(&name) {
                let hint = "keep it under one of the two".to_owned();
                self.reports.say(key.at, &value.path, format!("{name} is under env.values too"), Some(hint));
            }
            env.insert(name, Template(vec![Segment::Hole(Hole::Secret(secret.clone()))]));
            secrets.insert(secret, source);
        }
        (env, secrets)
    }

    /// Where one secret comes from; something harmless when that is not said right.
    fn secret(&mut self, node: &Node) -> SecretSource {
        const PLACEHOLDER: SecretSource = SecretSource::Generate(32);
        match (node.get("generate"), node.get("secret")) {
            (Some(bytes), None) => {
                let bytes = bytes.scalar().and_then(|s| s.text.parse().ok());
                bytes.filter(|n| (16..=1024).contains(n)).map_or(PLACEHOLDER, SecretSource::Generate)
            }
            (None, Some(stored)) => self.name(stored).map_or(PLACEHOLDER, SecretSource::Stored),
            _ => {
                let hint = "write { generate: 32 }, or { secret: NAME } for one stored with `drover secret set NAME`";
                if matches!(node.value, crate::manifest::yaml::Value::Map(_)) {
                    self.reports.at(node, "needs either generate or secret", hint);
                }
                PLACEHOLDER
            }
        }
    }
}
