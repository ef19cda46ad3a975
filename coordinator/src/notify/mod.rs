//! How people and other systems are told of alerts: what is sent (here), and to whom (`target`); one file per kind of receiver
//! beside it. `words` is what they have in common of the text, `files` reads what is secret, `web` and `mail` speak to the
//! other side. `alert` says what is to be sent and when. docs/NOTIFIERS.md is for who writes the settings.

use std::collections::BTreeMap;

use drover_proto::alert::Severity;

mod alertmanager;
mod dingtalk;
mod feishu;
mod files;
mod mail;
mod slack;
mod smtp;
pub mod target;
mod web;
mod webhook;
mod wecom;
mod words;

#[cfg(test)]
mod tests;

/// What is sent at one time to one receiver: some alerts that belong together.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Notification {
    /// Its own; the same when it is sent again, so that a receiver can tell.
    pub id: String,
    /// The labels that they have in common, by which they were grouped.
    pub group: BTreeMap<String, String>,
    /// Those that fire first, the worst first.
    pub alerts: Vec<Told>,
    /// So many more were left out.
    pub more: usize,
    /// Why it is sent again, if nothing is new: `still firing`, `escalated after 30m`, `test`; empty = something is.
    pub reason: String,
    /// Of mail: those for whom alone it is, since the others have it, or refused it for good. Empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
}

/// One alert of it.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Told {
    /// All labels: `alert`, `host`, `severity`, `app`, `subject`, those of the rule and of the host.
    pub labels: BTreeMap<String, String>,
    /// One plain sentence.
    pub summary: String,
    /// Of its rule.
    pub annotations: BTreeMap<String, String>,
    /// How bad it is.
    pub severity: Severity,
    /// When it began to fire, Unix ms.
    pub started_unix_ms: i64,
    /// When it was over; `None` = it fires.
    pub ended_unix_ms: Option<i64>,
}
