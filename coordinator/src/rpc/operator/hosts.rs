//! Looking at hosts, labelling, revoking and removing them.

use std::collections::BTreeMap;

use drover_proto::{
    code::{self, Code},
    name::{AppName, HostId, LabelKey, LabelValue, OperatorName, ReleaseNumber},
    status::{AppStatus, HostStatus, Phase},
    view::{HostDetail, HostView},
    wire::{CordonHostRequest, Empty, LabelHostRequest, View},
};
use tonic::Status;

use super::{
    super::{Services, invalid, name, not_found, store_failed},
    view,
};
use crate::{
    clock,
    store::{Host, StoreError, StoredReport, StoredSpec},
};

/// Labels of one host.
const MAX_LABELS: usize = 64;

/// `drover hosts`.
pub(super) async fn list(services: &Services) -> Result<View, Status> {
    let store = &services.store;
    let reports = store.reports().await.map_err(store_failed)?;
    let mut all = Vec::new();
    for host in store.listed_hosts().await.map_err(store_failed)? {
        let spec = match store.spec(&host.id).await {
            Ok(spec) => spec,
            // Removed between the two reads.
            Err(StoreError::NotFound(_)) => continue,
            Err(error) => return Err(store_failed(error)),
        };
        let status = read(reports.get(&host.id));
        all.push(host_view(services, &host, &spec, &status));
    }
    view(&all)
}

/// `drover hosts show`, `drover why`.
pub(super) async fn get(services: &Services, text: &str) -> Result<View, Status> {
    let host = find(services, text).await?;
    let store = &services.store;
    let spec = store.spec(&host.id).await.map_err(store_failed)?;
    let report = store.report(&host.id).await.map_err(store_failed)?;
    let status = read(report.as_ref());
    let ours = spec.apps.iter().filter(|(app, _)| !spec.keep.contains(*app));
    let held = status.apps.iter().filter(|(app, _)| spec.keep.contains(*app));
    let held = held.filter_map(|(app, status)| Some((app.clone(), status.desired.as_ref()?.number)));
    let desired: BTreeMap<AppName, ReleaseNumber> =
        ours.map(|(app, wanted)| (app.clone(), wanted.release)).chain(held).collect();
    view(&HostDetail {
        host: host_view(services, &host, &spec, &status),
        enrolled_unix_ms: host.enrolled_ms,
        enrolled_by: host.enrolled_by.clone(),
        certificate_not_after_unix_ms: host.not_after_ms,
        apps_status: status.apps,
        desired,
        reported_unix_ms: report.map(|report| report.at_ms),
    })
}

/// `drover hosts label`. Apps that match from now on come; those that match no longer stay until they are removed.
pub(super) async fn label(services: &Services, request: LabelHostRequest, by: &OperatorName) -> Result<View, Status> {
    let host = find(services, &request.host).await?;
    let mut labels = host.labels.clone();
    for key in &request.remove {
        labels.remove(&name::<LabelKey>(key)?);
    }
    for (key, value) in &request.set {
        labels.insert(name::<LabelKey>(key)?, name::<LabelValue>(value)?);
    }
    if labels.len() > MAX_LABELS {
        return Err(invalid(format!("a host has at most {MAX_LABELS} labels")));
    }
    let store = &services.store;
    store.set_labels(&host.id, &labels, by.as_str(), clock::unix_ms()).await.map_err(store_failed)?;
    // First what the labels bring, then it is sent: a host that was enrolled anew may still run just that, and a spec without
    // it would take it off.
    services.rollouts.fill_in(&host.id).await.map_err(store_failed)?;
    services.sessions.spec_changed(&host.id);
    view_of(services, &host.id).await
}

/// `drover hosts remove`: its certificate is worth nothing any more; what runs there goes on running.
pub(super) async fn remove(services: &Services, text: &str, by: &OperatorName) -> Result<Empty, Status> {
    let host = find(services, text).await?;
    services.store.remove_host(&host.id, by.as_str(), clock::unix_ms()).await.map_err(store_failed)?;
    gone(services, &host).await;
    Ok(Empty {})
}

/// `drover hosts revoke`: the same, but it stays listed until it is removed or enrolled again.
pub(super) async fn revoke(services: &Services, text: &str, by: &OperatorName) -> Result<Empty, Status> {
    let host = find(services, text).await?;
    services.store.revoke_host(&host.id, by.as_str(), clock::unix_ms()).await.map_err(store_failed)?;
    gone(services, &host).await;
    Ok(Empty {})
}

