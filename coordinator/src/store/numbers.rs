//! Numbers of releases and rollouts that hosts tell of. A store that was restored from a backup has forgotten some; new
//! ones are counted from above them, so that no number means two things. `releases` and `rollouts` count with `next`.

use drover_proto::{
    name::{AppName, ReleaseNumber, RolloutId},
    status::HostStatus,
};
use sqlx::{Sqlite, Transaction};

use super::{Result, Store, StoreError, commit, from_int, to_int};

/// How far a number may be above the ones known; more is not a restored backup but nonsense.
const MAX_AHEAD: u64 = 1 << 20;
/// Apps that are remembered; no host can fill the store with names.
const MAX_APPS: i64 = 10_000;
/// In place of an app's name: rollouts.
const ROLLOUTS: &str = "";

const HIGHEST: &str = "SELECT MAX(n) FROM (SELECT highest AS n FROM numbers WHERE app = $1
    UNION ALL SELECT MAX(number) FROM releases WHERE app = $1
    UNION ALL SELECT MAX(id) FROM rollouts WHERE $1 = '')";

/// The number after the highest that this store or a host has used; `app` empty: of a rollout.
pub(super) async fn next(tx: &mut Transaction<'static, Sqlite>, app: Option<&AppName>) -> Result<i64> {
    let (highest,): (Option<i64>,) = sqlx::query_as(HIGHEST)
        .bind(app.map_or(ROLLOUTS, AppName::as_str))
        .fetch_one(&mut **tx)
        .await
        .map_err(|e| StoreError::Sql("count on", e))?;
    Ok(highest.unwrap_or(0) + 1)
}

impl Store {
    /// The number that an app's next release gets.
    pub async fn next_release(&self, app: &AppName) -> Result<ReleaseNumber> {
        from_int(self.highest(app.as_str()).await? + 1, "a release's number")
    }
    /// Takes note of the numbers in a report, before anything is cut from it. Only numbers above all known ones are
    /// written.
    pub async fn see_numbers(&self, status: &HostStatus) -> Result<()> {
        let mut rollout: RolloutId = 0;
        for (app, status) in &status.apps {
            rollout = rollout.max(status.rollout);
            let named = status.desired.iter().chain(&status.running).chain(status.failure.iter().map(|f| &f.release));
            let release = named.filter(|release| release.app == *app).map(|release| release.number).max();
            if let Some(release) = release {
                self.see(app.as_str(), release).await?;
            }
        }
        self.see(ROLLOUTS, rollout).await
    }

    async fn highest(&self, app: &str) -> Result<i64> {
        let (highest,): (Option<i64>,) = sqlx::query_as(HIGHEST)
            .bind(app)
            .fetch_one(&self.read)
            .await
            .map_err(|e| StoreError::Sql("read the highest number", e))?;
        Ok(highest.unwrap_or(0))
    }
    async fn see(&self, app: &str, number: u64) -> Result<()> {
        let highest: u64 = from_int(self.highest(app).await?, "the highest number")?;
        if number <= highest || number - highest > MAX_AHEAD {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO numbers (app, highest) SELECT $1, $2
             WHERE $1 = '' OR EXISTS (SELECT 1 FROM numbers WHERE app = $1) OR (SELECT COUNT(*) FROM numbers) < $3
             ON CONFLICT (app) DO UPDATE SET highest = CASE WHEN highest > $2 THEN highest ELSE $2 END",
        )
        .bind(app)
        .bind(to_int(number, "a number")?)
        .bind(MAX_APPS)
        .execute(&mut *tx)
        .await
        .map_err(|e| StoreError::Sql("keep the highest number", e))?;
        commit(tx).await
    }
}
