//! One situation after another, and the plan for it.

use drover_proto::{
    app::{Content, DirectoryNeed, UserNeed},
    code::Code,
    digest::Digest,
    name::AbsPath,
    plan::Action,
    secret::Secret,
};

use super::model::{Host, words};
use crate::{
    host::files::FileState,
    observe::{Seen, SeenFile},
    plan::Owners,
    render::tests::{argv, desired, file_part, rendered, template, unit},
};

const UNIT_FILE: &str = "/etc/systemd/system/mono-api.service";
const SITE: &str = "/etc/nginx/sites-enabled/mono";

#[test]
fn a_new_app_is_staged_then_switched() {
    let plan = Host::new().plan(Some(&desired()));
    let want = [
        "fetch: new in this release",
        "unpack: new in this release",
        "build: new in this release",
        "hook 0: the manifest says so",
        "write /var/lib/drover/env/mono.env: new in this release",
        "write /etc/systemd/system/mono-api.service: new in this release",
        "write /etc/nginx/sites-enabled/mono: new in this release",
        "validate nginx -t: /etc/nginx/sites-enabled/mono changed",
        "enable mono-api.service: not enabled at boot",
        "daemon-reload: its unit file changed",
        "start mono-api.service: new in this release",
        "reload nginx.service: /etc/nginx/sites-enabled/mono changed",
        "hook 1: the manifest says so",
        "gate: a host counts only when seen healthy",
        "commit: a host counts only when seen healthy",
    ];
    assert_eq!(words(&plan), want);
    assert!(plan.has_changes());
    assert!(!format!("{plan:?}").contains("hunter2"));
}

#[test]
fn the_same_again_changes_nothing() {
    let (host, mut desired) = Host::with_example();
    desired.rollout = 9;
    let plan = host.plan(Some(&desired));
    assert!(!plan.has_changes(), "{:?}", words(&plan));
    assert_eq!(plan.steps.len(), 2);
}

/// What is left of a plan without the steps that every change brings.
pub(super) fn core(host: &Host, desired: &drover_proto::spec::DesiredApp) -> Vec<String> {
    let words = words(&host.plan(Some(desired)));
    words.into_iter().filter(|w| !["hook", "gate", "commit"].iter().any(|x| w.starts_with(x))).collect()
}

#[test]
fn each_change_does_what_it_must_and_no_more() {
    let (host, base) = Host::with_example();
    let mut site = base.clone();
    site.spec.files[0].content = Content::Text(template("server {}\n"));
    assert_eq!(
        core(&host, &site),
        [
            "write /etc/nginx/sites-enabled/mono: content differs",
            "validate nginx -t: /etc/nginx/sites-enabled/mono changed",
            "reload nginx.service: /etc/nginx/sites-enabled/mono changed",
        ]
    );
    let mut mode = base.clone();
    mode.spec.files[0].mode = 0o600;
    assert_eq!(core(&host, &mode), ["write /etc/nginx/sites-enabled/mono: owner or mode differs"]);
    let mut secret = base.clone();
    secret.secrets.insert("KEY".parse().unwrap(), Secret::new("other".to_owned()));
    assert_eq!(
        core(&host, &secret),
        [
            "write /var/lib/drover/env/mono.env: content differs",
            "restart mono-api.service: settings or secrets changed",
        ]
    );
    let mut text = base.clone();
    text.spec.units.insert("mono-api.service".parse().unwrap(), unit("[Service]\nExecStart={{ release }}/x\n"));
    assert_eq!(
        core(&host, &text),
        [
            "write /etc/systemd/system/mono-api.service: content differs",
            "daemon-reload: its unit file changed",
            "restart mono-api.service: its unit file changed",
        ]
    );
    let mut artifact = base.clone();
    artifact.spec.artifact.as_mut().unwrap().digest = Digest::of(b"2");
    assert_eq!(core(&host, &artifact).last().unwrap(), "restart mono-api.service: artifact or build changed");
    assert_eq!(core(&host, &artifact)[..3].concat().matches("new in this release").count(), 3);
    let mut release = base.clone();
    release.release.number = 2;
    assert_eq!(core(&host, &release), Vec::<String>::new());
    assert_eq!(words(&host.plan(Some(&release))).len(), 4, "hooks run for another release");
}

