//! Steps carried out in a temporary directory: files with their originals and their undoing, checks, trees built by an
//! unprivileged user. Needs root, as the agent does.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    time::Duration,
};

use drover_proto::{digest::Digest, spec::DesiredApp};
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::render::{
    Ports, render,
    tests::{argv, desired, facts, file_part, layout_in, template},
};

struct Bench {
    dir: TempDir,
    layout: Layout,
    blobs: Blobs,
    ledgers: Ledgers,
    stock: Stock,
    systemd: Systemd,
    desired: DesiredApp,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        directories::make(dir.path(), 0o755).unwrap();
        let layout = layout_in(dir.path());
        directories::prepare(&layout).unwrap();
        directories::make(&layout.units_dir, 0o755).unwrap();
        let blobs = Blobs::open(&layout, watch::channel(None).1).unwrap();
        let ledgers = Ledgers::new(&layout.state_dir);
        let mut desired = desired();
        desired.spec.hooks.clear();
        desired.spec.units.clear();
        let path = dir.path().join("site").to_string_lossy().into_owned();
        desired.spec.files = vec![file_part(&path, "new\n", 0o640)];
        let stock = Stock::open(&layout.state_dir).unwrap().0;
        Self { layout, blobs, ledgers, stock, systemd: Systemd::connect_to("unix:path=/nonexistent"), desired, dir }
    }

    async fn step(&self, action: Action, ledger: &mut AppLedger, undo: &mut Undo) -> Result<(), StepFailure> {
        let rendered = render(&self.desired, &facts(), &self.layout, &Ports::new()).unwrap();
        let exec = Exec {
            layout: &self.layout,
            systemd: &self.systemd,
            engine: &Engine::default(),
            blobs: &self.blobs,
            ledgers: &self.ledgers,
            stock: &self.stock,
            app: &self.desired.spec.app,
            wanted: Some(&rendered),
            observed: &Observed::default(),
            jobs_until: Instant::now() + Duration::from_secs(5),
            redactor: &Redactor::default(),
            say: &|_| {},
        };
        exec.step(&action, ledger, undo).await
    }

    fn write(&self, keep_original: bool) -> Action {
        let part = &self.desired.spec.files[0];
        Action::WriteFile {
            path: part.path.clone(),
            digest: None,
            owner: part.owner.clone(),
            group: part.group.clone(),
            mode: part.mode,
            diff: String::new(),
            keep_original,
        }
    }

    fn ledger(&self) -> AppLedger {
        AppLedger::new(self.desired.spec.app.clone())
    }

    fn archive(&mut self, script: &str) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(script.len() as u64);
        header.set_mode(0o755);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, "make.sh", script.as_bytes()).unwrap();
        let bytes = tar.into_inner().unwrap();
        let artifact = self.desired.spec.artifact.as_mut().unwrap();
        (artifact.digest, artifact.size_bytes) = (Digest::of(&bytes), bytes.len() as u64);
        let build = artifact.build.as_mut().unwrap();
        build.run = vec![argv(&["./make.sh", "{{ release }}"])];
        let blob = self.layout.blob(&self.desired.spec.app, &artifact.digest);
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(blob, bytes).unwrap();
    }

    fn tree(&self) -> crate::render::Tree {
        render(&self.desired, &facts(), &self.layout, &Ports::new()).unwrap().tree.unwrap()
    }

    async fn stage(&self) -> Result<(), StepFailure> {
        let (tree, mut ledger, mut undo) = (self.tree(), self.ledger(), Undo::default());
        let build = tree.build.clone().unwrap();
        let unpack = Action::Unpack { digest: tree.digest, directory: tree.directory.clone() };
        self.step(unpack, &mut ledger, &mut undo).await?;
        let build =
            Action::Build { directory: tree.directory, user: build.user, run: build.run, timeout: build.timeout };
        self.step(build, &mut ledger, &mut undo).await
    }
}

