//! The desired state of each host: which release of which app, asked for by which rollout. `rollout` writes it,
//! `session` sends it.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::name::{AppName, Generation, HostId, ReleaseNumber, RolloutId};

use super::{Result, Store, StoreError, commit, compared::note_asked, from_int, parse, to_int};

/// What one host should run, without the documents and secrets that go with it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoredSpec {
    /// Grows with every change; 0 = nothing written yet.
    pub generation: Generation,
    /// The apps.
    pub apps: BTreeMap<AppName, StoredApp>,
    /// Apps that stay as the host holds them, whatever `apps` says of them: it is older than what the host has.
    pub keep: BTreeSet<AppName>,
}

/// One app on one host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredApp {
    /// Which release.
    pub release: ReleaseNumber,
    /// Who asked for it.
    pub rollout: RolloutId,
    /// Whether its deadlines stand still.
    pub paused: bool,
    /// Whether the host may run the hooks that run on one host only.
    pub run_once: bool,
    /// The rollout that last asked for a restart; 0 = none. Written with 0, it stays what it was.
    pub restart: RolloutId,
}

impl StoredApp {
    /// A release for a rollout, and nothing special.
    #[must_use]
    pub fn new(release: ReleaseNumber, rollout: RolloutId) -> Self {
        Self { release, rollout, paused: false, run_once: false, restart: 0 }
    }
}

type Row = (String, i64, i64, i64, i64, i64);

fn read(row: Row) -> Result<(AppName, StoredApp)> {
    let (app, release, rollout, paused, run_once, restart) = row;
    let stored = StoredApp {
        release: from_int(release, "a host's release")?,
        rollout: from_int(rollout, "a host's rollout")?,
        paused: paused != 0,
        run_once: run_once != 0,
        restart: from_int(restart, "a restart's rollout")?,
    };
    Ok((parse(&app, "an app's name")?, stored))
}

