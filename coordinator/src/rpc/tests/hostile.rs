//! Callers who lie, say too much, or have been shown the door.

use drover_proto::{
    plan::{Action, Plan, Reason, Step},
    spec::DesiredApp,
    status::{AppStatus, HostStatus},
    view::HostDetail,
    wire::{
        BlobHeader, FetchBlobRequest, HeldApp, Hello, HostSpecDocument, JobReply, OperatorRequest, PushBlobRequest,
        Report, SpecAck, ToAgent, from_agent, job, job_reply::Reply, push_blob_request, spec_ack::Outcome, to_agent,
    },
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::*;

/// A host whose every word the test says itself.
pub(super) struct Liar {
    out: mpsc::Sender<FromAgent>,
    pub(super) incoming: Streaming<ToAgent>,
}

impl Liar {
    pub(super) async fn new(world: &World, identity: &Identity, hello: Hello) -> Result<Self, Status> {
        let channel = dial(&world.address, client_config(&world.trust, Some(identity)).unwrap()).await.unwrap();
        let (out, outgoing) = mpsc::channel(64);
        let protocol_version =
            if hello.protocol_version == 0 { drover_proto::PROTOCOL_VERSION } else { hello.protocol_version };
        let hello = Hello { protocol_version, ..hello };
        out.send(FromAgent { message: Some(from_agent::Message::Hello(hello)) }).await.unwrap();
        let incoming = AgentLinkClient::new(channel).session(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { out, incoming })
    }
    pub(super) async fn say(&self, message: from_agent::Message) {
        self.out.send(FromAgent { message: Some(message) }).await.unwrap();
    }
    async fn report(&self, status: &HostStatus) {
        let host_status_json = serde_json::to_vec(status).unwrap();
        self.say(from_agent::Message::Report(Report { host_status_json })).await;
    }
    /// The stream is up by then.
    pub(super) async fn welcome(&mut self) {
        let first = self.incoming.message().await.unwrap().and_then(|message| message.message);
        assert!(matches!(first, Some(to_agent::Message::Welcome(_))), "{first:?}");
    }
    /// Has an app applied, and answers that it would change something.
    pub(super) async fn takes(&mut self, world: &mut World, spec: &AppSpec) {
        let (started, ()) = tokio::join!(world.apply(spec), self.plan());
        started.unwrap();
    }
    async fn plan(&mut self) {
        loop {
            let message = self.incoming.message().await.unwrap().expect("the stream ended").message;
            let Some(to_agent::Message::Job(job)) = message else { continue };
            let Some(job::Job::Plan(plan)) = job.job else { continue };
            let release = serde_json::from_slice::<DesiredApp>(&plan.desired_app_json).unwrap().release;
            let plan = Plan {
                app: release.app.clone(),
                from: None,
                to: Some(release),
                steps: vec![Step { action: Action::DaemonReload, reason: Reason::New }],
                refusals: vec![],
                warnings: vec![],
                made_unix_ms: None,
            };
            let reply = Some(Reply::PlanJson(serde_json::to_vec(&plan).unwrap()));
            return self.say(from_agent::Message::JobReply(JobReply { job_id: job.job_id, reply })).await;
        }
    }
    pub(super) async fn spec(&mut self) -> Result<HostSpecDocument, Status> {
        loop {
            let message = self.incoming.message().await?.and_then(|message| message.message);
            if let to_agent::Message::HostSpec(document) = message.expect("the stream ended") {
                return Ok(document);
            }
        }
    }
}

pub(super) async fn detail(world: &mut World) -> HostDetail {
    read(world.operator.get_host(HostRequest { host: "web-1".to_owned() }).await.unwrap().into_inner())
}

/// Changes what the host is to have.
async fn change(world: &mut World, value: &str) {
    let set = [("ring".to_owned(), value.to_owned())].into();
    let label = LabelHostRequest { host: "web-1".to_owned(), set, remove: vec![] };
    world.operator.label_host(label).await.unwrap();
}

#[tokio::test]
async fn a_host_ahead_of_a_restored_coordinator_keeps_its_spec_until_the_next_change() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    change(&mut world, "1").await;
    let ahead = |generation| Hello { generation, ..Hello::default() };
    let mut host = Liar::new(&world, &identity, ahead(50)).await.unwrap();
    host.welcome().await;
    assert_eq!(detail(&mut world).await.host.generation_accepted, 50, "as it said");
    change(&mut world, "2").await;
    assert_eq!(host.spec().await.unwrap().generation, 51, "the first one that is sent");

    // The same number, and another document.
    let digest = |bytes: &[u8]| drover_proto::digest::Digest::of(bytes).to_string();
    let other = Hello { spec_digest: digest(b"another"), ..ahead(51) };
    let mut host = Liar::new(&world, &identity, other).await.unwrap();
    host.welcome().await;
    change(&mut world, "3").await;
    let document = host.spec().await.unwrap();
    assert_eq!(document.generation, 52);
    let same = Hello { spec_digest: digest(&document.document_json), ..ahead(52) };
    let mut host = Liar::new(&world, &identity, same).await.unwrap();
    assert_eq!(host.spec().await.unwrap().generation, 52);

    for nonsense in [u64::MAX, i64::MAX as u64] {
        let mut host = Liar::new(&world, &identity, ahead(nonsense)).await.unwrap();
        assert_eq!(code::of_status(&host.spec().await.unwrap_err()), Some(Code::Protocol));
    }
    let listed: Vec<HostView> = read(world.operator.list_hosts(Empty {}).await.unwrap().into_inner());
    assert_eq!(listed[0].generation, 52);
}