#[tokio::test]
async fn an_adopted_original_comes_back_with_owner_and_mode() {
    let bench = Bench::new();
    let site = bench.dir.path().join("site");
    fs::write(&site, "theirs\n").unwrap();
    fs::set_permissions(&site, fs::Permissions::from_mode(0o604)).unwrap();
    std::os::unix::fs::chown(&site, Some(33), Some(33)).unwrap();
    let (mut ledger, mut undo) = (bench.ledger(), Undo::default());
    bench.step(bench.write(true), &mut ledger, &mut undo).await.unwrap();
    assert_eq!(fs::read_to_string(&site).unwrap(), "new\n");
    assert_eq!((fs::metadata(&site).unwrap().mode() & 0o7777, fs::metadata(&site).unwrap().uid()), (0o640, 0));
    assert_eq!(bench.ledgers.load().unwrap().ledgers[&ledger.app], ledger);
    let remove = Action::RemoveFile { path: bench.desired.spec.files[0].path.clone(), restore_original: true };
    bench.step(remove, &mut ledger, &mut undo).await.unwrap();
    let back = fs::metadata(&site).unwrap();
    assert_eq!(fs::read_to_string(&site).unwrap(), "theirs\n");
    assert_eq!((back.mode() & 0o7777, back.uid(), back.gid()), (0o604, 33, 33));
    assert!(ledger.originals.is_empty() && !ledger.owns(&bench.desired.spec.files[0].path));
}

#[tokio::test]
async fn what_was_written_can_be_put_back_exactly() {
    let mut bench = Bench::new();
    let site = bench.dir.path().join("site");
    fs::write(&site, "old\n").unwrap();
    let (mut ledger, mut undo) = (bench.ledger(), Undo::default());
    bench.step(bench.write(false), &mut ledger, &mut undo).await.unwrap();
    let fresh = bench.dir.path().join("fresh");
    bench.desired.spec.files = vec![file_part(&fresh.to_string_lossy(), "x\n", 0o600)];
    bench.step(bench.write(false), &mut ledger, &mut undo).await.unwrap();
    assert!(fresh.exists());
    undo.put_back().unwrap();
    assert_eq!(fs::read_to_string(&site).unwrap(), "old\n");
    assert!(!fresh.exists());
    // What is as it was is left alone: where it cannot be written it could not be put back either.
    let (mut undo, inode) = (Undo::default(), || fs::metadata(&fresh).unwrap().ino());
    fs::write(&fresh, "mine").unwrap();
    bench.step(bench.write(false), &mut ledger, &mut undo).await.unwrap();
    fs::write(&fresh, "mine").unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o644)).unwrap();
    let before = inode();
    undo.put_back().unwrap();
    assert_eq!(inode(), before);
}

#[tokio::test]
async fn a_large_file_in_place_of_drovers_own_is_written_over_but_an_original_is_kept() {
    let bench = Bench::new();
    let site = bench.dir.path().join("site");
    let grow = || fs::File::create(&site).unwrap().set_len(65 << 20).unwrap();
    grow();
    let (mut ledger, mut undo) = (bench.ledger(), Undo::default());
    let refused = bench.step(bench.write(true), &mut ledger, &mut undo).await.unwrap_err();
    assert_eq!((refused.code, fs::metadata(&site).unwrap().len()), (Code::Limit, 65 << 20));
    bench.step(bench.write(false), &mut ledger, &mut undo).await.unwrap();
    assert!(fs::metadata(&site).unwrap().len() < 100);
    assert_eq!(undo.put_back().unwrap_err().code, Code::Limit);
}

#[tokio::test]
async fn a_file_that_fails_its_check_says_why() {
    let mut bench = Bench::new();
    bench.desired.spec.files[0].validate = Some(argv(&["/bin/grep", "-c", "old", "{{ path }}"]));
    let path = bench.desired.spec.files[0].path.clone();
    let validate = || Action::Validate { path: path.clone(), run: vec![], staged: true };
    let (mut ledger, mut undo) = (bench.ledger(), Undo::default());
    let failed = bench.step(validate(), &mut ledger, &mut undo).await.unwrap_err();
    assert_eq!(failed.code, Code::Validate);
    assert_eq!(failed.cause, format!("/bin/grep -c old {path} failed for {path}: 0"));
    assert_eq!(fs::read_dir(bench.layout.work_dir()).unwrap().count(), 0);
    bench.desired.spec.files[0].content = drover_proto::app::Content::Text(template("old\n"));
    bench.step(validate(), &mut ledger, &mut undo).await.unwrap();
}

