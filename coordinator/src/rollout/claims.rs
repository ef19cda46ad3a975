//! Units, containers, compose projects, upstreams and paths that two apps would both claim on one host. Its agent refuses a host
//! spec with such a pair, and with it
//! every change for that host: so none is ever written.
//!
//! `rpc/operator/plan` asks before a plan or a rollout, so that nothing is written in vain. `keeper` asks before it gives a
//! release to a host, and as a rollout begins: of two that were asked for at once, the later one is refused.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
};

use drover_proto::{
    app::AppSpec,
    name::{AppName, HostName, ReleaseNumber},
};

use super::{Kind, Rollouts, Wish, begin::BeginError};
use crate::store::{Host, Result};

/// A unit or path that another app has on a host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Collision {
    /// Where.
    pub host: HostName,
    /// `unit mono.service` or `file /etc/mono.conf`.
    pub part: String,
    /// Whose it is.
    pub other: AppName,
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, part, other } = self;
        write!(f, "{host}: {part}: it belongs to app {other}; remove it there first, or give it another name")
    }
}

/// What an app claims, in words.
#[must_use]
pub fn claims(spec: &AppSpec) -> BTreeSet<String> {
    let names = spec.units.iter().flat_map(|(name, unit)| unit.runs_as(name).into_iter().chain([name.clone()]));
    let units = names.map(|unit| format!("unit {unit}"));
    let containers = spec.containers.keys().map(|name| format!("container {name}"));
    let projects = spec.compose.keys().map(|name| format!("compose project {name}"));
    let upstreams = spec.handovers().map(|(_, own)| format!("upstream {}", own.upstream));
    let files = spec.files.iter().map(|file| format!("file {}", file.path));
    units.chain(containers).chain(projects).chain(upstreams).chain(files).collect()
}

impl Rollouts {
    /// What an app would claim on hosts where another app has it, or is being given it.
    pub async fn collisions(&self, spec: &AppSpec, hosts: &[Host]) -> Result<Vec<Collision>> {
        let (store, wanted) = (self.store(), claims(spec));
        let mut found = BTreeSet::new();
        // First, as all that a rollout wrote is stored when it ends: it may do so between the two.
        let active = self.all_active();
        let stored = store.wanted().await?;
        let others: BTreeSet<&AppName> =
            stored.keys().chain(active.keys()).filter(|other| **other != spec.app).collect();
        for other in others {
            let mut releases: BTreeSet<(HostName, ReleaseNumber)> = BTreeSet::new();
            if let Some(stored) = stored.get(other) {
                let on = hosts.iter().filter_map(|host| Some((host.name.clone(), stored.get(&host.id)?.release)));
                releases.extend(on);
            }
            // A host whose turn has not come gets the new release; one that fails gets the one before.
            if let Some(view) = active.get(other) {
                for target in view.targets.iter().filter(|target| hosts.iter().any(|host| host.name == target.host)) {
                    let both = view.summary.release.into_iter().chain(target.before);
                    releases.extend(both.map(|number| (target.host.clone(), number)));
                }
            }
            let mut read: BTreeMap<ReleaseNumber, BTreeSet<String>> = BTreeMap::new();
            for (host, number) in releases {
                if let Entry::Vacant(unread) = read.entry(number) {
                    let release = store.release(other, number).await?;
                    unread.insert(release.map(|r| r.spec()).transpose()?.map(|s| claims(&s)).unwrap_or_default());
                }
                for part in read[&number].intersection(&wanted) {
                    found.insert(Collision { host: host.clone(), part: part.clone(), other: other.clone() });
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Refuses a rollout that would give hosts what another app has there. No other may begin meanwhile.
    pub(super) async fn not_of_others(&self, wish: &Wish, hosts: &[Host]) -> std::result::Result<(), BeginError> {
        // A restart or a removal gives a host nothing that it does not have.
        let (Kind::Apply | Kind::Rollback, Some(number)) = (wish.kind, wish.target) else { return Ok(()) };
        let Some(release) = self.store().release(&wish.app, number).await? else { return Ok(()) };
        let collisions = self.collisions(&release.spec()?, hosts).await?;
        if collisions.is_empty() { Ok(()) } else { Err(BeginError::Claimed(collisions)) }
    }
}