#[test]
fn a_diff_masks_secrets_of_both_sides() {
    let (host, mut desired) = Host::with_example();
    desired.secrets.insert("KEY".parse().unwrap(), Secret::new("correct horse".to_owned()));
    desired.spec.env.insert("PORT".parse().unwrap(), template("6000"));
    let plan = host.plan(Some(&desired));
    let Action::WriteFile { diff, digest, .. } = &plan.steps[1].action else { panic!("{:?}", plan.steps[1]) };
    assert!(diff.contains("-PORT=5000") && diff.contains("+PORT=6000") && diff.contains(" KEY=[secret]"), "{diff}");
    assert!(!diff.contains("hunter2") && !diff.contains("horse"));
    assert_eq!(*digest, None);
}

/// The diff of the site's file when a leftover with a secret stands in its place, mode `mode`, before and after templates.
fn diff_over_a_leftover(mode: u32, before: &str, after: &str) -> String {
    let (mut host, mut desired) = (Host::new(), desired());
    desired.spec.files[0].content = Content::Text(template(before));
    host.apply(&desired);
    host.put(SITE, "old-password\n");
    let site: AbsPath = SITE.parse().unwrap();
    if let Seen::Is(FileState::File { mode: there, .. }) = &mut host.observed.files.get_mut(&site).unwrap().seen {
        *there = mode;
    }
    desired.spec.files[0].content = Content::Text(template(after));
    let plan = host.plan(Some(&desired));
    let diff = plan.steps.iter().find_map(|step| match &step.action {
        Action::WriteFile { path, diff, .. } if path.as_str() == SITE => Some(diff.clone()),
        _ => None,
    });
    diff.unwrap()
}

#[test]
fn what_may_hold_secrets_is_not_shown() {
    let (plain, secret) = ("server {}\n", "{{ secret.KEY }}\n");
    for (mode, before, after) in [(0o644, secret, plain), (0o644, plain, secret), (0o600, plain, "other\n")] {
        let diff = diff_over_a_leftover(mode, before, after);
        assert!(diff.starts_with("(contents not shown: ") && !diff.contains("old-password"), "{diff}");
    }
    assert!(diff_over_a_leftover(0o644, plain, "other\n").contains("-old-password"));
}

#[test]
fn what_somebody_changed_on_the_host_is_put_right() {
    let (mut host, desired) = Host::with_example();
    host.put(SITE, "edited by hand\n");
    assert_eq!(core(&host, &desired)[0], "write /etc/nginx/sites-enabled/mono: content differs");
    let (mut host, desired) = Host::with_example();
    host.unit("mono-api.service").active_state = "failed".into();
    host.unit("mono-api.service").unit_file_state = "disabled".into();
    let want = [
        "enable mono-api.service: not enabled at boot",
        "daemon-reload: not enabled at boot",
        "start mono-api.service: not running",
    ];
    assert_eq!(core(&host, &desired), want);
}

#[test]
fn an_interrupted_switch_goes_on_where_it_was() {
    let (mut host, mut next) = Host::with_example();
    next.release.number = 2;
    next.spec.files[0].content = Content::Text(template("server {}\n"));
    next.spec.env.insert("PORT".parse().unwrap(), template("6000"));
    let wanted = rendered(&next);
    let plan = host.plan(Some(&next));
    host.ledger.expect(["mono-api.service".parse().unwrap()], [SITE.parse().unwrap()]);
    for step in plan.steps.iter().filter(|step| matches!(step.action, Action::WriteFile { .. })) {
        host.carry_out(&step.action, Some(&wanted));
    }
    assert_eq!(
        core(&host, &next),
        [
            "validate nginx -t: /etc/nginx/sites-enabled/mono changed",
            "restart mono-api.service: not the process that drover started",
            "reload nginx.service: /etc/nginx/sites-enabled/mono changed",
        ]
    );
    let back = host.ledger.current.clone().unwrap();
    assert_eq!(core(&host, &back).len(), 5, "{:?}", core(&host, &back));
    for step in &plan.steps {
        host.carry_out(&step.action, Some(&wanted));
    }
    host.ledger.switched(&wanted);
    assert_eq!(core(&host, &next), Vec::<String>::new(), "in the gate nothing is left to do");
    assert_eq!(core(&host, &back).len(), 5, "{:?}", core(&host, &back));
}

