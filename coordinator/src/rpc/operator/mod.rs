//! What operators call. This file only says who asks and hands on; the calls are in one file per noun: `plan`, `apply`
//! (the way of a release), `rollouts`, `hosts`, `views` (looking), `alerts`, `figures`, `logs`, `import`, `prune`, `events`, `secrets`, `tokens` (with operators), `blobs`.

use drover_proto::{
    name::OperatorName,
    wire::{
        AddSilenceRequest, AlertsRequest, AppFilter, ApplyRequest, AuditRequest, BlobList, ControlRolloutRequest,
        CordonHostRequest, CreateTokenReply, CreateTokenRequest, Empty, EventsRequest, HistoryRequest, HookLogsRequest,
        HostRequest, ImportRequest, LabelHostRequest, LogLine, LogsRequest, NotifierRequest, OperatorRequest,
        PlanReply, PlanRequest, PruneRequest, PushBlobRequest, RemoveHostRequest, RemoveRequest, RenewReply,
        RenewRequest, RestartRequest, RollbackRequest, RolloutRequest, RolloutStarted, SecretRequest, SetSecretRequest,
        SilenceRequest, TokenRequest, View, operator_server,
    },
};
use serde::Serialize;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Services, authorise,
    lease::{Lease, Leased},
    renew,
};
use crate::caller::Caller;

mod alerts;
mod apply;
mod blobs;
mod events;
mod figures;
mod hosts;
mod images;
mod import;
mod logs;
mod plan;
mod preflight;
mod prune;
mod question;
mod restart;
mod rollouts;
mod secrets;
mod tokens;
mod views;

pub(super) struct Operator(pub(super) Services);

type Reply<T> = Result<Response<T>, Status>;

/// A view's document.
fn view<T: Serialize>(value: &T) -> Result<View, Status> {
    let json = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "a view cannot be written");
        drover_proto::code::status(drover_proto::code::Code::Internal, "a fault of drover's own; its log says more")
    })?;
    Ok(View { json })
}

/// Who asks, and what.
fn open<T>(request: Request<T>) -> Result<(OperatorName, T), Status> {
    let operator = authorise::operator(&request)?;
    Ok((operator, request.into_inner()))
}

#[tonic::async_trait]
impl operator_server::Operator for Operator {
    async fn plan(&self, request: Request<PlanRequest>) -> Reply<PlanReply> {
        let (_, request) = open(request)?;
        plan::plan(&self.0, request).await.map(Response::new)
    }
    async fn missing_blobs(&self, request: Request<BlobList>) -> Reply<BlobList> {
        let (_, request) = open(request)?;
        blobs::missing(&self.0, request).map(Response::new)
    }
    async fn push_blob(&self, request: Request<Streaming<PushBlobRequest>>) -> Reply<Empty> {
        let (by, request) = open(request)?;
        blobs::push(&self.0, request, &by).await.map(Response::new)
    }
    async fn apply(&self, request: Request<ApplyRequest>) -> Reply<RolloutStarted> {
        let (by, request) = open(request)?;
        apply::apply(&self.0, request, &by).await.map(Response::new)
    }
    async fn rollback(&self, request: Request<RollbackRequest>) -> Reply<RolloutStarted> {
        let (by, request) = open(request)?;
        apply::rollback(&self.0, request, &by).await.map(Response::new)
    }
    async fn restart(&self, request: Request<RestartRequest>) -> Reply<RolloutStarted> {
        let (by, request) = open(request)?;
        restart::restart(&self.0, request, &by).await.map(Response::new)
    }
    async fn remove(&self, request: Request<RemoveRequest>) -> Reply<RolloutStarted> {
        let (by, request) = open(request)?;
        apply::remove(&self.0, request, &by).await.map(Response::new)
    }

    async fn list_rollouts(&self, request: Request<AppFilter>) -> Reply<View> {
        let (_, request) = open(request)?;
        rollouts::list(&self.0, request).await.map(Response::new)
    }
    async fn get_rollout(&self, request: Request<RolloutRequest>) -> Reply<View> {
        let (_, request) = open(request)?;
        rollouts::get(&self.0, request.rollout_id).await.map(Response::new)
    }
    type WatchRolloutStream = Leased<View>;
    async fn watch_rollout(&self, request: Request<RolloutRequest>) -> Reply<Leased<View>> {
        let lease = Lease::of(&request)?;
        let views = rollouts::watch(&self.0, request.into_inner().rollout_id).await?;
        Ok(Response::new(lease.hold(views)))
    }
    async fn control_rollout(&self, request: Request<ControlRolloutRequest>) -> Reply<View> {
        let (by, request) = open(request)?;
        rollouts::control(&self.0, request, &by).await.map(Response::new)
    }