/// A clock that stands still but for who waits: nobody waits for a minute here.
#[tokio::test(start_paused = true)]
async fn a_check_of_a_file_that_hangs_is_ended_as_the_manual_says() {
    let mut bench = Bench::new();
    bench.desired.spec.files[0].validate = Some(argv(&["/bin/sleep", "1000"]));
    let path = bench.desired.spec.files[0].path.clone();
    let validate = Action::Validate { path, run: vec![], staged: false };
    let failed = bench.step(validate, &mut bench.ledger(), &mut Undo::default()).await.unwrap_err();
    assert!(failed.cause.contains("longer than the 60 s that a check of a file has"), "{}", failed.cause);
    let manual = include_str!("../../../docs/MANIFEST.md");
    assert!(manual.contains("A `validate` has 60 seconds"), "the manual says another time");
}

#[tokio::test]
async fn a_tree_is_built_by_its_user_and_sealed() {
    let mut bench = Bench::new();
    bench.archive("#!/bin/sh\nset -e\nid -u > who\necho $HOME > home\ntest \"$1\" = \"$PWD\"\n");
    bench.stage().await.unwrap();
    let tree = bench.tree();
    let directory = tree.directory.as_path();
    assert_eq!(fs::read_to_string(directory.join("who")).unwrap(), "33\n");
    let made = fs::metadata(directory.join("who")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o7777), (0, 0o644));
    assert!(bench.layout.seal_marker(&bench.desired.spec.app, &tree.key).exists());
    let left: Vec<_> = fs::read_dir(directory.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [tree.key.as_str()]);
}

#[tokio::test]
async fn a_build_that_fails_or_hangs_says_so_and_leaves_nothing() {
    let mut bench = Bench::new();
    bench.archive("#!/bin/sh\necho no wheels here >&2\nexit 7\n");
    let failed = bench.stage().await.unwrap_err();
    assert_eq!(failed.code, Code::Build);
    assert!(failed.cause.contains("failed (exit code 7): no wheels here"), "{}", failed.cause);
    let tree = bench.tree();
    discard_unsealed(&bench.layout, &render(&bench.desired, &facts(), &bench.layout, &Ports::new()).unwrap());
    assert!(!tree.directory.as_path().exists());
    bench.archive("#!/bin/sh\nsleep 60\n");
    bench.desired.spec.artifact.as_mut().unwrap().build.as_mut().unwrap().timeout =
        drover_proto::duration::Span::from_ms(300);
    let failed = bench.stage().await.unwrap_err();
    assert!(failed.cause.contains("took longer than 300ms and was killed"), "{}", failed.cause);
}

#[test]
fn a_full_disk_is_called_that() {
    let error = |kind: std::io::ErrorKind| crate::host::files::FileError::Io {
        path: "/x".to_owned(),
        doing: "write it",
        source: kind.into(),
    };
    assert_eq!(plainly(&error(std::io::ErrorKind::StorageFull)), "the disk is full");
    assert!(plainly(&error(std::io::ErrorKind::NotFound)).starts_with("/x: cannot write it: "));
}

#[test]
fn temporary_files_that_a_crash_left_are_removed_at_start() {
    let bench = Bench::new();
    let left = |directory: &std::path::Path| {
        fs::write(directory.join(".drover-1-0"), "secret").unwrap();
        fs::write(directory.join("mono.env"), "kept").unwrap();
    };
    let (state, ledger) = (bench.layout.state_dir.clone(), bench.layout.state_dir.join("ledger"));
    [&state, &ledger, &bench.layout.env_dir].into_iter().for_each(|directory| left(directory));
    fs::write(state.join(".drover-identity.json-new"), "of enroll").unwrap();
    let mut of_app = AppLedger::new(bench.desired.spec.app.clone());
    let path: drover_proto::name::AbsPath = bench.dir.path().join("site").to_string_lossy().parse().unwrap();
    of_app.owned_files.insert(path.clone(), crate::ledger::OwnedFile::default());
    let beside = bench.dir.path().join(format!(".drover-{}-0", &Digest::of(b"site").hex()[..16]));
    let orphan = bench.layout.original_of(&of_app.app, &"/etc/else".parse().unwrap());
    directories::make(orphan.parent().unwrap(), 0o700).unwrap();
    let blob = state.join("blobs").join(Digest::of(b"used").hex());
    let half = state.join("blobs/mono").join(format!("{}.Xy12z.part", Digest::of(b"used").hex()));
    fs::create_dir_all(half.parent().unwrap()).unwrap();
    let of_git = bench.layout.releases_dir.join(".git-Xy12z/.gitconfig");
    fs::create_dir(of_git.parent().unwrap()).unwrap();
    let staged = bench.layout.work_dir().join("x/copy");
    fs::create_dir(staged.parent().unwrap()).unwrap();
    let all = [&beside, &orphan, &blob, &half, &of_git, &staged];
    for left in all {
        fs::write(left, "left").unwrap();
    }
    sweep(&bench.layout, &std::collections::BTreeMap::from([(of_app.app.clone(), of_app)]));
    for left in all {
        assert!(!left.exists(), "{}", left.display());
    }
    for directory in [&state, &ledger, &bench.layout.env_dir] {
        assert_eq!((directory.join(".drover-1-0").exists(), directory.join("mono.env").exists()), (false, true));
    }
    assert!(state.join(".drover-identity.json-new").exists());
}

