//! How rollouts begin: apply, rollback, remove. Everything is looked at before anything is written.

use drover_proto::{
    code::{self, Code},
    name::{AppName, OperatorName, ReleaseNumber},
    strategy::{OnFailure, Strategy},
    view::{HostPlan, HostPlanOutcome, PlanView},
    wire::{ApplyRequest, RemoveRequest, RollbackRequest, RolloutStarted},
};
use tonic::Status;

use super::{
    super::{Services, name, not_found, store_failed},
    plan::{self, Draft},
};
use crate::{
    clock,
    rollout::{Kind, Wish, begin::Sightings},
    store::Release,
};

/// `drover apply`.
pub(super) async fn apply(
    services: &Services,
    request: ApplyRequest,
    by: &OperatorName,
) -> Result<RolloutStarted, Status> {
    let draft = plan::draft(services, &request.app_spec_json).await?;
    if let Some(artifact) = &draft.spec.artifact
        && artifact.source.is_pushed()
        && !services.blobs.has(&artifact.digest)
    {
        return Err(code::status(Code::ArtifactMissing, format!("the artifact {} was not pushed", artifact.digest)));
    }
    plan::not_all_cordoned(&draft.hosts)?;
    let view = plan::ask(services, &draft, request.extent).await?;
    refuse(&view)?;
    if !request.plan_id.is_empty() && request.plan_id != view.plan_id {
        let message = format!(
            "the plan is {} now, not {}: something has changed since; look at drover plan again",
            view.plan_id, request.plan_id
        );
        return Err(code::status(Code::PlanChanged, message));
    }
    let app = draft.spec.app.clone();
    if nothing_to_do(services, &draft, &view) {
        let message = format!("nothing to do: {app}/{} runs healthy on every target", draft.release);
        return Ok(RolloutStarted { rollout_id: 0, release: draft.release, message });
    }
    let (store, now_ms) = (&services.store, clock::unix_ms());
    let pins = store.pin_secrets(&app, &draft.spec.secrets, now_ms).await.map_err(store_failed)?;
    let digest = draft.digest.to_string();
    let release =
        store.put_release(&app, &draft.json, &digest, &pins, by.as_str(), now_ms).await.map_err(store_failed)?;
    let count = draft.hosts.len();
    let wish = Wish {
        app: app.clone(),
        kind: Kind::Apply,
        target: Some(release),
        once: draft.spec.has_run_once(),
        strategy: draft.spec.strategy,
        by: by.to_string(),
    };
    let rollout_id = services.rollouts.begin(wish, draft.hosts).await.map_err(plan::not_begun)?;
    let message = format!("rolling out {app}/{release} to {}", hosts(count));
    Ok(RolloutStarted { rollout_id, release, message })
}

/// One host's refusal refuses all: nothing has been written yet. So does a host that is there and cannot say what it would
/// do; one that is away is known to be skipped.
fn refuse(view: &PlanView) -> Result<(), Status> {
    let (mut codes, mut lines) = (Vec::new(), Vec::new());
    for HostPlan { host, outcome } in &view.hosts {
        match outcome {
            HostPlanOutcome::Planned(plan) => {
                codes.extend(plan.refusals.iter().map(|refusal| refusal.code));
                lines.extend(plan.refusals.iter().map(|said| format!("{host}: {}: {}", said.part, said.message)));
            }
            HostPlanOutcome::Error(why) => {
                codes.push(Code::PlanFailed);
                lines.push(format!("{host}: {why}"));
            }
            HostPlanOutcome::Unknown(_) => {}
        }
    }
    let Some(first) = codes.first() else { return Ok(()) };
    let mut status = code::status(*first, lines.join("\n"));
    if status.code() != tonic::Code::FailedPrecondition {
        // The code keeps its word; the call was refused, not failed.
        let metadata = status.metadata().clone();
        status = Status::with_metadata(tonic::Code::FailedPrecondition, lines.join("\n"), metadata);
    }
    Err(status)
}

fn nothing_to_do(services: &Services, draft: &Draft, view: &PlanView) -> bool {
    let app = &draft.spec.app;
    draft.exists
        && !view.has_changes
        && services.rollouts.active_of(app).is_none()
        && draft
            .hosts
            .iter()
            .filter(|host| host.cordoned.is_none())
            .all(|host| draft.sightings.proven(app, &host.id, draft.release))
}

