//! What becomes of documents: new, old, replayed, conflicting, foreign, broken.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const HOST: &str = "h-0123456789abcdef";

fn document(generation: u64, apps: Value) -> Vec<u8> {
    json!({ "host": HOST, "host_name": "web-1", "labels": {}, "generation": generation, "apps": apps })
        .to_string()
        .into_bytes()
}

fn app(name: &str, unit: &str) -> Value {
    let spec = json!({
        "app": name, "targets": { "role": "web" }, "host": { "packages": [], "users": [], "directories": [] },
        "strategy": serde_json::to_value(drover_proto::strategy::Strategy::default()).unwrap(),
        "artifact": null, "env": {}, "secrets": {}, "files": [], "hooks": [], "checks": {},
        "units": { unit: { "text": [{ "text": "[Service]\nExecStart=/bin/true\n" }], "enable": true, "start": true, "adopt": false } },
    });
    json!({ "release": { "app": name, "number": 1 }, "rollout": 1, "paused": false, "spec": spec, "secrets": {} })
}

fn open() -> (TempDir, Desired, HostId) {
    let dir = TempDir::new().unwrap();
    let desired = Desired::open(dir.path(), &[]).unwrap();
    (dir, desired, HOST.parse().unwrap())
}

#[test]
fn documents_are_judged_by_generation_and_content() {
    let (dir, desired, host) = open();
    let table = [
        (document(3, json!({})), Outcome::Accepted, 3),
        (document(3, json!({})), Outcome::Duplicate, 3),
        (document(3, json!({ "mono": app("mono", "mono.service") })), Outcome::Conflict, 3),
        (document(2, json!({})), Outcome::Stale, 3),
        (document(4, json!({ "mono": app("mono", "mono.service") })), Outcome::Accepted, 4),
        (b"{".to_vec(), Outcome::Invalid, 4),
    ];
    for (bytes, outcome, generation) in table {
        let answer = desired.accept(&bytes, &host);
        assert_eq!((answer.outcome, answer.generation), (outcome, generation), "{}", answer.message);
    }
    let again = Desired::open(dir.path(), &[]).unwrap();
    assert_eq!(again.held(&host), desired.held(&host));
    assert_eq!(again.subscribe().borrow().as_ref().unwrap().apps.len(), 1);
}

#[test]
fn what_breaks_a_rule_is_refused_with_the_reason() {
    let (_dir, desired, host) = open();
    let mut unknown = app("mono", "mono.service");
    unknown["spec"]["canary"] = json!(1);
    let mut no_secret = app("mono", "mono.service");
    no_secret["spec"]["secrets"] = json!({ "KEY": { "generate": 32 } });
    let table = [
        (json!({ "mono": unknown }), "canary"),
        (json!({ "mono": no_secret }), "secret KEY is missing"),
        (json!({ "a": app("a", "x.service"), "b": app("b", "x.service") }), "claimed by both a and b"),
        (json!({ "other": app("mono", "x.service") }), "another app"),
    ];
    for (apps, want) in table {
        let answer = desired.accept(&document(1, apps), &host);
        assert_eq!(answer.outcome, Outcome::Invalid);
        assert!(answer.message.contains(want), "{} / {want}", answer.message);
    }
    let foreign: HostId = "h-ffffffffffffffff".parse().unwrap();
    assert_eq!(desired.accept(&document(1, json!({})), &foreign).outcome, Outcome::Invalid);
    assert_eq!(desired.held(&host), (0, None));
}

#[test]
fn a_host_that_was_enrolled_anew_takes_the_spec_of_its_new_id() {
    let (dir, desired, old) = open();
    assert_eq!(desired.accept(&document(57, json!({})), &old).outcome, Outcome::Accepted);
    let new: HostId = "h-ffffffffffffffff".parse().unwrap();
    assert_eq!(desired.held(&new), (0, None));
    assert_eq!(desired.accept(&document(58, json!({})), &new).outcome, Outcome::Invalid, "for the old id");
    let text = String::from_utf8(document(1, json!({}))).unwrap().replace(HOST, new.as_str());
    let answer = desired.accept(text.as_bytes(), &new);
    assert_eq!((answer.outcome, answer.generation), (Outcome::Accepted, 1), "{}", answer.message);
    assert_eq!(desired.accept(text.as_bytes(), &new).outcome, Outcome::Duplicate);
    for desired in [&desired, &Desired::open(dir.path(), &[]).unwrap()] {
        assert_eq!((desired.held(&new).0, desired.held(&old)), (1, (0, None)));
    }
}

