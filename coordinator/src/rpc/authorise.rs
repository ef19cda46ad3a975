//! Who may call what: one table, default deny, looked up before any handler runs. The caller is what its certificate
//! says; whether that is still welcome is looked up in the store at every call, and again whenever somebody is revoked
//! (`lease`). How much one caller may have open is for `calls` to say.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use drover_proto::{
    code::{self, Code},
    name::{HostId, OperatorName},
};
use tonic::{
    Request, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};

use super::{
    calls::{Calls, Place},
    lease::{Revocations, unwelcome},
    store_failed,
};
use crate::{
    caller::{Caller, Peer},
    clock,
    store::Store,
};

/// For a whole call of somebody without a certificate.
const ANYONE_LIMIT: Duration = Duration::from_secs(15);

/// Who may make a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    /// Without a certificate; the call's own token decides.
    Anyone,
    /// An enrolled host, for itself.
    Host,
    /// An operator.
    Operator,
}

/// Every call there is.
const TABLE: &[(&str, Who)] = &[
    ("/drover.v1.Enrolment/EnrollHost", Who::Anyone),
    ("/drover.v1.Enrolment/LoginOperator", Who::Anyone),
    ("/drover.v1.AgentLink/Session", Who::Host),
    ("/drover.v1.AgentLink/Renew", Who::Host),
    ("/drover.v1.AgentLink/FetchBlob", Who::Host),
    ("/drover.v1.Operator/Plan", Who::Operator),
    ("/drover.v1.Operator/MissingBlobs", Who::Operator),
    ("/drover.v1.Operator/PushBlob", Who::Operator),
    ("/drover.v1.Operator/Apply", Who::Operator),
    ("/drover.v1.Operator/Rollback", Who::Operator),
    ("/drover.v1.Operator/Remove", Who::Operator),
    ("/drover.v1.Operator/Restart", Who::Operator),
    ("/drover.v1.Operator/ListRollouts", Who::Operator),
    ("/drover.v1.Operator/GetRollout", Who::Operator),
    ("/drover.v1.Operator/WatchRollout", Who::Operator),
    ("/drover.v1.Operator/ControlRollout", Who::Operator),
    ("/drover.v1.Operator/ListHosts", Who::Operator),
    ("/drover.v1.Operator/GetHost", Who::Operator),
    ("/drover.v1.Operator/LabelHost", Who::Operator),
    ("/drover.v1.Operator/RemoveHost", Who::Operator),
    ("/drover.v1.Operator/RevokeHost", Who::Operator),
    ("/drover.v1.Operator/CordonHost", Who::Operator),
    ("/drover.v1.Operator/DrainHost", Who::Operator),
    ("/drover.v1.Operator/Status", Who::Operator),
    ("/drover.v1.Operator/ListReleases", Who::Operator),
    ("/drover.v1.Operator/Logs", Who::Operator),
    ("/drover.v1.Operator/HookLogs", Who::Operator),
    ("/drover.v1.Operator/Import", Who::Operator),
    ("/drover.v1.Operator/Prune", Who::Operator),
    ("/drover.v1.Operator/SetSecret", Who::Operator),
    ("/drover.v1.Operator/ListSecrets", Who::Operator),
    ("/drover.v1.Operator/RemoveSecret", Who::Operator),
    ("/drover.v1.Operator/CreateToken", Who::Operator),
    ("/drover.v1.Operator/ListTokens", Who::Operator),
    ("/drover.v1.Operator/RevokeToken", Who::Operator),
    ("/drover.v1.Operator/ListOperators", Who::Operator),
    ("/drover.v1.Operator/RevokeOperator", Who::Operator),
    ("/drover.v1.Operator/Renew", Who::Operator),
    ("/drover.v1.Operator/ListAudit", Who::Operator),
    ("/drover.v1.Operator/Events", Who::Operator),
    ("/drover.v1.Operator/ListAlerts", Who::Operator),
    ("/drover.v1.Operator/ListSilences", Who::Operator),
    ("/drover.v1.Operator/AddSilence", Who::Operator),
    ("/drover.v1.Operator/EndSilence", Who::Operator),
    ("/drover.v1.Operator/ListNotifiers", Who::Operator),
    ("/drover.v1.Operator/TestNotifier", Who::Operator),
    ("/drover.v1.Operator/GetHistory", Who::Operator),
    ("/drover.v1.Operator/Top", Who::Operator),
];

