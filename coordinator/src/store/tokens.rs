//! Join and login tokens. A use is consumed in the same transaction as what it pays for: `hosts::enroll_host` and
//! `operators::login_operator`.

use std::collections::BTreeMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use drover_proto::{
    digest::Digest,
    name::{LabelKey, LabelValue, OperatorName},
    token::TokenKind,
    view::TokenView,
};
use sqlx::{Sqlite, Transaction};

use super::{Result, Store, StoreError, audit, commit, from_json, parse, to_json};

/// A token that is being made.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    /// Its public half.
    pub id: &'a str,
    /// Its secret half; only a hash of it is kept.
    pub secret: &'a [u8],
    /// Of the hosts that come with it.
    pub labels: &'a BTreeMap<LabelKey, LabelValue>,
    /// At least 1.
    pub uses: u32,
    /// Unix ms.
    pub expires_ms: i64,
}

/// What a token entitles to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenGrant {
    /// Of the hosts that come with it.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Whom it logs in; `None` for a join token.
    pub operator: Option<OperatorName>,
    /// Who made it.
    pub created_by: String,
}

/// Why a token is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenRefusal {
    /// No such token, or its secret is another. Which of the two is nobody's business.
    #[error("the token is not known here: it was mistyped, or another coordinator made it")]
    Unknown,
    /// Too late.
    #[error("the token has expired: ask for a new one")]
    Expired,
    /// Every use is gone.
    #[error("the token is used up: ask for a new one")]
    UsedUp,
    /// An operator took it back.
    #[error("the token has been revoked: ask for a new one")]
    Revoked,
}

type Row = (String, String, Option<String>, i64, i64, String, Option<i64>);
const SELECT: &str = "SELECT secret_hash, labels, operator, uses_left, expires_ms, created_by, revoked_ms
    FROM tokens WHERE id = $1 AND kind = $2";

const fn kind_word(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Join => "join",
        TokenKind::Login => "login",
    }
}

/// Judges a token's row. The secret comes first: who does not have it learns nothing of the token's state.
fn judge(row: Option<Row>, secret: &[u8], now_ms: i64) -> Result<TokenGrant> {
    let Some((hash, labels, operator, uses_left, expires_ms, created_by, revoked_ms)) = row else {
        return Err(TokenRefusal::Unknown.into());
    };
    let given = Digest::of(secret).to_string();
    if verify_slices_are_equal(given.as_bytes(), hash.as_bytes()).is_err() {
        return Err(TokenRefusal::Unknown.into());
    }
    if revoked_ms.is_some() {
        return Err(TokenRefusal::Revoked.into());
    }
    if uses_left < 1 {
        return Err(TokenRefusal::UsedUp.into());
    }
    if expires_ms <= now_ms {
        return Err(TokenRefusal::Expired.into());
    }
    Ok(TokenGrant {
        labels: from_json(&labels, "a token's labels")?,
        operator: operator.map(|name| parse(&name, "an operator's name")).transpose()?,
        created_by,
    })
}

impl Store {
    /// Stores a join token.
    pub async fn create_token(&self, new: NewToken<'_>, who: &str, now_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        insert(&mut tx, TokenKind::Join, &new, None, who, now_ms).await?;
        let labels: Vec<String> = new.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let subject = format!("{} ({} uses; {})", new.id, new.uses, labels.join(","));
        audit::record(&mut tx, who, "token create", &subject, now_ms).await?;
        commit(tx).await
    }
    /// Judges a token without using it up; for refusing early. The use is consumed by what it pays for.
    pub async fn check_token(&self, kind: TokenKind, id: &str, secret: &[u8], now_ms: i64) -> Result<TokenGrant> {
        let row: Option<Row> = sqlx::query_as(SELECT)
            .bind(id)
            .bind(kind_word(kind))
            .fetch_optional(&self.read)
            .await
            .map_err(|e| StoreError::Sql("look for a token", e))?;
        judge(row, secret, now_ms)
    }
    /// The join tokens, newest first.
    pub async fn tokens(&self, now_ms: i64) -> Result<Vec<TokenView>> {
        let rows: Vec<(String, String, i64, i64, String, Option<i64>)> = sqlx::query_as(
            "SELECT id, labels, uses_left, expires_ms, created_by, revoked_ms FROM tokens
             WHERE kind = 'join' ORDER BY created_ms DESC, id",
        )
        .fetch_all(&self.read)
        .await
        .map_err(|e| StoreError::Sql("list tokens", e))?;
        rows.into_iter()
            .map(|(id, labels, uses_left, expires_unix_ms, created_by, revoked_ms)| {
                let state = match () {
                    () if revoked_ms.is_some() => "revoked",
                    () if uses_left < 1 => "used up",
                    () if expires_unix_ms <= now_ms => "expired",
                    () => "valid",
                };
                Ok(TokenView {
                    id,
                    labels: from_json(&labels, "a token's labels")?,
                    uses_left: u32::try_from(uses_left).map_err(|_| StoreError::Damaged("a token's uses"))?,
                    expires_unix_ms,
                    created_by,
                    state: state.to_owned(),
                })
            })
            .collect()
    }
    /// Takes a token back.
    pub async fn revoke_token(&self, id: &str, who: &str, now_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        let done = sqlx::query("UPDATE tokens SET revoked_ms = COALESCE(revoked_ms, $2) WHERE id = $1")
            .bind(id)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(|e| StoreError::Sql("revoke a token", e))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotFound(format!("token {id}")));
        }
        audit::record(&mut tx, who, "token revoke", id, now_ms).await?;
        commit(tx).await
    }
}

/// Stores a token; `operator` is whom a login token is for.
pub(super) async fn insert(
    tx: &mut Transaction<'static, Sqlite>,
    kind: TokenKind,
    new: &NewToken<'_>,
    operator: Option<&OperatorName>,
    who: &str,
    now_ms: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO tokens (id, kind, secret_hash, labels, operator, uses_left, expires_ms, created_ms, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(new.id)
    .bind(kind_word(kind))
    .bind(Digest::of(new.secret).to_string())
    .bind(to_json(new.labels, "a token's labels")?)
    .bind(operator.map(OperatorName::as_str))
    .bind(i64::from(new.uses))
    .bind(new.expires_ms)
    .bind(now_ms)
    .bind(who)
    .execute(&mut **tx)
    .await
    .map_err(|e| StoreError::Sql("store a token", e))?;
    Ok(())
}

/// Consumes one use of a token.
pub(super) async fn take(
    tx: &mut Transaction<'static, Sqlite>,
    kind: TokenKind,
    id: &str,
    secret: &[u8],
    now_ms: i64,
) -> Result<TokenGrant> {
    let failed = |e| StoreError::Sql("use a token", e);
    let row: Option<Row> =
        sqlx::query_as(SELECT).bind(id).bind(kind_word(kind)).fetch_optional(&mut **tx).await.map_err(failed)?;
    let grant = judge(row, secret, now_ms)?;
    sqlx::query("UPDATE tokens SET uses_left = uses_left - 1 WHERE id = $1")
        .bind(id)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(grant)
}
