//! One look at one check: what came back, and whether it is what was wanted. `gate` decides what follows from many looks.
//! `http` has the HTTP half.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drover_proto::{
    app::{CertificateAt, CertificateProbe, DiskProbe, FileProbe, RestartBudget},
    duration::Span,
    name::{ContainerName, UnitName, UserName},
};
use serde_json::Value;
use tokio::sync::{AcquireError, Semaphore};

use crate::{
    budget::Budget,
    gate::containers,
    host::{
        docker::Engine,
        process::{self, Command},
        systemd::Systemd,
        users,
    },
    policy,
    render::Instance,
};

mod address;
mod certificate;
mod http;
mod places;
pub mod standing;

/// Looks at files and file systems that may hang at one time, as those of a network do: each holds a thread until it ends.
const HANGING: usize = 4;

/// A check with every hole filled.
#[derive(Clone, PartialEq, Debug)]
pub struct RenderedCheck {
    /// What is looked at.
    pub probe: RenderedProbe,
    /// From one look to the next.
    pub interval: Span,
    /// For one look.
    pub timeout: Span,
    /// How many answers in a row change how it stands.
    pub rules: standing::Rules,
    /// For so long after a start failures do not count.
    pub start_period: Span,
    /// With it, what may start: the app's units and containers.
    pub parts: Vec<Instance>,
    /// Restarted when it fails.
    pub restart: Option<Instance>,
    /// How often.
    pub budget: Budget,
}

impl RenderedCheck {
    /// One that restarts nothing.
    #[must_use]
    pub fn new(probe: RenderedProbe, interval: Span, timeout: Span) -> Self {
        let rules = standing::Rules { rise: 1, fall: 2 };
        let budget = Budget::from(RestartBudget::default());
        let (start_period, parts) = (Span::default(), Vec::new());
        Self { probe, interval, timeout, rules, start_period, parts, restart: None, budget }
    }
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
    /// A container runs, and is healthy if it has a healthcheck.
    Container(ContainerName),
    /// A certificate is good, and stays so for a while.
    Certificate(CertificateProbe),
    /// A file is not too old.
    File(FileProbe),
    /// A file system is not too full.
    Disk(DiskProbe),
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

/// What looks need.
#[derive(Clone)]
pub struct Asker {
    systemd: Systemd,
    engine: Engine,
    policy: PathBuf,
    hanging: Arc<Semaphore>,
    /// Of each file and file system: one look at a time, so that one that hangs has no more than one of those places.
    lines: Arc<Mutex<BTreeMap<String, Arc<Semaphore>>>>,
}

impl Asker {
    /// Asks these, and goes where the host's policy lets it.
    #[must_use]
    pub fn new(systemd: &Systemd, engine: &Engine) -> Self {
        Self::under(systemd, engine, Path::new(policy::FILE))
    }

    /// The same with another file of the host's policy.
    #[must_use]
    pub fn under(systemd: &Systemd, engine: &Engine, policy: &Path) -> Self {
        let hanging = Arc::new(Semaphore::new(HANGING));
        Self {
            systemd: systemd.clone(),
            engine: engine.clone(),
            policy: policy.to_owned(),
            hanging,
            lines: Arc::default(),
        }
    }

    /// As if as many looks hung as may, until the answer is dropped.
    #[cfg(test)]
    pub(crate) async fn hanging(&self) -> impl Drop + use<> {
        self.hanging.clone().acquire_many_owned(u32::try_from(HANGING).unwrap()).await.unwrap()
    }

