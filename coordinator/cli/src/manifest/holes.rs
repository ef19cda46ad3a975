//! `{{ … }}`: splits text at its holes, fills in the manifest's own variables, and leaves the host's for the agent.
//!
//! A variable's value is never read as a template again once it stands in a text, so no value can smuggle a hole in.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use drover_proto::template::{Hole, Segment, Template};

use super::diagnostic::did_you_mean;

/// Which holes a text may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Allow(u8);

impl Allow {
    /// Only the manifest's own variables: what is left is plain text.
    pub const PLAIN: Self = Self(0);
    /// `release`.
    pub const RELEASE: Self = Self(1);
    /// `release`, `env_file`, `host.…`.
    pub const HOST: Self = Self(1 | 2);
    /// Those and `path`.
    pub const VALIDATE: Self = Self(1 | 2 | 4);
    /// Those of `HOST` and `secret.…`.
    pub const SECRET: Self = Self(1 | 2 | 8);
    /// Those of `HOST` and `port`.
    pub const PORT: Self = Self(1 | 2 | 16);
    const ALL: Self = Self(31);

    fn lets(self, hole: &Hole) -> bool {
        let needed = match hole {
            Hole::Release => 1,
            Hole::EnvFile | Hole::HostName | Hole::HostLabel(_) => 2,
            Hole::Path => 4,
            Hole::Secret(_) => 8,
            Hole::Port | Hole::PortOf(_) => 16,
        };
        self.0 & needed != 0
    }
}

/// A hole that cannot be filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HoleFault {
    /// Byte offset of its `{{` in the text.
    pub offset: usize,
    /// Its number among the `{{` of the text, from 0.
    pub nth: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// What holes can refer to in one manifest and environment.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The app, without its environment.
    pub app: String,
    /// The environment, if one was chosen.
    pub environment: Option<String>,
    /// Whether there is an artifact, and so a `release`.
    pub has_artifact: bool,
    /// The declared secrets.
    pub secrets: BTreeSet<String>,
    /// Texts of the manifest's variables.
    pub vars: BTreeMap<String, String>,
    /// What each variable came to: each is worked out once, however often it is named.
    filled: RefCell<BTreeMap<String, Filled>>,
}

/// What stands in a hole's place, or why nothing can and what to do.
type Filled = Result<Vec<Segment>, (String, Option<String>)>;

/// A text with its variables filled in, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// A variable's, and its number of holes.
const MAX_VARIABLE_BYTES: usize = 64 << 10;
const MAX_VARIABLE_HOLES: usize = 1000;

/// The words that no variable may have as its name.
pub(super) const RESERVED: [&str; 7] = ["app", "environment", "release", "env_file", "path", "host", "secret"];

enum Piece<'t> {
    Text(&'t str),
    Hole { inner: &'t str, offset: usize, nth: usize },
    Open { offset: usize, nth: usize },
}

/// Splits at `{{ … }}`. Within a hole a quoted text may hold braces.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let (mut from, mut nth) = (0, 0);
    while let Some(begin) = text[from..].find("{{").map(|i| from + i) {
        found.push(Piece::Text(&text[from..begin]));
        let body = begin + 2;
        let quoted = text[body..].trim_start_matches([' ', '\t']);
        let search = match quoted.strip_prefix('"') {
            Some(rest) => rest.find('"').map(|i| text.len() - rest.len() + i + 1),
            None => Some(body),
        };
        // A hole is on one line: an unclosed one is then found where it is.
        let line_end = text[body..].find('\n').map_or(text.len(), |i| body + i);
        let Some(end) = search.filter(|s| *s <= line_end).and_then(|s| text[s..line_end].find("}}").map(|i| s + i))
        else {
            found.push(Piece::Open { offset: begin, nth });
            from = body;
            nth += 1;
            continue;
        };
        let inner = &text[body..end];
        found.push(Piece::Hole { inner: inner.trim(), offset: begin, nth });
        nth += 1 + inner.matches("{{").count();
        from = end + 2;
    }
    found.push(Piece::Text(&text[from..]));
    found
}

impl Names {
    /// The template that `text` is, with the manifest's variables filled in, and every hole that could not be.
    pub fn template(&self, text: &str, allow: Allow) -> (Template, Vec<HoleFault>) {
        self.resolve(text, allow, &mut Vec::new())
    }

    fn resolve(&self, text: &str, allow: Allow, within: &mut Vec<String>) -> (Template, Vec<HoleFault>) {
        let mut segments = Vec::new();
        let mut faults = Vec::new();
        let mut bytes = text.len();
        for piece in pieces(text) {
            let (filled, offset, nth) = match piece {
                Piece::Text(plain) => {
                    push_text(&mut segments, plain);
                    continue;
                }
                Piece::Hole { inner, offset, nth } => (self.fill(inner, allow, within), offset, nth),
                Piece::Open { offset, nth } => {
                    let hint = "for two braces as they are, write {{ \"{{\" }}".to_owned();
                    (Err(("{{ without its }} on the same line".into(), Some(hint))), offset, nth)
                }
            };
            match filled {
                Ok(filled) => {
                    for segment in filled {
                        match segment {
                            Segment::Text(plain) => {
                                bytes += plain.len();
                                push_text(&mut segments, &plain);
                            }
                            hole @ Segment::Hole(_) => segments.push(hole),
                        }
                    }
                }
                Err((message, hint)) => faults.push(HoleFault { offset, nth, message, hint }),
            }
            if bytes > MAX_TEXT_BYTES {
                let message = "the text grows beyond 1 MiB here".to_owned();
                faults.push(HoleFault { offset, nth, message, hint: None });
                break;
            }
        }
        (Template(segments), faults)
    }

