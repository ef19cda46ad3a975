//! The verbs that begin a rollout: `apply`, `rollback`, `restart`, `remove`. Each asks the coordinator to begin, and hands over to
//! `watch`.

use std::sync::Arc;

use drover_proto::{
    name::AppName,
    view::{HostPlanOutcome, PlanView},
};

use crate::{
    args::{FollowArgs, ManifestArgs, Output},
    client::{Client, push::Archive},
    cmd::{input, load, watch},
    fault::{Exit, Fault, Outcome, Word},
    manifest::Loaded,
    show,
};

/// Rolls a manifest out.
pub async fn apply(args: &ManifestArgs, plan_id: Option<&str>, follow: FollowArgs, output: Output) -> Outcome {
    let loaded = load(args, output)?;
    let mut client = Client::connect().await?;
    // Who names a plan has seen it.
    if plan_id.is_none() {
        let plan = client.plan(&loaded.spec, loaded.extent()).await?.value;
        show::note(&show::plan::summary(&plan));
        refuse(&plan)?;
        let warnings = show::plan::warnings(&plan);
        if !warnings.is_empty() {
            show::note(warnings.trim_end());
        }
    }
    push(&mut client, &loaded).await?;
    let started = client.apply(&loaded.spec, loaded.extent(), plan_id).await?;
    watch::started(&mut client, &started, follow, output).await
}

/// Stops before anything is sent when a host has said that it would refuse, or could not say what it would do.
fn refuse(plan: &PlanView) -> Result<(), Fault> {
    let refused = |outcome: &HostPlanOutcome| match outcome {
        HostPlanOutcome::Planned(plan) => !plan.refusals.is_empty(),
        HostPlanOutcome::Error(_) => true,
        HostPlanOutcome::Unknown(_) => false,
    };
    let number = plan.hosts.iter().filter(|host| refused(&host.outcome)).count();
    if number == 0 {
        return Ok(());
    }
    show::note(show::plan::refusals(plan).trim_end());
    let message = format!("refused by {}; nothing has been touched", show::count(number, "host"));
    Err(Fault::word(Word::Refused, message).hint("`drover plan` shows all of it"))
}

async fn push(client: &mut Client, loaded: &Loaded) -> Result<(), Fault> {
    let Some(artifact) = &loaded.artifact else { return Ok(()) };
    let path = artifact.file.path().to_owned();
    let archive = Archive { digest: artifact.digest, size_bytes: artifact.size_bytes, path };
    let bar = show::progress::upload(artifact.size_bytes);
    let moving = bar.clone();
    let pushed = client.push_blob(&archive, Arc::new(move |sent| moving.set_position(sent))).await;
    bar.finish_and_clear();
    if pushed? {
        show::note(&format!("sent artifact {} ({})", artifact.digest.short(), show::plan::size(artifact.size_bytes)));
    }
    Ok(())
}

/// Goes back to an earlier release.
pub async fn rollback(app: &AppName, to: Option<u64>, follow: FollowArgs, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    let started = client.rollback(app, to).await?;
    watch::started(&mut client, &started, follow, output).await
}

/// Restarts an app's units.
pub async fn restart(app: &AppName, host: Option<&str>, rolling: bool, follow: FollowArgs, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    let started = client.restart(app, host, rolling).await?;
    watch::started(&mut client, &started, follow, output).await
}

/// Removes an app, after a yes.
pub async fn remove(app: &AppName, yes: bool, follow: FollowArgs, output: Output) -> Outcome {
    if !yes && !input::confirm(&format!("Stop {app} and remove it from all of its hosts?"))? {
        show::note("nothing was removed");
        return Ok(Exit::Error);
    }
    let mut client = Client::connect().await?;
    let started = client.remove(app).await?;
    watch::started(&mut client, &started, follow, output).await
}
