//! What holds of every rollout, whatever happens to it: random events, then time alone. Beside the steps in `tests`.

use std::collections::BTreeSet;

use proptest::{prelude::*, strategy::Strategy};

use super::*;

/// Something that happens, for hosts 0 to 5.
fn any_event() -> impl Strategy<Value = Happens> {
    let phase = prop_oneof![
        1 => Just(Phase::Pending),
        1 => Just(Phase::Fetching { step: "x".to_owned() }),
        1 => Just(Phase::Gating { healthy_for_ms: 1, waiting_for: vec![] }),
        3 => Just(Phase::Healthy { since_unix_ms: 0 }),
        1 => Just(Phase::Degraded { problems: vec!["x".to_owned()] }),
        1 => Just(Phase::Reverting { cause: "x".to_owned() }),
        1 => Just(Phase::Reverted { to: None, cause: "x".to_owned() }),
        1 => Just(Phase::Failed { cause: "x".to_owned() }),
    ];
    prop_oneof![
        8 => (0..6usize, phase).prop_map(|(host, phase)| Happens::Report(host, phase)),
        2 => (0..6usize).prop_map(|i| Happens::Event(What::HostLost(host(i)))),
        3 => (0..6usize).prop_map(|i| Happens::Event(What::HostConnected(host(i)))),
        1 => (0..6usize).prop_map(|i| Happens::Event(What::HostRemoved(host(i)))),
        1 => (0..6usize).prop_map(|i| Happens::Event(What::HostCordoned { host: host(i), by: "ann".to_owned() })),
        1 => (0..6usize).prop_map(|i| Happens::Event(What::HostUncordoned(host(i)))),
        6 => (1..8i64).prop_map(Happens::Seconds),
        1 => Just(Happens::Event(What::Restarted)),
        1 => Just(Happens::Event(What::Pause { by: "ann".to_owned() })),
        2 => Just(Happens::Event(What::Resume)),
        1 => (0..60u32).prop_map(|n| match n {
            0 => Happens::Event(What::Abort { by: "ann".to_owned() }),
            1 => Happens::Event(What::Superseded { by: 9 }),
            _ => Happens::Seconds(1),
        }),
    ]
}

#[derive(Clone, Debug)]
enum Happens {
    Report(usize, Phase),
    Event(What),
    Seconds(i64),
}

fn on_failures() -> impl Strategy<Value = OnFailure> {
    prop_oneof![Just(OnFailure::Rollback), Just(OnFailure::Pause), Just(OnFailure::Continue)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn invariants_hold_whatever_happens(
        hosts in 1..6usize,
        max_parallel in 1..4u32,
        max_failures in 0..3u32,
        on_failure in on_failures(),
        removal in any::<bool>(),
        left_alone in any::<u8>(),
        once in any::<bool>(),
        restart in any::<bool>(),
        happens in proptest::collection::vec(any_event(), 0..120),
    ) {
        let target = (!removal).then_some(2);
        let mut world = World::new(hosts, strategy(max_parallel, max_failures, on_failure), target);
        for (index, host) in world.rollout.hosts.iter_mut().enumerate() {
            host.left_alone = left_alone & (1 << index) != 0;
        }
        world.rollout.once = (once && !removal && !restart).then(Once::default);
        if restart && !removal {
            world.rollout.kind = Kind::Restart;
            world.rollout.hosts.iter_mut().for_each(|host| host.left_alone = false);
        }
        world.send(What::Start);
        for one in happens {
            let before = world.rollout.clone();
            let effects = match one {
                Happens::Report(index, _) if index >= hosts => continue,
                Happens::Report(index, phase) => world.report(index, phase),
                Happens::Event(what) => world.send(what),
                Happens::Seconds(seconds) => { world.now += seconds * 1000; world.send(What::Tick) }
            };
            check_step(&before, &world.rollout, &effects)?;
        }
        // Time alone brings it to an end; one that pauses itself needs an operator, who in the end loses patience.
        for round in 0..400 {
            let before = world.rollout.clone();
            world.now += 4000;
            let effects = world.send(match (&before.state, on_failure) {
                (RolloutState::Paused { .. }, OnFailure::Pause) if round > 200 => What::Abort { by: "ann".to_owned() },
                (RolloutState::Paused { .. }, _) => What::Resume,
                _ => What::Tick,
            });
            check_step(&before, &world.rollout, &effects)?;
        }
        prop_assert!(world.rollout.state.is_final(), "{:?}", world.rollout);
        let given = |effect: &Effect| match effect {
            Effect::WriteSpec { host, asked } if asked.run_once => Some(host.clone()),
            _ => None,
        };
        let given: BTreeSet<HostId> = world.effects.iter().filter_map(given).collect();
        prop_assert!(given.len() <= 1, "hooks that run once were given to {given:?}");
        let document = serde_json::to_vec(&world.rollout).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Rollout>(&document).unwrap(), world.rollout);
    }
}

