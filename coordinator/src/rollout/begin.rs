//! From a wish ("this release on these hosts") to the document of a rollout: the order of hosts, and what each goes back
//! to. `keeper` stores it.

use std::collections::BTreeMap;

use drover_proto::{
    name::{AppName, HostId, ReleaseNumber, RolloutId},
    rollout::RolloutState,
    status::{AppStatus, HostStatus, Phase},
    strategy::Strategy,
};

use super::{
    claims::Collision,
    order::{Candidate, Health, order, zone},
    state::{Before, HostRun, Kind, Link, Once, Rollout},
};
use crate::{
    session::Sessions,
    store::{Host, Result, Store, StoreError, StoredApp},
};

/// What an operator wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Of which app.
    pub app: AppName,
    /// Why.
    pub kind: Kind,
    /// Where to; `None` removes the app.
    pub target: Option<ReleaseNumber>,
    /// How.
    pub strategy: Strategy,
    /// Who.
    pub by: String,
    /// The release has hooks that run on one host only, and this is the way to it.
    pub once: bool,
}

/// Why a rollout cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Another app has, on some of the hosts, what this one claims.
    #[error("another app has on a host what this one claims")]
    Claimed(Vec<Collision>),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// What is known of one app over all hosts.
pub struct Sightings {
    wanted: BTreeMap<HostId, StoredApp>,
    reports: BTreeMap<HostId, HostStatus>,
    away: BTreeMap<HostId, i64>,
    releases: Vec<ReleaseNumber>,
}

impl Sightings {
    /// Reads specs, reports and connections.
    pub async fn gather(store: &Store, sessions: &Sessions, app: &AppName, hosts: &[Host]) -> Result<Self> {
        let mut wanted = store.hosts_of(app).await?;
        // What a host keeps is not what is stored of it: that is older.
        for host in store.keepers_of(app).await? {
            wanted.remove(&host);
        }
        let reports = store.reports().await?.into_iter();
        // A report that an older coordinator stored and this one cannot read is as good as none.
        let reports =
            reports.filter_map(|(id, report)| Some((id, serde_json::from_str(&report.status_json).ok()?))).collect();
        let away = hosts.iter().filter_map(|h| Some((h.id.clone(), sessions.away_since(&h.id)?))).collect();
        let releases = store.releases(app).await?.into_iter().map(|release| release.number).collect();
        Ok(Self { wanted, reports, away, releases })
    }
    /// The app on a host, as last reported.
    #[must_use]
    pub fn status(&self, app: &AppName, host: &HostId) -> Option<&AppStatus> {
        self.reports.get(host)?.apps.get(app)
    }
    /// The app on a host, as the coordinator wants it.
    #[must_use]
    pub fn wanted(&self, host: &HostId) -> Option<StoredApp> {
        self.wanted.get(host).copied()
    }
    /// The release that a host should run, if it is that which it has committed, and the store knows it.
    #[must_use]
    pub fn runs_as_wanted(&self, app: &AppName, host: &HostId) -> Option<ReleaseNumber> {
        let wanted = self.wanted(host)?.release;
        matches!(self.before(app, host), Before::Release(number) if number == wanted).then_some(wanted)
    }
    /// Whether a host is connected.
    #[must_use]
    pub fn connected(&self, host: &HostId) -> bool {
        !self.away.contains_key(host)
    }
    /// Whether a host is wanted to run a release, runs it, is seen healthy, and is connected.
    #[must_use]
    pub fn proven(&self, app: &AppName, host: &HostId, release: ReleaseNumber) -> bool {
        let seen = self.status(app, host).is_some_and(|status| {
            matches!(status.phase, Phase::Healthy { .. })
                && status.running.as_ref().is_some_and(|running| running.number == release)
        });
        let wanted = self.wanted(host).is_some_and(|wanted| wanted.release == release && !wanted.paused);
        seen && wanted && self.connected(host)
    }
    /// The hosts in rollout order.
    #[must_use]
    pub fn in_order(&self, app: &AppName, hosts: Vec<Host>) -> Vec<Host> {
        let candidates: Vec<Candidate> = hosts.iter().map(|host| self.candidate(app, host)).collect();
        let mut by_id: BTreeMap<HostId, Host> = hosts.into_iter().map(|host| (host.id.clone(), host)).collect();
        order(&candidates).iter().filter_map(|id| by_id.remove(id)).collect()
    }

