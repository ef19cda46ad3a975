//! A scrape of this host, with a hostile name in it.

use drover_proto::{
    code::Code,
    name::ReleaseId,
    status::{AppStatus, Failure, PartStatus, Phase},
};

use super::*;

fn metrics(status: HostStatus) -> Arc<Metrics> {
    let (sender, receiver) = watch::channel(Arc::new(status));
    Arc::new(Metrics::new(None, Engine::default(), receiver, Default::default, move || !sender.is_closed()))
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
    let metrics = metrics(failed_and_hostile());
    let text = metrics.clone().scrape(Format::Prometheus, |text| text).await.unwrap();
    for line in [
        "drover_app_state{app=\"shop\",state=\"reverted\"} 1",
        "drover_app_state{app=\"shop\",state=\"healthy\"} 0",
        "drover_release_info{app=\"shop\",desired=\"shop/2\",release=\"shop/1\"} 1",
        "drover_app_failed_timestamp_seconds{app=\"shop\",code=\"gate\"} 1700000000.5",
        "drover_part_in_sync{app=\"shop\",kind=\"container\",name=\"a\\\"} 1\\nfake_metric 7\\n{x=\\\"\"} 0",
        "drover_coordinator_connected 1",
        "# TYPE node_cpu_seconds_total counter",
        "# TYPE process_cpu_seconds_total counter",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
    }

    let text = metrics.scrape(Format::OpenMetrics, |text| text).await.unwrap();
    assert!(text.contains("# TYPE node_cpu_seconds counter\n") && text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains("node_load1 "), "{text}");
}
