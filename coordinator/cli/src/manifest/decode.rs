//! Tree → `AppSpec`. Every reader reports what is wrong and goes on, so that all is known at once; what could not be
//! read is left out or stands as a placeholder, and no spec with a diagnostic is ever used.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use drover_proto::{
    app::{AppSpec, Artifact, Drift},
    digest::Digest,
    duration::Span,
    name::{AppName, EnvironmentName},
    source::Source,
    strategy::Strategy,
    template::{Argv, Template},
};

use super::{
    diagnostic::Reports,
    folder::Folder,
    holes::{Allow, Names, RESERVED},
    yaml::{At, Node},
};

mod alerts;
mod artifact;
mod compose;
mod container;
mod content;
mod env;
mod handover;
mod health;
mod host;
mod probe;
mod timer;
mod unit;

pub(super) use artifact::ArtifactSource;

/// What the readers share.
pub(super) struct Decoder<'a> {
    pub reports: &'a mut Reports,
    pub folder: &'a Folder,
    names: Names,
    /// Field of the spec → field of the manifest, where the two differ.
    origins: BTreeMap<String, (At, String)>,
}

/// What was read.
pub(super) struct Decoded {
    /// Complete only if nothing was reported.
    pub spec: AppSpec,
    /// What the artifact is to be packed from.
    pub artifact: Option<ArtifactSource>,
    /// Field of the spec → field of the manifest, where the two differ.
    pub origins: BTreeMap<String, (At, String)>,
}

/// Reads the whole (overlaid, filled) manifest.
pub(super) fn decode(
    root: &Node,
    environment: Option<&EnvironmentName>,
    folder: &Folder,
    reports: &mut Reports,
) -> Decoded {
    let mut decoder = Decoder { reports, folder, names: Names::default(), origins: BTreeMap::new() };
    let app = decoder.app(root, environment);
    decoder.declare(root, environment);
    let artifact_source = root.get("artifact").and_then(|node| decoder.artifact_source(node));
    let fetched = root.get("artifact").and_then(|node| decoder.fetched(node));
    let artifact = root.get("artifact").map(|node| {
        // Of what is packed they are known when it is packed.
        let (digest, source) = fetched.clone().unwrap_or((Digest::of(b""), Source::Pushed));
        Artifact { digest, size_bytes: 0, build: node.get("build").and_then(|build| decoder.build(build)), source }
    });
    let (env, mut secrets) = decoder.env(root);
    decoder.declare_credentials(root, artifact.as_ref(), &mut secrets);
    let containers = decoder.containers(root);
    decoder.declare_registries(root, &containers, &mut secrets);
    let (compose, composed) = decoder.compose(root);
    decoder.declare_of_projects(root, &compose, &mut secrets);
    let mut files = decoder.files(root);
    files.extend(composed);
    let spec = AppSpec {
        app,
        targets: decoder.targets(root),
        strategy: decoder.strategy(root),
        host: root.get("host").map(|node| decoder.host(node)).unwrap_or_default(),
        artifact,
        env,
        secrets,
        units: decoder.units(root),
        containers,
        compose,
        files,
        hooks: decoder.hooks(root),
        checks: decoder.checks(root),
        restart_budget: root.get("restart_budget").and_then(unit::restart_budget),
        certificates: decoder.certificates(root),
        alerts: decoder.alerts(root),
    };
    Decoded { spec, artifact: artifact_source, origins: decoder.origins }
}

