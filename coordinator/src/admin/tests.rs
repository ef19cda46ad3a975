//! A backup brings everything back, and nothing that is damaged gets in.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
};

use drover_proto::{digest::Digest, token::TokenKind};

use super::*;
use crate::{
    app::{self, App},
    rollout::{
        Kind, Wish,
        begin::{self, Sightings},
        state::Rollout,
    },
    store::{StoreError, TokenRefusal},
};

async fn started(dir: &StateDir) -> App {
    app::make_state_dir(dir).unwrap();
    App::open(dir, crate::ca::CLIENT_LIFE).await.unwrap()
}

fn ada() -> OperatorName {
    "ada".parse().unwrap()
}

const SHORT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_operator_is_added_beside_a_running_coordinator() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = StateDir(temporary.path().join("state"));
    let early = operator_add(&dir, &ada(), SHORT).err().unwrap().to_string();
    assert!(early.contains("start it once"), "{early}");
    let app = started(&dir).await;
    let word = operator_add(&dir, &ada(), SHORT).unwrap();
    let token = Token::parse(word.expose(), TokenKind::Login).unwrap();
    assert_eq!(token.ca_fingerprint, app.ca.fingerprint());
    let grant =
        app.store.check_token(TokenKind::Login, &token.id, token.secret.expose(), clock::unix_ms()).await.unwrap();
    assert_eq!(grant.operator, Some(ada()));
    assert!(app.store.audit(1).await.unwrap()[0].who.ends_with("(on the coordinator's machine)"));
    app.store.close().await;
}

/// A state directory with something of each kind in it, and its backup.
async fn backed_up(temporary: &Path) -> (StateDir, std::path::PathBuf, Digest) {
    let dir = StateDir(temporary.join("state"));
    let app = started(&dir).await;
    let name = "siliconflow".parse().unwrap();
    app.store.set_secret(&name, "", &Secret::new("hunter2".to_owned()), "ada", 1).await.unwrap();
    let digest = Digest::of(b"artifact");
    let mut incoming = app.blobs.begin(digest, 8, 0).await.unwrap();
    incoming.write(b"artifact").await.unwrap();
    incoming.finish().await.unwrap();
    let new = crate::store::NewToken {
        id: "t1",
        secret: b"correct",
        labels: &Default::default(),
        uses: 5,
        expires_ms: i64::MAX,
    };
    app.store.create_token(new, "ada", 1).await.unwrap();
    let strategy = drover_proto::strategy::Strategy::default();
    let wish = Wish {
        app: "mono".parse().unwrap(),
        kind: Kind::Apply,
        target: Some(1),
        strategy,
        by: "ada".to_owned(),
        once: false,
    };
    let sightings = Sightings::gather(&app.store, &crate::session::Sessions::new(1), &wish.app, &[]).await.unwrap();
    let rollout = begin::document(&wish, &[], &sightings, 1);
    app.store
        .create_rollout(&wish.app, "ada", "apply", 1, |id| serde_json::to_string(&Rollout { id, ..rollout }))
        .await
        .unwrap();
    app.store.record("ada", "last", "", 1).await.unwrap();
    let file = temporary.join("backup.tar");
    backup(&dir, &file).unwrap();
    // After the backup, so that it must be gone after the restore.
    app.store.record("ada", "later", "", 2).await.unwrap();
    app.store.close().await;
    (dir, file, digest)
}

/// Begins a rollout; answers its number.
async fn next_rollout(dir: &StateDir) -> u64 {
    let app = started(dir).await;
    assert!(app.store.active_rollouts().await.unwrap().is_empty());
    let mono = "mono".parse().unwrap();
    let id = app.store.create_rollout(&mono, "ada", "apply", 1, |_| Ok(String::new())).await.unwrap();
    app.store.close().await;
    id
}

