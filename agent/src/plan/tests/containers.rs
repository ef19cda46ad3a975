//! Containers: made anew only when they are others, never from what the engine did not say.

use std::collections::BTreeSet;

use drover_proto::{app::FilePart, code::Code, spec::DesiredApp};

use super::model::{Host, words};
use crate::{
    policy::Policy,
    render::tests::{template, with_container},
};

fn deployed() -> (Host, DesiredApp) {
    let (mut host, desired) = (Host::new(), with_container());
    host.apply(&desired);
    (host, desired)
}

fn of_containers(words: &[String]) -> Vec<&str> {
    let about = |word: &&String| {
        ["pull", "network", "run", "start container", "remove container"].iter().any(|w| word.starts_with(w))
    };
    words.iter().filter(about).map(String::as_str).collect()
}

#[test]
fn an_image_is_here_before_anything_is_switched() {
    let (host, mut desired) = (Host::new(), with_container());
    desired.spec.containers.values_mut().for_each(|c| c.networks.extend(["back".parse().unwrap()]));
    let words = words(&host.plan(Some(&desired)));
    assert_eq!(
        of_containers(&words),
        [
            "network back: missing",
            "pull registry.example.org/shop: new in this release",
            "run shop: new in this release",
        ]
    );
    let switch = words.iter().position(|word| word.starts_with("write")).unwrap();
    assert!(words.iter().position(|word| word.starts_with("pull")).unwrap() < switch, "{words:?}");
}

#[test]
fn docker_has_its_new_settings_before_a_container_is_made() {
    let (host, mut desired) = (Host::new(), with_container());
    let settings = FilePart {
        path: "/etc/docker/daemon.json".parse().unwrap(),
        restart: ["docker.service".parse().unwrap()].into(),
        reload: BTreeSet::new(),
        validate: None,
        ..desired.spec.files[0].clone()
    };
    desired.spec.files.push(settings);
    let words = words(&host.plan(Some(&desired)));
    let place = |begin: &str| words.iter().position(|word| word.starts_with(begin)).unwrap();
    assert!(place("write /etc/docker/daemon.json") < place("restart docker.service"));
    assert!(place("restart docker.service") < place("run shop"), "{words:?}");
}

#[test]
fn a_container_is_made_anew_for_what_it_is_made_of_and_for_nothing_else() {
    let (host, mut desired) = deployed();
    desired.release.number = 2;
    assert_eq!(of_containers(&words(&host.plan(Some(&desired)))), <[&str; 0]>::default());
    desired.spec.env.insert("PORT".parse().unwrap(), template("5001"));
    assert_eq!(of_containers(&words(&host.plan(Some(&desired)))), ["run shop: settings or secrets changed"]);
    desired.spec.containers.values_mut().for_each(|c| c.image.digest = Some(drover_proto::digest::Digest::of(b"2")));
    assert_eq!(of_containers(&words(&host.plan(Some(&desired))))[1], "run shop: another image");
    desired.spec.containers.clear();
    assert_eq!(
        of_containers(&words(&host.plan(Some(&desired)))),
        ["remove container shop: not in this release any more"]
    );
    assert_eq!(of_containers(&words(&host.plan(None))), ["remove container shop: the app is removed"]);
}

#[test]
fn one_that_is_down_or_gone_comes_back() {
    let (mut host, desired) = deployed();
    let name = "shop".parse().unwrap();
    let state = host.observed.containers.states.get_mut(&name).unwrap();
    (state.status, state.running) = ("exited".to_owned(), false);
    assert_eq!(of_containers(&words(&host.plan(Some(&desired)))), ["start container shop: not running"]);
    host.observed.containers.states.remove(&name);
    assert_eq!(of_containers(&words(&host.plan(Some(&desired)))), ["run shop: missing"]);
}

