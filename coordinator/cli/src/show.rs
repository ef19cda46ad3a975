//! Everything that is printed. Each document has a function that makes text of it, with colours as ANSI codes; `print`
//! takes them out again where they do not belong (no terminal, NO_COLOR). Called by `cmd`.

use std::io::{self, IsTerminal as _, Write as _};

use drover_proto::code::Code;
use owo_colors::OwoColorize as _;
use serde::Serialize;

use crate::{args::Output, client::Document, fault::Fault};

pub mod alerts;
pub mod checks;
pub mod events;
pub mod fleet;
pub mod history;
pub mod plan;
pub mod progress;
pub mod prune;
pub mod rollout;
pub mod status;
pub mod table;
pub mod time;
pub mod top;
pub mod why;

/// Writes to the standard output. A reader that has gone away (`| head`) ends the command quietly.
pub fn print(text: &str) -> Result<(), Fault> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Fault::io("cannot write the output", &error)),
    }
}

/// Writes a remark to the standard error.
pub fn note(text: &str) {
    // Nobody is left to be told when the standard error is closed.
    drop(writeln!(anstream::stderr(), "{text}"));
}

/// Writes an error to the standard error, and for machines also as a document to the standard output.
pub fn fault(output: Output, fault: &Fault) {
    note(&fault_text(fault));
    if output == Output::Json
        && let Err(unwritten) = json(&fault_document(fault))
    {
        note(&fault_text(&unwritten));
    }
}

/// `{"error": {code, message, hint}}`, with `mistakes` if it is a manifest's.
fn fault_document(fault: &Fault) -> serde_json::Value {
    let mut error = serde_json::json!({ "code": fault.code, "message": fault.message, "hint": fault.hint });
    if let Some(mistakes) = &fault.mistakes {
        error["mistakes"] = mistakes.clone();
    }
    serde_json::json!({ "error": error })
}

fn fault_text(fault: &Fault) -> String {
    let code = format!("[{}]", fault.code);
    let mut text = format!("{}{}: {}", "error".red().bold(), code.red(), plain_lines(&fault.message));
    if let Some(hint) = &fault.hint {
        text.push_str(&format!("\n  {} {hint}", "hint:".cyan()));
    }
    text
}

/// Writes any value as JSON.
pub fn json<T: Serialize>(value: &T) -> Result<(), Fault> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Fault::new(Code::Internal, e.to_string()))?;
    print(&(text + "\n"))
}

/// Writes a document: the table that `render` makes of it, or the document itself.
pub fn document<T>(output: Output, document: &Document<T>, render: impl FnOnce(&T) -> String) -> Result<(), Fault> {
    match output {
        Output::Json => json(&document.json),
        Output::Table => print(&render(&document.value)),
    }
}

/// Whether a person watches, and lines may be drawn over.
#[must_use]
pub fn is_live() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Text from a host, safe for a terminal: control characters are shown, not obeyed.
#[must_use]
pub fn plain(text: &str) -> String {
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() && c != '\t' { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// `plain`, cut to what fits a line of progress or a cell: the whole is told once, at the end.
#[must_use]
pub fn short(text: &str) -> String {
    const MOST_CHARS: usize = 100;
    let text = plain(text);
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text,
    }
}

/// `plain`, for text of several lines; those after the first are indented.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n  ")
}

/// `1 host`, `3 hosts`.
#[must_use]
pub fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
pub(crate) mod tests {
    //! What hosts send cannot command the terminal; `bare` and `fixture` serve the tests of the other files.
    use super::*;
    use crate::fault::Word;

    /// The text without colours.
    pub(crate) fn bare(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(plain("a\x1b[31mb\tc"), "a\\u{1b}[31mb\tc");
        assert_eq!(plain("täglich"), "täglich");
        assert_eq!(plain_lines("two\nlines\x07"), "two\n  lines\\u{7}");
    }

    #[test]
    fn errors_name_their_code_and_what_to_do() {
        let text = bare(&fault_text(&Fault::word(Word::Connect, "nothing listens at c:7443").hint("start it")));
        assert_eq!(text, "error[connect]: nothing listens at c:7443\n  hint: start it");
        let document = fault_document(&Fault::word(Word::Connect, "nothing listens at c:7443"));
        let error = serde_json::json!({ "code": "connect", "message": "nothing listens at c:7443", "hint": null });
        assert_eq!(document, serde_json::json!({ "error": error }));
    }
}
