//! What goes and what stays, and why.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{digest::Digest, spec::DesiredApp};

use super::{claims::Known, *};
use crate::{
    ledger::{Activation, AppLedger, Stage},
    render::tests::{rendered, with_container},
    stock::Origin,
};

const MIB: u64 = 1 << 20;

/// A host with the app `mono`, whose releases are made of the images 1, 2, 3…
struct Host {
    held: Held,
    stocked: Stocked,
    ledgers: BTreeMap<AppName, AppLedger>,
    at_work: BTreeSet<AppName>,
    damaged: BTreeSet<AppName>,
}

fn app() -> AppName {
    "mono".parse().unwrap()
}

fn id(image: u8) -> String {
    Digest::of(&[image]).to_string()
}

fn digest(image: u8) -> Digest {
    Digest::of(&[image, 0])
}

fn release(image: u8) -> DesiredApp {
    let mut desired = with_container();
    desired.release.number = image.into();
    for container in desired.spec.containers.values_mut() {
        container.image.digest = Some(digest(image));
    }
    desired
}

impl Host {
    /// Images 1 to `images` are drover's, each of 3 MiB, 2 of which all of them share; older ones came earlier. The
    /// releases of `committed` were, in that order.
    fn new(images: u8, committed: &[u8]) -> Self {
        let mut ledger = AppLedger::new(app());
        for image in committed {
            let desired = release(*image);
            ledger.commit(&desired, &rendered(&desired), 0);
        }
        let mut host = Self {
            held: Held { engine: Engine::Answered, ..Held::default() },
            stocked: Stocked::default(),
            ledgers: [(app(), ledger)].into(),
            at_work: BTreeSet::new(),
            damaged: BTreeSet::new(),
        };
        for image in 1..=images {
            host.hold(image);
            let name = format!("registry.example.org/shop@{}", digest(image));
            let stocked = StockedImage { names: [name].into(), app: app(), since_unix_ms: image.into() };
            host.stocked.images.insert(id(image), stocked);
        }
        host
    }

    fn hold(&mut self, image: u8) {
        self.held.images.push(HeldImage {
            id: id(image),
            names: [format!("registry.example.org/shop@{}", digest(image))].into(),
            size_bytes: 3 * MIB,
            layers: vec![("base".to_owned(), 2 * MIB), (id(image), MIB)],
            containers: BTreeSet::new(),
        });
    }

    fn image(&mut self, image: u8) -> &mut HeldImage {
        self.held.images.iter_mut().find(|held| held.id == id(image)).unwrap()
    }

    fn decide(&self, budget: Option<u64>) -> Decision {
        let Self { ledgers, at_work, damaged, .. } = self;
        let claims = Claims::of(&Known { ledgers, spec: None, at_work, damaged });
        decide(&self.held, &self.stocked, &claims, budget)
    }

    /// The images that go, in order, and why each other stays.
    fn images(&self, budget: Option<u64>) -> (Vec<u8>, BTreeMap<u8, Because>) {
        let number = |name: &str| (1..20).find(|image| name.contains(&digest(*image).to_string()));
        let (mut goes, mut stays) = (Vec::new(), BTreeMap::new());
        for Judged { item, target } in self.decide(budget).judged {
            let Some(image) = number(&item.name).filter(|_| item.kind == PruneKind::Image) else { continue };
            match item.verdict {
                PruneVerdict::Kept { because, reason } => {
                    assert!(!reason.is_empty() && target.is_none());
                    stays.insert(image, because);
                }
                PruneVerdict::Goes => goes.push(image),
                PruneVerdict::Gone | PruneVerdict::Failed(_) => panic!("nothing has been done"),
            }
        }
        (goes, stays)
    }
}

#[test]
fn what_runs_and_the_release_before_stay_and_the_oldest_goes_first_until_the_budget_is_kept() {
    let host = Host::new(6, &[1, 5, 4]);
    let needed = BTreeMap::from([(4, Because::Runs), (5, Because::ReleaseBefore)]);
    assert_eq!(host.images(None), (vec![1, 2, 3, 6], needed.clone()));
    assert_eq!(host.images(Some(0)), (vec![1, 2, 3, 6], needed.clone()), "never what is needed");
    // Six images: 2 MiB that all share, and 1 MiB of each.
    assert_eq!(host.decide(None).held_bytes, 8 * MIB);
    let mut within = needed;
    within.extend([(3, Because::WithinBudget), (6, Because::WithinBudget)]);
    assert_eq!(host.images(Some(6 * MIB)), (vec![1, 2], within));
    assert!(host.images(Some(8 * MIB)).0.is_empty());
    let decision = host.decide(Some(3 * MIB));
    assert_eq!((decision.over_bytes(), decision.report().freed_bytes), (MIB, 4 * MIB));
}

