//! The whole coordinator over real connections: operators and agents come with tokens, and releases go their way. Only
//! the hosts are played.
use std::{sync::atomic::Ordering, time::Duration};

use drover_proto::{
    app::{AppSpec, Content, Drift, FilePart, HostNeeds, SecretSource},
    code::{self, Code},
    name::HostName,
    rollout::RolloutState,
    spec::HostSpec,
    status::Phase,
    strategy::Strategy,
    template::Template,
    tls::{Identity, Trust, client_config, dial, new_key},
    token::{Token, TokenKind},
    view::{AppView, HostPlanOutcome, HostView, PlanView, RolloutView},
    wire::{
        AppFilter, ApplyRequest, CreateTokenRequest, Empty, EnrollHostRequest, FromAgent, HostRequest,
        LabelHostRequest, LoginOperatorRequest, LogsRequest, PlanRequest, RemoveHostRequest, RemoveRequest,
        RollbackRequest, RolloutRequest, RolloutStarted, SetSecretRequest, View, agent_link_client::AgentLinkClient,
        enrolment_client::EnrolmentClient, operator_client::OperatorClient,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use self::agent::{FakeAgent, Fate, Gauge, healthy};
use super::*;
use crate::{app::App, config::StateDir, listen};

mod agent;
mod alerts;
mod claims;
mod cordon;
mod events;
mod figures;
mod flood;
mod hostile;
mod images;
mod imported;
mod invented;
mod overlap;
mod prune;
mod raw;
mod renewal;
mod restarted;
mod restored;
mod slow;

/// A coordinator that runs, and an operator who is logged in.
struct World {
    _dir: tempfile::TempDir,
    app: App,
    services: Services,
    address: String,
    trust: Trust,
    operator: OperatorClient<Channel>,
    gauge: Arc<Gauge>,
}

async fn identity(address: &str, word: &str, kind: TokenKind, name: &str) -> Result<(Identity, Trust), Status> {
    let token = Token::parse(word, kind).unwrap();
    let config = client_config(&Trust::Fingerprint(token.ca_fingerprint), None).unwrap();
    let mut client = EnrolmentClient::new(dial(address, config).await.unwrap());
    let key = new_key().unwrap();
    let (token_id, token_secret, csr_der) = (token.id, token.secret.expose().clone(), key.csr_der);
    let certificate = match kind {
        TokenKind::Join => {
            let (host_name, agent_version) = (name.to_owned(), "test".to_owned());
            let request =
                EnrollHostRequest { token_id, token_secret, csr_der, host_name, agent_version, protocol_version: 2 };
            client.enroll_host(request).await?
        }
        TokenKind::Login => {
            client.login_operator(LoginOperatorRequest { token_id, token_secret, csr_der, protocol_version: 2 }).await?
        }
    };
    let certificate = certificate.into_inner();
    let trust = Trust::Roots(vec![certificate.ca_der]);
    Ok((Identity { certificate_der: certificate.certificate_der, key_der: key.key_der }, trust))
}

impl World {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }
    async fn with(limits: Limits) -> Self {
        drover_proto::tls::install();
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir(dir.path().join("state"));
        crate::app::make_state_dir(&state).unwrap();
        let app = App::open(&state, crate::ca::CLIENT_LIFE).await.unwrap();
        let (store, blobs, ca, stop) = (app.store.clone(), app.blobs.clone(), app.ca.clone(), app.stop.clone());
        let services = Services::start_with(store, blobs, ca, Alerting::default(), stop, limits).await.unwrap();
        let config = listen::server_config(&app.ca).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let (address, connections) = listen::bind(any, config, app.stop.clone()).await.unwrap();
        let routes = services.routes();
        let stop = app.stop.clone().cancelled_owned();
        tokio::spawn(crate::app::server().add_routes(routes).serve_with_incoming_shutdown(connections, stop));
        let address = address.to_string();

        let word = crate::admin::operator_add(&state, &"ada".parse().unwrap(), Duration::from_secs(60)).unwrap();
        let (identity, trust) = identity(&address, word.expose(), TokenKind::Login, "").await.unwrap();
        let channel = dial(&address, client_config(&trust, Some(&identity)).unwrap()).await.unwrap();
        let operator = OperatorClient::new(channel);
        Self { _dir: dir, app, services, address, trust, operator, gauge: Arc::default() }
    }
    async fn token(&mut self, label: &str, uses: u32) -> String {
        let labels = [("role".to_owned(), label.to_owned())].into();
        let request = CreateTokenRequest { labels, ttl_s: 60, uses };
        self.operator.create_token(request).await.unwrap().into_inner().token
    }
    async fn host(&mut self, name: &str, role: &str) -> Identity {
        let word = self.token(role, 1).await;
        identity(&self.address, &word, TokenKind::Join, name).await.unwrap().0
    }
    /// Connects a played agent; answers the specs that it gets.
    async fn connect(&mut self, identity: Identity, fate: Fate) -> mpsc::UnboundedReceiver<HostSpec> {
        let before = self.services.sessions.connected().len();
        let (specs, receiver) = mpsc::unbounded_channel();
        let (address, trust, gauge) = (self.address.clone(), self.trust.clone(), self.gauge.clone());
        tokio::spawn(FakeAgent { address, trust, identity, fate, gauge, specs }.run());
        while self.services.sessions.connected().len() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        receiver
    }
    async fn web_hosts(&mut self, count: usize, fate: &Fate) -> Vec<mpsc::UnboundedReceiver<HostSpec>> {
        let mut all = Vec::new();
        for n in 1..=count {
            let identity = self.host(&format!("web-{n}"), "web").await;
            all.push(self.connect(identity, fate.clone()).await);
        }
        all
    }
    async fn apply(&mut self, spec: &AppSpec) -> Result<RolloutStarted, Status> {
        let request =
            ApplyRequest { app_spec_json: serde_json::to_vec(spec).unwrap(), plan_id: String::new(), extent: None };
        self.operator.apply(request).await.map(tonic::Response::into_inner)
    }
    async fn plan(&mut self, spec: &AppSpec) -> Result<PlanView, Status> {
        let request = PlanRequest { app_spec_json: serde_json::to_vec(spec).unwrap(), extent: None };
        let reply = self.operator.plan(request).await?.into_inner();
        Ok(serde_json::from_slice(&reply.json).unwrap())
    }
    /// Watches a rollout to its end.
    async fn end(&mut self, rollout_id: u64) -> RolloutView {
        let mut views = self.operator.watch_rollout(RolloutRequest { rollout_id }).await.unwrap().into_inner();
        let mut last = None;
        let patience = Duration::from_secs(30);
        while let Some(next) = tokio::time::timeout(patience, views.message()).await.expect("stuck").unwrap() {
            last = Some(read::<RolloutView>(next));
        }
        last.unwrap()
    }
    async fn status(&mut self) -> AppView {
        let reply = self.operator.status(AppFilter { app: "mono".to_owned() }).await.unwrap();
        read::<Vec<AppView>>(reply.into_inner()).remove(0)
    }
}

fn read<T: DeserializeOwned>(view: View) -> T {
    serde_json::from_slice(&view.json).unwrap()
}

fn spec(text: &str) -> AppSpec {
    let file = FilePart {
        path: "/etc/mono.conf".parse().unwrap(),
        content: Content::Text(Template::literal(text)),
        owner: "root".parse().unwrap(),
        group: "root".parse().unwrap(),
        mode: 0o644,
        validate: None,
        reload: [].into(),
        restart: [].into(),
        adopt: false,
        drift: Drift::default(),
    };
    AppSpec {
        app: "mono".parse().unwrap(),
        targets: [("role".parse().unwrap(), "web".parse().unwrap())].into(),
        strategy: Strategy::default(),
        host: HostNeeds::default(),
        artifact: None,
        env: [].into(),
        secrets: [("KEY".parse().unwrap(), SecretSource::Generate(32))].into(),
        units: [].into(),
        containers: [].into(),
        compose: Default::default(),
        files: vec![file],
        hooks: vec![],
        checks: [].into(),
        restart_budget: None,
        certificates: vec![],
        alerts: std::collections::BTreeMap::new(),
    }
}

fn fate(of: impl Fn(u64) -> Phase + Send + Sync + 'static) -> Fate {
    Arc::new(of)
}

#[tokio::test]
async fn releases_go_their_way_over_three_hosts() {
    let mut world = World::new().await;
    let reverts_2 = fate(|release| match release {
        2 => Phase::Reverted { to: None, cause: "api answered 500".to_owned() },
        _ => healthy(),
    });
    let mut specs = world.web_hosts(3, &reverts_2).await;

    let planned = world.plan(&spec("one")).await.unwrap();
    assert_eq!((planned.release, planned.has_changes, planned.hosts.len()), (1, true, 3));
    assert!(planned.hosts.iter().all(|host| matches!(host.outcome, HostPlanOutcome::Planned(_))));
    let again = world.plan(&spec("one")).await.unwrap();
    assert_eq!(planned.plan_id, again.plan_id, "the same world has the same plan");

    let started = world.apply(&spec("one")).await.unwrap();
    assert_eq!((started.rollout_id, started.release), (1, 1));
    let end = world.end(1).await;
    assert_eq!(end.summary.state, RolloutState::Succeeded);
    assert_eq!(world.gauge.most.load(Ordering::SeqCst), 1, "max_parallel");
    let first = specs[0].recv().await.unwrap();
    let app = &first.apps[&"mono".parse().unwrap()];
    assert_eq!(app.secrets[&"KEY".parse().unwrap()].expose().len(), 64);

    let nothing = world.apply(&spec("one")).await.unwrap();
    assert_eq!(nothing.rollout_id, 0, "{}", nothing.message);

    let started = world.apply(&spec("two")).await.unwrap();
    assert_eq!(started.release, 2);
    let end = world.end(started.rollout_id).await;
    assert_eq!(end.summary.state.word(), "rolled_back", "{end:?}");
    assert!(end.summary.state.reason().unwrap().contains("api answered 500"));
    let status = world.status().await;
    assert_eq!((status.last_good, status.latest), (Some(1), Some(2)));
    assert!(status.hosts.iter().all(|host| host.desired == Some(1)), "{status:?}");

    let started = world.apply(&spec("three")).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    let back = RollbackRequest { app: "mono".to_owned(), to_release: 0 };
    let started = world.operator.rollback(back).await.unwrap().into_inner();
    assert_eq!(started.release, 1, "2 never proved itself");
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    let same = RollbackRequest { app: "mono".to_owned(), to_release: 1 };
    assert_eq!(world.operator.rollback(same).await.unwrap().into_inner().rollout_id, 0);

    let lines = LogsRequest { app: "mono".to_owned(), ..LogsRequest::default() };
    let mut lines = world.operator.logs(lines).await.unwrap().into_inner();
    let mut from = Vec::new();
    while let Some(line) = lines.message().await.unwrap() {
        assert_eq!(line.text, "hello");
        from.push(line.host);
    }
    from.sort();
    assert_eq!(from, ["web-1", "web-2", "web-3"]);

    let remove = RemoveRequest { app: "mono".to_owned() };
    let started = world.operator.remove(remove).await.unwrap().into_inner();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    assert!(world.status().await.hosts.is_empty());

    let audit: Vec<String> = world
        .app
        .store
        .audit(100)
        .await
        .unwrap()
        .into_iter()
        .map(|line| format!("{} {}", line.who, line.action))
        .collect();
    for expected in ["ada rollout begin", "ada rollout end", "ada release", "ada token create", "ada host enroll"] {
        assert!(audit.iter().any(|line| line == expected), "{expected} is not in {audit:?}");
    }
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_anything_is_written() {
    let mut world = World::new().await;
    let said = |status: Status| code::of_status(&status).unwrap();
    assert_eq!(world.apply(&spec("x")).await.map_err(said), Err(Code::NoTargets));
    world.web_hosts(1, &fate(|_| healthy())).await;

    let mut missing = spec("x");
    missing.app = "mono@staging".parse().unwrap();
    missing.secrets = [("KEY".parse().unwrap(), SecretSource::Stored("siliconflow".parse().unwrap()))].into();
    let status = world.plan(&missing).await.unwrap_err();
    assert!(status.message().contains("drover secret set siliconflow"), "{}", status.message());
    assert_eq!(said(status), Code::SecretMissing);
    let set = SetSecretRequest { name: "siliconflow".to_owned(), environment: String::new(), value: b"word".to_vec() };
    world.operator.set_secret(set).await.unwrap();
    world.plan(&missing).await.unwrap();

    let mut refused = spec("x");
    refused.files[0].path = "/etc/passwd".parse().unwrap();
    let status = world.apply(&refused).await.unwrap_err();
    assert_eq!((status.code(), code::of_status(&status)), (tonic::Code::FailedPrecondition, Some(Code::NotOwned)));
    assert!(status.message().contains("web-1: file /etc/passwd"), "{}", status.message());

    let mut unplanned = spec("x");
    unplanned.files[0].path = "/etc/group".parse().unwrap();
    let status = world.apply(&unplanned).await.unwrap_err();
    assert_eq!((status.code(), code::of_status(&status)), (tonic::Code::FailedPrecondition, Some(Code::PlanFailed)));
    assert_eq!(status.message(), "web-1: the bus is away (internal)");

    let other = ApplyRequest {
        app_spec_json: serde_json::to_vec(&spec("x")).unwrap(),
        plan_id: "0000000000000000".to_owned(),
        extent: None,
    };
    assert_eq!(said(world.operator.apply(other).await.unwrap_err()), Code::PlanChanged);
    let mut wrong = spec("x");
    wrong.files[0].mode = 0o4755;
    assert_eq!(said(world.apply(&wrong).await.unwrap_err()), Code::Manifest);
    assert!(world.app.store.releases(&"mono".parse().unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_host_that_comes_later_gets_the_last_good_release() {
    let mut world = World::new().await;
    let good = fate(|_| healthy());
    world.web_hosts(1, &good).await;
    let started = world.apply(&spec("one")).await.unwrap();
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);

    let identity = world.host("web-2", "web").await;
    let mut specs = world.connect(identity, good.clone()).await;
    assert_eq!(specs.recv().await.unwrap().apps.len(), 1);

    let identity = world.host("other", "db").await;
    let mut specs = world.connect(identity, good).await;
    let label = LabelHostRequest {
        host: "other".to_owned(),
        set: [("role".to_owned(), "web".to_owned())].into(),
        remove: vec![],
    };
    world.operator.label_host(label).await.unwrap();
    loop {
        let spec = specs.recv().await.unwrap();
        if spec.apps.len() == 1 {
            break;
        }
    }
}

#[tokio::test]
async fn a_host_that_was_away_takes_over_what_it_missed() {
    let mut world = World::new().await;
    let good = fate(|_| healthy());
    let away = world.host("web-2", "web").await;
    world.web_hosts(1, &good).await;
    let started = world.apply(&spec("one")).await.unwrap();
    let mut specs = world.connect(away, good).await;
    assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    assert_eq!(specs.recv().await.unwrap().apps.len(), 1);
}

#[tokio::test]
async fn nobody_does_what_is_not_theirs() {
    let mut world = World::new().await;
    let word = world.token("web", 1).await;
    let (host, _) = identity(&world.address, &word, TokenKind::Join, "web-1").await.unwrap();
    let used_up = identity(&world.address, &word, TokenKind::Join, "web-2").await.unwrap_err();
    assert_eq!(code::of_status(&used_up), Some(Code::Token));

    let channel = dial(&world.address, client_config(&world.trust, Some(&host)).unwrap()).await.unwrap();
    let status = OperatorClient::new(channel).list_hosts(Empty {}).await.unwrap_err();
    assert_eq!(code::of_status(&status), Some(Code::Forbidden));
    let channel = dial(&world.address, client_config(&world.trust, None).unwrap()).await.unwrap();
    let status = OperatorClient::new(channel).list_hosts(Empty {}).await.unwrap_err();
    assert_eq!(code::of_status(&status), Some(Code::Forbidden));

    let mut specs = world.connect(host.clone(), fate(|_| healthy())).await;
    world.operator.get_host(HostRequest { host: "web-1".to_owned() }).await.unwrap();
    world.operator.remove_host(RemoveHostRequest { host: "web-1".to_owned() }).await.unwrap();
    assert_eq!(specs.recv().await, None, "its stream is closed");
    let listed: Vec<HostView> = read(world.operator.list_hosts(Empty {}).await.unwrap().into_inner());
    assert_eq!(listed.iter().map(|host| &host.name).collect::<Vec<&HostName>>(), Vec::<&HostName>::new());
    let channel = dial(&world.address, client_config(&world.trust, Some(&host)).unwrap()).await.unwrap();
    let nothing = tokio_stream::empty::<FromAgent>();
    let status = AgentLinkClient::new(channel).session(nothing).await.unwrap_err();
    assert_eq!(code::of_status(&status), Some(Code::Revoked));
}
