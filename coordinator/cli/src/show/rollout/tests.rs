//! A failed rollout as its operator reads it, and the exit codes of every end.

use drover_proto::{code::Code, name::ReleaseId, view::RolloutSummary};

use super::*;
use crate::show::tests::bare;

/// A rollout of mono/17 with these hosts.
pub(crate) fn view(state: RolloutState, targets: Vec<(&str, HostState)>) -> RolloutView {
    RolloutView {
        summary: RolloutSummary {
            id: 7,
            app: "mono".parse().unwrap(),
            release: Some(17),
            state,
            kind: "apply".to_owned(),
            started_by: "ada".to_owned(),
            started_unix_ms: 0,
            ended_unix_ms: None,
            hosts: Default::default(),
        },
        targets: targets
            .into_iter()
            .map(|(name, state)| RolloutHostView {
                host: name.parse().unwrap(),
                state,
                before: Some(16),
                failure: None,
                run_once: false,
            })
            .collect(),
    }
}

#[test]
fn a_failure_is_told_with_its_evidence_and_the_next_step() {
    let cause = "mono.service exited with 1".to_owned();
    let mut view = view(
        RolloutState::RolledBack { cause: "web-1 failed".to_owned() },
        vec![("web-1", HostState::Reverted { cause: cause.clone() }), ("web-2", HostState::Pending)],
    );
    view.targets[0].failure = Some(Failure {
        code: Code::Gate,
        release: ReleaseId { app: "mono".parse().unwrap(), number: 17 },
        rollout: 7,
        at_unix_ms: 0,
        step: "gate".to_owned(),
        cause,
        evidence: vec![Evidence { title: "journal of mono.service".to_owned(), lines: vec!["boom \x07".to_owned()] }],
    });
    let expected = "\
HOST   STATE     BEFORE  DETAIL
web-1  reverted  16      mono.service exited with 1
web-2  pending   16

web-1: mono.service exited with 1
  mono/17 failed at step: gate [gate]
  journal of mono.service
    boom \\u{7}

rollout 7: mono/17 rolled_back: web-1 failed
Next:
  drover why web-1 mono
  drover logs mono --host web-1
  drover rollout status 7
";
    assert_eq!(bare(&text(&view)), expected);
}

#[test]
fn a_long_cause_is_whole_only_once() {
    let cause = format!("the step failed: {}", "x".repeat(200));
    let view = view(
        RolloutState::Failed { cause: cause.clone() },
        vec![("web-1", HostState::Failed { cause: cause.clone() })],
    );
    let text = bare(&text(&view));
    assert_eq!(text.matches(&cause).count(), 1, "{text}");
    assert_eq!(text.matches('…').count(), 2, "{text}");
}

#[test]
fn a_host_whose_app_is_gone_is_removed() {
    let mut view = view(RolloutState::Succeeded, vec![("web-1", HostState::Healthy)]);
    view.summary.release = None;
    assert_eq!(spread(&view), "1 host: 1 removed");
}

#[test]
fn only_success_is_success() {
    let cause = String::new();
    assert_eq!(exit(&RolloutState::Succeeded), Exit::Done);
    for state in [
        RolloutState::RolledBack { cause: cause.clone() },
        RolloutState::RollbackFailed { cause: cause.clone() },
        RolloutState::Failed { cause },
        RolloutState::Superseded { by: 8 },
        RolloutState::Aborted { by: "ada".to_owned() },
        RolloutState::Running,
    ] {
        assert_eq!(exit(&state), Exit::Error, "{state:?}");
    }
}

#[test]
fn a_success_needs_no_next_step() {
    let view = view(RolloutState::Succeeded, vec![("web-1", HostState::Healthy), ("web-2", HostState::Healthy)]);
    assert_eq!(next_steps(&view), Vec::<String>::new());
    assert_eq!(spread(&view), "2 hosts: 2 healthy");
}
