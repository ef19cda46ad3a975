//! Fixed plans and the text that they make.

use drover_proto::{code::Code, digest::Digest, name::ReleaseId, plan::Reason};

use super::*;
use crate::show::tests::bare;

fn release(number: u64) -> ReleaseId {
    ReleaseId { app: "mono".parse().unwrap(), number }
}

fn step(action: Action, reason: Reason) -> Step {
    Step { action, reason }
}

fn gate() -> Step {
    step(
        Action::Gate {
            units: ["mono.service".parse().unwrap()].into(),
            containers: [].into(),
            projects: [].into(),
            checks: ["api".parse().unwrap()].into(),
            min_healthy_time: "3s".parse().unwrap(),
            healthy_deadline: "1m".parse().unwrap(),
        },
        Reason::ProveHealth,
    )
}

fn update() -> Plan {
    let write = Action::WriteFile {
        path: "/etc/mono.conf".parse().unwrap(),
        digest: Some(Digest::of(b"x")),
        owner: "root".parse().unwrap(),
        group: "www-data".parse().unwrap(),
        mode: 0o640,
        diff: "--- a\n+++ b\n@@ -1 +1 @@\n-port 1\n+port 2\n".to_owned(),
        keep_original: false,
    };
    let steps = vec![
        step(write, Reason::ContentDiffers),
        step(Action::Restart("mono.service".parse().unwrap()), Reason::FileChanged("/etc/mono.conf".parse().unwrap())),
        gate(),
        step(Action::Commit, Reason::ProveHealth),
    ];
    Plan {
        app: "mono".parse().unwrap(),
        from: Some(release(1)),
        to: Some(release(2)),
        steps,
        refusals: vec![],
        warnings: vec![],
        made_unix_ms: None,
    }
}

fn view(hosts: Vec<(&str, HostPlanOutcome)>) -> PlanView {
    PlanView {
        plan_id: "4f1d09a2".to_owned(),
        app: "mono".parse().unwrap(),
        release: 2,
        has_changes: true,
        hosts: hosts.into_iter().map(|(name, outcome)| HostPlan { host: name.parse().unwrap(), outcome }).collect(),
        skipped: Default::default(),
    }
}

#[test]
fn equal_plans_are_shown_once_with_reasons_and_diffs() {
    let view = view(vec![
        ("web-1", HostPlanOutcome::Planned(update())),
        ("web-2", HostPlanOutcome::Unknown("not connected since 3 min".to_owned())),
        ("web-3", HostPlanOutcome::Planned(update())),
    ]);
    let expected = "\
web-1, web-3: mono/1 becomes mono/2
   1. write /etc/mono.conf (root:www-data 0640)  (content differs)
        @@ -1 +1 @@
        -port 1
        +port 2
   2. restart mono.service  (/etc/mono.conf changed)
   3. wait until healthy for 3s, at most 1m: mono.service, check api  (a host counts only when seen healthy)
   4. commit the release  (a host counts only when seen healthy)

web-2: unknown: not connected since 3 min
  It is skipped by a rollout, and converges when it is back.

mono/2: 2 hosts change, 1 host is not connected (unknown).
Plan 4f1d09a2. Apply exactly this: drover apply -f drover.yaml --env staging --plan 4f1d09a2
";
    assert_eq!(bare(&text(&view, Path::new("drover.yaml"), Some("staging"))), expected);
}

#[test]
fn lines_of_a_diff_are_green_and_red() {
    let mut out = String::new();
    diff_text(&mut out, "+new\n-old\n");
    assert_eq!(out, "        \u{1b}[32m+new\u{1b}[39m\n        \u{1b}[31m-old\u{1b}[39m\n");
}

#[test]
fn refusals_say_what_to_do_and_offer_no_apply() {
    let refusal = Refusal {
        code: Code::NotOwned,
        part: "file /etc/nginx/nginx.conf".to_owned(),
        message: "it is there already; set adopt: true to take it over".to_owned(),
    };
    let plan = Plan { refusals: vec![refusal], ..update() };
    let view = view(vec![("web-1", HostPlanOutcome::Planned(plan))]);
    let expected = "\
web-1: mono/1 becomes mono/2; refused, nothing would be touched
  refused[not-owned] file /etc/nginx/nginx.conf: it is there already; set adopt: true to take it over

mono/2: 1 host refuses.
";
    assert_eq!(bare(&text(&view, Path::new("drover.yaml"), None)), expected);
    assert!(bare(&refusals(&view)).contains("refused[not-owned]"));
}

#[test]
fn a_host_that_is_up_to_date_has_no_steps() {
    let plan = Plan { from: Some(release(2)), steps: vec![gate()], ..update() };
    let view = PlanView { has_changes: false, ..view(vec![("web-1", HostPlanOutcome::Planned(plan))]) };
    let expected = "web-1: stays mono/2; nothing to do\n\nmono/2: 1 host is up to date.\n";
    assert_eq!(bare(&text(&view, Path::new("drover.yaml"), None)), expected);
}

#[test]
fn arguments_can_be_told_apart() {
    let argv: Vec<String> = ["nginx", "-c", "a b", ""].map(str::to_owned).to_vec();
    assert_eq!(argv_text(&argv), "nginx -c \"a b\" \"\"");
}
