//! `drover prune`: what of the hosts' disks nobody needs, and why the rest stays.

use drover_proto::prune::HostPruneOutcome;

use crate::{
    args::Output,
    client::Client,
    fault::{Exit, Outcome},
    show,
};

/// Ends well only when every host has answered, and nothing that was to go has stayed.
pub async fn prune(hosts: &[String], plan: bool, output: Output) -> Outcome {
    let view = Client::connect().await?.prune(hosts, plan).await?;
    show::document(output, &view, |view| show::prune::view(view, show::time::now_ms()))?;
    let well = view.value.hosts.iter().all(|host| match &host.outcome {
        HostPruneOutcome::Pruned(report) => !show::prune::failed(report),
        HostPruneOutcome::Error(_) => false,
    });
    Ok(if well { Exit::Done } else { Exit::Error })
}
