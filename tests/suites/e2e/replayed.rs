//! Instructions that an agent must not follow: host specs that are old, in conflict, replayed, another host's or nonsense, and jobs
//! that it has answered before or that nobody waits for any more. Nothing of it reaches what runs.

use drover_proto::{
    code::Code,
    name::{AppName, ReleaseId},
    spec::HostSpec,
    status::{HostStatus, Phase},
    wire::{
        HostSpecDocument, Job, LogsJob, PlanJob, from_agent::Message, job, job_reply::Reply, spec_ack::Outcome,
        to_agent,
    },
};

use crate::scripted::{Scripted, Talk, spec};

/// What the agent answers to a spec.
async fn answer(talk: &mut Talk, spec: &HostSpec) -> (Outcome, String) {
    talk.send_spec(spec).await;
    acknowledged(talk).await
}

async fn acknowledged(talk: &mut Talk) -> (Outcome, String) {
    let ack = |message| if let Message::SpecAck(ack) = message { Some((ack.outcome(), ack.message)) } else { None };
    talk.hear("an answer to the spec", ack).await
}

async fn settled(talk: &mut Talk, release: &ReleaseId) {
    let healthy = |status: HostStatus| {
        let app = status.apps.get(&release.app)?;
        (app.running.as_ref() == Some(release) && matches!(app.phase, Phase::Healthy { .. })).then_some(())
    };
    let report = |message| match message {
        Message::Report(report) => healthy(serde_json::from_slice(&report.host_status_json).expect("a report")),
        _ => None,
    };
    talk.hear("the release is healthy", report).await;
}

/// The first answer to a job.
async fn reply(talk: &mut Talk, job_id: &str, ttl_ms: u64, job: job::Job) -> Reply {
    talk.say(to_agent::Message::Job(Job { job_id: job_id.to_owned(), ttl_ms, job: Some(job) })).await;
    let of_job = |message| match message {
        Message::JobReply(reply) if reply.job_id == job_id => reply.reply,
        _ => None,
    };
    talk.hear("a reply to the job", of_job).await
}

/// The code of a refusal.
fn refused(reply: Reply) -> String {
    match reply {
        Reply::Error(error) => error.code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_conflicting_and_replayed_instructions_change_nothing() {
    let mut coordinator = Scripted::start(1).await;
    let mut talk = coordinator.talk().await;
    talk.welcome(2).await;
    let held = HostSpec { generation: 5, ..spec(1) };
    let (app, release) =
        held.apps.iter().map(|(name, app)| (name.clone(), app.release.clone())).next().expect("an app");
    assert_eq!(answer(&mut talk, &held).await.0, Outcome::Accepted);
    settled(&mut talk, &release).await;
    let pid = |coordinator: &Scripted| tokio::task::block_in_place(|| coordinator.host.main_pid("tiny.service"));
    let before = pid(&coordinator);
    assert_ne!(before, 0);

    let without = |generation| HostSpec { generation, apps: Default::default(), ..held.clone() };
    assert_eq!(answer(&mut talk, &held).await.0, Outcome::Duplicate, "the very same again");
    assert_eq!(answer(&mut talk, &without(4)).await.0, Outcome::Stale, "one that was never sent before, but is older");
    assert_eq!(answer(&mut talk, &without(5)).await.0, Outcome::Conflict, "another one of the same number");
    let foreign = HostSpec { host: "h-00000000000000ff".parse().expect("an id"), ..without(6) };
    assert_eq!(answer(&mut talk, &foreign).await.0, Outcome::Invalid, "another host's");
    let nonsense = HostSpecDocument { generation: 7, document_json: b"{\"generation\":7,\"apps\":{}}".to_vec() };
    talk.say(to_agent::Message::HostSpec(nonsense)).await;
    assert_eq!(acknowledged(&mut talk).await.0, Outcome::Invalid);
    assert_eq!(pid(&coordinator), before, "none of it was followed");

    let expired = Code::JobExpired.to_string();
    let plan = |app: &AppName| job::Job::Plan(PlanJob { app: app.to_string(), ..PlanJob::default() });
    assert!(matches!(reply(&mut talk, "j-1", 20_000, plan(&app)).await, Reply::PlanJson(_)));
    assert_eq!(refused(reply(&mut talk, "j-1", 20_000, plan(&app)).await), expired, "a replay");
    assert_eq!(refused(reply(&mut talk, "j-2", 0, plan(&app)).await), expired, "nobody waits for it any more");
    let logs = job::Job::Logs(LogsJob { app: app.to_string(), follow: true, lines: 10 });
    assert_eq!(refused(reply(&mut talk, "j-3", 0, logs).await), expired);

    // What it remembers outlives the stream and the agent.
    tokio::task::block_in_place(|| coordinator.host.exec(&["systemctl", "restart", "drover-agent"])).ok();
    let mut talk = coordinator.talk().await;
    assert_eq!(talk.hello.generation, 5);
    talk.welcome(2).await;
    // First: a report comes with each connection, and another only when something changes.
    settled(&mut talk, &release).await;
    assert_eq!(answer(&mut talk, &without(4)).await.0, Outcome::Stale);
    assert_eq!(answer(&mut talk, &without(5)).await.0, Outcome::Conflict);
    assert_eq!(pid(&coordinator), before);
}
