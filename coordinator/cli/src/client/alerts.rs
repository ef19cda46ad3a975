//! The calls behind `drover alerts`, `silence` and `notify`. Part of `client`.

use drover_proto::{
    duration::Span,
    name::{AppName, NotifierName},
    view::{AlertsView, NotifierAnswer, NotifierView, SilenceView},
    wire,
};

use super::{Client, Document, document, error};
use crate::{fault::Fault, show::time::now_ms};

impl Client {
    /// What is wrong, and who is told.
    pub async fn alerts(&mut self, host: Option<&str>, app: Option<&AppName>) -> Result<Document<AlertsView>, Fault> {
        let host = host.unwrap_or_default().to_owned();
        let app = app.map(ToString::to_string).unwrap_or_default();
        let reply = self.calls.list_alerts(wire::AlertsRequest { host, app }).await;
        self.view(reply)
    }
    /// What is wrong on one host; `None`: the coordinator is of an older version, and knows nothing of alerts.
    pub async fn alerts_of(&mut self, host: &str) -> Result<Option<Document<AlertsView>>, Fault> {
        match self.calls.list_alerts(wire::AlertsRequest { host: host.to_owned(), app: String::new() }).await {
            Ok(reply) => document(&reply.into_inner().json).map(Some),
            Err(status) if error::is_unknown_call(&status) => Ok(None),
            Err(status) => Err(self.fault(&status)),
        }
    }
    /// Those that count, will count, or counted since yesterday.
    pub async fn silences(&mut self) -> Result<Document<Vec<SilenceView>>, Fault> {
        let reply = self.calls.list_silences(wire::Empty {}).await;
        self.view(reply)
    }
    /// A new one, from now on or after `begins`.
    pub async fn add_silence(
        &mut self,
        matchers: Vec<String>,
        lasts: Span,
        reason: String,
        begins: Option<Span>,
    ) -> Result<Document<SilenceView>, Fault> {
        let starts = begins.map(|begins| now_ms().saturating_add_unsigned(begins.as_ms()));
        let request = wire::AddSilenceRequest {
            matchers,
            duration_s: lasts.as_ms().div_ceil(1000),
            reason,
            starts_unix_ms: starts.unwrap_or_default(),
        };
        let reply = self.calls.add_silence(request).await;
        self.view(reply)
    }
    /// Ends one.
    pub async fn end_silence(&mut self, id: &str) -> Result<Document<SilenceView>, Fault> {
        let reply = self.calls.end_silence(wire::SilenceRequest { id: id.to_owned() }).await;
        self.view(reply)
    }
    /// Who can be told.
    pub async fn notifiers(&mut self) -> Result<Document<Vec<NotifierView>>, Fault> {
        let reply = self.calls.list_notifiers(wire::Empty {}).await;
        self.view(reply)
    }
    /// Sends one notification.
    pub async fn test_notifier(&mut self, name: &NotifierName) -> Result<Document<NotifierAnswer>, Fault> {
        let reply = self.calls.test_notifier(wire::NotifierRequest { name: name.to_string() }).await;
        self.view(reply)
    }
}