#[tokio::test]
async fn a_change_of_one_app_leaves_what_a_restored_coordinator_does_not_know() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    world.connect(identity.clone(), fate(|_| healthy())).await;
    let started = world.apply(&spec("one")).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    // The host has got newer releases since the backup was made.
    let held = |app: &str, release, rollout| HeldApp { app: app.to_owned(), release, rollout };
    let apps = vec![held("mono", 5, 9), held("other", 3, 8), held("NOT A NAME", 1, 1)];
    let mut host = Liar::new(&world, &identity, Hello { generation: 50, apps, ..Hello::default() }).await.unwrap();
    host.welcome().await;
    let kept = |view: &HostDetail| view.host.kept.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(kept(&detail(&mut world).await), ["mono", "other"]);
    assert!(world.status().await.hosts[0].kept);

    // It is told so at once; then its labels change, and nothing else.
    let read = |document: HostSpecDocument| serde_json::from_slice::<HostSpec>(&document.document_json).unwrap();
    let sent = read(host.spec().await.unwrap());
    assert_eq!((sent.generation, sent.apps.len(), sent.keep.len()), (51, 0, 2));
    change(&mut world, "1").await;
    let sent = read(host.spec().await.unwrap());
    assert_eq!((sent.generation, sent.apps.len(), sent.keep.len()), (52, 0, 2));
    world.services.rollouts.fill_in(&sent.host).await.unwrap();
    assert_eq!(kept(&detail(&mut world).await).len(), 2, "it gets no last good release for what it keeps");

    // It is asked for: even a release that is stored for it already is a change.
    host.takes(&mut world, &spec("one")).await;
    let sent = read(host.spec().await.unwrap());
    assert_eq!((sent.generation, sent.apps.len()), (53, 1));
    assert_eq!(sent.keep.iter().map(ToString::to_string).collect::<Vec<_>>(), ["other"]);
    assert_eq!(kept(&detail(&mut world).await), ["other"]);

    // What no release is known of can be removed all the same.
    let remove = RemoveRequest { app: "other".to_owned() };
    assert_ne!(world.operator.remove(remove).await.unwrap().into_inner().rollout_id, 0);
    let sent = read(host.spec().await.unwrap());
    assert_eq!((sent.generation, sent.apps.len(), sent.keep.len()), (54, 1, 0));
}

#[tokio::test]
async fn what_a_host_was_asked_since_the_restore_is_sent_to_it_when_it_is_back() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    world.app.store.record("ada", "restore", "", 1).await.unwrap();
    let started = world.apply(&spec("one")).await.unwrap();
    world.end(started.rollout_id).await;
    let held = |app: &str, release, rollout| HeldApp { app: app.to_owned(), release, rollout };
    let apps = vec![held("mono", 5, 9), held("other", 3, 8)];
    let mut host = Liar::new(&world, &identity, Hello { generation: 50, apps, ..Hello::default() }).await.unwrap();
    let sent: HostSpec = serde_json::from_slice(&host.spec().await.unwrap().document_json).unwrap();
    assert_eq!(sent.generation, 51);
    assert_eq!(sent.apps.keys().map(ToString::to_string).collect::<Vec<_>>(), ["mono"]);
    assert_eq!(sent.keep.iter().map(ToString::to_string).collect::<Vec<_>>(), ["other"]);
}