#[test]
fn a_dropped_part_goes_and_what_served_it_reloads() {
    let (mut host, mut next) = Host::with_example();
    next.spec.files.clear();
    next.spec.units.insert("mono-b.service".parse().unwrap(), unit("[Service]\nExecStart=/bin/b\n"));
    next.spec.units.remove(&"mono-api.service".parse().unwrap());
    assert_eq!(
        core(&host, &next),
        [
            "write /etc/systemd/system/mono-b.service: new in this release",
            "remove /etc/nginx/sites-enabled/mono: not in this release any more",
            "validate nginx -t: not in this release any more",
            "stop mono-api.service: not in this release any more",
            "disable mono-api.service: not in this release any more",
            "remove /etc/systemd/system/mono-api.service: not in this release any more",
            "enable mono-b.service: not enabled at boot",
            "daemon-reload: its unit file changed",
            "start mono-b.service: new in this release",
            "reload nginx.service: /etc/nginx/sites-enabled/mono changed",
        ]
    );
    host.apply(&next);
    assert_eq!(core(&host, &next), Vec::<String>::new());
}

#[test]
fn a_removal_stops_before_it_takes_away() {
    let (mut host, _) = Host::with_example();
    assert_eq!(
        words(&host.remove()),
        [
            "remove /etc/nginx/sites-enabled/mono: the app is removed",
            "validate nginx -t: the app is removed",
            "stop mono-api.service: the app is removed",
            "disable mono-api.service: the app is removed",
            "remove /etc/systemd/system/mono-api.service: the app is removed",
            "remove /var/lib/drover/env/mono.env: the app is removed",
            "daemon-reload: its unit file changed",
            "reload nginx.service: /etc/nginx/sites-enabled/mono changed",
        ]
    );
}

