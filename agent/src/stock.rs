//! Which images on this host drover brought or built itself, and what the engine kept of its builds, since no engine can say it. What is not in here was made by
//! somebody else, or nobody can say: a clean-up leaves it alone. `exec` writes it, `disk` and `observe` read it.
//!
//! That a fetch begins is noted before it does: an image that has come when the agent was killed is known all the same. Of
//! a build it is noted when it has ended; what is lost to a crash in between stays on the disk for good, which is the harmless way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use drover_proto::name::AppName;
use serde::{Deserialize, Serialize};

use crate::{
    host::{docker::HeldCache, files},
    report::now_unix_ms,
};

/// What comes later than this after a build began is not of that build; compose is stopped before.
const LONGEST_BUILD_MS: i64 = 31 * 60_000;
/// Beside the agent's other files.
const FILE: &str = "stock.json";

/// Everything that is known.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stocked {
    /// By id (`sha256:…` of the configuration).
    #[serde(default)]
    pub images: BTreeMap<String, StockedImage>,
    /// Being fetched, or a crash came in between: by the name that was asked for.
    #[serde(default)]
    pub arriving: BTreeMap<String, Origin>,
    /// What the engine kept of drover's builds: by the id of the record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cache: BTreeMap<String, Origin>,
    /// Builds that go on, or were broken off.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub builds: BTreeMap<AppName, Building>,
}

/// What there was when a build began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Building {
    /// What the engine kept of builds before it: records.
    pub before: BTreeSet<String>,
    /// When that was; Unix ms.
    pub since_unix_ms: i64,
}

/// An image that drover brought.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StockedImage {
    /// The names that drover gave it, or asked for it by. One that has others, too, is somebody else's as well.
    pub names: BTreeSet<String>,
    /// For which app it was brought first.
    pub app: AppName,
    /// Since when it is here; Unix ms.
    pub since_unix_ms: i64,
}

/// For whom something came, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// For which app.
    pub app: AppName,
    /// Unix ms.
    pub since_unix_ms: i64,
}

impl Stocked {
    /// The image that a name means by now has come.
    pub fn arrived(&mut self, name: &str, id: &str, arriving: Origin) {
        let Origin { app, since_unix_ms } = arriving;
        let image = StockedImage { names: BTreeSet::new(), app, since_unix_ms };
        self.images.entry(id.to_owned()).or_insert(image).names.insert(name.to_owned());
        self.arriving.remove(name);
    }

    /// Forgets what others have removed. `found`: what became of `arriving`, as far as nobody is at work with it.
    pub fn settle(&mut self, gone: &BTreeSet<String>, found: &BTreeMap<String, Option<String>>) {
        for (name, id) in found {
            if let (Some(arriving), Some(id)) = (self.arriving.remove(name), id) {
                self.arrived(name, id, arriving);
            }
        }
        self.images.retain(|id, _| !gone.contains(id));
    }

    /// The build of an app is over: what has come since, as long as one may take, is its own.
    fn built_by(&mut self, app: &AppName, cache: &[HeldCache], now: i64) {
        let Some(Building { before, since_unix_ms }) = self.builds.remove(app) else { return };
        let until = since_unix_ms.saturating_add(LONGEST_BUILD_MS);
        let came =
            |record: &&HeldCache| !before.contains(&record.id) && record.since_unix_ms.is_none_or(|at| at <= until);
        for record in cache.iter().filter(came) {
            self.cache.insert(record.id.clone(), Origin { app: app.clone(), since_unix_ms: now });
        }
    }

    /// What the engine keeps now. `known`: what was known before it said so; of builds that go on nothing is concluded, since the
    /// engine hides records meanwhile.
    pub fn settle_cache(&mut self, cache: &[HeldCache], known: &Self, at_work: &BTreeSet<AppName>) {
        let ended: Vec<AppName> = known.builds.keys().filter(|app| !at_work.contains(*app)).cloned().collect();
        for app in ended {
            if self.builds.get(&app) == known.builds.get(&app) {
                self.built_by(&app, cache, now_unix_ms());
            }
        }
        if cache.iter().any(|record| record.in_use) {
            return;
        }
        let there: BTreeSet<&String> = cache.iter().map(|record| &record.id).collect();
        self.cache
            .retain(|id, origin| there.contains(id) || !known.cache.contains_key(id) || at_work.contains(&origin.app));
    }
}

