//! Every certificate that was given out: whose, by which CA, and what it takes over from. `hosts` and `operators` note the
//! first one of an owner, with the token that paid for it; here is what becomes of it.

use drover_proto::digest::Digest;
use sqlx::{Sqlite, Transaction};

use super::{Result, Store, StoreError, audit, commit, from_json, to_json};

/// A certificate, as far as its renewal goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Unix ms.
    pub issued_ms: i64,
    /// Unix ms.
    pub not_after_ms: i64,
    /// The CA that signed it; `None`: it was given before this was noted.
    pub issuer: Option<Digest>,
    /// The CAs that its owner was told of with it.
    pub roots: Vec<Digest>,
}

/// Successors of one certificate that were not used yet.
const MAX_UNUSED: i64 = 8;
/// How long an operator's certificate counts once its successor is used: for commands that had begun with it.
pub(super) const OVERLAP_MS: i64 = 15 * 60 * 1000;

/// One that takes over from another when it is first used.
#[derive(Clone, Debug)]
pub struct Successor<'a> {
    /// Lower-case hex.
    pub serial: &'a str,
    /// From this one.
    pub replaces: &'a str,
    /// Unix ms.
    pub not_after_ms: i64,
}

/// Who has which certificate at present.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Or an operator.
    pub is_host: bool,
    /// The host's or operator's.
    pub name: String,
    /// The CA that signed it; `None`: it was given before this was noted.
    pub issuer: Option<Digest>,
    /// The CAs that its owner was told of with it.
    pub roots: Vec<Digest>,
}

