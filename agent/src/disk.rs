//! Pure: what of a host's disk goes, and why each of the rest stays. What is there (`observe/disk`), what drover brought (`stock`)
//! and what apps need (`claims`) in; a decision out, made anew from these on every pass. `reconcile/prune` carries it out.

pub mod claims;
mod weigh;

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    name::AppName,
    prune::{Because, PruneItem, PruneKind, PruneReport, PruneVerdict},
};

use self::{claims::Claims, weigh::Scales};
use crate::{
    host::docker::{HeldCache, HeldContainer, HeldImage},
    stock::{Stocked, StockedImage},
};

/// Things that are listed, at most.
const MOST_LISTED: usize = 1000;

/// What is on a disk.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Directories of releases.
    pub trees: Vec<HeldTree>,
    /// Containers that do not run, whoever made them.
    pub containers: Vec<HeldContainer>,
    /// Images, whoever brought them.
    pub images: Vec<HeldImage>,
    /// What the engine keeps of builds, whoever made them; `None` = it was not asked, or does not say.
    pub cache: Option<Vec<HeldCache>>,
    /// Whether there is an engine that answers.
    pub engine: Engine,
}

/// Whether the engine has said what it holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Engine {
    /// There is none.
    #[default]
    Absent,
    /// It did.
    Answered,
    /// It did not, and why.
    Silent(String),
}

/// The directory of a release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldTree {
    /// Whose, by the directory that it lies in; `None` = that is no app's name.
    pub app: Option<AppName>,
    /// The directory's name.
    pub key: String,
    /// With all that is in it.
    pub size_bytes: u64,
    /// Since when it is complete, or was last changed; Unix ms.
    pub since_unix_ms: Option<i64>,
}

/// What is to be removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The directory of a release.
    Tree(AppName, String),
    /// A container that does not run.
    Container(HeldContainer),
    /// An image, under all of its names.
    Image(HeldImage),
    /// What is kept of builds: records with their sizes.
    Cache(BTreeMap<String, u64>),
}

/// What becomes of one thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// As it is told.
    pub item: PruneItem,
    /// `Some` = it goes.
    pub target: Option<Target>,
}

/// What becomes of everything.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// What drover may hold; `None` = nobody has said.
    pub budget_bytes: Option<u64>,
    /// What drover holds.
    pub held_bytes: u64,
    /// What goes, oldest first, then what stays.
    pub judged: Vec<Judged>,
    scales: Scales,
}

/// Why something stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// In a word.
    pub because: Because,
    /// In a few words.
    pub words: String,
}

impl Reason {
    /// In these words.
    pub fn new(because: Because, words: impl Into<String>) -> Self {
        Self { because, words: words.into() }
    }

    fn not_drovers() -> Self {
        Self::new(Because::NotDrovers, "not made by drover")
    }
}

/// One thing before it is known whether there is room for it.
struct Thing {
    item: PruneItem,
    /// `None` = it is not drover's, and does not count.
    own: Option<Target>,
    /// Why it stays whatever the budget.
    needed: Option<Reason>,
}

/// Decides.
#[must_use]
pub fn decide(held: &Held, stocked: &Stocked, claims: &Claims, budget_bytes: Option<u64>) -> Decision {
    let trees = held.trees.iter().map(|tree| of_tree(tree, claims));
    let containers = held.containers.iter().map(|container| of_container(container, claims));
    let images = held.images.iter().map(|image| of_image(image, stocked.images.get(&image.id), claims));
    let cache = of_cache(held.cache.as_deref().unwrap_or_default(), stocked, claims);
    let mut things: Vec<Thing> = trees.chain(containers).chain(images).chain(cache).collect();
    // Oldest first; of what nobody knows the age of, whatever it is called decides, so that it is the same every time.
    let order = |thing: &Thing| (thing.item.since_unix_ms, thing.item.kind.clone(), thing.item.name.clone());
    things.sort_by_key(order);

    let mut scales = Scales::default();
    things.iter().for_each(|thing| scales.put(thing.own.as_ref(), thing.item.size_bytes));
    let held_bytes = scales.bytes();
    let (mut goes, mut stays) = (Vec::new(), Vec::new());
    let mut left = scales.clone();
    for mut thing in things {
        let room =
            || Reason::new(Because::WithinBudget, "nobody needs it, and there is room for it within disk_budget");
        let fits = budget_bytes.is_some_and(|budget| left.bytes() <= budget);
        match thing.needed.or_else(|| fits.then(room)) {
            None => {
                left.take(thing.own.as_ref(), thing.item.size_bytes);
                thing.item.verdict = PruneVerdict::Goes;
                goes.push(Judged { item: thing.item, target: thing.own });
            }
            Some(Reason { because, words: reason }) => {
                thing.item.verdict = PruneVerdict::Kept { because, reason };
                stays.push(Judged { item: thing.item, target: None });
            }
        }
    }
    // Of drover's own first.
    stays.sort_by_key(|judged| is_not_drovers(&judged.item));
    goes.extend(stays);
    goes.extend(of_engine(held, stocked));
    Decision { budget_bytes, held_bytes, judged: goes, scales }
}

