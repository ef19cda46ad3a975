//! To whom: the settings of one notifier (`[notifiers.NAME]`), and what sends to it. The kinds are files beside this one; this one
//! knows them all. The alert engine has a [`Notifier`] for each.

use std::{collections::BTreeMap, time::Duration};

use drover_proto::{alert::Severity, duration::Span, name::NotifierName};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{Instant, error::Elapsed, timeout_at};

use super::{
    Notification, Told, alertmanager::Alertmanager, dingtalk::DingTalk, feishu::Feishu, files::FieldError,
    mail::Letter, slack::Slack, smtp::Smtp, web::Post, webhook::Webhook, wecom::WeCom, words::cut,
};

const TIMEOUT: Span = Span::from_secs(10);
const TIMEOUTS: std::ops::RangeInclusive<Span> = Span::from_secs(1)..=Span::from_secs(60);
const KINDS: &str = "smtp, slack, dingtalk, feishu, wecom, webhook or alertmanager";
const MAX_SAID_CHARS: usize = 300;

/// A notifier as the settings have it. What is secret is only named in it, or shows itself as `[secret]`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct NotifierConfig {
    timeout: Span,
    target: Target,
}

#[derive(Clone, PartialEq, Debug)]
enum Target {
    Smtp(Smtp),
    Slack(Slack),
    DingTalk(DingTalk),
    Feishu(Feishu),
    WeCom(WeCom),
    Webhook(Webhook),
    Alertmanager(Alertmanager),
}

/// What every kind can do.
pub(super) trait Receiver {
    /// What can be seen to be wrong without reading a file.
    fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }
    /// Where it leads, without what is secret.
    fn to(&self) -> String;
    /// Reads the files and writes the message. Blocks.
    fn prepare(&self, notification: &Notification, now_unix_ms: i64) -> Result<Prepared, FieldError>;
}

/// A message that is ready to be sent.
#[derive(Debug)]
pub(super) enum Prepared {
    Post(Box<Post>),
    Letter(Box<Letter>),
}

/// Why a notifier of the settings is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("notifier {notifier}: {problem}")]
pub struct ConfigError {
    /// Which.
    pub notifier: NotifierName,
    /// Which key of it, and what is wrong.
    #[source]
    pub problem: FieldError,
}

/// What was answered to a notification that was taken, if not by all who were to get it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// One line for people, at most 300 characters, without what is secret.
    pub said: String,
    /// Who refused it for good, and why, like `said`.
    pub refused: Option<String>,
    /// Who refused it for now: it is to be sent again, to them alone.
    pub left: Vec<String>,
}

impl Taken {
    /// By all.
    pub(super) fn by_all(said: String) -> Self {
        Self { said, ..Self::default() }
    }
    /// Whether all took it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.refused.is_none() && self.left.is_empty()
    }
}

/// Why a notification was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{said}")]
pub struct SendError {
    /// Refused for good: trying again is useless.
    pub is_permanent: bool,
    /// Not before so much time has passed, says the other side.
    pub retry_after: Option<Duration>,
    /// One line for people, at most 300 characters, without what is secret.
    pub said: String,
}

impl SendError {
    /// Of what may be over the next time.
    pub(crate) fn again(said: impl AsRef<str>) -> Self {
        Self { is_permanent: false, retry_after: None, said: cut(said.as_ref(), MAX_SAID_CHARS) }
    }
}

impl TryFrom<toml::Table> for NotifierConfig {
    type Error = String;

    fn try_from(mut table: toml::Table) -> Result<Self, String> {
        let kind: String = take(&mut table, "type")?.ok_or(format!("`type` is missing: {KINDS}"))?;
        let timeout = take(&mut table, "timeout")?.unwrap_or(TIMEOUT);
        if !TIMEOUTS.contains(&timeout) {
            return Err(format!("`timeout` must be {} to {}", TIMEOUTS.start(), TIMEOUTS.end()));
        }
        let target = match kind.as_str() {
            "smtp" => Target::Smtp(read(table)?),
            "slack" => Target::Slack(read(table)?),
            "dingtalk" => Target::DingTalk(read(table)?),
            "feishu" => Target::Feishu(read(table)?),
            "wecom" => Target::WeCom(read(table)?),
            "webhook" => Target::Webhook(read(table)?),
            "alertmanager" => Target::Alertmanager(read(table)?),
            other => return Err(format!("`type` is {other:?}: it must be {KINDS}")),
        };
        target.receiver().check().map_err(|e| e.to_string())?;
        Ok(Self { timeout, target })
    }
}

fn take<T: DeserializeOwned>(table: &mut toml::Table, key: &str) -> Result<Option<T>, String> {
    let value = table.remove(key).map(toml::Value::try_into).transpose();
    value.map_err(|e| format!("`{key}`: {}", one_line(&e)))
}

fn read<T: DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    toml::Value::Table(table).try_into().map_err(|e| one_line(&e))
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().trim().replace('\n', " ")
}

