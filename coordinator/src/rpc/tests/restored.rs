//! A coordinator that was restored from an older backup, and a host that comes back when something has been asked of it
//! meanwhile: whoever has counted further, what was asked is sent, and nothing else goes back.

use drover_proto::{
    digest::Digest,
    name::{AppName, Generation, HostId},
    wire::{HeldApp, Hello, HostSpecDocument, SpecAck, from_agent, spec_ack::Outcome},
};

use super::{
    hostile::{Liar, detail},
    *,
};
use crate::store::StoredApp;

fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

fn held(app: &str, release: u64, rollout: u64) -> HeldApp {
    HeldApp { app: app.to_owned(), release, rollout }
}

fn named(name: &str) -> AppSpec {
    let mut one = spec("one");
    one.app = app(name);
    one.files[0].path = format!("/etc/{name}.conf").parse().unwrap();
    one
}

fn words<'a>(apps: impl IntoIterator<Item = &'a AppName>) -> Vec<&'a str> {
    apps.into_iter().map(AppName::as_str).collect()
}

/// A world in which web-1 has `mono` and `blog`, and that was backed up then.
struct Restored {
    world: World,
    identity: Identity,
    id: HostId,
    /// In the backup.
    generation: Generation,
}

impl Restored {
    async fn new() -> Self {
        let mut world = World::new().await;
        let identity = world.host("web-1", "web").await;
        world.connect(identity.clone(), fate(|_| healthy())).await;
        for name in ["mono", "blog"] {
            let started = world.apply(&named(name)).await.unwrap();
            assert_eq!(world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
        }
        let host = loop {
            let host = detail(&mut world).await.host;
            if host.generation_accepted == host.generation {
                break host;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let all = Self { world, identity, id: host.id, generation: host.generation };
        // The played agent ends when another stream takes its place; then the host is away.
        drop(all.comes(Hello { generation: all.generation, ..Hello::default() }).await);
        while !all.world.services.sessions.connected().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        all.restore().await;
        all
    }
    async fn restore(&self) {
        // The clock was ahead: what comes later is newer all the same.
        self.world.app.store.seem_restored(clock::unix_ms() + 3_600_000).await;
    }
    /// As a rollout does while the host is away: the same release for another rollout is a change.
    async fn ask(&self, name: &str, rollout: u64) -> Generation {
        let wanted = Some(StoredApp::new(1, rollout));
        self.world.app.store.set_app(&self.id, &app(name), wanted).await.unwrap()
    }
    async fn comes(&self, hello: Hello) -> Liar {
        let mut host = Liar::new(&self.world, &self.identity, hello).await.unwrap();
        host.welcome().await;
        host
    }
    async fn kept(&mut self) -> Vec<String> {
        detail(&mut self.world).await.host.kept.iter().map(ToString::to_string).collect()
    }
}

fn read_spec(document: &HostSpecDocument) -> HostSpec {
    serde_json::from_slice(&document.document_json).unwrap()
}

#[tokio::test]
async fn whoever_has_counted_further_only_what_was_asked_is_sent() {
    // How many changes were made while the host was away; it had made three before.
    for (asked, digest) in [(1, "sha256:lost"), (3, "sha256:lost"), (3, ""), (6, "sha256:lost")] {
        let mut all = Restored::new().await;
        for rollout in 0..asked {
            all.ask("blog", 50 + rollout).await;
        }
        let apps = vec![held("mono", 5, 9), held("blog", 4, 10), held("other", 3, 8)];
        let generation = all.generation + 3;
        let hello = Hello { generation, spec_digest: digest.to_owned(), apps, ..Hello::default() };
        let mut host = all.comes(hello.clone()).await;
        let first = host.spec().await.unwrap();
        let sent = read_spec(&first);
        assert!(sent.generation > generation, "{asked}: {} is stale", sent.generation);
        assert_eq!((words(sent.apps.keys()), words(&sent.keep)), (vec!["blog"], vec!["mono", "other"]), "{asked}");
        assert_eq!(sent.apps[&app("blog")].rollout, 49 + asked);
        assert_eq!(all.kept().await, ["mono", "other"]);

        // The connection breaks before it has taken that; then it comes back with it.
        let mut host = all.comes(hello).await;
        assert_eq!(read_spec(&host.spec().await.unwrap()), sent, "{asked}");
        let ack = SpecAck { generation: sent.generation, outcome: Outcome::Accepted as i32, message: String::new() };
        host.say(from_agent::Message::SpecAck(ack)).await;
        let apps = vec![held("mono", 5, 9), held("blog", 1, 49 + asked), held("other", 3, 8)];
        let spec_digest = Digest::of(&first.document_json).to_string();
        all.comes(Hello { generation: sent.generation, spec_digest, apps, ..Hello::default() }).await;
        assert_eq!(all.kept().await, ["mono", "other"]);
        all.ask("mono", 60).await;
        assert_eq!(all.kept().await, ["other"], "asked for now");
    }
}

#[tokio::test]
async fn a_host_that_was_behind_when_the_backup_was_made_gets_what_waited_for_it() {
    let mut all = Restored::new().await;
    // Half of it had not reached the host, and it has not been back since.
    let hello = Hello { generation: all.generation - 1, apps: vec![held("mono", 1, 1)], ..Hello::default() };
    let mut host = all.comes(hello).await;
    let sent = read_spec(&host.spec().await.unwrap());
    assert_eq!((sent.generation, words(sent.apps.keys()), sent.keep.len()), (all.generation, vec!["blog", "mono"], 0));
    assert!(all.kept().await.is_empty());
    // Once compared it is a host like any other: what it holds is what was sent.
    assert_eq!(all.world.app.store.uncompared_since(&all.id).await.unwrap(), None);
    all.restore().await;
    assert!(all.world.app.store.uncompared_since(&all.id).await.unwrap().is_some(), "and once more after the next");
}

#[tokio::test]
async fn a_host_that_lost_apps_since_the_backup_does_not_get_them_back() {
    for (asked, apps) in [(0, vec![]), (5, vec![]), (5, vec![held("mono", 1, 1)])] {
        let all = Restored::new().await;
        for rollout in 0..asked {
            all.ask("mono", 50 + rollout).await;
        }
        let mut host = all.comes(Hello { generation: all.generation + 2, apps, ..Hello::default() }).await;
        let sent = read_spec(&host.spec().await.unwrap());
        let expected = if asked == 0 { (vec![], vec!["blog", "mono"]) } else { (vec!["mono"], vec!["blog"]) };
        assert_eq!((words(sent.apps.keys()), words(&sent.keep)), expected, "{asked}");
    }
}

#[tokio::test]
async fn an_agent_that_names_no_apps_keeps_its_spec_until_something_is_asked() {
    let mut all = Restored::new().await;
    let labels = |value: &str| LabelHostRequest {
        host: "web-1".to_owned(),
        set: [("ring".to_owned(), value.to_owned())].into(),
        remove: vec![],
    };
    for value in ["1", "2", "3"] {
        all.world.operator.label_host(labels(value)).await.unwrap();
    }
    let older = Hello { protocol_version: 1, generation: all.generation + 1, ..Hello::default() };
    for _ in 0..2 {
        let mut host = all.comes(older.clone()).await;
        let nothing = tokio::time::timeout(Duration::from_millis(300), host.spec()).await;
        assert!(nothing.is_err(), "an older spec was sent");
    }
    let mut host = all.comes(older).await;
    let generation = all.ask("blog", 50).await;
    all.world.services.sessions.spec_changed(&all.id);
    let sent = read_spec(&host.spec().await.unwrap());
    assert_eq!((sent.generation, sent.keep.len()), (generation, 0), "it could not read what it is to keep");
}

#[tokio::test]
async fn a_host_that_is_drained_while_it_is_away_loses_what_is_known() {
    let all = Restored::new().await;
    let drained = all.world.app.store.drain_host(&all.id, "ada", clock::unix_ms()).await.unwrap();
    let apps = vec![held("mono", 5, 9), held("blog", 1, 2), held("other", 3, 8)];
    let mut host = all.comes(Hello { generation: drained + 4, apps, ..Hello::default() }).await;
    let sent = read_spec(&host.spec().await.unwrap());
    assert_eq!((words(sent.apps.keys()), words(&sent.keep)), (vec![], vec!["other"]));
}

#[tokio::test]
async fn what_was_proved_before_the_backup_is_given_to_no_host_that_is_still_to_be_compared() {
    let mut all = Restored::new().await;
    let store = all.world.app.store.clone();
    let fill = all.world.services.rollouts.clone();
    // The backup is older than the labels by which the host got a newer release.
    store.set_app(&all.id, &app("mono"), None).await.unwrap();
    all.restore().await;
    fill.fill_in(&all.id).await.unwrap();
    assert_eq!(words(store.spec(&all.id).await.unwrap().apps.keys()), ["blog"], "it may hold a newer one");
    let apps = vec![held("mono", 5, 9), held("blog", 1, 2)];
    let mut host = all.comes(Hello { generation: all.generation + 4, apps, ..Hello::default() }).await;
    let sent = read_spec(&host.spec().await.unwrap());
    assert_eq!((words(sent.apps.keys()), words(&sent.keep)), (vec!["blog"], vec!["mono"]));
    fill.fill_in(&all.id).await.unwrap();
    assert_eq!(all.kept().await, ["mono"]);

    // A host that is enrolled after the restore holds nothing that could be lost.
    let new = all.world.host("web-2", "web").await;
    let mut host = Liar::new(&all.world, &new, Hello::default()).await.unwrap();
    assert_eq!(words(read_spec(&host.spec().await.unwrap()).apps.keys()), ["blog", "mono"]);
}

#[tokio::test]
async fn what_was_proved_after_the_restore_is_given_to_every_host_whatever_the_clock_said() {
    let mut all = Restored::new().await;
    let store = all.world.app.store.clone();
    let label = |role: &str| LabelHostRequest {
        host: "web-1".to_owned(),
        set: [("role".to_owned(), role.to_owned())].into(),
        remove: vec![],
    };
    all.world.operator.label_host(label("other")).await.unwrap();
    store.set_app(&all.id, &app("mono"), None).await.unwrap();
    all.restore().await;
    let new = all.world.host("web-2", "web").await;
    all.world.connect(new, fate(|_| healthy())).await;
    let started = all.world.apply(&spec("two")).await.unwrap();
    assert_eq!(all.world.end(started.rollout_id).await.summary.state, RolloutState::Succeeded);
    all.world.operator.label_host(label("web")).await.unwrap();
    all.world.services.rollouts.fill_in(&all.id).await.unwrap();
    assert_eq!(store.spec(&all.id).await.unwrap().apps[&app("mono")].rollout, started.rollout_id);
}

#[tokio::test]
async fn an_app_that_was_paused_after_the_backup_goes_on() {
    let mut all = Restored::new().await;
    // The same release of the same rollout, paused since.
    let apps = vec![held("mono", 1, 1), held("blog", 1, 2)];
    let (generation, spec_digest) = (all.generation + 1, "sha256:lost".to_owned());
    let mut host = all.comes(Hello { generation, spec_digest, apps, ..Hello::default() }).await;
    let sent = tokio::time::timeout(Duration::from_secs(10), host.spec()).await.expect("it stands still").unwrap();
    let sent = read_spec(&sent);
    assert_eq!((sent.generation, sent.keep.len()), (generation + 1, 0));
    assert!(sent.apps.len() == 2 && sent.apps.values().all(|app| !app.paused), "{sent:?}");
    assert!(all.kept().await.is_empty());
}

#[tokio::test]
async fn a_host_is_not_compared_with_a_spec_that_cannot_be_read() {
    let all = Restored::new().await;
    // Of the generation that the host holds, and not there.
    let generation = all.world.app.store.set_app(&all.id, &app("mono"), Some(StoredApp::new(99, 9))).await.unwrap();
    let apps = vec![held("mono", 1, 1), held("blog", 1, 2)];
    let hello = Hello { generation, spec_digest: "sha256:lost".to_owned(), apps, ..Hello::default() };
    let mut host = Liar::new(&all.world, &all.identity, hello).await.unwrap();
    let status = host.incoming.message().await.unwrap_err();
    assert_eq!(code::of_status(&status), Some(Code::Store), "{status:?}");
    assert!(all.world.app.store.uncompared_since(&all.id).await.unwrap().is_some());
}
