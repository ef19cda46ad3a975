//! Asks the engine how the containers of apps are, one question after another in the background, and takes its answers. Part of
//! `alert`.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::name::AppName;

use super::{
    Done, Task,
    scene::{Container, Scope},
};
use crate::{host::clock, reconcile::Looked};

/// What the engine said of an app's containers.
pub(super) struct Asked {
    app: AppName,
    /// It was asked for the first time since the app is as it is.
    is_anew: bool,
    /// `None`: it does not answer.
    seen: Option<Vec<Looked>>,
}

impl Task {
    /// Takes what each app has by now.
    pub(super) fn take_scopes(&mut self, scopes: BTreeMap<AppName, Scope>) {
        let before = std::mem::replace(&mut self.scene.apps, scopes);
        // Of one that has none any more nobody is asked.
        let apps = &self.scene.apps;
        self.scene.containers.retain(|app, _| apps.get(app).is_some_and(has_some));
        self.to_ask.extend(others(&self.scene.apps, &before));
        // Of an app that was not there before nothing is to be forgotten: at the start that is what alerts are about already.
        self.anew.extend(others(&before, &self.scene.apps));
    }

    /// Asks the engine, for all that is to be asked, unless it is being asked: what it says last is what counts.
    pub(super) fn ask(&mut self) {
        if self.is_asking {
            return;
        }
        let scopes = self.next_to_ask();
        if scopes.is_empty() {
            return;
        }
        self.is_asking = true;
        let handle = self.handle.clone();
        self.work.spawn(async move {
            let mut all = Vec::new();
            for (app, scope, is_anew) in scopes {
                let seen = handle.containers_seen(&scope).await;
                all.push(Asked { app, is_anew, seen });
            }
            Done::Asked(all)
        });
    }

    /// For which, each with whether that is the first time since it is as it is.
    fn next_to_ask(&mut self) -> Vec<(AppName, Scope, bool)> {
        let apps = std::mem::take(&mut self.to_ask).into_iter();
        let scopes = apps.filter_map(|app| self.scene.apps.get(&app).map(|scope| (app, scope.clone())));
        let scopes = scopes.filter(|(_, scope)| has_some(scope));
        scopes
            .map(|(app, scope)| {
                let is_anew = self.anew.remove(&app);
                (app, scope, is_anew)
            })
            .collect()
    }

    pub(super) fn take_containers(&mut self, Asked { app, is_anew, seen }: Asked) {
        let now = clock::since_boot_ms();
        // The app has changed meanwhile, perhaps back to what it was: it is asked for again already.
        if self.anew.contains(&app) {
            return;
        }
        let Some(seen) = seen else {
            // An engine that does not answer says nothing.
            let known = self.scene.containers.get_mut(&app);
            known.into_iter().flat_map(BTreeMap::values_mut).for_each(|container| container.is_running = None);
            if is_anew {
                self.anew.insert(app);
            }
            return;
        };
        let known = self.scene.containers.entry(app).or_default();
        *known = follow(std::mem::take(known), seen, is_anew, now);
    }
}

fn has_some(scope: &Scope) -> bool {
    !(scope.containers.is_empty() && scope.projects.is_empty())
}

/// Pure: those of one that are not the same in the other.
fn others(of: &BTreeMap<AppName, Scope>, than: &BTreeMap<AppName, Scope>) -> BTreeSet<AppName> {
    let is_other =
        |(app, scope): &(&AppName, &Scope)| !than.get(*app).is_some_and(|other| other.has_containers_of(scope));
    of.iter().filter(is_other).map(|(app, _)| app.clone()).collect()
}

/// Pure: what is known after a look. `is_anew`: the app has other parts than at the look before.
fn follow(
    mut before: BTreeMap<String, Container>,
    seen: Vec<Looked>,
    is_anew: bool,
    now: u64,
) -> BTreeMap<String, Container> {
    let mut known = BTreeMap::new();
    for looked in seen {
        let mut container = before.remove(&looked.name).unwrap_or_default();
        if let Some((id, count)) = &looked.starts {
            container.restarts.see(id, *count, now);
        }
        (container.is_running, container.words, container.service) = (looked.is_running, looked.words, looked.service);
        known.insert(looked.name, container);
    }
    if is_anew {
        return known;
    }
    // What is named by nobody but the engine was there, and is not; unless its service has another now.
    for (name, container) in before {
        let has_another = container.service.is_some() && known.values().any(|other| other.service == container.service);
        if !has_another {
            let words = "it is not there".to_owned();
            known.insert(name, Container { is_running: Some(false), words, ..container });
        }
    }
    known
}

#[cfg(test)]
mod tests {
    //! What goes, what takes its place, and what is remembered of both.
    use super::*;
    use crate::alert::tests::task;

