//! What a host holds that this coordinator does not know, since it was restored from a backup. `stream` asks when
//! a host connects; what is found is kept in the store (`specs`, `compared`), and the host's apps stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    code::{self, Code},
    digest::Digest,
    name::AppName,
    wire::{HeldApp, Hello},
};
use tonic::Status;
use tracing::{error, warn};

use super::{
    document,
    stream::{Stream, failed},
};
use crate::store::{Host, Store, StoredSpec};

/// Apps that one host may speak of without this coordinator knowing them: whatever it invents, the rest can be shown.
pub(super) const MAX_UNKNOWN_APPS: usize = 200;
/// Apps that a host may name when it connects.
const MAX_HELD_APPS: usize = 2000;
/// The first protocol whose hellos name the apps that the host holds.
const TELLS_APPS_SINCE: u32 = 2;
/// How far a host's generation may be ahead of ours; more is not a restored backup but nonsense.
const MAX_AHEAD: u64 = 1 << 32;

impl Stream {
    /// Finds out whether the host holds a spec that this coordinator has not written, and keeps what differs. After a
    /// restore every host is asked once, whoever has counted further since: that stays due until it is done.
    pub(super) async fn compare(&mut self, row: &Host, hello: &Hello, spoken: u32) -> Result<(), Status> {
        let store = self.all.store.clone();
        let due = store.uncompared_since(&self.host).await.map_err(failed)?.is_some();
        if holds_another(&store, hello, row, due).await? {
            let tells = spoken >= TELLS_APPS_SINCE;
            let says_more = self.catch_up(row, hello, due && tells).await?;
            if due && !tells {
                // Nothing could be compared, and it stays due: the host keeps all that it has until something is asked.
                self.sent = if says_more { self.sent } else { self.sent.max(row.generation) };
                return Ok(());
            }
        }
        if due {
            store.set_compared(&self.host).await.map_err(failed)?;
        }
        store.set_held(&self.host, hello.generation).await.map_err(failed)
    }

    /// Counts on from what the host holds. Its workloads stay as they are until somebody wants something else: what this
    /// coordinator remembers may be older than what runs. A change of one app leaves the others so. Answers whether there
    /// is something to tell the host at once.
    async fn catch_up(&mut self, row: &Host, hello: &Hello, tells_all: bool) -> Result<bool, Status> {
        let held = hello.generation;
        if held.saturating_sub(row.generation) > MAX_AHEAD {
            return Err(code::status(Code::Protocol, "the host's generation is out of reach: enrol it again"));
        }
        let store = &self.all.store;
        let stored = store.spec(&self.host).await.map_err(failed)?;
        // Let in with some of them left out, the host would remove those.
        let asked = store.asked_since_restore(&self.host).await.map_err(failed)?;
        let Some(kept) = unknown(&stored, &hello.apps, &asked, tells_all) else {
            warn!(host = %row.name, apps = hello.apps.len(), "a host that holds too many unknown apps is turned away");
            let message = format!(
                "the host holds more than {MAX_UNKNOWN_APPS} apps that this coordinator does not know: restore a newer \
                 backup of the coordinator, or enrol the host again"
            );
            return Err(code::status(Code::Protocol, message));
        };
        // Before the generation: with that the spec may go.
        store.keep(&self.host, &kept.apps, kept.only).await.map_err(failed)?;
        // What was asked meanwhile is sent at once. So is all else to a host that names its apps: one may be paused there
        // with a rollout that nobody knows any more, and something may be asked in this very moment.
        let says_more = tells_all || !hello.apps.is_empty() || !asked.is_empty();
        store.raise_generation(&self.host, held + u64::from(says_more)).await.map_err(failed)?;
        self.sent = held;
        self.keeps_unknown = true;
        warn!(
            host = %row.name, held, known = row.generation, apps = ?kept.apps,
            "the host holds a spec that this coordinator has not written (was it restored from a backup?): it keeps these \
             apps as they are until they are applied again"
        );
        Ok(says_more)
    }
}

/// Whether the host holds a spec that this coordinator has not written: a later one, or another of the same number. Where a
/// comparison is `due`, also an earlier one, unless the host had accepted it before the backup was made.
async fn holds_another(store: &Store, hello: &Hello, row: &Host, due: bool) -> Result<bool, Status> {
    let held = hello.generation;
    if held != row.generation || hello.spec_digest.is_empty() {
        return Ok(held > row.generation || (due && held > row.accepted));
    }
    let ours = match document(store, &row.id).await {
        Ok(ours) => ours,
        // It would count as compared for good.
        Err(error) if due => {
            error!(host = %row.name, %error, "a host cannot be compared with its spec");
            return Err(code::status(Code::Store, "the coordinator's store failed; its log says why"));
        }
        // Told when it is to be sent.
        Err(_) => None,
    };
    Ok(ours.is_some_and(|ours| ours.generation == held && Digest::of(&ours.json).to_string() != hello.spec_digest))
}

