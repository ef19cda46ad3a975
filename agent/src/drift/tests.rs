//! The example, committed on a host in memory, and what befalls it.

use drover_proto::{plan::Plan, spec::DesiredApp};

use super::*;
use crate::{
    host::files::FileState,
    observe::Seen,
    plan::tests::{
        model::{Host, words},
        sockets::behind,
    },
    render::tests::rendered,
};

const UNIT_FILE: &str = "/etc/systemd/system/mono-api.service";
const SITE: &str = "/etc/nginx/sites-enabled/mono";
const API: &str = "mono-api.service";

struct World {
    host: Host,
    desired: DesiredApp,
    /// What was seen running with everything right.
    proven: BTreeMap<UnitName, String>,
}

impl World {
    /// Healthy; the process is the one that was seen with everything right.
    fn new() -> Self {
        let (mut host, desired) = Host::with_example();
        let unit = host.unit(API);
        (unit.load_state, unit.invocation_id) = ("loaded".into(), "a".into());
        let nginx = UnitState { active_state: "active".into(), invocation_id: "n".into(), ..UnitState::default() };
        host.observed.neighbours.insert("nginx.service".parse().unwrap(), nginx);
        let proven = [(API.parse().unwrap(), "a".to_owned())].into();
        Self { host, desired, proven }
    }

