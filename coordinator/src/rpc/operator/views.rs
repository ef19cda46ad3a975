//! Looking at apps, releases and the audit log.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    name::{AppName, HostId},
    status::{AppStatus, HostStatus, Phase},
    view::{AppHostView, AppView, ReleaseView},
    wire::{AppFilter, View},
};
use tonic::Status;

use super::{
    super::{Services, name, not_found, store_failed},
    hosts::read,
    view,
};
use crate::store::{Host, Standing, StoredApp};

/// What one host may add to `drover status`; `drover why` shows the whole.
const MAX_STATUS_BYTES: usize = 32 << 10;
/// Apps that no operator has asked for and hosts say that they hold, in a list of all apps; each can be asked for by name.
const MAX_KEPT_APPS: usize = 500;
/// Lines of `drover audit` unless said, and at most.
const AUDIT_LINES: (u32, u32) = (100, 10_000);

/// The app that a filter names, or all; of those that only hosts know (`kept`: this store may be older than they are) not
/// more than `MAX_KEPT_APPS`.
async fn apps(services: &Services, filter: &AppFilter, kept: &Kept) -> Result<Vec<AppName>, Status> {
    let mut all: BTreeSet<AppName> = services.store.apps().await.map_err(store_failed)?.into_iter().collect();
    if filter.app.is_empty() {
        let unknown: Vec<AppName> =
            kept.keys().filter(|app| !all.contains(*app)).take(MAX_KEPT_APPS).cloned().collect();
        all.extend(unknown);
        return Ok(all.into_iter().collect());
    }
    let app: AppName = name(&filter.app)?;
    if all.contains(&app) || kept.contains_key(&app) { Ok(vec![app]) } else { Err(not_found(format!("app {app}"))) }
}

/// `drover status`.
pub(super) async fn status(services: &Services, filter: AppFilter) -> Result<View, Status> {
    let store = &services.store;
    let all = All {
        hosts: store.hosts().await.map_err(store_failed)?,
        reports: store
            .reports()
            .await
            .map_err(store_failed)?
            .iter()
            .map(|(id, r)| (id.clone(), read(Some(r))))
            .collect(),
        wanted: store.wanted().await.map_err(store_failed)?,
        kept: store.kept_apps().await.map_err(store_failed)?,
        standings: store.standings().await.map_err(store_failed)?,
    };
    let apps = apps(services, &filter, &all.kept).await?;
    view(&apps.into_iter().map(|app| app_view(services, app, &all)).collect::<Vec<_>>())
}

/// What the store knows of all apps.
struct All {
    hosts: Vec<Host>,
    reports: BTreeMap<HostId, HostStatus>,
    wanted: BTreeMap<AppName, BTreeMap<HostId, StoredApp>>,
    kept: Kept,
    standings: BTreeMap<AppName, Standing>,
}

/// The hosts on which an app stays as it is there.
type Kept = BTreeMap<AppName, BTreeSet<HostId>>;

fn app_view(services: &Services, app: AppName, all: &All) -> AppView {
    let wanted = |host: &Host| all.wanted.get(&app).and_then(|hosts| hosts.get(&host.id));
    let standing = all.standings.get(&app);
    let mut lines = Vec::new();
    for host in &all.hosts {
        let status = all.reports.get(&host.id).and_then(|report| report.apps.get(&app)).map(short);
        let kept = all.kept.get(&app).is_some_and(|hosts| hosts.contains(&host.id));
        let desired = match kept {
            true => status.as_ref().and_then(|status| status.desired.as_ref()).map(|release| release.number),
            false => wanted(host).map(|wanted| wanted.release),
        };
        let there = status.as_ref().is_some_and(|status| status.phase != Phase::Removed);
        if desired.is_some() || there || kept {
            let connected = services.sessions.away_since(&host.id).is_none();
            let refused = host.refused.clone();
            lines.push(AppHostView { host: host.name.clone(), connected, desired, refused, status, kept });
        }
    }
    AppView {
        last_good: standing.and_then(|standing| standing.last_good),
        latest: standing.map(|standing| standing.latest),
        rollout: services.rollouts.active_of(&app).map(|view| view.summary),
        hosts: lines,
        app,
    }
}

/// Without its details, when these are long: so that one host cannot make the view too large for one message.
fn short(status: &AppStatus) -> AppStatus {
    let mut status = status.clone();
    if serde_json::to_vec(&status).map_or(usize::MAX, |json| json.len()) > MAX_STATUS_BYTES {
        status.parts.retain(|part| !part.in_sync);
        status.parts.truncate(20);
        status.checks.clear();
        if let Some(failure) = &mut status.failure {
            failure.evidence.clear();
        }
    }
    status
}

/// `drover releases`.
pub(super) async fn releases(services: &Services, filter: AppFilter) -> Result<View, Status> {
    let store = &services.store;
    let mut views = Vec::new();
    let kept = store.kept_apps().await.map_err(store_failed)?;
    for app in apps(services, &filter, &kept).await? {
        let wanted = store.hosts_of(&app).await.map_err(store_failed)?;
        for release in store.releases(&app).await.map_err(store_failed)? {
            views.push(ReleaseView {
                number: release.number,
                digest: release.digest,
                created_unix_ms: release.created_ms,
                created_by: release.created_by,
                good_unix_ms: release.good_ms,
                hosts: wanted.values().filter(|wanted| wanted.release == release.number).count(),
                app: release.app,
            });
        }
    }
    view(&views)
}

/// `drover audit`.
pub(super) async fn audit(services: &Services, limit: u32) -> Result<View, Status> {
    let (usual, most) = AUDIT_LINES;
    let limit = if limit == 0 { usual } else { limit.min(most) };
    view(&services.store.audit(limit).await.map_err(store_failed)?)
}