#[test]
fn nothing_is_planned_from_the_silence_of_the_engine() {
    let (mut host, desired) = deployed();
    host.observed.containers.states.clear();
    host.observed.containers.engine = Err("the Docker engine does not answer".to_owned());
    let plan = host.plan(Some(&desired));
    assert_eq!(of_containers(&words(&plan)), <[&str; 0]>::default());
    assert_eq!(plan.refusals.iter().map(|refusal| refusal.code).collect::<Vec<_>>(), [Code::Docker]);
    // Unless it is about to be installed.
    host.observed.packages_missing.insert("docker.io".parse().unwrap());
    let plan = host.plan(Some(&desired));
    assert!(plan.refusals.is_empty() && of_containers(&words(&plan)).contains(&"run shop: missing"), "{plan:?}");
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    let (mut host, desired) = deployed();
    let name: drover_proto::name::ContainerName = "shop".parse().unwrap();
    host.observed.containers.states.get_mut(&name).unwrap().app = None;
    assert_eq!(host.plan(Some(&desired)).refusals[0].code, Code::NotOwned);
    host.others.containers.insert(name, "other".parse().unwrap());
    assert_eq!(host.plan(Some(&desired)).refusals[0].code, Code::OwnedByOther);
}

#[test]
fn the_policy_of_the_host_is_asked() {
    let (mut host, mut desired) = (Host::new(), with_container());
    desired.spec.containers.values_mut().for_each(|c| c.rights.privileged = true);
    let refusals = host.plan(Some(&desired)).refusals;
    assert!(refusals[0].code == Code::Policy && refusals[0].message.contains("policy.toml"), "{refusals:?}");
    assert_eq!(of_containers(&words(&host.plan(Some(&desired)))), <[&str; 0]>::default(), "drift does nothing either");
    host.observed.containers.policy = Ok(Policy {
        containers: crate::policy::Containers { privileged: true, ..Default::default() },
        ..Policy::default()
    });
    assert_eq!(host.plan(Some(&desired)).refusals, vec![]);
    host.observed.containers.policy = Err("policy.toml cannot be read".to_owned());
    assert_eq!(host.plan(Some(&desired)).refusals[0].code, Code::Policy);
}

#[test]
fn an_image_without_a_name_is_still_the_image() {
    let (mut host, desired) = deployed();
    host.observed.containers.states.values_mut().for_each(|state| state.digests.clear());
    assert!(!host.plan(Some(&desired)).has_changes());
}

#[test]
fn a_container_is_not_dropped_while_the_engine_is_silent() {
    let (mut host, mut desired) = deployed();
    host.observed.containers.engine = Err("the Docker engine does not answer".to_owned());
    desired.spec.containers.clear();
    assert_eq!(host.plan(Some(&desired)).refusals[0].code, Code::Docker, "before anything is touched");
    assert!(host.plan(None).refusals.is_empty(), "a removal tries");
}

#[test]
fn a_path_that_another_container_may_move_is_refused() {
    let (mut host, mut desired) = (Host::new(), with_container());
    let mount = |path: &str, read_only| drover_proto::app::Mount {
        source: drover_proto::app::MountSource::Path(template(path)),
        target: "/there".parse().unwrap(),
        read_only,
    };
    let mut other = desired.spec.containers.values().next().unwrap().clone();
    other.ports.clear();
    other.volumes = vec![mount("/srv/shop/data", true)];
    desired.spec.containers.insert("other".parse().unwrap(), other);
    let mut with = |read_only: bool| {
        let shop = desired.spec.containers.get_mut(&"shop".parse().unwrap()).unwrap();
        shop.volumes = vec![mount("/srv/shop", read_only)];
        let lead = |path: &str| std::collections::BTreeMap::from([(path.to_owned(), Ok(path.to_owned()))]);
        host.observed.containers.places =
            [("shop".parse().unwrap(), lead("/srv/shop")), ("other".parse().unwrap(), lead("/srv/shop/data"))].into();
        host.plan(Some(&desired)).refusals
    };
    assert_eq!(with(true), vec![]);
    let refusals = with(false);
    assert!(refusals.len() == 1 && refusals[0].message.contains("which container shop may write"), "{refusals:?}");
}