/// What a handler learns of its caller.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Allowed {
    Anyone,
    Host(HostId),
    Operator(OperatorName),
}

async fn authorise(store: &Store, path: &str, peer: &Peer) -> Result<Allowed, Status> {
    let forbidden = |message: &str| code::status(Code::Forbidden, message);
    let Some((_, who)) = TABLE.iter().find(|(known, _)| *known == path) else {
        return Err(Status::unimplemented("no such call"));
    };
    let caller = &peer.caller;
    match (who, caller) {
        (Who::Anyone, _) => Ok(Allowed::Anyone),
        (Who::Host, Caller::Host { id, serial }) => {
            if store.live_host(id, serial).await.map_err(store_failed)?
                || adopt(store, "host", id.as_str(), serial).await?
            {
                store.use_certificate(serial, clock::unix_ms()).await.map_err(store_failed)?;
                Ok(Allowed::Host(id.clone()))
            } else {
                Err(unwelcome(caller))
            }
        }
        (Who::Operator, Caller::Operator { name, serial }) => {
            if store.live_operator(name, serial, clock::unix_ms()).await.map_err(store_failed)?
                || adopt(store, "operator", name.as_str(), serial).await?
            {
                store.use_certificate(serial, clock::unix_ms()).await.map_err(store_failed)?;
                Ok(Allowed::Operator(name.clone()))
            } else {
                Err(unwelcome(caller))
            }
        }
        (Who::Operator, Caller::Anonymous) => Err(forbidden("this needs an operator's certificate: drover login")),
        (Who::Host, Caller::Anonymous) => Err(forbidden("this needs a host's certificate: drover-agent enroll")),
        (Who::Operator, Caller::Host { .. }) => Err(forbidden("a host may not do what operators do")),
        (Who::Host, Caller::Operator { .. }) => Err(forbidden("an operator may not speak for a host")),
    }
}

/// Whether this call may be made, and then counts it among its owner's.
async fn let_in(store: &Store, calls: &Calls, path: &str, peer: &Peer, place: &mut Place) -> Result<Allowed, Status> {
    let allowed = authorise(store, path, peer).await.inspect_err(|status| {
        tracing::info!(path, address = %peer.address, reason = status.message(), "refused");
        if code::of_status(status) == Some(Code::Revoked) {
            peer.refused.cancel();
        }
    })?;
    calls.admit(place, peer)?;
    calls.paced_owner(peer).await?;
    Ok(allowed)
}

/// A certificate that was given after the backup from which the store was restored is taken up.
async fn adopt(store: &Store, kind: &'static str, owner: &str, serial: &str) -> Result<bool, Status> {
    let adopted = store.adopt_certificate(kind, owner, serial, clock::unix_ms()).await.map_err(store_failed)?;
    if adopted {
        tracing::warn!(kind, owner, "a certificate that was given after this store was backed up is taken up");
    }
    Ok(adopted)
}

/// The host that makes this call.
pub fn host<T>(request: &Request<T>) -> Result<HostId, Status> {
    match request.extensions().get() {
        Some(Allowed::Host(id)) => Ok(id.clone()),
        _ => Err(code::status(Code::Forbidden, "not a host")),
    }
}

/// The serial of the certificate with which this call is made.
pub fn serial<T>(request: &Request<T>) -> Result<String, Status> {
    match request.extensions().get::<Peer>().map(|peer| &peer.caller) {
        Some(Caller::Host { serial, .. } | Caller::Operator { serial, .. }) => Ok(serial.clone()),
        Some(Caller::Anonymous) | None => Err(code::status(Code::Forbidden, "this needs a certificate")),
    }
}

/// The operator who makes this call.
pub fn operator<T>(request: &Request<T>) -> Result<OperatorName, Status> {
    match request.extensions().get() {
        Some(Allowed::Operator(name)) => Ok(name.clone()),
        _ => Err(code::status(Code::Forbidden, "not an operator")),
    }
}

/// A service that nobody reaches without being allowed to.
#[derive(Clone)]
pub struct Guard<S> {
    revocations: Revocations,
    calls: Calls,
    inner: S,
}

