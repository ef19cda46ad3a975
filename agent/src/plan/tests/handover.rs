//! What is replaced by another instance beside it: nobody is ever sent to an instance that was not seen healthy, none that
//! serves is stopped, and none that served is stopped before it has been drained. Also when the agent dies after any step
//! and something else is wanted then.

use std::collections::BTreeSet;

use drover_proto::{
    app::BlueGreen,
    duration::Span,
    name::UnitName,
    plan::{Action, Reason},
    spec::DesiredApp,
};
use proptest::prelude::*;

use super::model::{Host, words};
use crate::{
    host::files::FileState,
    observe::Seen,
    render::{
        Rendered,
        tests::{file_part, handing_over, template, unit, with_container},
    },
};

/// A host with an nginx that reads upstreams when it is told to.
#[derive(Clone)]
struct World {
    host: Host,
    /// Where nginx sends requests.
    leads_to: Option<String>,
    proved: BTreeSet<String>,
    /// Sent requests since they were last drained.
    used: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        Self { host: Host::new(), leads_to: None, proved: BTreeSet::new(), used: BTreeSet::new() }
    }

    /// Carries out the first `steps` steps of the plan for a release; whether that was all of it.
    fn apply(&mut self, desired: &DesiredApp, steps: usize) -> Result<bool, TestCaseError> {
        let wanted = self.host.rendered(desired);
        self.host.ledger.allot(&wanted);
        let plan = self.host.plan(Some(desired));
        prop_assert_eq!(&plan.refusals, &vec![]);
        let started = plan.steps.iter().filter_map(|step| match &step.action {
            Action::Start(unit) | Action::Restart(unit) if wanted.units.contains_key(unit) => Some(unit.clone()),
            _ => None,
        });
        let written = plan.steps.iter().filter_map(|step| match &step.action {
            Action::WriteFile { path, .. } => Some(path.clone()),
            _ => None,
        });
        let (started, written): (Vec<_>, Vec<_>) = (started.collect(), written.collect());
        self.host.ledger.expect(started, written);
        for step in plan.steps.iter().take(steps) {
            self.carry_out(&step.action, &wanted)?;
        }
        if steps < plan.steps.len() {
            return Ok(false);
        }
        self.host.ledger.commit(desired, &wanted, 0);
        Ok(true)
    }

    fn carry_out(&mut self, action: &Action, wanted: &Rendered) -> Result<(), TestCaseError> {
        self.host.carry_out(action, Some(wanted));
        match action {
            Action::Prove { instance, .. } => {
                prop_assert!(self.runs(&instance.parse().unwrap()), "{instance} is seen healthy and does not run");
                self.proved.insert(instance.clone());
                let name: UnitName = instance.parse().unwrap();
                self.host.ledger.started(&name, wanted.units[&name].fingerprint);
            }
            Action::Reload(unit) if unit.as_str() == "nginx.service" => {
                let there =
                    |path: &drover_proto::name::AbsPath| self.host.observed.files.get(path).map(|f| f.seen.clone());
                for handover in wanted.handovers.values() {
                    let file = wanted.file(&handover.file).unwrap();
                    let Some(Seen::Is(FileState::File { digest, .. })) = there(&handover.file) else { continue };
                    prop_assert_eq!(digest, Some(file.digest), "nginx reads an upstream of another release");
                    let instance = &handover.instance;
                    prop_assert!(self.proved.contains(&instance.to_string()), "{} serves unproved", instance);
                    self.used.insert(instance.to_string());
                    self.leads_to = Some(instance.to_string());
                }
                if wanted.handovers.is_empty() {
                    self.leads_to = None;
                }
            }
            Action::Drain { instance, .. } => {
                prop_assert_ne!(self.leads_to.as_ref(), Some(instance));
                self.used.remove(instance);
            }
            Action::Stop(unit) | Action::Restart(unit) => {
                prop_assert!(!self.used.contains(unit.as_str()), "{} is ended in the middle of what it does", unit);
                self.proved.remove(unit.as_str());
            }
            _ => {}
        }
        if let Some(serves) = &self.leads_to {
            prop_assert!(self.runs(&serves.parse().unwrap()), "{serves} serves and does not run");
        }
        Ok(())
    }

    fn runs(&self, unit: &UnitName) -> bool {
        self.host.observed.units.get(unit).is_some_and(|state| state.active_state == "active")
    }
}

