//! A scrape of a coordinator with some hosts and a rollout, as text.

use drover_proto::{rollout::RolloutState, strategy::Strategy, view::FiguresView};

use super::*;
use crate::{
    clock,
    figures::Told,
    rollout::{
        Kind, Wish,
        begin::{self, Sightings},
    },
    store::{
        Endpoint, GroupChange, NewNotification, RolloutEnd,
        tests::{enrolled, temporary},
    },
};

async fn scraped(metrics: &Arc<Metrics>) -> String {
    metrics.clone().scrape(Format::Prometheus, |text| text).await.unwrap()
}

#[tokio::test]
async fn hosts_and_rollouts_are_told() {
    let t = temporary().await;
    let id = enrolled(&t.store).await;
    let ca_dir = tempfile::tempdir().unwrap();
    let ca = Arc::new(Ca::create(&ca_dir.path().join("ca")).unwrap());
    let waits = NewNotification { notifier: "ops".parse().unwrap(), document: "{}".to_owned() };
    let change = GroupChange { key: "ops".to_owned(), group: None, notification: Some(waits) };
    t.store.change_groups(&[change], 1).await.unwrap();
    let (sessions, figures) = (Sessions::new(0), Figures::default());
    let metrics = Metrics::new(t.store.clone(), sessions.clone(), figures.clone(), ca, t.path());
    let metrics = Arc::new(metrics);
    let text = scraped(&metrics).await;
    for line in [
        "drover_coordinator_hosts{state=\"new\"} 1",
        "drover_coordinator_hosts{state=\"connected\"} 0",
        "drover_coordinator_rollouts{state=\"running\"} 0",
        "drover_coordinator_reports_total 0",
        "drover_coordinator_notifications_waiting{notifier=\"ops\"} 1",
        "drover_host_connected{host=\"web-1\"} 0",
        "drover_host_certificate_not_after_timestamp_seconds{host=\"web-1\"} 9",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
    }
    assert!(text.contains("drover_coordinator_ca_not_after_timestamp_seconds{ca=\"sha256:"), "{text}");
    assert!(!text.contains("skew"), "{text}");

    let _connection = sessions.connect(&id, 5);
    t.store.set_hello(&id, "0.2.0", "Debian", 5).await.unwrap();
    t.store.save_report(&id, "{}", 6).await.unwrap();
    let figure = FiguresView { cpu: 50.0, ..FiguresView::default() };
    let now = clock::unix_ms();
    let told = Told { figures: figure, cores: 1, memory_bytes: 1, uptime_s: 1, host_unix_ms: now + 2_500 };
    figures.take(&id, told, now);
    let wish = Wish {
        app: "mono".parse().unwrap(),
        kind: Kind::Apply,
        target: Some(7),
        strategy: Strategy::default(),
        by: "ada".to_owned(),
        once: false,
    };
    let hosts = t.store.hosts().await.unwrap();
    let sightings = Sightings::gather(&t.store, &sessions, &wish.app, &hosts).await.unwrap();
    let rollout = begin::document(&wish, &hosts, &sightings, 1_000);
    let mut rollout = Rollout { state: RolloutState::Running, ..rollout };
    let text_of = |rollout: &Rollout, id| serde_json::to_string(&Rollout { id, ..rollout.clone() });
    let id = t.store.create_rollout(&wish.app, "ada", "mono/7", 1_000, |id| text_of(&rollout, id)).await.unwrap();
    let text = scraped(&metrics).await;
    for line in [
        "drover_coordinator_hosts{state=\"connected\"} 1",
        "drover_coordinator_agents_connected{version=\"0.2.0\"} 1",
        "drover_coordinator_rollouts{state=\"running\"} 1",
        "drover_coordinator_rollouts_started_total 1",
        "drover_coordinator_reports_total 1",
        "drover_host_connected{host=\"web-1\"} 1",
        "drover_host_clock_skew_seconds{host=\"web-1\"} 2.5",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
    }
    let labels = |state: &str| format!("app=\"mono\",kind=\"apply\",release=\"7\",rollout=\"{id}\",state=\"{state}\"");
    assert!(text.contains(&format!("drover_rollout_state{{{}}} 1\n", labels("running"))), "{text}");
    assert!(
        text.contains(&format!("drover_rollout_hosts{{app=\"mono\",rollout=\"{id}\",state=\"pending\"}} 1\n")),
        "{text}"
    );

    rollout.state = RolloutState::Succeeded;
    let end = RolloutEnd { app: &wish.app, who: "ada", state: "succeeded", reason: None };
    t.store.save_rollout(id, &text_of(&rollout, id).unwrap(), false, Some(end), 2_000).await.unwrap();
    let text = scraped(&metrics).await;
    for line in [
        "drover_coordinator_rollouts{state=\"running\"} 0",
        "drover_coordinator_rollouts_ended_total{state=\"succeeded\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
    }
    assert!(text.contains(&format!("drover_rollout_state{{{}}} 1\n", labels("succeeded"))), "{text}");
}

#[tokio::test]
async fn targets_are_a_document_beside_the_metrics() {
    let t = temporary().await;
    let id = enrolled(&t.store).await;
    let ca_dir = tempfile::tempdir().unwrap();
    let ca = Arc::new(Ca::create(&ca_dir.path().join("ca")).unwrap());
    let metrics = Arc::new(Metrics::new(t.store.clone(), Sessions::new(0), Figures::default(), ca, t.path()));
    assert!(metrics.clone().document("/sdx").is_none());
    let told = async || {
        let json = metrics.clone().document("/sd").unwrap().await.unwrap();
        serde_json::from_slice::<serde_json::Value>(&json).unwrap()
    };
    assert_eq!(told().await, serde_json::json!([]));
    let endpoint =
        Endpoint { peer: "10.0.0.5".parse().unwrap(), listen: Some("0.0.0.0:7444".parse().unwrap()), tls: false };
    t.store.set_endpoint(&id, &endpoint).await.unwrap();
    let told = told().await;
    assert_eq!(
        (&told[0]["targets"][0], &told[0]["labels"]["__meta_drover_label_role"]),
        (&"10.0.0.5:7444".into(), &"web".into())
    );
}