impl Target {
    fn receiver(&self) -> &dyn Receiver {
        match self {
            Self::Smtp(receiver) => receiver,
            Self::Slack(receiver) => receiver,
            Self::DingTalk(receiver) => receiver,
            Self::Feishu(receiver) => receiver,
            Self::WeCom(receiver) => receiver,
            Self::Webhook(receiver) => receiver,
            Self::Alertmanager(receiver) => receiver,
        }
    }
}

impl NotifierConfig {
    /// The word of its `type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.target {
            Target::Smtp(_) => "smtp",
            Target::Slack(_) => "slack",
            Target::DingTalk(_) => "dingtalk",
            Target::Feishu(_) => "feishu",
            Target::WeCom(_) => "wecom",
            Target::Webhook(_) => "webhook",
            Target::Alertmanager(_) => "alertmanager",
        }
    }

    /// Where it leads, without what is secret: `ops@example.org by mail.example.org:587`, `oapi.dingtalk.com`. Reads the file
    /// of its URL, if it has one.
    #[must_use]
    pub fn to(&self) -> String {
        self.target.receiver().to()
    }

    /// Whether what fires is to be sent again every minute, since the other side takes it for over otherwise.
    #[must_use]
    pub fn is_resent(&self) -> bool {
        matches!(self.target, Target::Alertmanager(_))
    }
}

/// Sends to one receiver.
#[derive(Clone, Debug)]
pub struct Notifier {
    name: NotifierName,
    config: NotifierConfig,
}

impl Notifier {
    /// With these settings.
    #[must_use]
    pub fn new(name: NotifierName, config: &NotifierConfig) -> Self {
        Self { name, config: config.clone() }
    }

    /// Reads every file that it needs, and writes a message that is not sent: what is wrong shows before the first alert.
    /// Blocks.
    pub fn check(&self) -> Result<(), ConfigError> {
        let prepare = |sample| self.config.target.receiver().prepare(&sample, 0).map(drop);
        let checked = samples().into_iter().try_for_each(prepare);
        checked.map_err(|problem| ConfigError { notifier: self.name.clone(), problem })
    }

    /// Its name in the settings.
    #[must_use]
    pub fn name(&self) -> &NotifierName {
        &self.name
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &NotifierConfig {
        &self.config
    }

    /// Sends it, and says what the other side answered, in one line of at most 300 characters. Whether it is taken is known within
    /// the `timeout` of its settings; for the words of the answer, or a good-bye, it may wait a second more. The files are read anew.
    pub async fn send(&self, notification: &Notification, now_unix_ms: i64) -> Result<Taken, SendError> {
        let timeout = self.config.timeout;
        let answer = self.attempt(notification, now_unix_ms, Instant::now() + timeout.as_duration()).await;
        answer.unwrap_or_else(|_: Elapsed| Err(SendError::again(format!("no answer within {timeout}"))))
    }

    async fn attempt(
        &self,
        notification: &Notification,
        now_unix_ms: i64,
        until: Instant,
    ) -> Result<Result<Taken, SendError>, Elapsed> {
        let (target, notification) = (self.config.target.clone(), notification.clone());
        let prepare = tokio::task::spawn_blocking(move || target.receiver().prepare(&notification, now_unix_ms));
        let prepared = match timeout_at(until, prepare).await? {
            Ok(prepared) => prepared,
            Err(failed) => return Ok(Err(SendError::again(failed.to_string()))),
        };
        // What a template cannot make of these alerts it never will, and others wait behind it; a file may come back.
        let unwritten =
            |e: FieldError| SendError { is_permanent: e.field == "template", ..SendError::again(e.to_string()) };
        match prepared.map_err(unwritten) {
            Ok(Prepared::Post(post)) => Ok(post.send(until).await?.map(Taken::by_all)),
            Ok(Prepared::Letter(letter)) => letter.send(until).await,
            Err(error) => Ok(Err(error)),
        }
    }
}

/// What the settings are tried with: one with all that there may be, and one without all that there need not be.
fn samples() -> [Notification; 2] {
    let word = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let labels = [word("alert", "test"), word("host", "web-1"), word("severity", "info"), word("subject", "/")];
    let told = Told {
        labels: labels.into(),
        summary: "a test".to_owned(),
        annotations: [word("runbook", "https://example.org/")].into(),
        severity: Severity::Info,
        started_unix_ms: 0,
        ended_unix_ms: None,
    };
    let bare: BTreeMap<_, _> = told.labels.clone().into_iter().filter(|(key, _)| key != "subject").collect();
    let bare = Told { labels: bare, annotations: BTreeMap::new(), ended_unix_ms: Some(1), ..told.clone() };
    let with = |alerts, more, reason: &str| {
        let (group, reason) = ([word("host", "web-1")].into(), reason.to_owned());
        Notification { id: "test".to_owned(), group, alerts, more, reason, only: vec![] }
    };
    [with(vec![told, bare.clone()], 1, "test"), with(vec![bare], 0, "")]
}
