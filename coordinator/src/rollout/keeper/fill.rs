//! Hosts that come late get what the others have: the last good release of each app that they match. Part of `keeper`.

use drover_proto::{
    name::{AppName, HostId},
    rollout::RolloutState,
};
use tracing::error;

use super::{Kind, NO_ROLLOUT, Rollouts, matches, read};
use crate::{
    clock,
    rollout::state::Rollout,
    store::{Result, StoreError, StoredApp},
};

/// Rollouts of an app that are looked through for the one that proved its last good release.
const HISTORY: u32 = 200;

/// How a host comes to match an app.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comes {
    /// Enrolled, labelled or connected: what it has, or was taken back to, stays.
    New,
    /// Uncordoned: it gets what has passed it by.
    Back,
}

impl Rollouts {
    /// Gives a host the last good release of each app whose labels it matches and that it does not have.
    pub async fn fill_in(&self, host: &HostId) -> Result<()> {
        self.fill_in_host(host, Comes::New).await
    }

    pub(super) async fn fill_in_host(&self, host: &HostId, comes: Comes) -> Result<()> {
        for app in self.0.store.apps().await? {
            self.fill_in_one(&app, host, comes).await?;
        }
        Ok(())
    }

    /// At the end of a rollout: hosts that came while it ran get what it has proved; those of its own that it never
    /// reached, such as one that was uncordoned meanwhile, get what has passed them by.
    pub(super) async fn fill_in_after(&self, rollout: &Rollout) -> Result<()> {
        if rollout.state == RolloutState::Succeeded {
            for host in self.0.store.hosts().await? {
                self.fill_in_one(&rollout.app, &host.id, Comes::New).await?;
            }
        }
        for run in rollout.hosts.iter().filter(|run| run.asked.is_none()) {
            self.fill_in_one(&rollout.app, &run.id, Comes::Back).await?;
        }
        Ok(())
    }

    async fn fill_in_one(&self, app: &AppName, host: &HostId, comes: Comes) -> Result<()> {
        // No rollout may begin in between.
        let _one_at_a_time = self.0.beginning.lock().await;
        let store = &self.0.store;
        let Some(host) = store.host(host.as_str()).await?.filter(|host| host.cordoned.is_none()) else { return Ok(()) };
        let has = store.hosts_of(app).await?.get(&host.id).copied();
        // What a host keeps of an app may be that it has it no more.
        let keeps = store.keepers_of(app).await?.contains(&host.id);
        if (has.is_some() && comes == Comes::New) || keeps || self.active_of(app).is_some() {
            return Ok(());
        }
        let Some(number) = store.last_good(app).await? else { return Ok(()) };
        let Some(release) = store.release(app, number).await? else { return Ok(()) };
        let spec = release.spec()?;
        if !matches(&spec.targets, &host) {
            return Ok(());
        }
        if let Some(collision) = self.collisions(&spec, std::slice::from_ref(&host)).await?.first() {
            error!(%app, release = number, "not given to a host that matches: {collision}");
            return Ok(());
        }
        // The rollout that proved it must be newer than any removal: an app that was removed stays so.
        let mut rollouts = Vec::new();
        for stored in store.rollouts(Some(app), HISTORY).await? {
            rollouts.push(read(&stored)?);
        }
        let proved = rollouts
            .iter()
            .take_while(|rollout| rollout.kind != Kind::Remove)
            .filter(|rollout| matches!(rollout.kind, Kind::Apply | Kind::Rollback))
            .find(|rollout| rollout.state == RolloutState::Succeeded && rollout.target == Some(number));
        let Some(proved) = proved else { return Ok(()) };
        // What was proved before this store was restored may be older than what the host holds: that is compared first.
        if store.uncompared_since(&host.id).await?.is_some_and(|before| proved.id <= before) {
            return Ok(());
        }
        // Only what passed it by is made up for.
        if has.is_some_and(|has| has.release == number || has.rollout > proved.id) {
            return Ok(());
        }
        // A host without the app that the newest rollout has touched was taken back to having nothing.
        let newest = rollouts.first().and_then(|newest| newest.hosts.iter().find(|run| run.id == host.id));
        if comes == Comes::New && newest.is_some_and(|run| run.asked.is_some()) {
            return Ok(());
        }
        let wanted = StoredApp::new(number, proved.id);
        match store.set_app(&host.id, app, Some(wanted)).await {
            Ok(generation) => self.0.writes.note(&host.id, generation, NO_ROLLOUT),
            Err(StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        let subject = format!("{app}/{number} on {}: it matches the app's labels", host.name);
        store.record("coordinator", "release given", &subject, clock::unix_ms()).await?;
        self.0.sessions.spec_changed(&host.id);
        Ok(())
    }
}