    fn looked(name: &str, service: Option<&str>) -> Looked {
        Looked {
            name: name.to_owned(),
            starts: Some((format!("{name}-id"), 0)),
            is_running: Some(true),
            words: "running".to_owned(),
            service: service.map(str::to_owned),
        }
    }

    /// `name` or `-name` for one that is gone.
    fn shown(known: &BTreeMap<String, Container>) -> Vec<String> {
        let sign = |container: &Container| if container.is_running == Some(true) { "" } else { "-" };
        known.iter().map(|(name, container)| format!("{}{name}", sign(container))).collect()
    }

    #[test]
    fn what_goes_is_gone_until_something_takes_its_place() {
        let (web, db) = (Some("shop/web"), Some("shop/db"));
        let all = || vec![looked("shop-web-1", web), looked("shop-db-1", db), looked("box", None)];
        let known = follow(BTreeMap::new(), all(), false, 0);
        assert_eq!(shown(&known), ["box", "shop-db-1", "shop-web-1"]);
        let less = follow(known.clone(), vec![looked("shop-web-2", web)], false, 1);
        assert_eq!(shown(&less), ["-box", "-shop-db-1", "shop-web-2"], "a service that has another has it instead");
        assert_eq!(shown(&follow(less, all(), false, 2)), ["box", "shop-db-1", "shop-web-1"]);
        assert_eq!(shown(&follow(known, vec![], true, 1)), <[&str; 0]>::default(), "the app has other parts now");
    }
    fn mono() -> AppName {
        "mono".parse().unwrap()
    }

    fn with_project(project: &str) -> BTreeMap<AppName, Scope> {
        let projects = [project.parse().unwrap()].into();
        [(mono(), Scope { projects, ..Scope::default() })].into()
    }

    /// The engine is asked, and says that these are there.
    fn answered(task: &mut Task, seen: &[Looked]) -> Vec<String> {
        for (app, _, is_anew) in task.next_to_ask() {
            task.take_containers(Asked { app, is_anew, seen: Some(seen.to_vec()) });
        }
        shown(&task.scene.containers[&mono()])
    }

    #[tokio::test]
    async fn an_answer_of_before_a_change_says_nothing() {
        let (web, old) = (looked("shop-web-1", Some("shop/web")), looked("shop-old-1", Some("shop/old")));
        let all = [web.clone(), old];
        for between in [with_project("other"), BTreeMap::new()] {
            let (_dir, mut task) = task();
            task.take_scopes(with_project("shop"));
            assert_eq!(answered(&mut task, &all), ["shop-old-1", "shop-web-1"]);
            task.to_ask.insert(mono());
            let asked = task.next_to_ask();
            // While the engine is asked the app becomes another, and what it was again, with one service less.
            task.take_scopes(between);
            task.take_scopes(with_project("shop"));
            for (app, _, is_anew) in asked {
                task.take_containers(Asked { app, is_anew, seen: Some(all.to_vec()) });
            }
            assert_eq!(answered(&mut task, std::slice::from_ref(&web)), ["shop-web-1"]);
        }
    }

    #[tokio::test]
    async fn an_engine_that_does_not_answer_makes_nothing_be_gone_later() {
        let (_dir, mut task) = task();
        let (web, old) = (looked("shop-web-1", Some("shop/web")), looked("shop-old-1", Some("shop/old")));
        task.take_scopes(with_project("shop"));
        answered(&mut task, &[web.clone(), old]);
        task.take_scopes(with_project("other"));
        for (app, _, is_anew) in task.next_to_ask() {
            task.take_containers(Asked { app, is_anew, seen: None });
        }
        task.to_ask.insert(mono());
        assert_eq!(answered(&mut task, &[web]), ["shop-web-1"]);
    }

    #[tokio::test]
    async fn what_is_gone_is_still_gone_when_the_agent_is_started_again() {
        let (_dir, mut task) = task();
        let (web, db) = (looked("shop-web-1", Some("shop/web")), looked("shop-db-1", Some("shop/db")));
        // As it is remembered.
        let gone = Container { service: db.service.clone(), ..Container::default() };
        task.scene.containers = [(mono(), [(db.name.clone(), gone)].into())].into();
        task.take_scopes(with_project("shop"));
        assert_eq!(answered(&mut task, std::slice::from_ref(&web)), ["-shop-db-1", "shop-web-1"]);
        task.take_scopes(with_project("other"));
        assert_eq!(answered(&mut task, &[web]), ["shop-web-1"], "the app has other parts now");
        for nothing in [[(mono(), Scope::default())].into(), BTreeMap::new()] {
            task.take_scopes(with_project("shop"));
            answered(&mut task, &[looked("shop-web-1", Some("shop/web"))]);
            task.take_scopes(nothing);
            assert!(task.scene.containers.is_empty());
        }
    }
}
