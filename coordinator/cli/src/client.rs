//! The coordinator as the commands see it: one method per call, documents in, documents out. The generated messages are
//! named here and in the files below, and nowhere else.

use std::collections::BTreeMap;

use drover_proto::{
    app::AppSpec,
    code::Code,
    found::{Found, Subject},
    limits,
    name::{AppName, EnvironmentName, LabelKey, LabelValue, OperatorName, RolloutId, SecretName},
    plan::Extent,
    prune::PruneView,
    secret::Secret,
    tls::{self, Trust},
    view::{
        AppView, AuditView, HostDetail, HostView, OperatorView, PlanView, ReleaseView, RolloutSummary, RolloutView,
        SecretView, TokenView,
    },
    wire::{self, operator_client::OperatorClient},
};
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status, transport::Channel};

use crate::fault::{Fault, Word};

mod alerts;
pub mod credentials;
#[cfg(test)]
pub(crate) mod double;
pub mod error;
pub mod explain;
mod figures;
pub mod login;
pub mod push;
pub mod renewal;

pub use drover_proto::wire::{
    CreateTokenReply, EventsRequest, LogLine, RolloutStarted, control_rollout_request::Control,
};

/// An answer: read, and as it came.
#[derive(Clone, Debug)]
pub struct Document<T> {
    /// Read.
    pub value: T,
    /// For `-o json`: also what this build does not know.
    pub json: serde_json::Value,
}

/// Logged in and connected.
#[derive(Clone)]
pub struct Client {
    calls: OperatorClient<Channel>,
    address: String,
    operator: OperatorName,
}

impl Client {
    /// Connects with what `drover login` left on this machine.
    pub async fn connect() -> Result<Self, Fault> {
        let directory = credentials::own_directory()?;
        let credentials = credentials::load(&directory)?;
        let address = credentials.config.coordinator.clone();
        if credentials.config.certificate_not_after_unix_ms < jiff::Timestamp::now().as_millisecond() {
            return Err(Fault::word(Word::CertificateExpired, "your certificate has expired").hint(
                "get a new login: `drover-coordinator operator add NAME` on the coordinator's machine, then `drover login`",
            ));
        }
        let config = tls::client_config(&Trust::Roots(credentials.ca_ders.clone()), Some(&credentials.identity))
            .map_err(|e| error::of_dial(&e, &address))?;
        let channel = tls::dial(&address, config).await.map_err(|e| error::of_dial(&e, &address))?;
        let calls = OperatorClient::new(channel)
            .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(limits::MAX_MESSAGE_BYTES);
        let operator = credentials.config.operator.clone();
        let mut client = Self { calls, address, operator };
        renewal::renew_if_due(&mut client.calls, &directory, credentials).await;
        Ok(client)
    }
    /// Over a channel of a test's own.
    #[cfg(test)]
    pub(crate) fn over(channel: Channel) -> Self {
        let operator = "test".parse().unwrap();
        Self { calls: OperatorClient::new(channel), address: "test".to_owned(), operator }
    }
    /// Who is logged in.
    #[must_use]
    pub fn operator(&self) -> &OperatorName {
        &self.operator
    }
    /// `HOST:PORT` of the coordinator.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
    /// A status in this coordinator's name.
    #[must_use]
    pub fn fault(&self, status: &Status) -> Fault {
        error::of_status(status, &self.address)
    }
    fn view<T: DeserializeOwned>(&self, reply: Result<Response<wire::View>, Status>) -> Result<Document<T>, Fault> {
        document(&reply.map_err(|e| self.fault(&e))?.into_inner().json)
    }
    fn done<T>(&self, reply: Result<Response<T>, Status>) -> Result<T, Fault> {
        reply.map(Response::into_inner).map_err(|e| self.fault(&e))
    }

    /// What applying the app would do on each host, and its id.
    pub async fn plan(&mut self, app: &AppSpec, extent: Option<Extent>) -> Result<Document<PlanView>, Fault> {
        let request = wire::PlanRequest { app_spec_json: bytes_of(app)?, extent: extent.map(wire::Extent::from) };
        let reply = self.calls.plan(request).await;
        document(&self.done(reply)?.json)
    }
    /// Begins a rollout; with `plan_id` only if that is still the plan.
    pub async fn apply(
        &mut self,
        app: &AppSpec,
        extent: Option<Extent>,
        plan_id: Option<&str>,
    ) -> Result<RolloutStarted, Fault> {
        let (app_spec_json, extent) = (bytes_of(app)?, extent.map(wire::Extent::from));
        let request = wire::ApplyRequest { app_spec_json, plan_id: plan_id.unwrap_or_default().to_owned(), extent };
        let reply = self.calls.apply(request).await;
        self.done(reply)
    }
    /// Begins going back; `None` = to the last good release before the current one.
    pub async fn rollback(&mut self, app: &AppName, to: Option<u64>) -> Result<RolloutStarted, Fault> {
        let request = wire::RollbackRequest { app: app.to_string(), to_release: to.unwrap_or(0) };
        let reply = self.calls.rollback(request).await;
        self.done(reply)
    }
    /// Begins a removal.
    pub async fn remove(&mut self, app: &AppName) -> Result<RolloutStarted, Fault> {
        let reply = self.calls.remove(wire::RemoveRequest { app: app.to_string() }).await;
        self.done(reply)
    }

