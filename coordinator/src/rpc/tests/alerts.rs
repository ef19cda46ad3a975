//! From a host's report to a webhook, and what holds alerts back.
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use drover_proto::{
    alert::{AlertKey, AlertState, AlertStatus, RuleSet, Severity},
    view::{AlertsView, NotifierAnswer, NotifierView, SilenceView},
    wire::{AddSilenceRequest, AlertsRequest, NotifierRequest, SilenceRequest, from_agent, to_agent},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use drover_proto::wire::{Hello, ToAgent};
use tokio_stream::wrappers::ReceiverStream;

use super::*;

/// Answers every request with `status`, and keeps the bodies.
async fn receiver(status: Arc<Mutex<u16>>) -> (String, Arc<Mutex<Vec<serde_json::Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = bodies.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = Vec::new();
            let body = loop {
                let mut chunk = [0; 4096];
                let count = stream.read(&mut chunk).await.unwrap();
                heard.extend_from_slice(&chunk[..count]);
                let text = String::from_utf8_lossy(&heard);
                let parsed = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
                if let Some(body) = parsed {
                    break body;
                }
                assert!(count > 0, "cut off: {text}");
            };
            let status = *status.lock().unwrap();
            if status == 200 {
                kept.lock().unwrap().push(body);
            }
            let answer = format!("HTTP/1.1 {status} said\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, bodies)
}

fn alerting(url: &str) -> Alerting {
    let text = format!(
        "[notifiers.hook]\ntype = \"webhook\"\nurl = \"{url}\"\n[[routes]]\nnotify = [\"hook\"]\ngroup_interval = \"1s\"\n"
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("alerting.toml"), text).unwrap();
    Alerting::read(&dir.path().join("alerting.toml")).unwrap()
}

fn firing(alert: &str, severity: Severity) -> AlertStatus {
    AlertStatus {
        key: AlertKey { alert: alert.parse().unwrap(), app: None, subject: "/".to_owned() },
        state: AlertState::Firing,
        severity,
        since_unix_ms: clock::unix_ms(),
        summary: format!("{alert} of / is too much"),
        held: false,
        labels: Default::default(),
        annotations: Default::default(),
    }
}

fn report(alerts: Vec<AlertStatus>) -> from_agent::Message {
    let status = drover_proto::status::HostStatus { alerts, ..Default::default() };
    let host_status_json = serde_json::to_vec(&status).unwrap();
    from_agent::Message::Report(drover_proto::wire::Report { host_status_json })
}

/// Waits until so many notifications have come, and no more.
async fn told(bodies: &Mutex<Vec<serde_json::Value>>, count: usize) -> Vec<serde_json::Value> {
    for _ in 0..500 {
        if bodies.lock().unwrap().len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let bodies = bodies.lock().unwrap().clone();
    assert_eq!(bodies.len(), count, "{bodies:#?}");
    bodies
}

async fn listed(world: &mut World) -> AlertsView {
    read(world.operator.list_alerts(AlertsRequest::default()).await.unwrap().into_inner())
}

#[tokio::test]
async fn a_report_becomes_a_notification_and_its_end_too() {
    let (url, bodies) = receiver(Arc::new(Mutex::new(200))).await;
    let mut world = World::new().await;
    world.services.alerts().follow(alerting(&url)).await.unwrap();
    let mut host = Played::open(&mut world, "web-1").await;
    let rules = host.rules().await;
    assert_eq!(rules, RuleSet::default());
    host.say(report(vec![firing("disk", Severity::Critical), firing("inodes", Severity::Info)])).await;
    let first = told(&bodies, 2).await;
    assert!(first.iter().any(|body| body.to_string().contains("disk of / is too much")), "{first:#?}");
    let view = listed(&mut world).await;
    let names: Vec<&str> = view.alerts.iter().map(|alert| alert.alert.as_str()).collect();
    assert_eq!(names, ["disk", "inodes"], "the worst first");
    assert_eq!(view.alerts[0].labels["role"], "web", "with the host's labels");
    host.say(report(vec![firing("inodes", Severity::Info)])).await;
    let last = told(&bodies, 3).await.pop().unwrap();
    assert!(last.to_string().contains("resolved"), "{last:#?}");
    assert_eq!(listed(&mut world).await.alerts.len(), 1);
}

#[tokio::test]
async fn a_receiver_that_fails_is_told_once_when_it_is_back() {
    let status = Arc::new(Mutex::new(500));
    let (url, bodies) = receiver(status.clone()).await;
    let mut world = World::new().await;
    world.services.alerts().follow(alerting(&url)).await.unwrap();
    let mut host = Played::open(&mut world, "web-1").await;
    host.say(report(vec![firing("disk", Severity::Warning)])).await;
    let mut failing = AlertsView::default();
    for _ in 0..300 {
        failing = listed(&mut world).await;
        if !failing.failing.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(failing.waiting == 1 && failing.failing.values().any(|why| why.contains("500")), "{failing:?}");
    let test = world.operator.test_notifier(NotifierRequest { name: "hook".to_owned() }).await.unwrap();
    let answer: NotifierAnswer = read(test.into_inner());
    assert!(!answer.ok && answer.answer.contains("500"), "{answer:?}");
    *status.lock().unwrap() = 200;
    told(&bodies, 1).await;
    let notifiers: Vec<NotifierView> = read(world.operator.list_notifiers(Empty {}).await.unwrap().into_inner());
    assert!(notifiers[0].waiting == 0 && notifiers[0].failure.is_none(), "{notifiers:?}");
    let unknown = world.operator.test_notifier(NotifierRequest { name: "other".to_owned() }).await.unwrap_err();
    assert!(unknown.message().contains("there are: hook"), "{unknown:?}");
}

#[tokio::test]
async fn what_is_silenced_or_held_is_listed_and_told_to_nobody_until_it_counts_again() {
    let (url, bodies) = receiver(Arc::new(Mutex::new(200))).await;
    let mut world = World::new().await;
    world.services.alerts().follow(alerting(&url)).await.unwrap();
    let mut host = Played::open(&mut world, "web-1").await;
    let request = AddSilenceRequest {
        matchers: vec!["alert=disk".to_owned()],
        duration_s: 3600,
        reason: "moving it".to_owned(),
        starts_unix_ms: 0,
    };
    let silence: SilenceView = read(world.operator.add_silence(request.clone()).await.unwrap().into_inner());
    let mut held = firing("inodes", Severity::Warning);
    held.held = true;
    host.say(report(vec![firing("disk", Severity::Warning), held.clone()])).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    told(&bodies, 0).await;
    let muted: Vec<String> = listed(&mut world).await.alerts.into_iter().filter_map(|alert| alert.muted).collect();
    assert!(muted.len() == 2 && muted.iter().any(|why| why.contains("moving it")), "{muted:?}");
    held.held = false;
    host.say(report(vec![firing("disk", Severity::Warning), held])).await;
    told(&bodies, 1).await;
    let ended = world.operator.end_silence(SilenceRequest { id: silence.id }).await.unwrap();
    assert_eq!(read::<SilenceView>(ended.into_inner()).state, "over");
    told(&bodies, 2).await;
    for wrong in [
        AddSilenceRequest { matchers: vec![], ..request.clone() },
        AddSilenceRequest { matchers: vec!["host".to_owned()], ..request.clone() },
        AddSilenceRequest { reason: "\n".to_owned(), ..request.clone() },
        AddSilenceRequest { duration_s: u64::MAX, ..request.clone() },
        AddSilenceRequest { starts_unix_ms: 1, ..request },
    ] {
        let refused = world.operator.add_silence(wrong.clone()).await.unwrap_err();
        assert_eq!(code::of_status(&refused), Some(Code::Invalid), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_host_gets_the_rules_of_the_file_and_of_its_labels() {
    let mut world = World::new().await;
    let mut host = Played::open(&mut world, "web-1").await;
    assert_eq!(host.rules().await, RuleSet::default());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alerting.toml");
    std::fs::write(&path, "[rules.busy]\nwhen = \"cpu > 50%\"\nhosts = { role = \"web\" }\n").unwrap();
    world.services.alerts().follow(Alerting::read(&path).unwrap()).await.unwrap();
    let rules = host.rules().await;
    assert_eq!(rules.rules[&"busy".parse().unwrap()].when.to_string(), "cpu > 50%");
}

/// A host of which only the words are there.
struct Played {
    out: mpsc::Sender<FromAgent>,
    incoming: tonic::Streaming<ToAgent>,
}

impl Played {
    async fn open(world: &mut World, name: &str) -> Self {
        let identity = world.host(name, "web").await;
        let config = client_config(&world.trust, Some(&identity)).unwrap();
        let channel = dial(&world.address, config).await.unwrap();
        let (out, outgoing) = mpsc::channel(8);
        let protocol_version = drover_proto::PROTOCOL_VERSION;
        let agent_version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = Hello { protocol_version, agent_version, ..Hello::default() };
        out.send(FromAgent { message: Some(from_agent::Message::Hello(hello)) }).await.unwrap();
        let session = AgentLinkClient::new(channel).session(ReceiverStream::new(outgoing)).await;
        Self { out, incoming: session.unwrap().into_inner() }
    }
    async fn say(&mut self, message: from_agent::Message) {
        self.out.send(FromAgent { message: Some(message) }).await.unwrap();
    }
    /// The next rules that it is sent.
    async fn rules(&mut self) -> RuleSet {
        loop {
            let message = self.incoming.message().await.unwrap().expect("the stream ended");
            if let Some(to_agent::Message::AlertRules(rules)) = message.message {
                return serde_json::from_slice(&rules.rules_json).unwrap();
            }
        }
    }
}
