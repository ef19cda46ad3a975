//! What root, or the coordinator's own user, does on the coordinator's machine: let an operator in, change the CA, back up, restore.
//! `main` calls it. Each steps down to the owner of the state first (`owner`).

use std::time::Duration;

use anyhow::{Context as _, ensure};
use aws_lc_rs::rand;
use drover_proto::{
    name::OperatorName,
    secret::Secret,
    token::{Token, TokenKind},
};

use crate::{
    ca::{Ca, rollover},
    clock,
    config::StateDir,
    store::{Store, Upgrade},
    vault::Vault,
};

mod backup;
pub mod ca;
mod owner;
mod restore;

pub use backup::backup;
pub use restore::restore;

/// Stores a one-use login for an operator, beside a coordinator that may be running, and answers its token.
pub fn operator_add(dir: &StateDir, name: &OperatorName, ttl: Duration) -> anyhow::Result<Secret<String>> {
    let who = local_user();
    owner::as_owner(dir, async || {
        let (store, ca) = open_beside(dir).await?;
        let token = Token::generate(TokenKind::Login, ca.fingerprint(), rand::fill)
            .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        let now_ms = clock::unix_ms();
        let ttl_ms = i64::try_from(ttl.as_millis()).context("--ttl is too long")?;
        let expires_ms = now_ms.checked_add(ttl_ms).context("--ttl is too long")?;
        store.add_operator(name, &token.id, token.secret.expose(), expires_ms, &who, now_ms).await?;
        store.close().await;
        Ok(Secret::new(token.reveal()))
    })
}

/// Opens store and CA without making anything.
async fn open_beside(dir: &StateDir) -> anyhow::Result<(Store, Ca)> {
    ensure!(
        dir.database().try_exists().with_context(|| format!(
            "cannot read {}: run this as root or as the coordinator's user",
            dir.path().display()
        ))?,
        "there is no coordinator in {} yet: start it once (systemctl start drover-coordinator)",
        dir.path().display()
    );
    let ca = rollover::open(dir)?;
    let store = Store::open(&dir.database(), Vault::load(&dir.secret_key())?, Upgrade::Refuse).await?;
    Ok((store, ca))
}

/// Who does it, for the audit log.
fn local_user() -> String {
    let uid = uzers::get_current_uid();
    let name = uzers::get_user_by_uid(uid).map_or_else(|| format!("uid {uid}"), |u| u.name().to_string_lossy().into());
    format!("{name} (on the coordinator's machine)")
}

#[cfg(test)]
mod tests;