/// Ends whatever a host has open here, and its part in rollouts.
async fn gone(services: &Services, host: &Host) {
    services.sessions.close(&host.id);
    services.figures.forget(&host.id);
    services.revocations.tell();
    services.rollouts.host_removed(&host.id).await;
}

/// `drover hosts cordon|uncordon`.
pub(super) async fn cordon(services: &Services, request: CordonHostRequest, by: &OperatorName) -> Result<View, Status> {
    let (host, by) = (find(services, &request.host).await?, by.as_str());
    match request.cordoned {
        true => services.rollouts.cordon(&host, by).await,
        false => services.rollouts.uncordon(&host, by).await,
    }
    .map_err(store_failed)?;
    view_of(services, &host.id).await
}

/// `drover hosts drain`: the host stops what runs in its own time.
pub(super) async fn drain(services: &Services, text: &str, by: &OperatorName) -> Result<View, Status> {
    let host = find(services, text).await?;
    if let Some((id, app)) = services.rollouts.drain(&host, by.as_str()).await.map_err(store_failed)? {
        let message = format!(
            "{} is cordoned now, and keeps its apps: rollout {id} of {app} has touched it and has not ended; wait for it, or \
             abort it, then drain again",
            host.name
        );
        return Err(code::status(Code::RolloutState, message));
    }
    view_of(services, &host.id).await
}

async fn view_of(services: &Services, id: &HostId) -> Result<View, Status> {
    let host = find(services, id.as_str()).await?;
    let spec = services.store.spec(id).await.map_err(store_failed)?;
    let report = services.store.report(id).await.map_err(store_failed)?;
    view(&host_view(services, &host, &spec, &read(report.as_ref())))
}

/// The host with this id or name.
pub(super) async fn find(services: &Services, text: &str) -> Result<Host, Status> {
    services.store.host(text).await.map_err(store_failed)?.ok_or_else(|| not_found(format!("host {text:?}")))
}

/// A stored report; one that cannot be read (an older coordinator stored it) is as good as none.
pub(super) fn read(report: Option<&StoredReport>) -> HostStatus {
    report.and_then(|report| serde_json::from_str(&report.status_json).ok()).unwrap_or_default()
}

fn host_view(services: &Services, host: &Host, spec: &StoredSpec, status: &HostStatus) -> HostView {
    let connected = services.sessions.away_since(&host.id).is_none();
    let ours = spec.apps.iter().filter(|(app, _)| !spec.keep.contains(*app));
    let mut apps: BTreeMap<AppName, String> =
        ours.map(|(app, wanted)| (app.clone(), format!("{} waiting", wanted.release))).collect();
    for (app, seen) in &status.apps {
        if seen.phase != Phase::Removed {
            apps.insert(app.clone(), in_words(seen));
        }
    }
    HostView {
        id: host.id.clone(),
        name: host.name.clone(),
        labels: host.labels.clone(),
        connected,
        last_seen_unix_ms: if connected { Some(clock::unix_ms()) } else { host.last_seen_ms },
        agent_version: host.agent_version.clone(),
        os: host.os.clone(),
        generation: spec.generation,
        generation_accepted: host.accepted,
        refused: host.refused.clone(),
        revoked_unix_ms: host.revoked_ms,
        cordoned: host.cordoned.clone(),
        apps,
        kept: spec.keep.clone(),
    }
}

/// The release that runs healthy, or what is going on.
fn in_words(status: &AppStatus) -> String {
    let release = status.desired.as_ref().or(status.running.as_ref()).map(|release| release.number.to_string());
    let release = release.unwrap_or_default();
    let word = match &status.phase {
        Phase::Healthy { .. } => return release,
        Phase::Reverted { to: Some(back), .. } if Some(back) == status.desired.as_ref() => "reverted",
        Phase::Reverted { to: Some(back), .. } => return format!("{} ({release} reverted)", back.number),
        Phase::Pending => "waiting",
        Phase::Fetching { .. } => "fetching",
        Phase::Staging { .. } => "staging",
        Phase::Activating { .. } => "activating",
        Phase::Gating { .. } => "gating",
        Phase::Degraded { .. } => "degraded",
        Phase::Reverting { .. } => "reverting",
        Phase::Reverted { to: None, .. } => "reverted",
        Phase::Failed { .. } => "failed",
        Phase::Removing { .. } => "removing",
        Phase::Removed => "removed",
    };
    format!("{release} {word}").trim().to_owned()
}
