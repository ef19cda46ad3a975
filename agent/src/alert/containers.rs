//! Asks the engine how the containers of apps are, one question after another in the background, and takes its answers. Part of
//! `alert`.

use std::collections::BTreeMap;

use drover_proto::name::AppName;

use super::{
    Done, Task,
    scene::{self, Container},
};
use crate::{host::clock, reconcile::Looked};

impl Task {
    /// Asks the engine, for all that is to be asked, unless it is being asked: what it says last is what counts.
    pub(super) fn ask(&mut self) {
        let has_some = |scope: &scene::Scope| !(scope.containers.is_empty() && scope.projects.is_empty());
        let apps = std::mem::take(&mut self.to_ask);
        if self.is_asking {
            self.to_ask = apps;
            return;
        }
        let scopes = apps.into_iter().filter_map(|app| self.scene.apps.get(&app).map(|scope| (app, scope.clone())));
        let scopes: Vec<_> = scopes.filter(|(_, scope)| has_some(scope)).collect();
        if scopes.is_empty() {
            return;
        }
        self.is_asking = true;
        let handle = self.handle.clone();
        self.work.spawn(async move {
            let mut all = Vec::new();
            for (app, scope) in scopes {
                let seen = handle.containers_seen(&scope).await;
                all.push((app, seen));
            }
            Done::Asked(all)
        });
    }

    pub(super) fn take_containers(&mut self, app: AppName, seen: Option<Vec<Looked>>) {
        let now = clock::since_boot_ms();
        let Some(seen) = seen else {
            // An engine that does not answer says nothing.
            let known = self.scene.containers.get_mut(&app);
            known.into_iter().flat_map(BTreeMap::values_mut).for_each(|container| container.is_running = None);
            return;
        };
        let known = self.scene.containers.entry(app.clone()).or_default();
        let mut before = std::mem::take(known);
        for looked in seen {
            let remembered = || Container {
                restarts: self.restarts.remove(&looked.name).unwrap_or_default(),
                ..Container::default()
            };
            let mut container = before.remove(&looked.name).unwrap_or_else(remembered);
            if let Some((id, count)) = &looked.starts {
                container.restarts.see(id, *count, now);
            }
            (container.is_running, container.words) = (looked.is_running, looked.words);
            known.insert(looked.name, container);
        }
        // What is named by nobody but the engine was there, and is not; unless the app has other parts now.
        if !self.anew.remove(&app) {
            for (name, container) in before {
                let words = "it is not there".to_owned();
                known.insert(name, Container { is_running: Some(false), words, ..container });
            }
        }
    }
}
