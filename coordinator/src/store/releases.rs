//! Releases: the immutable snapshots of apps, with the secrets that they pin.

use std::collections::BTreeMap;

use drover_proto::{
    app::AppSpec,
    name::{AppName, HostId, ReleaseNumber},
};

use super::{
    Result, SecretPins, Store, StoreError, audit, commit, from_int, from_json, numbers, parse, to_int, to_json,
};

/// A release as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Release {
    /// The app.
    pub app: AppName,
    /// Its number: 1, 2, 3 …
    pub number: ReleaseNumber,
    /// The JSON document, `drover_proto::app::AppSpec`, as it was hashed.
    pub spec_json: String,
    /// Of that document, `sha256:…`.
    pub digest: String,
    /// Which values its secrets have.
    pub secrets: SecretPins,
    /// Unix ms.
    pub created_ms: i64,
    /// By whom.
    pub created_by: String,
    /// Unix ms when a rollout of it last succeeded.
    pub good_ms: Option<i64>,
}

impl Release {
    /// The document, read.
    pub fn spec(&self) -> Result<AppSpec> {
        from_json(&self.spec_json, "a release")
    }
}

/// Which releases of an app stand out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The newest.
    pub latest: ReleaseNumber,
    /// The one whose rollout succeeded last.
    pub last_good: Option<ReleaseNumber>,
}

type Row = (i64, String, String, String, i64, String, Option<i64>);

fn read(app: &AppName, row: Row) -> Result<Release> {
    let (number, spec_json, digest, secrets, created_ms, created_by, good_ms) = row;
    Ok(Release {
        app: app.clone(),
        number: from_int(number, "a release's number")?,
        spec_json,
        digest,
        secrets: from_json(&secrets, "a release's secrets")?,
        created_ms,
        created_by,
        good_ms,
    })
}

