//! Clocks that are wrong: those of hosts, and the coordinator's own.

use super::*;

const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn escalation_counts_by_the_coordinators_clock() {
    let receiver = Receiver::start(Mode::Answers(200)).await;
    let settings = hook(&receiver, "[[routes]]\nescalate = [{ after = \"10s\", notify = [\"hook\"] }]\n");
    let mut world = World::new(3, &settings).await;
    let now_ms = world.now_ms();
    for (host, since_unix_ms) in [0, now_ms + 24 * HOUR_MS, now_ms].into_iter().enumerate() {
        let path = format!("/{host}");
        world.says(host, vec![AlertStatus { since_unix_ms, ..full(&path) }]);
    }
    world.time.passes(Duration::from_secs(6)).await;
    assert!(receiver.heard().is_empty(), "what one host says of long ago does not hurry it: {:?}", receiver.heard());
    let since = |alerts: &Alerts, now_ms| -> Vec<i64> {
        alerts.views(now_ms).iter().map(|alert| alert.since_unix_ms).collect()
    };
    let shown = since(&world.alerts, now_ms + 60_000);
    assert!(shown.iter().all(|since| *since < now_ms + 6_000), "none began in the future: {shown:?}");
    world.starts_again(&settings).await;
    (0..3).for_each(|host| world.says(host, vec![full(&format!("/{host}"))]));
    world.time.until(async || !receiver.heard().is_empty()).await;
    world.time.passes(Duration::from_secs(1)).await;
    let heard = receiver.heard();
    assert_eq!((heard.len(), &heard[0]["firing"]), (1, &3.into()), "all at their time, also over a start: {heard:#?}");
}
