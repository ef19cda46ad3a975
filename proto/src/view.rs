//! What an operator sees: the documents behind the CLI's tables, printed as they are by `-o json`. Made by the
//! coordinator's `rpc/operator`, read by the CLI.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    name::{
        AppName, Generation, HostId, HostName, LabelKey, LabelValue, OperatorName, ReleaseNumber, RolloutId, SecretName,
    },
    plan::Plan,
    rollout::{HostState, RolloutState},
    status::{AppStatus, Failure},
};

mod alerts;
mod history;

pub use alerts::{AlertView, AlertsView, NotifierAnswer, NotifierView, SilenceView};
pub use history::{FiguresView, HistoryPoint, HistoryView, TopRow, TopView};

/// The answer to `drover plan`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlanView {
    /// To be given to `drover apply --plan`.
    pub plan_id: String,
    /// The app.
    pub app: AppName,
    /// The number that the release has, or would get.
    pub release: ReleaseNumber,
    /// Whether anything would change anywhere; an unknown host counts as a change.
    pub has_changes: bool,
    /// By host, in rollout order.
    pub hosts: Vec<HostPlan>,
    /// Hosts with the labels that a rollout would skip, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<HostName, String>,
}

/// One host of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostPlan {
    /// Which.
    pub host: HostName,
    /// What would happen there.
    pub outcome: HostPlanOutcome,
}

/// What a host answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPlanOutcome {
    /// These steps, or refusals.
    Planned(Plan),
    /// It is not connected: nobody knows.
    Unknown(String),
    /// It could not plan.
    Error(String),
}

/// A line of `drover rollout list`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RolloutSummary {
    /// Its number.
    pub id: RolloutId,
    /// Of which app.
    pub app: AppName,
    /// To which release; `None` removes the app.
    pub release: Option<ReleaseNumber>,
    /// Where it is.
    pub state: RolloutState,
    /// `apply`, `rollback`, `restart` or `remove`.
    pub kind: String,
    /// Who began it.
    pub started_by: String,
    /// Unix ms.
    pub started_unix_ms: i64,
    /// Unix ms.
    pub ended_unix_ms: Option<i64>,
    /// How many hosts are in each state, by word.
    pub hosts: BTreeMap<String, usize>,
}

/// All about one rollout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RolloutView {
    /// The summary.
    #[serde(flatten)]
    pub summary: RolloutSummary,
    /// In rollout order.
    pub targets: Vec<RolloutHostView>,
}

/// One host of a rollout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RolloutHostView {
    /// Which.
    pub host: HostName,
    /// Where it is.
    pub state: HostState,
    /// The release it had before.
    pub before: Option<ReleaseNumber>,
    /// With evidence, if it failed.
    pub failure: Option<Failure>,
    /// It is the one host that may run the hooks that run once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub run_once: bool,
}

/// A desired state that a host did not accept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedSpec {
    /// Which.
    pub generation: Generation,
    /// The host's reason.
    pub message: String,
}

/// An operator keeps rollouts away from a host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cordoned {
    /// Who.
    pub by: String,
    /// Unix ms.
    pub at_unix_ms: i64,
}

/// A line of `drover hosts`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostView {
    /// The coordinator's name for it.
    pub id: HostId,
    /// People's name for it.
    pub name: HostName,
    /// Its labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Whether its stream is up.
    pub connected: bool,
    /// Unix ms of the last word from it.
    pub last_seen_unix_ms: Option<i64>,
    /// Of its agent.
    pub agent_version: String,
    /// E.g. `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Written for it.
    pub generation: Generation,
    /// Accepted by it.
    pub generation_accepted: Generation,
    /// The newest that it did not accept; gone once it accepts one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedSpec>,
    /// Unix ms; since then none of its certificates counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_unix_ms: Option<i64>,
    /// Rollouts skip it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordoned: Option<Cordoned>,
    /// App → release number or phase, for people.
    pub apps: BTreeMap<AppName, String>,
    /// Apps that stay as the host holds them, which this coordinator does not know: it was restored from a backup.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kept: BTreeSet<AppName>,
}

