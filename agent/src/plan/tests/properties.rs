//! What holds for every pair of releases.

use drover_proto::{
    app::{Content, HookPoint},
    digest::Digest,
    plan::{Action, Plan},
    spec::DesiredApp,
};
use proptest::prelude::*;

use super::model::Host;
use crate::{
    plan::switch_at,
    render::tests::{argv, container_part, desired, file_part, template, unit},
};

/// A release drawn from a few choices for each part.
fn releases() -> impl Strategy<Value = DesiredApp> {
    let units = proptest::collection::vec((0..4_usize, 0..3_u8, any::<bool>(), any::<bool>()), 0..4);
    let files = proptest::collection::btree_map(0..4_usize, (0..3_u8, 0..3_u8), 0..4);
    let containers = proptest::collection::vec((0..3_usize, 0..3_u8, any::<bool>()), 0..3);
    let drawn = (0..3_u8, 0..3_u8, units, files, any::<bool>(), containers);
    drawn.prop_map(|(artifact, env, units, files, hooks, containers)| {
        let mut desired = desired();
        desired.release.number = u64::from(artifact) * 100 + u64::from(env);
        desired.spec.units.clear();
        match artifact {
            0 => desired.spec.artifact = None,
            n => desired.spec.artifact.as_mut().unwrap().digest = Digest::of(&[n]),
        }
        desired.spec.env.insert("PORT".parse().unwrap(), template(&env.to_string()));
        for (name, text, enable, start) in units {
            let release = if artifact == 0 { "/bin" } else { "{{ release }}" };
            let lines = [
                "ExecStart=/bin/a\n".to_owned(),
                format!("ExecStart={release}/b\n"),
                "EnvironmentFile={{ env_file }}\n".to_owned(),
            ];
            let mut unit = unit(&format!("[Service]\n{}", lines[usize::from(text)]));
            (unit.enable, unit.start) = (enable, start);
            desired.spec.units.insert(format!("u{name}.service").parse().unwrap(), unit);
        }
        desired.spec.files = files
            .into_iter()
            .map(|(name, (text, kind))| {
                let mut file = file_part(&format!("/etc/f{name}"), &text.to_string(), 0o644);
                file.validate =
                    [None, Some(argv(&["check"])), Some(argv(&["check", "{{ path }}"]))][usize::from(kind)].clone();
                file.reload.insert("nginx.service".parse().unwrap());
                if let Content::Text(_) = &file.content
                    && kind == 0
                {
                    file.restart.insert("u0.service".parse().unwrap());
                }
                file
            })
            .collect();
        for (name, image, network) in containers {
            let mut container = container_part();
            container.command = None;
            container.image.digest = Some(Digest::of(&[image]));
            if network {
                container.networks.insert("back".parse().unwrap());
            }
            desired.spec.containers.insert(format!("c{name}").parse().unwrap(), container);
        }
        if !hooks {
            desired.spec.hooks.clear();
        }
        desired
    })
}

/// Whether a step may come only before, or only after, the switch.
fn side(action: &Action) -> Option<bool> {
    match action {
        Action::InstallPackages(_)
        | Action::CreateUser(_)
        | Action::MakeSwap { .. }
        | Action::EnsureDirectory(_)
        | Action::Fetch { .. }
        | Action::Unpack { .. }
        | Action::Build { .. }
        | Action::MakeNetwork(_)
        | Action::PullImage(_)
        | Action::BuildProject(_)
        | Action::Validate { staged: true, .. }
        | Action::Hook { when: HookPoint::BeforeSwitch, .. } => Some(false),
        Action::Stop(_)
        | Action::RemoveFile { .. }
        | Action::WriteFile { .. }
        | Action::Restart(_)
        | Action::Start(_)
        | Action::Reload(_)
        | Action::Enable(_)
        | Action::Disable(_)
        | Action::DaemonReload
        | Action::RunContainer { .. }
        | Action::AdoptContainer(_)
        | Action::ReturnContainer(_)
        | Action::StartContainer(_)
        | Action::RemoveContainer(_)
        | Action::UpProject { .. }
        | Action::AdoptProject(_)
        | Action::LeaveProject(_)
        | Action::RemoveProject(_)
        | Action::Validate { staged: false, .. }
        | Action::Hook { when: HookPoint::AfterSwitch, .. }
        | Action::Prove { .. }
        | Action::Drain { .. }
        | Action::Gate { .. }
        | Action::Commit => Some(true),
    }
}

