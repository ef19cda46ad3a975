//! `ca status|rotate|switch|retire`: from one CA to another in steps, each of them refused while it would cut a host off. The
//! files are `ca/rollover`'s; the running coordinator takes a step up when it is restarted.

use anyhow::ensure;
use drover_proto::digest::Digest;

use super::{local_user, open_beside, owner::as_owner};
use crate::{
    args::CaCommand,
    ca::{
        Ca,
        rollover::{self, Stage},
    },
    clock,
    config::StateDir,
    store::Holder,
};

const RESTART: &str = "Now: systemctl restart drover-coordinator (workloads go on)";
/// Names that are spelt out; of the others there is the number.
const MAX_NAMES: usize = 20;

/// Carries out a command; answers what to tell the user.
pub fn run(dir: &StateDir, command: CaCommand) -> anyhow::Result<String> {
    let who = local_user();
    as_owner(dir, async || {
        let (store, ca) = open_beside(dir).await?;
        let now_ms = clock::unix_ms();
        let holders = store.holders(now_ms).await?;
        let stage = rollover::stage(dir);
        let said = match command {
            CaCommand::Status => status(dir, &ca, stage, &holders)?,
            CaCommand::Rotate => {
                ensure!(stage == Stage::Settled, "a change is under way: drover-coordinator ca status");
                let next = rollover::announce(dir)?;
                store.record(&who, "ca rotate", &next.fingerprint().to_string(), now_ms).await?;
                format!(
                    "The next CA is {}.\n{RESTART}; then see `ca status`, and go on with `ca switch`.",
                    next.fingerprint()
                )
            }
            CaCommand::Switch { force } => {
                ensure!(stage == Stage::Announced, "there is no next CA yet: drover-coordinator ca rotate");
                let next = Ca::load(&dir.ca_next())?.fingerprint();
                refuse(&holders, force, "do not know the next CA yet", |held| !held.roots.contains(&next))?;
                let revoked = store.revoke_unused_tokens_now(&who, now_ms).await?;
                rollover::switch(dir)?;
                store.record(&who, "ca switch", &next.to_string(), now_ms).await?;
                format!(
                    "{next} signs from the next start on. Unused tokens named the old CA and are revoked ({revoked}).\n\
                     {RESTART}; then see `ca status`, and go on with `ca retire`."
                )
            }
            CaCommand::Retire { force } => {
                ensure!(stage == Stage::Switched, "there is no old CA to retire: drover-coordinator ca status");
                let signs = ca.fingerprint();
                refuse(&holders, force, "still have a certificate of the old CA", |held| held.issuer != Some(signs))?;
                rollover::retire(dir)?;
                store.record(&who, "ca retire", &signs.to_string(), now_ms).await?;
                format!("The old CA is gone; {signs} is the only one.\n{RESTART}.")
            }
        };
        store.close().await;
        Ok(said)
    })
}

/// Hosts that a step would cut off forbid it, unless it is forced. Operators can log in again.
fn refuse(holders: &[Holder], force: bool, what: &str, lacks: impl Fn(&Holder) -> bool) -> anyhow::Result<()> {
    let hosts = names(holders.iter().filter(|held| held.is_host && lacks(held)));
    ensure!(
        force || hosts.is_empty(),
        "these hosts {what} and would be cut off: {hosts}. They renew by themselves while they are connected (agents of protocol 1 \
         must be upgraded first); --force cuts them off"
    );
    Ok(())
}

fn status(dir: &StateDir, ca: &Ca, stage: Stage, holders: &[Holder]) -> anyhow::Result<String> {
    let signs = ca.fingerprint();
    let mut lines = vec![format!("{:<10}{signs}", "signs:")];
    let list = |title: &str, lacks: &dyn Fn(&Holder) -> bool| {
        [(true, "hosts"), (false, "operators")].map(|(is_host, word)| {
            let all: Vec<&Holder> = holders.iter().filter(|held| held.is_host == is_host).collect();
            let missing: Vec<&Holder> = all.iter().copied().filter(|held| lacks(held)).collect();
            let done = all.len() - missing.len();
            let rest = names(missing.into_iter());
            let rest = if rest.is_empty() { String::new() } else { format!("; not yet: {rest}") };
            format!("{done} of {} {word} {title}{rest}", all.len())
        })
    };
    match stage {
        Stage::Settled => lines.push("There is no other: no change is under way.".to_owned()),
        Stage::Announced => {
            let next: Digest = Ca::load(&dir.ca_next())?.fingerprint();
            lines.push(format!("{:<10}{next}", "next:"));
            lines.extend(list("know the next CA", &|held| !held.roots.contains(&next)));
            lines.push("Next step, when every host does: drover-coordinator ca switch".to_owned());
        }
        Stage::Switched => {
            lines.push(format!("{:<10}{}", "old:", Ca::load(&dir.ca_old())?.fingerprint()));
            lines.extend(list("have a certificate of the new CA", &|held| held.issuer != Some(signs)));
            lines.push("Next step, when every host has: drover-coordinator ca retire".to_owned());
        }
    }
    Ok(lines.join("\n"))
}

fn names<'a>(holders: impl Iterator<Item = &'a Holder>) -> String {
    let all: Vec<&str> = holders.map(|held| held.name.as_str()).collect();
    let more = all.len().saturating_sub(MAX_NAMES);
    let shown = all[..all.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
