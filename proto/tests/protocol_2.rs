//! What was said in protocol 2 is read by this version, and has in it what protocol 2 brought.

mod captured;

use std::collections::BTreeSet;

use drover_proto::{
    app::{AppSpec, Drift},
    source::Source,
};

#[test]
fn all_of_protocol_2_is_read() {
    let heard = captured::read_all(2);
    assert!(heard.hellos.iter().all(|hello| (hello.protocol_version, hello.min_protocol_version) == (2, 1)));
    assert!(heard.welcomes.iter().all(|welcome| welcome.protocol_version == 2 && welcome.takes_events));
    assert!(
        heard.hellos.len() > 3 && heard.hellos.iter().any(|hello| !hello.apps.is_empty()),
        "streams that come again"
    );
    let words = ["ack", "report", "plan", "log line", "job done", "events", "welcome", "spec", "plan job"];
    for word in words.into_iter().chain(["logs job", "hook logs job", "cancel", "events ack", "renew"]) {
        assert!(heard.words.contains_key(word), "{word}: {:?}", heard.words);
    }
    let kinds: BTreeSet<String> = heard.events.iter().map(|event| event.kind.to_string()).collect();
    for kind in ["agent-started", "drift-found", "drift-repaired", "unit-restarted", "certificate-renewed"] {
        assert!(kinds.contains(kind), "{kind}: {kinds:?}");
    }
    for kind in ["activation-started", "activation-committed", "activation-reverted", "app-removed"] {
        assert!(kinds.contains(kind), "{kind}: {kinds:?}");
    }
    assert!(heard.fetches.iter().any(|fetch| fetch.offset > 0) && heard.pushes.iter().any(|push| push.offset > 0));
    assert!(heard.enrolments.iter().all(|enrolment| enrolment.protocol_version == 2));
    assert!(heard.certificates.iter().any(|renewed| !renewed.ca_der_more.is_empty()), "while a CA is changed");
    let specs = || heard.specs.iter().flat_map(|spec| spec.apps.values());
    assert!(specs().any(|app| app.restart > 0) && specs().any(|app| app.run_once));
}

#[test]
fn what_a_manifest_of_protocol_2_may_say_is_in_it() {
    let heard = captured::read_all(2);
    let said = |what: &str, is: fn(&AppSpec) -> bool| assert!(heard.asked.iter().any(is), "{what}");
    said("swap", |app| app.host.swap_bytes.is_some());
    said("the app's restart_budget", |app| app.restart_budget.is_some());
    said("a unit's restart_budget", |app| app.units.values().any(|unit| unit.restart_budget.is_some()));
    said("ports", |app| app.units.values().any(|unit| !unit.ports.is_empty()));
    said("instances", |app| app.units.values().any(|unit| !unit.instances.is_empty()));
    said("a timer", |app| app.units.keys().any(|name| name.kind() == "timer"));
    said("drift", |app| app.files.iter().any(|file| file.drift != Drift::default()));
    said("a hook that runs once, with a name", |app| app.hooks.iter().any(|hook| hook.run_once && hook.name.is_some()));
    let from = |app: &AppSpec| app.artifact.as_ref().map(|artifact| artifact.source.clone());
    let sources: Vec<Source> = heard.asked.iter().filter_map(from).collect();
    assert!(sources.iter().any(|source| matches!(source, Source::Git(_))), "{sources:?}");
    assert!(sources.iter().any(|source| matches!(source, Source::Url(_))), "{sources:?}");
    assert!(heard.asked.iter().all(|app| app.unknown_to(2).is_none()), "and nothing later");
    let newer = |app: &AppSpec| app.unknown_to(1).is_some();
    assert!(heard.asked.iter().any(newer) && !heard.asked.iter().all(newer), "with and without what protocol 1 lacks");
}
