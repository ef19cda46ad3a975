//! What runs on this host already and is not drover's, in the words of a manifest. Only reads. Called by `link/jobs`; one
//! file per kind.

mod compose;
mod container;
mod secrets;
mod unit;

use drover_proto::{
    code::Code,
    found::{Found, Subject},
};

use crate::host::{docker::Engine, systemd::Systemd};

/// Why there is nothing to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Of docs/ERRORS.md.
    pub code: Code,
    /// One sentence.
    pub why: String,
}

fn refused(code: Code, why: impl Into<String>) -> Refused {
    Refused { code, why: why.into() }
}

/// Reads what was asked for.
pub async fn read(subject: &Subject, systemd: &Systemd, engine: &Engine) -> Result<Found, Refused> {
    match subject {
        Subject::Container(name) => container::read(name, engine).await,
        Subject::Compose(name) => compose::read(name, engine).await,
        Subject::Unit(name) => unit::read(name, systemd).await,
    }
}