impl Decoder<'_> {
    fn app(&mut self, root: &Node, environment: Option<&EnvironmentName>) -> AppName {
        let name = root.get("app").and_then(|node| {
            let text = &node.scalar()?.text;
            if text.contains('@') {
                self.reports.at(node, "an app's name has no @", "choose the environment with --env");
                return None;
            }
            self.parse::<AppName>(node, text)
        });
        let Some(name) = name.or_else(|| "unnamed".parse().ok()) else { unreachable!("a fixed name is a name") };
        self.names.app = name.to_string();
        environment.and_then(|e| name.in_environment(e).ok()).unwrap_or(name)
    }

    /// Learns what holes may refer to, and checks each variable once, used or not.
    fn declare(&mut self, root: &Node, environment: Option<&EnvironmentName>) {
        self.names.environment = environment.map(ToString::to_string);
        self.names.has_artifact = root.get("artifact").is_some();
        let secrets = root.get("env").and_then(|env| env.get("secrets"));
        self.names.secrets = secrets.into_iter().flat_map(Node::entries).map(|(key, _)| key.text.clone()).collect();
        let Some(vars) = root.get("vars") else { return };
        for (key, node) in vars.entries() {
            let mut chars = key.text.chars();
            let named = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            if !named || RESERVED.contains(&key.text.as_str()) {
                let why = if named { "is a word of drover's own" } else { "is no name for a variable" };
                let hint = "use a letter or '_', then letters, digits, '_' and '-'".to_owned();
                self.reports.say(key.at, &node.path, format!("{:?} {why}", key.text), (!named).then_some(hint));
            }
            if let Some(scalar) = node.scalar() {
                self.names.vars.insert(key.text.clone(), scalar.text.clone());
            }
        }
        for (_, node) in vars.entries() {
            self.template(node, Allow::SECRET);
        }
    }

    fn targets(&mut self, root: &Node) -> BTreeMap<drover_proto::name::LabelKey, drover_proto::name::LabelValue> {
        let labels = root.get("targets").and_then(|targets| targets.get("labels"));
        let mut found = BTreeMap::new();
        for (key, node) in labels.into_iter().flat_map(Node::entries) {
            let name = self.parse_at(key.at, &node.path, &key.text);
            if let (Some(name), Some(value)) = (name, self.name(node)) {
                found.insert(name, value);
            }
        }
        found
    }

    fn strategy(&mut self, root: &Node) -> Strategy {
        let mut strategy = Strategy::default();
        let Some(node) = root.get("strategy") else { return strategy };
        // Whatever does not parse has been reported by the table's types.
        fn set<T: FromStr>(node: &Node, key: &str, place: &mut T) {
            if let Some(value) = node.get(key).and_then(Node::scalar).and_then(|s| s.text.parse().ok()) {
                *place = value;
            }
        }
        set(node, "max_parallel", &mut strategy.max_parallel);
        set(node, "min_healthy_time", &mut strategy.min_healthy_time);
        set(node, "healthy_deadline", &mut strategy.healthy_deadline);
        set(node, "progress_deadline", &mut strategy.progress_deadline);
        set(node, "max_failures", &mut strategy.max_failures);
        strategy.on_failure = match node.get("on_failure").and_then(Node::scalar).map(|s| s.text.as_str()) {
            Some("pause") => drover_proto::strategy::OnFailure::Pause,
            Some("continue") => drover_proto::strategy::OnFailure::Continue,
            _ => drover_proto::strategy::OnFailure::Rollback,
        };
        strategy
    }

    /// Reports what `text` is not, at a place.
    fn parse_at<T: FromStr<Err: Display>>(&mut self, at: At, path: &str, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.reports.say(at, path, error.to_string(), None);
                None
            }
        }
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, node: &Node, text: &str) -> Option<T> {
        self.parse_at(node.at, &node.path, text)
    }

    /// A text with holes. Reports those it may not have; then the template lacks them.
    fn template(&mut self, node: &Node, allow: Allow) -> Option<Template> {
        let scalar = node.scalar()?;
        let (template, faults) = self.names.template(&scalar.text, allow);
        let good = faults.is_empty();
        for fault in faults {
            self.reports.at_hole(node, fault.nth, fault.message, fault.hint);
        }
        good.then_some(template)
    }

    /// A text that has no holes left once the manifest's variables are in.
    fn plain(&mut self, node: &Node) -> Option<String> {
        self.template(node, Allow::PLAIN).map(|template| template.plain_text())
    }

    /// A name of some kind, perhaps with variables.
    fn name<T: FromStr<Err: Display>>(&mut self, node: &Node) -> Option<T> {
        let text = self.plain(node)?;
        self.parse(node, &text)
    }

    /// The name under `key`, if it is there.
    fn name_of<T: FromStr<Err: Display>>(&mut self, node: &Node, key: &str) -> Option<T> {
        node.get(key).and_then(|value| self.name(value))
    }

    /// The names of one value or a list.
    fn names<T: FromStr<Err: Display>, C: FromIterator<T>>(&mut self, node: Option<&Node>) -> C {
        one_or_many(node).into_iter().filter_map(|item| self.name(item)).collect()
    }

    /// A text of one line that becomes a line of a unit or an env file.
    fn line(&mut self, node: &Node, allow: Allow) -> Option<Template> {
        let block = node.scalar()?.block;
        let mut template = self.template(node, allow)?;
        if block && let Some(drover_proto::template::Segment::Text(text)) = template.0.last_mut() {
            // What | and > end in is YAML's, not the user's.
            text.truncate(text.trim_end_matches('\n').len());
        }
        let text = template.plain_text();
        let bad = text.chars().find(|c| c.is_control() && *c != '\t');
        if let Some(c) = bad {
            let what = if matches!(c, '\n' | '\r') {
                "a line break".to_owned()
            } else {
                format!("the control character {c:?}")
            };
            let hint = "this becomes one line on the host, and what follows would be read as another setting; to fold a \
                        long text into one line write >- instead of |";
            self.reports.at(node, format!("holds {what}"), hint);
            return None;
        }
        // An env file quotes its values; a unit's lines are as they are.
        if text.ends_with('\\') && !node.path.starts_with("env.") {
            self.reports.at(node, "ends in a backslash", "the next line on the host would be joined to it");
            return None;
        }
        Some(template)
    }

    /// A program and its arguments.
    fn argv(&mut self, node: &Node, allow: Allow) -> Argv {
        node.items().iter().filter_map(|item| self.template(item, allow)).collect()
    }
}

/// The items of a list, or the one value.
fn one_or_many(node: Option<&Node>) -> Vec<&Node> {
    match node {
        Some(node) if matches!(node.value, super::yaml::Value::List(_)) => node.items().iter().collect(),
        other => other.into_iter().collect(),
    }
}

fn flag(node: &Node, key: &str) -> bool {
    node.get(key).and_then(Node::scalar).is_some_and(|s| s.text == "true")
}

fn drift(node: &Node) -> Drift {
    match node.get("drift").and_then(Node::scalar).map(|s| s.text.as_str()) {
        Some("report") => Drift::Report,
        Some("ignore") => Drift::Ignore,
        _ => Drift::Repair,
    }
}

fn span(node: &Node, key: &str) -> Option<Span> {
    node.get(key)?.scalar()?.text.parse().ok()
}

fn mode(node: &Node) -> u32 {
    node.get("mode").and_then(Node::scalar).and_then(|s| super::shape::mode(&s.text)).unwrap_or_default()
}
