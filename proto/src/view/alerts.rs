//! What an operator sees of alerts, silences and notifiers. Part of `view`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    alert::{AlertState, Severity},
    name::{AlertName, AppName, HostId, HostName, NotifierName},
};

/// `drover alerts`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AlertsView {
    /// The worst first, then the oldest.
    pub alerts: Vec<AlertView>,
    /// So many more there are.
    #[serde(default)]
    pub more: usize,
    /// Notifications that have not been delivered yet.
    pub waiting: u64,
    /// Notifiers whose last delivery failed, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failing: BTreeMap<NotifierName, String>,
}

/// An alert, pending or firing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlertView {
    /// The rule.
    pub alert: AlertName,
    /// On which host.
    pub host: HostName,
    /// That host's id.
    pub host_id: HostId,
    /// Of which app; none = of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// What it is about: a mount point, a unit …; empty = the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Where it is.
    pub state: AlertState,
    /// How bad it is.
    pub severity: Severity,
    /// When it came into this state, Unix ms.
    pub since_unix_ms: i64,
    /// One plain sentence.
    pub summary: String,
    /// Why nobody is told of it; none = somebody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<String>,
    /// All of its labels, those of the host among them.
    pub labels: BTreeMap<String, String>,
    /// Of its rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A line of `drover silence list`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SilenceView {
    /// To end it by.
    pub id: String,
    /// All of them must hold for an alert, e.g. `host=web-1`.
    pub matchers: Vec<String>,
    /// Unix ms.
    pub starts_unix_ms: i64,
    /// Unix ms.
    pub ends_unix_ms: i64,
    /// By whom.
    pub created_by: String,
    /// Why.
    pub reason: String,
    /// `waiting`, `active` or `over`.
    pub state: String,
    /// How many alerts it holds back now.
    pub alerts: usize,
}

/// A line of `drover notify list`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NotifierView {
    /// Its name.
    pub name: NotifierName,
    /// `smtp`, `slack`, `dingtalk`, `feishu`, `wecom`, `webhook` or `alertmanager`.
    pub kind: String,
    /// Where it leads, without what is secret.
    pub to: String,
    /// Notifications that wait for it.
    pub waiting: u64,
    /// Unix ms of the last one that was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_unix_ms: Option<i64>,
    /// Why the last attempt failed; none = it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// `drover notify test`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NotifierAnswer {
    /// Which.
    pub name: NotifierName,
    /// Whether it was taken.
    pub ok: bool,
    /// What the other side answered.
    pub answer: String,
    /// How long that took.
    pub took_ms: u64,
}
