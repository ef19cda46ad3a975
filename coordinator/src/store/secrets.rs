//! Secrets: stored by an operator, or generated once per app. Values are sealed by the vault before they get here and
//! opened only for the host spec that needs them.

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use drover_proto::{
    app::SecretSource,
    name::{AppName, SecretName},
    secret::Secret,
    view::SecretView,
};
use serde::{Deserialize, Serialize};

use super::{Result, Store, StoreError, audit, commit, from_int, parse, to_int};
use crate::vault::VaultError;

/// Which value of a secret a release uses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretPin {
    /// One that an operator stored.
    Stored {
        /** Under this name. */
        name: SecretName,
        /** For this environment; empty = every one. */
        environment: String,
        /** Counts up with each `set`. */
        version: u64,
    },
    /// One that was generated for the app.
    Generated {
        /** 1. */
        version: u64,
    },
}

/// The secrets of a release, by the name that its templates use.
pub type SecretPins = BTreeMap<SecretName, SecretPin>;

/// Binds a sealed value to its place, so that it cannot be moved to another row.
pub(super) fn stored_place(name: &SecretName, environment: &str, version: u64) -> String {
    format!("stored\0{name}\0{environment}\0{version}")
}

pub(super) fn generated_place(app: &AppName, name: &SecretName, version: u64) -> String {
    format!("generated\0{app}\0{name}\0{version}")
}