impl Store {
    /// A host's desired state; `NotFound` when there is no such host.
    pub async fn spec(&self, host: &HostId) -> Result<StoredSpec> {
        let failed = |e| StoreError::Sql("read a host spec", e);
        // One transaction, so that generation and apps belong together.
        let mut tx = self.read.begin().await.map_err(failed)?;
        let (generation,): (i64,) = sqlx::query_as("SELECT generation FROM hosts WHERE id = $1")
            .bind(host.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?
            .ok_or_else(|| StoreError::NotFound(format!("host {host}")))?;
        let rows: Vec<Row> =
            sqlx::query_as("SELECT app, release, rollout, paused, run_once, restart FROM host_apps WHERE host = $1")
                .bind(host.as_str())
                .fetch_all(&mut *tx)
                .await
                .map_err(failed)?;
        let keep: Vec<(String,)> = sqlx::query_as("SELECT app FROM host_keeps WHERE host = $1")
            .bind(host.as_str())
            .fetch_all(&mut *tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(StoredSpec {
            generation: from_int(generation, "a host's generation")?,
            apps: rows.into_iter().map(read).collect::<Result<_>>()?,
            keep: keep.iter().map(|(app,)| parse(app, "an app's name")).collect::<Result<_>>()?,
        })
    }
    /// Every app on every host that should run it.
    pub async fn wanted(&self) -> Result<BTreeMap<AppName, BTreeMap<HostId, StoredApp>>> {
        type OfHost = (String, String, i64, i64, i64, i64, i64);
        let rows: Vec<OfHost> =
            sqlx::query_as("SELECT host, app, release, rollout, paused, run_once, restart FROM host_apps")
                .fetch_all(&self.read)
                .await
                .map_err(|e| StoreError::Sql("read what all hosts should run", e))?;
        let mut all: BTreeMap<AppName, BTreeMap<HostId, StoredApp>> = BTreeMap::new();
        for (host, app, release, rollout, paused, run_once, restart) in rows {
            let (app, stored) = read((app, release, rollout, paused, run_once, restart))?;
            all.entry(app).or_default().insert(parse(&host, "a host's id")?, stored);
        }
        Ok(all)
    }
    /// The hosts on which an app stays as it is there.
    pub async fn keepers_of(&self, app: &AppName) -> Result<BTreeSet<HostId>> {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT host FROM host_keeps WHERE app = $1")
            .bind(app.as_str())
            .fetch_all(&self.read)
            .await
            .map_err(|e| StoreError::Sql("read the hosts that keep an app", e))?;
        rows.iter().map(|(host,)| parse(host, "a host's id")).collect()
    }
    /// Every app that stays as it is on some host, and on which.
    pub async fn kept_apps(&self) -> Result<BTreeMap<AppName, BTreeSet<HostId>>> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT app, host FROM host_keeps")
            .fetch_all(&self.read)
            .await
            .map_err(|e| StoreError::Sql("read the apps that hosts keep", e))?;
        let mut all: BTreeMap<AppName, BTreeSet<HostId>> = BTreeMap::new();
        for (app, host) in rows {
            all.entry(parse(&app, "an app's name")?).or_default().insert(parse(&host, "a host's id")?);
        }
        Ok(all)
    }
    /// From now on these apps stay as the host holds them; `set_app` ends that for one. `only`: and no others, whatever
    /// was kept before.
    pub async fn keep(&self, host: &HostId, apps: &BTreeSet<AppName>, only: bool) -> Result<()> {
        let mut tx = self.begin().await?;
        if only {
            sqlx::query("DELETE FROM host_keeps WHERE host = $1")
                .bind(host.as_str())
                .execute(&mut *tx)
                .await
                .map_err(|e| StoreError::Sql("keep an app of a host", e))?;
        }
        for app in apps {
            // What was asked in this very moment goes before.
            sqlx::query(
                "INSERT INTO host_keeps (host, app)
                 SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM host_asked WHERE host = $1 AND app = $2
                 AND restore = (SELECT MAX(id) FROM audit WHERE action = 'restore'))
                 ON CONFLICT (host, app) DO NOTHING",
            )
            .bind(host.as_str())
            .bind(app.as_str())
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("keep an app of a host", e))?;
        }
        commit(tx).await
    }
    /// One app on every host that should run it.
    pub async fn hosts_of(&self, app: &AppName) -> Result<BTreeMap<HostId, StoredApp>> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT host, release, rollout, paused, run_once, restart FROM host_apps WHERE app = $1")
                .bind(app.as_str())
                .fetch_all(&self.read)
                .await
                .map_err(|e| StoreError::Sql("read the hosts of an app", e))?;
        rows.into_iter()
            .map(|(host, release, rollout, paused, run_once, restart)| {
                let (_, stored) = read((app.to_string(), release, rollout, paused, run_once, restart))?;
                Ok((parse(&host, "a host's id")?, stored))
            })
            .collect()
    }
    /// Sets (`None`: removes) one app in a host's desired state. The generation grows only if that changes something.
    /// `NotFound` also when the host was revoked.
    pub async fn set_app(&self, host: &HostId, app: &AppName, wanted: Option<StoredApp>) -> Result<Generation> {
        let failed = |e| StoreError::Sql("write a host spec", e);
        let mut tx = self.begin().await?;
        let (generation,): (i64,) = sqlx::query_as("SELECT generation FROM hosts WHERE id = $1 AND revoked_ms IS NULL")
            .bind(host.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?
            .ok_or_else(|| StoreError::NotFound(format!("host {host}")))?;
        let row: Option<Row> = sqlx::query_as(
            "SELECT app, release, rollout, paused, run_once, restart FROM host_apps WHERE host = $1 AND app = $2",
        )
        .bind(host.as_str())
        .bind(app.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
        let before = row.map(read).transpose()?.map(|(_, stored)| stored);
        // A restart that was asked for is not taken back: units would be restarted for that.
        let kept = before.map_or(0, |before| before.restart);
        let wanted = wanted.map(|wanted| StoredApp { restart: wanted.restart.max(kept), ..wanted });
        let held = sqlx::query("DELETE FROM host_keeps WHERE host = $1 AND app = $2")
            .bind(host.as_str())
            .bind(app.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        note_asked(&mut tx, host, app.as_str()).await?;
        if before == wanted && held.rows_affected() == 0 {
            commit(tx).await?;
            return from_int(generation, "a host's generation");
        }
        match wanted {
            Some(stored) => sqlx::query(
                "INSERT INTO host_apps (host, app, release, rollout, paused, run_once, restart)
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (host, app) DO UPDATE
                 SET release = $3, rollout = $4, paused = $5, run_once = $6, restart = $7",
            )
            .bind(host.as_str())
            .bind(app.as_str())
            .bind(to_int(stored.release, "a release")?)
            .bind(to_int(stored.rollout, "a rollout")?)
            .bind(i64::from(stored.paused))
            .bind(i64::from(stored.run_once))
            .bind(to_int(stored.restart, "a restart's rollout")?),
            None => {
                sqlx::query("DELETE FROM host_apps WHERE host = $1 AND app = $2").bind(host.as_str()).bind(app.as_str())
            }
        }
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        sqlx::query("UPDATE hosts SET generation = $2 WHERE id = $1")
            .bind(host.as_str())
            .bind(generation + 1)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        commit(tx).await?;
        from_int(generation + 1, "a host's generation")
    }
    /// Notes that a host did not accept a generation, and why; until it accepts one.
    pub async fn set_refused(&self, id: &HostId, generation: Generation, why: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE hosts SET refused = $2, refused_why = $3 WHERE id = $1 AND COALESCE(refused, 0) <= $2")
            .bind(id.as_str())
            .bind(to_int(generation, "a generation")?)
            .bind(why)
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("note a refused generation", e))?;
        commit(tx).await
    }
    /// Notes the generation that a host says it holds when it connects, whatever was known before.
    pub async fn set_held(&self, id: &HostId, generation: Generation) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "UPDATE hosts SET accepted = $2, refused = CASE WHEN refused <= $2 THEN NULL ELSE refused END,
             refused_why = CASE WHEN refused <= $2 THEN NULL ELSE refused_why END WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(to_int(generation, "a generation")?)
        .execute(&mut *tx)
        .await
        .map_err(|e| StoreError::Sql("note a held generation", e))?;
        commit(tx).await
    }
    /// Notes the generation that a host has accepted; never moves back. What it refused up to there is over.
    pub async fn set_accepted(&self, id: &HostId, generation: Generation) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE hosts SET accepted = $2 WHERE id = $1 AND accepted < $2")
            .bind(id.as_str())
            .bind(to_int(generation, "a generation")?)
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("note an accepted generation", e))?;
        sqlx::query("UPDATE hosts SET refused = NULL, refused_why = NULL WHERE id = $1 AND refused <= $2")
            .bind(id.as_str())
            .bind(to_int(generation, "a generation")?)
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("note an accepted generation", e))?;
        commit(tx).await
    }
    /// Counts on from `held`, which the host already holds: after a restore from a backup, hosts are ahead. What is
    /// wanted stays, and the next change of it gets a generation that the host accepts. Answers the generation that
    /// stands.
    pub async fn raise_generation(&self, id: &HostId, held: Generation) -> Result<Generation> {
        let mut tx = self.begin().await?;
        let (generation,): (i64,) = sqlx::query_as(
            "UPDATE hosts SET generation = CASE WHEN generation > $2 THEN generation ELSE $2 END WHERE id = $1
             RETURNING generation",
        )
        .bind(id.as_str())
        .bind(to_int(held, "a generation")?)
        .fetch_optional(&mut *tx)
        .await
        .map_err(|e| StoreError::Sql("raise a generation", e))?
        .ok_or_else(|| StoreError::NotFound(format!("host {id}")))?;
        commit(tx).await?;
        from_int(generation, "a host's generation")
    }
}
