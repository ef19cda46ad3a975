//! A socket and its service: opened before it, and anew only while it is stopped.

use drover_proto::spec::DesiredApp;

use super::model::{Host, words};
use crate::render::tests::{desired, template, unit};

/// The example with a service behind a socket in place of its units.
pub(crate) fn behind(port: u16, program: &str) -> DesiredApp {
    let mut desired = desired();
    let units = [
        ("door.service", format!("[Service]\nExecStart={program}\n")),
        ("door.socket", format!("[Socket]\nListenStream={port}\n")),
    ];
    desired.spec.units = units.map(|(name, text)| (name.parse().unwrap(), unit(&text))).into();
    (desired.spec.artifact, desired.spec.files, desired.spec.hooks) = (None, vec![], vec![]);
    desired.spec.env.clear();
    desired
}

fn jobs(host: &Host, desired: &DesiredApp) -> Vec<String> {
    let is_job = |word: &String| ["start", "stop", "restart"].iter().any(|job| word.starts_with(job));
    words(&host.plan(Some(desired))).into_iter().filter(is_job).collect()
}

#[test]
fn a_socket_is_there_before_its_service_and_stays_while_that_restarts() {
    let mut host = Host::new();
    assert_eq!(
        jobs(&host, &behind(80, "/bin/a")),
        ["start door.socket: new in this release", "start door.service: new in this release"]
    );
    host.apply(&behind(80, "/bin/a"));
    assert_eq!(jobs(&host, &behind(80, "/bin/b")), ["restart door.service: its unit file changed"]);
    host.apply(&behind(80, "/bin/b"));
    assert_eq!(
        jobs(&host, &behind(81, "/bin/b")),
        [
            "stop door.socket: its unit file changed",
            "stop door.service: its unit file changed",
            "start door.socket: its unit file changed",
            "start door.service: its unit file changed",
        ]
    );
    host.apply(&behind(81, "/bin/b"));
    let mut asked = behind(81, "/bin/b");
    asked.restart = 7;
    assert_eq!(jobs(&host, &asked), ["restart door.service: a restart was asked for"]);
    let gone = words(&host.plan(None)).into_iter().filter(|word| word.starts_with("stop")).collect::<Vec<_>>();
    assert_eq!(gone, ["stop door.socket: the app is removed", "stop door.service: the app is removed"]);
}

#[test]
fn a_service_that_its_socket_starts_is_only_stopped() {
    let mut host = Host::new();
    let lazy = |port| {
        let mut desired = behind(port, "/bin/a");
        let service = desired.spec.units.get_mut(&"door.service".parse().unwrap()).unwrap();
        (service.start, service.enable, service.text) = (false, false, template("[Service]\nExecStart=/bin/a\n"));
        desired
    };
    host.apply(&lazy(80));
    host.unit("door.service").active_state = "active".into();
    assert_eq!(
        jobs(&host, &lazy(81)),
        [
            "stop door.socket: its unit file changed",
            "stop door.service: its unit file changed",
            "start door.socket: its unit file changed",
        ]
    );
}