    fn fill(&self, inner: &str, allow: Allow, within: &mut Vec<String>) -> Filled {
        if let Some(literal) = inner.strip_prefix('"') {
            return match literal.strip_suffix('"') {
                Some(text) if !text.contains('"') => Ok(vec![Segment::Text(text.to_owned())]),
                _ => Err((format!("{{{{ {inner} }}}} is no quoted text"), None)),
            };
        }
        let filled = match (inner, &self.environment) {
            ("app", _) => vec![Segment::Text(self.app.clone())],
            ("environment", Some(name)) => vec![Segment::Text(name.clone())],
            ("environment", None) => {
                let hint = "choose one with --env, or use a variable that environments set".to_owned();
                return Err(("{{ environment }} has no value: no environment was chosen".into(), Some(hint)));
            }
            _ => match self.vars.get(inner) {
                Some(value) => self.variable(inner, value, within)?,
                None => vec![Segment::Hole(self.hole(inner)?)],
            },
        };
        for segment in &filled {
            if let Segment::Hole(hole) = segment {
                self.permitted(hole, allow)?;
            }
        }
        Ok(filled)
    }

    fn variable(&self, name: &str, value: &str, within: &mut Vec<String>) -> Filled {
        if let Some(known) = self.filled.borrow().get(name) {
            return known.clone();
        }
        if within.iter().any(|n| n == name) {
            let circle = within.join(" → ");
            return Err((format!("variables refer to each other in a circle: {circle} → {name}"), None));
        }
        if within.len() > 30 {
            return Err(("more than 30 variables within each other".into(), None));
        }
        within.push(name.to_owned());
        let (template, faults) = self.resolve(value, Allow::ALL, within);
        within.pop();
        let filled = match faults.into_iter().next() {
            Some(fault) => Err((format!("variable {name} cannot be filled in: {}", fault.message), fault.hint)),
            None if template.0.len() > MAX_VARIABLE_HOLES || template.plain_text().len() > MAX_VARIABLE_BYTES => {
                Err((format!("variable {name} has more than 64 KiB or 1000 holes"), None))
            }
            None => Ok(template.0),
        };
        self.filled.borrow_mut().insert(name.to_owned(), filled.clone());
        filled
    }

    fn hole(&self, inner: &str) -> Result<Hole, (String, Option<String>)> {
        if let Some(name) = inner.strip_prefix("secret.") {
            if !self.secrets.contains(name) {
                let hint = did_you_mean(name, self.secrets.iter().map(String::as_str)).map_or_else(
                    || "declare it under env.secrets".to_owned(),
                    |word| format!("did you mean secret.{word}?"),
                );
                return Err((format!("secret {name} is not declared"), Some(hint)));
            }
            return name.parse().map(Hole::Secret).map_err(|e| (e.to_string(), None));
        }
        if let Some(key) = inner.strip_prefix("host.label.") {
            return key.parse().map(Hole::HostLabel).map_err(|e| (e.to_string(), None));
        }
        if let Some(upstream) = inner.strip_prefix("port.") {
            return upstream.parse().map(Hole::PortOf).map_err(|e| (e.to_string(), None));
        }
        match inner {
            "port" => Ok(Hole::Port),
            "release" => Ok(Hole::Release),
            "env_file" => Ok(Hole::EnvFile),
            "host.name" => Ok(Hole::HostName),
            "path" => Ok(Hole::Path),
            _ => {
                const HOLES: [&str; 7] = ["app", "environment", "release", "env_file", "host.name", "path", "port"];
                let known = self.vars.keys().map(String::as_str).chain(HOLES);
                let hint = did_you_mean(inner, known).map_or_else(
                    || "declare it under vars, or for two braces as they are write {{ \"{{\" }}".to_owned(),
                    |word| format!("did you mean {{{{ {word} }}}}?"),
                );
                Err((format!("{{{{ {inner} }}}} is neither a variable nor anything drover knows"), Some(hint)))
            }
        }
    }

    fn permitted(&self, hole: &Hole, allow: Allow) -> Result<(), (String, Option<String>)> {
        if !allow.lets(hole) {
            return Err(match hole {
                Hole::Secret(name) => (
                    format!(
                        "a secret ({name}) may stand only in env values and files, where no other user can read it"
                    ),
                    Some("give it to the program by env or by a file of mode 0600".into()),
                ),
                Hole::Path => ("{{ path }} means something only in a file's validate:".into(), None),
                Hole::Port | Hole::PortOf(_) => (
                    "{{ port }} means something only in a unit with handover: blue_green and in checks".into(),
                    Some("it differs from instance to instance; sites name the upstream instead".into()),
                ),
                Hole::Release => ("{{ release }} cannot stand here".into(), None),
                Hole::EnvFile | Hole::HostName | Hole::HostLabel(_) => (
                    "what differs from host to host cannot stand here".into(),
                    Some("use the manifest's own vars".into()),
                ),
            });
        }
        if *hole == Hole::Release && !self.has_artifact {
            return Err(("{{ release }} needs an artifact, and this manifest has none".into(), None));
        }
        Ok(())
    }
}

fn push_text(segments: &mut Vec<Segment>, plain: &str) {
    match segments.last_mut() {
        _ if plain.is_empty() => {}
        Some(Segment::Text(text)) => text.push_str(plain),
        _ => segments.push(Segment::Text(plain.to_owned())),
    }
}
