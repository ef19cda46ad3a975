//! `drover logs`, of units and of hooks: one job per host, the lines merged as they come. Ends when every host is done, the reader goes away,
//! or the coordinator stops; jobs still going are cancelled then.

use std::collections::BTreeSet;

use drover_proto::{
    code::{self, Code},
    name::{AppName, HostId, HostName},
    wire::{HookLogsJob, HookLogsRequest, LogLine, LogsJob, LogsRequest, job, job_reply::Reply},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    super::{Services, name, not_found, store_failed},
    hosts::find,
};
use crate::{clock, rollout::keeper::read, session::Answers, store::Host};

/// Lines on their way to the reader.
const LINES_AHEAD: usize = 256;
/// Lines to begin with, unless said, and at most.
const LINES: (u32, u32) = (100, 10_000);
/// For an agent to begin.
const TTL_MS: u64 = 30_000;

/// The merged lines.
pub(super) type Lines = ReceiverStream<Result<LogLine, Status>>;
type Sender = mpsc::Sender<Result<LogLine, Status>>;

/// `drover logs`.
pub(super) async fn logs(services: &Services, request: LogsRequest) -> Result<Lines, Status> {
    let app: AppName = name(&request.app)?;
    let hosts = hosts(services, &app, &request.host).await?;
    let lines = if request.lines == 0 { LINES.0 } else { request.lines.min(LINES.1) };
    let job = LogsJob { app: app.to_string(), follow: request.follow, lines };
    merged(services, &app, hosts, job::Job::Logs(job))
}

/// `drover logs --hook`.
pub(super) async fn hook_logs(services: &Services, request: HookLogsRequest) -> Result<Lines, Status> {
    let app: AppName = name(&request.app)?;
    let hosts = hosts_with_hooks(services, &app, &request.host).await?;
    let lines = if request.lines == 0 { LINES.1 } else { request.lines.min(LINES.1) };
    let HookLogsRequest { app: _, host: _, hook, release, lines: _ } = request;
    let job = HookLogsJob { app: app.to_string(), hook, release, lines };
    merged(services, &app, hosts, job::Job::HookLogs(job))
}

/// Asks every host, and merges what they say.
fn merged(services: &Services, app: &AppName, hosts: Vec<Host>, job: job::Job) -> Result<Lines, Status> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    let mut asked = Vec::new();
    let mut silent = Vec::new();
    for host in hosts {
        match services.sessions.ask(&host.id, job.clone(), TTL_MS) {
            Ok(answers) => asked.push((host.name, answers)),
            Err(error) => silent.push((host.name, error.to_string())),
        }
    }
    if asked.is_empty() {
        return Err(code::status(Code::HostOffline, format!("no host of {app} is connected")));
    }
    let stop = services.stop.clone();
    tokio::spawn(async move {
        for (host, why) in silent {
            if say(&sender, &host, why).await.is_err() {
                return;
            }
        }
        for (host, answers) in asked {
            tokio::spawn(relay(host, answers, sender.clone(), stop.clone()));
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// The hosts that should run an app, or the one that was named.
pub(super) async fn hosts(services: &Services, app: &AppName, only: &str) -> Result<Vec<Host>, Status> {
    let store = &services.store;
    let having = store.hosts_of(app).await.map_err(store_failed)?;
    if !only.is_empty() {
        let host = find(services, only).await?;
        return if having.contains_key(&host.id) {
            Ok(vec![host])
        } else {
            Err(not_found(format!("app {app} on host {}", host.name)))
        };
    }
    let mut hosts = store.hosts().await.map_err(store_failed)?;
    hosts.retain(|host| having.contains_key(&host.id));
    match hosts.is_empty() {
        false => Ok(hosts),
        true if store.releases(app).await.map_err(store_failed)?.is_empty() => Err(not_found(format!("app {app}"))),
        true => Err(not_found(format!("host with app {app}"))),
    }
}

/// A release that was taken back may have left a host without the app: what its hooks said is there all the same.
async fn hosts_with_hooks(services: &Services, app: &AppName, only: &str) -> Result<Vec<Host>, Status> {
    let store = &services.store;
    if !only.is_empty() {
        return Ok(vec![find(services, only).await?]);
    }
    let mut ids: BTreeSet<HostId> = store.hosts_of(app).await.map_err(store_failed)?.into_keys().collect();
    for newest in store.rollouts(Some(app), 1).await.map_err(store_failed)? {
        let rollout = read(&newest).map_err(store_failed)?;
        ids.extend(rollout.hosts.into_iter().filter(|host| host.asked.is_some()).map(|host| host.id));
    }
    let mut hosts = store.hosts().await.map_err(store_failed)?;
    hosts.retain(|host| ids.contains(&host.id));
    if hosts.is_empty() { Err(not_found(format!("host with app {app}"))) } else { Ok(hosts) }
}

/// The reader is gone.
struct Gone;

async fn say(sender: &Sender, host: &HostName, what: String) -> Result<(), Gone> {
    let text = format!("[drover: {what}]");
    let line = LogLine { unit: String::new(), unix_ms: clock::unix_ms(), text, host: host.to_string() };
    sender.send(Ok(line)).await.map_err(|_| Gone)
}

/// One host's lines, until there are no more. Dropping `answers` cancels the job.
async fn relay(host: HostName, mut answers: Answers, sender: Sender, stop: CancellationToken) {
    loop {
        let reply = tokio::select! {
            () = stop.cancelled() => return,
            () = sender.closed() => return,
            reply = answers.next() => reply,
        };
        let sent = match reply {
            Some(Reply::LogLine(line)) => {
                sender.send(Ok(LogLine { host: host.to_string(), ..line })).await.map_err(|_| Gone)
            }
            Some(Reply::Done(_)) => return,
            Some(Reply::Error(error)) => {
                // There is no more to come from this host, and the others go on.
                drop(say(&sender, &host, error.message).await);
                return;
            }
            Some(Reply::PlanJson(_) | Reply::ImageDigest(_) | Reply::FoundJson(_) | Reply::PruneJson(_)) => continue,
            None => {
                drop(say(&sender, &host, "the host went away".to_owned()).await);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}
