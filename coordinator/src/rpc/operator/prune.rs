//! `drover prune`: one job per host, side by side. What goes there each host decides by its own rules; that one could not be
//! asked hides none of the others.

use std::{collections::BTreeMap, time::Duration};

use drover_proto::{
    name::{HostId, HostName, OperatorName},
    prune::{HostPrune, HostPruneOutcome, PruneReport, PruneView},
    wire::{PruneJob, PruneRequest, View, job, job_reply::Reply},
};
use futures_util::{StreamExt as _, stream};
use tonic::Status;

use super::{
    super::{Services, store_failed},
    hosts::find,
    view,
};
use crate::{clock, store::Host};

/// Hosts at the same time.
const AT_ONCE: usize = 32;
/// For a host to look at its disk, and to remove what goes; a busy one takes its time.
const TTL_MS: u64 = 10 * 60_000;
/// The first protocol that knows the question.
const SINCE: u32 = 4;

/// `drover prune`.
pub(super) async fn prune(services: &Services, request: PruneRequest, by: &OperatorName) -> Result<View, Status> {
    let hosts = chosen(services, &request.hosts).await?;
    if !request.plan {
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let recorded = services.store.record(by.as_str(), "prune", &names.join(" "), clock::unix_ms()).await;
        recorded.map_err(store_failed)?;
    }
    let job = PruneJob { plan: request.plan };
    let asked = hosts.into_iter().map(|host| async move {
        let outcome = ask(services, &host, job).await.map_or_else(HostPruneOutcome::Error, HostPruneOutcome::Pruned);
        HostPrune { host: host.name, outcome }
    });
    let mut hosts: Vec<HostPrune> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    view(&PruneView { planned: request.plan, hosts })
}

/// Those that were named, each once; else all that are welcome.
async fn chosen(services: &Services, names: &[String]) -> Result<Vec<Host>, Status> {
    if names.is_empty() {
        return services.store.hosts().await.map_err(store_failed);
    }
    let mut chosen: BTreeMap<HostId, Host> = BTreeMap::new();
    for name in names {
        let host = find(services, name).await?;
        chosen.insert(host.id.clone(), host);
    }
    Ok(chosen.into_values().collect())
}

/// What a host said; why it said nothing.
async fn ask(services: &Services, host: &Host, job: PruneJob) -> Result<PruneReport, String> {
    let spoken = services.sessions.protocol(&host.id).ok_or("the host is not connected")?;
    if spoken < SINCE {
        return Err(too_old(&host.name, spoken));
    }
    let mut answers = services.sessions.ask(&host.id, job::Job::Prune(job), TTL_MS).map_err(|e| e.to_string())?;
    let patience = Duration::from_millis(TTL_MS + 2_000);
    match tokio::time::timeout(patience, answers.next()).await {
        Err(_) => Err(format!("it did not answer within {} min; what it had begun it goes on with", TTL_MS / 60_000)),
        Ok(Some(Reply::PruneJson(json))) => {
            serde_json::from_slice(&json).map_err(|error| format!("its answer cannot be read: {error}"))
        }
        Ok(Some(Reply::Error(error))) => Err(format!("{} ({})", error.message, error.code)),
        Ok(Some(
            Reply::PlanJson(_) | Reply::LogLine(_) | Reply::Done(_) | Reply::ImageDigest(_) | Reply::FoundJson(_),
        )) => Err("it answered something else".to_owned()),
        Ok(None) => Err("it went away, or connected anew; what it had begun it goes on with".to_owned()),
    }
}

fn too_old(host: &HostName, spoken: u32) -> String {
    format!(
        "the agent on {host} is too old: it speaks protocol {spoken} and cannot clean up before {SINCE}; upgrade \
         drover-agent there"
    )
}