impl Store {
    /// Stores a new version of a secret for `environment` (empty: for every one) and answers its number.
    pub async fn set_secret(
        &self,
        name: &SecretName,
        environment: &str,
        value: &Secret<String>,
        who: &str,
        now_ms: i64,
    ) -> Result<u64> {
        let failed = |e| StoreError::Sql("store a secret", e);
        let mut tx = self.begin().await?;
        // Removed versions count too: a number is never used twice.
        let (newest,): (i64,) =
            sqlx::query_as("SELECT COALESCE(MAX(version), 0) FROM secrets WHERE name = $1 AND environment = $2")
                .bind(name.as_str())
                .bind(environment)
                .fetch_one(&mut *tx)
                .await
                .map_err(failed)?;
        let version = from_int(newest + 1, "a secret's version")?;
        let sealed = self.vault.seal(&stored_place(name, environment, version), value.expose().as_bytes())?;
        sqlx::query(
            "INSERT INTO secrets (name, environment, version, value, set_ms, set_by) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(name.as_str())
        .bind(environment)
        .bind(newest + 1)
        .bind(sealed)
        .bind(now_ms)
        .bind(who)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        let subject = format!("{} (version {version})", shown(name, environment));
        audit::record(&mut tx, who, "secret set", &subject, now_ms).await?;
        commit(tx).await?;
        Ok(version)
    }
    /// The newest version for `environment`, else the one for every environment: `(environment, version)`.
    pub async fn latest_secret(&self, name: &SecretName, environment: &str) -> Result<Option<(String, u64)>> {
        let row: Option<(String, i64)> = sqlx::query_as(
            "SELECT environment, version FROM secrets
             WHERE name = $1 AND environment IN ($2, '') AND removed_ms IS NULL
             ORDER BY CASE WHEN environment = $2 THEN 0 ELSE 1 END, version DESC LIMIT 1",
        )
        .bind(name.as_str())
        .bind(environment)
        .fetch_optional(&self.read)
        .await
        .map_err(|e| StoreError::Sql("find a secret", e))?;
        row.map(|(of, version)| Ok((of, from_int(version, "a secret's version")?))).transpose()
    }
    /// The newest version of each secret that is not removed; never a value.
    pub async fn secrets(&self) -> Result<Vec<SecretView>> {
        let rows: Vec<(String, String, i64, i64, String)> = sqlx::query_as(
            "SELECT name, environment, version, set_ms, set_by FROM secrets s WHERE removed_ms IS NULL AND version =
             (SELECT MAX(version) FROM secrets WHERE name = s.name AND environment = s.environment)
             ORDER BY name, environment",
        )
        .fetch_all(&self.read)
        .await
        .map_err(|e| StoreError::Sql("list secrets", e))?;
        rows.into_iter()
            .map(|(name, environment, version, set_unix_ms, set_by)| {
                Ok(SecretView {
                    name: parse(&name, "a secret's name")?,
                    environment,
                    version: from_int(version, "a secret's version")?,
                    set_unix_ms,
                    set_by,
                })
            })
            .collect()
    }
    /// Removes a secret: no later release can use it. Releases that pin a version of it keep theirs.
    pub async fn remove_secret(&self, name: &SecretName, environment: &str, who: &str, now_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "UPDATE secrets SET removed_ms = $3 WHERE name = $1 AND environment = $2 AND removed_ms IS NULL",
        )
        .bind(name.as_str())
        .bind(environment)
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .map_err(|e| StoreError::Sql("remove a secret", e))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotFound(format!("secret {}", shown(name, environment))));
        }
        audit::record(&mut tx, who, "secret remove", &shown(name, environment), now_ms).await?;
        commit(tx).await
    }
    /// Pins the newest value of each secret of an app; generates those that are to be and are not yet.
    ///
    /// Fails with `SecretMissing`, naming all that are.
    pub async fn pin_secrets(
        &self,
        app: &AppName,
        sources: &BTreeMap<SecretName, SecretSource>,
        now_ms: i64,
    ) -> Result<SecretPins> {
        let environment = app.environment().map(String::from).unwrap_or_default();
        let (mut pins, mut missing, mut to_generate) = (SecretPins::new(), Vec::new(), Vec::new());
        for (local, source) in sources {
            match source {
                SecretSource::Generate(bytes) => to_generate.push((local, *bytes)),
                SecretSource::Stored(name) => match self.latest_secret(name, &environment).await? {
                    Some((environment, version)) => {
                        pins.insert(local.clone(), SecretPin::Stored { name: name.clone(), environment, version });
                    }
                    None => missing.push(shown(name, &environment)),
                },
            }
        }
        if !missing.is_empty() {
            return Err(StoreError::SecretMissing(missing));
        }
        for (local, bytes) in to_generate {
            let version = self.generated(app, local, bytes, now_ms).await?;
            pins.insert(local.clone(), SecretPin::Generated { version });
        }
        Ok(pins)
    }
    /// The values that a release pins, by the name that its templates use.
    pub async fn secret_values(
        &self,
        app: &AppName,
        pins: &SecretPins,
    ) -> Result<BTreeMap<SecretName, Secret<String>>> {
        let mut values = BTreeMap::new();
        for (local, pin) in pins {
            values.insert(local.clone(), self.secret_value(app, local, pin).await?);
        }
        Ok(values)
    }
    /// One value.
    pub async fn secret_value(&self, app: &AppName, local: &SecretName, pin: &SecretPin) -> Result<Secret<String>> {
        let (query, place) = match pin {
            SecretPin::Stored { name, environment, version } => (
                sqlx::query_as("SELECT value FROM secrets WHERE name = $1 AND environment = $2 AND version = $3")
                    .bind(name.as_str())
                    .bind(environment.as_str())
                    .bind(to_int(*version, "a secret's version")?),
                stored_place(name, environment, *version),
            ),
            SecretPin::Generated { version } => (
                sqlx::query_as("SELECT value FROM generated_secrets WHERE app = $1 AND name = $2 AND version = $3")
                    .bind(app.as_str())
                    .bind(local.as_str())
                    .bind(to_int(*version, "a secret's version")?),
                generated_place(app, local, *version),
            ),
        };
        let (sealed,): (String,) = query
            .fetch_optional(&self.read)
            .await
            .map_err(|e| StoreError::Sql("read a secret", e))?
            .ok_or_else(|| StoreError::SecretMissing(vec![local.to_string()]))?;
        let value = self.vault.open(&place, &sealed)?;
        String::from_utf8(value).map(Secret::new).map_err(|_| StoreError::Damaged("a secret"))
    }
    /// The version of an app's generated secret; the first call makes `bytes` random bytes, written as hex.
    pub async fn generated(&self, app: &AppName, name: &SecretName, bytes: u32, now_ms: i64) -> Result<u64> {
        const VERSION: u64 = 1;
        let failed = |e| StoreError::Sql("generate a secret", e);
        let mut tx = self.begin().await?;
        let known: Option<(i64,)> =
            sqlx::query_as("SELECT version FROM generated_secrets WHERE app = $1 AND name = $2")
                .bind(app.as_str())
                .bind(name.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
        if known.is_some() {
            return Ok(VERSION);
        }
        let mut random = vec![0; usize::try_from(bytes).map_err(|_| StoreError::Damaged("a secret's length"))?];
        rand::fill(&mut random).map_err(|_| VaultError::Random)?;
        let value = Secret::new(hex::encode(random));
        let sealed = self.vault.seal(&generated_place(app, name, VERSION), value.expose().as_bytes())?;
        sqlx::query(
            "INSERT INTO generated_secrets (app, name, version, value, created_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(app.as_str())
        .bind(name.as_str())
        .bind(to_int(VERSION, "a secret's version")?)
        .bind(sealed)
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        commit(tx).await?;
        Ok(VERSION)
    }
}

/// `name`, or `name for environment`.
fn shown(name: &SecretName, environment: &str) -> String {
    if environment.is_empty() { name.to_string() } else { format!("{name} for {environment}") }
}
