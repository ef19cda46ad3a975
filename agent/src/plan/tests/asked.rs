//! What a spec asks for beside a release: hooks that run once, restarts.

use drover_proto::spec::DesiredApp;

use super::{
    model::{Host, words},
    rows::core,
};
use crate::ledger::OnceState;

#[test]
fn a_hook_that_runs_once_runs_where_it_may_and_once_for_its_rollout() {
    let (mut host, mut desired) = Host::with_example();
    desired.release.number = 2;
    desired.rollout = 2;
    desired.spec.hooks[0].run_once = true;
    desired.spec.hooks[0].name = Some("migrate".parse().unwrap());
    let hooks = |host: &Host, desired: &DesiredApp| words(&host.plan(Some(desired))).concat().matches("hook 0").count();
    assert_eq!(hooks(&host, &desired), 0, "another host does");
    desired.run_once = true;
    assert_eq!(hooks(&host, &desired), 1);
    host.ledger.set_once(2, &desired.release, "migrate", OnceState::Finished);
    assert_eq!(hooks(&host, &desired), 0);
    desired.rollout = 3;
    assert_eq!(hooks(&host, &desired), 1, "the next rollout runs it again");
    host.apply(&desired);
    assert!(!host.ledger.current.unwrap().run_once, "going back to it runs it not");
}

#[test]
fn a_hook_that_runs_once_does_not_run_where_nothing_is_new() {
    let (mut host, mut desired) = Host::with_example();
    (desired.release.number, desired.rollout, desired.run_once) = (2, 2, true);
    desired.spec.hooks[0].run_once = true;
    desired.spec.hooks[0].name = Some("migrate".parse().unwrap());
    let hooks = |host: &Host, desired: &DesiredApp| words(&host.plan(Some(desired))).concat().matches("hook 0").count();
    assert_eq!(hooks(&host, &desired), 1, "the hook itself is new");
    host.apply(&desired);
    (desired.release.number, desired.rollout) = (3, 3);
    desired.spec.strategy.min_healthy_time = drover_proto::duration::Span::from_secs(9);
    assert_eq!(hooks(&host, &desired), 0, "another time is nothing on the host");
    desired.spec.files[0].mode = 0o600;
    assert_eq!(hooks(&host, &desired), 0, "nor is a mode");
    desired.spec.hooks[0].run.push(drover_proto::template::Template::literal("--more"));
    assert_eq!(hooks(&host, &desired), 1);
}

#[test]
fn a_restart_that_was_asked_for_restarts_the_units_and_nothing_else() {
    let (mut host, mut desired) = Host::with_example();
    desired.rollout = 7;
    desired.restart = 7;
    assert_eq!(core(&host, &desired), ["restart mono-api.service: a restart was asked for"]);
    host.apply(&desired);
    assert_eq!(core(&host, &desired), Vec::<String>::new());
    let mut unaware = DesiredApp { restart: 0, ..desired };
    host.ledger.remember_restart(&mut unaware);
    assert_eq!(core(&host, &unaware), Vec::<String>::new(), "a spec that does not know of it restarts nothing");
}
