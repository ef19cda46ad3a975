//! A ledger survives the disk; a damaged one is put aside.

use std::{fs, os::unix::fs::PermissionsExt as _};

use tempfile::TempDir;

use super::*;
use crate::render::tests::{desired, rendered};

#[test]
fn a_ledger_comes_back_as_it_was_and_only_root_reads_it() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("ledger")).unwrap();
    let ledgers = Ledgers::new(dir.path());
    let (desired, rendered) = (desired(), rendered(&desired()));
    let mut ledger = AppLedger::new(desired.spec.app.clone());
    for file in &rendered.files {
        ledger.claim(
            file,
            Some(Original { uid: 1, gid: 2, mode: 0o640 }),
            Some(AdoptedUnit { enabled: true, active: false }),
        );
    }
    ledger.activation = Some(Activation {
        desired: Some(desired.clone()),
        rollout: 7,
        started_unix_ms: 1,
        switched_unix_ms: Some(2),
        switched_at: None,
        touched: true,
        stage: Stage::Gating,
        hooks: BTreeSet::new(),
    });
    ledgers.save(&ledger).unwrap();
    assert_eq!(ledgers.load().unwrap().ledgers[&ledger.app], ledger);
    ledger.commit(&desired, &rendered, 3);
    ledgers.save(&ledger).unwrap();
    assert_eq!(ledgers.load().unwrap().ledgers[&ledger.app], ledger);
    let mode = fs::metadata(dir.path().join("ledger/mono.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    ledgers.remove(&ledger.app).unwrap();
    ledgers.remove(&ledger.app).unwrap();
    assert!(ledgers.load().unwrap().ledgers.is_empty());
}

#[test]
fn a_damaged_ledger_is_put_aside() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("ledger")).unwrap();
    fs::write(dir.path().join("ledger/mono.json"), "{").unwrap();
    assert!(Ledgers::new(dir.path()).load().unwrap().ledgers.is_empty());
    let kept = fs::read_dir(dir.path().join("ledger")).unwrap().next().unwrap().unwrap().file_name();
    assert!(kept.to_str().unwrap().starts_with("mono.json.damaged-"));
    let path = dir.path().join("ledger").join(kept);
    assert_eq!(Ledgers::new(dir.path()).damaged(), [("mono".parse().unwrap(), path)].into());
}

#[test]
fn a_ledger_of_another_app_is_put_aside() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("ledger")).unwrap();
    let ledgers = Ledgers::new(dir.path());
    ledgers.save(&AppLedger::new("mono".parse().unwrap())).unwrap();
    fs::copy(dir.path().join("ledger/mono.json"), dir.path().join("ledger/other.json")).unwrap();
    let loaded = ledgers.load().unwrap();
    assert_eq!(loaded.ledgers.keys().map(ToString::to_string).collect::<Vec<_>>(), ["mono"]);
    assert_eq!(loaded.set_aside.iter().map(|aside| aside.why.as_str()).collect::<Vec<_>>(), ["it is of app mono"]);
    assert!(loaded.ledgers.contains_key(&"mono".parse().unwrap()));
    let (app, aside) = ledgers.damaged().pop_first().unwrap();
    assert_eq!(app.as_str(), "other");
    ledgers.recovered(&aside).unwrap();
    assert!(ledgers.damaged().is_empty());
}

#[test]
fn a_commit_forgets_what_was_dropped_and_keeps_two_trees() {
    let (desired, rendered) = (desired(), rendered(&desired()));
    let mut ledger = AppLedger::new(desired.spec.app.clone());
    ledger.trees = vec!["old".to_owned(), "older".to_owned()];
    ledger.effects.insert("unit:gone.service".to_owned(), Digest::of(b"x"));
    ledger.owned_files.insert("/etc/gone".parse().unwrap(), OwnedFile { removed: true, ..OwnedFile::default() });
    ledger.commit(&desired, &rendered, 3);
    assert_eq!(ledger.trees, [rendered.tree.as_ref().unwrap().key.clone(), "old".to_owned()]);
    assert!(ledger.owned_files.is_empty());
    assert_eq!(ledger.effects.keys().filter(|key| key.contains("gone")).count(), 0);
}
