//! An agent that does nothing but talk: it accepts specs, answers plans and reports what the test wants to be so.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use drover_proto::{
    code::Code,
    digest::Digest,
    name::{AppName, ReleaseId},
    plan::{Action, Plan, Reason, Refusal, Step},
    prune::PruneReport,
    spec::{DesiredApp, HostSpec},
    status::{AppStatus, HostStatus, Phase},
    tls::{Identity, Trust, client_config, dial},
    wire::{
        FromAgent, Hello, ImageJob, JobDone, JobError, JobReply, LogLine, Report, SpecAck,
        agent_link_client::AgentLinkClient, from_agent, job, job_reply::Reply, spec_ack::Outcome, to_agent,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// How an app fares on a host, by release.
pub type Fate = Arc<dyn Fn(u64) -> Phase + Send + Sync>;

/// Hosts between the arrival of a new release and its end, and the most there ever were.
#[derive(Default)]
pub struct Gauge {
    pub now: AtomicUsize,
    pub most: AtomicUsize,
}

pub struct FakeAgent {
    pub address: String,
    pub trust: Trust,
    pub identity: Identity,
    pub fate: Fate,
    pub gauge: Arc<Gauge>,
    /// Every host spec that came.
    pub specs: mpsc::UnboundedSender<HostSpec>,
}

pub fn healthy() -> Phase {
    Phase::Healthy { since_unix_ms: 1 }
}

impl FakeAgent {
    /// Talks until the stream ends.
    pub async fn run(self) {
        let config = client_config(&self.trust, Some(&self.identity)).unwrap();
        let channel = dial(&self.address, config).await.unwrap();
        let (out, outgoing) = mpsc::channel(64);
        let hello = Hello {
            protocol_version: drover_proto::PROTOCOL_VERSION,
            agent_version: "test".to_owned(),
            os: "Test".to_owned(),
            ..Hello::default()
        };
        send(&out, from_agent::Message::Hello(hello)).await;
        let mut incoming =
            AgentLinkClient::new(channel).session(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let mut status = HostStatus::default();
        while let Ok(Some(message)) = incoming.message().await {
            match message.message.unwrap() {
                to_agent::Message::Welcome(_)
                | to_agent::Message::CancelJob(_)
                | to_agent::Message::EventsAck(_)
                | to_agent::Message::AlertRules(_)
                | to_agent::Message::RenewCertificate(_) => {}
                to_agent::Message::HostSpec(document) => {
                    let spec: HostSpec = serde_json::from_slice(&document.document_json).unwrap();
                    let outcome = Outcome::Accepted as i32;
                    let ack = SpecAck { generation: spec.generation, outcome, message: String::new() };
                    send(&out, from_agent::Message::SpecAck(ack)).await;
                    self.converge(&spec, &mut status, &out).await;
                    // Not every test looks at them.
                    drop(self.specs.send(spec));
                }
                to_agent::Message::Job(job) => {
                    let id = job.job_id;
                    match job.job.unwrap() {
                        job::Job::Plan(plan) => {
                            let desired = serde_json::from_slice(&plan.desired_app_json).unwrap();
                            answer(&out, &id, self.planned(&desired, &status)).await;
                        }
                        job::Job::Image(image) => answer(&out, &id, looked_up(&image)).await,
                        job::Job::Import(import) => answer(&out, &id, imported(&import.name)).await,
                        job::Job::Prune(_) => {
                            let report = PruneReport { held_bytes: 1, ..PruneReport::default() };
                            answer(&out, &id, Reply::PruneJson(serde_json::to_vec(&report).unwrap())).await;
                        }
                        job::Job::Logs(_) | job::Job::HookLogs(_) => {
                            let line = LogLine { text: "hello".to_owned(), ..LogLine::default() };
                            answer(&out, &id, Reply::LogLine(line)).await;
                        }
                    }
                    answer(&out, &id, Reply::Done(JobDone {})).await;
                }
            }
        }
    }

    fn planned(&self, desired: &DesiredApp, status: &HostStatus) -> Reply {
        if desired.spec.files.iter().any(|file| file.path.as_str() == "/etc/group") {
            return Reply::Error(JobError { code: "internal".to_owned(), message: "the bus is away".to_owned() });
        }
        Reply::PlanJson(serde_json::to_vec(&self.plan(desired, status)).unwrap())
    }

    fn plan(&self, desired: &DesiredApp, status: &HostStatus) -> Plan {
        let app = &desired.release.app;
        let from = status.apps.get(app).and_then(|status| status.running.clone());
        let step = |action| Step { action, reason: Reason::New };
        let mut steps = vec![step(Action::Commit)];
        if from.as_ref() != Some(&desired.release) {
            steps.insert(0, step(Action::DaemonReload));
        }
        let refused = desired.spec.files.iter().any(|file| file.path.as_str() == "/etc/passwd");
        let refusal =
            Refusal { code: Code::NotOwned, part: "file /etc/passwd".to_owned(), message: "not ours".to_owned() };
        let refusals = if refused { vec![refusal] } else { vec![] };
        Plan {
            app: app.clone(),
            from,
            to: Some(desired.release.clone()),
            steps,
            refusals,
            warnings: vec![],
            made_unix_ms: None,
        }
    }

    async fn converge(&self, spec: &HostSpec, status: &mut HostStatus, out: &mpsc::Sender<FromAgent>) {
        status.generation = spec.generation;
        let gone: Vec<AppName> = status.apps.keys().filter(|app| !spec.apps.contains_key(*app)).cloned().collect();
        for app in gone {
            status.apps.remove(&app);
        }
        let mut due = BTreeMap::new();
        for (app, desired) in &spec.apps {
            let known = status.apps.get(app);
            if known.is_none_or(|s| s.rollout != desired.rollout || s.desired.as_ref() != Some(&desired.release)) {
                due.insert(app.clone(), desired);
            }
        }
        for (app, desired) in due {
            let now = self.gauge.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.gauge.most.fetch_max(now, Ordering::SeqCst);
            let running = status.apps.get(&app).and_then(|status| status.running.clone());
            status.apps.insert(app.clone(), about(desired, running.clone(), Phase::Pending));
            report(status, out).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            let phase = (self.fate)(desired.release.number);
            let running = if matches!(phase, Phase::Healthy { .. }) { Some(desired.release.clone()) } else { running };
            status.apps.insert(app.clone(), about(desired, running, phase));
            self.gauge.now.fetch_sub(1, Ordering::SeqCst);
        }
        report(status, out).await;
    }
}

fn about(desired: &DesiredApp, running: Option<ReleaseId>, phase: Phase) -> AppStatus {
    AppStatus {
        desired: Some(desired.release.clone()),
        rollout: desired.rollout,
        running,
        phase,
        parts: vec![],
        failure: None,
        checks: std::collections::BTreeMap::new(),
    }
}

async fn send(out: &mpsc::Sender<FromAgent>, message: from_agent::Message) {
    out.send(FromAgent { message: Some(message) }).await.unwrap();
}

async fn report(status: &HostStatus, out: &mpsc::Sender<FromAgent>) {
    let report = Report { host_status_json: serde_json::to_vec(status).unwrap() };
    send(out, from_agent::Message::Report(report)).await;
}

async fn answer(out: &mpsc::Sender<FromAgent>, id: &str, reply: Reply) {
    send(out, from_agent::Message::JobReply(JobReply { job_id: id.to_owned(), reply: Some(reply) })).await;
}

/// A registry that knows every image, and shows those under `private/` only to ada.
fn looked_up(job: &ImageJob) -> Reply {
    if job.image.contains("private/") && (job.username.as_str(), job.password.as_str()) != ("ada", "hunter2") {
        return Reply::Error(JobError { code: "image".to_owned(), message: "unauthorized".to_owned() });
    }
    Reply::ImageDigest(Digest::of(job.image.as_bytes()).to_string())
}

/// `web` runs, and `odd` makes the host say what it should not.
fn imported(name: &str) -> Reply {
    let error = |code: &str| Reply::Error(JobError { code: code.to_owned(), message: format!("there is no {name}") });
    match name {
        "web" => Reply::FoundJson(serde_json::to_vec(&drover_proto::found::Found::default()).unwrap()),
        "odd" => Reply::FoundJson(br#"{ "x": 1 }"#.to_vec()),
        "revoked" => error("revoked"),
        _ => error("not-found"),
    }
}
