//! Who may come in: join tokens for hosts, and the operators there are. Operators are added on the coordinator's own
//! machine only (`admin`).

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use drover_proto::{
    code::{self, Code},
    name::{LabelKey, LabelValue, OperatorName},
    token::{Token, TokenKind},
    wire::{CreateTokenReply, CreateTokenRequest, Empty, View},
};
use tonic::Status;

use super::{
    super::{Services, invalid, name, store_failed},
    view,
};
use crate::{clock, store::NewToken};

const MAX_TTL_S: u64 = 30 * 86_400;
const MAX_USES: u32 = 10_000;
const MAX_LABELS: usize = 64;

/// `drover token create`.
pub(super) async fn create(
    services: &Services,
    request: CreateTokenRequest,
    by: &OperatorName,
) -> Result<CreateTokenReply, Status> {
    if !(1..=MAX_TTL_S).contains(&request.ttl_s) {
        return Err(invalid("a token lives between 1s and 30d"));
    }
    if !(1..=MAX_USES).contains(&request.uses) {
        return Err(invalid(format!("a token has between 1 and {MAX_USES} uses")));
    }
    if request.labels.len() > MAX_LABELS {
        return Err(invalid(format!("a host has at most {MAX_LABELS} labels")));
    }
    let mut labels: BTreeMap<LabelKey, LabelValue> = BTreeMap::new();
    for (key, value) in &request.labels {
        labels.insert(name(key)?, name(value)?);
    }
    let token = Token::generate(TokenKind::Join, services.ca.fingerprint(), rand::fill)
        .map_err(|_| code::status(Code::Internal, "no random bytes"))?;
    let now_ms = clock::unix_ms();
    let ttl_ms = i64::try_from(request.ttl_s * 1000).map_err(|_| invalid("a token lives between 1s and 30d"))?;
    let expires_ms = now_ms + ttl_ms;
    let new =
        NewToken { id: &token.id, secret: token.secret.expose(), labels: &labels, uses: request.uses, expires_ms };
    services.store.create_token(new, by.as_str(), now_ms).await.map_err(store_failed)?;
    Ok(CreateTokenReply { token: token.reveal(), token_id: token.id, expires_unix_ms: expires_ms })
}

/// `drover token list`.
pub(super) async fn list(services: &Services) -> Result<View, Status> {
    view(&services.store.tokens(clock::unix_ms()).await.map_err(store_failed)?)
}

/// `drover token revoke`.
pub(super) async fn revoke(services: &Services, id: &str, by: &OperatorName) -> Result<Empty, Status> {
    services.store.revoke_token(id, by.as_str(), clock::unix_ms()).await.map_err(store_failed)?;
    Ok(Empty {})
}

/// `drover operator list`.
pub(super) async fn operators(services: &Services) -> Result<View, Status> {
    view(&services.store.operators().await.map_err(store_failed)?)
}

/// `drover operator revoke`.
pub(super) async fn revoke_operator(services: &Services, text: &str, by: &OperatorName) -> Result<Empty, Status> {
    let operator: OperatorName = name(text)?;
    services.store.revoke_operator(&operator, by.as_str(), clock::unix_ms()).await.map_err(store_failed)?;
    services.revocations.tell();
    Ok(Empty {})
}