fn once_bench(script: &str) -> (Bench, Action) {
    let mut bench = Bench::new();
    bench.desired.spec.artifact = None;
    let hook = drover_proto::app::Hook {
        name: Some("migrate".parse().unwrap()),
        when: HookPoint::BeforeSwitch,
        run: argv(&["/bin/sh", "-c", script]),
        user: "root".parse().unwrap(),
        timeout: "5s".parse().unwrap(),
        env: Default::default(),
        run_once: true,
    };
    bench.desired.spec.hooks = vec![hook];
    let (when, run, user) = (HookPoint::BeforeSwitch, vec![], "root".parse().unwrap());
    (bench, Action::Hook { when, index: 0, run, user, name: None, run_once: true })
}

#[tokio::test]
async fn a_hook_that_runs_once_is_in_the_ledger_before_and_after() {
    let (bench, hook) = once_bench("echo migrated");
    let (mut ledger, mut undo) = (bench.ledger(), Undo::default());
    bench.step(hook.clone(), &mut ledger, &mut undo).await.unwrap();
    let on_disk = || bench.ledgers.load().unwrap().ledgers[&bench.desired.spec.app].clone();
    let state = |ledger: &AppLedger| ledger.once(bench.desired.rollout, &bench.desired.release, "migrate");
    assert_eq!(state(&on_disk()), Some(crate::ledger::OnceState::Finished));
    let runs = crate::outputs::runs(&bench.layout, &bench.desired.spec.app);
    assert_eq!(runs.len(), 1);
    let said = fs::read_to_string(runs[0].path(&bench.layout, &bench.desired.spec.app)).unwrap();
    assert_eq!((said.as_str(), runs[0].name.as_str()), ("migrated\n", "migrate"));
    bench.step(hook, &mut ledger, &mut undo).await.unwrap_err();
    assert_eq!(crate::outputs::runs(&bench.layout, &bench.desired.spec.app).len(), 1, "it was not run again");
}

#[tokio::test]
async fn a_hook_that_runs_once_and_was_interrupted_is_not_run_again() {
    let (bench, hook) = once_bench("sleep 4");
    let (mut ledger, mut undo) = (bench.ledger(), Undo::default());
    // The agent dies in its middle.
    let cut = tokio::time::timeout(Duration::from_millis(300), bench.step(hook.clone(), &mut ledger, &mut undo));
    assert!(cut.await.is_err());
    let mut ledger = bench.ledgers.load().unwrap().ledgers[&bench.desired.spec.app].clone();
    let failed = bench.step(hook.clone(), &mut ledger, &mut undo).await.unwrap_err();
    assert_eq!(failed.code, Code::Interrupted);
    assert!(failed.cause.contains("interrupted in the middle of hook migrate: look at its output"), "{}", failed.cause);

    let (bench, hook) = once_bench("exit 3");
    let mut ledger = bench.ledger();
    let failed = bench.step(hook.clone(), &mut ledger, &mut undo).await.unwrap_err();
    assert!(failed.cause.contains("exit code 3"), "{}", failed.cause);
    let again = bench.step(hook, &mut ledger, &mut undo).await.unwrap_err();
    assert!(again.cause.contains("hook migrate failed and runs once"), "{}", again.cause);
}