/// What stays on a host as it holds it.
#[derive(PartialEq, Eq, Debug)]
struct Kept {
    /// These.
    apps: BTreeSet<AppName>,
    /// And none that were kept before: together they would be too many.
    only: bool,
}

/// Pure: the apps of which a host holds something else than is stored, one way or the other, but for those that it was
/// `asked` to have otherwise since the restore. An agent that tells of none cannot be told to keep any, unless it is one that
/// `tells_all`: then it has none. `None`: it names more than it may.
fn unknown(stored: &StoredSpec, held: &[HeldApp], asked: &BTreeSet<AppName>, tells_all: bool) -> Option<Kept> {
    if held.len() > MAX_HELD_APPS {
        return None;
    }
    let held: BTreeMap<AppName, _> =
        held.iter().filter_map(|h| Some((h.app.parse().ok()?, (h.release, h.rollout)))).collect();
    if held.is_empty() && !tells_all {
        return Some(Kept { apps: BTreeSet::new(), only: false });
    }
    let apps = stored.apps.keys().chain(held.keys());
    let known = |app: &AppName| stored.apps.get(app).map(|stored| (stored.release, stored.rollout));
    let differs = |app: &AppName| held.get(app).copied() != known(app) && !asked.contains(app);
    let apps: BTreeSet<AppName> = apps.filter(|app| differs(app)).cloned().collect();
    let too_many = |apps: &mut dyn Iterator<Item = &AppName>| {
        apps.filter(|app| !stored.apps.contains_key(*app)).count() > MAX_UNKNOWN_APPS
    };
    if too_many(&mut apps.iter()) {
        return None;
    }
    let only = too_many(&mut apps.union(&stored.keep));
    Some(Kept { apps, only })
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
        let words = |found: Option<Kept>| found.unwrap().apps.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(words(unknown(&stored, &held, &BTreeSet::new(), false)), ["again", "gone", "new", "older"]);
        let asked = ["again", "new"].map(|app| app.parse().unwrap()).into();
        assert_eq!(
            words(unknown(&stored, &held, &asked, false)),
            ["gone", "older"],
            "given, and removed, since the restore"
        );
        let none = Kept { apps: BTreeSet::new(), only: false };
        assert_eq!(
            unknown(&stored, &[], &asked, false),
            Some(none),
            "an older agent could not be told to keep anything"
        );
        assert_eq!(
            words(unknown(&stored, &[], &asked, true)),
            ["gone", "older", "same"],
            "it holds none, and gets none"
        );
    }

    #[test]
    fn invented_apps_have_an_end() {
        let name = |n: usize| format!("app-{n:04}");
        let held = |numbers: std::ops::Range<usize>| -> Vec<HeldApp> {
            numbers.map(|n| HeldApp { app: name(n), release: 1, rollout: 1 }).collect()
        };
        let stored = |keep: std::ops::Range<usize>| StoredSpec {
            keep: keep.map(|n| name(n).parse().unwrap()).collect(),
            ..StoredSpec::default()
        };
        let most = MAX_UNKNOWN_APPS;
        let found = |keep, told| {
            unknown(&stored(keep), &held(told), &BTreeSet::new(), true).map(|kept| (kept.apps.len(), kept.only))
        };
        assert_eq!(found(0..0, 0..most), Some((most, false)));
        assert_eq!(found(0..0, 0..most + 1), None, "nothing of it is taken");
        assert_eq!(found(0..most, 0..most), Some((most, false)), "the same again");
        assert_eq!(found(0..most, 1..most + 1), Some((most, true)), "other names take the place of the former");
        assert_eq!(found(0..10, 20..30), Some((10, false)), "few stay, although they are not named");
        let known = |n: usize| (name(n).parse().unwrap(), StoredApp::new(9, 9));
        let many = StoredSpec { apps: (0..most * 2).map(known).collect(), ..StoredSpec::default() };
        assert_eq!(
            unknown(&many, &held(0..most * 2), &BTreeSet::new(), true).map(|kept| kept.apps.len()),
            Some(most * 2),
            "not invented"
        );
        assert_eq!(unknown(&many, &held(0..MAX_HELD_APPS + 1), &BTreeSet::new(), true), None);
    }
}
