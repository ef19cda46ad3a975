//! `drover restart`: a rollout that restarts the units of an app where they run, without another release.

use drover_proto::{
    code::{self, Code},
    name::{AppName, HostName, OperatorName, ReleaseNumber},
    strategy::CountOrPercent,
    wire::{RestartRequest, RolloutStarted},
};
use tonic::Status;

use super::super::{Services, name, not_found, store_failed};
use crate::{
    rollout::{Kind, Wish, begin::Sightings},
    store::Host,
};

/// `drover restart`.
pub(super) async fn restart(
    services: &Services,
    request: RestartRequest,
    by: &OperatorName,
) -> Result<RolloutStarted, Status> {
    let app: AppName = name(&request.app)?;
    let store = &services.store;
    if store.releases(&app).await.map_err(store_failed)?.is_empty() {
        return Err(not_found(format!("app {app}")));
    }
    if let Some(active) = services.rollouts.active_of(&app) {
        let message = format!(
            "rollout {} of {app} has not ended, and a restart would take its place: wait for it, or abort it",
            active.summary.id
        );
        return Err(code::status(Code::RolloutState, message));
    }
    let hosts = super::logs::hosts(services, &app, &request.host).await?;
    let sightings = Sightings::gather(store, &services.sessions, &app, &hosts).await.map_err(store_failed)?;
    let (mut targets, mut others, mut newest): (Vec<Host>, Vec<HostName>, ReleaseNumber) = (vec![], vec![], 0);
    for host in hosts {
        match sightings.runs_as_wanted(&app, &host.id) {
            Some(release) => {
                newest = newest.max(release);
                targets.push(host);
            }
            None => others.push(host.name),
        }
    }
    let left: Vec<&str> = others.iter().map(AsRef::as_ref).collect();
    let left = match left[..] {
        [] => String::new(),
        _ => format!("; not on {}, where the release that should run does not", left.join(", ")),
    };
    if targets.is_empty() {
        let message = format!("{app} cannot be restarted{left}: see drover why HOST {app}");
        return Err(code::status(Code::RolloutState, message));
    }
    super::plan::not_all_cordoned(&targets)?;
    let release = store.release(&app, newest).await.map_err(store_failed)?;
    let release = release.ok_or_else(|| not_found(format!("release {app}/{newest}")))?;
    let mut strategy = release.spec().map_err(store_failed)?.strategy;
    if request.rolling {
        strategy.max_parallel = CountOrPercent::Count(1);
    }
    let count = targets.len();
    let wish = Wish { app, kind: Kind::Restart, target: Some(newest), strategy, by: by.to_string(), once: false };
    let message = format!("restarting {} on {}{left}", wish.app, super::apply::hosts(count));
    let rollout_id = services.rollouts.begin(wish, targets).await.map_err(super::plan::not_begun)?;
    Ok(RolloutStarted { rollout_id, release: newest, message })
}
