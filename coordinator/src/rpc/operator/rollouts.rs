//! Looking at rollouts and steering them.

use drover_proto::{
    code::{self, Code},
    name::{AppName, OperatorName, RolloutId},
    wire::{AppFilter, ControlRolloutRequest, View, control_rollout_request::Control},
};
use futures_util::{StreamExt as _, stream};
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::{
    super::{Services, invalid, lease::Leased, name, not_found, store_failed},
    view,
};
use crate::rollout::{ControlError, keeper::read, state::What};

/// Lines of `drover rollout list`.
const LISTED: u32 = 100;

/// `drover rollout list`.
pub(super) async fn list(services: &Services, filter: AppFilter) -> Result<View, Status> {
    let app: Option<AppName> = if filter.app.is_empty() { None } else { Some(name(&filter.app)?) };
    let stored = services.store.rollouts(app.as_ref(), LISTED).await.map_err(store_failed)?;
    let mut all = Vec::with_capacity(stored.len());
    for one in &stored {
        all.push(read(one).map_err(store_failed)?.summary());
    }
    view(&all)
}

/// `drover rollout status`.
pub(super) async fn get(services: &Services, id: RolloutId) -> Result<View, Status> {
    let found = services.rollouts.view(id).await.map_err(store_failed)?;
    view(&found.ok_or_else(|| not_found(format!("rollout {id}")))?)
}

/// `drover rollout watch`: now and at each change; the last is final, unless the coordinator stops.
pub(super) async fn watch(services: &Services, id: RolloutId) -> Result<Leased<View>, Status> {
    match services.rollouts.watch(id) {
        Some(views) => Ok(WatchStream::new(views).map(|one| view(&one)).boxed()),
        None => {
            let only = get(services, id).await?;
            Ok(stream::iter([Ok(only)]).boxed())
        }
    }
}

/// `drover rollout pause|resume|abort`.
pub(super) async fn control(
    services: &Services,
    request: ControlRolloutRequest,
    by: &OperatorName,
) -> Result<View, Status> {
    let by = by.to_string();
    let (what, word) = match request.control() {
        Control::Pause => (What::Pause { by: by.clone() }, "rollout pause"),
        Control::Resume => (What::Resume, "rollout resume"),
        Control::Abort => (What::Abort { by: by.clone() }, "rollout abort"),
        Control::Unspecified => return Err(invalid("say pause, resume or abort")),
    };
    match services.rollouts.control(request.rollout_id, what, word, &by).await {
        Ok(after) => view(&after),
        Err(ControlError::Store(error)) => Err(store_failed(error)),
        Err(error @ ControlError::State { .. }) => Err(code::status(Code::RolloutState, error.to_string())),
        Err(error @ ControlError::NotFound(_)) => Err(code::status(Code::NotFound, error.to_string())),
        Err(error @ ControlError::Stopping) => Err(Status::unavailable(error.to_string())),
    }
}
