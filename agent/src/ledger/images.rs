//! Which images the committed release of an app is made of, and the one before it: what a clean-up leaves alone. Part of
//! `ledger`.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{image::ImageRef, name::ProjectName};
use serde::{Deserialize, Serialize};

use super::AppLedger;

/// Releases whose images are known: the one that runs and the one before it.
const KEPT: usize = 2;

/// Images, each by its id, its digest in a registry or its name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// Of committed releases, newest first; releases made of the same ones count once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    releases: Vec<BTreeSet<String>>,
    /// What the services of compose projects name, also those that are scaled to nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    projects: BTreeMap<ProjectName, BTreeSet<String>>,
}

impl Images {
    pub(super) fn are_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Of the releases before the one that runs.
    pub fn before(&self) -> impl Iterator<Item = &String> {
        self.releases.iter().skip(1).flatten()
    }
}

impl AppLedger {
    /// What the services of a project name, which is about to be brought up.
    pub fn note_project_images(&mut self, project: &ProjectName, images: BTreeSet<String>) {
        self.images.projects.insert(project.clone(), images);
    }

    /// All images of the release that runs.
    #[must_use]
    pub fn current_images(&self) -> BTreeSet<String> {
        let containers = self.current.iter().flat_map(|current| current.spec.containers.values());
        self.images_with(containers.map(|container| &container.image))
    }

    /// Those of containers, and of the projects as they stand.
    fn images_with<'a>(&self, containers: impl Iterator<Item = &'a ImageRef>) -> BTreeSet<String> {
        let mut images: BTreeSet<String> = containers.map(called).collect();
        for (name, brought) in self.projects.iter().filter_map(|(name, brought)| Some((name, brought.as_ref()?))) {
            images.extend(brought.services.values().map(|service| service.image.clone()));
            let built = self.built_of(name, brought.config);
            images.extend(built.iter().flat_map(|built| built.images.values().cloned()));
        }
        images.extend(self.images.projects.values().flatten().cloned());
        images
    }

    /// The release that is `current` by now is committed.
    pub(super) fn commit_images(&mut self) {
        let Self { images, projects, .. } = self;
        images.projects.retain(|name, _| projects.contains_key(name));
        let committed = self.current_images();
        let releases = &mut self.images.releases;
        releases.retain(|images| *images != committed);
        releases.insert(0, committed);
        releases.truncate(KEPT);
        // Of an app without any nothing is written: an older agent reads its ledger, too.
        if releases.iter().all(BTreeSet::is_empty) {
            releases.clear();
        }
    }
}

/// By digest if there is one: an image has it under whatever name it came.
#[must_use]
pub fn called(image: &ImageRef) -> String {
    image.digest.map_or_else(|| image.pullable(), |digest| digest.to_string())
}

#[cfg(test)]
mod tests {
    //! What is remembered of releases.
    use drover_proto::digest::Digest;

    use super::*;
    use crate::{
        ledger::Built,
        render::tests::{desired, rendered, with_container},
    };

    fn committed(ledger: &mut AppLedger, digest: &[u8]) {
        let mut desired = with_container();
        for container in desired.spec.containers.values_mut() {
            container.image.digest = Some(Digest::of(digest));
        }
        ledger.commit(&desired, &rendered(&desired), 0);
    }

    #[test]
    fn the_images_of_two_releases_are_remembered_and_a_restart_forgets_none() {
        let mut ledger = AppLedger::new("mono".parse().unwrap());
        assert!(ledger.images.are_unknown());
        for digest in [b"one", b"two", b"two"] {
            committed(&mut ledger, digest);
        }
        let of = |digest: &[u8]| BTreeSet::from([Digest::of(digest).to_string()]);
        assert_eq!(ledger.current_images(), of(b"two"));
        assert_eq!(ledger.images.before().cloned().collect::<BTreeSet<_>>(), of(b"one"));
        committed(&mut ledger, b"six");
        assert_eq!(ledger.images.before().cloned().collect::<BTreeSet<_>>(), of(b"two"));
        let without = desired();
        ledger.commit(&without, &rendered(&without), 0);
        assert_eq!(ledger.images.before().cloned().collect::<BTreeSet<_>>(), of(b"six"));
        let mut never = AppLedger::new("mono".parse().unwrap());
        never.commit(&without, &rendered(&without), 0);
        assert!(never.images.are_unknown());
    }

    #[test]
    fn of_a_project_count_what_stands_what_was_built_for_it_and_what_it_names() {
        let mut ledger = AppLedger::new("mono".parse().unwrap());
        let project: ProjectName = "shop".parse().unwrap();
        let config = Digest::of(b"now");
        let web = serde_json::json!({ "hash": "", "image": "sha256:aa", "image_name": "web", "count": 1 });
        let brought =
            serde_json::json!({ "inputs": config, "config": config, "restart": 0, "services": { "web": web } });
        ledger.projects.insert(project.clone(), Some(serde_json::from_value(brought).unwrap()));
        for (of, id) in [(config, "sha256:bb"), (Digest::of(b"older"), "sha256:cc")] {
            ledger.note_built(&project, Built { of, images: [("shop_job".to_owned(), id.to_owned())].into() });
        }
        ledger.note_project_images(&project, ["redis:7".to_owned()].into());
        let all = ["redis:7", "sha256:aa", "sha256:bb"].map(str::to_owned);
        assert_eq!(ledger.current_images(), all.into());
    }
}