/// How the host is prepared, and the refusal that follows.
type Row = (Box<dyn Fn(&mut Host)>, Code, &'static str);

#[test]
fn what_is_not_ours_is_refused_even_when_it_is_the_same() {
    let wanted = rendered(&desired());
    let site: AbsPath = SITE.parse().unwrap();
    let same = String::from_utf8(wanted.file(&site).unwrap().bytes.expose().clone()).unwrap();
    let link = || SeenFile { seen: Seen::Is(FileState::Symlink), text: None };
    let mut owned = Owners::default();
    owned.files.insert(site.clone(), "other".parse().unwrap());
    let rows: Vec<Row> = vec![
        (Box::new(move |host| host.put(SITE, &same)), Code::NotOwned, "adopt: true takes it over"),
        (Box::new(|host| host.put(UNIT_FILE, "x")), Code::NotOwned, "adopt: true takes it over"),
        (
            Box::new(|host| {
                host.unit("mono-api.service").fragment_path = "/lib/systemd/system/mono-api.service".into()
            }),
            Code::NotOwned,
            "/lib/systemd/system/mono-api.service",
        ),
        (
            Box::new(move |host| drop(host.observed.files.insert(SITE.parse().unwrap(), link()))),
            Code::UnsafePath,
            "no regular file",
        ),
        (
            Box::new(move |host| {
                host.observed.files.insert(UNIT_FILE.parse().unwrap(), link());
                host.observed.masked.insert("mono-api.service".parse().unwrap());
                host.unit("mono-api.service").fragment_path = "/dev/null".into();
            }),
            Code::UnsafePath,
            "systemctl unmask mono-api.service",
        ),
        (Box::new(move |host| host.others = owned.clone()), Code::OwnedByOther, "belongs to app other"),
        (
            Box::new(|host| {
                host.observed.users.insert("www-data".parse().unwrap(), None);
            }),
            Code::NoSuchUser,
            "user www-data does not exist",
        ),
    ];
    for (prepare, code, message) in rows {
        let mut host = Host::new();
        prepare(&mut host);
        let plan = host.plan(Some(&desired()));
        assert_eq!(plan.refusals.len(), 1, "{:?}", plan.refusals);
        assert_eq!(plan.refusals[0].code, code);
        assert!(plan.refusals[0].message.contains(message), "{}", plan.refusals[0].message);
    }
}

#[test]
fn drovers_own_directories_are_nobodys() {
    let mut desired = desired();
    desired.spec.files.push(file_part("/var/lib/drover/agent/desired.json", "x", 0o644));
    desired.spec.files.push(file_part("/var/lib/drover/agent2/fine", "x", 0o644));
    let (owner, group) = ("root".parse().unwrap(), "root".parse().unwrap());
    let path = "/var/lib/drover/env".parse().unwrap();
    desired.spec.host.directories.push(DirectoryNeed { path, owner, group, mode: 0o777 });
    let refusals = Host::new().plan(Some(&desired)).refusals;
    let shown: Vec<_> = refusals.iter().map(|refusal| (refusal.code, refusal.part.as_str())).collect();
    let want = [(Code::UnsafePath, "/var/lib/drover/agent/desired.json"), (Code::UnsafePath, "/var/lib/drover/env")];
    assert_eq!(shown, want);
}

#[test]
fn adopting_keeps_the_original_and_does_not_restart_what_is_the_same() {
    let mut host = Host::new();
    let mut desired = desired();
    desired.spec.artifact = None;
    desired.spec.env.clear();
    desired.spec.hooks.clear();
    desired.spec.secrets.clear();
    let mut adopted = unit("[Service]\nExecStart=/bin/a\n");
    adopted.adopt = true;
    desired.spec.units = [("mono-api.service".parse().unwrap(), adopted)].into();
    desired.spec.files[0].adopt = true;
    host.put(UNIT_FILE, "[Service]\nExecStart=/bin/a\n");
    host.put(SITE, "theirs");
    *host.unit("mono-api.service") = crate::host::systemd::UnitState {
        active_state: "active".into(),
        unit_file_state: "enabled".into(),
        fragment_path: UNIT_FILE.into(),
        ..Default::default()
    };
    let plan = host.apply(&desired);
    assert_eq!(
        words(&plan)[..5],
        [
            "write /etc/systemd/system/mono-api.service: new in this release",
            "write /etc/nginx/sites-enabled/mono: content differs",
            "validate nginx -t: /etc/nginx/sites-enabled/mono changed",
            "daemon-reload: its unit file changed",
            "reload nginx.service: /etc/nginx/sites-enabled/mono changed",
        ]
    );
    assert_eq!(host.ledger.originals.len(), 2);
    assert!(!host.plan(Some(&desired)).has_changes());
    assert_eq!(
        words(&host.remove()),
        [
            "restore /etc/nginx/sites-enabled/mono: the app is removed",
            "validate nginx -t: the app is removed",
            "restore /etc/systemd/system/mono-api.service: the app is removed",
            "daemon-reload: its unit file changed",
            "restart mono-api.service: the app is removed",
            "reload nginx.service: /etc/nginx/sites-enabled/mono changed",
        ]
    );
}

#[test]
fn host_needs_come_first_and_only_when_missing() {
    let mut host = Host::new();
    let mut desired = desired();
    desired.spec.host.packages.insert("nginx-light".parse().unwrap());
    desired.spec.host.users.push(UserNeed {
        name: "mono".parse().unwrap(),
        home: "/nonexistent".parse().unwrap(),
        shell: "/usr/sbin/nologin".parse().unwrap(),
        groups: Default::default(),
    });
    let directory = |path: &str| DirectoryNeed {
        path: path.parse().unwrap(),
        owner: "www-data".parse().unwrap(),
        group: "www-data".parse().unwrap(),
        mode: 0o750,
    };
    desired.spec.host.directories = vec![directory("/var/log/mono"), directory("/srv/there")];
    host.observed.packages_missing.insert("nginx-light".parse().unwrap());
    let there = FileState::Directory { uid: 33, gid: 33, mode: 0o750 };
    host.observed.directories.insert("/srv/there".parse().unwrap(), Seen::Is(there));
    assert_eq!(
        words(&host.plan(Some(&desired)))[..3],
        ["packages: missing", "user mono: missing", "directory /var/log/mono: missing"]
    );
    host.apply(&desired);
    assert!(!host.plan(Some(&desired)).has_changes());
    let other = FileState::Directory { uid: 0, gid: 33, mode: 0o750 };
    host.observed.directories.insert("/srv/there".parse().unwrap(), Seen::Is(other));
    assert_eq!(core(&host, &desired), ["directory /srv/there: owner or mode differs"]);
}

#[test]
fn a_staged_check_runs_before_anything_is_written() {
    let mut desired = desired();
    let mut sudoers = file_part("/etc/sudoers.d/mono", "x\n", 0o440);
    sudoers.validate = Some(argv(&["visudo", "-cf", "{{ path }}"]));
    desired.spec.files.push(sudoers);
    let words = words(&Host::new().plan(Some(&desired)));
    let at = |what: &str| words.iter().position(|w| w.starts_with(what)).unwrap();
    assert!(at("build") < at("validate staged visudo -cf {{ path }}"));
    assert!(at("validate staged") < at("hook 0") && at("hook 0") < at("write"));
}
