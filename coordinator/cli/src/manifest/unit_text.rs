//! The text of a unit file, put together from lines that `decode` has found to be one line each.

use drover_proto::template::{Segment, Template};

/// Sections in the order of their first line; typed settings before options.
#[derive(Debug, Default)]
pub(super) struct UnitText {
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Section {
    name: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    key: String,
    value: Template,
    typed: bool,
}

impl UnitText {
    fn section(&mut self, name: &str) -> &mut Section {
        let at = self.sections.iter().position(|s| s.name == name).unwrap_or_else(|| {
            self.sections.push(Section { name: name.to_owned(), lines: Vec::new() });
            self.sections.len() - 1
        });
        &mut self.sections[at]
    }
    /// A setting that comes from a typed field.
    pub fn set(&mut self, section: &str, key: &str, value: Template) {
        self.section(section).lines.push(Line { key: key.to_owned(), value, typed: true });
    }
    /// A setting whose value is words with blanks between.
    pub fn set_words(&mut self, section: &str, key: &str, words: &[impl AsRef<str>]) {
        let text = words.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(" ");
        self.set(section, key, Template::literal(text));
    }
    /// A setting that comes from `options`.
    pub fn add_option(&mut self, section: &str, key: &str, value: Template) {
        self.section(section).lines.push(Line { key: key.to_owned(), value, typed: false });
    }
    /// Whether a typed field has set `key`.
    pub fn is_typed(&self, section: &str, key: &str) -> bool {
        self.sections
            .iter()
            .filter(|s| s.name == section)
            .any(|s| s.lines.iter().any(|line| line.typed && line.key == key))
    }
    /// Whether the section is there.
    pub fn has_section(&self, name: &str) -> bool {
        self.sections.iter().any(|s| s.name == name)
    }
    /// The whole file.
    pub fn finish(self) -> Template {
        let mut text = Template::default();
        for (i, section) in self.sections.into_iter().enumerate() {
            let blank = if i > 0 { "\n" } else { "" };
            push(&mut text, &format!("{blank}[{}]\n", section.name));
            for line in section.lines {
                push(&mut text, &format!("{}=", line.key));
                for segment in line.value.0 {
                    match segment {
                        Segment::Text(plain) => push(&mut text, &plain),
                        hole @ Segment::Hole(_) => text.0.push(hole),
                    }
                }
                push(&mut text, "\n");
            }
        }
        text
    }
}

fn push(template: &mut Template, plain: &str) {
    if let Some(Segment::Text(text)) = template.0.last_mut() {
        text.push_str(plain);
    } else {
        template.0.push(Segment::Text(plain.to_owned()));
    }
}

/// `%` means a specifier to systemd; here it is meant as it is.
pub(super) fn escape_percent(mut template: Template) -> Template {
    for segment in &mut template.0 {
        if let Segment::Text(text) = segment {
            *text = text.replace('%', "%%");
        }
    }
    template
}

/// One word as systemd reads words: quoted where needed, `%` taken literally, and in a command line `$` too.
pub(super) fn quote(word: &Template, command: bool) -> Template {
    let plain = word.plain_text();
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%$~".contains(c);
    let bare = !word.0.is_empty() && plain.chars().all(safe);
    let mut quoted = Template::default();
    if !bare {
        push(&mut quoted, "\"");
    }
    for segment in &word.0 {
        match segment {
            Segment::Text(text) => {
                let mut text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
                if command {
                    text = text.replace('$', "$$");
                }
                push(&mut quoted, &text);
            }
            hole @ Segment::Hole(_) => quoted.0.push(hole.clone()),
        }
    }
    if !bare {
        push(&mut quoted, "\"");
    }
    quoted
}