fn check_step(before: &Rollout, after: &Rollout, effects: &[Effect]) -> Result<(), TestCaseError> {
    prop_assert!(after.in_flight() <= after.slots(), "{} in flight of {}", after.in_flight(), after.slots());
    if before.state.is_final() {
        prop_assert_eq!(before, after);
        prop_assert!(effects.is_empty());
    }
    let paused = matches!(after.state, RolloutState::Paused { .. });
    if paused && matches!(before.state, RolloutState::Paused { .. }) {
        for (was, is) in before.hosts.iter().zip(&after.hosts) {
            prop_assert!(was.in_flight() || !is.in_flight(), "{is:?} began during a pause");
        }
        prop_assert!(after.progress_left_ms >= before.progress_left_ms, "a deadline ran during a pause");
    }
    if let Some(once) = &after.once {
        let others = |host: &&HostRun| once.host.as_ref() != Some(&host.id) && host.asked.is_some();
        prop_assert!(once.done || !after.hosts.iter().any(|host| others(&host)), "given before the hooks had run");
        prop_assert!(before.once.as_ref().is_some_and(|was| was.host.is_none() || was.host == once.host));
    }
    if after.kind == Kind::Restart {
        let other = |e: &Effect| matches!(e, Effect::WriteSpec { asked, .. } if asked.release != Some(1));
        prop_assert!(!effects.iter().any(other), "a restart moved a host to another release");
    }
    for (was, is) in before.hosts.iter().zip(&after.hosts) {
        prop_assert!(!is.cordoned || is.asked.is_none(), "{is:?} is cordoned and was given something");
        if is.in_flight() {
            prop_assert!(is.asked.is_some(), "in flight and never told");
        }
        // A host is begun only by writing its spec, and only forward from its own turn.
        if !was.in_flight() && is.in_flight() {
            let told = effects.iter().any(|e| matches!(e, Effect::WriteSpec { host, .. } if *host == is.id));
            prop_assert!(told, "{is:?} began unasked");
        }
        // Nothing but the target is ever written for a host whose release of before is unknown.
        let written = |e: &Effect| matches!(e, Effect::WriteSpec { host, asked } if *host == is.id && asked.release != after.target);
        prop_assert!(!is.left_alone || !effects.iter().any(written), "{is:?} was written back");
        if is.state == HostState::Healthy && was.state != HostState::Healthy {
            prop_assert!(is.way == Way::Forward);
        }
    }
    if after.state == RolloutState::Succeeded {
        let failed = after.hosts.iter().filter(|h| h.failed().is_some()).count();
        prop_assert!(failed <= after.strategy.max_failures as usize);
        prop_assert!(after.hosts.iter().any(|h| h.state == HostState::Healthy));
    }
    if effects.iter().any(|e| matches!(e, Effect::MarkGood { .. })) {
        prop_assert_eq!(&after.state, &RolloutState::Succeeded);
    }
    Ok(())
}
