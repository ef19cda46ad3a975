//! Numbers of releases and rollouts that hosts tell of. A store that was restored from a backup has forgotten some; new
//! ones are counted from above them, so that no number means two things. `releases` and `rollouts` count with `next`.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use drover_proto::{
    name::{AppName, ReleaseNumber, RolloutId},
    status::HostStatus,
};
use sqlx::{Connection as _, Sqlite, SqliteConnection, Transaction, sqlite::SqliteConnectOptions};

use super::{Result, Store, StoreError, commit, from_int, to_int};

/// How far a number may be above the ones known; more is not a restored backup but nonsense.
const MAX_AHEAD: u64 = 1 << 20;
/// Apps that are remembered; no host can fill the store with names.
const MAX_APPS: i64 = 10_000;
/// In place of an app's name: rollouts.
const ROLLOUTS: &str = "";
/// In place of an app's name: rollouts up to here are from before the last restore.
pub(super) const RESTORED: &str = "@restored";
/// By how much a restore counts on: more rollouts than are likely to have been lost.
const RESTORE_STEP: i64 = 1000;

const HIGHEST: &str = "SELECT MAX(n) FROM (SELECT highest AS n FROM numbers WHERE app = $1
    UNION ALL SELECT MAX(number) FROM releases WHERE app = $1
    UNION ALL SELECT MAX(id) FROM rollouts WHERE $1 = '')";

/// Numbers, by app as in the table, that the store is known to hold or to be above of; clones share them.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<BTreeMap<String, u64>>>);

impl Seen {
    fn covers(&self, app: &str, number: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(app).is_some_and(|highest| number <= *highest)
    }
    fn note(&self, app: &str, highest: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(app.to_owned(), highest);
    }
}

/// The number after the highest that this store or a host has used; `app` empty: of a rollout.
pub(super) async fn next(tx: &mut Transaction<'static, Sqlite>, app: Option<&AppName>) -> Result<i64> {
    let (highest,): (Option<i64>,) = sqlx::query_as(HIGHEST)
        .bind(app.map_or(ROLLOUTS, AppName::as_str))
        .fetch_one(&mut **tx)
        .await
        .map_err(|e| StoreError::Sql("count on", e))?;
    Ok(highest.unwrap_or(0) + 1)
}

/// Has the rollouts go on from far above all that this store, or the one that it takes the place of (`lost`), has used, so
/// that what was begun after the backup is not begun once more as something else. The oldest stores count no such numbers.
pub(super) async fn leap(tx: &mut Transaction<'static, Sqlite>, lost: i64) -> Result<()> {
    let failed = |e| StoreError::Sql("count on from a restore", e);
    let there: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'numbers'")
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed)?;
    if there.is_none() {
        return Ok(());
    }
    let from = next(tx, None).await?.max(lost.saturating_add(1)).saturating_add(RESTORE_STEP);
    for app in [ROLLOUTS, RESTORED] {
        sqlx::query("INSERT INTO numbers (app, highest) VALUES ($1, $2) ON CONFLICT (app) DO UPDATE SET highest = $2")
            .bind(app)
            .bind(from)
            .execute(&mut **tx)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// The highest number of a rollout in the store at `path`, which nobody has open; 0, if that cannot be read. Nothing is written
/// beside it: what a crash has left in its log may be missed, and the step makes up for that.
pub(super) async fn highest_rollout(path: &Path) -> i64 {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
    let read = async {
        let mut file = SqliteConnection::connect_with(&options).await?;
        sqlx::query_as(HIGHEST).bind(ROLLOUTS).fetch_one(&mut file).await
    };
    match read.await {
        Ok((highest,)) => Option::unwrap_or(highest, 0),
        Err(error) => {
            tracing::info!(%error, path = %path.display(), "not read: it tells no numbers of rollouts");
            0
        }
    }
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
        if self.seen.covers(app, number) {
            return Ok(());
        }
        let highest: u64 = from_int(self.highest(app).await?, "the highest number")?;
        if highest > 0 {
            // Only of names that the store has: no host can fill the memory with others.
            self.seen.note(app, highest);
        }
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
