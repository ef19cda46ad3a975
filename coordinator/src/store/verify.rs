//! Looks through a database file that nobody has open: is it whole, and does the key belong to it. For `admin/restore`.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::{
    Result, SCHEMA_VERSION, StoreError, migrate, parse,
    secrets::{generated_place, stored_place},
};
use crate::vault::Vault;

/// Reads the whole file and opens every secret in it; changes nothing.
pub async fn verify(path: &Path, vault: &Vault) -> Result<()> {
    let failed = |e| StoreError::Sql("be verified", e);
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .map_err(|source| StoreError::Open { path: path.display().to_string(), source })?;
    let (said,): (String,) = sqlx::query_as("PRAGMA integrity_check").fetch_one(&pool).await.map_err(failed)?;
    if said != "ok" {
        return Err(StoreError::Damaged("the database"));
    }
    let found = migrate::version(&pool).await?;
    if !(1..=SCHEMA_VERSION).contains(&found) {
        return Err(StoreError::Version {
            found,
            wanted: SCHEMA_VERSION,
            hint: "install the drover-coordinator that wrote it",
        });
    }
    let rows: Vec<(String, String, i64, String)> =
        sqlx::query_as("SELECT name, environment, version, value FROM secrets")
            .fetch_all(&pool)
            .await
            .map_err(failed)?;
    for (name, environment, version, sealed) in rows {
        let place =
            stored_place(&parse(&name, "a secret's name")?, &environment, super::from_int(version, "a secret")?);
        vault.open(&place, &sealed)?;
    }
    let rows: Vec<(String, String, i64, String)> =
        sqlx::query_as("SELECT app, name, version, value FROM generated_secrets")
            .fetch_all(&pool)
            .await
            .map_err(failed)?;
    for (app, name, version, sealed) in rows {
        let (app, name) = (parse(&app, "an app's name")?, parse(&name, "a secret's name")?);
        vault.open(&generated_place(&app, &name, super::from_int(version, "a secret")?), &sealed)?;
    }
    pool.close().await;
    Ok(())
}
