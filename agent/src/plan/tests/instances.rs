//! Templates and their instances: each is a unit of its own, and only the difference is touched.

use drover_proto::{app::Unit, plan::Action, spec::DesiredApp};

use super::model::{Host, words};
use crate::render::tests::{desired, unit};

/// The example with the instances of a template in place of its units.
fn scaled(instances: &[&str]) -> DesiredApp {
    let mut desired = desired();
    let template = Unit {
        instances: instances.iter().map(|name| name.parse().unwrap()).collect(),
        ..unit("[Service]\nExecStart=/bin/w %i\n")
    };
    desired.spec.units = [("w@.service".parse().unwrap(), template)].into();
    (desired.spec.artifact, desired.spec.files, desired.spec.hooks) = (None, vec![], vec![]);
    desired.spec.env.clear();
    desired
}

fn changes(host: &Host, desired: &DesiredApp) -> Vec<String> {
    let words = words(&host.plan(Some(desired)));
    words.into_iter().filter(|w| !w.starts_with("gate") && !w.starts_with("commit")).collect()
}

#[test]
fn every_instance_is_enabled_started_and_gated() {
    let mut host = Host::new();
    let plan = host.apply(&scaled(&["1", "2"]));
    assert_eq!(
        words(&plan)[..6],
        [
            "write /etc/systemd/system/w@.service: new in this release",
            "enable w@1.service: not enabled at boot",
            "enable w@2.service: not enabled at boot",
            "daemon-reload: its unit file changed",
            "start w@1.service: new in this release",
            "start w@2.service: new in this release",
        ]
    );
    let gated = plan.steps.iter().find_map(|step| match &step.action {
        Action::Gate { units, .. } => Some(units.iter().map(ToString::to_string).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(gated.unwrap(), ["w@1.service", "w@2.service"]);
    assert_eq!(changes(&host, &scaled(&["1", "2"])), Vec::<String>::new());
}

#[test]
fn scaling_touches_only_the_difference() {
    let mut host = Host::new();
    host.apply(&scaled(&["1", "2"]));
    assert_eq!(
        changes(&host, &scaled(&["1", "2", "3"])),
        [
            "enable w@3.service: not enabled at boot",
            "daemon-reload: not enabled at boot",
            "start w@3.service: new in this release"
        ]
    );
    host.apply(&scaled(&["1", "2", "3"]));
    assert_eq!(
        changes(&host, &scaled(&["2"])),
        [
            "stop w@1.service: not in this release any more",
            "disable w@1.service: not in this release any more",
            "stop w@3.service: not in this release any more",
            "disable w@3.service: not in this release any more",
        ]
    );
    host.apply(&scaled(&["2"]));
    assert_eq!(changes(&host, &scaled(&["2"])), Vec::<String>::new());
}

#[test]
fn another_text_restarts_every_instance_and_a_removal_stops_them() {
    let mut host = Host::new();
    host.apply(&scaled(&["1", "2"]));
    let mut next = scaled(&["1", "2"]);
    next.spec.units.values_mut().for_each(|w| w.text = unit("[Service]\nExecStart=/bin/other %i\n").text);
    assert_eq!(
        changes(&host, &next),
        [
            "write /etc/systemd/system/w@.service: content differs",
            "daemon-reload: its unit file changed",
            "restart w@1.service: its unit file changed",
            "restart w@2.service: its unit file changed",
        ]
    );
    assert_eq!(
        words(&host.remove()),
        [
            "stop w@1.service: the app is removed",
            "disable w@1.service: the app is removed",
            "stop w@2.service: the app is removed",
            "disable w@2.service: the app is removed",
            "remove /etc/systemd/system/w@.service: the app is removed",
            "daemon-reload: its unit file changed",
        ]
    );
}

#[test]
fn a_file_that_restarts_a_template_restarts_its_instances() {
    let mut host = Host::new();
    let with_file = |text: &str| {
        let mut desired = scaled(&["1", "2"]);
        let mut file = crate::render::tests::file_part("/etc/w.conf", text, 0o644);
        file.restart = ["w@.service".parse().unwrap()].into();
        desired.spec.files = vec![file];
        desired
    };
    host.apply(&with_file("a"));
    let all = changes(&host, &with_file("b"));
    let restarts: Vec<&String> = all.iter().filter(|w| w.starts_with("restart")).collect();
    assert_eq!(restarts, ["restart w@1.service: /etc/w.conf changed", "restart w@2.service: /etc/w.conf changed"]);
}