#[test]
fn what_others_brought_use_or_have_named_stays() {
    let mut host = Host::new(5, &[5]);
    host.stocked.images.remove(&id(1));
    host.image(2).containers = ["theirs".to_owned(), "web".to_owned()].into();
    host.image(3).names.insert("keep/this:1".to_owned());
    let stays =
        [(1, Because::NotDrovers), (2, Because::UsedByContainer), (3, Because::NamedByOthers), (5, Because::Runs)];
    assert_eq!(host.images(None), (vec![4], stays.into()));
    assert_eq!(host.decide(None).held_bytes, 6 * MIB, "what is not drover's does not count");
}

#[test]
fn what_is_in_flight_stays_and_of_a_damaged_ledger_everything() {
    let mut host = Host::new(3, &[1]);
    let desired = Some(release(2));
    host.ledgers.get_mut(&app()).unwrap().activation = Some(Activation {
        desired,
        rollout: 2,
        started_unix_ms: 0,
        switched_unix_ms: None,
        switched_at: None,
        touched: false,
        stage: Stage::Preparing,
        hooks: BTreeSet::new(),
    });
    let tree = HeldTree { app: Some(app()), key: "aa".to_owned(), size_bytes: MIB, since_unix_ms: None };
    host.held.trees.push(tree);
    assert_eq!(host.images(None), (vec![3], [(1, Because::Runs), (2, Because::Wanted)].into()));
    let of_tree = |host: &Host| {
        let judged = host.decide(None).judged;
        judged.into_iter().find(|judged| judged.item.kind == PruneKind::Release).unwrap().item.verdict
    };
    assert!(matches!(of_tree(&host), PruneVerdict::Kept { because: Because::InFlight, .. }));
    host.ledgers.get_mut(&app()).unwrap().activation = None;
    assert_eq!((of_tree(&host), host.images(None).0), (PruneVerdict::Goes, vec![2, 3]));
    host.damaged.insert(app());
    assert!(matches!(of_tree(&host), PruneVerdict::Kept { because: Because::Unknown, .. }));
    assert!(host.images(None).0.is_empty());
    host.damaged.clear();
    host.at_work.insert(app());
    assert!(matches!(of_tree(&host), PruneVerdict::Kept { because: Because::InFlight, .. }));
}

#[test]
fn while_a_compose_project_is_activated_no_image_goes() {
    let mut host = Host::new(2, &[1]);
    let current = host.ledgers.get_mut(&app()).unwrap().current.as_mut().unwrap();
    let project = serde_json::json!({ "directory": "/srv/shop", "files": ["/srv/shop/compose.yaml"] });
    current.spec.compose.insert("shop".parse().unwrap(), serde_json::from_value(project).unwrap());
    assert_eq!(host.images(None).0, [2]);
    host.at_work.insert(app());
    assert_eq!(host.images(None), (vec![], [(1, Because::Runs), (2, Because::InFlight)].into()));
}

#[test]
fn of_containers_only_those_go_that_drover_made_and_no_app_has() {
    let mut host = Host::new(0, &[1]);
    let container = |name: &str, app: Option<AppName>, project: Option<&str>| HeldContainer {
        name: name.to_owned(),
        app,
        project: project.map(|project| project.parse().unwrap()),
        ..HeldContainer::default()
    };
    let ledger = host.ledgers.get_mut(&app()).unwrap();
    ledger.owned_containers.insert("shop".parse().unwrap());
    ledger.projects.insert("stack".parse().unwrap(), None);
    host.held.containers = vec![
        container("shop", Some(app()), None),
        container("shop.drover-next", Some(app()), None),
        container("theirs", None, None),
        container("stack_web_1", None, Some("stack")),
        container("other_web_1", None, Some("other")),
    ];
    let verdicts: BTreeMap<String, String> = host
        .decide(None)
        .judged
        .into_iter()
        .filter(|judged| judged.item.kind == PruneKind::Container)
        .map(|Judged { item, .. }| match item.verdict {
            PruneVerdict::Kept { because, .. } => (item.name, because.to_string()),
            _ => (item.name, "goes".to_owned()),
        })
        .collect();
    let expected = [
        ("other_web_1", "not-drovers"),
        ("shop", "wanted"),
        ("shop.drover-next", "goes"),
        ("stack_web_1", "wanted"),
        ("theirs", "not-drovers"),
    ];
    assert_eq!(verdicts, expected.map(|(name, verdict)| (name.to_owned(), verdict.to_owned())).into());
}

