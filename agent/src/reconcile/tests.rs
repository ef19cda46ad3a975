//! Activations of an app with one file and no units, in a temporary directory, without systemd.

use std::{fs, path::PathBuf};

use drover_proto::{
    app::{Check, Hook, HookPoint, Probe},
    code::Code,
    duration::Span,
    spec::DesiredApp,
};
use tempfile::TempDir;

use super::*;
use crate::render::tests::{argv, desired, facts, file_part, layout_in};

mod host;
pub(crate) use host::handle;

const HOST: &str = "h-0123456789abcdef";

struct Bench {
    dir: TempDir,
    desired: Desired,
    reconciler: Reconciler,
    generation: u64,
    keep: BTreeSet<AppName>,
    /// The host's label.
    role: &'static str,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        let (desired, reconciler) = open(&dir);
        Self { dir, desired, reconciler, generation: 0, keep: BTreeSet::new(), role: "web" }
    }

    /// The agent is started again.
    fn again(&mut self) {
        (self.desired, self.reconciler) = open(&self.dir);
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Release `number` with this content of its file, healthy at once.
    fn release(&self, number: u64, content: &str) -> DesiredApp {
        let mut desired = desired();
        (desired.release.number, desired.rollout) = (number, number);
        desired.spec.artifact = None;
        (desired.spec.env, desired.spec.secrets, desired.secrets) = Default::default();
        (desired.spec.units, desired.spec.hooks, desired.spec.checks) = Default::default();
        desired.spec.files = vec![file_part(&self.at("site").to_string_lossy(), content, 0o644)];
        desired.spec.strategy.min_healthy_time = Span::from_ms(1);
        desired
    }

    fn hook(&self, when: HookPoint, run: &[&str]) -> Hook {
        let user = "root".parse().unwrap();
        let (name, run, timeout) = (None, argv(run), Span::from_secs(5));
        Hook { name, when, run, user, timeout, env: Default::default(), run_once: false }
    }

    fn ask(&mut self, apps: &[&DesiredApp]) {
        self.generation += 1;
        let mut facts = facts();
        facts.labels.insert("role".parse().unwrap(), self.role.parse().unwrap());
        let spec = HostSpec {
            host: HOST.parse().unwrap(),
            host_name: facts.name,
            labels: facts.labels,
            generation: self.generation,
            apps: apps.iter().map(|app| (app.spec.app.clone(), (*app).clone())).collect(),
            keep: self.keep.clone(),
        };
        let accepted = self.desired.accept(&serde_json::to_vec(&spec).unwrap(), &HOST.parse().unwrap());
        assert_eq!(accepted.outcome, crate::desired::Outcome::Accepted, "{}", accepted.message);
    }

    async fn pass(&mut self) {
        self.reconciler.newer();
        self.reconciler.begin_all();
        self.reconciler.workers.all().await;
    }

    fn status(&self) -> drover_proto::status::AppStatus {
        self.reconciler.shared.board.subscribe().borrow().apps[&app()].clone()
    }

    fn site(&self) -> String {
        fs::read_to_string(self.at("site")).unwrap()
    }
}

fn command(run: &[&str]) -> Check {
    let probe = Probe::Command { run: argv(run), user: "root".parse().unwrap() };
    Check::new(probe, Span::from_secs(1), Span::from_secs(5))
}

fn app() -> AppName {
    "mono".parse().unwrap()
}

fn open(dir: &TempDir) -> (Desired, Reconciler) {
    open_telling(dir, crate::event::Events::default())
}