/// The file and what it says.
#[derive(Debug)]
pub struct Stock {
    path: PathBuf,
    stocked: Mutex<Stocked>,
}

impl Stock {
    /// Reads it. One that is damaged is put aside, which is the second answer: what it said is nobody's from then on.
    pub fn open(state_dir: &Path) -> io::Result<(Self, Option<String>)> {
        let path = state_dir.join(FILE);
        let (stocked, said) = match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(stocked) => (stocked, None),
                Err(error) => {
                    let aside = files::set_aside(&path)?;
                    let said = format!(
                        "the list of images that drover has brought is damaged ({error}); it lies in {} now, and none of them \
                         is cleaned up",
                        aside.display()
                    );
                    (Stocked::default(), Some(said))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Stocked::default(), None),
            Err(error) => return Err(error),
        };
        Ok((Self { path, stocked: Mutex::new(stocked) }, said))
    }

    /// What is known just now.
    #[must_use]
    pub fn known(&self) -> Stocked {
        self.stocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it; it is on the disk when this returns. When it cannot be written the agent knows it until its end: what it then
    /// forgets is never cleaned up, which is no reason not to deploy.
    pub fn note(&self, change: impl FnOnce(&mut Stocked)) {
        let mut stocked = self.stocked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = stocked.clone();
        change(&mut stocked);
        if *stocked == before {
            return;
        }
        let bytes = serde_json::to_vec(&*stocked).unwrap_or_default();
        if let Err(error) = files::write_private(&self.path, &bytes) {
            tracing::warn!(%error, "which images drover has brought is not on the disk");
        }
    }

    /// An image that is not here is about to be fetched under this name.
    pub fn expect(&self, name: &str, app: &AppName) {
        let arriving = Origin { app: app.clone(), since_unix_ms: now_unix_ms() };
        self.note(|stocked| {
            stocked.arriving.entry(name.to_owned()).or_insert(arriving);
        });
    }

    /// It is here.
    pub fn arrived(&self, name: &str, id: &str, app: &AppName) {
        let fresh = Origin { app: app.clone(), since_unix_ms: now_unix_ms() };
        self.note(|stocked| {
            let arriving = stocked.arriving.get(name).cloned().unwrap_or(fresh);
            stocked.arrived(name, id, arriving);
        });
    }

    /// It did not come.
    pub fn missed(&self, name: &str) {
        self.note(|stocked| drop(stocked.arriving.remove(name)));
    }

    /// It was built and has this name. `before`: what was here already; of that only what drover brought is its own.
    pub fn built(&self, name: &str, id: &str, app: &AppName, before: &BTreeSet<String>) {
        let fresh = Origin { app: app.clone(), since_unix_ms: now_unix_ms() };
        self.note(|stocked| {
            if !before.contains(id) || stocked.images.contains_key(id) {
                stocked.arrived(name, id, fresh);
            }
        });
    }

    /// A build begins; one of the same app that was broken off is over. `cache`: what the engine keeps of others.
    pub fn build_begins(&self, app: &AppName, cache: &[HeldCache]) {
        let now = now_unix_ms();
        self.note(|stocked| {
            stocked.built_by(app, cache, now);
            let before = cache.iter().map(|record| record.id.clone()).collect();
            stocked.builds.insert(app.clone(), Building { before, since_unix_ms: now });
        });
    }

    /// It has ended, one way or the other.
    pub fn build_ended(&self, app: &AppName, cache: &[HeldCache]) {
        self.note(|stocked| stocked.built_by(app, cache, now_unix_ms()));
    }

    /// These records are gone.
    pub fn uncached(&self, ids: &BTreeSet<String>) {
        self.note(|stocked| stocked.cache.retain(|id, _| !ids.contains(id)));
    }

    /// It is gone.
    pub fn removed(&self, id: &str) {
        self.note(|stocked| drop(stocked.images.remove(id)));
    }
}

#[cfg(test)]
mod tests {
    //! What is remembered over the agent's end, and what is not taken for drover's.
    use super::*;

    fn open(dir: &tempfile::TempDir) -> Stock {
        let (stock, said) = Stock::open(dir.path()).unwrap();
        assert_eq!(said, None);
        stock
    }

