//! Reads the repository's files for `rules` and `papers`, and tells code from comments and strings.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Something that is not as it should be: where, what, and what to do about it.
pub struct Complaint {
    /// Path from the top of the repository.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong and how to mend it, one or two sentences.
    pub what: String,
}

impl Complaint {
    pub fn new(file: impl Into<String>, line: usize, what: impl Into<String>) -> Complaint {
        Complaint { file: file.into(), line, what: what.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}:{}: {}", self.file, self.line, self.what)
    }
}

/// One Rust file.
pub struct Source {
    /// Path from the top of the repository, with `/`.
    pub path: String,
    /// As it is on disk.
    pub text: String,
    /// Line number and code: the text without comments, strings and characters, and every `use` once more with its
    /// groups written out (`use a::{b, c}` names `a::b` and `a::c`).
    code: Vec<(usize, String)>,
    /// The line where the tests in the file itself begin; they are at its end.
    tests_at: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let blank = code_only(text);
        let mut code: Vec<_> = blank.lines().enumerate().map(|(n, line)| (n + 1, line.to_owned())).collect();
        for (line, tree) in use_trees(&blank) {
            let mut paths = Vec::new();
            expand("", &tree, &mut paths);
            code.extend(paths.into_iter().map(|path| (line, path)));
        }
        let mut lines = blank.lines().zip(blank.lines().skip(1));
        let inline = lines.position(|(one, next)| one.trim() == "#[cfg(test)]" && next.trim_end().ends_with('{'));
        Source { path: path.to_owned(), text: text.to_owned(), code, tests_at: inline.map_or(usize::MAX, |n| n + 1) }
    }

    /// Is it a test, beside the code or in tests/?
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// Is this line the product's, and not of the tests in the same file?
    pub fn is_product(&self, line: usize) -> bool {
        !self.is_test() && line < self.tests_at
    }

    /// The lines whose code has `words`, not as a part of a longer word; each line once, in order.
    pub fn lines_naming(&self, words: &str) -> Vec<usize> {
        let mut lines: Vec<_> = self.code.iter().filter(|(_, code)| has(code, words)).map(|(line, _)| *line).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    /// The same without tests.
    pub fn product_lines_naming(&self, words: &str) -> Vec<usize> {
        self.lines_naming(words).into_iter().filter(|line| self.is_product(*line)).collect()
    }

    /// Where each function of the product begins, and how many lines it has.
    pub fn functions(&self) -> Vec<(usize, usize)> {
        let blank = code_only(&self.text);
        let lines: Vec<&str> = blank.lines().collect();
        let begins = |line: &str| has(line, "fn") && line.contains('(') && !line.trim_end().ends_with(';');
        let starts = (0..lines.len()).filter(|at| self.is_product(at + 1) && begins(lines[*at]));
        // rustfmt puts the closing brace below the first letter of the declaration.
        let length = |at: usize| {
            let indent = &lines[at][..lines[at].len() - lines[at].trim_start().len()];
            let is_end = |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest.trim_end() == "}");
            let one_line = lines[at].trim_end().ends_with('}');
            if one_line { Some(1) } else { lines[at..].iter().position(is_end).map(|n| n + 1) }
        };
        starts.filter_map(|at| Some((at + 1, length(at)?))).collect()
    }
}

/// The repository.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository is there")
}

/// A file's text; panics if it is not there.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}; the tidy suite reads it"))
}

/// Every .rs file of the product and of its tests.
pub fn rust_sources() -> Vec<Source> {
    let found: Vec<_> = ["proto", "agent", "coordinator", "tests"].iter().flat_map(|d| files_below(d, "rs")).collect();
    assert!(found.len() > 50, "only {} .rs files: is the tree where the suite looks?", found.len());
    found.iter().map(|path| Source::new(path, &read(path))).collect()
}

/// Paths of the files below `directory` (from the top) that end in `.extension`, sorted; build output is left out.
pub fn files_below(directory: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![top().join(directory)];
    while let Some(directory) = waiting.pop() {
        let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for entry in entries {
            let path = entry.expect("a directory can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() && name != "target" && !name.starts_with('.') {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let relative = path.strip_prefix(top()).expect("it is below the top");
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

fn has(code: &str, words: &str) -> bool {
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(words).any(|(at, _)| {
        let before = part_of_word(words.chars().next()) && part_of_word(code[..at].chars().next_back());
        let after = part_of_word(words.chars().next_back()) && part_of_word(code[at + words.len()..].chars().next());
        !before && !after
    })
}

/// Line and text of each `use`, without spaces and renames.
fn use_trees(code: &str) -> Vec<(usize, String)> {
    let mut trees = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let starts =
            code[..at].lines().next_back().is_none_or(|l| matches!(l.trim(), "" | "pub" | "pub(crate)" | "pub(super)"));
        let Some(end) = code[at..].find(';').filter(|_| starts || code[..at].ends_with('\n')) else { continue };
        let words: Vec<_> = code[at + 4..at + end].split_whitespace().collect();
        let tree = words.join(" ").split(',').map(|item| item.trim().replace(' ', "\0")).collect::<Vec<_>>().join(",");
        trees.push((code[..at].matches('\n').count() + 1, tree.replace("\0as\0", " as ").replace('\0', "")));
    }
    trees
}

/// `a::{b, c::d}` → `a::b`, `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let (mut depth, mut start) = (0_usize, 0);
    let mut items = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                items.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&tree[start..]);
    for item in items {
        match item.split_once('{') {
            Some((head, rest)) => {
                let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
                expand(&format!("{prefix}{head}"), inner, paths);
            }
            None if item.is_empty() => {}
            None => paths.push(format!("{prefix}{item}")),
        }
    }
}

/// The text with comments, strings and characters turned into spaces; lines stay where they are.
pub fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| string(rest, &code)).or_else(|| character(rest));
        match skipped {
            Some(length) => code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
            None => code.push(c),
        }
        rest = &rest[skipped.unwrap_or(c.len_utf8())..];
    }
    code
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    Some(rest.len())
}

fn string(rest: &str, before: &str) -> Option<usize> {
    let in_word = before.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_word);
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let start = rest.len() - raw.len() + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            return Some(rest[start..].find(&close).map_or(rest.len(), |at| start + at + close.len()));
        }
    }
    rest.starts_with('"').then(|| end_of_quoted(rest, '"'))
}

fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first == '\\' {
        return Some(end_of_quoted(rest, '\''));
    }
    // 'a' is a character, 'a and 'static are lifetimes.
    inner[first.len_utf8()..].starts_with('\'').then_some(2 + first.len_utf8())
}

fn end_of_quoted(rest: &str, quote: char) -> usize {
    let mut escaped = true; // the opening quote
    for (at, c) in rest.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}
