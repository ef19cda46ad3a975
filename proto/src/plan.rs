//! The plan: the ordered steps that turn what a host has into what it should have, each with its reason. Made by the
//! agent's pure planner; `drover plan` prints the very value that would run.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    app::{DirectoryNeed, HookPoint, UserNeed},
    digest::Digest,
    duration::Span,
    image::ImageRef,
    name::{
        AbsPath, AppName, CheckName, ContainerName, NetworkName, PackageName, ProjectName, ReleaseId, UnitName,
        UserName,
    },
};

/// What would happen to one app on one host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The app.
    pub app: AppName,
    /// The release that is committed now.
    pub from: Option<ReleaseId>,
    /// The release to be committed; `None` removes the app.
    pub to: Option<ReleaseId>,
    /// In the order they run.
    pub steps: Vec<Step>,
    /// What forbids running it at all, e.g. a path that another app owns. Non-empty = nothing will be touched.
    pub refusals: Vec<Refusal>,
    /// What may become a problem, and forbids nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Refusal>,
    /// When it was made, by the host's clock; Unix ms. The coordinator compares its own, and takes it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_unix_ms: Option<i64>,
}

/// How large an artifact is when it is unpacked. Only who packed it knows before it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Of all files.
    pub unpacked_bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

impl Plan {
    /// Whether anything on the host would change (gate and commit change nothing).
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.steps.iter().any(|step| !matches!(step.action, Action::Gate { .. } | Action::Commit))
    }
}

impl From<Extent> for crate::wire::Extent {
    fn from(extent: Extent) -> Self {
        Self { unpacked_bytes: extent.unpacked_bytes, entries: extent.entries }
    }
}

impl From<crate::wire::Extent> for Extent {
    fn from(extent: crate::wire::Extent) -> Self {
        Self { unpacked_bytes: extent.unpacked_bytes, entries: extent.entries }
    }
}

/// Why a plan must not run, or, as a warning, might not end well.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// A code of docs/ERRORS.md.
    pub code: crate::code::Code,
    /// The part concerned.
    pub part: String,
    /// One sentence with what to do.
    pub message: String,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// Everything that an activation can do to a host. Matched without wildcards wherever a decision is due.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// `apt-get install`, downloaded first, service starts held back.
    InstallPackages(BTreeSet<PackageName>),
    /// `useradd --system`.
    CreateUser(UserNeed),
    /// A swap file of that size is made and put to use, now and at every boot.
    MakeSwap {
        /** Of the file. */
        size_bytes: u64,
    },
    /// Created, or owner and mode set.
    EnsureDirectory(DirectoryNeed),
    /// The artifact's archive comes from the coordinator, or from where the manifest says, by digest.
    Fetch {
        /** Of the archive. */
        digest: Digest,
        /** Of the archive; 0 = not known. */
        size_bytes: u64,
        /** Where it is fetched from; none = the coordinator. */
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
    },
    /// The archive is unpacked into the new release's own directory.
    Unpack {
        /** Of the archive. */
        digest: Digest,
        /** Final path. */
        directory: AbsPath,
    },
    /// The build steps run there.
    Build {
        /** Final path. */
        directory: AbsPath,
        /** As whom. */
        user: UserName,
        /** Rendered. */
        run: Vec<Vec<String>>,
        /** For all. */
        timeout: Span,
    },
    /// A network for containers.
    MakeNetwork(NetworkName),
    /// An image comes from its registry, by digest.
    PullImage(ImageRef),
    /// A lifecycle hook.
    Hook {
        /** When. */
        when: HookPoint,
        /** Position in the app's list. */
        index: usize,
        /** Rendered. */
        run: Vec<String>,
        /** As whom. */
        user: UserName,
        /** How people call it; none from an older agent. */
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /** On this host and no other of the rollout. */
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        run_once: bool,
    },
    /// A file gets its content, owner and mode, atomically. The content itself is not in the plan.
    WriteFile {
        /// Where.
        path: AbsPath,
        /// Of the new content; absent when it holds secrets.
        digest: Option<Digest>,
        /// Its owner.
        owner: UserName,
        /// Its group.
        group: UserName,
        /// Permission bits.
        mode: u32,
        /// Unified diff from what is there, secrets masked; empty when only owner or mode differ.
        diff: String,
        /// A file of somebody else is put aside first, to come back on revert or remove.
        keep_original: bool,
    },
    /// A file's check; `staged` = of a copy, before the file is in its place.
    Validate {
        /** Of which file. */
        path: AbsPath,
        /** Rendered, `{{ path }}` as it is. */
        run: Vec<String>,
        /** On a copy. */
        staged: bool,
    },
    /// A file that the release drops goes; the original of an adopted one comes back.
    RemoveFile {
        /** Which. */
        path: AbsPath,
        /** Put back what was there before. */
        restore_original: bool,
    },
    /// systemd reads its unit files again.
    DaemonReload,
    /// At boot.
    Enable(UnitName),
    /// Not at boot.
    Disable(UnitName),
    /// Stopped; waits for the job.
    Stop(UnitName),
    /// Started; waits for the job.
    Start(UnitName),
    /// Restarted; waits for the job.
    Restart(UnitName),
    /// Reloaded (or restarted, when it cannot reload); waits for the job.
    Reload(UnitName),
    /// A container is made and started, in place of the one that has its name.
    RunContainer {
        /** Which. */
        name: ContainerName,
        /** Of this. */
        image: ImageRef,
    },
    /// One that is there is started.
    StartContainer(ContainerName),
    /// A container that somebody else has made is the app's from now on, as it is: nothing is done to it.
    AdoptContainer(ContainerName),
    /// One that was taken over is as it was before: under its name, and running if it ran. What drover made instead goes.
    ReturnContainer(ContainerName),
    /// Stopped and removed; its volumes stay.
    RemoveContainer(ContainerName),
    /// The images of the services that have `build:` are built from the artifact.
    BuildProject(ProjectName),
    /// `docker compose up`: what differs is made anew, what is down is started, what is not in it any more goes.
    UpProject {
        /** Which. */
        name: ProjectName,
        /** All containers are made anew, also those that do not differ. */
        recreate: bool,
    },
    /// A project that runs already becomes the app's, as it runs.
    AdoptProject(ProjectName),
    /// One that was taken over, and that no release has changed since, is the app's no more, and runs on.
    LeaveProject(ProjectName),
    /// All containers and networks of a project are stopped and removed; its volumes stay.
    RemoveProject(ProjectName),
    /// Healthy without a break for that long, before the deadline; else revert.
    Gate {
        /** Units that must be active. */
        units: BTreeSet<UnitName>,
        /** Containers that must run and be well. */
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        containers: BTreeSet<ContainerName>,
        /** Compose projects all of whose services must run and be well. */
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        projects: BTreeSet<ProjectName>,
        /** Checks that must pass. */
        checks: BTreeSet<CheckName>,
        /** Without a break. */
        min_healthy_time: Span,
        /** From the switch. */
        healthy_deadline: Span,
    },
    /// A new instance beside the one that serves is healthy without a break for that long, before anything is sent to it.
    Prove {
        /** Its name, e.g. `mono-api@20001.service`. */
        instance: String,
        /** Where it accepts connections, on 127.0.0.1. */
        port: u16,
        /** The checks that ask it. */
        checks: BTreeSet<CheckName>,
        /** Without a break. */
        min_healthy_time: Span,
    },
    /// What an instance that serves no more has begun is waited for.
    Drain {
        /** Its name. */
        instance: String,
        /** Where it listens, if that is known. */
        port: Option<u16>,
        /** Then it is stopped all the same. */
        at_most: Span,
    },
    /// The release is now the host's current one.
    Commit,
}

