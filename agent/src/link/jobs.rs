//! One-shot questions of the coordinator: what would you do with this app, show me that log. A closed list; none of them
//! changes anything but `prune`, which removes what nobody needs by this host's own rules. Each has a time-to-live and an id that is answered once.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drover_proto::{
    code::Code,
    name::{AppName, UnitName},
    plan::Extent,
    secret::Secret,
    spec::DesiredApp,
    wire::{
        FromAgent, ImageJob, Job, JobDone, JobError, JobReply, LogLine, LogsJob, PlanJob, PruneJob,
        from_agent::Message as Out, job::Job as Kind, job_reply::Reply,
    },
};
use futures_util::StreamExt as _;
use tokio::{sync::mpsc, task::AbortHandle};

use crate::{
    host::{
        docker::{Credentials, DockerError},
        journal,
    },
    reconcile::Handle,
};

mod hook_logs;
mod import;

/// At once; more are refused.
const MAX_JOBS: usize = 16;
/// Ids remembered, against replays.
const MAX_SEEN: usize = 1000;
/// One `logs` job may run for so long.
const LONGEST_FOLLOW: Duration = Duration::from_secs(24 * 3600);
const MAX_LOG_LINES: u32 = 10_000;

/// The ids of jobs that were answered, on whatever connection: a replay is refused.
#[derive(Clone, Default)]
pub struct Answered(Arc<Mutex<VecDeque<String>>>);

impl Answered {
    /// Remembers an id; false when it is remembered already.
    fn first_time(&self, job_id: &str) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.iter().any(|id| id == job_id) {
            return false;
        }
        if seen.len() >= MAX_SEEN {
            seen.pop_front();
        }
        seen.push_back(job_id.to_owned());
        true
    }
}

/// The jobs of one connection; all end with it.
pub(super) struct Jobs {
    reconcile: Handle,
    out: mpsc::Sender<FromAgent>,
    running: HashMap<String, AbortHandle>,
    answered: Answered,
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

impl Jobs {
    pub(super) fn new(reconcile: Handle, out: mpsc::Sender<FromAgent>, answered: Answered) -> Self {
        Self { reconcile, out, running: HashMap::new(), answered }
    }

    pub(super) async fn start(&mut self, job: Job) {
        self.running.retain(|_, handle| !handle.is_finished());
        let replier = Replier { job_id: job.job_id.clone(), out: self.out.clone() };
        if self.running.len() >= MAX_JOBS {
            return replier.refuse(Code::Limit, "this host is answering too many questions; try again").await;
        }
        if !self.answered.first_time(&job.job_id) {
            return replier.refuse(Code::JobExpired, "this job has been answered already").await;
        }
        if job.ttl_ms == 0 {
            return replier.refuse(Code::JobExpired, "nobody waits for an answer to this job any more").await;
        }
        let reconcile = self.reconcile.clone();
        let time_to_live = Duration::from_millis(job.ttl_ms);
        let task = tokio::spawn(async move {
            match job.job {
                Some(Kind::Plan(plan)) => {
                    if tokio::time::timeout(time_to_live, answer_plan(&reconcile, plan, &replier)).await.is_err() {
                        replier.refuse(Code::JobExpired, "the host could not plan within the job's time-to-live").await;
                    }
                }
                Some(Kind::Logs(logs)) => answer_logs(&reconcile, logs, &replier).await,
                Some(Kind::Image(image)) => {
                    let answer = answer_image(&reconcile, image, &replier);
                    if tokio::time::timeout(time_to_live, answer).await.is_err() {
                        replier.refuse(Code::JobExpired, "the image's registry did not answer in time").await;
                    }
                }
                Some(Kind::Import(import)) => {
                    let answer = import::answer(&reconcile, import, &replier);
                    if tokio::time::timeout(time_to_live, answer).await.is_err() {
                        replier.refuse(Code::JobExpired, "the host could not read it in time").await;
                    }
                }
                Some(Kind::Prune(prune)) => {
                    let answer = answer_prune(&reconcile, prune, &replier);
                    if tokio::time::timeout(time_to_live, answer).await.is_err() {
                        let said = "the clean-up goes on; the host's events will tell what has gone";
                        replier.refuse(Code::JobExpired, said).await;
                    }
                }
                Some(Kind::HookLogs(logs)) => hook_logs::answer(&reconcile, logs, &replier).await,
                None => replier.refuse(Code::Invalid, "this agent does not know that kind of job").await,
            }
        });
        self.running.insert(job.job_id, task.abort_handle());
    }

    /// Whether nobody waits for an answer.
    pub(super) fn is_idle(&mut self) -> bool {
        self.running.retain(|_, handle| !handle.is_finished());
        self.running.is_empty()
    }