/// A release of an API that hands over, beside a worker and a file that both read.
fn releases() -> impl Strategy<Value = DesiredApp> {
    (0..3_u64, 0..2_u64, 0..2_u8, any::<bool>()).prop_map(|(text, restart, env, named)| {
        let mut desired = handing_over();
        (desired.release.number, desired.restart) = (text, restart);
        let mut api = desired.spec.units.values().next().cloned().unwrap();
        api.text.0.extend(template(&format!("# {text}\n")).0);
        if named {
            api.text.0.extend(template("# /etc/shared\n").0);
        }
        desired.spec.units.insert("mono-api.service".parse().unwrap(), api);
        desired.spec.units.insert("worker.service".parse().unwrap(), unit("[Service]\n# /etc/shared\n"));
        desired.spec.env.insert("PORT".parse().unwrap(), template(&env.to_string()));
        desired.spec.files.push(file_part("/etc/shared", &env.to_string(), 0o644));
        desired
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_sent_where_nobody_answers(
        first in releases(),
        broken_off in proptest::collection::vec((releases(), 0..40_usize), 0..4),
        last in releases(),
    ) {
        let mut world = World::new();
        prop_assert!(world.apply(&first, usize::MAX)?);
        for (release, steps) in &broken_off {
            world.apply(release, *steps)?;
        }
        prop_assert!(world.apply(&last, usize::MAX)?);
        let again = world.host.plan(Some(&last));
        prop_assert!(!again.has_changes(), "{:?}", words(&again));
        let running: Vec<&str> =
            world.host.observed.units.iter().filter(|(_, s)| s.active_state == "active").map(|(n, _)| n.as_str()).collect();
        prop_assert_eq!(running.len(), 2, "one instance and the worker: {:?}", running);
        prop_assert!(world.leads_to.as_ref().is_some_and(|unit| running.contains(&unit.as_str())));
        prop_assert_eq!(world.host.ledger.instance_ports().collect::<BTreeSet<_>>().len(), 1);
    }
}

#[test]
fn a_new_instance_is_seen_healthy_before_anything_else_is_touched() {
    let mut host = Host::new();
    let desired = handing_over();
    host.apply(&desired);
    let mut next = desired.clone();
    next.release.number = 2;
    next.spec.artifact.as_mut().unwrap().digest = drover_proto::digest::Digest::of(b"next");
    let plan = host.plan(Some(&next));
    let expected = [
        "fetch: new in this release",
        "unpack: new in this release",
        "build: new in this release",
        "hook 0: the manifest says so",
        "write /etc/systemd/system/mono-api@20001.service: new in this release",
        "daemon-reload: its unit file changed",
        "start mono-api@20001.service: new in this release",
        "prove mono-api@20001.service: nothing is sent to it before it is seen healthy",
        "write /etc/nginx/conf.d/drover-mono-mono-api.conf: content differs",
        "validate nginx -t: /etc/nginx/conf.d/drover-mono-mono-api.conf changed",
        "enable mono-api@20001.service: not enabled at boot",
        "daemon-reload: not enabled at boot",
        "reload nginx.service: /etc/nginx/conf.d/drover-mono-mono-api.conf changed",
        "hook 1: the manifest says so",
        "gate: a host counts only when seen healthy",
        "drain mono-api@20000.service: mono-api@20001.service has taken its place",
        "stop mono-api@20000.service: mono-api@20001.service has taken its place",
        "disable mono-api@20000.service: mono-api@20001.service has taken its place",
        "remove /etc/systemd/system/mono-api@20000.service: mono-api@20001.service has taken its place",
        "daemon-reload: its unit file changed",
        "commit: a host counts only when seen healthy",
    ];
    assert_eq!(words(&plan), expected);
    // The next one gets the first port again; without a change nothing moves.
    host.apply(&next);
    assert!(!host.plan(Some(&next)).has_changes());
    next.restart = 7;
    let restart = words(&host.plan(Some(&next)));
    assert!(
        restart.contains(&"prove mono-api@20000.service: nothing is sent to it before it is seen healthy".to_owned())
    );
}

#[test]
fn a_unit_that_was_restarted_before_is_replaced_without_a_gap() {
    let mut host = Host::new();
    let mut before = handing_over();
    before.spec.units.values_mut().for_each(|unit| {
        (unit.handover, unit.text) = (None, template("[Service]\nExecStart=/bin/a\n"));
        unit.ports = ["127.0.0.1:5000".parse().unwrap()].into();
    });
    host.apply(&before);
    let plan = host.plan(Some(&handing_over()));
    let at = |is: &dyn Fn(&Action) -> bool| plan.steps.iter().position(|step| is(&step.action)).unwrap();
    let name: UnitName = "mono-api.service".parse().unwrap();
    let drain = at(&|action| matches!(action, Action::Drain { port: Some(5000), .. }));
    assert!(
        at(&|action| matches!(action, Action::Gate { .. })) < drain
            && drain < at(&|a| *a == Action::Stop(name.clone()))
    );
    assert_eq!(plan.steps[drain].reason, Reason::Replaced("mono-api@20000.service".to_owned()));
}

#[test]
fn files_that_restart_it_have_it_replaced() {
    let mut host = Host::new();
    let mut desired = handing_over();
    let mut config = file_part("/etc/mono.conf", "1", 0o644);
    config.restart.insert("mono-api.service".parse().unwrap());
    desired.spec.files.push(config);
    host.apply(&desired);
    desired.spec.files[1].content = drover_proto::app::Content::Text(template("2"));
    let plan = words(&host.plan(Some(&desired)));
    let at =
        |line: &str| plan.iter().position(|it| it.starts_with(line)).unwrap_or_else(|| panic!("{line}: {plan:#?}"));
    assert!(at("write /etc/mono.conf") < at("start mono-api@20001.service"), "it reads it");
    assert!(plan.iter().all(|line| !line.starts_with("restart")), "{plan:#?}");
}

#[test]
fn two_apps_cannot_have_one_upstream() {
    let mut host = Host::new();
    host.others.upstreams.insert("mono-api".parse().unwrap(), "other".parse().unwrap());
    let refusals = host.plan(Some(&handing_over())).refusals;
    assert_eq!(refusals[0].code, drover_proto::code::Code::OwnedByOther);
    assert_eq!(host.plan(Some(&crate::render::tests::desired())).refusals, vec![]);
}

#[test]
fn a_container_is_made_beside_the_one_that_serves_which_goes_last() {
    let mut host = Host::new();
    let mut desired = with_container();
    desired.spec.containers.values_mut().for_each(|container| {
        let (upstream, drain, container_port) = ("web".parse().unwrap(), Span::from_secs(30), Some(80));
        container.ports.clear();
        container.handover = Some(BlueGreen { upstream, drain, container_port });
    });
    host.apply(&desired);
    let first: Vec<&str> = host.observed.containers.states.keys().map(|name| name.as_str()).collect();
    assert_eq!(first, ["shop-20000"]);
    assert!(!host.plan(Some(&desired)).has_changes());
    desired.spec.env.insert("PORT".parse().unwrap(), template("5001"));
    let plan = words(&host.plan(Some(&desired)));
    let order = [
        "write /var/lib/drover/env/mono/shop-20001/KEY",
        "run shop-20001",
        "prove shop-20001",
        "write /etc/nginx/conf.d/drover-mono-web.conf",
        "reload nginx.service",
        "gate",
        "drain shop-20000",
        "remove container shop-20000: shop-20001 has taken its place",
        "remove /var/lib/drover/env/mono/shop-20000/KEY",
        "commit",
    ];
    let at =
        |line: &&str| plan.iter().position(|it| it.starts_with(line)).unwrap_or_else(|| panic!("{line}: {plan:#?}"));
    assert!(order.iter().map(at).collect::<Vec<_>>().is_sorted(), "{plan:#?}");
    host.apply(&desired);
    assert!(!host.plan(Some(&desired)).has_changes());
    assert_eq!(host.observed.containers.states.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["shop-20001"]);
}