    fn candidate(&self, app: &AppName, host: &Host) -> Candidate {
        let status = self.status(app, &host.id);
        let health = match status.map(|status| &status.phase) {
            _ if !self.connected(&host.id) => Health::Unknown,
            Some(Phase::Degraded { .. } | Phase::Failed { .. } | Phase::Reverted { .. }) => Health::Unhealthy,
            None if !self.reports.contains_key(&host.id) => Health::Unknown,
            _ => Health::Healthy,
        };
        let release = status.and_then(|status| status.running.as_ref()).map(|running| running.number);
        Candidate { id: host.id.clone(), name: host.name.clone(), zone: zone(&host.labels), health, release }
    }

    /// What a host goes back to: the release that it has last committed. Only if it never said anything about the app,
    /// what it was wanted to run. A release that is not in the store is not nothing: the app runs there.
    fn before(&self, app: &AppName, host: &HostId) -> Before {
        let before = match self.status(app, host) {
            Some(status) => status.running.as_ref().map(|running| running.number),
            None => self.wanted(host).map(|wanted| wanted.release),
        };
        match before {
            None => Before::Nothing,
            Some(number) if self.releases.contains(&number) => Before::Release(number),
            Some(number) => Before::Unknown(number),
        }
    }
}

/// The document of a rollout that has not begun, over `hosts` in this order.
#[must_use]
pub fn document(wish: &Wish, hosts: &[Host], sightings: &Sightings, now_ms: i64) -> Rollout {
    let run = |host: &Host| {
        let link = sightings.away.get(&host.id).map_or(Link::Up, |since| Link::Down { since_unix_ms: *since });
        let before = sightings.before(&wish.app, &host.id);
        let mut run = HostRun::pending(host.id.clone(), host.name.clone(), before, link, &wish.strategy);
        host.cordoned.iter().for_each(|cordoned| run.cordon(&cordoned.by));
        run
    };
    const NOT_STORED_YET: RolloutId = 0;
    Rollout {
        id: NOT_STORED_YET,
        app: wish.app.clone(),
        kind: wish.kind,
        target: wish.target,
        strategy: wish.strategy.clone(),
        started_by: wish.by.clone(),
        started_unix_ms: now_ms,
        ended_unix_ms: None,
        state: RolloutState::Planned,
        hosts: hosts.iter().map(run).collect(),
        progress_left_ms: wish.strategy.progress_deadline.as_ms(),
        counted_unix_ms: now_ms,
        excused: 0,
        due: Vec::new(),
        once: wish.once.then(Once::default),
    }
}

#[cfg(test)]
mod tests {
    //! What a host goes back to.
    use drover_proto::name::ReleaseId;

    use super::*;

    #[test]
    fn a_release_that_the_store_does_not_know_is_not_nothing() {
        let app: AppName = "mono".parse().unwrap();
        let host: HostId = "h-0000000000000001".parse().unwrap();
        let running = |number: Option<u64>| AppStatus {
            desired: None,
            rollout: 1,
            running: number.map(|number| ReleaseId { app: app.clone(), number }),
            phase: Phase::Pending,
            parts: vec![],
            failure: None,
            checks: std::collections::BTreeMap::new(),
        };
        let stored = StoredApp::new(1, 1);
        let before = |status: Option<AppStatus>| {
            let report = HostStatus {
                apps: status.map(|status| (app.clone(), status)).into_iter().collect(),
                ..HostStatus::default()
            };
            let sightings = Sightings {
                wanted: [(host.clone(), stored)].into(),
                reports: [(host.clone(), report)].into(),
                away: BTreeMap::new(),
                releases: vec![1, 2],
            };
            sightings.before(&app, &host)
        };
        assert_eq!(before(Some(running(Some(2)))), Before::Release(2));
        assert_eq!(before(Some(running(Some(46)))), Before::Unknown(46));
        assert_eq!(before(Some(running(None))), Before::Nothing);
        assert_eq!(before(None), Before::Release(1));
    }
}
