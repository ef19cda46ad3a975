//! A scrape of this host, with a hostile name in it.

use std::path::Path;

use drover_proto::{
    code::Code,
    event::EventKind,
    name::ReleaseId,
    status::{AppStatus, Failure, PartStatus, Phase},
};

use super::*;
use crate::{
    event::{self, Events, Outbox},
    host::files,
    identity,
};

/// Of a host with its state there; its end for events, and the end that sends them.
fn metrics(status: HostStatus, state_dir: &Path) -> (Arc<Metrics>, Events, Outbox) {
    let (_, receiver) = watch::channel(Arc::new(status));
    let (events, outbox, spooling) = event::open(state_dir, 1 << 20);
    tokio::spawn(spooling);
    let agent = Agent::new(watch::channel(Some(())).1, events.clone(), outbox.clone(), state_dir);
    (Arc::new(Metrics::new(None, Engine::default(), receiver, Default::default, agent)), events, outbox)
}

async fn text(metrics: &Arc<Metrics>, format: Format) -> String {
    metrics.clone().scrape(format, |text| text).await.unwrap()
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|other| other == *line), "{line} is not in {text}");
    }
}

fn release(number: u64) -> ReleaseId {
    ReleaseId { app: "shop".parse().unwrap(), number }
}

fn failed_and_hostile() -> HostStatus {
    let part = PartStatus {
        kind: "container".into(),
        name: "a\"} 1\nfake_metric 7\n{x=\"".into(),
        desired: String::new(),
        observed: String::new(),
        in_sync: false,
    };
    let failure = Failure {
        code: Code::Gate,
        release: release(2),
        rollout: 3,
        at_unix_ms: 1_700_000_000_500,
        step: "gate".into(),
        cause: "it is ill".into(),
        evidence: Vec::new(),
    };
    let app = AppStatus {
        desired: Some(release(2)),
        rollout: 3,
        running: Some(release(1)),
        phase: Phase::Reverted { to: None, cause: "it is ill".into() },
        parts: vec![part],
        failure: Some(failure),
        checks: BTreeMap::new(),
    };
    HostStatus { apps: BTreeMap::from([("shop".parse().unwrap(), app)]), ..HostStatus::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_and_apps_are_told_in_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    let (metrics, ..) = metrics(failed_and_hostile(), dir.path());
    let lines = [
        "drover_app_state{app=\"shop\",state=\"reverted\"} 1",
        "drover_app_state{app=\"shop\",state=\"healthy\"} 0",
        "drover_release_info{app=\"shop\",desired=\"shop/2\",release=\"shop/1\"} 1",
        "drover_app_failed_timestamp_seconds{app=\"shop\",code=\"gate\"} 1700000000.5",
        "drover_part_in_sync{app=\"shop\",kind=\"container\",name=\"a\\\"} 1\\nfake_metric 7\\n{x=\\\"\"} 0",
        "drover_coordinator_connected 1",
        "# TYPE node_cpu_seconds_total counter",
        "# TYPE process_cpu_seconds_total counter",
    ];
    has(&text(&metrics, Format::Prometheus).await, &lines);

    let text = text(&metrics, Format::OpenMetrics).await;
    assert!(text.contains("# TYPE node_cpu_seconds counter\n") && text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains("node_load1 "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_tells_what_it_has_to_tell_and_until_when_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let (metrics, events, outbox) = metrics(HostStatus::default(), dir.path());
    let before = text(&metrics, Format::Prometheus).await;
    has(&before, &["drover_outbox_events 0", "drover_outbox_dropped_events 0"]);
    assert!(!before.contains("not_after") && !before.contains("oldest"), "{before}");

    outbox.bind("h-0123456789abcdef".parse().unwrap()).await;
    events.emit(Some(&"shop".parse().unwrap()), EventKind::ActivationStarted, "activating shop/2");
    events.emit(None, EventKind::AgentStarted, "started");
    assert!(events.kept().await);
    let enrolled = |until_ms: i64| {
        let identity = format!(
            r#"{{"host":"h-0123456789abcdef","host_name":"web-1","coordinator":"c:7443","certificate":"01","key":"02","ca":"03","not_after_unix_ms":{until_ms}}}"#
        );
        files::write_private(&identity::path(dir.path()), identity.as_bytes()).unwrap();
    };
    enrolled(4_500);
    let during = text(&metrics, Format::Prometheus).await;
    has(
        &during,
        &[
            "drover_events_total{app=\"\",kind=\"agent-started\"} 1",
            "drover_events_total{app=\"shop\",kind=\"activation-started\"} 1",
            "drover_outbox_events 2",
            "drover_certificate_not_after_timestamp_seconds 4.5",
        ],
    );
    assert!(during.contains("\ndrover_outbox_oldest_timestamp_seconds 1"), "{during}");

    // The coordinator has them, and the certificate is renewed.
    let batch = outbox.next().await;
    outbox.acked(batch.spool.clone(), batch.last_seq()).await;
    let noted = async {
        while outbox.unsent().events > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), noted).await.unwrap();
    enrolled(9_500);
    let after = text(&metrics, Format::Prometheus).await;
    has(&after, &["drover_outbox_events 0", "drover_certificate_not_after_timestamp_seconds 9.5"]);
    assert!(!after.contains("oldest"), "{after}");
}