    /// Looks once. Never takes longer than the check's timeout (and a moment, to end a program).
    pub async fn probe(&self, check: &RenderedCheck) -> Probed {
        let timeout = check.timeout.as_duration();
        let looking = async {
            match &check.probe {
                RenderedProbe::Http(http) => http::probe(http, &self.policy).await,
                RenderedProbe::Tcp(endpoint) => tcp(endpoint, &self.policy).await,
                RenderedProbe::Command { run, user } => command(run, user, timeout).await,
                RenderedProbe::Unit(name) => unit(name, &self.systemd).await,
                RenderedProbe::Container(name) => container(name, &self.engine).await,
                RenderedProbe::Certificate(CertificateProbe {
                    at: CertificateAt::Endpoint { address, server_name },
                    min_left,
                }) => certificate::shown(address, server_name.as_deref(), *min_left, &self.policy).await,
                RenderedProbe::Certificate(CertificateProbe { at: CertificateAt::File(path), min_left }) => {
                    let (path, min_left) = (path.clone(), *min_left);
                    self.slowly(what(&check.probe), move || certificate::kept(path.as_path(), min_left)).await
                }
                RenderedProbe::File(file) => {
                    let file = file.clone();
                    self.slowly(what(&check.probe), move || places::file(&file, std::time::SystemTime::now())).await
                }
                RenderedProbe::Disk(disk) => {
                    let disk = disk.clone();
                    self.slowly(what(&check.probe), move || places::disk(&disk)).await
                }
            }
        };
        let limit = match &check.probe {
            // The program is ended by its own clock, and says its last words.
            RenderedProbe::Command { .. } => timeout + Duration::from_secs(2),
            _ => timeout,
        };
        tokio::time::timeout(limit, looking)
            .await
            .unwrap_or_else(|_| Probed::bad(format!("{}: no answer within {}", what(&check.probe), check.timeout)))
    }

    /// On a thread of its own; only so many at a time, also of those that nobody waits for any more.
    async fn slowly(&self, at: String, look: impl FnOnce() -> Probed + Send + 'static) -> Probed {
        let line = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.retain(|_, line| Arc::strong_count(line) > 1);
            lines.entry(at).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
        };
        let places =
            async { Ok::<_, AcquireError>((line.acquire_owned().await?, self.hanging.clone().acquire_owned().await?)) };
        let Ok(places) = places.await else { return Probed::bad("nobody looks any more") };
        let looked = tokio::task::spawn_blocking(move || {
            let probed = look();
            drop(places);
            probed
        });
        looked.await.unwrap_or_else(|error| Probed::bad(error.to_string()))
    }
}

/// What a probe looks at, for its answer.
fn what(probe: &RenderedProbe) -> String {
    match probe {
        RenderedProbe::Http(http) => format!("{} {}", http.method, http.url),
        RenderedProbe::Tcp(address) => format!("connecting to {address}"),
        RenderedProbe::Command { run, .. } => run.first().cloned().unwrap_or_default(),
        RenderedProbe::Unit(unit) => unit.to_string(),
        RenderedProbe::Container(name) => format!("container {name}"),
        RenderedProbe::Certificate(certificate) => match &certificate.at {
            CertificateAt::File(path) => path.to_string(),
            CertificateAt::Endpoint { address, .. } => format!("the certificate of {address}"),
        },
        RenderedProbe::File(file) => file.path.to_string(),
        RenderedProbe::Disk(disk) => disk.path.to_string(),
    }
}

async fn tcp(endpoint: &str, policy: &Path) -> Probed {
    match address::connect(endpoint, policy).await {
        Ok(_) => Probed::good(format!("{endpoint} accepts connections")),
        Err(why) => Probed::bad(format!("connecting to {endpoint}: {why}")),
    }
}

async fn container(name: &ContainerName, engine: &Engine) -> Probed {
    match engine.container(name).await {
        Ok(None) => Probed::bad(format!("container {name} is not there, wanted running")),
        Err(error) => Probed::bad(format!("container {name}: {error}")),
        Ok(Some(state)) => {
            let is_well = state.status == "running" && state.health.as_ref().is_none_or(|it| it.status == "healthy");
            let seen = format!("container {name} is {}", containers::line(&state));
            if is_well { Probed::good(seen) } else { Probed::bad(format!("{seen}, wanted running and healthy")) }
        }
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
