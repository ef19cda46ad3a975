//! One look at one check: what came back, and whether it is what was wanted. `gate` decides what follows from many looks.
//! `http` has the HTTP half.

use std::{collections::BTreeMap, time::Duration};

use drover_proto::{
    duration::Span,
    name::{UnitName, UserName},
};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::host::{
    process::{self, Command},
    systemd::Systemd,
    users,
};

mod http;
pub mod standing;

/// A check with every hole filled.
#[derive(Clone, PartialEq, Debug)]
pub struct RenderedCheck {
    /// What is looked at.
    pub probe: RenderedProbe,
    /// From one look to the next.
    pub interval: Span,
    /// For one look.
    pub timeout: Span,
}

/// How a check looks.
#[derive(Clone, PartialEq, Debug)]
pub enum RenderedProbe {
    /// An HTTP request.
    Http(RenderedHttp),
    /// A TCP connection is accepted: `host:port`.
    Tcp(String),
    /// A program ends with 0.
    Command {
        /// The program and its arguments; run in `/`.
        run: Vec<String>,
        /// As whom.
        user: UserName,
    },
    /// A unit is active.
    Unit(UnitName),
}

/// An HTTP request and what its answer must be; as `drover_proto::app::HttpProbe`.
#[derive(Clone, PartialEq, Debug)]
pub struct RenderedHttp {
    /// `http://` or `https://`.
    pub url: String,
    /// GET, HEAD, POST …
    pub method: String,
    /// Request headers.
    pub headers: BTreeMap<String, String>,
    /// The status wanted; `None` = 200 to 299.
    pub status: Option<u16>,
    /// Response headers wanted, value for value.
    pub expect_headers: BTreeMap<String, String>,
    /// A text that the body contains.
    pub body_contains: Option<String>,
    /// JSONPath, or a key of the top object → the value that the first match has.
    pub json: BTreeMap<String, Value>,
}

/// What one look found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probed {
    /// As wanted.
    pub ok: bool,
    /// One line: what came back and, if it is not ok, what was wanted.
    pub answer: String,
    /// The beginning of an answer's body that was not as wanted, in one line; for evidence.
    pub body: Option<String>,
}

impl Probed {
    fn good(answer: impl Into<String>) -> Self {
        Self { ok: true, answer: answer.into(), body: None }
    }
    fn bad(answer: impl Into<String>) -> Self {
        Self { ok: false, answer: answer.into(), body: None }
    }
}

/// Looks once. Never takes longer than the check's timeout (and a moment, to end a program).
pub async fn probe(check: &RenderedCheck, systemd: &Systemd) -> Probed {
    let timeout = check.timeout.as_duration();
    let looking = async {
        match &check.probe {
            RenderedProbe::Http(http) => http::probe(http).await,
            RenderedProbe::Tcp(address) => tcp(address).await,
            RenderedProbe::Command { run, user } => command(run, user, timeout).await,
            RenderedProbe::Unit(name) => unit(name, systemd).await,
        }
    };
    let limit = match &check.probe {
        // The program is ended by its own clock, and says its last words.
        RenderedProbe::Command { .. } => timeout + Duration::from_secs(2),
        RenderedProbe::Http(_) | RenderedProbe::Tcp(_) | RenderedProbe::Unit(_) => timeout,
    };
    tokio::time::timeout(limit, looking)
        .await
        .unwrap_or_else(|_| Probed::bad(format!("{}: no answer within {}", what(&check.probe), check.timeout)))
}

/// What a probe looks at, for its answer.
fn what(probe: &RenderedProbe) -> String {
    match probe {
        RenderedProbe::Http(http) => format!("{} {}", http.method, http.url),
        RenderedProbe::Tcp(address) => format!("connecting to {address}"),
        RenderedProbe::Command { run, .. } => run.first().cloned().unwrap_or_default(),
        RenderedProbe::Unit(unit) => unit.to_string(),
    }
}

async fn tcp(address: &str) -> Probed {
    match TcpStream::connect(address).await {
        Ok(_) => Probed::good(format!("{address} accepts connections")),
        Err(error) => Probed::bad(format!("connecting to {address}: {error}")),
    }
}

async fn command(run: &[String], user: &UserName, timeout: Duration) -> Probed {
    let Some((program, args)) = run.split_first() else { return Probed::bad("no program is named") };
    // Accounts may be asked of a directory in the network.
    let name = user.clone();
    let account = match tokio::task::spawn_blocking(move || users::account(&name)).await {
        Ok(Ok(Some(account))) => account,
        Ok(Ok(None)) => return Probed::bad(format!("{program}: user {user} does not exist")),
        Ok(Err(error)) => return Probed::bad(format!("{program}: {error}")),
        Err(panic) => return Probed::bad(format!("{program}: {panic}")),
    };
    let mut command = Command::new(program.clone(), args.to_vec(), timeout);
    command.account = (account.uid != 0).then_some(account);
    match process::run(command).await {
        Ok(outcome) if outcome.ok() => Probed::good(format!("{program}: exit code 0")),
        Ok(outcome) => {
            let (ended, last) = (outcome.ended.to_string(), outcome.last_line());
            let said = if last == ended { String::new() } else { format!(": {last}") };
            Probed::bad(format!("{program}: {ended}, wanted exit code 0{said}"))
        }
        Err(error) => Probed::bad(error.to_string()),
    }
}

async fn unit(name: &UnitName, systemd: &Systemd) -> Probed {
    match systemd.unit(name).await {
        Ok(state) if matches!(state.active_state.as_str(), "active" | "reloading") => {
            Probed::good(format!("{name} is {} ({})", state.active_state, state.sub_state))
        }
        Ok(state) if state.load_state == "not-found" => Probed::bad(format!("{name} does not exist, wanted active")),
        Ok(state) => Probed::bad(format!("{name} is {} ({}), wanted active", state.active_state, state.sub_state)),
        Err(error) => Probed::bad(format!("{name}: {error}")),
    }
}

#[cfg(test)]
mod tests;
