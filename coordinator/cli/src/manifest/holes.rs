//! `{{ … }}`: splits text at its holes, fills in the manifest's own variables, and leaves the host's for the agent.
//!
//! A variable's value is never read as a template again once it stands in a text, so no value can smuggle a hole in.

use std::collections::{BTreeMap, BTreeSet};

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
    const ALL: Self = Self(15);

    fn lets(self, hole: &Hole) -> bool {
        let needed = match hole {
            Hole::Release => 1,
            Hole::EnvFile | Hole::HostName | Hole::HostLabel(_) => 2,
            Hole::Path => 4,
            Hole::Secret(_) => 8,
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
}

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
        let Some(end) = search.filter(|s| *s <= line_end).and_then(|s| text[s..line_end].find("}}").map(|i| s + i)) else {
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
        for piece in pieces(text) {
            match piece {
                Piece::Text(plain) => push_text(&mut segments, plain),
                Piece::Open { offset, nth } => faults.push(HoleFault {
                    offset,
                    nth,
                    message: "{{ without its }} on the same line".into(),
                    hint: Some("for two braces as they are, write {{ \"{{\" }}".into()),
                }),
                Piece::Hole { inner, offset, nth } => match self.fill(inner, allow, within) {
                    Ok(filled) => filled.into_iter().for_each(|segment| match segment {
                        Segment::Text(plain) => push_text(&mut segments, &plain),
                        hole @ Segment::Hole(_) => segments.push(hole),
                    }),
                    Err((message, hint)) => faults.push(HoleFault { offset, nth, message, hint }),
                },
            }
        }
        (Template(segments), faults)
    }

    fn fill(&self, inner: &str, allow: Allow, within: &mut Vec<String>) -> Result<Vec<Segment>, (String, Option<String>)> {
        if let Some(literal) = inner.strip_prefix('"') {
            return match literal.strip_suffix('"') {
                Some(text) if !text.contains('"') => Ok(vec![Segment::Text(text.to_owned())]),
                _ => Err((format!("{{{{ {inner} }}}} is no quoted text"), None)),
            };
        }
        let text = |text: &str| Ok(vec![Segment::Text(text.to_owned())]);
        match inner {
            "app" => return text(&self.app),
            "environment" => {
                return match &self.environment {
                    Some(name) => text(name),
                    None => Err((
                        "{{ environment }} has no value: no environment was chosen".into(),
                        Some("choose one with --env, or use a variable that environments set".into()),
                    )),
                };
            }
            _ => {}
        }
        if let Some(value) = self.vars.get(inner) {
            return self.variable(inner, value, allow, within);
        }
        let hole = self.hole(inner)?;
        self.permitted(&hole, allow)?;
        Ok(vec![Segment::Hole(hole)])
    }

    fn variable(&self, name: &str, value: &str, allow: Allow, within: &mut Vec<String>) -> Result<Vec<Segment>, (String, Option<String>)> {
        if within.iter().any(|n| n == name) {
            let circle = within.join(" → ");
            return Err((format!("variables refer to each other in a circle: {circle} → {name}"), None));
        }
        // A chain of variables that each name the next twice would double with every step.
        if within.len() > 16 {
            return Err(("more than 16 variables within each other".into(), None));
        }
        within.push(name.to_owned());
        let (template, faults) = self.resolve(value, Allow::ALL, within);
        within.pop();
        if let Some(fault) = faults.into_iter().next() {
            return Err((format!("variable {name} cannot be filled in: {}", fault.message), fault.hint));
        }
        if template.plain_text().len() > 64 << 10 {
            return Err((format!("variable {name} has more than 64 KiB"), None));
        }
        for hole in template.holes() {
            self.permitted(hole, allow)?;
        }
        Ok(template.0)
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
        match inner {
            "release" => Ok(Hole::Release),
            "env_file" => Ok(Hole::EnvFile),
            "host.name" => Ok(Hole::HostName),
            "path" => Ok(Hole::Path),
            _ => {
                const HOLES: [&str; 6] = ["app", "environment", "release", "env_file", "host.name", "path"];
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
                    format!("a secret ({name}) may stand only in env values and files, where no other user can read it"),
                    Some("give it to the program by env or by a file of mode 0600".into()),
                ),
                Hole::Path => ("{{ path }} means something only in a file's validate:".into(), None),
                Hole::Release => ("{{ release }} cannot stand here".into(), None),
                Hole::EnvFile | Hole::HostName | Hole::HostLabel(_) => {
                    ("what differs from host to host cannot stand here".into(), Some("use the manifest's own vars".into()))
                }
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
