//! How a command ends: the exit codes, the words for what goes wrong on this side, and the one error that reaches the
//! terminal. Made in `client` and `cmd`, printed by `show::fault`.

use std::{fmt, process::ExitCode};

use drover_proto::code::Code;

/// The exit codes; scripts rely on them, docs and man pages name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done; for a rollout, it succeeded; for a plan, nothing to do.
    Done,
    /// 1: an error, a rollout that ended in any other way, or something that is asked about and is not well.
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

macro_rules! words {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// What went wrong before or instead of the coordinator's answer; beside the codes that all programs share.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Word {
            $($(#[$doc])* $variant,)*
        }
        impl Word {
            /// Every word, in the order of docs/ERRORS.md.
            pub const ALL: &'static [Word] = &[$(Word::$variant,)*];
            /// The word as the operator sees it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Word::$variant => $text,)* }
            }
        }
    };
}

words! {
    /// No login is kept on this machine.
    NotLoggedIn = "not-logged-in",
    /// The login that is kept cannot be used.
    Config = "config",
    /// The operator's certificate is too old.
    CertificateExpired = "certificate-expired",
    /// The coordinator does not take the operator's certificate.
    Certificate = "certificate",
    /// Another coordinator answers.
    WrongCoordinator = "wrong-coordinator",
    /// The coordinator's certificate is out of its time.
    CoordinatorCertificate = "coordinator-certificate",
    /// Nobody answers, or nobody who speaks the protocol.
    Connect = "connect",
    /// The connection ended without a reason.
    ConnectionLost = "connection-lost",
    /// An answer that is not in the contract.
    Answer = "answer",
    /// Hosts would refuse it.
    Refused = "refused",
    /// A yes was needed, and nobody could be asked.
    NotConfirmed = "not-confirmed",
    /// Something on this machine cannot be read or written.
    Io = "io",
}

/// An error as the operator sees it: `error[code]: message`, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// A [`Code`] or a [`Word`]: each has its entry in docs/ERRORS.md.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// For machines: the mistakes of a manifest, one by one.
    pub mistakes: Option<serde_json::Value>,
    /// Normally 1.
    pub exit: Exit,
}

impl Fault {
    /// With one of the shared codes.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code.as_str(), message: message.into(), hint: None, mistakes: None, exit: Exit::Error }
    }
    /// With a word of the command's own.
    #[must_use]
    pub fn word(word: Word, message: impl Into<String>) -> Self {
        Self { code: word.as_str(), message: message.into(), hint: None, mistakes: None, exit: Exit::Error }
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
        Self::word(Word::Io, format!("{what}: {error}"))
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
        Self::word(Word::Io, error.to_string())
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

    #[test]
    fn a_word_is_no_code() {
        for word in Word::ALL {
            assert!(Code::ALL.iter().all(|code| code.as_str() != word.as_str()), "{word:?} is a code, too");
        }
    }
}
