//! Clean-up: looks at the disk, has `disk` decide, and removes what goes; anew on every pass, so that one that was broken off leaves
//! nothing to go on with. By itself when the agent starts, after activations and every so often, where there is a budget; and
//! when an operator asks. Beside `reconcile`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use drover_proto::{
    bytes::Bytes,
    event::EventKind,
    name::AppName,
    prune::{PruneKind, PruneReport, PruneVerdict},
};

use super::Shared;
use crate::{
    disk::{
        Decision, Engine as Answer, Held, Target,
        claims::{Claims, Known},
        decide,
    },
    exec,
    observe::{self, disk::Sizes},
    stock::Stocked,
};

/// Between two passes on a host on which nothing else happens.
const EVERY: Duration = Duration::from_secs(15 * 60);
/// After an activation: perhaps another one ends, too.
const PAUSE: Duration = Duration::from_secs(2);
/// Things that are named in an event.
const MOST_NAMED: usize = 5;

/// What one pass leaves for the next.
#[derive(Default)]
pub(super) struct Pruning {
    /// One pass at a time.
    sizes: tokio::sync::Mutex<Sizes>,
    /// What was last told of things that do not go.
    told: std::sync::Mutex<String>,
}

/// Runs until the agent stops.
pub(super) async fn passes(shared: Arc<Shared>) {
    if shared.parts.disk_budget.is_none() {
        return std::future::pending().await;
    }
    loop {
        shared.prune(false).await;
        tokio::select! {
            () = shared.flights.landed.notified() => tokio::time::sleep(PAUSE).await,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

impl Shared {
    /// One pass; `plan`: nothing is removed.
    pub(super) async fn prune(&self, plan: bool) -> PruneReport {
        let mut sizes = self.pruning.sizes.lock().await;
        let parts = &self.parts;
        let stocked = parts.stock.known();
        // Before the door is closed: it may take long, and what comes meanwhile is not touched.
        let held;
        (held, *sizes) = observe::disk::look(&parts.layout, &parts.engine, &stocked, std::mem::take(&mut *sizes)).await;
        let closed = self.flights.close().await;
        self.settle_stock(&held, &stocked, &closed.inside).await;
        let mut decision =
            decide(&held, &parts.stock.known(), &self.claims(&closed.inside), parts.disk_budget.map(|budget| budget.0));
        if !plan {
            self.carry_out(&mut decision).await;
            self.tell_of(&decision);
        }
        drop(closed);
        decision.report()
    }

    /// Images that others have removed are nobody's any more, and those that came when nobody could note it are drover's.
    async fn settle_stock(&self, held: &Held, known: &Stocked, at_work: &BTreeSet<AppName>) {
        if held.engine != Answer::Answered {
            return;
        }
        let there: BTreeSet<&String> = held.images.iter().map(|image| &image.id).collect();
        let mut gone = BTreeSet::new();
        for id in known.images.keys().filter(|id| !there.contains(id)) {
            // The engine does not list what is only a step to another image.
            if matches!(self.parts.engine.image_id(id).await, Ok(None)) {
                gone.insert(id.clone());
            }
        }
        let mut found = BTreeMap::new();
        for (name, arriving) in self.parts.stock.known().arriving {
            if at_work.contains(&arriving.app) {
                continue;
            }
            match self.parts.engine.image_id(&name).await {
                Ok(id) => drop(found.insert(name, id)),
                Err(error) => tracing::debug!(name, %error, "nobody knows yet whether it has come"),
            }
        }
        self.parts.stock.note(|stocked| stocked.settle(&gone, &found));
        if let Some(cache) = &held.cache {
            self.parts.stock.note(|stocked| stocked.settle_cache(cache, known, at_work));
        }
    }

    fn claims(&self, at_work: &BTreeSet<AppName>) -> Claims {
        let ledgers = self.all();
        let damaged = self.ledgers.damaged().into_keys().collect();
        let spec = self.parts.desired.subscribe().borrow().clone();
        Claims::of(&Known { ledgers: &ledgers, spec: spec.as_deref(), at_work, damaged: &damaged })
    }

    async fn carry_out(&self, decision: &mut Decision) {
        let targets: Vec<(usize, Target)> = decision.targets().collect();
        for (at, target) in targets {
            let done = match &target {
                Target::Tree(app, key) => {
                    let (layout, app, key) = (self.parts.layout.clone(), app.clone(), key.clone());
                    let removed = tokio::task::spawn_blocking(move || exec::remove_tree(&layout, &app, &key)).await;
                    removed.map_err(|error| error.to_string()).and_then(|done| done.map_err(|e| e.to_string()))
                }
                Target::Container(container) => {
                    self.parts.engine.remove_ended(container).await.map_err(|error| error.to_string())
                }
                Target::Image(image) => {
                    let removed = self.parts.engine.remove_image(image).await;
                    if removed.is_ok() {
                        self.parts.stock.removed(&image.id);
                    }
                    removed.map_err(|error| error.to_string())
                }
                Target::Cache(records) => match self.remove_cache(records).await {
                    Ok(gone_bytes) => {
                        decision.has_size(at, gone_bytes);
                        Ok(())
                    }
                    Err(why) => Err(why),
                },
            };
            match &done {
                Ok(()) => tracing::info!(?target, "removed from the disk: nobody needs it"),
                Err(error) => tracing::warn!(?target, error, "nobody needs it, and it cannot be removed"),
            }
            decision.note(at, done);
        }
    }

    /// How much has gone.
    async fn remove_cache(&self, records: &BTreeMap<String, u64>) -> Result<u64, String> {
        let ids = records.keys().cloned().collect();
        let gone = self.parts.engine.remove_cache(&ids).await.map_err(|error| error.to_string())?;
        self.parts.stock.uncached(&gone);
        if gone.is_empty() {
            return Err("the engine keeps it".to_owned());
        }
        Ok(gone.iter().filter_map(|id| records.get(id)).fold(0, |sum, size| sum.saturating_add(*size)))
    }

    fn tell_of(&self, decision: &Decision) {
        let (gone, stays) = (went(decision), stayed(decision));
        let mut told = self.pruning.told.lock().unwrap_or_else(PoisonError::into_inner);
        // What does not go is told once.
        let news = if *told == stays { "" } else { stays.as_str() };
        let said = [gone.as_str(), news].into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join("; ");
        if !said.is_empty() {
            self.parts.events.emit(None, EventKind::DiskPruned, said);
        }
        *told = stays;
    }
}

/// `2 images and 1 release removed: …`; empty = nothing.
fn went(decision: &Decision) -> String {
    let gone: Vec<_> =
        decision.judged.iter().map(|judged| &judged.item).filter(|item| item.verdict == PruneVerdict::Gone).collect();
    if gone.is_empty() {
        return String::new();
    }
    let count = |kind: &PruneKind, one: &str| match gone.iter().filter(|item| item.kind == *kind).count() {
        0 => None,
        1 => Some(format!("1 {one}")),
        many => Some(format!("{many} {one}s")),
    };
    let kinds = [
        (PruneKind::Image, "image"),
        (PruneKind::Container, "stopped container"),
        (PruneKind::Release, "release"),
        (PruneKind::BuildCache, "build cache"),
    ];
    let counts: Vec<String> = kinds.iter().filter_map(|(kind, one)| count(kind, one)).collect();
    let mut names: Vec<&str> = gone.iter().take(MOST_NAMED).map(|item| item.name.as_str()).collect();
    if gone.len() > MOST_NAMED {
        names.push("…");
    }
    format!("removed what nobody needs: {} ({})", counts.join(", "), names.join(", "))
}

/// What should have gone, or would have to; empty = nothing.
fn stayed(decision: &Decision) -> String {
    let failed = decision.judged.iter().find_map(|judged| match &judged.item.verdict {
        PruneVerdict::Failed(why) => {
            Some(format!("{} {} cannot be removed: {why}", judged.item.kind, judged.item.name))
        }
        _ => None,
    });
    let over = match (decision.over_bytes(), decision.budget_bytes) {
        (0, _) | (_, None) => None,
        (_, Some(budget)) => Some(format!(
            "drover holds more than disk_budget ({}), and all of it is needed: `drover prune --plan` says by whom",
            Bytes(budget)
        )),
    };
    // What could not be removed is why there is too much.
    failed.or(over).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! What is told of a pass.
    use drover_proto::prune::PruneItem;

    use super::*;
    use crate::disk::{HeldTree, Judged};

    fn judged(name: &str, verdict: PruneVerdict) -> Judged {
        let kind = PruneKind::Image;
        let item = PruneItem { kind, name: name.to_owned(), app: None, size_bytes: None, since_unix_ms: None, verdict };
        Judged { item, target: None }
    }

    #[test]
    fn what_went_is_counted_and_named_and_what_stays_has_its_reason() {
        let app: AppName = "mono".parse().unwrap();
        let tree = HeldTree { app: Some(app.clone()), key: "aa".to_owned(), size_bytes: 10, since_unix_ms: None };
        let held = Held { trees: vec![tree], ..Held::default() };
        let at_work = [app].into();
        let (ledgers, damaged) = (BTreeMap::new(), BTreeSet::new());
        let claims = Claims::of(&Known { ledgers: &ledgers, spec: None, at_work: &at_work, damaged: &damaged });
        let mut decision = decide(&held, &Default::default(), &claims, Some(5));
        assert_eq!((went(&decision), stayed(&decision).contains("disk_budget (5 B)")), (String::new(), true));
        decision.judged = vec![
            judged("web:1", PruneVerdict::Gone),
            judged("web:2", PruneVerdict::Gone),
            judged("web:3", PruneVerdict::Failed("in use".to_owned())),
        ];
        assert_eq!(went(&decision), "removed what nobody needs: 2 images (web:1, web:2)");
        assert!(stayed(&decision).starts_with("image web:3 cannot be removed: in use"));
    }
}
