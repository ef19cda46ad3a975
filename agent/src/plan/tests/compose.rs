//! Compose projects: brought up only when they are others, never from what the engine did not say.

use drover_proto::{app::Project, code::Code, digest::Digest, name::ProjectName, spec::DesiredApp};

use super::model::{Host, words};
use crate::{
    host::compose::{Config, Service},
    observe::compose::SeenConfig,
    render::tests::{desired, file_part, rendered, template},
};

const FILE: &str = "/srv/shop/docker-compose.yml";

fn name() -> ProjectName {
    "shop".parse().unwrap()
}

fn with_project(text: &str) -> DesiredApp {
    let mut desired = desired();
    desired.spec.files.push(file_part(FILE, text, 0o644));
    let (profiles, registries, adopt, drift) = Default::default();
    let project = Project {
        directory: "/srv/shop".parse().unwrap(),
        files: vec![FILE.parse().unwrap()],
        env_file: None,
        profiles,
        registries,
        adopt,
        drift,
    };
    desired.spec.compose.insert(name(), project);
    desired
}

fn deployed() -> (Host, DesiredApp) {
    let (mut host, desired) = (Host::new(), with_project("one ${PORT}"));
    host.apply(&desired);
    (host, desired)
}

/// The host says what compose makes of it.
fn asked(host: &mut Host, digest: Digest) {
    let service = Service {
        image: Some("shop/web:1".parse().unwrap()),
        container_name: None,
        build: None,
        ports: Default::default(),
    };
    let config = Config { services: [("web".to_owned(), service)].into(), asks: Default::default(), digest };
    let (forbidden, taken, differs) = Default::default();
    let seen = SeenConfig { config: Ok(config), absent: false, built: true, forbidden, taken, differs };
    host.observed.projects.configs.insert(name(), seen);
}

fn of_projects(words: &[String]) -> Vec<&str> {
    let about = |word: &&String| ["pull", "up", "remove project", "adopt", "leave"].iter().any(|w| word.starts_with(w));
    words.iter().filter(about).map(String::as_str).collect()
}

#[test]
fn images_are_here_before_a_project_is_brought_up() {
    let (mut host, desired) = (Host::new(), with_project("one"));
    asked(&mut host, Digest::of(b"one"));
    let words = words(&host.plan(Some(&desired)));
    assert_eq!(of_projects(&words), ["pull shop/web: new in this release", "up shop: new in this release"]);
    let at = |what: &str| words.iter().position(|word| word.starts_with(what)).unwrap();
    assert!(at("pull") < at("write") && at(&format!("write {FILE}")) < at("up shop"), "{words:?}");
}

#[test]
fn a_project_is_brought_up_for_what_compose_makes_of_it_and_for_nothing_else() {
    let (mut host, mut desired) = deployed();
    desired.release.number += 1;
    assert_eq!(of_projects(&words(&host.plan(Some(&desired)))), <[&str; 0]>::default());
    let before = host.ledger.projects[&name()].clone().unwrap();
    desired.spec.env.insert("PORT".parse().unwrap(), template("5001"));
    assert_eq!(of_projects(&words(&host.plan(Some(&desired)))), ["up shop: its compose files or settings changed"]);
    // Compose makes the same of it.
    asked(&mut host, before.config);
    host.observed.projects.images.insert("shop/web:1".to_owned());
    assert_eq!(of_projects(&words(&host.plan(Some(&desired)))), <[&str; 0]>::default());
    host.apply(&desired);
    host.observed.projects.configs.clear();
    assert!(!host.plan(Some(&desired)).has_changes(), "and nobody has to ask it again");
    desired.restart = 9;
    assert_eq!(of_projects(&words(&host.plan(Some(&desired)))), ["up anew shop: a restart was asked for"]);
    desired.spec.compose.clear();
    assert_eq!(of_projects(&words(&host.plan(Some(&desired)))), ["remove project shop: not in this release any more"]);
    assert_eq!(of_projects(&words(&host.plan(None))), ["remove project shop: the app is removed"]);
}

#[test]
fn what_was_done_to_it_by_hand_is_seen() {
    let changed = |change: fn(&mut Host)| {
        let (mut host, desired) = deployed();
        change(&mut host);
        of_projects(&words(&host.plan(Some(&desired)))).join("; ")
    };
    assert_eq!(changed(|_| {}), "");
    assert_eq!(changed(|host| host.observed.projects.members.clear()), "up shop: missing");
    let first = |host: &mut Host, change: fn(&mut crate::host::docker::Member)| {
        change(&mut host.observed.projects.members.get_mut(&name()).unwrap()[0]);
    };
    let (mut host, desired) = deployed();
    first(&mut host, |web| (web.state.status, web.state.running) = ("exited".to_owned(), false));
    assert_eq!(of_projects(&words(&host.plan(Some(&desired)))), ["up shop: not running"]);
    first(&mut host, |web| web.runs_once = true);
    assert_eq!(of_projects(&words(&host.plan(Some(&desired)))), <[&str; 0]>::default(), "it runs once, and has");
    first(&mut host, |web| web.hash = "other".to_owned());
    assert!(of_projects(&words(&host.plan(Some(&desired))))[0].contains("not the process that drover started"));
}

