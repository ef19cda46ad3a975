//! Hosts that operators keep rollouts away from, and taking all apps from one. Beside `hosts` and `specs`.

use std::collections::BTreeSet;

use drover_proto::{
    event::EventKind,
    name::{Generation, HostId},
};

use super::{Result, Store, StoreError, audit, commit, compared::note_asked, events, from_int};

impl Store {
    /// Cordons or uncordons a host. One that is cordoned already stays so by who did it first.
    pub async fn set_cordoned(&self, id: &HostId, cordoned: bool, who: &str, now_ms: i64) -> Result<()> {
        let failed = |e| StoreError::Sql("cordon a host", e);
        let mut tx = self.begin().await?;
        let (at, by) = if cordoned { (Some(now_ms), Some(who)) } else { (None, None) };
        let changed: Option<(String,)> = sqlx::query_as(
            "UPDATE hosts SET cordoned_ms = $2, cordoned_by = $3
             WHERE id = $1 AND (cordoned_ms IS NULL) = ($2 IS NOT NULL) RETURNING name",
        )
        .bind(id.as_str())
        .bind(at)
        .bind(by)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
        let Some((name,)) = changed else { return Ok(()) };
        let (action, kind, said) = match cordoned {
            true => ("host cordon", EventKind::HostCordoned, format!("cordoned by {who}: rollouts skip it")),
            false => ("host uncordon", EventKind::HostUncordoned, format!("uncordoned by {who}")),
        };
        audit::record(&mut tx, who, action, &name, now_ms).await?;
        events::record(&mut tx, Some((id, &name)), None, kind, said, now_ms).await?;
        commit(tx).await?;
        self.events_changed();
        Ok(())
    }

    /// Takes every app from a host's desired state, also what it keeps without this store knowing it; `NotFound` when there is no such host. Answers the generation that
    /// stands, which grows only if there was an app.
    pub async fn drain_host(&self, id: &HostId, who: &str, now_ms: i64) -> Result<Generation> {
        let failed = |e| StoreError::Sql("drain a host", e);
        let mut tx = self.begin().await?;
        let apps: Vec<(String,)> = sqlx::query_as("DELETE FROM host_apps WHERE host = $1 RETURNING app")
            .bind(id.as_str())
            .fetch_all(&mut *tx)
            .await
            .map_err(failed)?;
        let kept: Vec<(String,)> = sqlx::query_as("DELETE FROM host_keeps WHERE host = $1 RETURNING app")
            .bind(id.as_str())
            .fetch_all(&mut *tx)
            .await
            .map_err(failed)?;
        let apps: BTreeSet<String> = apps.into_iter().chain(kept).map(|(app,)| app).collect();
        for app in &apps {
            note_asked(&mut tx, id, app).await?;
        }
        let (name, generation): (String, i64) =
            sqlx::query_as("UPDATE hosts SET generation = generation + $2 WHERE id = $1 RETURNING name, generation")
                .bind(id.as_str())
                .bind(i64::from(!apps.is_empty()))
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?
                .ok_or_else(|| StoreError::NotFound(format!("host {id}")))?;
        if !apps.is_empty() {
            let apps = apps.into_iter().collect::<Vec<_>>().join(", ");
            audit::record(&mut tx, who, "host drain", &format!("{name}: {apps}"), now_ms).await?;
            let said = format!("drained by {who} of {apps}");
            events::record(&mut tx, Some((id, &name)), None, EventKind::HostDrained, said, now_ms).await?;
        }
        commit(tx).await?;
        self.events_changed();
        from_int(generation, "a host's generation")
    }
}

#[cfg(test)]
mod tests {
    //! Flags and specs, without a rollout.
    use crate::store::{
        StoredApp,
        tests::{enrolled, temporary},
    };

    #[tokio::test]
    async fn a_host_is_cordoned_once_and_drained_of_all() {
        let t = temporary().await;
        let id = enrolled(&t.store).await;
        let cordoned = async || t.store.host(id.as_str()).await.unwrap().unwrap().cordoned;
        assert_eq!(cordoned().await, None);
        t.store.set_cordoned(&id, true, "ada", 5).await.unwrap();
        t.store.set_cordoned(&id, true, "bob", 6).await.unwrap();
        let now = cordoned().await.unwrap();
        assert_eq!((now.by.as_str(), now.at_unix_ms), ("ada", 5));
        t.store.set_cordoned(&id, false, "bob", 7).await.unwrap();
        assert_eq!(cordoned().await, None);

        for app in ["mono", "blog"] {
            t.store.set_app(&id, &app.parse().unwrap(), Some(StoredApp::new(1, 1))).await.unwrap();
        }
        assert_eq!(t.store.drain_host(&id, "ada", 8).await.unwrap(), 3);
        assert_eq!(t.store.drain_host(&id, "ada", 9).await.unwrap(), 3, "there is nothing left to take");
        assert!(t.store.spec(&id).await.unwrap().apps.is_empty());
        let said = t.store.audit(10).await.unwrap();
        let drains: Vec<&str> =
            said.iter().filter(|entry| entry.action == "host drain").map(|entry| entry.subject.as_str()).collect();
        assert_eq!(drains.len(), 1);
        assert!(drains[0].ends_with(": blog, mono"), "{drains:?}");
    }
}