    pub(super) fn cancel(&mut self, job_id: &str) {
        if let Some(handle) = self.running.remove(job_id) {
            handle.abort();
        }
    }
}

struct Replier {
    job_id: String,
    out: mpsc::Sender<FromAgent>,
}

impl Replier {
    /// False when the stream is gone: then there is nobody left to answer.
    async fn say(&self, reply: Reply) -> bool {
        let reply = JobReply { job_id: self.job_id.clone(), reply: Some(reply) };
        self.out.send(FromAgent { message: Some(Out::JobReply(reply)) }).await.is_ok()
    }
    async fn refuse(&self, code: Code, message: impl Into<String>) {
        self.say(Reply::Error(JobError { code: code.to_string(), message: message.into() })).await;
    }
}

async fn answer_plan(reconcile: &Handle, job: PlanJob, replier: &Replier) {
    let Ok(app) = job.app.parse::<AppName>() else {
        return replier.refuse(Code::Invalid, "the app's name is not valid").await;
    };
    let desired = if job.desired_app_json.is_empty() {
        None
    } else {
        match serde_json::from_slice::<DesiredApp>(&job.desired_app_json) {
            Ok(desired) if desired.spec.app == app && desired.spec.check().is_empty() => Some(desired),
            Ok(_) => return replier.refuse(Code::Invalid, "the app breaks a rule that this agent knows").await,
            Err(error) => {
                return replier.refuse(Code::Invalid, format!("this agent cannot read the app: {error}")).await;
            }
        }
    };
    let extent = job.extent.map(Extent::from);
    match reconcile.preview(&app, desired, extent).await {
        Ok(plan) => match serde_json::to_vec(&plan) {
            Ok(json) => {
                replier.say(Reply::PlanJson(json)).await;
            }
            Err(error) => replier.refuse(Code::Internal, error.to_string()).await,
        },
        Err(message) => replier.refuse(Code::Internal, message).await,
    }
}

async fn answer_image(reconcile: &Handle, job: ImageJob, replier: &Replier) {
    let Ok(image) = job.image.parse() else {
        return replier.refuse(Code::Invalid, "the image's name is not valid").await;
    };
    let credentials = Credentials { username: job.username, password: Secret::new(job.password) };
    let credentials = Some(credentials).filter(|credentials| !credentials.username.is_empty());
    match reconcile.engine().resolve(&image, credentials.as_ref()).await {
        Ok(digest) => drop(replier.say(Reply::ImageDigest(digest.to_string())).await),
        Err(error @ (DockerError::Absent | DockerError::Silent(_))) => {
            replier.refuse(Code::Docker, error.to_string()).await;
        }
        Err(error) => replier.refuse(Code::Image, error.to_string()).await,
    }
}

async fn answer_prune(reconcile: &Handle, job: PruneJob, replier: &Replier) {
    let report = reconcile.prune(job.plan).await;
    match report.and_then(|report| serde_json::to_vec(&report).map_err(|error| error.to_string())) {
        Ok(json) => drop(replier.say(Reply::PruneJson(json)).await),
        Err(error) => replier.refuse(Code::Internal, error).await,
    }
}

async fn answer_logs(reconcile: &Handle, job: LogsJob, replier: &Replier) {
    let Ok(app) = job.app.parse::<AppName>() else {
        return replier.refuse(Code::Invalid, "the app's name is not valid").await;
    };
    let units: Vec<UnitName> = reconcile.units_of(&app);
    let containers = reconcile.containers_of(&app).await;
    if units.is_empty() && containers.is_empty() {
        return replier.refuse(Code::NotFound, format!("{app} has neither units nor containers on this host")).await;
    }
    let newest = job.lines.min(MAX_LOG_LINES);
    let of_containers = reconcile.engine().follow(containers, newest, job.follow);
    let of_containers = of_containers.map(|line| line.map_err(|error| error.to_string()));
    let of_units = match units.is_empty() {
        true => None,
        false => Some(journal::follow(units, newest, job.follow).map(|line| line.map_err(|error| error.to_string()))),
    };
    let of_units = futures_util::stream::iter(of_units).flatten();
    let mut lines = std::pin::pin!(futures_util::stream::select(of_units, of_containers));
    let (mut status, mut redactor) = (reconcile.status(), reconcile.redactor(&app));
    let relay = async {
        while let Some(line) = lines.next().await {
            match line {
                Ok(line) => {
                    // With another release, which the status tells first, come other secrets.
                    if status.has_changed().unwrap_or(false) {
                        status.mark_unchanged();
                        redactor = reconcile.redactor(&app);
                    }
                    let text = redactor.text(&line.text);
                    let line = LogLine { unit: line.unit, unix_ms: line.unix_ms, text, host: String::new() };
                    if !replier.say(Reply::LogLine(line)).await {
                        return;
                    }
                }
                Err(error) => return replier.refuse(Code::Internal, error).await,
            }
        }
        replier.say(Reply::Done(JobDone {})).await;
    };
    if tokio::time::timeout(LONGEST_FOLLOW, relay).await.is_err() {
        replier.refuse(Code::JobExpired, "a log is followed for a day at most; ask again").await;
    }
}

#[cfg(test)]
mod tests {
    //! Replays.
    use super::*;

    #[test]
    fn a_job_is_answered_once_whatever_the_connection() {
        let answered = Answered::default();
        let (one_connection, the_next) = (answered.clone(), answered);
        assert!(one_connection.first_time("a"));
        assert!(!the_next.first_time("a"));
        for other in 0..MAX_SEEN {
            assert!(the_next.first_time(&other.to_string()));
        }
        assert!(the_next.first_time("a"), "the memory has an end");
    }
}