fn open_telling(dir: &TempDir, events: Events) -> (Desired, Reconciler) {
    let layout = layout_in(dir.path());
    let desired = Desired::open(&layout.state_dir, &[]).unwrap();
    let blobs = Blobs::open(&layout, watch::channel(None).1).unwrap();
    let systemd = Systemd::connect_to("unix:path=/nonexistent");
    let parts = Parts {
        layout,
        desired: desired.clone(),
        blobs,
        systemd,
        engine: Engine::default(),
        events,
        ports: Default::default(),
        stock: crate::stock::Stock::open(&dir.path().join("state")).unwrap().0,
        disk_budget: None,
    };
    (desired, Reconciler::open(parts).unwrap().1)
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_fails_before_anything_is_touched() {
    let mut bench = Bench::new();
    let first = bench.release(1, "one\n");
    bench.ask(&[&first]);
    bench.pass().await;
    assert!(matches!(bench.status().phase, Phase::Healthy { .. }), "{:?}", bench.status());
    let mut second = bench.release(2, "two\n");
    let ledgers = bench.at("state/ledger").to_string_lossy().into_owned();
    second.spec.hooks.push(bench.hook(HookPoint::BeforeSwitch, &["/bin/rm", "-r", &ledgers]));
    bench.ask(&[&second]);
    bench.pass().await;
    let status = bench.status();
    let Phase::Reverted { to, .. } = status.phase else { panic!("{status:?}") };
    assert_eq!((to, status.failure.unwrap().code), (Some(first.release.clone()), Code::Write));
    assert_eq!(bench.site(), "one\n");
    let ledger = bench.reconciler.shared.ledger(&app()).unwrap();
    assert_eq!((ledger.current.unwrap().release, ledger.activation), (first.release, None));
    assert!(!ledger.effects.values().any(|effect| *effect == drover_proto::digest::Digest::of(b"")));
}

#[tokio::test]
async fn a_commit_that_cannot_be_written_goes_back_to_the_release_before() {
    let mut bench = Bench::new();
    let ledgers = bench.at("state/ledger").to_string_lossy().into_owned();
    let mut first = bench.release(1, "one\n");
    first.spec.hooks.push(bench.hook(HookPoint::BeforeSwitch, &["/bin/mkdir", "-p", &ledgers]));
    bench.ask(&[&first]);
    bench.pass().await;
    let mut second = bench.release(2, "two\n");
    second.spec.checks.insert("ledger".parse().unwrap(), command(&["/bin/rm", "-r", &ledgers]));
    bench.ask(&[&second]);
    bench.pass().await;
    let status = bench.status();
    assert_eq!(status.running, Some(first.release.clone()));
    let Phase::Reverted { to, .. } = status.phase else { panic!("{status:?}") };
    assert_eq!((to, status.failure.unwrap().code), (Some(first.release), Code::Write));
    assert_eq!(bench.site(), "one\n");
}

#[tokio::test]
async fn an_app_with_a_damaged_ledger_is_never_said_to_be_removed() {
    let mut bench = Bench::new();
    let first = bench.release(1, "one\n");
    bench.ask(&[&first]);
    bench.pass().await;
    fs::write(bench.at("state/ledger/mono.json"), "{").unwrap();
    fs::create_dir_all(bench.at("state/originals/mono")).unwrap();
    fs::write(bench.at("site"), "edited\n").unwrap();
    bench.again();
    bench.reconciler.say_what_is_known();
    let failed = |status: drover_proto::status::AppStatus| match status.phase {
        Phase::Failed { cause } => cause,
        other => panic!("{other:?}"),
    };
    assert!(failed(bench.status()).contains("was damaged and lies in"));
    bench.pass().await;
    let failure = bench.status().failure.unwrap();
    assert!(failure.cause.contains("adopt: true") && failure.cause.contains("was damaged"), "{failure:?}");
    bench.ask(&[]);
    bench.pass().await;
    assert!(failed(bench.status()).contains("then delete the damaged ledger"));
    assert_eq!((bench.site().as_str(), bench.at("state/originals/mono").exists()), ("edited\n", true));
    // Known to nobody but by the damaged ledger.
    fs::remove_file(bench.at("state/ledger/mono.json")).unwrap();
    bench.again();
    bench.pass().await;
    assert!(failed(bench.status()).contains("then delete the damaged ledger"));
    let (_, aside) = bench.reconciler.shared.ledgers.damaged().pop_first().unwrap();
    fs::remove_file(aside).unwrap();
    bench.pass().await;
    assert_eq!(bench.status().phase, Phase::Removed);
}

#[tokio::test]
async fn a_damaged_ledger_is_worked_out_from_what_is_there() {
    let mut bench = Bench::new();
    let mut first = bench.release(1, "one\n");
    first.spec.files[0].adopt = true;
    fs::write(bench.at("site"), "somebody's\n").unwrap();
    bench.ask(&[&first]);
    bench.pass().await;
    let before = bench.reconciler.shared.ledger(&app()).unwrap();
    fs::write(bench.at("state/ledger/mono.json"), "{").unwrap();
    bench.again();
    bench.pass().await;
    let after = bench.reconciler.shared.ledger(&app()).unwrap();
    assert!(matches!(bench.status().phase, Phase::Healthy { .. }), "{:?}", bench.status());
    assert_eq!(
        (&after.current, &after.owned_files, &after.effects),
        (&before.current, &before.owned_files, &before.effects)
    );
    assert_eq!(after.originals.keys().collect::<Vec<_>>(), before.originals.keys().collect::<Vec<_>>());
    assert!(bench.reconciler.shared.ledgers.damaged().is_empty());
    // It is on disk, and the app can be removed as ever.
    bench.again();
    bench.ask(&[]);
    bench.pass().await;
    assert_eq!((bench.status().phase, bench.site().as_str()), (Phase::Removed, "somebody's\n"));
}

#[tokio::test]
async fn what_a_leaving_app_has_is_taken_over_whoever_comes_first() {
    // By name the one that leaves is before the one that comes, and behind it.
    for (from, to) in [("alpha", "beta"), ("beta", "alpha")] {
        let mut bench = Bench::new();
        let named = |mut release: DesiredApp, name: &str| {
            release.spec.app = name.parse().unwrap();
            release.release.app = name.parse().unwrap();
            release
        };
        let leaving = named(bench.release(1, "one\n"), from);
        bench.ask(&[&leaving]);
        bench.pass().await;
        let coming = named(bench.release(2, "two\n"), to);
        bench.ask(&[&coming]);
        bench.pass().await;
        let status = bench.reconciler.shared.board.subscribe().borrow().clone();
        let phase = |name: &str| status.apps[&name.parse::<AppName>().unwrap()].phase.clone();
        assert!(matches!(phase(to), Phase::Healthy { .. }), "{:?}", phase(to));
        assert_eq!((phase(from), bench.site().as_str()), (Phase::Removed, "two\n"));
    }
}

#[tokio::test]
async fn a_release_that_fails_when_it_is_applied_again_does_not_go_back_from_itself_to_itself() {
    let mut bench = Bench::new();
    let go = bench.at("go");
    let mut first = bench.release(1, "one\n");
    first.spec.checks.insert("go".parse().unwrap(), command(&["/usr/bin/test", "-e", &go.to_string_lossy()]));
    first.spec.strategy.healthy_deadline = Span::from_ms(600);
    fs::write(&go, "").unwrap();
    bench.ask(&[&first]);
    bench.pass().await;
    assert!(matches!(bench.status().phase, Phase::Healthy { .. }), "{:?}", bench.status());
    fs::remove_file(go).unwrap();
    // Something is to be done: where nothing is touched there is nothing to go back from.
    fs::write(bench.at("site"), "by hand\n").unwrap();
    first.rollout += 1;
    bench.ask(&[&first]);
    bench.pass().await;
    let failure = bench.status().failure.unwrap();
    assert!(failure.cause.contains("it is what ran before, and another try failed"), "{failure:?}");
    assert!(!failure.cause.contains("going back"), "{failure:?}");
    let titles: BTreeSet<&str> = failure.evidence.iter().map(|evidence| evidence.title.as_str()).collect();
    assert_eq!(titles.len(), failure.evidence.len(), "{failure:?}");
}

#[tokio::test]
async fn a_check_that_reads_a_label_is_asked_with_the_one_that_the_host_has_now() {
    let mut bench = Bench::new();
    let path = format!("{}/{{{{ host.labels.role }}}}", bench.dir.path().display());
    let mut first = bench.release(1, "one\n");
    first.spec.checks.insert("go".parse().unwrap(), command(&["/usr/bin/test", "-e", &path]));
    for role in ["web", "worker"] {
        fs::write(bench.at(role), "").unwrap();
    }
    let path = |bench: &Bench| {
        let checked = bench.reconciler.shared.checked.borrow().clone();
        let check = checked.values().next().cloned().unwrap();
        let crate::check::RenderedProbe::Command { run, .. } = check.probe else { panic!("{check:?}") };
        run.last().cloned().unwrap()
    };
    bench.ask(&[&first]);
    bench.pass().await;
    assert!(path(&bench).ends_with("/web"), "{}", path(&bench));
    assert_eq!(bench.reconciler.shared.standings.all().len(), 1);
    bench.role = "worker";
    bench.ask(&[&first]);
    bench.pass().await;
    assert!(path(&bench).ends_with("/worker"), "{}", path(&bench));
    let standings = bench.reconciler.shared.standings.all();
    assert!(standings.values().all(|standing| standing.ok) && standings.len() == 1, "{standings:?}");
}

#[tokio::test]
async fn an_app_whose_file_others_need_stays_and_says_why() {
    let mut bench = Bench::new();
    let (site, done) = (bench.at("site").to_string_lossy().into_owned(), bench.at("done"));
    let mut first = bench.release(1, "one\n");
    first.spec.files[0].adopt = true;
    first.spec.files[0].validate = Some(argv(&["/bin/grep", "-q", "one", &site, &done.to_string_lossy()]));
    fs::write(&site, "somebody's\n").unwrap();
    bench.ask(&[&first]);
    bench.pass().await;
    let before = bench.reconciler.shared.ledger(&app()).unwrap();
    bench.ask(&[]);
    bench.pass().await;
    let status = bench.status();
    let Phase::Failed { cause } = status.phase else { panic!("{status:?}") };
    assert!(
        cause.contains(&format!("failed without {site}: ")) && cause.ends_with("the app stays until that is mended")
    );
    assert_eq!((status.failure.unwrap().code, bench.site().as_str()), (Code::Validate, "one\n"));
    assert_eq!(bench.reconciler.shared.ledger(&app()).unwrap(), before);
    // It is asked for again, as after a rollback, and removed once nobody needs the file.
    bench.ask(&[&first]);
    bench.pass().await;
    assert!(matches!(bench.status().phase, Phase::Healthy { .. }), "{:?}", bench.status());
    fs::write(done, "one\n").unwrap();
    bench.ask(&[]);
    bench.pass().await;
    assert_eq!((bench.status().phase, bench.site().as_str()), (Phase::Removed, "somebody's\n"));
}

#[tokio::test]
async fn a_release_that_drops_a_file_that_others_need_is_refused_and_the_file_is_back() {
    let mut bench = Bench::new();
    let site = bench.at("site").to_string_lossy().into_owned();
    let mut first = bench.release(1, "one\n");
    first.spec.files[0].validate = Some(argv(&["/usr/bin/test", "-e", &site]));
    bench.ask(&[&first]);
    bench.pass().await;
    let mut second = bench.release(2, "two\n");
    second.spec.files = vec![file_part(&bench.at("other").to_string_lossy(), "two\n", 0o644)];
    bench.ask(&[&second]);
    bench.pass().await;
    let status = bench.status();
    let Phase::Reverted { to, .. } = status.phase else { panic!("{status:?}") };
    assert_eq!((to, status.failure.unwrap().code), (Some(first.release), Code::Validate));
    assert_eq!((bench.site().as_str(), bench.at("other").exists()), ("one\n", false));
}

#[tokio::test]
async fn a_kept_app_stays_as_it_is_whatever_is_known_of_it() {
    let mut bench = Bench::new();
    let first = bench.release(1, "one\n");
    bench.ask(&[&first]);
    bench.pass().await;
    bench.keep = [app()].into();
    for lost in [false, true] {
        if lost {
            fs::remove_file(bench.at("state/desired.json")).unwrap();
        }
        bench.again();
        bench.ask(&[]);
        bench.pass().await;
        let status = bench.status();
        assert!(matches!(status.phase, Phase::Healthy { .. }), "{status:?}");
        assert_eq!((status.desired, bench.site().as_str()), (Some(first.release.clone()), "one\n"), "{lost}");
    }
    bench.keep.clear();
    bench.ask(&[]);
    bench.pass().await;
    assert_eq!(bench.status().phase, Phase::Removed);
}

#[tokio::test]
async fn an_agent_that_wakes_up_in_the_gate_goes_straight_on_with_it() {
    let mut bench = Bench::new();
    let (once, go) = (bench.at("once"), bench.at("go"));
    let mut first = bench.release(1, "one\n");
    // Run a second time it fails.
    first.spec.hooks.push(bench.hook(HookPoint::AfterSwitch, &["/bin/mkdir", &once.to_string_lossy()]));
    first.spec.checks.insert("go".parse().unwrap(), command(&["/usr/bin/test", "-e", &go.to_string_lossy()]));
    bench.ask(&[&first]);
    let mut board = bench.reconciler.shared.board.subscribe();
    let in_gate = |phase: &Phase| matches!(phase, Phase::Gating { waiting_for, .. } if !waiting_for.is_empty());
    tokio::select! {
        () = bench.pass() => panic!("it was over: {:?}", bench.status()),
        seen = board.wait_for(|host| host.apps.get(&app()).is_some_and(|status| in_gate(&status.phase))) => drop(seen.unwrap()),
    }
    fs::write(go, "").unwrap();
    bench.again();
    bench.pass().await;
    assert!(matches!(bench.status().phase, Phase::Healthy { .. }), "{:?}", bench.status());
    assert_eq!(bench.site(), "one\n");
}