impl Store {
    /// Every host and operator who can still call, by name.
    pub async fn holders(&self, now_ms: i64) -> Result<Vec<Holder>> {
        let rows: Vec<(i64, String, String, String)> = sqlx::query_as(
            "SELECT 1, h.name, c.issuer, c.roots FROM hosts h JOIN certificates c ON c.serial = h.serial
             WHERE c.revoked_ms IS NULL AND c.not_after_ms > $1
             UNION ALL
             SELECT 0, o.name, c.issuer, c.roots FROM operators o
             JOIN certificates c ON c.owner_kind = 'operator' AND c.owner = o.name
             WHERE o.revoked_ms IS NULL AND c.revoked_ms IS NULL AND c.not_after_ms > $1
             AND (c.replaces IS NULL OR c.seen_ms IS NOT NULL)
             ORDER BY 1, 2",
        )
        .bind(now_ms)
        .fetch_all(&self.read)
        .await
        .map_err(|e| StoreError::Sql("list certificates", e))?;
        rows.into_iter()
            .map(|(is_host, name, issuer, roots)| {
                let roots = from_json(&roots, "a certificate's CAs")?;
                Ok(Holder { is_host: is_host != 0, name, issuer: issuer.parse().ok(), roots })
            })
            .collect()
    }
    /// Revokes every token that could still be used; answers how many.
    pub async fn revoke_unused_tokens_now(&self, who: &str, now_ms: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "UPDATE tokens SET revoked_ms = $1 WHERE revoked_ms IS NULL AND uses_left > 0 AND expires_ms > $1",
        )
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .map_err(|e| StoreError::Sql("revoke tokens", e))?;
        let revoked = done.rows_affected();
        audit::record(&mut tx, who, "token revoke", &format!("{revoked} that were not used"), now_ms).await?;
        commit(tx).await?;
        Ok(revoked)
    }
    /// A certificate that was given out.
    pub async fn certificate(&self, serial: &str) -> Result<Option<Certificate>> {
        let row: Option<(i64, i64, String, String)> =
            sqlx::query_as("SELECT issued_ms, not_after_ms, issuer, roots FROM certificates WHERE serial = $1")
                .bind(serial)
                .fetch_optional(&self.read)
                .await
                .map_err(|e| StoreError::Sql("read a certificate", e))?;
        row.map(|(issued_ms, not_after_ms, issuer, roots)| {
            // An empty one was not noted.
            let issuer = issuer.parse().ok();
            Ok(Certificate { issued_ms, not_after_ms, issuer, roots: from_json(&roots, "a certificate's CAs")? })
        })
        .transpose()
    }
    /// Notes who signed a certificate, and which CAs its owner was told of with it.
    pub async fn note_issuer(&self, serial: &str, issuer: Digest, roots: &[Digest]) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE certificates SET issuer = $2, roots = $3 WHERE serial = $1")
            .bind(serial)
            .bind(issuer.to_string())
            .bind(to_json(&roots, "a certificate's CAs")?)
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("note a certificate's CA", e))?;
        commit(tx).await
    }
    /// Notes a certificate that is to take over from another one of the same owner. Of those that were never used only the
    /// newest few count: two commands of one operator may renew at the same time.
    pub async fn add_successor(&self, new: Successor<'_>, issuer: Digest, roots: &[Digest], now_ms: i64) -> Result<()> {
        let failed = |e| StoreError::Sql("renew a certificate", e);
        let mut tx = self.begin().await?;
        // A host's can be forgotten: it never comes back under its id. An operator does under their name, and what is not
        // known might be taken for one that a restore has lost.
        sqlx::query(
            "UPDATE certificates SET revoked_ms = $3 WHERE owner_kind = 'operator' AND serial IN
             (SELECT serial FROM certificates WHERE replaces = $1 AND seen_ms IS NULL AND revoked_ms IS NULL
              ORDER BY issued_ms DESC LIMIT 1000 OFFSET $2)",
        )
        .bind(new.replaces)
        .bind(MAX_UNUSED - 1)
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        sqlx::query(
            "DELETE FROM certificates WHERE owner_kind = 'host' AND serial IN
             (SELECT serial FROM certificates WHERE replaces = $1 AND seen_ms IS NULL
              ORDER BY issued_ms DESC LIMIT 1000 OFFSET $2)",
        )
        .bind(new.replaces)
        .bind(MAX_UNUSED - 1)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        let done = sqlx::query(
            "INSERT INTO certificates (serial, owner_kind, owner, issued_ms, not_after_ms, issuer, roots, replaces)
             SELECT $1, owner_kind, owner, $3, $4, $5, $6, serial FROM certificates
             WHERE serial = $2 AND revoked_ms IS NULL",
        )
        .bind(new.serial)
        .bind(new.replaces)
        .bind(now_ms)
        .bind(new.not_after_ms)
        .bind(issuer.to_string())
        .bind(to_json(&roots, "a certificate's CAs")?)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotFound("a certificate that is still good".to_owned()));
        }
        commit(tx).await
    }
    /// Takes up a certificate that this store does not know, of a host or operator that it does: it was given after the
    /// backup from which this store was restored. Nobody else can have it, since our CA has signed it. `false`: it is known
    /// (and was revoked), or its owner is not welcome, or nothing was restored; an operator who was revoked since the
    /// restore has lost all that was given before.
    pub async fn adopt_certificate(&self, kind: &'static str, owner: &str, serial: &str, now_ms: i64) -> Result<bool> {
        // Most who ask were revoked: they cost no write.
        let may: Option<(i64,)> = sqlx::query_as(
            "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM certificates WHERE serial = $1)
             AND EXISTS (SELECT 1 FROM audit WHERE action = 'restore')",
        )
        .bind(serial)
        .fetch_optional(&self.read)
        .await
        .map_err(|e| StoreError::Sql("look for a restore", e))?;
        if may.is_none() {
            return Ok(false);
        }
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "INSERT INTO certificates (serial, owner_kind, owner, issued_ms, not_after_ms, replaces)
             SELECT $1, 'host', h.id, $4, c.not_after_ms, h.serial FROM hosts h JOIN certificates c ON c.serial = h.serial
             WHERE $2 = 'host' AND h.id = $3 AND h.revoked_ms IS NULL
             AND NOT EXISTS (SELECT 1 FROM certificates WHERE serial = $1)
             UNION ALL
             SELECT $1, 'operator', o.name, $4, (SELECT MAX(not_after_ms) FROM certificates WHERE owner = o.name), NULL
             FROM operators o WHERE $2 = 'operator' AND o.name = $3 AND o.revoked_ms IS NULL AND o.logged_in_ms IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM certificates WHERE serial = $1)
             AND NOT EXISTS (SELECT 1 FROM audit WHERE action = 'operator revoke' AND subject = o.name
             AND id > (SELECT MAX(id) FROM audit WHERE action = 'restore'))",
        )
        .bind(serial)
        .bind(kind)
        .bind(owner)
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .map_err(|e| StoreError::Sql("take up a certificate", e))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        audit::record(&mut tx, "coordinator", "certificate adopted", &format!("{kind} {owner}: {serial}"), now_ms)
            .await?;
        commit(tx).await?;
        Ok(true)
    }
    /// A certificate is used. The first time, the one that it takes over from is revoked: a host's, which has one stream, at
    /// once; an operator's, who may have commands under way on it, `OVERLAP_MS` later. It cannot be renewed again.
    pub async fn use_certificate(&self, serial: &str, now_ms: i64) -> Result<()> {
        let failed = |e| StoreError::Sql("note the use of a certificate", e);
        let unseen: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM certificates WHERE serial = $1 AND seen_ms IS NULL")
            .bind(serial)
            .fetch_optional(&self.read)
            .await
            .map_err(failed)?;
        if unseen.is_none() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE certificates SET seen_ms = $2 WHERE serial = $1 AND seen_ms IS NULL")
            .bind(serial)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        sqlx::query(
            "UPDATE hosts SET serial = $1
             WHERE serial = (SELECT replaces FROM certificates WHERE serial = $1 AND owner_kind = 'host')",
        )
        .bind(serial)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        sqlx::query(
            "UPDATE certificates SET revoked_ms = CASE owner_kind WHEN 'operator' THEN $2 + $3 ELSE $2 END
             WHERE serial = (SELECT replaces FROM certificates WHERE serial = $1) AND revoked_ms IS NULL",
        )
        .bind(serial)
        .bind(now_ms)
        .bind(OVERLAP_MS)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        commit(tx).await
    }
}

/// Notes a certificate that was issued; `kind` is `host` or `operator`.
pub(super) async fn add_certificate(
    tx: &mut Transaction<'static, Sqlite>,
    serial: &str,
    kind: &'static str,
    owner: &str,
    not_after_ms: i64,
    now_ms: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO certificates (serial, owner_kind, owner, issued_ms, not_after_ms) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(serial)
    .bind(kind)
    .bind(owner)
    .bind(now_ms)
    .bind(not_after_ms)
    .execute(&mut **tx)
    .await
    .map_err(|e| StoreError::Sql("note a certificate", e))?;
    Ok(())
}

/// Revokes every certificate of an owner.
pub(super) async fn revoke_certificates(
    tx: &mut Transaction<'static, Sqlite>,
    kind: &'static str,
    owner: &str,
    now_ms: i64,
) -> Result<()> {
    sqlx::query(
        "UPDATE certificates SET revoked_ms = $3
         WHERE owner_kind = $1 AND owner = $2 AND (revoked_ms IS NULL OR revoked_ms > $3)",
    )
    .bind(kind)
    .bind(owner)
    .bind(now_ms)
    .execute(&mut **tx)
    .await
    .map_err(|e| StoreError::Sql("revoke certificates", e))?;
    Ok(())
}
