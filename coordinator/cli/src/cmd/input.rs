//! What an operator types in: secrets without an echo, and yes or no. Secrets never come by argv.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use drover_proto::{code::Code, limits};

use crate::fault::{Fault, Word};

/// A value from the standard input, whole and without one last line break; on a terminal it is asked for, unseen.
pub fn secret(what: &str) -> Result<String, Fault> {
    if io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        let asked = terminal.write_str(&format!("{what} (not shown): ")).and_then(|()| terminal.read_secure_line());
        return not_empty(what, asked.map_err(|e| Fault::io("cannot read from the terminal", &e))?);
    }
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(limits::MAX_SECRET_BYTES as u64 + 3)
        .read_to_end(&mut bytes)
        .map_err(|e| Fault::io("cannot read the standard input", &e))?;
    not_empty(what, text_of(bytes)?)
}

fn text_of(bytes: Vec<u8>) -> Result<String, Fault> {
    let mut text = String::from_utf8(bytes).map_err(|_| {
        Fault::new(Code::Invalid, "the value is not text (UTF-8)").hint("encode it first, e.g. with base64")
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.len() > limits::MAX_SECRET_BYTES {
        return Err(Fault::new(Code::Limit, format!("a value has at most {} bytes", limits::MAX_SECRET_BYTES)));
    }
    Ok(text)
}

fn not_empty(what: &str, text: String) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(Fault::new(Code::Invalid, format!("no {what} was given"))
            .hint("pipe it in, or run this on a terminal to be asked for it"));
    }
    Ok(text)
}

/// Asks for yes or no; without a terminal nobody can say yes, and `--yes` is needed.
pub fn confirm(question: &str) -> Result<bool, Fault> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(
            Fault::word(Word::NotConfirmed, "this needs a yes, and there is no terminal to ask on").hint("add --yes")
        );
    }
    console::Term::stderr()
        .write_str(&format!("{question} [y/N] "))
        .map_err(|e| Fault::io("cannot write to the terminal", &e))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|e| Fault::io("cannot read from the terminal", &e))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    //! One line break at the end does not belong to a value.
    use super::*;

    #[test]
    fn one_last_line_break_is_dropped() {
        for (typed, value) in [("a\n", "a"), ("a\r\n", "a"), ("a", "a"), ("a\n\n", "a\n"), ("a\nb", "a\nb")] {
            assert_eq!(text_of(typed.as_bytes().to_vec()).unwrap(), value);
        }
        assert!(text_of(vec![0xff]).is_err());
        assert!(text_of(vec![b'a'; limits::MAX_SECRET_BYTES + 1]).is_err());
        assert!(not_empty("value", String::new()).is_err());
    }
}
