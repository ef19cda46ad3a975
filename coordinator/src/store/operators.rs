//! The people with an operator's certificate.

use std::collections::BTreeMap;

use drover_proto::{name::OperatorName, token::TokenKind, view::OperatorView};

use super::{
    NewToken, Result, Store, StoreError, audit,
    certificates::{OVERLAP_MS, add_certificate, revoke_certificates},
    commit, parse, tokens,
};

/// A certificate that a login is to get.
#[derive(Clone, Debug)]
pub struct NewLogin {
    /// Of the certificate, lower-case hex.
    pub serial: String,
    /// Unix ms; of the certificate.
    pub not_after_ms: i64,
}

impl Store {
    /// Adds an operator, or lets one that is known (or was revoked) in again: stores a login token of one use.
    /// Certificates that were revoked stay so.
    pub async fn add_operator(
        &self,
        name: &OperatorName,
        token_id: &str,
        token_secret: &[u8],
        expires_ms: i64,
        who: &str,
        now_ms: i64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO operators (name, added_ms, added_by) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET revoked_ms = NULL",
        )
        .bind(name.as_str())
        .bind(now_ms)
        .bind(who)
        .execute(&mut *tx)
        .await
        .map_err(|e| StoreError::Sql("add an operator", e))?;
        let token = NewToken { id: token_id, secret: token_secret, labels: &BTreeMap::new(), uses: 1, expires_ms };
        tokens::insert(&mut tx, TokenKind::Login, &token, Some(name), who, now_ms).await?;
        audit::record(&mut tx, who, "operator add", name.as_str(), now_ms).await?;
        commit(tx).await
    }
    /// Consumes a login token and notes the certificate that it is traded for, both or neither.
    ///
    /// `check_token` tells beforehand whose name the certificate must carry.
    pub async fn login_operator(
        &self,
        token_id: &str,
        secret: &[u8],
        login: NewLogin,
        now_ms: i64,
    ) -> Result<OperatorName> {
        let mut tx = self.begin().await?;
        let grant = tokens::take(&mut tx, TokenKind::Login, token_id, secret, now_ms).await?;
        let name = grant.operator.ok_or(StoreError::Damaged("a login token"))?;
        add_certificate(&mut tx, &login.serial, "operator", name.as_str(), login.not_after_ms, now_ms).await?;
        sqlx::query("UPDATE operators SET logged_in_ms = $2 WHERE name = $1")
            .bind(name.as_str())
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("log an operator in", e))?;
        audit::record(&mut tx, name.as_str(), "operator login", name.as_str(), now_ms).await?;
        commit(tx).await?;
        Ok(name)
    }
    /// All of them, by name.
    pub async fn operators(&self) -> Result<Vec<OperatorView>> {
        let rows: Vec<(String, i64, Option<i64>, Option<i64>)> =
            sqlx::query_as("SELECT name, added_ms, logged_in_ms, revoked_ms FROM operators ORDER BY name")
                .fetch_all(&self.read)
                .await
                .map_err(|e| StoreError::Sql("list operators", e))?;
        rows.into_iter()
            .map(|(name, added_unix_ms, logged_in_unix_ms, revoked_unix_ms)| {
                let name = parse(&name, "an operator's name")?;
                Ok(OperatorView { name, added_unix_ms, logged_in_unix_ms, revoked_unix_ms })
            })
            .collect()
    }
    /// Revokes an operator: every certificate and login token of theirs, and every token that they made, since they may
    /// have kept it.
    pub async fn revoke_operator(&self, name: &OperatorName, who: &str, now_ms: i64) -> Result<()> {
        let failed = |e| StoreError::Sql("revoke an operator", e);
        let mut tx = self.begin().await?;
        let done = sqlx::query("UPDATE operators SET revoked_ms = COALESCE(revoked_ms, $2) WHERE name = $1")
            .bind(name.as_str())
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotFound(format!("operator {name}")));
        }
        revoke_certificates(&mut tx, "operator", name.as_str(), now_ms).await?;
        sqlx::query("UPDATE tokens SET revoked_ms = COALESCE(revoked_ms, $2) WHERE operator = $1 OR created_by = $1")
            .bind(name.as_str())
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        audit::record(&mut tx, who, "operator revoke", name.as_str(), now_ms).await?;
        commit(tx).await
    }
    /// Whether this operator has not been revoked, whatever their certificate.
    pub async fn is_operator(&self, name: &OperatorName) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM operators WHERE name = $1 AND revoked_ms IS NULL")
            .bind(name.as_str())
            .fetch_optional(&self.read)
            .await
            .map_err(|e| StoreError::Sql("look for an operator", e))?;
        Ok(row.is_some())
    }
    /// Whether the certificate `serial` is this operator's, unrevoked as yet, and the operator too. One that has been taken
    /// over from counts for a while; only that, whatever time a clock that was wrong has left in it.
    pub async fn live_operator(&self, name: &OperatorName, serial: &str, now_ms: i64) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT 1 FROM operators o JOIN certificates c ON c.owner_kind = 'operator' AND c.owner = o.name
             WHERE o.name = $1 AND c.serial = $2 AND o.revoked_ms IS NULL
             AND (c.revoked_ms IS NULL OR (c.revoked_ms > $3 AND c.revoked_ms <= $3 + $4 AND EXISTS (
             SELECT 1 FROM certificates s WHERE s.replaces = c.serial AND s.seen_ms IS NOT NULL AND s.revoked_ms IS NULL)))",
        )
        .bind(name.as_str())
        .bind(serial)
        .bind(now_ms)
        .bind(OVERLAP_MS)
        .fetch_optional(&self.read)
        .await
        .map_err(|e| StoreError::Sql("look for an operator's certificate", e))?;
        Ok(row.is_some())
    }
}
