//! What is wrong with a manifest, and where: collected by every step of `manifest`, shown by the terminal or `-o json`.

use std::fmt;

use serde::Serialize;

use super::yaml::{At, Node};

/// What a file full of nonsense is told at most.
const MAX_DIAGNOSTICS: usize = 1000;
/// A longer word is no slip of the pen.
const MAX_GUESSED_CHARS: usize = 60;

/// One thing that is wrong, at one place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostic {
    /// The file, as the user named it.
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// In characters, from 1; 0 when the file as a whole is meant.
    pub column: usize,
    /// The field's path, e.g. `units.mono.service.exec`; empty for the file as a whole.
    pub field: String,
    /// What is wrong, one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line in question.
    pub snippet: String,
}

impl Diagnostic {
    /// About a file as a whole.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>, hint: Option<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            field: String::new(),
            message: message.into(),
            hint,
            snippet: String::new(),
        }
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: field: message`, the line with a caret below it, and the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if self.field.is_empty() {
            write!(f, ": {}", self.message)?;
        } else {
            write!(f, ": {}: {}", self.field, self.message)?;
        }
        if !self.snippet.is_empty() {
            let number = self.line.to_string();
            let blank = " ".repeat(number.len());
            let caret = " ".repeat(self.column.saturating_sub(1));
            write!(f, "\n {number} | {}\n {blank} | {caret}^", self.snippet)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n   = {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// A file that diagnostics point into.
#[derive(Debug)]
pub(super) struct Source {
    /// As the user named it.
    pub file: String,
    /// Its whole text.
    pub text: String,
}

impl Source {
    /// Line and column, both from 1, of a byte offset.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    fn line(&self, number: usize) -> String {
        let line = self.text.lines().nth(number.saturating_sub(1)).unwrap_or_default();
        // Tabs would put the caret elsewhere, and other control characters could play with the terminal.
        line.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// The diagnostics of one load.
#[derive(Debug)]
pub(super) struct Reports {
    /// The manifest itself.
    pub source: Source,
    /// In the order in which they were found.
    pub list: Vec<Diagnostic>,
}

impl Reports {
    /// Nothing found yet.
    pub fn new(file: String, text: String) -> Self {
        Self { source: Source { file, text }, list: Vec::new() }
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() < MAX_DIAGNOSTICS {
            self.list.push(diagnostic);
        }
    }

    /// Something is wrong at a place of the manifest.
    pub fn say(&mut self, at: At, field: &str, message: impl Into<String>, hint: Option<String>) {
        self.push(Diagnostic {
            file: self.source.file.clone(),
            line: at.line,
            column: at.column,
            field: field.to_owned(),
            message: message.into(),
            hint,
            snippet: self.source.line(at.line),
        });
    }

    /// Something is wrong with a node.
    pub fn at(&mut self, node: &Node, message: impl Into<String>, hint: impl Into<String>) {
        let hint = hint.into();
        self.say(node.at, &node.path, message, (!hint.is_empty()).then_some(hint));
    }

    /// Something is wrong with the `nth` hole (`{{`, from 0) of a node's text.
    pub fn at_hole(&mut self, node: &Node, nth: usize, message: impl Into<String>, hint: Option<String>) {
        let written = self.source.text.get(node.at.start..node.at.end).unwrap_or_default();
        let mut at = node.at;
        if let Some((offset, _)) = written.match_indices("{{").nth(nth) {
            (at.line, at.column) = self.source.position(node.at.start + offset);
        }
        self.say(at, &node.path, message, hint);
    }

    /// Something is wrong in another file that `node` names.
    pub fn at_file(
        &mut self,
        node: &Node,
        source: &Source,
        offset: usize,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let (line, column) = source.position(offset);
        self.push(Diagnostic {
            file: source.file.clone(),
            line,
            column,
            field: node.path.clone(),
            message: message.into(),
            hint,
            snippet: source.line(line),
        });
    }

    /// Everything found, by place, each once.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        let main = self.source.file.clone();
        self.list.sort_by_key(|d| (d.file != main, d.file.clone(), d.line, d.column));
        self.list.dedup();
        self.list
    }
}

/// The word of `known` that `text` was perhaps meant to be.
pub(super) fn did_you_mean<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > MAX_GUESSED_CHARS {
        return None;
    }
    let near = |word: &str| {
        let distance = strsim::damerau_levenshtein(&text.to_lowercase(), word);
        (distance <= (word.len().max(text.len()) / 3).max(1)).then_some(distance)
    };
    known.into_iter().filter_map(|word| Some((near(word)?, word))).min_by_key(|(distance, _)| *distance).map(|(_, w)| w)
}
