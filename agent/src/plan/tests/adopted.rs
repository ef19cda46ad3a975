//! Containers of somebody else: taken over as they are, or standing aside until they come back.

use drover_proto::{code::Code, spec::DesiredApp};
use serde_json::json;

use super::model::{Host, words};
use crate::{
    host::docker::made_tests::{inspected, made},
    render::tests::with_container,
};

/// A host on which `shop` runs, made by hand, and a manifest that says the same of it.
fn by_hand() -> (Host, DesiredApp) {
    let (mut host, mut desired) = (Host::new(), with_container());
    let made = made(inspected());
    let name = "shop".parse().unwrap();
    let spec = json!({
        "image": format!("shop/web:1@sha256:{}", "ab".repeat(32)), "restart": "always", "stop_grace_period": "10s", "adopt": true,
        "ports": ["8080:80"], "environment": { "PORT": [{ "text": "80" }] }, "env": [],
        "volumes": [{ "source": { "volume": "data" }, "target": "/srv" }],
    });
    desired.spec.containers = [("shop".parse().unwrap(), serde_json::from_value(spec).unwrap())].into();
    host.observed.containers.states.insert("shop".parse().unwrap(), made.state.clone());
    host.observed.containers.made.insert(name, made);
    host.observed.containers.images.insert(format!("shop/web@sha256:{}", "ab".repeat(32)));
    (host, desired)
}

fn of_containers(host: &Host, desired: Option<&DesiredApp>) -> Vec<String> {
    let about = |word: &String| word.contains("shop") && !word.starts_with("write") && !word.starts_with("remove /");
    words(&host.plan(desired)).into_iter().filter(about).collect()
}

fn changed(desired: &DesiredApp, restart: &str) -> DesiredApp {
    let mut changed = desired.clone();
    changed.release.number += 1;
    changed.spec.containers.values_mut().for_each(|it| it.restart = serde_json::from_value(json!(restart)).unwrap());
    changed
}

#[test]
fn one_that_says_the_same_is_taken_over_as_it_is() {
    let (mut host, desired) = by_hand();
    assert_eq!(of_containers(&host, Some(&desired)), ["adopt container shop: it was made as the release says"]);
    host.apply(&desired);
    assert_eq!(of_containers(&host, Some(&desired)), [""; 0], "nothing to do any more");
    assert_eq!(of_containers(&host, None), ["return container shop: the app is removed"]);
    let id = host.observed.containers.states[&"shop".parse().unwrap()].id.clone();
    host.remove();
    assert_eq!(host.observed.containers.states[&"shop".parse().unwrap()].id, id, "it goes on without drover");
}

#[test]
fn one_that_differs_stands_aside_and_comes_back() {
    let (mut host, desired) = by_hand();
    let other = changed(&desired, "no");
    assert_eq!(of_containers(&host, Some(&other)), ["run shop: it was made with another restart"]);
    host.apply(&other);
    assert!(host.observed.containers.aside.contains_key(&"shop".parse().unwrap()));
    assert_eq!(of_containers(&host, Some(&other)), [""; 0]);
    host.remove();
    let back = &host.observed.containers.states[&"shop".parse().unwrap()];
    assert!(back.app.is_none() && back.running, "as before drover");
}

#[test]
fn a_change_makes_it_anew_and_going_back_brings_the_very_one() {
    let (mut host, desired) = by_hand();
    host.apply(&desired);
    let other = changed(&desired, "no");
    assert_eq!(of_containers(&host, Some(&other)), ["run shop: its part of the manifest changed"]);
    host.apply(&other);
    assert_eq!(of_containers(&host, Some(&desired)), ["return container shop: its part of the manifest changed"]);
    host.apply(&desired);
    let back = &host.observed.containers.states[&"shop".parse().unwrap()];
    assert!(back.adopted && back.id == "0123456789abcdef");
    assert_eq!(of_containers(&host, Some(&desired)), [""; 0]);
}

#[test]
fn what_may_not_be_had_is_refused() {
    type Change = fn(&mut Host, &mut DesiredApp);
    let rows: [(Change, &str); 4] = [
        (
            |_, desired| desired.spec.containers.values_mut().for_each(|it| it.adopt = false),
            "adopt: true takes it over",
        ),
        (
            |host, _| host.observed.containers.states.values_mut().for_each(|it| it.app = Some("x".parse().unwrap())),
            "is not drover's",
        ),
        (|host, _| host.observed.containers.states.values_mut().for_each(|it| it.auto_remove = true), "--rm"),
        (
            |host, desired| {
                host.observed.containers.aside.insert("shop".parse().unwrap(), "another".to_owned());
                *desired = changed(desired, "no");
            },
            "shop.drover-before",
        ),
    ];
    for (change, says) in rows {
        let (mut host, mut desired) = by_hand();
        change(&mut host, &mut desired);
        let plan = host.plan(Some(&desired));
        let refused = plan.refusals.iter().any(|it| it.code == Code::NotOwned && it.message.contains(says));
        assert!(refused, "{says}: {:?}", plan.refusals);
    }
}

#[test]
fn what_was_taken_over_and_is_removed_by_hand_is_made_anew() {
    let (mut host, desired) = by_hand();
    host.apply(&desired);
    host.observed.containers.states.clear();
    assert_eq!(of_containers(&host, Some(&desired)), ["run shop: missing"]);
    let (mut host, desired) = by_hand();
    host.apply(&desired);
    let state = host.observed.containers.states.values_mut().next().unwrap();
    (state.running, state.status) = (false, "exited".to_owned());
    assert_eq!(of_containers(&host, Some(&desired)), ["start container shop: not running"]);
}

#[test]
fn a_unit_of_a_package_with_the_same_text_goes_on() {
    let (mut host, mut desired) = (Host::new(), crate::render::tests::desired());
    desired.spec.artifact = None;
    desired.spec.env.clear();
    desired.spec.hooks.clear();
    desired.spec.secrets.clear();
    desired.spec.files.clear();
    let mut adopted = crate::render::tests::unit("[Service]\nExecStart=/bin/a\n");
    adopted.adopt = true;
    desired.spec.units = [("mono-api.service".parse().unwrap(), adopted)].into();
    *host.unit("mono-api.service") = crate::host::systemd::UnitState {
        active_state: "active".into(),
        unit_file_state: "enabled".into(),
        fragment_path: "/lib/systemd/system/mono-api.service".into(),
        ..Default::default()
    };
    let restarts = |host: &Host| words(&host.plan(Some(&desired))).iter().any(|word| word.starts_with("restart "));
    assert!(restarts(&host), "its text is another one");
    host.observed.alike.insert("mono-api.service".parse().unwrap());
    assert!(!restarts(&host), "it runs what the release wants");
}