fn is_ordered(plan: &Plan) -> bool {
    let at = switch_at(&plan.steps);
    let sides =
        plan.steps.iter().enumerate().all(|(i, step)| side(&step.action).is_none_or(|after| after == (i >= at)));
    // Within the switch: files are checked before units are told anything, and stopped before their files go; but what is
    // left is checked without a file that has a check itself.
    let last = |is: fn(&Action) -> bool| plan.steps.iter().rposition(|step| is(&step.action));
    let first = |is: fn(&Action) -> bool| plan.steps.iter().position(|step| is(&step.action));
    let before = |a: Option<usize>, b: Option<usize>| a.zip(b).is_none_or(|(a, b)| a < b);
    let checked = last(|a| matches!(a, Action::WriteFile { .. } | Action::Validate { .. }));
    let told = first(|a| {
        matches!(
            a,
            Action::Stop(_)
                | Action::DaemonReload
                | Action::RunContainer { .. }
                | Action::RemoveContainer(_)
                | Action::UpProject { .. }
                | Action::RemoveProject(_)
                | Action::Start(_)
                | Action::Restart(_)
        )
    });
    let stopped = last(|a| matches!(a, Action::Stop(_)));
    let removed: fn(&Action) -> bool = |a| matches!(a, Action::RemoveFile { .. });
    let checks = first(|a| matches!(a, Action::Validate { staged: false, .. }));
    let early = plan.steps.iter().take(checks.unwrap_or_default()).filter(|step| removed(&step.action));
    let only_files = early.map(|step| &step.action).all(|action| match action {
        Action::RemoveFile { path, .. } => path.as_str().starts_with("/etc/f"),
        _ => true,
    });
    let late = plan.steps.iter().skip(checks.unwrap_or_default()).position(|step| removed(&step.action));
    sides && before(checked, told) && only_files && before(stopped, late.map(|at| at + checks.unwrap_or_default()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_works_is_touched_before_its_replacement_is_ready(first in releases(), second in releases()) {
        let mut host = Host::new();
        prop_assert!(is_ordered(&host.apply(&first)));
        prop_assert!(is_ordered(&host.plan(Some(&second))));
        prop_assert!(is_ordered(&host.plan(None)));
    }

    #[test]
    fn what_has_been_carried_out_need_not_be_done_again(first in releases(), second in releases()) {
        let mut host = Host::new();
        host.apply(&first);
        host.apply(&second);
        let again = host.plan(Some(&second));
        prop_assert!(!again.has_changes(), "{:?}", again.steps);
        host.remove();
        host.ledger.reverted(None);
        prop_assert!(host.plan(None).steps.is_empty());
        // u0 may be somebody else's, which a file that goes restarts.
        let runs = |(name, unit): (&drover_proto::name::UnitName, &crate::host::systemd::UnitState)| {
            name.as_str() != "u0.service" && unit.active_state == "active"
        };
        prop_assert!(!host.observed.units.iter().any(runs));
        prop_assert!(host.observed.containers.states.is_empty());
    }

    #[test]
    fn a_crash_after_any_step_ends_in_the_same_state(first in releases(), second in releases(), steps in 0..40_usize) {
        let mut host = Host::new();
        host.apply(&first);
        let mut crashed = host.clone();
        let wanted = crate::render::tests::rendered(&second);
        let plan = crashed.plan(Some(&second));
        let units = plan.steps.iter().filter_map(|s| match &s.action { Action::Start(u) | Action::Restart(u) if wanted.units.contains_key(u) => Some(u.clone()), _ => None });
        let files = plan.steps.iter().filter_map(|s| match &s.action { Action::WriteFile { path, .. } => Some(path.clone()), _ => None });
        let (units, files): (Vec<_>, Vec<_>) = (units.collect(), files.collect());
        crashed.ledger.claim_containers(&wanted);
        crashed.ledger.expect(units, files);
        for step in plan.steps.iter().take(steps) {
            crashed.carry_out(&step.action, Some(&wanted));
        }
        // Going on, and going back, both lead to where nothing is left to do.
        let mut on = crashed.clone();
        on.apply(&second);
        prop_assert!(!on.plan(Some(&second)).has_changes());
        let mut back = crashed;
        back.apply(&first);
        prop_assert!(!back.plan(Some(&first)).has_changes());
    }
}