    async fn list_hosts(&self, request: Request<Empty>) -> Reply<View> {
        open(request)?;
        hosts::list(&self.0).await.map(Response::new)
    }
    async fn get_host(&self, request: Request<HostRequest>) -> Reply<View> {
        let (_, request) = open(request)?;
        hosts::get(&self.0, &request.host).await.map(Response::new)
    }
    async fn label_host(&self, request: Request<LabelHostRequest>) -> Reply<View> {
        let (by, request) = open(request)?;
        hosts::label(&self.0, request, &by).await.map(Response::new)
    }
    async fn remove_host(&self, request: Request<RemoveHostRequest>) -> Reply<Empty> {
        let (by, request) = open(request)?;
        hosts::remove(&self.0, &request.host, &by).await.map(Response::new)
    }
    async fn revoke_host(&self, request: Request<HostRequest>) -> Reply<Empty> {
        let (by, request) = open(request)?;
        hosts::revoke(&self.0, &request.host, &by).await.map(Response::new)
    }
    async fn cordon_host(&self, request: Request<CordonHostRequest>) -> Reply<View> {
        let (by, request) = open(request)?;
        hosts::cordon(&self.0, request, &by).await.map(Response::new)
    }
    async fn drain_host(&self, request: Request<HostRequest>) -> Reply<View> {
        let (by, request) = open(request)?;
        hosts::drain(&self.0, &request.host, &by).await.map(Response::new)
    }
    async fn status(&self, request: Request<AppFilter>) -> Reply<View> {
        let (_, request) = open(request)?;
        views::status(&self.0, request).await.map(Response::new)
    }
    async fn list_releases(&self, request: Request<AppFilter>) -> Reply<View> {
        let (_, request) = open(request)?;
        views::releases(&self.0, request).await.map(Response::new)
    }
    type LogsStream = Leased<LogLine>;
    async fn logs(&self, request: Request<LogsRequest>) -> Reply<Leased<LogLine>> {
        let lease = Lease::of(&request)?;
        let lines = logs::logs(&self.0, request.into_inner()).await?;
        Ok(Response::new(lease.hold(lines)))
    }
    type HookLogsStream = Leased<LogLine>;
    async fn hook_logs(&self, request: Request<HookLogsRequest>) -> Reply<Leased<LogLine>> {
        let lease = Lease::of(&request)?;
        let lines = logs::hook_logs(&self.0, request.into_inner()).await?;
        Ok(Response::new(lease.hold(lines)))
    }

    async fn import(&self, request: Request<ImportRequest>) -> Reply<View> {
        let (_, request) = open(request)?;
        import::import(&self.0, request).await.map(Response::new)
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Reply<View> {
        let (by, request) = open(request)?;
        prune::prune(&self.0, request, &by).await.map(Response::new)
    }

    async fn set_secret(&self, request: Request<SetSecretRequest>) -> Reply<Empty> {
        let (by, request) = open(request)?;
        secrets::set(&self.0, request, &by).await.map(Response::new)
    }
    async fn list_secrets(&self, request: Request<Empty>) -> Reply<View> {
        open(request)?;
        secrets::list(&self.0).await.map(Response::new)
    }
    async fn remove_secret(&self, request: Request<SecretRequest>) -> Reply<Empty> {
        let (by, request) = open(request)?;
        secrets::remove(&self.0, request, &by).await.map(Response::new)
    }
    async fn create_token(&self, request: Request<CreateTokenRequest>) -> Reply<CreateTokenReply> {
        let (by, request) = open(request)?;
        tokens::create(&self.0, request, &by).await.map(Response::new)
    }
    async fn list_tokens(&self, request: Request<Empty>) -> Reply<View> {
        open(request)?;
        tokens::list(&self.0).await.map(Response::new)
    }
    async fn revoke_token(&self, request: Request<TokenRequest>) -> Reply<Empty> {
        let (by, request) = open(request)?;
        tokens::revoke(&self.0, &request.token_id, &by).await.map(Response::new)
    }
    async fn list_operators(&self, request: Request<Empty>) -> Reply<View> {
        open(request)?;
        tokens::operators(&self.0).await.map(Response::new)
    }
    async fn revoke_operator(&self, request: Request<OperatorRequest>) -> Reply<Empty> {
        let (by, request) = open(request)?;
        tokens::revoke_operator(&self.0, &request.name, &by).await.map(Response::new)
    }
    async fn renew(&self, request: Request<RenewRequest>) -> Reply<RenewReply> {
        let serial = authorise::serial(&request)?;
        let (name, request) = open(request)?;
        renew::reply(&self.0, &Caller::Operator { name, serial }, &request.csr_der).await.map(Response::new)
    }
    async fn list_audit(&self, request: Request<AuditRequest>) -> Reply<View> {
        let (_, request) = open(request)?;
        views::audit(&self.0, request.limit).await.map(Response::new)
    }
    type EventsStream = Leased<View>;
    async fn events(&self, request: Request<EventsRequest>) -> Reply<Leased<View>> {
        let lease = Lease::of(&request)?;
        let views = events::events(&self.0, request.into_inner()).await?;
        Ok(Response::new(lease.hold(views)))
    }

    async fn list_alerts(&self, request: Request<AlertsRequest>) -> Reply<View> {
        let (_, request) = open(request)?;
        alerts::list(&self.0, request).await.map(Response::new)
    }
    async fn list_silences(&self, request: Request<Empty>) -> Reply<View> {
        open(request)?;
        alerts::silences(&self.0).await.map(Response::new)
    }
    async fn add_silence(&self, request: Request<AddSilenceRequest>) -> Reply<View> {
        let (by, request) = open(request)?;
        alerts::silence(&self.0, request, &by).await.map(Response::new)
    }
    async fn end_silence(&self, request: Request<SilenceRequest>) -> Reply<View> {
        let (by, request) = open(request)?;
        alerts::end_silence(&self.0, &request.id, &by).await.map(Response::new)
    }
    async fn list_notifiers(&self, request: Request<Empty>) -> Reply<View> {
        open(request)?;
        alerts::notifiers(&self.0).await.map(Response::new)
    }
    async fn test_notifier(&self, request: Request<NotifierRequest>) -> Reply<View> {
        let (by, request) = open(request)?;
        alerts::test_notifier(&self.0, &request.name, &by).await.map(Response::new)
    }
    async fn get_history(&self, request: Request<HistoryRequest>) -> Reply<View> {
        let (_, request) = open(request)?;
        figures::history(&self.0, request).await.map(Response::new)
    }
    type TopStream = Leased<View>;
    async fn top(&self, request: Request<Empty>) -> Reply<Leased<View>> {
        let lease = Lease::of(&request)?;
        let views = figures::top(&self.0).await?;
        Ok(Response::new(lease.hold(views)))
    }
}
