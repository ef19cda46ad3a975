//! The store on real files: what each noun promises, and what never reaches the disk.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _};

use drover_proto::{
    app::SecretSource,
    name::{AppName, HostId, OperatorName, SecretName},
    secret::Secret,
    token::TokenKind,
};

use super::*;

mod certificates;
mod specs;

pub(crate) struct Temporary {
    dir: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Temporary {
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("coordinator.db")
    }

    /// Empties the log of writes, and answers where it is.
    pub(crate) async fn emptied_log(&self) -> std::path::PathBuf {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.store.write).await.unwrap();
        self.dir.path().join("coordinator.db-wal")
    }
}

pub(crate) async fn temporary() -> Temporary {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::create(&dir.path().join("secret.key")).unwrap();
    let store = Store::open(&dir.path().join("coordinator.db"), vault, Upgrade::Migrate).await.unwrap();
    Temporary { dir, store }
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn token<'a>(id: &'a str, labels: &'a BTreeMap<name::Key, name::Value>, uses: u32) -> NewToken<'a> {
    NewToken { id, secret: b"correct", labels, uses, expires_ms: 1000 }
}

/// Shorter names for the labels' types.
mod name {
    pub use drover_proto::name::{LabelKey as Key, LabelValue as Value};
}

fn new_host(id: &str, host: &str, serial: &str) -> NewHost {
    NewHost {
        id: name(id),
        name: name(host),
        agent_version: "0.1.0".to_owned(),
        serial: serial.to_owned(),
        not_after_ms: 9000,
    }
}

const A: &str = "h-000000000000000a";
const B: &str = "h-000000000000000b";

pub(crate) async fn enrolled(store: &Store) -> HostId {
    let labels = BTreeMap::from([(name("role"), name("web"))]);
    store.create_token(token("t1", &labels, 5), "ada", 1).await.unwrap();
    store.enroll_host("t1", b"correct", new_host(A, "web-1", "01"), 2).await.unwrap().id
}

#[tokio::test]
async fn an_empty_file_is_migrated_and_a_newer_one_refused() {
    let t = temporary().await;
    let path = t.dir.path().join("coordinator.db");
    for file in [path.clone(), path.with_added_extension("-wal"), t.dir.path().join("coordinator.db-wal")] {
        if let Ok(about) = fs::metadata(&file) {
            assert_eq!(about.permissions().mode() & 0o077, 0, "{}", file.display());
        }
    }
    t.store.close().await;
    let vault = || Vault::load(&t.dir.path().join("secret.key")).unwrap();
    Store::open(&path, vault(), Upgrade::Refuse).await.unwrap().close().await;
    let store = Store::open(&path, vault(), Upgrade::Migrate).await.unwrap();
    sqlx::query("INSERT INTO schema_version (version) VALUES (999)").execute(&store.write).await.unwrap();
    store.close().await;
    let newer = Store::open(&path, vault(), Upgrade::Migrate).await.err().unwrap();
    assert!(matches!(newer, StoreError::Version { found: 999, .. }), "{newer:?}");
    let missing = Store::open(&t.dir.path().join("other.db"), vault(), Upgrade::Refuse).await;
    assert!(matches!(missing.err(), Some(StoreError::Open { .. })));
    assert!(!t.dir.path().join("other.db").exists());
}

#[tokio::test]
async fn a_token_is_good_for_its_uses_and_its_time() {
    let t = temporary().await;
    let labels = BTreeMap::from([(name("role"), name("web"))]);
    t.store.create_token(token("t1", &labels, 2), "ada", 1).await.unwrap();
    let refused =
        async |id: &str, secret: &[u8], now_ms| match t.store.check_token(TokenKind::Join, id, secret, now_ms).await {
            Err(StoreError::Token(refusal)) => Some(refusal),
            Ok(_) => None,
            Err(other) => panic!("{other:?}"),
        };
    assert_eq!(refused("t1", b"correct", 999).await, None);
    assert_eq!(refused("t2", b"correct", 5).await, Some(TokenRefusal::Unknown));
    assert_eq!(refused("t1", b"wrong", 5).await, Some(TokenRefusal::Unknown));
    assert_eq!(refused("t1", b"correct", 1000).await, Some(TokenRefusal::Expired));

    let host = t.store.enroll_host("t1", b"correct", new_host(A, "web-1", "01"), 2).await.unwrap();
    assert_eq!((host.labels, host.enrolled_by.as_str()), (labels.clone(), "ada"));
    let again = t.store.enroll_host("t1", b"correct", new_host(B, "web-1", "02"), 3).await;
    assert!(matches!(again, Err(StoreError::Exists(_))), "a second host of the same name");
    t.store.enroll_host("t1", b"correct", new_host(B, "web-2", "02"), 4).await.unwrap();
    assert_eq!(refused("t1", b"correct", 5).await, Some(TokenRefusal::UsedUp));
    let third = t.store.enroll_host("t1", b"correct", new_host("h-000000000000000c", "web-3", "03"), 6).await;
    assert!(matches!(third, Err(StoreError::Token(TokenRefusal::UsedUp))));

    t.store.create_token(token("t2", &labels, 1), "ada", 1).await.unwrap();
    t.store.revoke_token("t2", "ada", 2).await.unwrap();
    assert_eq!(refused("t2", b"correct", 5).await, Some(TokenRefusal::Revoked));
    let states: Vec<String> = t.store.tokens(5).await.unwrap().into_iter().map(|t| t.state).collect();
    assert_eq!(states, ["used up", "revoked"]);
    assert!(matches!(t.store.revoke_token("t9", "ada", 2).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn one_use_serves_one_of_many_at_once() {
    let t = temporary().await;
    t.store.create_token(token("t1", &BTreeMap::new(), 1), "ada", 1).await.unwrap();
    let tries = (0..8).map(|i| {
        let store = t.store.clone();
        let new = new_host(&format!("h-000000000000000{i}"), &format!("web-{i}"), &format!("0{i}"));
        tokio::spawn(async move { store.enroll_host("t1", b"correct", new, 2).await.is_ok() })
    });
    let mut served = 0;
    for one in tries.collect::<Vec<_>>() {
        served += usize::from(one.await.unwrap());
    }
    assert_eq!((served, t.store.hosts().await.unwrap().len()), (1, 1));
}

#[tokio::test]
async fn an_operator_logs_in_once_and_is_revoked_for_good() {
    let t = temporary().await;
    let ada: OperatorName = name("ada");
    t.store.add_operator(&ada, "l1", b"login", 1000, "root", 1).await.unwrap();
    let login = |serial: &str| NewLogin { serial: serial.to_owned(), not_after_ms: 9000 };
    assert!(
        t.store.enroll_host("l1", b"login", new_host(A, "web-1", "01"), 2).await.is_err(),
        "a login enrolled a host"
    );
    assert_eq!(t.store.login_operator("l1", b"login", login("0a"), 2).await.unwrap(), ada);
    assert!(t.store.login_operator("l1", b"login", login("0b"), 3).await.is_err());
    assert!(t.store.live_operator(&ada, "0a", 8).await.unwrap());
    assert!(!t.store.live_operator(&name("bob"), "0a", 8).await.unwrap());
    t.store.add_operator(&ada, "l2", b"login", 1000, "root", 4).await.unwrap();
    let labels = BTreeMap::new();
    t.store.create_token(token("t1", &labels, 5), "ada", 4).await.unwrap();
    t.store.create_token(token("t2", &labels, 5), "bob", 4).await.unwrap();
    t.store.revoke_operator(&ada, "bob", 5).await.unwrap();
    let join = async |id| t.store.check_token(TokenKind::Join, id, b"correct", 6).await;
    assert!(matches!(join("t1").await, Err(StoreError::Token(TokenRefusal::Revoked))), "a token kept for later");
    join("t2").await.unwrap();
    assert!(!t.store.live_operator(&ada, "0a", 8).await.unwrap());
    assert!(t.store.login_operator("l2", b"login", login("0c"), 6).await.is_err(), "a revoked operator's token");
    t.store.add_operator(&ada, "l3", b"login", 1000, "root", 7).await.unwrap();
    assert!(!t.store.live_operator(&ada, "0a", 8).await.unwrap(), "a revoked certificate came back");
    let done: Vec<String> = t.store.audit(10).await.unwrap().into_iter().map(|a| a.action).collect();
    let done: Vec<&str> = done.iter().map(String::as_str).filter(|done| done.starts_with("operator")).collect();
    assert_eq!(done, ["operator add", "operator revoke", "operator add", "operator login", "operator add"]);
}

#[tokio::test]
async fn a_revoked_host_stays_listed_and_leaves_nothing_to_the_next() {
    let t = temporary().await;
    let id = enrolled(&t.store).await;
    t.store.set_app(&id, &name("mono"), Some(StoredApp::new(1, 1))).await.unwrap();
    t.store.save_report(&id, "{}", 6).await.unwrap();
    t.store.revoke_host(&id, "ada", 9).await.unwrap();
    assert!(!t.store.live_host(&id, "01").await.unwrap() && !t.store.is_welcome(&id).await.unwrap());
    assert!(t.store.hosts().await.unwrap().is_empty());
    assert_eq!(t.store.listed_hosts().await.unwrap()[0].revoked_ms, Some(9));
    assert!(t.store.hosts_of(&name("mono")).await.unwrap().is_empty());
    let wanted = Some(StoredApp::new(1, 1));
    assert!(matches!(t.store.set_app(&id, &name("mono"), wanted).await, Err(StoreError::NotFound(_))));
    t.store.revoke_host(&id, "ada", 10).await.unwrap();

    let labels = BTreeMap::from([(name("role"), name("db"))]);
    t.store.create_token(token("again", &labels, 1), "ada", 11).await.unwrap();
    let new = t.store.enroll_host("again", b"correct", new_host(B, "web-1", "02"), 12).await.unwrap();
    assert_eq!((new.labels, new.generation, new.accepted, new.revoked_ms), (labels, 0, 0, None));
    assert!(t.store.host(id.as_str()).await.unwrap().is_none() && t.store.report(&new.id).await.unwrap().is_none());
    assert!(t.store.spec(&new.id).await.unwrap().apps.is_empty());
    assert!(!t.store.live_host(&id, "01").await.unwrap() && !t.store.live_host(&new.id, "01").await.unwrap());
    assert!(t.store.live_host(&new.id, "02").await.unwrap());
}

#[tokio::test]
async fn a_host_is_found_reported_and_removed() {
    let t = temporary().await;
    let id = enrolled(&t.store).await;
    assert_eq!(t.store.host("web-1").await.unwrap().unwrap().id, id);
    assert!(t.store.host("web-9").await.unwrap().is_none());
    assert!(t.store.live_host(&id, "01").await.unwrap());
    assert!(!t.store.live_host(&id, "02").await.unwrap());
    t.store.set_hello(&id, "0.2.0", "Debian", 5).await.unwrap();
    t.store.save_report(&id, "{}", 6).await.unwrap();
    assert_eq!(t.store.report(&id).await.unwrap().unwrap().at_ms, 6);
    let host = t.store.host(A).await.unwrap().unwrap();
    assert_eq!((host.agent_version.as_str(), host.last_seen_ms), ("0.2.0", Some(6)));
    let labels = BTreeMap::from([(name("role"), name("db"))]);
    assert_eq!(t.store.set_labels(&id, &labels, "ada", 7).await.unwrap(), 1);
    assert_eq!(t.store.set_labels(&id, &labels, "ada", 8).await.unwrap(), 1, "nothing changed");
    t.store.set_app(&id, &name("mono"), Some(StoredApp::new(1, 1))).await.unwrap();
    t.store.remove_host(&id, "ada", 9).await.unwrap();
    assert!(t.store.host(A).await.unwrap().is_none());
    assert!(!t.store.live_host(&id, "01").await.unwrap());
    assert!(t.store.hosts_of(&name("mono")).await.unwrap().is_empty());
    assert!(matches!(t.store.remove_host(&id, "ada", 9).await, Err(StoreError::NotFound(_))));
    t.store.enroll_host("t1", b"correct", new_host(B, "web-1", "02"), 10).await.unwrap();
}

#[tokio::test]
async fn a_generation_grows_only_when_something_changes() {
    let t = temporary().await;
    let id = enrolled(&t.store).await;
    let mono: AppName = name("mono");
    let one = StoredApp::new(1, 1);
    assert_eq!(t.store.spec(&id).await.unwrap(), StoredSpec::default());
    assert_eq!(t.store.set_app(&id, &mono, None).await.unwrap(), 0);
    assert_eq!(t.store.set_app(&id, &mono, Some(one)).await.unwrap(), 1);
    assert_eq!(t.store.set_app(&id, &mono, Some(one)).await.unwrap(), 1);
    assert_eq!(t.store.set_app(&id, &mono, Some(StoredApp { paused: true, ..one })).await.unwrap(), 2);
    assert_eq!(t.store.set_app(&id, &name("other"), Some(one)).await.unwrap(), 3);
    assert_eq!(t.store.spec(&id).await.unwrap().apps.len(), 2);
    assert_eq!(t.store.hosts_of(&mono).await.unwrap()[&id], StoredApp { paused: true, ..one });
    let all = t.store.wanted().await.unwrap();
    assert_eq!(all.into_keys().collect::<Vec<_>>(), [mono.clone(), name("other")]);
    assert!(t.store.releases_on(&id).await.unwrap().is_empty(), "none is stored yet");
    t.store.put_release(&mono, "{}", "sha256:1", &SecretPins::new(), "ada", 1).await.unwrap();
    let on: Vec<_> = t.store.releases_on(&id).await.unwrap().into_values().map(|r| (r.app, r.number)).collect();
    assert_eq!(on, [(mono.clone(), 1)]);
    assert_eq!(t.store.set_app(&id, &mono, None).await.unwrap(), 4);
    t.store.set_accepted(&id, 4).await.unwrap();
    t.store.set_accepted(&id, 3).await.unwrap();
    assert_eq!(t.store.host(A).await.unwrap().unwrap().accepted, 4);
    assert_eq!(t.store.raise_generation(&id, 17).await.unwrap(), 17);
    assert_eq!(t.store.raise_generation(&id, 2).await.unwrap(), 17);
    assert!(t.store.set_app(&name(B), &mono, Some(one)).await.is_err());
}

#[tokio::test]
async fn a_release_that_is_the_same_keeps_its_number() {
    let t = temporary().await;
    let mono: AppName = name("mono");
    let none = SecretPins::new();
    let pinned = SecretPins::from([(name("key"), SecretPin::Generated { version: 1 })]);
    let put =
        async |digest: &str, pins: &SecretPins| t.store.put_release(&mono, "{}", digest, pins, "ada", 1).await.unwrap();
    assert_eq!(put("sha256:1", &none).await, 1);
    assert_eq!(put("sha256:1", &none).await, 1);
    assert_eq!(put("sha256:1", &pinned).await, 2, "other secrets");
    assert_eq!(put("sha256:2", &pinned).await, 3);
    assert_eq!(put("sha256:1", &none).await, 4, "only the newest counts");
    assert_eq!(t.store.last_good(&mono).await.unwrap(), None);
    t.store.mark_good(&mono, 3, 50).await.unwrap();
    t.store.mark_good(&mono, 2, 60).await.unwrap();
    assert_eq!(t.store.last_good(&mono).await.unwrap(), Some(2));
    let other: AppName = name("other");
    t.store.put_release(&other, "{}", "sha256:1", &none, "ada", 1).await.unwrap();
    let standings = [(mono.clone(), (4, Some(2))), (other.clone(), (1, None))];
    let standings = standings.map(|(app, (latest, last_good))| (app, Standing { latest, last_good }));
    assert_eq!(t.store.standings().await.unwrap(), standings.into());
    assert_eq!(t.store.release(&mono, 2).await.unwrap().unwrap().secrets, pinned);
    assert_eq!(t.store.releases(&mono).await.unwrap()[0].number, 4);
    assert_eq!(t.store.apps().await.unwrap(), [mono, other]);
}

#[tokio::test]
async fn rollouts_are_numbered_saved_and_ended() {
    let t = temporary().await;
    let mono: AppName = name("mono");
    let id =
        t.store.create_rollout(&mono, "ada", "apply of mono/1", 5, |id| Ok(format!("{{\"id\":{id}}}"))).await.unwrap();
    assert_eq!(t.store.rollout(id).await.unwrap().unwrap().document, "{\"id\":1}");
    assert_eq!(t.store.create_rollout(&name("other"), "ada", "apply", 5, |_| Ok("{}".to_owned())).await.unwrap(), 2);
    let end = RolloutEnd { app: &mono, who: "ada", state: "failed", reason: Some("web-1 is ill") };
    t.store.save_rollout(id, "{\"done\":1}", false, Some(end), 9).await.unwrap();
    let told = t.store.events_before(&EventFilter { app: Some(mono.clone()), ..EventFilter::default() }, 99, 9).await;
    let told: Vec<String> = told.unwrap().into_iter().map(|event| event.message).collect();
    assert_eq!(told, ["rollout 1: apply of mono/1, by ada", "rollout 1: failed: web-1 is ill"]);
    let audit: Vec<String> =
        t.store.audit(9).await.unwrap().into_iter().map(|a| format!("{} {}", a.action, a.subject)).collect();
    assert!(audit.contains(&"rollout begin 1: apply of mono/1".to_owned()), "{audit:?}");
    assert!(audit.contains(&"rollout end 1 (mono): failed".to_owned()), "{audit:?}");
    assert_eq!(t.store.active_rollouts().await.unwrap().len(), 1);
    assert_eq!(t.store.rollout(id).await.unwrap().unwrap().ended_ms, Some(9));
    assert_eq!(t.store.rollouts(Some(&mono), 9).await.unwrap().len(), 1);
    assert_eq!(t.store.rollouts(None, 9).await.unwrap()[0].id, 2);
    assert!(t.store.save_rollout(7, "{}", true, None, 1).await.is_err());
}

#[tokio::test]
async fn secrets_are_versioned_and_never_on_disk_in_the_clear() {
    let t = temporary().await;
    let (mono, staging): (AppName, AppName) = (name("mono"), name("mono@staging"));
    let api: SecretName = name("siliconflow");
    let value = |text: &str| Secret::new(text.to_owned());
    t.store.set_secret(&api, "", &value("plaintext-one"), "ada", 1).await.unwrap();
    assert_eq!(t.store.set_secret(&api, "", &value("plaintext-two"), "ada", 2).await.unwrap(), 2);
    t.store.set_secret(&api, "staging", &value("plaintext-staging"), "ada", 3).await.unwrap();
    let sources = BTreeMap::from([
        (name::<SecretName>("api"), SecretSource::Stored(api.clone())),
        (name::<SecretName>("key"), SecretSource::Generate(32)),
    ]);
    let pins = t.store.pin_secrets(&mono, &sources, 4).await.unwrap();
    assert_eq!(pins, t.store.pin_secrets(&mono, &sources, 5).await.unwrap());
    let values = t.store.secret_values(&mono, &pins).await.unwrap();
    assert_eq!(values[&name::<SecretName>("api")].expose(), "plaintext-two");
    let generated = values[&name::<SecretName>("key")].expose().clone();
    assert_eq!(generated.len(), 64);
    let staged = t.store.pin_secrets(&staging, &sources, 4).await.unwrap();
    let staged = t.store.secret_values(&staging, &staged).await.unwrap();
    assert_eq!(staged[&name::<SecretName>("api")].expose(), "plaintext-staging");
    assert_ne!(staged[&name::<SecretName>("key")].expose(), &generated);

    t.store.remove_secret(&api, "", "ada", 6).await.unwrap();
    let missing = t.store.pin_secrets(&mono, &sources, 7).await.err().unwrap();
    assert!(matches!(&missing, StoreError::SecretMissing(names) if names == &["siliconflow"]), "{missing:?}");
    assert_eq!(t.store.secret_values(&mono, &pins).await.unwrap().len(), 2, "an old release lost its secret");
    assert_eq!(t.store.secrets().await.unwrap().len(), 1);
    assert_eq!(t.store.set_secret(&api, "", &value("plaintext-three"), "ada", 8).await.unwrap(), 3);

    t.store.create_token(token("t1", &BTreeMap::new(), 1), "ada", 1).await.unwrap();
    let mut bytes = Vec::new();
    for entry in fs::read_dir(t.dir.path()).unwrap() {
        bytes.extend(fs::read(entry.unwrap().path()).unwrap());
    }
    for hidden in ["plaintext-", &generated, "correct"] {
        assert!(!bytes.windows(hidden.len()).any(|w| w == hidden.as_bytes()), "{hidden} is on disk");
    }
}

#[tokio::test]
async fn a_sealed_value_opens_only_in_its_own_place() {
    let t = temporary().await;
    let (one, two): (SecretName, SecretName) = (name("one"), name("two"));
    t.store.set_secret(&one, "", &Secret::new("first".to_owned()), "ada", 1).await.unwrap();
    t.store.set_secret(&two, "", &Secret::new("second".to_owned()), "ada", 1).await.unwrap();
    sqlx::query("UPDATE secrets SET value = (SELECT value FROM secrets WHERE name = 'one') WHERE name = 'two'")
        .execute(&t.store.write)
        .await
        .unwrap();
    let pin = SecretPin::Stored { name: two.clone(), environment: String::new(), version: 1 };
    assert!(matches!(t.store.secret_value(&name("mono"), &two, &pin).await, Err(StoreError::Vault(_))));
}

#[tokio::test]
async fn numbers_that_a_host_tells_of_are_not_given_again() {
    let t = temporary().await;
    let (mono, other): (AppName, AppName) = (name("mono"), name("other"));
    let report = |release: u64, rollout: u64| -> drover_proto::status::HostStatus {
        serde_json::from_value(serde_json::json!({
            "generation": 9, "observed_unix_ms": 0, "boot_id": "", "apps": { "mono": {
                "desired": { "app": "mono", "number": release }, "rollout": rollout, "running": null,
                "phase": { "state": "pending" }, "parts": [], "failure": null,
            } },
        }))
        .unwrap()
    };
    let put = async |app: &AppName, spec: &str| {
        t.store.put_release(app, spec, spec, &SecretPins::new(), "ada", 1).await.unwrap()
    };
    assert_eq!(put(&mono, "one").await, 1);
    assert_eq!(t.store.create_rollout(&mono, "ada", "apply", 1, |_| Ok(String::new())).await.unwrap(), 1);
    t.store.see_numbers(&report(46, 70)).await.unwrap();
    t.store.see_numbers(&report(45, 69)).await.unwrap();
    assert_eq!(put(&mono, "one").await, 1, "the same is the same");
    assert_eq!(t.store.next_release(&mono).await.unwrap(), 47);
    assert_eq!((put(&mono, "two").await, put(&mono, "three").await), (47, 48));
    assert_eq!(put(&other, "one").await, 1);
    assert_eq!(t.store.create_rollout(&mono, "ada", "apply", 1, |_| Ok(String::new())).await.unwrap(), 71);
    assert_eq!(t.store.create_rollout(&mono, "ada", "apply", 1, |_| Ok(String::new())).await.unwrap(), 72);
    t.store.see_numbers(&report(u64::MAX, u64::MAX)).await.unwrap();
    assert_eq!(t.store.next_release(&mono).await.unwrap(), 49, "nonsense counts for nothing");
}