#[tokio::test]
async fn a_host_that_is_enrolled_anew_gets_generations_above_what_it_holds() {
    let mut world = World::new().await;
    world.web_hosts(1, &fate(|_| healthy())).await;
    let started = world.apply(&spec("one")).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    world.operator.remove_host(RemoveHostRequest { host: "web-1".to_owned() }).await.unwrap();

    let identity = world.host("web-1", "web").await;
    assert_eq!(detail(&mut world).await.host.generation, 1, "a new row, and the app that matches");
    // An agent that dropped the spec of its former enrolment says that it holds nothing.
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    let document = host.spec().await.unwrap();
    let sent: HostSpec = serde_json::from_slice(&document.document_json).unwrap();
    assert_eq!((sent.generation, sent.apps.len(), sent.host), (1, 1, detail(&mut world).await.host.id));
    // One that kept it is ahead: whatever comes next, it can accept.
    let held = Hello { generation: 46, spec_digest: "sha256:0".to_owned(), ..Hello::default() };
    let mut host = Liar::new(&world, &identity, held).await.unwrap();
    host.welcome().await;
    change(&mut world, "1").await;
    let sent: HostSpec = serde_json::from_slice(&host.spec().await.unwrap().document_json).unwrap();
    assert_eq!((sent.generation, sent.apps.len()), (47, 1));
}

#[tokio::test]
async fn a_host_that_lies_or_says_too_much_is_shown_within_limits() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    world.connect(identity.clone(), fate(|_| healthy())).await;
    let started = world.apply(&spec("one")).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    let honest = detail(&mut world).await;
    assert_eq!(honest.apps_status.len(), 1);

    let hello = Hello { os: "\u{1b}[2J".repeat(1000), agent_version: "9".repeat(1000), ..Hello::default() };
    let mut host = Liar::new(&world, &identity, hello).await.unwrap();
    let generation = host.spec().await.unwrap().generation;
    let ack = SpecAck { generation: 1 << 40, outcome: Outcome::Accepted as i32, message: String::new() };
    host.say(from_agent::Message::SpecAck(ack)).await;
    let mut status = HostStatus { generation, boot_id: "x".repeat(600 << 10), ..HostStatus::default() };
    host.report(&status).await;
    let mine = honest.apps_status.values().next().unwrap();
    let failed = AppStatus { phase: Phase::Failed { cause: "c".repeat(5000) }, ..mine.clone() };
    status.boot_id = "second".to_owned();
    status.apps = [("mono".parse().unwrap(), failed.clone()), ("foreign".parse().unwrap(), failed)].into();
    host.report(&status).await;

    let told = loop {
        let told = detail(&mut world).await;
        if told.apps_status != honest.apps_status {
            break told;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(told.apps_status.len(), 1, "an app that is not the host's");
    let phase = &told.apps_status.values().next().unwrap().phase;
    assert!(matches!(phase, Phase::Failed { cause } if cause.len() == 1000), "{phase:?}");
    assert!(told.host.os.len() == 200 && !told.host.os.contains('\u{1b}'), "{:?}", told.host.os);
    assert_eq!(told.host.agent_version.len(), 200);
    assert!(told.host.generation_accepted <= told.host.generation);
}

#[tokio::test]
async fn a_refused_spec_is_shown_until_one_is_accepted() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    change(&mut world, "1").await;
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    let answer = |generation, outcome: Outcome| {
        let message = "the disk is on fire".to_owned();
        from_agent::Message::SpecAck(SpecAck { generation, outcome: outcome as i32, message })
    };
    let generation = host.spec().await.unwrap().generation;
    host.say(answer(generation, Outcome::Invalid)).await;
    let refused = loop {
        if let Some(refused) = detail(&mut world).await.host.refused {
            break refused;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((refused.generation, refused.message.as_str()), (generation, "the disk is on fire"));
    change(&mut world, "2").await;
    let generation = host.spec().await.unwrap().generation;
    host.say(answer(generation, Outcome::Accepted)).await;
    while detail(&mut world).await.host.refused.is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_spec_that_could_not_be_kept_is_sent_again() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    change(&mut world, "1").await;
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    for _ in 0..2 {
        let generation = host.spec().await.unwrap().generation;
        let (outcome, message) = (Outcome::Unspecified as i32, "no space left on device".to_owned());
        host.say(from_agent::Message::SpecAck(SpecAck { generation, outcome, message })).await;
    }
    let third = tokio::time::timeout(Duration::from_secs(10), host.spec()).await.expect("not sent again").unwrap();
    assert_eq!(detail(&mut world).await.host.refused.map(|refused| refused.generation), Some(third.generation));
    // A stream that begins anew gets it, too, whatever became of the one before.
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    assert_eq!(host.spec().await.unwrap().generation, third.generation);
}

#[tokio::test]
async fn an_enrolment_that_is_too_large_is_refused_unread() {
    let world = World::new().await;
    let channel = dial(&world.address, client_config(&world.trust, None).unwrap()).await.unwrap();
    let request = EnrollHostRequest { csr_der: vec![0; 100 << 10], ..EnrollHostRequest::default() };
    let status = EnrolmentClient::new(channel).enroll_host(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status:?}");
}

#[tokio::test]
async fn a_revoked_host_is_cut_off_at_once_with_all_that_it_has_open() {
    let mut world = World::new().await;
    let identity = world.host("web-1", "web").await;
    let mut host = Liar::new(&world, &identity, Hello::default()).await.unwrap();
    host.welcome().await;
    let id = detail(&mut world).await.host.id;
    // Somebody waits for an answer that never comes, and a download is under way that nobody reads.
    let job = drover_proto::wire::LogsJob { app: "mono".to_owned(), follow: true, lines: 1 };
    let mut answers = world.services.sessions.ask(&id, drover_proto::wire::job::Job::Logs(job), 60_000).unwrap();
    let mut large = spec("one");
    let content = vec![7; 24 << 20];
    let digest = drover_proto::digest::Digest::of(&content);
    large.artifact = Some(drover_proto::app::Artifact {
        digest,
        size_bytes: content.len() as u64,
        source: drover_proto::source::Source::Pushed,
        build: None,
    });
    push(&mut world, digest, &content).await;
    host.takes(&mut world, &large).await;
    host.spec().await.unwrap();
    let channel = dial(&world.address, client_config(&world.trust, Some(&identity)).unwrap()).await.unwrap();
    let request = FetchBlobRequest { digest: digest.to_string(), offset: 0 };
    let mut fetching = AgentLinkClient::new(channel.clone()).fetch_blob(request.clone()).await.unwrap().into_inner();
    fetching.message().await.unwrap().expect("a first chunk");

    world.operator.revoke_host(HostRequest { host: "web-1".to_owned() }).await.unwrap();
    let ended = async {
        let stream = loop {
            match host.incoming.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended as if all were well"),
                Err(status) => break status,
            }
        };
        let download = loop {
            match fetching.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it got all of it"),
                Err(status) => break status,
            }
        };
        assert_eq!(answers.next().await, None, "a job goes on");
        [stream, download]
    };
    let said = tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it goes on");
    for status in said {
        assert_eq!(code::of_status(&status), Some(Code::Revoked), "{status:?}");
    }
    let again = AgentLinkClient::new(channel).fetch_blob(request).await.unwrap_err();
    assert_eq!(code::of_status(&again), Some(Code::Revoked));
    let listed: Vec<HostView> = read(world.operator.list_hosts(Empty {}).await.unwrap().into_inner());
    assert!(listed[0].revoked_unix_ms.is_some() && !listed[0].connected);

    let anew = world.host("web-1", "other").await;
    let mut host = Liar::new(&world, &anew, Hello::default()).await.unwrap();
    host.welcome().await;
    let new = detail(&mut world).await;
    assert!(new.host.id != id && new.apps_status.is_empty() && new.desired.is_empty(), "{new:?}");
    assert_eq!((new.host.generation, new.host.revoked_unix_ms), (0, None));
    assert!(Liar::new(&world, &identity, Hello::default()).await.is_err(), "the old certificate came back");
}

