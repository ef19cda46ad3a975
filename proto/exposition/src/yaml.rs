//! YAML as a tree of texts, for those who know what each of them is: `web` reads the settings of who may
//! read with it, the agent the files of compose projects. Whoever wrote it is not trusted.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, StrInput};

/// Nodes in all, those that anchors keep and aliases repeat counted each time; of a text each so many bytes are one.
const MAX_NODES: usize = 100_000;
const BYTES_OF_A_NODE: usize = 32;
/// Lists and maps within each other.
const MAX_DEPTH: usize = 60;

/// A value. What kind of scalar it is, its reader knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Yaml {
    /// Nothing.
    Null,
    /// Any scalar.
    Text(String),
    /// In order.
    List(Vec<Yaml>),
    /// In order, as often as a key is there.
    Map(Vec<(String, Yaml)>),
}

const NOTHING: &Yaml = &Yaml::Null;

impl Yaml {
    /// The value of a key; nothing if there is none.
    pub fn get(&self, key: &str) -> &Self {
        self.entries().iter().find(|(name, _)| name == key).map_or(NOTHING, |(_, value)| value)
    }
    /// Of a map.
    pub fn entries(&self) -> &[(String, Self)] {
        if let Self::Map(entries) = self { entries } else { &[] }
    }
    /// Of a list; one value counts as a list of it.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Null => &[],
            Self::Text(_) | Self::Map(_) => std::slice::from_ref(self),
        }
    }
    /// Of a scalar; empty if it is something else.
    pub fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }
    /// As JSON, which is YAML: scalars as texts.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Text(text) => text.clone().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }
    /// Whether a truth value is true, or anything that is not clearly false.
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Null) && !matches!(self.text(), "false" | "False" | "no" | "off")
    }
}

/// Reads one document.
pub fn parse(text: &str) -> Result<Yaml, String> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: BTreeMap::new(), nodes: 0 };
    let mut root = None;
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(root.unwrap_or(Yaml::Null)),
            _ if root.is_some() => return Err("holds more than one document".to_owned()),
            event => root = Some(reader.node(event, 0)?),
        }
    }
}

/// Levels below a value. As deep as a value may be, and no deeper, this calls itself.
fn height(value: &Yaml) -> usize {
    match value {
        Yaml::Null | Yaml::Text(_) => 0,
        Yaml::List(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Yaml::Map(entries) => 1 + entries.iter().map(|(_, value)| height(value)).max().unwrap_or(0),
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: BTreeMap<usize, (Yaml, usize)>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Event<'t>, String> {
        loop {
            match self.parser.next_event() {
                Some(Ok((event, _))) => {
                    let structure = matches!(
                        event,
                        Event::StreamStart
                            | Event::StreamEnd
                            | Event::DocumentStart(..)
                            | Event::DocumentEnd
                            | Event::SequenceEnd
                            | Event::MappingEnd
                    );
                    // Comments are events, too.
                    if structure || event.is_node() {
                        return Ok(event);
                    }
                }
                Some(Err(error)) => {
                    let mark = error.marker();
                    return Err(format!("is not YAML: line {}: {}", mark.line(), error.info()));
                }
                None => return Ok(Event::StreamEnd),
            }
        }
    }

    fn count(&mut self, more: usize) -> Result<(), String> {
        self.nodes += more;
        if self.nodes <= MAX_NODES { Ok(()) } else { Err(format!("has more than {MAX_NODES} values")) }
    }

    fn node(&mut self, event: Event<'t>, depth: usize) -> Result<Yaml, String> {
        self.count(1)?;
        if depth > MAX_DEPTH {
            return Err(format!("has more than {MAX_DEPTH} levels within each other"));
        }
        let (anchor, before) = (event.anchor_id(), self.nodes);
        let value = match event {
            Event::Scalar(text, style, ..) => {
                self.count(text.len() / BYTES_OF_A_NODE)?;
                let is_null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                if is_null { Yaml::Null } else { Yaml::Text(text.into_owned()) }
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break Yaml::List(items),
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(id) => {
                let unknown = "has an alias within the value that it stands for";
                let (_, size) = self.anchors.get(&id).ok_or(unknown)?;
                self.count(*size)?;
                let (value, _) = self.anchors.get(&id).ok_or(unknown)?;
                if depth + height(value) > MAX_DEPTH {
                    return Err(format!("has more than {MAX_DEPTH} levels within each other"));
                }
                return Ok(value.clone());
            }
            _ => return Err("is not YAML".to_owned()),
        };
        if let Some(id) = anchor {
            let size = self.nodes - before;
            self.count(size)?;
            self.anchors.insert(id, (value.clone(), size));
        }
        Ok(value)
    }

    fn map(&mut self, depth: usize) -> Result<Yaml, String> {
        let mut entries = Vec::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(Yaml::Map(entries)),
                event => self.node(event, depth + 1)?,
            };
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            match key {
                Yaml::Text(key) => entries.push((key, value)),
                Yaml::Null => entries.push((String::new(), value)),
                Yaml::List(_) | Yaml::Map(_) => return Err("has a key that is no text".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! What is read, and what is not.
    use super::*;

    #[test]
    fn anchors_repeat_and_do_not_explode() {
        let tree = parse("a: &x [1, two, ~]\nb: *x\nc: {on: true, off: false}\n# end\n").unwrap();
        assert_eq!(tree.get("b"), tree.get("a"));
        assert_eq!(tree.get("a").items()[1].text(), "two");
        assert!(tree.get("c").get("on").is_on() && !tree.get("c").get("off").is_on() && !tree.get("d").is_on());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let before = n - 1;
            bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{before}"); 10].join(", ")));
        }
        assert!(parse(&bomb).unwrap_err().contains("more than"));
        // A long text counts as what it is, and so does how deep something is that is repeated deep down.
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(256 << 10), vec!["*a"; 1000].join(", "));
        assert!(parse(&long).unwrap_err().contains("more than"));
        let nested = |inner: &str| format!("{}{inner}{}", "[".repeat(40), "]".repeat(40));
        let deep = format!("a: &a {}\nb: {}\n", nested("x"), nested("*a"));
        assert!(parse(&deep).unwrap_err().contains("levels within each other"));
        assert!(parse(&"[".repeat(100)).is_err());
        assert!(parse("a: [").unwrap_err().contains("not YAML"));
    }
}
