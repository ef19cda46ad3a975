//! YAML as it is written: indented, every text from elsewhere quoted. Part of `written`.

/// A manifest that grows.
#[derive(Default)]
pub(super) struct Page {
    text: String,
    depth: usize,
}

impl Page {
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// A line that YAML does not read.
    pub(super) fn comment(&mut self, remark: &str) {
        let remark = comment(remark);
        self.line(format!("# {remark}").trim_end());
    }

    /// A map, to be closed again.
    pub(super) fn open(&mut self, key: &str) {
        self.line(&format!("{}:", scalar(key)));
        self.depth += 1;
    }

    pub(super) fn close(&mut self) {
        self.depth -= 1;
    }

    /// An item of a list, a map that begins with this; to be closed again.
    pub(super) fn item(&mut self, key: &str, value: &str) {
        self.line(&format!("- {}: {}", scalar(key), scalar(value)));
        self.depth += 1;
    }

    /// A value of the program's own: a number, a truth value.
    pub(super) fn field(&mut self, key: &str, value: &str) {
        self.line(&format!("{}: {value}", scalar(key)));
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.field(key, &scalar(value));
    }

    /// Nothing if there is none.
    pub(super) fn list(&mut self, key: &str, items: impl Iterator<Item = String>) {
        let items: Vec<String> = items.map(|item| scalar(&item)).collect();
        if !items.is_empty() {
            self.field(key, &format!("[{}]", items.join(", ")));
        }
    }

    /// Nothing if there is none.
    pub(super) fn map<'k>(&mut self, key: &str, entries: impl Iterator<Item = (&'k str, String)>) {
        let mut entries = entries.peekable();
        if entries.peek().is_some() {
            self.open(key);
            entries.for_each(|(key, value)| self.text(key, &value));
            self.close();
        }
    }

    /// A text of several lines, as it is if it can be.
    pub(super) fn block(&mut self, key: &str, text: &str) {
        let good = |line: &str| !line.chars().any(|c| !is_shown(c) && c != '\t');
        let plain = text.ends_with('\n')
            && !text.ends_with("\n\n")
            && !text.starts_with([' ', '\t', '\n'])
            && text.lines().all(good)
            && !text.contains('\r');
        if !plain {
            return self.text(key, text);
        }
        self.field(key, "|");
        self.depth += 1;
        text.lines().for_each(|line| self.line(line));
        self.depth -= 1;
    }

    fn line(&mut self, line: &str) {
        if !line.is_empty() {
            self.text.extend(std::iter::repeat_n("  ", self.depth));
            self.text.push_str(line);
        }
        self.text.push('\n');
    }
}

/// Whether a terminal and YAML both take it for a character like others.
fn is_shown(c: char) -> bool {
    let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    !c.is_control() && !turns && c != '\u{fffe}' && c != '\u{ffff}'
}

/// A remark on one line, whatever is in it.
#[must_use]
pub fn comment(text: &str) -> String {
    text.chars().map(|c| if is_shown(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// A text as YAML reads it back.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let is_word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && text.chars().all(safe) && !is_word {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if is_shown(c) => quoted.push(c),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted + "\""
}