    /// `drover rollout list`.
    pub async fn rollouts(&mut self, app: Option<&AppName>) -> Result<Document<Vec<RolloutSummary>>, Fault> {
        let reply = self.calls.list_rollouts(filter(app)).await;
        self.view(reply)
    }
    /// `drover rollout status`.
    pub async fn rollout(&mut self, id: RolloutId) -> Result<Document<RolloutView>, Fault> {
        let reply = self.calls.get_rollout(wire::RolloutRequest { rollout_id: id }).await;
        self.view(reply)
    }
    /// The rollout now and at each change; `Status` as it is, so that the caller can tell a lost connection.
    pub async fn watch(&mut self, id: RolloutId) -> Result<tonic::Streaming<wire::View>, Status> {
        self.calls.watch_rollout(wire::RolloutRequest { rollout_id: id }).await.map(Response::into_inner)
    }
    /// Pause, resume, abort.
    pub async fn control(&mut self, id: RolloutId, control: Control) -> Result<Document<RolloutView>, Fault> {
        let request = wire::ControlRolloutRequest { rollout_id: id, control: control.into() };
        let reply = self.calls.control_rollout(request).await;
        self.view(reply)
    }

    /// `drover hosts`.
    pub async fn hosts(&mut self) -> Result<Document<Vec<HostView>>, Fault> {
        let reply = self.calls.list_hosts(wire::Empty {}).await;
        self.view(reply)
    }
    /// `drover hosts show` and `drover why`.
    pub async fn host(&mut self, host: &str) -> Result<Document<HostDetail>, Fault> {
        let reply = self.calls.get_host(wire::HostRequest { host: host.to_owned() }).await;
        self.view(reply)
    }
    /// What runs on a host already, in the words of a manifest.
    pub async fn import(&mut self, host: &str, subject: &Subject) -> Result<Document<Found>, Fault> {
        let (kind, name) = (subject.kind().to_owned(), subject.name().to_owned());
        let reply = self.calls.import(wire::ImportRequest { host: host.to_owned(), kind, name }).await;
        self.view(reply)
    }
    /// Sets and removes labels.
    pub async fn label_host(
        &mut self,
        host: &str,
        set: &BTreeMap<LabelKey, LabelValue>,
        remove: &[LabelKey],
    ) -> Result<Document<HostView>, Fault> {
        let request = wire::LabelHostRequest {
            host: host.to_owned(),
            set: set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            remove: remove.iter().map(ToString::to_string).collect(),
        };
        let reply = self.calls.label_host(request).await;
        self.view(reply)
    }
    /// Forgets a host.
    pub async fn remove_host(&mut self, host: &str) -> Result<(), Fault> {
        let reply = self.calls.remove_host(wire::RemoveHostRequest { host: host.to_owned() }).await;
        self.done(reply).map(drop)
    }
    /// Takes a host's certificates away.
    pub async fn revoke_host(&mut self, host: &str) -> Result<(), Fault> {
        let reply = self.calls.revoke_host(wire::HostRequest { host: host.to_owned() }).await;
        self.done(reply).map(drop)
    }
    /// `drover status`.
    pub async fn status(&mut self, app: Option<&AppName>) -> Result<Document<Vec<AppView>>, Fault> {
        let reply = self.calls.status(filter(app)).await;
        self.view(reply)
    }
    /// `drover releases`.
    pub async fn releases(&mut self, app: &AppName) -> Result<Document<Vec<ReleaseView>>, Fault> {
        let reply = self.calls.list_releases(filter(Some(app))).await;
        self.view(reply)
    }
    /// The journal of an app's units.
    pub async fn logs(
        &mut self,
        app: &AppName,
        host: Option<&str>,
        follow: bool,
        lines: u32,
    ) -> Result<tonic::Streaming<wire::LogLine>, Fault> {
        let host = host.unwrap_or_default().to_owned();
        let reply = self.calls.logs(wire::LogsRequest { app: app.to_string(), host, follow, lines }).await;
        self.done(reply)
    }
    /// Begins a restart; no `host` = wherever it runs.
    pub async fn restart(&mut self, app: &AppName, host: Option<&str>, rolling: bool) -> Result<RolloutStarted, Fault> {
        let host = host.unwrap_or_default().to_owned();
        let reply = self.calls.restart(wire::RestartRequest { app: app.to_string(), host, rolling }).await;
        self.done(reply)
    }
    /// Keeps rollouts away from a host, or no longer.
    pub async fn cordon_host(&mut self, host: &str, cordoned: bool) -> Result<Document<HostView>, Fault> {
        let reply = self.calls.cordon_host(wire::CordonHostRequest { host: host.to_owned(), cordoned }).await;
        self.view(reply)
    }
    /// Takes all apps from a host, which then stops them in its own time.
    pub async fn drain_host(&mut self, host: &str) -> Result<Document<HostView>, Fault> {
        let reply = self.calls.drain_host(wire::HostRequest { host: host.to_owned() }).await;
        self.view(reply)
    }
    /// What the hooks of an app said; `hook` empty = every hook, no `lines` = all that the host shows at once.
    pub async fn hook_logs(
        &mut self,
        app: &AppName,
        host: Option<&str>,
        hook: &str,
        release: Option<u64>,
        lines: Option<u32>,
    ) -> Result<tonic::Streaming<LogLine>, Fault> {
        let request = wire::HookLogsRequest {
            app: app.to_string(),
            host: host.unwrap_or_default().to_owned(),
            hook: hook.to_owned(),
            release: release.unwrap_or_default(),
            lines: lines.unwrap_or_default(),
        };
        let reply = self.calls.hook_logs(request).await;
        self.done(reply)
    }