#[test]
fn what_cannot_be_kept_is_neither_held_nor_refused_for_ever() {
    let (dir, desired, host) = open();
    let away = dir.path().with_extension("away");
    fs::rename(dir.path(), &away).unwrap();
    let answer = desired.accept(&document(1, json!({})), &host);
    assert_eq!((answer.outcome, answer.generation), (Outcome::Unkept, 0));
    assert!(answer.message.starts_with("cannot keep it: "), "{}", answer.message);
    assert!(desired.subscribe().borrow().is_none());
    fs::rename(&away, dir.path()).unwrap();
    assert_eq!(desired.accept(&document(1, json!({})), &host).outcome, Outcome::Accepted);
}

#[test]
fn a_damaged_file_is_put_aside() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("desired.json"), "{\"host\":").unwrap();
    let desired = Desired::open(dir.path(), &[]).unwrap();
    let host = HOST.parse().unwrap();
    assert_eq!(desired.held(&host), (0, None));
    let names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() == 1 && names[0].starts_with("desired.json.damaged-"), "{names:?}");
    assert_eq!(desired.accept(&document(1, json!({})), &host).outcome, Outcome::Accepted);
}

#[test]
fn what_a_spec_keeps_is_put_in_and_survives_the_disk() {
    let (dir, desired, host) = open();
    let mut both = json!({ "mono": app("mono", "mono.service"), "other": app("other", "other.service") });
    both["other"]["paused"] = json!(true);
    assert_eq!(desired.accept(&document(3, both), &host).outcome, Outcome::Accepted);
    let keeping = |generation: u64, apps: Value| {
        let mut document: Value = serde_json::from_slice(&document(generation, apps)).unwrap();
        document["keep"] = json!(["other", "unheard-of"]);
        document.to_string().into_bytes()
    };
    let sent = keeping(4, json!({}));
    assert_eq!(desired.accept(&sent, &host).outcome, Outcome::Accepted);
    for desired in [&desired, &Desired::open(dir.path(), std::slice::from_ref(&host)).unwrap()] {
        let spec = desired.subscribe().borrow().clone().unwrap();
        assert_eq!(spec.apps.keys().map(ToString::to_string).collect::<Vec<_>>(), ["other"]);
        assert_eq!(spec.keep.len(), 2);
        assert!(spec.apps.values().all(|app| !app.paused), "nobody knows the rollout that paused it");
        assert_eq!(desired.held(&host), (4, Some(Digest::of(&sent))));
        assert_eq!(desired.accept(&sent, &host).outcome, Outcome::Duplicate);
    }
    // Nothing may be both, nor claim what a kept app has.
    let table = [
        ("other", "other.service", "is to be changed and to be kept"),
        ("mono", "other.service", "is claimed by both"),
    ];
    for (name, unit, said) in table {
        let answer = desired.accept(&keeping(5, json!({ name: app(name, unit) })), &host);
        assert_eq!(answer.outcome, Outcome::Invalid);
        assert!(answer.message.contains(said), "{}", answer.message);
    }
}

#[test]
fn a_file_of_another_host_is_put_aside() {
    let (dir, desired, host) = open();
    desired.accept(&document(3, json!({ "mono": app("mono", "mono.service") })), &host);
    assert_eq!(host_on_disk(dir.path()), Some(host.clone()));
    let (new, foreign): (HostId, HostId) =
        ("h-1111111111111111".parse().unwrap(), "h-2222222222222222".parse().unwrap());
    // Enrolled anew, with the old spec left behind.
    assert_eq!(Desired::open(dir.path(), &[host.clone(), new.clone()]).unwrap().held(&host).0, 3);
    let desired = Desired::open(dir.path(), &[foreign]).unwrap();
    assert!(desired.set_aside().unwrap().contains("it is of host h-0123456789abcdef"), "{:?}", desired.set_aside());
    assert!(desired.subscribe().borrow().is_none() && host_on_disk(dir.path()).is_none());
}