#[test]
fn nothing_is_planned_from_what_is_not_known() {
    let (mut host, desired) = deployed();
    host.observed.projects.members.clear();
    host.observed.projects.engine = Err("the Docker engine does not answer".to_owned());
    let plan = host.plan(Some(&desired));
    assert_eq!(of_projects(&words(&plan)), <[&str; 0]>::default());
    assert_eq!(plan.refusals.iter().map(|refusal| refusal.code).collect::<Vec<_>>(), [Code::Docker]);
    let (mut host, desired) = deployed();
    host.ledger.projects.insert(name(), None);
    assert!(of_projects(&words(&host.plan(Some(&desired))))[0].starts_with("up shop"), "a crash in the middle");
}

#[test]
fn what_is_wrong_or_somebody_elses_is_refused() {
    let refused = |change: fn(&mut Host)| {
        let (mut host, desired) = (Host::new(), with_project("one"));
        asked(&mut host, Digest::of(b"one"));
        change(&mut host);
        let plan = host.plan(Some(&desired));
        assert_eq!(of_projects(&words(&plan)), <[&str; 0]>::default());
        plan.refusals[0].code
    };
    assert_eq!(refused(|host| drop(host.others.projects.insert(name(), "other".parse().unwrap()))), Code::OwnedByOther);
    let stranger = |host: &mut Host| drop(host.observed.projects.members.insert(name(), vec![Default::default()]));
    assert_eq!(refused(stranger), Code::NotOwned);
    fn change(host: &mut Host, change: fn(&mut SeenConfig)) {
        change(host.observed.projects.configs.get_mut(&name()).unwrap());
    }
    assert_eq!(refused(|host| change(host, |seen| seen.config = Err(vec!["syntax".to_owned()]))), Code::Compose);
    assert_eq!(refused(|host| change(host, |seen| seen.forbidden.push("privileged".to_owned()))), Code::Policy);
    assert_eq!(refused(|host| change(host, |seen| seen.taken.extend(["web".to_owned()]))), Code::NotOwned);
    // Unless compose is about to be installed.
    let (mut host, desired) = (Host::new(), with_project("one"));
    asked(&mut host, Digest::of(b"one"));
    change(&mut host, |seen| (seen.config, seen.absent) = (Err(vec!["no compose".to_owned()]), true));
    assert_eq!(host.plan(Some(&desired)).refusals[0].code, Code::Compose);
    host.observed.packages_missing.insert("docker-compose".parse().unwrap());
    assert_eq!(host.plan(Some(&desired)).refusals, vec![]);
    assert!(rendered(&desired).compose[&name()].env.expose().is_empty(), "of the env only what is named");
}

#[test]
fn one_that_runs_already_is_taken_over_and_left_as_it_was() {
    let (mut host, mut desired) = deployed();
    host.ledger.projects.clear();
    let adopting = |desired: &mut DesiredApp, adopt| desired.spec.compose.get_mut(&name()).unwrap().adopt = adopt;
    assert_eq!(host.plan(Some(&desired)).refusals.pop().map(|it| it.code), Some(Code::NotOwned));
    adopting(&mut desired, true);
    asked(&mut host, Digest::of(b"config"));
    host.observed.projects.configs.get_mut(&name()).unwrap().differs.push("service web was made of bread".to_owned());
    let refused = host.plan(Some(&desired));
    assert!(refused.refusals.iter().any(|it| it.message.contains("made of bread")), "{:?}", refused.refusals);
    host.observed.projects.configs.clear();
    assert_eq!(of_projects(&words(&host.plan(Some(&desired)))), ["adopt project shop: new in this release"]);
    host.apply(&desired);
    assert_eq!(of_projects(&words(&host.plan(Some(&desired)))), <[&str; 0]>::default());
    assert_eq!(of_projects(&words(&host.plan(None))), ["leave project shop: the app is removed"]);
    // Making it again as it was takes it from nobody.
    desired.restart = 7;
    host.apply(&desired);
    assert_eq!(of_projects(&words(&host.plan(None))), ["leave project shop: the app is removed"]);
    // What a release has made something else of is drover's, and goes with it.
    let other = file_part(FILE, "another", 0o644);
    desired.spec.files.iter_mut().filter(|file| file.path == other.path).for_each(|file| *file = other.clone());
    desired.spec.compose.get_mut(&name()).unwrap().profiles.insert("more".to_owned());
    host.apply(&desired);
    assert_eq!(of_projects(&words(&host.plan(None))), ["remove project shop: the app is removed"]);
}
