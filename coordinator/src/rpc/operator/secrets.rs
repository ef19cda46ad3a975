//! Storing, listing and removing secrets. Values come in and never go out this way.

use drover_proto::{
    code::{self, Code},
    limits::MAX_SECRET_BYTES,
    name::{EnvironmentName, OperatorName, SecretName},
    secret::Secret,
    wire::{Empty, SecretRequest, SetSecretRequest, View},
};
use tonic::Status;

use super::{
    super::{Services, invalid, name, store_failed},
    view,
};
use crate::clock;

/// Empty = for every environment.
fn environment(text: &str) -> Result<String, Status> {
    if text.is_empty() {
        return Ok(String::new());
    }
    name::<EnvironmentName>(text).map(String::from)
}

/// `drover secret set`.
pub(super) async fn set(services: &Services, request: SetSecretRequest, by: &OperatorName) -> Result<Empty, Status> {
    let secret: SecretName = name(&request.name)?;
    let environment = environment(&request.environment)?;
    if request.value.is_empty() {
        return Err(invalid("the secret is empty"));
    }
    if request.value.len() > MAX_SECRET_BYTES {
        let most = MAX_SECRET_BYTES >> 10;
        return Err(code::status(Code::Limit, format!("a secret has at most {most} KiB")));
    }
    let value =
        String::from_utf8(request.value).map_err(|_| invalid("a secret is text (UTF-8); encode it, e.g. base64"))?;
    if value.contains('\0') {
        return Err(invalid("a secret holds no NUL character"));
    }
    let (store, now_ms) = (&services.store, clock::unix_ms());
    store.set_secret(&secret, &environment, &Secret::new(value), by.as_str(), now_ms).await.map_err(store_failed)?;
    Ok(Empty {})
}

/// `drover secret list`.
pub(super) async fn list(services: &Services) -> Result<View, Status> {
    view(&services.store.secrets().await.map_err(store_failed)?)
}

/// `drover secret remove`.
pub(super) async fn remove(services: &Services, request: SecretRequest, by: &OperatorName) -> Result<Empty, Status> {
    let secret: SecretName = name(&request.name)?;
    let environment = environment(&request.environment)?;
    let (store, now_ms) = (&services.store, clock::unix_ms());
    store.remove_secret(&secret, &environment, by.as_str(), now_ms).await.map_err(store_failed)?;
    Ok(Empty {})
}