    /// Has hosts clean up, or say what would go; no `hosts` = all.
    pub async fn prune(&mut self, hosts: &[String], plan: bool) -> Result<Document<PruneView>, Fault> {
        let reply = self.calls.prune(wire::PruneRequest { hosts: hosts.to_vec(), plan }).await;
        self.view(reply)
    }

    /// What happened; `Status` as it is, so that the caller can tell a lost connection.
    pub async fn events(&mut self, request: EventsRequest) -> Result<tonic::Streaming<wire::View>, Status> {
        self.calls.events(request).await.map(Response::into_inner)
    }

    /// Stores a secret's next version.
    pub async fn set_secret(
        &mut self,
        name: &SecretName,
        environment: Option<&EnvironmentName>,
        value: Secret<Vec<u8>>,
    ) -> Result<(), Fault> {
        let environment = environment.map(ToString::to_string).unwrap_or_default();
        let request = wire::SetSecretRequest { name: name.to_string(), environment, value: value.expose().clone() };
        let reply = self.calls.set_secret(Request::new(request)).await;
        self.done(reply).map(drop)
    }
    /// `drover secret list`.
    pub async fn secrets(&mut self) -> Result<Document<Vec<SecretView>>, Fault> {
        let reply = self.calls.list_secrets(wire::Empty {}).await;
        self.view(reply)
    }
    /// Removes a secret.
    pub async fn remove_secret(&mut self, name: &SecretName, env: Option<&EnvironmentName>) -> Result<(), Fault> {
        let environment = env.map(ToString::to_string).unwrap_or_default();
        let reply = self.calls.remove_secret(wire::SecretRequest { name: name.to_string(), environment }).await;
        self.done(reply).map(drop)
    }
    /// Makes a join token.
    pub async fn create_token(
        &mut self,
        labels: &[(LabelKey, LabelValue)],
        ttl_s: u64,
        uses: u32,
    ) -> Result<CreateTokenReply, Fault> {
        let labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let reply = self.calls.create_token(wire::CreateTokenRequest { labels, ttl_s, uses }).await;
        self.done(reply)
    }
    /// `drover token list`.
    pub async fn tokens(&mut self) -> Result<Document<Vec<TokenView>>, Fault> {
        let reply = self.calls.list_tokens(wire::Empty {}).await;
        self.view(reply)
    }
    /// Makes a token useless.
    pub async fn revoke_token(&mut self, id: &str) -> Result<(), Fault> {
        let reply = self.calls.revoke_token(wire::TokenRequest { token_id: id.to_owned() }).await;
        self.done(reply).map(drop)
    }
    /// `drover operator list`.
    pub async fn operators(&mut self) -> Result<Document<Vec<OperatorView>>, Fault> {
        let reply = self.calls.list_operators(wire::Empty {}).await;
        self.view(reply)
    }
    /// Takes an operator's certificate away.
    pub async fn revoke_operator(&mut self, name: &OperatorName) -> Result<(), Fault> {
        let reply = self.calls.revoke_operator(wire::OperatorRequest { name: name.to_string() }).await;
        self.done(reply).map(drop)
    }
    /// `drover audit`.
    pub async fn audit(&mut self, limit: u32) -> Result<Document<Vec<AuditView>>, Fault> {
        let reply = self.calls.list_audit(wire::AuditRequest { limit }).await;
        self.view(reply)
    }
}

/// Reads a view's document.
pub fn document<T: DeserializeOwned>(json: &[u8]) -> Result<Document<T>, Fault> {
    let unreadable = |e: serde_json::Error| {
        Fault::new(Code::Protocol, format!("the coordinator's answer cannot be read: {e}"))
            .hint("install the same version of drover on both sides")
    };
    let value = serde_json::from_slice(json).map_err(unreadable)?;
    Ok(Document { value, json: serde_json::from_slice(json).map_err(unreadable)? })
}

fn bytes_of(app: &AppSpec) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(app).map_err(|e| Fault::new(Code::Internal, format!("the app cannot be written as JSON: {e}")))
}

fn filter(app: Option<&AppName>) -> wire::AppFilter {
    wire::AppFilter { app: app.map(ToString::to_string).unwrap_or_default() }
}
