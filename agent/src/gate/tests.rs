//! Sentences and stretches, table by table.

use std::{collections::BTreeMap, time::Duration};

use drover_proto::duration::Span;

use super::{
    begun_late,
    stretch::{Look, Problem, Severity, Stretch, Verdict},
    verdict::{Restarts, Standing, judge},
};
use crate::host::systemd::UnitState;

fn unit(active: &str, sub: &str) -> UnitState {
    UnitState {
        load_state: "loaded".into(),
        active_state: active.into(),
        sub_state: sub.into(),
        unit_type: "notify".into(),
        ..UnitState::default()
    }
}

#[test]
fn units_are_judged_in_plain_words() {
    let name = "mono-api.service".parse().unwrap();
    let exited = |state: UnitState| UnitState {
        exec_main_code: 1,
        exec_main_status: 3,
        exec_main_start_us: 1_000_000,
        exec_main_exit_us: 3_900_000,
        result: "exit-code".into(),
        ..state
    };
    let table = [
        (unit("active", "running"), Standing::Healthy("/0/0".into())),
        (
            unit("activating", "start"),
            Standing::Waiting("mono-api.service has not reported that it is ready yet (Type=notify)".into()),
        ),
        (
            exited(unit("failed", "failed")),
            Standing::GaveUp("mono-api.service exited with code 3, 2.9 s after it started".into()),
        ),
        (
            exited(unit("activating", "auto-restart")),
            Standing::Broken(
                "mono-api.service exited with code 3, 2.9 s after it started; systemd starts it again and again".into(),
            ),
        ),
        (
            UnitState { result: "timeout".into(), timeout_start_us: 90_000_000, ..unit("failed", "failed") },
            Standing::GaveUp(
                "mono-api.service never reported that it is ready (Type=notify); systemd waited 90.0 s and stopped it"
                    .into(),
            ),
        ),
        (
            UnitState { result: "oom-kill".into(), exec_main_code: 2, exec_main_status: 9, ..unit("failed", "failed") },
            Standing::GaveUp("mono-api.service was killed because the memory ran out".into()),
        ),
        (
            UnitState {
                unit_type: "oneshot".into(),
                result: "success".into(),
                exec_main_code: 1,
                ..unit("inactive", "dead")
            },
            Standing::Healthy(String::new()),
        ),
        (unit("inactive", "dead"), Standing::Ended("mono-api.service is not running (inactive)".into())),
        (
            UnitState { load_state: "not-found".into(), ..UnitState::default() },
            Standing::GaveUp("systemd cannot load mono-api.service (not-found)".into()),
        ),
    ];
    for (state, want) in table {
        assert_eq!(judge(&name, &state), want);
    }
}

#[test]
fn a_crash_loop_is_told_from_teething_trouble() {
    let name = "mono-api.service".parse().unwrap();
    let running = |n| UnitState { n_restarts: n, ..unit("active", "running") };
    let crashed = |n| UnitState { exec_main_code: 1, exec_main_status: 3, ..running(n) };
    let see = |looks: &[(u64, UnitState)]| {
        let mut restarts = Restarts::default();
        let looks = looks.iter().map(|(s, state)| restarts.see(&name, state, Duration::from_secs(*s)));
        looks.collect::<Vec<_>>().pop().unwrap()
    };
    // Older restarts do not count; the look at which the third is seen shows the next process already.
    let looks = [(0, running(7)), (4, crashed(7)), (5, running(8)), (10, running(9)), (15, running(10))];
    let sentence = "mono-api.service exited with code 3; systemd has started it again 3 times";
    assert_eq!(see(&looks).as_deref(), Some(sentence));
    // Not many, not for long, not any more, or by hand.
    assert_eq!(see(&looks[..4]), None);
    assert_eq!(see(&[(0, running(0)), (1, running(1)), (2, running(2)), (3, running(3)), (4, running(4))]), None);
    assert_eq!(see(&[(0, running(0)), (1, running(1)), (2, running(2)), (3, running(3)), (60, running(3))]), None);
    assert_eq!(see(&[(0, running(0)), (1, running(2)), (2, running(0)), (30, running(1)), (31, running(3))]), None);
    assert_eq!(see(&[(0, running(9)), (1, running(10)), (20, running(0)), (30, running(1)), (50, running(2))]), None);
}

fn look(problem: Option<(Severity, &str)>, identity: &str) -> Look {
    let problems = problem.map(|(severity, text)| Problem { severity, of: "u".into(), sentence: text.into() });
    Look { problems: problems.into_iter().collect(), identity: BTreeMap::from([("u".into(), identity.into())]) }
}

#[test]
fn only_an_unbroken_stretch_counts() {
    let mut stretch = Stretch::new(1000);
    let going = |ms| Verdict::Going { healthy_for_ms: ms, waiting_for: vec![] };
    assert_eq!(stretch.see(0, look(None, "a")), going(0));
    assert_eq!(stretch.see(800, look(None, "a")), going(800));
    let broken = stretch.see(900, look(Some((Severity::Wrong, "check api: 500")), "a"));
    assert_eq!(broken, Verdict::Going { healthy_for_ms: 0, waiting_for: vec!["check api: 500".into()] });
    assert_eq!(stretch.see(1000, look(None, "a")), going(0));
    // A new process starts it again, too.
    assert_eq!(stretch.see(1900, look(None, "b")), going(0));
    assert_eq!(stretch.see(2900, look(None, "b")), Verdict::Healthy);
}

#[test]
fn a_process_that_ended_explains_more_than_the_check_that_failed_with_it() {
    let mut stretch = Stretch::new(1000);
    stretch.see(0, look(Some((Severity::Waiting, "starting")), "a"));
    assert_eq!(stretch.cause().unwrap().sentence, "starting");
    stretch.see(1, look(Some((Severity::Broken, "exited with code 3")), "a"));
    stretch.see(2, look(Some((Severity::Wrong, "check api: refused")), "a"));
    assert_eq!(stretch.cause().unwrap().sentence, "exited with code 3");
    let mut flapping = Stretch::new(1000);
    flapping.see(0, look(Some((Severity::Wrong, "check api: 500")), "a"));
    flapping.see(1, look(None, "a"));
    assert_eq!(flapping.cause().unwrap().sentence, "check api: 500");
}

#[test]
fn a_gate_without_time_says_so() {
    assert_eq!(
        begun_late(Duration::from_millis(340), Span::from_secs(20), "check shop has not answered yet"),
        "the gate began with 0.3 s left of the healthy_deadline of 20s: check shop has not answered yet"
    );
}