    fn with<T>(&self, look: impl FnOnce(&Sight<'_>) -> T) -> T {
        let (wanted, plan) = (rendered(&self.desired), self.host.plan(Some(&self.desired)));
        look(&Sight { wanted: &wanted, observed: &self.host.observed, plan: &plan, proven: &self.proven })
    }

    /// `part what [cure]` of each.
    fn found(&self) -> Vec<String> {
        let word = |found: &Found| {
            let cure = match &found.cure {
                Cure::Steps => "",
                Cure::Start => " [start]",
                Cure::Nobody(_) => " [nobody]",
            };
            format!("{} {}{cure}", found.part, found.what)
        };
        self.with(|sight| find(sight).iter().map(word).collect())
    }

    /// The steps when everything that says `repair` may be put right.
    fn steps(&self) -> Vec<String> {
        self.with(|sight| {
            let steps = steps(sight, &allowed(sight)).into_iter().map(|(_, step)| step).collect();
            words(&Plan { steps, ..sight.plan.clone() })
        })
    }

    /// The files that count as told without a step.
    fn settled(&self) -> Vec<String> {
        self.with(|sight| {
            let allowed = allowed(sight);
            settled(sight, &allowed, &steps(sight, &allowed)).iter().map(ToString::to_string).collect()
        })
    }

    fn stop_nginx(&mut self) {
        let nginx = self.host.observed.neighbours.get_mut(&"nginx.service".parse().unwrap()).unwrap();
        nginx.active_state = "inactive".into();
    }
}

/// Everything that may be put right.
fn allowed(sight: &Sight<'_>) -> BTreeSet<Part> {
    let repair = |found: &Found| found.drift == Drift::Repair && found.cure == Cure::Steps;
    find(sight).into_iter().filter(repair).map(|found| found.part).collect()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let world = World::new();
    assert_eq!((world.found(), world.steps()), (vec![], vec![]));
    let seen = proven(&rendered(&world.desired), &world.host.observed, &[]);
    assert_eq!(seen[&API.parse().unwrap()], "a");
}

/// What befalls the host, what is found, and the steps.
type Row = (&'static str, fn(&mut World), &'static [&'static str], &'static [&'static str]);

const TABLE: &[Row] = &[
    (
        "a deleted unit file restarts nothing",
        |w| drop(w.host.observed.files.remove(&UNIT_FILE.parse().unwrap())),
        &["file /etc/systemd/system/mono-api.service was removed"],
        &["write /etc/systemd/system/mono-api.service: missing", "daemon-reload: its unit file changed"],
    ),
    (
        "an edited unit file under a process that was started before",
        |w| w.host.put(UNIT_FILE, "edited"),
        &["file /etc/systemd/system/mono-api.service was changed"],
        &["write /etc/systemd/system/mono-api.service: content differs", "daemon-reload: its unit file changed"],
    ),
    (
        "an edited unit file, and the process was started with it",
        |w| {
            w.host.put(UNIT_FILE, "edited");
            w.host.unit(API).invocation_id = "b".into();
        },
        &["file /etc/systemd/system/mono-api.service was changed"],
        &[
            "write /etc/systemd/system/mono-api.service: content differs",
            "daemon-reload: its unit file changed",
            "restart mono-api.service: not the process that drover started",
        ],
    ),
    (
        "the same, but nothing is known of the process",
        |w| {
            w.host.put(UNIT_FILE, "edited");
            w.proven.clear();
        },
        &["file /etc/systemd/system/mono-api.service was changed"],
        &["write /etc/systemd/system/mono-api.service: content differs", "daemon-reload: its unit file changed"],
    ),
    (
        "a unit file that was edited and put back by hand",
        |w| w.host.unit(API).need_daemon_reload = true,
        &["unit mono-api.service has a file that systemd has not read since it was written"],
        &["daemon-reload: its unit file changed"],
    ),
    (
        "an edited site is checked, and what serves it told",
        |w| w.host.put(SITE, "edited"),
        &["file /etc/nginx/sites-enabled/mono was changed"],
        &[
            "write /etc/nginx/sites-enabled/mono: content differs",
            "validate nginx -t: /etc/nginx/sites-enabled/mono changed",
            "reload nginx.service: /etc/nginx/sites-enabled/mono changed",
        ],
    ),
    (
        "what serves it is not ours to start",
        |w| {
            w.host.put(SITE, "edited");
            w.stop_nginx();
        },
        &["file /etc/nginx/sites-enabled/mono was changed"],
        &[
            "write /etc/nginx/sites-enabled/mono: content differs",
            "validate nginx -t: /etc/nginx/sites-enabled/mono changed",
        ],
    ),
    (
        "another mode is set right and nobody told",
        |w| {
            let seen = &mut w.host.observed.files.get_mut(&SITE.parse().unwrap()).unwrap().seen;
            let Seen::Is(FileState::File { mode, .. }) = seen else { panic!("no file") };
            *mode = 0o666;
        },
        &["file /etc/nginx/sites-enabled/mono had another owner or mode"],
        &["write /etc/nginx/sites-enabled/mono: owner or mode differs"],
    ),
    (
        "a repair that was cut short between writing and reloading",
        |w| w.host.ledger.expect([], [SITE.parse().unwrap()]),
        &["file /etc/nginx/sites-enabled/mono was not read again by what it serves"],
        &[
            "validate nginx -t: /etc/nginx/sites-enabled/mono changed",
            "reload nginx.service: /etc/nginx/sites-enabled/mono changed",
        ],
    ),
    (
        "a repair that was cut short before the restart",
        |w| w.host.ledger.expect([API.parse().unwrap()], []),
        &["unit mono-api.service ran something else than what drover had started"],
        &["restart mono-api.service: not the process that drover started"],
    ),
    (
        "a stopped unit is for others to start",
        |w| w.host.unit(API).active_state = "inactive".into(),
        &["unit mono-api.service was not running [start]"],
        &[],
    ),
    (
        "a disabled unit",
        |w| w.host.unit(API).unit_file_state = "disabled".into(),
        &["unit mono-api.service was not started at boot"],
        &["enable mono-api.service: not enabled at boot", "daemon-reload: not enabled at boot"],
    ),
    (
        "a masked unit is found as that alone",
        |w| {
            w.host.observed.masked.insert(API.parse().unwrap());
            w.host.observed.files.get_mut(&UNIT_FILE.parse().unwrap()).unwrap().seen = Seen::Is(FileState::Symlink);
            w.host.unit(API).active_state = "inactive".into();
        },
        &["unit mono-api.service was masked"],
        &[],
    ),
    (
        "something stands in a file's place",
        |w| w.host.observed.files.get_mut(&SITE.parse().unwrap()).unwrap().seen = Seen::Is(FileState::Symlink),
        &["file /etc/nginx/sites-enabled/mono is in the way of the release [nobody]"],
        &[],
    ),
    (
        "the env file",
        |w| drop(w.host.observed.files.remove(&"/var/lib/drover/env/mono.env".parse().unwrap())),
        &["file /var/lib/drover/env/mono.env was removed"],
        &["write /var/lib/drover/env/mono.env: missing"],
    ),
    (
        "a report is no repair",
        |w| {
            w.host.put(SITE, "edited");
            w.host.unit(API).unit_file_state = "disabled".into();
            w.desired.spec.files[0].drift = Drift::Report;
            w.desired.spec.units.values_mut().for_each(|unit| unit.drift = Drift::Ignore);
        },
        &["file /etc/nginx/sites-enabled/mono was changed", "unit mono-api.service was not started at boot"],
        &[],
    ),
];

#[test]
fn what_befalls_a_host_is_found_and_put_right() {
    for (name, befall, found, steps) in TABLE {
        let mut world = World::new();
        befall(&mut world);
        assert_eq!(world.found(), *found, "{name}");
        assert_eq!(world.steps(), *steps, "{name}");
    }
}

#[test]
fn only_the_socket_is_found_closed_and_not_the_service_behind_it() {
    let mut world = World::new();
    world.host = Host::new();
    world.desired = behind(80, "/bin/a");
    world.host.apply(&world.desired);
    assert_eq!(world.found(), [""; 0]);
    world.host.unit("door.socket").active_state = "inactive".into();
    assert_eq!(world.found(), ["unit door.socket was not running [start]"]);
}

#[test]
fn a_tree_is_made_again_only_where_nothing_stands() {
    let mut world = World::new();
    world.host.ledger.trees.clear();
    assert_eq!(
        world.steps(),
        ["fetch: new in this release", "unpack: new in this release", "build: new in this release"]
    );
    world.host.observed.tree_there = true;
    assert!(world.found()[0].ends_with("[nobody]"), "{:?}", world.found());
    assert_eq!(world.steps(), [""; 0]);
}

#[test]
fn what_a_wrong_file_feeds_is_not_proven() {
    let mut world = World::new();
    world.host.put(UNIT_FILE, "edited");
    let wanted = rendered(&world.desired);
    let seen = world.with(|sight| proven(&wanted, sight.observed, &find(sight)));
    assert!(!seen.contains_key(&API.parse().unwrap()), "{seen:?}");
}

#[test]
fn a_restart_serves_the_file_that_is_written() {
    let mut world = World::new();
    world.host.put(UNIT_FILE, "edited");
    world.host.unit(API).invocation_id = "b".into();
    let served: Vec<Part> = world.with(|sight| {
        let restarts =
            steps(sight, &allowed(sight)).into_iter().filter(|(_, s)| matches!(s.action, Action::Restart(_)));
        restarts.map(|(part, _)| part).collect()
    });
    assert_eq!(served, [Part::File(UNIT_FILE.parse().unwrap())]);
}

#[test]
fn a_file_that_nothing_is_left_to_be_told_of_is_settled() {
    let mut world = World::new();
    assert_eq!(world.settled(), [""; 0], "nothing is wrong");
    // A repair was cut short, nothing checks the file in its place, and what serves it does not run.
    world.desired.spec.files.iter_mut().for_each(|file| file.validate = None);
    world.host.ledger.expect([], [SITE.parse().unwrap()]);
    assert_eq!((world.steps().len(), world.settled()), (1, vec![]), "it is told");
    world.stop_nginx();
    assert_eq!(world.found(), ["file /etc/nginx/sites-enabled/mono was not read again by what it serves"]);
    assert_eq!((world.steps(), world.settled()), (vec![], vec![SITE.to_owned()]));
    world.host.put(SITE, "edited");
    assert_eq!((world.steps().len(), world.settled()), (1, vec![]), "it is written first");
}