impl Store {
    /// Stores a release and answers its number; the same digest and secrets as the app's newest give that one's.
    /// A new number is above every one that this store or a host has used.
    pub async fn put_release(
        &self,
        app: &AppName,
        spec_json: &str,
        digest: &str,
        secrets: &SecretPins,
        by: &str,
        now_ms: i64,
    ) -> Result<ReleaseNumber> {
        let failed = |e| StoreError::Sql("store a release", e);
        let pins = to_json(secrets, "a release's secrets")?;
        let mut tx = self.begin().await?;
        let newest: Option<(i64, String, String)> =
            sqlx::query_as("SELECT number, digest, secrets FROM releases WHERE app = $1 ORDER BY number DESC LIMIT 1")
                .bind(app.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
        let number = match newest {
            Some((number, of, with)) if of == digest && with == pins => {
                return from_int(number, "a release's number");
            }
            _ => numbers::next(&mut tx, Some(app)).await?,
        };
        sqlx::query(
            "INSERT INTO releases (app, number, spec, digest, secrets, created_ms, created_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(app.as_str())
        .bind(number)
        .bind(spec_json)
        .bind(digest)
        .bind(&pins)
        .bind(now_ms)
        .bind(by)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        audit::record(&mut tx, by, "release", &format!("{app}/{number}"), now_ms).await?;
        commit(tx).await?;
        from_int(number, "a release's number")
    }
    /// One release.
    pub async fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Option<Release>> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT number, spec, digest, secrets, created_ms, created_by, good_ms
             FROM releases WHERE app = $1 AND number = $2",
        )
        .bind(app.as_str())
        .bind(to_int(number, "a release's number")?)
        .fetch_optional(&self.read)
        .await
        .map_err(|e| StoreError::Sql("read a release", e))?;
        row.map(|row| read(app, row)).transpose()
    }
    /// The release of each app that a host should run.
    pub async fn releases_on(&self, host: &HostId) -> Result<BTreeMap<AppName, Release>> {
        type OfApp = (String, i64, String, String, String, i64, String, Option<i64>);
        let rows: Vec<OfApp> = sqlx::query_as(
            "SELECT r.app, r.number, r.spec, r.digest, r.secrets, r.created_ms, r.created_by, r.good_ms
             FROM host_apps h JOIN releases r ON r.app = h.app AND r.number = h.release WHERE h.host = $1",
        )
        .bind(host.as_str())
        .fetch_all(&self.read)
        .await
        .map_err(|e| StoreError::Sql("read the releases of a host", e))?;
        rows.into_iter()
            .map(|(app, number, spec, digest, secrets, created_ms, by, good_ms)| {
                let app = parse(&app, "an app's name")?;
                let release = read(&app, (number, spec, digest, secrets, created_ms, by, good_ms))?;
                Ok((app, release))
            })
            .collect()
    }
    /// Of every app, the release that is newest, and the one whose rollout succeeded last.
    pub async fn standings(&self) -> Result<BTreeMap<AppName, Standing>> {
        let failed = |e| StoreError::Sql("list the newest releases", e);
        let newest: Vec<(String, i64)> = sqlx::query_as("SELECT app, MAX(number) FROM releases GROUP BY app")
            .fetch_all(&self.read)
            .await
            .map_err(failed)?;
        let good: Vec<(String, i64)> = sqlx::query_as(
            "SELECT app, number FROM (SELECT app, number,
             ROW_NUMBER() OVER (PARTITION BY app ORDER BY good_ms DESC, number DESC) AS place
             FROM releases WHERE good_ms IS NOT NULL) AS placed WHERE place = 1",
        )
        .fetch_all(&self.read)
        .await
        .map_err(failed)?;
        let number = |(app, number): (String, i64)| -> Result<(AppName, ReleaseNumber)> {
            Ok((parse(&app, "an app's name")?, from_int(number, "a release's number")?))
        };
        let good: BTreeMap<AppName, ReleaseNumber> = good.into_iter().map(number).collect::<Result<_>>()?;
        let standings = newest.into_iter().map(number).map(|newest| {
            let (app, latest) = newest?;
            let last_good = good.get(&app).copied();
            Ok((app, Standing { latest, last_good }))
        });
        standings.collect()
    }
    /// Every release of an app, newest first.
    pub async fn releases(&self, app: &AppName) -> Result<Vec<Release>> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT number, spec, digest, secrets, created_ms, created_by, good_ms
             FROM releases WHERE app = $1 ORDER BY number DESC",
        )
        .bind(app.as_str())
        .fetch_all(&self.read)
        .await
        .map_err(|e| StoreError::Sql("list releases", e))?;
        rows.into_iter().map(|row| read(app, row)).collect()
    }
    /// Notes that a rollout of the release has succeeded.
    pub async fn mark_good(&self, app: &AppName, number: ReleaseNumber, now_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE releases SET good_ms = $3 WHERE app = $1 AND number = $2")
            .bind(app.as_str())
            .bind(to_int(number, "a release's number")?)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("mark a release as good", e))?;
        commit(tx).await
    }
    /// The release whose rollout succeeded last.
    pub async fn last_good(&self, app: &AppName) -> Result<Option<ReleaseNumber>> {
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT number FROM releases WHERE app = $1 AND good_ms IS NOT NULL
             ORDER BY good_ms DESC, number DESC LIMIT 1",
        )
        .bind(app.as_str())
        .fetch_optional(&self.read)
        .await
        .map_err(|e| StoreError::Sql("find the last good release", e))?;
        row.map(|(number,)| from_int(number, "a release's number")).transpose()
    }
    /// Every app that has a release, by name.
    pub async fn apps(&self) -> Result<Vec<AppName>> {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT DISTINCT app FROM releases ORDER BY app")
            .fetch_all(&self.read)
            .await
            .map_err(|e| StoreError::Sql("list apps", e))?;
        rows.into_iter().map(|(app,)| parse(&app, "an app's name")).collect()
    }
}