#[test]
fn what_the_engine_does_not_say_is_told_and_nothing_goes_by_it() {
    let mut host = Host::new(0, &[]);
    let last = |host: &Host| host.decide(None).judged.pop().unwrap().item;
    assert_eq!(last(&host).kind, PruneKind::BuildCache);
    host.held.engine = Engine::Silent("no answer for 120 s".to_owned());
    let PruneVerdict::Kept { because: Because::Unknown, reason } = last(&host).verdict else { panic!() };
    assert!(reason.contains("no answer"));
    host.held.engine = Engine::Absent;
    assert!(host.decide(None).judged.is_empty());
}

#[test]
fn of_the_build_cache_goes_what_drovers_builds_left_unless_one_goes_on() {
    let mut host = Host::new(0, &[]);
    let record = |id: &str, parents: &[&str], in_use| HeldCache {
        id: id.to_owned(),
        size_bytes: MIB,
        in_use,
        parents: parents.iter().map(|id| (*id).to_owned()).collect(),
        since_unix_ms: None,
    };
    host.held.cache = Some(vec![record("a", &[], false), record("b", &["a"], false), record("theirs", &[], false)]);
    for (id, since_unix_ms) in [("a", 5), ("b", 7), ("gone", 9)] {
        host.stocked.cache.insert(id.to_owned(), Origin { app: app(), since_unix_ms });
    }
    let goes = |host: &Host| match host.decide(None).targets().next() {
        Some((_, Target::Cache(records))) => records.into_keys().collect::<Vec<_>>().join(" "),
        _ => String::new(),
    };
    assert_eq!(goes(&host), "a b");
    let mut decision = host.decide(None);
    assert_eq!(decision.judged[0].item.since_unix_ms, Some(7));
    decision.has_size(0, MIB);
    decision.note(0, Ok(()));
    assert_eq!(decision.report().freed_bytes, MIB, "what the engine removed");
    let because = |host: &Host| match &host.decide(None).judged[0].item.verdict {
        PruneVerdict::Kept { because, .. } => Some(because.clone()),
        _ => None,
    };
    host.held.cache = Some(vec![record("a", &[], false), record("b", &["a"], false), record("theirs", &["a"], false)]);
    assert_eq!(goes(&host), "b", "somebody else's is made of it");
    host.held.cache = Some(vec![record("a", &[], false), record("b", &["a"], false), record("theirs", &["b"], false)]);
    assert_eq!(because(&host), Some(Because::UsedByBuilds));
    host.held.cache = Some(vec![record("a", &[], true), record("b", &[], false)]);
    assert_eq!(because(&host), Some(Because::InFlight));
    host.held.cache = None;
    assert_eq!(because(&host), Some(Because::Unknown));
    host.held.cache = Some(vec![record("a", &[], false)]);
    host.at_work = [app()].into();
    assert_eq!(because(&host), Some(Because::InFlight));
}

#[test]
fn names_are_compared_as_the_engine_shows_them() {
    let stocked = |name: &str| StockedImage { names: [name.to_owned()].into(), app: app(), since_unix_ms: 0 };
    let held = |names: &[&str]| HeldImage {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..HeldImage::default()
    };
    let by = |names: &[&str], stock: &str| named(&held(names), &stocked(stock)).is_some();
    assert!(!by(&["redis:7", "redis@sha256:1"], "docker.io/library/redis:7"));
    assert!(!by(&["10.0.0.5:5000/shop@sha256:1"], "10.0.0.5:5000/shop@sha256:1"));
    assert!(by(&["10.0.0.5:5000/shop@sha256:1", "10.0.0.5:5000/shop:1"], "10.0.0.5:5000/shop@sha256:1"));
    assert!(by(&["other/redis@sha256:1"], "redis:7"));
    assert!(!by(&[], "redis:7"), "a name that went to another image");
    let moved = HeldImage { id: format!("sha256:{}", "ab".repeat(32)), ..HeldImage::default() };
    assert_eq!(name_of(&moved, Some(&stocked("shop_web"))), "shop_web (abababababab)");
}