    #[test]
    fn what_was_on_its_way_when_the_agent_ended_is_known_when_it_has_come() {
        let (dir, app) = (tempfile::tempdir().unwrap(), "shop".parse().unwrap());
        let stock = open(&dir);
        stock.expect("web:1", &app);
        stock.expect("web:2", &app);
        let again = open(&dir);
        let found = [("web:1".to_owned(), Some("sha256:a".to_owned())), ("web:2".to_owned(), None)].into();
        again.note(|stocked| stocked.settle(&BTreeSet::new(), &found));
        let known = open(&dir).known();
        assert!(known.arriving.is_empty());
        assert_eq!(known.images.keys().collect::<Vec<_>>(), ["sha256:a"]);
        again.note(|stocked| stocked.settle(&["sha256:a".to_owned()].into(), &BTreeMap::new()));
        assert_eq!(
            open(&dir).known(),
            Stocked::default(),
            "what others removed is forgotten: it may come back as theirs"
        );
    }

    #[test]
    fn what_was_there_before_a_build_is_not_drovers() {
        let (dir, app) = (tempfile::tempdir().unwrap(), "shop".parse().unwrap());
        let stock = open(&dir);
        stock.built("shop_web", "sha256:a", &app, &BTreeSet::new());
        let before = ["sha256:a".to_owned(), "sha256:b".to_owned()].into();
        stock.built("shop_web", "sha256:a", &app, &before);
        stock.built("shop_job", "sha256:b", &app, &before);
        assert_eq!(stock.known().images.keys().collect::<Vec<_>>(), ["sha256:a"]);
        stock.removed("sha256:a");
        assert!(open(&dir).known().images.is_empty());
    }

    #[test]
    fn what_a_build_leaves_is_drovers_also_if_it_was_broken_off() {
        let (dir, app) = (tempfile::tempdir().unwrap(), "shop".parse::<AppName>().unwrap());
        let record = |id: &str, after_ms: i64| HeldCache {
            id: id.to_owned(),
            since_unix_ms: Some(now_unix_ms() + after_ms),
            ..HeldCache::default()
        };
        let keys = |stock: &Stock| stock.known().cache.into_keys().collect::<Vec<_>>().join(" ");
        let stock = open(&dir);
        stock.build_begins(&app, &[record("theirs", 0)]);
        stock.build_ended(&app, &[record("theirs", 0), record("a", 0)]);
        assert_eq!(keys(&stock), "a");
        // This one never comes to its end.
        stock.build_begins(&app, &[record("theirs", 0), record("a", 0)]);
        let again = open(&dir);
        let cache = [record("theirs", 0), record("a", 0), record("b", 0), record("later", 2 * LONGEST_BUILD_MS)];
        let known = again.known();
        again.note(|stocked| stocked.settle_cache(&cache, &known, &[app.clone()].into()));
        assert_eq!(keys(&again), "a", "it may go on");
        again.note(|stocked| stocked.settle_cache(&cache, &known, &BTreeSet::new()));
        assert_eq!(keys(&again), "a b");
        assert!(again.known().builds.is_empty());
    }

    #[test]
    fn what_others_removed_of_the_cache_is_forgotten_unless_it_may_be_hidden_or_new() {
        let (dir, app) = (tempfile::tempdir().unwrap(), "shop".parse::<AppName>().unwrap());
        let record = |id: &str| HeldCache { id: id.to_owned(), ..HeldCache::default() };
        let stock = open(&dir);
        stock.build_begins(&app, &[]);
        stock.build_ended(&app, &[record("a"), record("b")]);
        let left = |known: &Stocked, cache: &[HeldCache], at_work: &[AppName]| {
            let mut stocked = stock.known();
            stocked.settle_cache(cache, known, &at_work.iter().cloned().collect());
            stocked.cache.len()
        };
        let known = stock.known();
        assert_eq!(left(&known, &[record("a")], &[]), 1);
        assert_eq!(left(&known, &[record("a")], &[app]), 2, "its build may go on");
        assert_eq!(left(&known, &[HeldCache { in_use: true, ..record("a") }], &[]), 2, "another build may go on");
        assert_eq!(left(&Stocked::default(), &[record("a")], &[]), 2, "it came after the engine was asked");
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_nothing_is_drovers() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        let (stock, said) = Stock::open(dir.path()).unwrap();
        assert!(said.unwrap().contains("stock.json.damaged-"));
        assert_eq!(stock.known(), Stocked::default());
    }
}
