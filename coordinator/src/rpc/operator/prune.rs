//! `drover prune`: one job per host, side by side. What goes there each host decides by its own rules; that one could not be
//! asked hides none of the others.

use std::collections::BTreeMap;

use drover_proto::{
    name::{HostId, OperatorName},
    prune::{HostPrune, HostPruneOutcome, PruneReport, PruneView},
    wire::{PruneJob, PruneRequest, View, job, job_reply::Reply},
};
use futures_util::{StreamExt as _, stream};
use tonic::Status;

use super::{
    super::{Services, store_failed},
    hosts::find,
    question::{Question, Unanswered},
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
    let question = Question { job: job::Job::Prune(job), ttl_ms: TTL_MS, since: SINCE };
    let json = |reply| if let Reply::PruneJson(json) = reply { Some(json) } else { None };
    question.ask_for(services, host, json).await.map_err(|why| match why {
        Unanswered::Silent(_) | Unanswered::Away | Unanswered::Anew => {
            format!("{why}; what it had begun it goes on with")
        }
        why => why.to_string(),
    })
}
