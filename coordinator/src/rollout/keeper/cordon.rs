//! Hosts that an operator keeps rollouts away from, or takes the apps from. Part of `keeper`.

use drover_proto::{
    name::{AppName, RolloutId},
    rollout::HostState,
};
use tracing::info;

use super::{NO_ROLLOUT, Rollouts, fill::Comes};
use crate::{
    clock,
    rollout::state::What,
    store::{Host, Result},
};

impl Rollouts {
    /// From now on no rollout begins on the host, and it is given nothing; what has begun there ends there.
    pub async fn cordon(&self, host: &Host, by: &str) -> Result<()> {
        let _no_rollout_begins = self.0.beginning.lock().await;
        self.0.store.set_cordoned(&host.id, true, by, clock::unix_ms()).await?;
        self.tell_all(&What::HostCordoned { host: host.id.clone(), by: by.to_owned() }).await;
        Ok(())
    }

    /// Undoes `cordon`: rollouts that run take the host, and it gets what passed it by.
    pub async fn uncordon(&self, host: &Host, by: &str) -> Result<()> {
        {
            let _no_rollout_begins = self.0.beginning.lock().await;
            self.0.store.set_cordoned(&host.id, false, by, clock::unix_ms()).await?;
            self.tell_all(&What::HostUncordoned(host.id.clone())).await;
        }
        self.fill_in_host(&host.id, Comes::Back).await
    }

    /// Cordons the host and takes all of its apps from it. Answers a rollout that has touched the host and has not ended:
    /// then the apps stay, since that rollout may still write to it.
    pub async fn drain(&self, host: &Host, by: &str) -> Result<Option<(RolloutId, AppName)>> {
        self.cordon(host, by).await?;
        let _no_rollout_begins = self.0.beginning.lock().await;
        if let Some(busy) = self.touching(host) {
            return Ok(Some(busy));
        }
        let generation = self.0.store.drain_host(&host.id, by, clock::unix_ms()).await?;
        self.0.writes.note(&host.id, generation, NO_ROLLOUT);
        self.0.sessions.spec_changed(&host.id);
        Ok(None)
    }

    /// An active rollout that has written to the host.
    fn touching(&self, host: &Host) -> Option<(RolloutId, AppName)> {
        self.handles().into_iter().find_map(|(id, handle)| {
            let view = handle.view.borrow();
            let of_host = view.targets.iter().find(|target| target.host == host.name)?;
            let untouched = matches!(of_host.state, HostState::Pending | HostState::Skipped { .. });
            (!untouched).then(|| (id, handle.app.clone()))
        })
    }

    /// Waits until every active rollout has taken it in.
    async fn tell_all(&self, what: &What) {
        for (id, _) in self.handles() {
            if self.tell(id, what.clone()).await.is_err() {
                info!(rollout = id, "ended before it heard of a host that was cordoned or uncordoned");
            }
        }
    }
}