pub(super) async fn push(world: &mut World, digest: drover_proto::digest::Digest, content: &[u8]) {
    let header = BlobHeader { digest: digest.to_string(), size_bytes: content.len() as u64, offset: 0 };
    let mut parts = vec![PushBlobRequest { part: Some(push_blob_request::Part::Header(header)) }];
    parts.extend(
        content
            .chunks(256 << 10)
            .map(|data| PushBlobRequest { part: Some(push_blob_request::Part::Data(data.to_vec())) }),
    );
    world.operator.push_blob(tokio_stream::iter(parts)).await.unwrap();
}

#[tokio::test]
async fn a_revoked_operator_sees_no_more() {
    let mut world = World::new().await;
    world.web_hosts(1, &fate(|_| Phase::Pending)).await;
    let started = world.apply(&spec("one")).await.unwrap();
    let watched = RolloutRequest { rollout_id: started.rollout_id };
    let mut views = world.operator.watch_rollout(watched).await.unwrap().into_inner();
    views.message().await.unwrap().unwrap();
    world.operator.revoke_operator(OperatorRequest { name: "ada".to_owned() }).await.unwrap();
    let end = async {
        loop {
            if let Err(status) = views.message().await.map(|view| view.expect("ended as if all were well")) {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(10), end).await.expect("it goes on");
    assert_eq!(code::of_status(&status), Some(Code::Revoked));
    let status = world.operator.list_hosts(Empty {}).await.unwrap_err();
    assert_eq!(code::of_status(&status), Some(Code::Revoked));
}