fn item(kind: PruneKind, name: String, app: Option<AppName>, size: Option<u64>, since: Option<i64>) -> PruneItem {
    let verdict = PruneVerdict::Goes;
    PruneItem { kind, name, app, size_bytes: size, since_unix_ms: since, verdict }
}

fn of_tree(tree: &HeldTree, claims: &Claims) -> Thing {
    let place = tree.app.as_ref().map_or_else(String::new, |app| format!("{app}/"));
    let name = format!("{place}{}", tree.key.chars().take(80).collect::<String>());
    let item = item(PruneKind::Release, name, tree.app.clone(), Some(tree.size_bytes), tree.since_unix_ms);
    let own = tree.app.as_ref().map(|app| Target::Tree(app.clone(), tree.key.clone()));
    let needed = tree.app.as_ref().map_or(Some(Reason::not_drovers()), |app| claims.of_tree(app, &tree.key));
    Thing { item, own, needed }
}

fn of_container(container: &HeldContainer, claims: &Claims) -> Thing {
    let size = container.app.as_ref().map(|_| container.size_bytes);
    let name = container.name.clone();
    let item = item(PruneKind::Container, name, container.app.clone(), size, container.since_unix_ms);
    let needed = match (&container.app, &container.project) {
        (Some(app), _) => claims.of_container(app, &container.name),
        (None, Some(project)) => Some(claims.of_project(project).unwrap_or_else(Reason::not_drovers)),
        (None, None) => Some(Reason::not_drovers()),
    };
    Thing { item, own: container.app.as_ref().map(|_| Target::Container(container.clone())), needed }
}

fn of_image(image: &HeldImage, stocked: Option<&StockedImage>, claims: &Claims) -> Thing {
    let name = name_of(image, stocked);
    let (app, since) = stocked.map(|stocked| (stocked.app.clone(), stocked.since_unix_ms)).unzip();
    let item = item(PruneKind::Image, name, app, Some(image.size_bytes), since);
    let needed = match stocked {
        None => Some(Reason::not_drovers()),
        Some(stocked) => claims.of_image(image).or_else(|| used(image)).or_else(|| named(image, stocked)),
    };
    Thing { item, own: stocked.map(|_| Target::Image(image.clone())), needed }
}

/// One thing for each app: records are made of each other, and single ones mean nothing to anybody.
fn of_cache(cache: &[HeldCache], stocked: &Stocked, claims: &Claims) -> Vec<Thing> {
    let whose = |record: &HeldCache| stocked.cache.get(&record.id).map(|origin| &origin.app);
    let apps: BTreeSet<&AppName> = cache.iter().filter_map(whose).collect();
    let thing = |app: &AppName| {
        let kept = kept_for_others(cache, |record| whose(record) == Some(app));
        let own: Vec<&HeldCache> = cache.iter().filter(|record| whose(record) == Some(app)).collect();
        let goes: Vec<&HeldCache> = own.iter().copied().filter(|record| !kept.contains(record.id.as_str())).collect();
        let reason = if own.iter().any(|record| record.in_use) {
            Some(Reason::new(Because::InFlight, "a build that goes on uses it"))
        } else {
            goes.is_empty().then(|| Reason::new(Because::UsedByBuilds, "other builds are made of it"))
        };
        let shown = if goes.is_empty() { own } else { goes };
        let size = shown.iter().map(|record| record.size_bytes).fold(0, u64::saturating_add);
        let since = shown.iter().filter_map(|record| Some(stocked.cache.get(&record.id)?.since_unix_ms)).max();
        let name = format!("of builds of {app} ({} records)", shown.len());
        Thing {
            item: item(PruneKind::BuildCache, name, Some(app.clone()), Some(size), since),
            own: Some(Target::Cache(shown.iter().map(|record| (record.id.clone(), record.size_bytes)).collect())),
            needed: claims.of_app(app).or(reason),
        }
    };
    apps.into_iter().map(thing).collect()
}

/// Those that records of others are made of, in however many steps: the engine does not remove them.
fn kept_for_others(cache: &[HeldCache], is_own: impl Fn(&HeldCache) -> bool) -> BTreeSet<&str> {
    let by_id: BTreeMap<&str, &HeldCache> = cache.iter().map(|record| (record.id.as_str(), record)).collect();
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    let mut ahead: Vec<&HeldCache> = cache.iter().filter(|record| !is_own(record)).collect();
    while let Some(record) = ahead.pop() {
        let parents = record.parents.iter().filter_map(|id| by_id.get(id.as_str()).copied());
        ahead.extend(parents.filter(|parent| kept.insert(&parent.id)));
    }
    kept
}