#[tokio::test]
async fn a_backup_brings_everything_back() {
    let temporary = tempfile::tempdir().unwrap();
    let (dir, file, digest) = backed_up(temporary.path()).await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(backup(&dir, &file).err().unwrap().to_string().contains("exists already"));
    let fingerprint = Ca::load(&dir.ca()).unwrap().fingerprint();

    assert!(restore(&dir, &file, false).err().unwrap().to_string().contains("--force"));
    let held = app::lock(&dir).unwrap();
    let running = format!("{:#}", restore(&dir, &file, true).err().unwrap());
    assert!(running.contains("is running"), "{running}");
    drop(held);
    restore(&dir, &file, true).unwrap();
    let first = next_rollout(&dir).await;
    assert!(first > 1000, "{first} may have been used since the backup");
    // The same backup once more: what was begun in between is lost, too.
    restore(&dir, &file, true).unwrap();
    let second = next_rollout(&dir).await;
    assert!(second > first + 1000, "{second} after {first}");
    let aside = fs::read_dir(dir.path())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("before-restore-"));
    assert_eq!(aside.count(), 2);

    let elsewhere = StateDir(temporary.path().join("elsewhere"));
    let said = restore(&elsewhere, &file, false).unwrap();
    assert!(
        said.contains("revoked (1)") && said.contains("aborted (1)") && said.contains("drover operator list"),
        "{said}"
    );
    for dir in [dir, elsewhere] {
        assert_eq!(fs::metadata(dir.database()).unwrap().permissions().mode() & 0o777, 0o600);
        let app = App::open(&dir, crate::ca::CLIENT_LIFE).await.unwrap();
        assert_eq!(app.ca.fingerprint(), fingerprint);
        assert!(app.blobs.has(&digest));
        let ended = app.store.rollouts(None, 9).await.unwrap().pop().unwrap();
        assert!(ended.document.contains("the restore of a backup"), "{}", ended.document);
        let done: Vec<String> = app.store.audit(9).await.unwrap().into_iter().map(|line| line.action).collect();
        let done: Vec<&str> = done.iter().map(String::as_str).filter(|action| *action != "rollout begin").collect();
        assert_eq!(done[..2], ["restore", "last"]);
        let token = app.store.check_token(TokenKind::Join, "t1", b"correct", 2).await;
        assert!(matches!(token, Err(StoreError::Token(TokenRefusal::Revoked))), "{token:?}");
        let pin = crate::store::SecretPin::Stored {
            name: "siliconflow".parse().unwrap(),
            environment: String::new(),
            version: 1,
        };
        let value = app.store.secret_value(&"mono".parse().unwrap(), &"x".parse().unwrap(), &pin).await.unwrap();
        assert_eq!(value.expose(), "hunter2");
        app.store.record("ada", "works", "", 3).await.unwrap();
        app.store.close().await;
    }
}

#[tokio::test]
async fn a_damaged_backup_changes_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let (dir, file, digest) = backed_up(temporary.path()).await;
    let whole = fs::read(&file).unwrap();
    let at = whole.windows(8).position(|w| w == b"artifact").unwrap();
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    for (what, bytes) in [("cut off", &whole[..at]), ("one bit", &flipped[..]), ("no tar", b"hello"), ("empty", b"")] {
        fs::write(&file, bytes).unwrap();
        assert!(restore(&dir, &file, true).is_err(), "{what}");
        let app = App::open(&dir, crate::ca::CLIENT_LIFE).await.unwrap();
        assert_eq!(app.store.audit(1).await.unwrap()[0].action, "later", "{what}");
        assert!(app.blobs.has(&digest), "{what}");
        app.store.close().await;
    }
    assert!(
        !fs::read_dir(dir.path()).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with("restore-"))
    );
}

/// Gives a tree to a user.
fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), uid));
    }
}

#[tokio::test]
async fn root_does_in_the_state_directory_only_what_its_owner_may() {
    // Only root can step down.
    if uzers::get_effective_uid() != 0 {
        return;
    }
    const NOBODY: u32 = 65_534;
    let temporary = tempfile::tempdir().unwrap();
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (dir, _, _) = backed_up(temporary.path()).await;
    give(dir.path(), NOBODY);
    operator_add(&dir, &ada(), SHORT).unwrap();
    // Where only root may write, and from where only root may read.
    let private = temporary.path().join("root");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let file = private.join("backup.tar");
    backup(&dir, &file).unwrap();
    assert_eq!((fs::metadata(&file).unwrap().uid(), fs::read_dir(&private).unwrap().count()), (0, 1));

    // What a coordinator that was broken into might leave for root.
    let shadow = private.join("shadow");
    symlink(&shadow, dir.lock()).unwrap();
    assert!(restore(&dir, &file, true).is_err());
    assert!(!shadow.exists(), "it was made by root");
    fs::remove_file(dir.lock()).unwrap();
    fs::write(&shadow, "").unwrap();
    symlink(&shadow, dir.restoring()).unwrap();
    assert!(restore(&dir, &file, true).is_err());
    fs::remove_file(dir.restoring()).unwrap();

    restore(&dir, &file, true).unwrap();
    assert_eq!(fs::metadata(&shadow).unwrap().uid(), 0);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), NOBODY, "{}", entry.path().display());
    }
}
