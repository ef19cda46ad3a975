//! What others have to do with an app's files: units that files reload or restart, there, unknown, gone; checks of the whole.

use drover_proto::code::Code;

use super::model::{Host, words};
use crate::render::tests::{argv, desired, rendered};

const SITE: &str = "/etc/nginx/sites-enabled/mono";

#[test]
fn a_unit_that_nobody_knows_is_refused_before_anything_is_touched() {
    let (mut host, mut desired) = (Host::new(), desired());
    host.observed.units_unknown.insert("nginx.service".parse().unwrap());
    let refusals = host.plan(Some(&desired)).refusals;
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!((refusals[0].code, refusals[0].part.as_str()), (Code::Systemd, "nginx.service"));
    assert!(refusals[0].message.starts_with(&format!("{SITE} names nginx.service under reload")), "{refusals:?}");
    // It may come with a package that is installed first.
    desired.spec.host.packages.insert("nginx-light".parse().unwrap());
    host.observed.packages_missing.insert("nginx-light".parse().unwrap());
    assert_eq!(host.plan(Some(&desired)).refusals, vec![]);
    host.observed.packages_missing.clear();
    assert_eq!(host.plan(Some(&desired)).refusals.len(), 1);
}

#[test]
fn a_file_can_go_when_the_unit_it_served_has_gone() {
    let (mut host, mut next) = Host::with_example();
    host.observed.units_unknown.insert("nginx.service".parse().unwrap());
    next.spec.files.clear();
    let plan = host.plan(Some(&next));
    assert_eq!(plan.refusals, vec![]);
    assert!(!words(&plan).iter().any(|word| word.starts_with("reload")), "{:?}", words(&plan));
    assert!(!words(&host.plan(None)).iter().any(|word| word.starts_with("reload")));
}

#[test]
fn what_is_left_is_checked_when_a_file_has_gone_before_anything_is_told() {
    let (mut host, mut checked) = Host::with_example();
    checked.spec.files[0].validate = Some(argv(&["nginx", "-t"]));
    checked.release.number = 2;
    host.apply(&checked);
    let (gone, check) = (format!("remove {SITE}: "), "validate nginx -t: ");
    let mut dropped = checked.clone();
    dropped.spec.files.clear();
    for (next, why) in [(None, "the app is removed"), (Some(&dropped), "not in this release any more")] {
        let words = words(&host.plan(next));
        let at = |word: String| words.iter().position(|it| *it == word).unwrap_or_else(|| panic!("{word}: {words:?}"));
        let (removed, checked) = (at(format!("{gone}{why}")), at(format!("{check}{why}")));
        let told = words.iter().position(|word| word.starts_with("stop") || word.starts_with("reload")).unwrap();
        assert!(removed < checked && checked < told, "{words:?}");
    }
    // After a crash in between it is still to be checked.
    host.ledger.released(&SITE.parse().unwrap());
    host.observed.files.remove(&SITE.parse().unwrap());
    let words = words(&host.plan(None));
    assert!(words.contains(&format!("{check}the app is removed")), "{words:?}");
}

#[test]
fn what_a_failed_release_left_is_not_told_again() {
    let (mut host, base) = Host::with_example();
    let mut failed = base.clone();
    failed.release.number = 2;
    let mut extra = crate::render::tests::file_part("/etc/extra", "x\n", 0o644);
    extra.reload.insert("nope.service".parse().unwrap());
    failed.spec.files.push(extra);
    let wanted = rendered(&failed);
    let path = "/etc/extra".parse().unwrap();
    host.ledger.expect([], [drover_proto::name::AbsPath::clone(&path)]);
    for step in &host.plan(Some(&failed)).steps {
        host.carry_out(&step.action, Some(&wanted));
    }
    host.observed.files.remove(&path);
    host.ledger.released(&path);
    assert!(host.plan(Some(&base)).has_changes());
    let there = host.observed.files.clone();
    host.ledger.gave_up(Some(&rendered(&base)), |path| there.contains_key(path));
    assert!(!host.plan(Some(&base)).has_changes(), "{:?}", words(&host.plan(Some(&base))));
    assert!(!host.ledger.effects.keys().any(|key| key.contains("extra")));
    assert!(host.ledger.owns(&SITE.parse().unwrap()));
}

#[test]
fn a_unit_taken_over_while_it_runs_does_not_go_on_with_the_text_it_had() {
    const UNIT_FILE: &str = "/etc/systemd/system/mono-api.service";
    for (theirs, restarts) in [("[Service]\nExecStart=/bin/a\n", false), ("[Service]\nExecStart=/bin/old\n", true)] {
        let (mut host, mut desired) = (Host::new(), desired());
        let mut adopted = crate::render::tests::unit("[Service]\nExecStart=/bin/a\n");
        (adopted.adopt, adopted.start) = (true, false);
        desired.spec.units = [("mono-api.service".parse().unwrap(), adopted)].into();
        host.put(UNIT_FILE, theirs);
        *host.unit("mono-api.service") = crate::host::systemd::UnitState {
            active_state: "active".into(),
            unit_file_state: "enabled".into(),
            fragment_path: UNIT_FILE.into(),
            ..Default::default()
        };
        let words = words(&host.plan(Some(&desired)));
        assert_eq!(
            words.contains(&"restart mono-api.service: its unit file changed".to_owned()),
            restarts,
            "{words:?}"
        );
    }
}
