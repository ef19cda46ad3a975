//! How a command ends: the exit codes, and the one error that reaches the terminal. Made in `client` and `cmd`, printed by
//! `show::fault`.

use std::{fmt, process::ExitCode};

use drover_proto::code::Code;

/// The exit codes; scripts rely on them, docs and man pages name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done; for a rollout, it succeeded; for a plan, nothing to do.
    Done,
    /// 1: an error, or a rollout that ended in any other way.
    Error,
    /// 2: a plan with changes.
    Changes,
    /// 3: `--timeout` is over, and the rollout goes on.
    Timeout,
    /// 130: interrupted from the keyboard; the rollout goes on.
    Interrupted,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Error => 1,
            Self::Changes => 2,
            Self::Timeout => 3,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// An error as the operator sees it: `error[code]: message`, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// A code of docs/ERRORS.md, or a word of the command's own; empty = none.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Normally 1.
    pub exit: Exit,
}

impl Fault {
    /// With one of the shared codes.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self::word(code.as_str(), message)
    }
    /// With a word of the command's own: `not-logged-in`, `connect`, `io` …
    #[must_use]
    pub fn word(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: None, exit: Exit::Error }
    }
    /// With something to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Something that could not be read or written: `what` is e.g. `cannot write PATH`.
    #[must_use]
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::word("io", format!("{what}: {error}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::word("io", error.to_string())
    }
}

/// What every command ends with.
pub type Outcome = Result<Exit, Fault>;

#[cfg(test)]
mod tests {
    //! The numbers that scripts rely on.
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let all = [Exit::Done, Exit::Error, Exit::Changes, Exit::Timeout, Exit::Interrupted];
        assert_eq!(all.map(Exit::number), [0, 1, 2, 3, 130]);
    }
}
