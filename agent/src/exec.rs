//! Carries out the steps of a plan, one file per kind; decides nothing. `reconcile` calls it step by step.

mod accounts;
mod compose;
mod containers;
mod directories;
mod files;
mod handover;
mod hooks;
mod leftovers;
mod needs;
mod program;
mod swap;
mod tree;
mod units;

use drover_proto::{app::HookPoint, code::Code, name::AppName, plan::Action, status::Evidence};
use tokio::time::Instant;

pub use directories::prepare;
pub use files::Undo;
pub use leftovers::sweep;
pub use program::telling_line;
pub use tree::{discard_unsealed, remove_tree};

use crate::{
    blob::Blobs,
    host::{docker::Engine, systemd::Systemd},
    ledger::{AppLedger, LedgerError, Ledgers},
    observe::Observed,
    render::{Layout, Rendered},
    report::Redactor,
    stock::Stock,
};

/// What the steps of one activation work with.
pub struct Exec<'a> {
    /// Where things lie.
    pub layout: &'a Layout,
    /// systemd.
    pub systemd: &'a Systemd,
    /// Docker.
    pub engine: &'a Engine,
    /// Artifacts.
    pub blobs: &'a Blobs,
    /// Where the ledger is kept.
    pub ledgers: &'a Ledgers,
    /// Where it is noted which images drover brings.
    pub stock: &'a Stock,
    /// The app.
    pub app: &'a AppName,
    /// The release whose plan it is; `None` = removal.
    pub wanted: Option<&'a Rendered>,
    /// What the plan was made from.
    pub observed: &'a Observed,
    /// When jobs are not waited for any longer.
    pub jobs_until: Instant,
    /// Takes the values of secrets out of what programs said.
    pub redactor: &'a Redactor,
    /// Told what a step that takes long is waiting for.
    pub say: &'a (dyn Fn(String) + Send + Sync),
}

/// A step that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepFailure {
    /// Of docs/ERRORS.md.
    pub code: Code,
    /// Which step, for people.
    pub step: String,
    /// One plain sentence.
    pub cause: String,
    /// What was seen.
    pub evidence: Vec<Evidence>,
}

impl StepFailure {
    /// Without evidence.
    #[must_use]
    pub fn new(code: Code, step: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { code, step: step.into(), cause: cause.into(), evidence: Vec::new() }
    }
    /// With the lines, if there are any.
    #[must_use]
    pub fn with(mut self, title: impl Into<String>, lines: Vec<String>) -> Self {
        if !lines.is_empty() {
            self.evidence.push(Evidence { title: title.into(), lines });
        }
        self
    }
}

impl From<LedgerError> for StepFailure {
    fn from(error: LedgerError) -> Self {
        let why = std::error::Error::source(&error).map(plainly).unwrap_or_default();
        Self::new(Code::Write, "journal", format!("{error}: {why}"))
    }
}

/// What is behind an error, in plain words where it is what people can mend.
fn plainly(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let full = chain
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded));
    if full { "the disk is full".to_owned() } else { error.to_string() }
}

impl Exec<'_> {
    /// Carries out one step. What must be durable is in the ledger, on disk, when it returns.
    ///
    /// `Gate` and `Commit` are the caller's, and nothing here.
    pub async fn step(&self, action: &Action, ledger: &mut AppLedger, undo: &mut Undo) -> Result<(), StepFailure> {
        match action {
            Action::InstallPackages(packages) => self.install_packages(packages).await,
            Action::CreateUser(need) => self.create_user(need).await,
            Action::MakeSwap { size_bytes } => self.make_swap(*size_bytes).await,
            Action::EnsureDirectory(need) => self.ensure_directory(need),
            Action::Fetch { .. } => self.fetch().await.map(drop),
            Action::Unpack { .. } => self.unpack().await,
            Action::Build { .. } => self.build().await,
            Action::Hook { when, index, .. } => self.hook(*when, *index, ledger).await,
            Action::WriteFile { path, keep_original, .. } => self.write_file(path, *keep_original, ledger, undo),
            Action::Validate { path, run, staged } => self.validate(path, run, *staged).await,
            Action::RemoveFile { path, restore_original } => self.remove_file(path, *restore_original, ledger, undo),
            Action::DaemonReload => self.daemon_reload().await,
            Action::Enable(unit) => self.enable(unit).await,
            Action::Disable(unit) => self.disable(unit).await,
            Action::Stop(unit) => self.stop(unit).await,
            Action::Start(unit) | Action::Restart(unit) => {
                self.run_unit(unit, matches!(action, Action::Restart(_)), ledger).await
            }
            Action::Reload(unit) => self.reload(unit).await,
            Action::MakeNetwork(network) => self.make_network(network).await,
            Action::PullImage(image) => self.pull_image(image).await,
            Action::RunContainer { name, .. } => self.run_container(name, ledger).await,
            Action::StartContainer(name) => self.start_container(name).await,
            Action::AdoptContainer(name) => self.adopt_container(name, ledger).await,
            Action::ReturnContainer(name) => self.return_container(name, ledger).await,
            Action::RemoveContainer(name) => self.remove_container(name).await,
            Action::Drain { instance, port, at_most } => self.drain(instance, *port, at_most.as_duration()).await,
            Action::BuildProject(name) => self.build_project(name, ledger).await,
            Action::UpProject { name, recreate } => self.up_project(name, *recreate, ledger).await,
            Action::AdoptProject(name) => self.adopt_project(name, ledger).await,
            Action::LeaveProject(name) => self.leave_project(name, ledger),
            Action::RemoveProject(name) => self.remove_project(name).await,
            Action::Prove { .. } | Action::Gate { .. } | Action::Commit => Ok(()),
        }
    }

    fn wanted(&self) -> Result<&Rendered, StepFailure> {
        self.wanted.ok_or_else(|| StepFailure::new(Code::Internal, "plan", "the plan has a step that needs a release"))
    }
}

