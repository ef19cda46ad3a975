//! YAML text → a tree of nodes that know where they stand. The only module that knows the YAML parser.
//!
//! granit-parser is the parser beneath serde-saphyr. It is used itself, because a `Deserialize` type ends at the first
//! fault, and does not tell how a scalar was written (`0644`, `1.10` and `no` mean what they say here, not numbers).

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, Parser, ScalarStyle};

use super::diagnostic::Reports;

/// The largest manifest, in bytes.
pub(super) const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Nodes in all, those that aliases repeat counted each time.
const MAX_NODES: usize = 50_000;
/// Lists and maps within each other.
const MAX_DEPTH: usize = 40;

/// A place in the manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct At {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Byte offset of the first character.
    pub start: usize,
    /// Byte offset behind the last one.
    pub end: usize,
}

/// A value of the manifest.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Node {
    /// What it is.
    pub value: Value,
    /// Where it is.
    pub at: At,
    /// Its field's path as written, e.g. `environments.staging.vars.domain`.
    pub path: String,
}

/// The three shapes of YAML.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    /// Text, a number, a truth value or nothing: how it was written.
    Scalar(Scalar),
    /// In order.
    List(Vec<Node>),
    /// In order; every key once.
    Map(Vec<(Key, Node)>),
}

/// A scalar as its text.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Scalar {
    /// After YAML's own escapes and folding.
    pub text: String,
    /// Written without quotes: then `true`, `5` and nothing at all have a meaning.
    pub plain: bool,
    /// Written as `|` or `>`: then it ends in a line break that nobody meant.
    pub block: bool,
}

/// The key of a map.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Key {
    /// Its text.
    pub text: String,
    /// Where it is.
    pub at: At,
}

impl Node {
    /// The value under `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }
    /// The entries of a map; none if it is something else.
    pub fn entries(&self) -> &[(Key, Self)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }
    /// The items of a list; none if it is something else.
    pub fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }
    /// The scalar, unless it stands for nothing (`~`, `null`, or no text at all).
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) if !scalar.is_null() => Some(scalar),
            _ => None,
        }
    }
    /// What it is, for a message.
    pub fn shape(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(scalar) if scalar.plain && matches!(scalar.text.as_str(), "true" | "false") => {
                "true or false"
            }
            Value::Scalar(scalar) if scalar.plain && scalar.text.parse::<f64>().is_ok() => "a number",
            Value::Scalar(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
    /// Gives this node and all below it their paths.
    fn name(&mut self, path: String) {
        match &mut self.value {
            Value::Scalar(_) => {}
            Value::List(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    item.name(format!("{path}[{i}]"));
                }
            }
            Value::Map(entries) => {
                for (key, node) in entries {
                    node.name(join(&path, &key.text));
                }
            }
        }
        self.path = path;
    }
}

/// The path of a field below another.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Scalar {
    /// Whether it stands for nothing.
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// The tree of the manifest in `reports.source`; `None` when it cannot be read at all. Everything wrong is reported.
pub(super) fn parse(reports: &mut Reports) -> Option<Node> {
    let text = reports.source.text.clone();
    let mut builder = Builder { parser: Parser::new_from_str(&text), reports, anchors: BTreeMap::new(), nodes: 0 };
    let mut root = builder.document()?;
    root.name(String::new());
    Some(root)
}

/// The parser has stopped, and the reason is reported.
struct Stopped;

struct Builder<'t, 'r> {
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    reports: &'r mut Reports,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

fn place(span: &granit_parser::Span) -> At {
    At {
        line: span.start.line(),
        column: span.start.col() + 1,
        start: span.start.byte_offset().unwrap_or_default(),
        end: span.end.byte_offset().unwrap_or_default(),
    }
}

impl<'t> Builder<'t, '_> {
    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        loop {
            let (event, at) = self.next().ok()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                _ if root.is_some() => {
                    self.say(at, "a second document begins here", "one file holds one manifest: remove the line ---");
                    return None;
                }
                event => root = Some(self.node(event, at, 0).ok()?),
            }
        }
        if root.is_none() {
            self.say(At { line: 1, column: 1, ..At::default() }, "the manifest is empty", "begin with version: 1");
        }
        root
    }

    fn say(&mut self, at: At, message: impl Into<String>, hint: &str) {
        self.reports.say(at, "", message, (!hint.is_empty()).then(|| hint.to_owned()));
    }

    fn next(&mut self) -> Result<(Event<'t>, At), Stopped> {
        loop {
            match self.parser.next_event() {
                Some(Ok((event, span))) => {
                    if event.tag().is_some() {
                        self.say(place(&span), "tags such as !name are not used in manifests", "remove the tag");
                    }
                    // Comments are the events that are no part of the tree.
                    if event.is_node() || is_structure(&event) {
                        return Ok((event, place(&span)));
                    }
                }
                Some(Err(error)) => {
                    let mark = error.marker();
                    let at = At {
                        line: mark.line(),
                        column: mark.col() + 1,
                        start: mark.byte_offset().unwrap_or_default(),
                        end: 0,
                    };
                    self.say(at, format!("this is not YAML: {}", error.info()), "");
                    return Err(Stopped);
                }
                None => return Ok((Event::StreamEnd, At::default())),
            }
        }
    }

    fn count(&mut self, at: At, more: usize) -> Result<(), Stopped> {
        self.nodes += more;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        self.say(
            at,
            format!("the manifest has more than {MAX_NODES} values"),
            "aliases (*name) count with all they hold",
        );
        Err(Stopped)
    }

    fn node(&mut self, event: Event<'t>, at: At, depth: usize) -> Result<Node, Stopped> {
        self.count(at, 1)?;
        if depth > MAX_DEPTH {
            self.say(at, format!("more than {MAX_DEPTH} levels within each other"), "");
            return Err(Stopped);
        }
        let anchor = event.anchor_id();
        let value = match event {
            Event::Scalar(text, style, ..) => Value::Scalar(Scalar {
                text: text.into_owned(),
                plain: style == ScalarStyle::Plain,
                block: matches!(style, ScalarStyle::Literal | ScalarStyle::Folded),
            }),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    self.say(at, "an alias within the very value that it stands for", "");
                    return Err(Stopped);
                };
                self.count(at, size(&node))?;
                return Ok(node);
            }
            _ => {
                self.say(at, "this is not YAML: a value was expected", "");
                return Err(Stopped);
            }
        };
        let node = Node { value, at, path: String::new() };
        if let Some(id) = anchor {
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Stopped> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Stopped> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = BTreeSet::new();
        loop {
            let (event, key_at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(entries));
            }
            let key = self.node(event, key_at, depth + 1)?;
            let (event, at) = self.next()?;
            let node = self.node(event, at, depth + 1)?;
            let Value::Scalar(scalar) = key.value else {
                self.say(key_at, "a key is plain text", "if this is a template, quote it: \"{{ name }}\"");
                continue;
            };
            if scalar.text == "<<" && scalar.plain {
                self.say(
                    key_at,
                    "merge keys (<<) are not used in manifests",
                    "write the fields out, or use environments:",
                );
            } else if seen.insert(scalar.text.clone()) {
                entries.push((Key { text: scalar.text, at: key_at }, node));
            } else {
                let message = format!("the key {} is here a second time", scalar.text);
                self.say(key_at, message, "remove one of them");
            }
        }
    }
}

fn is_structure(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd
    )
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, n)| 1 + size(n)).sum::<usize>(),
    }
}