/// `drover hosts show` and `drover why`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostDetail {
    /// The line.
    #[serde(flatten)]
    pub host: HostView,
    /// Unix ms.
    pub enrolled_unix_ms: i64,
    /// Who made the token it came with.
    pub enrolled_by: String,
    /// Unix ms.
    pub certificate_not_after_unix_ms: i64,
    /// As last reported.
    pub apps_status: BTreeMap<AppName, AppStatus>,
    /// App → desired release as the coordinator wrote it.
    pub desired: BTreeMap<AppName, ReleaseNumber>,
    /// Unix ms of that report, by the coordinator's clock.
    pub reported_unix_ms: Option<i64>,
}

/// `drover status`: one app over its hosts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AppView {
    /// The app.
    pub app: AppName,
    /// The newest release whose rollout succeeded.
    pub last_good: Option<ReleaseNumber>,
    /// The newest release.
    pub latest: Option<ReleaseNumber>,
    /// A rollout that is not final.
    pub rollout: Option<RolloutSummary>,
    /// By host.
    pub hosts: Vec<AppHostView>,
}

/// One app on one host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AppHostView {
    /// Which.
    pub host: HostName,
    /// Whether its stream is up.
    pub connected: bool,
    /// As the coordinator wrote it.
    pub desired: Option<ReleaseNumber>,
    /// The host does not accept its desired state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedSpec>,
    /// As the host last reported it.
    pub status: Option<AppStatus>,
    /// It stays as the host holds it (`desired` is what the host says), which this coordinator does not know.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

/// A line of `drover releases`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReleaseView {
    /// The app.
    pub app: AppName,
    /// Its number.
    pub number: ReleaseNumber,
    /// Of its spec's document.
    pub digest: String,
    /// Unix ms.
    pub created_unix_ms: i64,
    /// By whom.
    pub created_by: String,
    /// Unix ms when a rollout of it last succeeded.
    pub good_unix_ms: Option<i64>,
    /// On how many hosts it is desired now.
    pub hosts: usize,
}

/// A line of `drover secret list`; never a value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SecretView {
    /// Its name.
    pub name: SecretName,
    /// Only for this environment; empty = every one.
    pub environment: String,
    /// Counts up with each `set`.
    pub version: u64,
    /// Unix ms.
    pub set_unix_ms: i64,
    /// By whom.
    pub set_by: String,
}

/// A line of `drover token list`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenView {
    /// Its public half.
    pub id: String,
    /// Of the hosts that come with it.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Still to be used.
    pub uses_left: u32,
    /// Unix ms.
    pub expires_unix_ms: i64,
    /// By whom.
    pub created_by: String,
    /// `valid`, `expired`, `used up` or `revoked`.
    pub state: String,
}

/// A line of `drover operator list`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperatorView {
    /// Who.
    pub name: OperatorName,
    /// Unix ms.
    pub added_unix_ms: i64,
    /// Unix ms; `None` = not logged in yet.
    pub logged_in_unix_ms: Option<i64>,
    /// Unix ms.
    pub revoked_unix_ms: Option<i64>,
}

/// A line of `drover audit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditView {
    /// Unix ms.
    pub at_unix_ms: i64,
    /// Who.
    pub who: String,
    /// What, e.g. `secret set`.
    pub action: String,
    /// Of what, e.g. `siliconflow (version 2)`.
    pub subject: String,
}

/// `drover events`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventView {
    /// The coordinator's number for it: events are numbered as they come in.
    pub id: i64,
    /// When it happened, by the clock of the host (or of the coordinator, when it is its own event).
    pub at_unix_ms: i64,
    /// When the coordinator learned of it, by its own clock.
    pub received_unix_ms: i64,
    /// Of which host; none = of no host in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// That host's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<HostId>,
    /// Of which app; none = of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// What, in a word: `drover_proto::event::EventKind`.
    pub kind: String,
    /// One plain sentence.
    pub message: String,
}
