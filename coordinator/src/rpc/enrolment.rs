//! Trading a token for a certificate: hosts with a join token, operators with a login token. The only calls without a
//! certificate; the token decides. The CSR gives the key, the coordinator everything else.

use aws_lc_rs::rand;
use drover_proto::{
    code::{self, Code},
    name::{HostId, HostName},
    token::TokenKind,
    wire::{Certificate, EnrollHostRequest, LoginOperatorRequest, enrolment_server},
};
use tonic::{Request, Response, Status};
use tracing::info;

use super::{Services, ca_failed, name, renew::certificate, store_failed};
use crate::{
    ca::Issued,
    clock,
    store::{NewHost, NewLogin},
};

/// What an agent says of its version, at most.
const MAX_VERSION_CHARS: usize = 100;

pub(super) struct Enrolment(pub(super) Services);

#[tonic::async_trait]
impl enrolment_server::Enrolment for Enrolment {
    async fn enroll_host(&self, request: Request<EnrollHostRequest>) -> Result<Response<Certificate>, Status> {
        let request = request.into_inner();
        let wanted: HostName = name(&request.host_name)?;
        let version: String = crate::session::report::one_line(&request.agent_version, MAX_VERSION_CHARS);
        let Services { store, ca, rollouts, .. } = &self.0;
        let (id, secret, now_ms) = (&request.token_id, &request.token_secret, clock::unix_ms());
        store.check_token(TokenKind::Join, id, secret, now_ms).await.map_err(store_failed)?;
        let host = new_host_id()?;
        let issued = ca.sign_host(&request.csr_der, &host).map_err(ca_failed)?;
        let new = NewHost {
            id: host.clone(),
            name: wanted,
            agent_version: version,
            serial: issued.serial.clone(),
            not_after_ms: issued.not_after_ms,
        };
        let row = store.enroll_host(id, secret, new, now_ms).await.map_err(store_failed)?;
        self.note(&issued, request.protocol_version).await?;
        info!(host = %row.name, id = %row.id, by = row.enrolled_by, "enrolled");
        // What matches is given when it connects; doing it now only saves a step.
        if let Err(error) = rollouts.fill_in(&host).await {
            tracing::warn!(%host, %error, "apps for the new host will be looked for when it connects");
        }
        Ok(Response::new(certificate(&self.0, issued, host.to_string())))
    }

    async fn login_operator(&self, request: Request<LoginOperatorRequest>) -> Result<Response<Certificate>, Status> {
        let request = request.into_inner();
        let Services { store, ca, .. } = &self.0;
        let (id, secret, now_ms) = (&request.token_id, &request.token_secret, clock::unix_ms());
        let grant = store.check_token(TokenKind::Login, id, secret, now_ms).await.map_err(store_failed)?;
        let operator = grant.operator.ok_or_else(|| code::status(Code::Token, "the token logs nobody in"))?;
        let issued = ca.sign_operator(&request.csr_der, &operator).map_err(ca_failed)?;
        let login = NewLogin { serial: issued.serial.clone(), not_after_ms: issued.not_after_ms };
        store.login_operator(id, secret, login, now_ms).await.map_err(store_failed)?;
        self.note(&issued, request.protocol_version).await?;
        info!(%operator, "logged in");
        Ok(Response::new(certificate(&self.0, issued, operator.to_string())))
    }
}

impl Enrolment {
    /// Notes who signed. An old client takes one CA only. Should this be lost, the certificate is renewed soon: no harm.
    async fn note(&self, issued: &Issued, protocol: u32) -> Result<(), Status> {
        let Services { store, ca, .. } = &self.0;
        let roots = if protocol >= 2 { ca.roots() } else { vec![ca.fingerprint()] };
        store.note_issuer(&issued.serial, ca.fingerprint(), &roots).await.map_err(store_failed)
    }
}

fn new_host_id() -> Result<HostId, Status> {
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_| code::status(Code::Internal, "no random bytes"))?;
    name(&format!("h-{}", hex::encode(random)))
}