/// Why a step is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is not there.
    Missing,
    /// It is there, but its content differs from the release's.
    ContentDiffers,
    /// Only its owner, group or mode differ.
    OwnerOrModeDiffers,
    /// It is new in this release.
    New,
    /// The release no longer has it.
    Dropped,
    /// The app is being removed.
    AppRemoved,
    /// This file changed.
    FileChanged(AbsPath),
    /// Its unit file changed.
    UnitChanged,
    /// The env file, with the app's settings and secrets, changed.
    EnvChanged,
    /// The artifact or its build changed, and with it the release's path.
    ReleaseChanged,
    /// Its tag means another image than before.
    ImageChanged,
    /// What the manifest says of the container changed.
    ContainerChanged,
    /// It was made just as the release says.
    MadeAlike,
    /// It was made by somebody else, and these fields differ.
    MadeOtherwise(Vec<String>),
    /// Its compose files, or what they are filled in with, changed.
    ComposeChanged,
    /// It should be running, and is not.
    NotRunning,
    /// It should be started at boot, and is not.
    NotEnabled,
    /// It should not be started at boot, and is.
    NotDisabled,
    /// It runs something other than what drover last started there.
    StaleProcess,
    /// An operator asked for a restart.
    RestartAsked,
    /// The manifest says so, for every activation that changes something.
    Declared,
    /// That instance has taken its place.
    Replaced(String),
    /// Nothing is sent to a new instance that has not been seen healthy.
    ProveBeside,
    /// No host counts as updated before it has been seen healthy.
    ProveHealth,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::ContentDiffers => f.write_str("content differs"),
            Self::OwnerOrModeDiffers => f.write_str("owner or mode differs"),
            Self::New => f.write_str("new in this release"),
            Self::Dropped => f.write_str("not in this release any more"),
            Self::AppRemoved => f.write_str("the app is removed"),
            Self::FileChanged(path) => write!(f, "{path} changed"),
            Self::UnitChanged => f.write_str("its unit file changed"),
            Self::EnvChanged => f.write_str("settings or secrets changed"),
            Self::ReleaseChanged => f.write_str("artifact or build changed"),
            Self::ImageChanged => f.write_str("another image"),
            Self::ContainerChanged => f.write_str("its part of the manifest changed"),
            Self::MadeAlike => f.write_str("it was made as the release says"),
            Self::MadeOtherwise(fields) => write!(f, "it was made with another {}", fields.join(", ")),
            Self::ComposeChanged => f.write_str("its compose files or settings changed"),
            Self::NotRunning => f.write_str("not running"),
            Self::NotEnabled => f.write_str("not enabled at boot"),
            Self::NotDisabled => f.write_str("enabled at boot"),
            Self::StaleProcess => f.write_str("not the process that drover started"),
            Self::RestartAsked => f.write_str("a restart was asked for"),
            Self::Declared => f.write_str("the manifest says so"),
            Self::Replaced(by) => write!(f, "{by} has taken its place"),
            Self::ProveBeside => f.write_str("nothing is sent to it before it is seen healthy"),
            Self::ProveHealth => f.write_str("a host counts only when seen healthy"),
        }
    }
}