impl<S> Guard<S> {
    /// Guards `inner`.
    #[must_use]
    pub fn new(revocations: Revocations, calls: Calls, inner: S) -> Self {
        Self { revocations, calls, inner }
    }
}

impl<S: NamedService> NamedService for Guard<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Guard<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The clone is left for the next call; the one that was polled ready takes this one.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let (revocations, calls) = (self.revocations.clone(), self.calls.clone());
        Box::pin(async move {
            let Some(peer) = request.extensions().get::<Peer>().cloned() else {
                return Ok(code::status(Code::Forbidden, "nobody").into_http());
            };
            // Neither does a certificate that was refused a moment ago cost more than this, nor a caller with too much
            // under way.
            if peer.refused.is_cancelled() {
                return Ok(unwelcome(&peer.caller).into_http());
            }
            let mut place = match calls.begin(&peer) {
                Ok(place) => place,
                Err(status) => return Ok(status.into_http()),
            };
            if let Err(status) = calls.paced(&peer).await {
                return Ok(status.into_http());
            }
            // Taken first, so that no revocation is missed between the look into the store and the call.
            let lease = revocations.lease(&peer);
            let answer = match let_in(&revocations.store, &calls, request.uri().path(), &peer, &mut place).await {
                Ok(Allowed::Anyone) => {
                    request.extensions_mut().insert(Allowed::Anyone);
                    // Err: too late.
                    tokio::time::timeout(ANYONE_LIMIT, inner.call(request)).await.unwrap_or_else(|_| {
                        Ok(code::status(Code::Limit, "the call took too long and was cut off: try again").into_http())
                    })
                }
                Ok(allowed) => {
                    request.extensions_mut().insert(allowed);
                    request.extensions_mut().insert(lease.clone());
                    tokio::select! {
                        answer = inner.call(request) => answer,
                        status = lease.revoked() => Ok(status.into_http()),
                    }
                }
                Err(status) => Ok(status.into_http()),
            };
            answer.map(|answer| calls.hold(answer, place, &peer))
        })
    }
}

#[cfg(test)]
mod tests {
    //! The table is whole, and nobody gets more than it says.
    use prost::Message as _;

    use super::*;
    use crate::{store::Upgrade, vault::Vault};

    #[test]
    fn every_call_of_the_contract_is_in_the_table() {
        let set = prost_types::FileDescriptorSet::decode(drover_proto::DESCRIPTORS).unwrap();
        let mut declared = Vec::new();
        for file in &set.file {
            for service in &file.service {
                let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                declared.extend(service.method.iter().map(|method| path(method.name())));
            }
        }
        assert!(declared.len() > 20, "{declared:?}");
        declared.sort();
        let mut table: Vec<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        table.sort();
        assert_eq!(table, declared);
    }

    #[tokio::test]
    async fn only_the_right_kind_of_caller_gets_through_and_only_while_it_is_welcome() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::create(&dir.path().join("key")).unwrap();
        let store = Store::open(&dir.path().join("db"), vault, Upgrade::Migrate).await.unwrap();
        let peer = |caller| Peer {
            caller,
            address: "127.0.0.1:1".parse().unwrap(),
            line: tokio_util::sync::CancellationToken::new(),
            refused: tokio_util::sync::CancellationToken::new(),
        };
        let unknown_host = peer(Caller::Host { id: "h-0000000000000001".parse().unwrap(), serial: "1".to_owned() });
        let unknown_person = peer(Caller::Operator { name: "ada".parse().unwrap(), serial: "1".to_owned() });
        let anonymous = peer(Caller::Anonymous);
        for (path, who) in TABLE {
            for caller in [&unknown_host, &unknown_person, &anonymous] {
                let said = authorise(&store, path, caller).await.map_err(|s| code::of_status(&s).unwrap());
                let expected = match (who, &caller.caller) {
                    (Who::Anyone, _) => Ok(Allowed::Anyone),
                    (Who::Host, Caller::Host { .. }) | (Who::Operator, Caller::Operator { .. }) => Err(Code::Revoked),
                    _ => Err(Code::Forbidden),
                };
                assert_eq!(said, expected, "{path} by {caller:?}");
            }
        }
        let said = authorise(&store, "/drover.v1.Operator/Other", &unknown_person).await.unwrap_err();
        assert_eq!(said.code(), tonic::Code::Unimplemented);
    }
}