/// What drover calls it; with its id, if that name has gone to another.
fn name_of(image: &HeldImage, stocked: Option<&StockedImage>) -> String {
    match (stocked.and_then(|stocked| stocked.names.first()), image.names.first()) {
        (Some(name), Some(_)) => name.clone(),
        (Some(name), None) => {
            let id = image.id.trim_start_matches("sha256:");
            format!("{name} ({})", id.chars().take(12).collect::<String>())
        }
        (None, Some(name)) => name.clone(),
        (None, None) => image.id.clone(),
    }
}

fn used(image: &HeldImage) -> Option<Reason> {
    let by = image.containers.first()?;
    let more = match image.containers.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(Reason::new(Because::UsedByContainer, format!("container {by}{more} is made of it")))
}

/// Whoever gave it a name that drover did not give it wants it, too.
fn named(image: &HeldImage, stocked: &StockedImage) -> Option<Reason> {
    let names: BTreeSet<&str> = stocked.names.iter().map(|name| familiar(name)).collect();
    let repositories: BTreeSet<&str> = names.iter().map(|name| repository(name)).collect();
    let is_others = |name: &&String| match name.split_once('@') {
        Some((repository, _)) => !repositories.contains(familiar(repository)),
        None => !names.contains(familiar(name)),
    };
    let other = image.names.iter().find(is_others)?;
    Some(Reason::new(Because::NamedByOthers, format!("it is also {other}, which is not drover's name for it")))
}

/// As the engine shows it.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("index.").unwrap_or(name);
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

fn repository(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(repository, _)| repository);
    match name.rsplit_once(':') {
        // A colon before the last slash is a registry's port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// What cannot be said of single things.
fn of_engine(held: &Held, stocked: &Stocked) -> Option<Judged> {
    let (kind, name, because, words) = match &held.engine {
        Engine::Absent => return None,
        Engine::Answered if held.cache.is_none() && !stocked.cache.is_empty() => {
            let words = "the engine does not say what it keeps of builds; the agent's log says why";
            (PruneKind::BuildCache, "all of it", Because::Unknown, words.to_owned())
        }
        Engine::Answered => {
            let words = "nobody can say that drover's builds left it; `docker builder prune` on the host removes it";
            (PruneKind::BuildCache, "all other", Because::NotDrovers, words.to_owned())
        }
        Engine::Silent(why) => {
            (PruneKind::Image, "all, and containers", Because::Unknown, format!("nobody knows what is there: {why}"))
        }
    };
    let mut item = item(kind, name.to_owned(), None, None, None);
    item.verdict = PruneVerdict::Kept { because, reason: words };
    Some(Judged { item, target: None })
}

impl Decision {
    /// What goes, in order: place in `judged`, and what to remove.
    pub fn targets(&self) -> impl Iterator<Item = (usize, Target)> {
        self.judged.iter().enumerate().filter_map(|(at, judged)| Some((at, judged.target.clone()?)))
    }

    /// What of it has come.
    pub fn note(&mut self, at: usize, done: Result<(), String>) {
        if let Some(judged) = self.judged.get_mut(at) {
            judged.item.verdict = done.map_or_else(PruneVerdict::Failed, |()| PruneVerdict::Gone);
        }
    }

    /// So much of it was removed.
    pub fn has_size(&mut self, at: usize, bytes: u64) {
        if let Some(judged) = self.judged.get_mut(at) {
            judged.item.size_bytes = Some(bytes);
        }
    }

    /// How much more than the budget is held when what goes has gone.
    #[must_use]
    pub fn over_bytes(&self) -> u64 {
        self.left_bytes().saturating_sub(self.budget_bytes.unwrap_or(u64::MAX))
    }

    fn left_bytes(&self) -> u64 {
        let mut left = self.scales.clone();
        for Judged { item, target } in &self.judged {
            if matches!(item.verdict, PruneVerdict::Goes | PruneVerdict::Gone) {
                left.take(target.as_ref(), item.size_bytes);
            }
        }
        left.bytes()
    }

    /// As it is told.
    #[must_use]
    pub fn report(self) -> PruneReport {
        let freed_bytes = self.held_bytes.saturating_sub(self.left_bytes());
        let left_out = self.judged.len().saturating_sub(MOST_LISTED);
        PruneReport {
            budget_bytes: self.budget_bytes,
            held_bytes: self.held_bytes,
            freed_bytes,
            items: self.judged.into_iter().take(MOST_LISTED).map(|judged| judged.item).collect(),
            left_out,
        }
    }
}

fn is_not_drovers(item: &PruneItem) -> bool {
    matches!(&item.verdict, PruneVerdict::Kept { because: Because::NotDrovers, .. })
}

#[cfg(test)]
mod tests;
