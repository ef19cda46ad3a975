//! What a host holds that this coordinator does not know, since it was restored from a backup. `stream` asks when
//! a host connects that is ahead; what is found is kept in the store, and the host's apps stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    digest::Digest,
    name::AppName,
    wire::{HeldApp, Hello},
};

use super::document;
use crate::store::{Host, Store, StoredSpec};

/// Apps that a host may speak of without this coordinator knowing them.
pub(super) const MAX_UNKNOWN_APPS: usize = 1000;

/// Whether the host holds a spec that this coordinator has not written: a later one, or another of the same number.
pub(super) async fn holds_another(store: &Store, hello: &Hello, row: &Host) -> bool {
    if hello.generation != row.generation || hello.spec_digest.is_empty() {
        return hello.generation > row.generation;
    }
    // A spec that cannot be read is told when it is to be sent.
    let ours = document(store, &row.id).await.ok().flatten();
    ours.is_some_and(|ours| {
        ours.generation == hello.generation && Digest::of(&ours.json).to_string() != hello.spec_digest
    })
}

/// Pure: the apps of which a host holds something else than is stored, one way or the other, but for those that it was
/// `asked` to have otherwise since the restore. An agent that tells of none cannot be told to keep any.
pub(super) fn unknown(stored: &StoredSpec, held: &[HeldApp], asked: &BTreeSet<AppName>) -> BTreeSet<AppName> {
    let held = held.iter().take(MAX_UNKNOWN_APPS);
    let held: BTreeMap<AppName, _> = held.filter_map(|h| Some((h.app.parse().ok()?, (h.release, h.rollout)))).collect();
    if held.is_empty() {
        return BTreeSet::new();
    }
    let apps = stored.apps.keys().chain(held.keys());
    let known = |app: &AppName| stored.apps.get(app).map(|stored| (stored.release, stored.rollout));
    apps.filter(|app| held.get(*app).copied() != known(app) && !asked.contains(*app)).cloned().collect()
}

#[cfg(test)]
mod tests {
    //! Every way in which the two can differ.
    use super::*;
    use crate::store::StoredApp;

    #[test]
    fn what_differs_one_way_or_the_other_is_unknown() {
        let stored = |release, rollout| StoredApp::new(release, rollout);
        let apps = [("same", stored(1, 1)), ("older", stored(1, 2)), ("again", stored(2, 3)), ("gone", stored(1, 4))];
        let apps = apps.into_iter().map(|(app, stored)| (app.parse().unwrap(), stored)).collect();
        let stored = StoredSpec { generation: 9, apps, keep: BTreeSet::new() };
        let held = [("same", 1, 1), ("older", 5, 9), ("again", 2, 8), ("new", 1, 7), ("Not A Name", 1, 1)];
        let held = held.map(|(app, release, rollout)| HeldApp { app: app.to_owned(), release, rollout });
        let words = |found: BTreeSet<AppName>| found.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(words(unknown(&stored, &held, &BTreeSet::new())), ["again", "gone", "new", "older"]);
        let asked = ["again", "new"].map(|app| app.parse().unwrap()).into();
        assert_eq!(words(unknown(&stored, &held, &asked)), ["gone", "older"], "given, and removed, since the restore");
        assert!(unknown(&stored, &[], &asked).is_empty(), "an older agent could not be told to keep anything");
    }
}
