//! `drover top`, and the last hours of a host.

use std::{collections::BTreeMap, time::Duration};

use drover_proto::{
    name::HostId,
    status::{HostStatus, Phase},
    view::{HistoryPoint, HistoryView, TopRow, TopView},
    wire::{HistoryRequest, View},
};
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::{
    super::{Services, lease::Leased, store_failed},
    hosts::{find, read},
    view,
};
use crate::{
    clock,
    figures::{KEPT_MS, STEP_MS, figures},
    store::Host,
};

/// From one picture to the next.
const EVERY: Duration = Duration::from_secs(2);
/// Hosts and what they report are read anew with each so manieth picture: a thousand reports are some work.
const ANEW_EACH: u32 = 5;

/// `drover hosts show`, its last hours.
pub(super) async fn history(services: &Services, request: HistoryRequest) -> Result<View, Status> {
    let host = find(services, &request.host).await?;
    let all = KEPT_MS.unsigned_abs() / 1000;
    let last_s = if request.last_s == 0 { all } else { request.last_s.min(all) };
    let since_ms = clock::unix_ms() - i64::try_from(last_s).unwrap_or_default() * 1000;
    let points = services.figures.history(&services.store, &host.id, since_ms).await.map_err(store_failed)?;
    let points = points.into_iter().map(|point| HistoryPoint {
        unix_ms: point.at_ms,
        mean: figures(&point.mean),
        max: figures(&point.max),
    });
    view(&HistoryView { host: host.name, step_ms: STEP_MS.unsigned_abs(), points: points.collect() })
}

/// Who is shown, and what of their reports.
struct Looking {
    services: Services,
    /// Each with how many of its apps are not healthy.
    hosts: Vec<(Host, usize)>,
    firing: BTreeMap<HostId, usize>,
    due: Instant,
    count: u32,
}

/// `drover top`: now, and every few seconds, until the coordinator stops.
pub(super) async fn top(services: &Services) -> Result<Leased<View>, Status> {
    let looking = Looking {
        services: services.clone(),
        hosts: Vec::new(),
        firing: BTreeMap::new(),
        due: Instant::now(),
        count: 0,
    };
    Ok(stream::unfold(looking, Looking::next).boxed())
}

impl Looking {
    async fn next(mut self) -> Option<(Result<View, Status>, Self)> {
        tokio::select! {
            () = self.services.stop.cancelled() => return None,
            () = sleep_until(self.due) => {}
        }
        self.due = Instant::now() + EVERY;
        if self.count.is_multiple_of(ANEW_EACH)
            && let Err(error) = self.look().await
        {
            return Some((Err(error), self));
        }
        self.firing = self.services.alerts.firing();
        self.count = self.count.wrapping_add(1);
        let connected = self.services.sessions.connected();
        let rows = self.hosts.iter().map(|(host, unhealthy)| self.row(host, *unhealthy, connected.contains(&host.id)));
        let picture = view(&TopView { hosts: rows.collect() });
        Some((picture, self))
    }

    async fn look(&mut self) -> Result<(), Status> {
        let store = &self.services.store;
        let hosts = store.hosts().await.map_err(store_failed)?;
        let reports = store.reports().await.map_err(store_failed)?;
        let counts: BTreeMap<HostId, usize> =
            reports.iter().map(|(id, report)| (id.clone(), unhealthy_apps(&read(Some(report))))).collect();
        let with_counts = |host: Host| (counts.get(&host.id).copied().unwrap_or_default(), host);
        self.hosts = hosts.into_iter().map(with_counts).map(|(unhealthy, host)| (host, unhealthy)).collect();
        Ok(())
    }

    fn row(&self, host: &Host, unhealthy: usize, connected: bool) -> TopRow {
        let newest = self.services.figures.newest(&host.id);
        let told = newest.map(|newest| newest.told);
        TopRow {
            host: host.name.clone(),
            id: host.id.clone(),
            connected,
            cores: told.map_or(0, |told| told.cores),
            memory_bytes: told.map_or(0, |told| told.memory_bytes),
            uptime_s: told.map_or(0, |told| told.uptime_s),
            figures: told.map(|told| told.figures),
            at_unix_ms: newest.map(|newest| newest.at_ms),
            firing: self.firing.get(&host.id).copied().unwrap_or_default(),
            unhealthy,
        }
    }
}

/// An app that is on its way is not unhealthy.
fn unhealthy_apps(status: &HostStatus) -> usize {
    let is_unhealthy = |phase: &Phase| {
        matches!(
            phase,
            Phase::Degraded { .. } | Phase::Failed { .. } | Phase::Reverting { .. } | Phase::Reverted { .. }
        )
    };
    status.apps.values().filter(|app| is_unhealthy(&app.phase)).count()
}
