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

/// What a notification says, in short.
fn short(told: &serde_json::Value) -> String {
    let of = |alert: &serde_json::Value| {
        format!("{} {} {}", alert["labels"]["alert"], alert["labels"]["subject"], alert["status"]).replace('"', "")
    };
    let all: Vec<String> = told["alerts"].as_array().unwrap().iter().map(of).collect();
    format!("{}{}", all.join(", "), told["reason"].as_str().unwrap())
}

#[tokio::test]
async fn a_clock_that_is_set_changes_nothing() {
    for by_ms in [HOUR_MS, -HOUR_MS] {
        let receiver = Receiver::start(Mode::Answers(200)).await;
        let later = Receiver::start(Mode::Answers(200)).await;
        let settings = format!(
            "{}[notifiers.later]\ntype = \"webhook\"\nurl = \"{}\"\n[[routes]]\nnotify = [\"hook\"]\nrepeat = \"30m\"\n\
             escalate = [{{ after = \"20m\", notify = [\"later\"] }}]\n",
            hook(&receiver, ""),
            later.url
        );
        let world = World::new(3, &settings).await;
        world.says(0, vec![full("/")]);
        world.time.until(async || receiver.taken().len() == 1).await;
        world.time.passes(Duration::from_secs(70)).await;
        world.goes(1);
        world.time.passes(Duration::from_secs(10)).await;
        world.is_set_by(by_ms);
        world.goes(2);
        world.time.passes(Duration::from_secs(60)).await;
        assert_eq!((receiver.taken().len(), later.taken().len()), (1, 0), "{:?}", receiver.taken());
        world.says(0, vec![full("/"), full("/var")]);
        world.time.passes(Duration::from_secs(3)).await;
        world.says(0, vec![full("/var")]);
        world.time.passes(Duration::from_secs(180)).await;
        let mut told: Vec<String> = receiver.taken()[1..].iter().map(short).collect();
        told.sort();
        let unreachable = "unreachable null firing";
        let expected = ["disk /var firing", "disk / resolved", unreachable, unreachable];
        let mut expected: Vec<String> = expected.map(str::to_owned).into();
        expected.sort();
        assert_eq!((told, later.taken().len()), (expected, 0), "by {by_ms}");
        world.is_set_by(-by_ms);
        world.time.passes(Duration::from_secs(120)).await;
        assert_eq!((receiver.taken().len(), later.taken().len()), (5, 0), "and back: {:?}", receiver.taken());
    }
}

#[tokio::test]
async fn a_pause_between_attempts_is_as_long_as_it_was_and_a_silence_ends_by_the_clock() {
    for by_ms in [HOUR_MS, -HOUR_MS] {
        let receiver = Receiver::start(Mode::Answers(500)).await;
        let world = World::new(1, &hook(&receiver, "")).await;
        let now_ms = world.now_ms();
        for (id, subject, lasts) in [("s-1", "/short", HOUR_MS / 2), ("s-2", "/long", 2 * HOUR_MS)] {
            let silence = crate::store::StoredSilence {
                id: id.to_owned(),
                matchers: vec![format!("subject={subject}")],
                starts_ms: now_ms - 2 * HOUR_MS,
                ends_ms: now_ms + lasts,
                created_by: "ada".to_owned(),
                reason: "moving it".to_owned(),
            };
            world.kept.store.add_silence(&silence, 0, now_ms).await.unwrap();
        }
        world.alerts.read_silences().await.unwrap();
        world.says(0, vec![full("/"), full("/short"), full("/long")]);
        world.time.until(async || receiver.heard().len() == 4).await;
        world.is_set_by(by_ms);
        world.time.passes(Duration::from_secs(4)).await;
        assert_eq!(receiver.heard().len(), 4, "not at once");
        receiver.does(Mode::Answers(200));
        world.time.passes(Duration::from_secs(80)).await;
        let told: Vec<String> = receiver.taken().iter().map(short).collect();
        let silenced = (by_ms > 0).then(|| "disk /short firing".to_owned());
        let expected: Vec<String> = ["disk / firing".to_owned()].into_iter().chain(silenced).collect();
        assert_eq!(told, expected, "by {by_ms}");
    }
}
