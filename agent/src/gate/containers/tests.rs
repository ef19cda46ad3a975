//! States of containers, and what they mean.
use std::collections::BTreeSet;

use drover_proto::digest::Digest;

use super::*;
use crate::{host::docker::Health, render::tests::container};

fn running() -> ContainerState {
    let wanted = container();
    ContainerState {
        id: "a".repeat(64),
        digests: BTreeSet::from([wanted.digest]),
        fingerprint: Some(wanted.fingerprint),
        status: "running".to_owned(),
        running: true,
        started_at: "2026-11-28T00:00:00Z".to_owned(),
        finished_at: "2026-11-28T00:00:02.9Z".to_owned(),
        ..ContainerState::default()
    }
}

fn judged(change: impl FnOnce(&mut ContainerState)) -> Standing {
    let mut state = running();
    change(&mut state);
    judge(&"shop".parse().unwrap(), &container(), Some(&state))
}

fn health(status: &str, output: &str) -> Option<Health> {
    Some(Health { status: status.to_owned(), failing_streak: 3, output: output.to_owned() })
}

#[test]
fn what_runs_is_healthy_until_its_healthcheck_says_otherwise() {
    assert!(matches!(judged(|_| {}), Standing::Healthy(_)));
    assert!(matches!(judged(|state| state.health = health("healthy", "")), Standing::Healthy(_)));
    assert!(
        matches!(judged(|state| state.health = health("starting", "no answer")), Standing::Waiting(s) if s.contains("no answer"))
    );
    assert!(
        matches!(judged(|state| state.health = health("unhealthy", "500")), Standing::Broken(s) if s.contains("3 times in a row: 500"))
    );
}

#[test]
fn another_start_is_another_process() {
    let (Standing::Healthy(one), Standing::Healthy(other)) = (judged(|_| {}), judged(|s| s.restart_count = 1)) else {
        panic!("both run")
    };
    assert_ne!(one, other);
}

#[test]
fn what_ended_says_how() {
    let exited = |code: i64, oom: bool| {
        judged(|state| {
            (state.status, state.running) = ("exited".to_owned(), false);
            (state.exit_code, state.oom_killed) = (code, oom);
        })
    };
    let rows = [
        (3, false, "exited with code 3, 2.9 s after it started"),
        (127, false, "its program was not found"),
        (143, false, "ended by signal 15"),
        (137, false, "was killed (SIGKILL)"),
        (137, true, "its memory ran out"),
    ];
    for (code, oom, words) in rows {
        assert!(matches!(exited(code, oom), Standing::Ended(said) if said.contains(words)), "{code} {oom}");
    }
}

#[test]
fn a_loop_is_given_up() {
    let looping = |count| {
        judged(|state| {
            (state.status, state.running) = ("restarting".to_owned(), false);
            (state.exit_code, state.restart_count) = (1, count);
        })
    };
    assert!(matches!(looping(1), Standing::Broken(_)));
    assert!(matches!(looping(3), Standing::GaveUp(said) if said.contains("started it again 3 times")));
}

#[test]
fn one_that_was_made_of_something_else_is_not_it() {
    assert!(matches!(judged(|state| state.fingerprint = None), Standing::Ended(_)));
    assert!(matches!(judged(|state| state.digests = [Digest::of(b"other")].into()), Standing::Ended(_)));
    assert!(
        matches!(judge(&"shop".parse().unwrap(), &container(), None), Standing::Ended(said) if said.contains("not there"))
    );
    let refused = judged(|state| (state.running, state.error) = (false, "port is already allocated".to_owned()));
    assert!(matches!(refused, Standing::GaveUp(said) if said.contains("already allocated")));
}
