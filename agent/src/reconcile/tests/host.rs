//! What the apps of a host have together: places for looks that hang, and one telling of what happens.

use drover_proto::app::DiskProbe;

use super::{super::checking::Key, *};
use crate::{budget::Allowance, check::standing::Standing, render::Instance};

/// Of a host without apps, whose files are there.
pub(crate) fn handle(dir: &TempDir) -> Handle {
    fs::create_dir(dir.path().join("state")).unwrap();
    Handle::new(open(dir).1.shared)
}

#[tokio::test]
async fn looks_that_hang_have_no_further_places_in_a_gate() {
    let mut bench = Bench::new();
    let mut first = bench.release(1, "one\n");
    let room = Probe::Disk(DiskProbe { path: "/".parse().unwrap(), max_used: 100 });
    first.spec.checks.insert("room".parse().unwrap(), Check::new(room, Span::from_ms(100), Span::from_ms(100)));
    first.spec.strategy.healthy_deadline = Span::from_secs(1);
    let hanging = bench.reconciler.shared.standings.asker().hanging().await;
    bench.ask(&[&first]);
    bench.pass().await;
    let failure = bench.status().failure.unwrap();
    assert!(failure.cause.contains("check room: /: no answer within 100ms"), "{failure:?}");
    drop(hanging);
    first.rollout += 1;
    bench.ask(&[&first]);
    bench.pass().await;
    assert!(matches!(bench.status().phase, Phase::Healthy { .. }), "{:?}", bench.status());
}

#[tokio::test]
async fn what_a_failing_check_answers_is_told_without_secrets() {
    let mut bench = Bench::new();
    let (events, outbox, spooling) = crate::event::open(&bench.at("state"), 1 << 20);
    tokio::spawn(spooling);
    outbox.bind(HOST.parse().unwrap()).await;
    (bench.desired, bench.reconciler) = open_telling(&bench.dir, events);
    let mut first = bench.release(1, "one\n");
    (first.spec.secrets, first.secrets) = (desired().spec.secrets, desired().secrets);
    bench.ask(&[&first]);
    let key: Key = (app(), "api".parse().unwrap());
    let mut standing = Standing {
        ok: false,
        answer: "wanted 200, got 500: the password hunter2 is wrong".to_owned(),
        failures: 2,
        passes: 0,
        took: Duration::ZERO,
        at_unix_ms: 0,
        left: None,
    };
    let (whom, never) = (Instance::Unit("mono.service".parse().unwrap()), Allowance::SpentUntil(i64::MAX));
    bench.reconciler.shared.restart_within(&key, &whom, (never, 0), &mut standing).await;
    let told = outbox.next().await.events;
    let spent: Vec<_> = told.iter().filter(|event| event.kind == EventKind::RestartsSpent).collect();
    let wanted = "check api fails (wanted 200, got 500: the password [secret] is wrong); the restart budget of ";
    assert!(spent.len() == 1 && spent[0].message.starts_with(wanted), "{told:?}");
}
