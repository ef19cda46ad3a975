//! Files of the host that others write: when they change, the agent restarts the part that reads them, sends it a signal, or
//! has a new certificate put to use. Beside `app`.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    duration::Span,
    name::{AbsPath, UnitName},
    template::Argv,
};

/// What a part is restarted, or told, for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Files, and directories with all that is below them.
    pub paths: BTreeSet<AbsPath>,
    /// Sent to the part; absent = it is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// Nothing has changed for so long: changes come in groups.
    pub debounce: Span,
}

/// A certificate that others write, such as certbot, and that units of the host use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Its file: PEM, with those that it is signed by.
    pub path: AbsPath,
    /// The file of its key, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<AbsPath>,
    /// Must succeed before anybody reads a new one. No holes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate: Option<Argv>,
    /// Units to be reloaded when it is new and good.
    pub reload: BTreeSet<UnitName>,
}

/// What a program can be told to take notice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Signal {
    /// Read your settings again.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// As the program likes.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// As the program likes.
    #[serde(rename = "SIGUSR2")]
    Usr2,
    /// As the program likes; some begin anew with fresh workers.
    #[serde(rename = "SIGWINCH")]
    Winch,
    /// End; whoever looks after the part starts it again.
    #[serde(rename = "SIGINT")]
    Int,
    /// The same.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// The same.
    #[serde(rename = "SIGTERM")]
    Term,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Hup, Self::Usr1, Self::Usr2, Self::Winch, Self::Int, Self::Quit, Self::Term];

    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Winch => "SIGWINCH",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Term => "SIGTERM",
        }
    }

    /// Its number on Linux.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Hup => 1,
            Self::Int => 2,
            Self::Quit => 3,
            Self::Usr1 => 10,
            Self::Usr2 => 12,
            Self::Term => 15,
            Self::Winch => 28,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    //! The words of the document.
    use super::*;

    #[test]
    fn a_signal_is_written_as_it_is_called() {
        for signal in Signal::ALL {
            assert_eq!(serde_json::to_string(&signal).unwrap(), format!("\"{signal}\""));
        }
        assert!(serde_json::from_str::<Signal>("\"SIGKILL\"").is_err());
    }
}