/// `drover rollback`.
pub(super) async fn rollback(
    services: &Services,
    request: RollbackRequest,
    by: &OperatorName,
) -> Result<RolloutStarted, Status> {
    let app: AppName = name(&request.app)?;
    let release = release_to_go_back_to(services, &app, request.to_release).await?;
    let spec = release.spec().map_err(store_failed)?;
    if let Some(artifact) = &spec.artifact
        && artifact.source.is_pushed()
        && !services.blobs.has(&artifact.digest)
    {
        return Err(code::status(Code::ArtifactMissing, format!("the artifact of {app}/{} is gone", release.number)));
    }
    let targets = plan::targets(services, &spec).await?;
    plan::not_all_cordoned(&targets)?;
    plan::not_of_others(services, &spec, &targets).await?;
    let sightings =
        Sightings::gather(&services.store, &services.sessions, &app, &targets).await.map_err(store_failed)?;
    let there = targets
        .iter()
        .filter(|host| host.cordoned.is_none())
        .all(|host| sightings.proven(&app, &host.id, release.number));
    if there && services.rollouts.active_of(&app).is_none() {
        let message = format!("nothing to do: {app}/{} runs healthy on every target", release.number);
        return Ok(RolloutStarted { rollout_id: 0, release: release.number, message });
    }
    let count = targets.len();
    let wish = Wish {
        app: app.clone(),
        kind: Kind::Rollback,
        target: Some(release.number),
        strategy: spec.strategy,
        by: by.to_string(),
        // What a release migrated once is not migrated again by going back to it.
        once: false,
    };
    let rollout_id = services.rollouts.begin(wish, targets).await.map_err(plan::not_begun)?;
    let message = format!("rolling back to {app}/{} on {}", release.number, hosts(count));
    Ok(RolloutStarted { rollout_id, release: release.number, message })
}

/// The one that was named, or the newest good one before what is desired now.
async fn release_to_go_back_to(services: &Services, app: &AppName, named: ReleaseNumber) -> Result<Release, Status> {
    let store = &services.store;
    if named != 0 {
        let release = store.release(app, named).await.map_err(store_failed)?;
        return release.ok_or_else(|| not_found(format!("release {app}/{named}")));
    }
    let releases = store.releases(app).await.map_err(store_failed)?;
    if releases.is_empty() {
        return Err(not_found(format!("app {app}")));
    }
    let desired = store.hosts_of(app).await.map_err(store_failed)?.values().map(|stored| stored.release).max();
    // Newest first.
    let good = releases
        .into_iter()
        .find(|release| release.good_ms.is_some() && desired.is_none_or(|desired| release.number < desired));
    good.ok_or_else(|| {
        let before = desired.map_or(String::new(), |desired| format!(" before {app}/{desired}"));
        code::status(Code::NotFound, format!("no release{before} has proven itself: name one with --to"))
    })
}

/// `drover remove`.
pub(super) async fn remove(
    services: &Services,
    request: RemoveRequest,
    by: &OperatorName,
) -> Result<RolloutStarted, Status> {
    let app: AppName = name(&request.app)?;
    let store = &services.store;
    let newest = store.releases(&app).await.map_err(store_failed)?.into_iter().next();
    let having = store.hosts_of(&app).await.map_err(store_failed)?;
    // Also what hosts hold of it without this store knowing it, since it was restored from a backup.
    let keeping = store.keepers_of(&app).await.map_err(store_failed)?;
    if newest.is_none() && keeping.is_empty() {
        return Err(not_found(format!("app {app}")));
    }
    let mut targets = store.hosts().await.map_err(store_failed)?;
    targets.retain(|host| having.contains_key(&host.id) || keeping.contains(&host.id));
    if targets.is_empty() {
        if let Some(active) = services.rollouts.active_of(&app) {
            let message = format!("rollout {} of it has not begun on any host: abort it", active.summary.id);
            return Err(code::status(Code::RolloutState, message));
        }
        let message = format!("nothing to do: no host has {app}");
        return Ok(RolloutStarted { rollout_id: 0, release: 0, message });
    }
    plan::not_all_cordoned(&targets)?;
    // A removal that fails somewhere must not bring the app back elsewhere.
    let strategy = match newest {
        Some(newest) => newest.spec().map_err(store_failed)?.strategy,
        None => Strategy::default(),
    };
    let strategy = Strategy { on_failure: OnFailure::Continue, ..strategy };
    let count = targets.len();
    let wish = Wish { app: app.clone(), kind: Kind::Remove, target: None, strategy, by: by.to_string(), once: false };
    let rollout_id = services.rollouts.begin(wish, targets).await.map_err(plan::not_begun)?;
    Ok(RolloutStarted { rollout_id, release: 0, message: format!("removing {app} from {}", hosts(count)) })
}

/// In words.
pub(super) fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}