/// A step as progress shows it, in a few words.
#[must_use]
pub fn describe(action: &Action) -> String {
    match action {
        Action::InstallPackages(packages) => {
            let names: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
            format!("installing {}", names.join(", "))
        }
        Action::CreateUser(need) => format!("making user {}", need.name),
        Action::MakeSwap { size_bytes } => format!("making a swap file of {} MiB", size_bytes >> 20),
        Action::EnsureDirectory(need) => format!("making {}", need.path),
        Action::Fetch { digest, from: Some(from), .. } => format!("fetching artifact {} from {from}", digest.short()),
        Action::Fetch { digest, size_bytes, from: None } => {
            format!("fetching artifact {} ({:.1} MiB)", digest.short(), *size_bytes as f64 / 1_048_576.0)
        }
        Action::Unpack { .. } => "unpacking the artifact".to_owned(),
        Action::Build { .. } => "building".to_owned(),
        Action::Hook { when, run, name, .. } => {
            let point = if *when == HookPoint::BeforeSwitch { "before" } else { "after" };
            format!("hook {} {point} the switch: {}", name.as_deref().unwrap_or_default(), run.join(" "))
        }
        Action::WriteFile { path, .. } => format!("writing {path}"),
        Action::Validate { run, path, .. } => format!("{} for {path}", run.join(" ").trim()),
        Action::RemoveFile { path, restore_original: true } => format!("putting the original {path} back"),
        Action::RemoveFile { path, restore_original: false } => format!("removing {path}"),
        Action::DaemonReload => "systemd reads its unit files".to_owned(),
        Action::Enable(unit) => format!("enabling {unit}"),
        Action::Disable(unit) => format!("disabling {unit}"),
        Action::Stop(unit) => format!("stopping {unit}"),
        Action::Start(unit) => format!("starting {unit}"),
        Action::Restart(unit) => format!("restarting {unit}"),
        Action::Reload(unit) => format!("reloading {unit}"),
        Action::MakeNetwork(network) => format!("making network {network}"),
        Action::PullImage(image) => format!("fetching image {}", image.short()),
        Action::RunContainer { name, image } => format!("running container {name} of {}", image.short()),
        Action::StartContainer(name) => format!("starting container {name}"),
        Action::AdoptContainer(name) => format!("taking container {name} over as it is"),
        Action::ReturnContainer(name) => format!("bringing container {name} back as it was"),
        Action::RemoveContainer(name) => format!("removing container {name}"),
        Action::Prove { instance, .. } => format!("waiting until {instance} is healthy"),
        Action::Drain { instance, .. } => format!("waiting for what {instance} has begun"),
        Action::BuildProject(name) => format!("building the images of compose project {name}"),
        Action::UpProject { name, .. } => format!("bringing compose project {name} up"),
        Action::AdoptProject(name) => format!("taking compose project {name} over"),
        Action::LeaveProject(name) => format!("leaving compose project {name} as it was taken over"),
        Action::RemoveProject(name) => format!("removing compose project {name}"),
        Action::Gate { .. } => "waiting for health".to_owned(),
        Action::Commit => "committing".to_owned(),
    }
}

#[cfg(test)]
mod tests;
