//! A plan in words: per host (those with the same plan together) the steps with their reasons and diffs, refusals, and what
//! to type next. Used by `cmd/plan` and, in short, by `cmd/apply`.

use std::path::Path;

use drover_proto::{
    app::HookPoint,
    name::HostName,
    plan::{Action, Plan, Refusal, Step},
    view::{HostPlan, HostPlanOutcome, PlanView},
};
use owo_colors::OwoColorize as _;

use super::{count, plain};

/// How many hosts would change, would not, cannot be asked, or refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Something would be done.
    pub change: usize,
    /// Nothing would be done.
    pub same: usize,
    /// Not connected.
    pub unknown: usize,
    /// The host refuses, or could not plan.
    pub refused: usize,
}

/// Counts the hosts of a plan.
#[must_use]
pub fn tally(view: &PlanView) -> Tally {
    let mut tally = Tally::default();
    for host in &view.hosts {
        match &host.outcome {
            HostPlanOutcome::Planned(plan) if !plan.refusals.is_empty() => tally.refused += 1,
            HostPlanOutcome::Planned(plan) if plan.has_changes() => tally.change += 1,
            HostPlanOutcome::Planned(_) => tally.same += 1,
            HostPlanOutcome::Unknown(_) => tally.unknown += 1,
            HostPlanOutcome::Error(_) => tally.refused += 1,
        }
    }
    tally
}

/// The whole plan. `manifest` is what was planned, for the line that says what to type next.
#[must_use]
pub fn text(view: &PlanView, manifest: &Path, environment: Option<&str>) -> String {
    let mut out = String::new();
    for (hosts, outcome) in grouped(&view.hosts) {
        let names = hosts.iter().map(|h| h.as_str()).collect::<Vec<_>>().join(", ");
        host_text(&mut out, &names, outcome);
    }
    for (host, why) in &view.skipped {
        line(&mut out, &format!("{}: skipped: {}", host.bold(), plain(why)));
    }
    line(&mut out, &summary(view));
    if tally(view).refused == 0 && view.has_changes {
        let environment = environment.map(|e| format!(" --env {e}")).unwrap_or_default();
        let command = format!("drover apply -f {}{environment} --plan {}", manifest.display(), view.plan_id);
        line(&mut out, &format!("Plan {}. Apply exactly this: {command}", view.plan_id));
    }
    out
}

/// `mono/17: 2 hosts change, 1 is up to date`.
#[must_use]
pub fn summary(view: &PlanView) -> String {
    let tally = tally(view);
    let mut parts = Vec::new();
    let mut say = |number: usize, one: &str, many: &str| {
        if number > 0 {
            parts.push(format!("{} {}", count(number, "host"), if number == 1 { one } else { many }));
        }
    };
    say(tally.change, "changes", "change");
    say(tally.same, "is up to date", "are up to date");
    say(tally.unknown, "is not connected (unknown)", "are not connected (unknown)");
    say(tally.refused, "refuses", "refuse");
    if !view.skipped.is_empty() {
        parts.push(format!("{} skipped", count(view.skipped.len(), "host")));
    }
    let said = if parts.is_empty() { "no hosts".to_owned() } else { parts.join(", ") };
    format!("{}: {said}.", format_args!("{}/{}", view.app, view.release).bold())
}

/// Only what forbids the plan, host by host; empty when nothing does.
#[must_use]
pub fn refusals(view: &PlanView) -> String {
    let mut out = String::new();
    for (hosts, outcome) in grouped(&view.hosts) {
        let names = hosts.iter().map(|h| h.as_str()).collect::<Vec<_>>().join(", ");
        match outcome {
            HostPlanOutcome::Planned(plan) if !plan.refusals.is_empty() => host_text(&mut out, &names, outcome),
            HostPlanOutcome::Error(_) => host_text(&mut out, &names, outcome),
            HostPlanOutcome::Planned(_) | HostPlanOutcome::Unknown(_) => {}
        }
    }
    out
}

/// What may become a problem, a line each; empty when nothing may.
#[must_use]
pub fn warnings(view: &PlanView) -> String {
    let mut out = String::new();
    for host in &view.hosts {
        let HostPlanOutcome::Planned(plan) = &host.outcome else { continue };
        for warning in &plan.warnings {
            line(&mut out, &format!("{}:", host.host.bold()));
            warning_text(&mut out, warning);
        }
    }
    out
}

/// Hosts with equal outcomes together, in the order of their first.
fn grouped(hosts: &[HostPlan]) -> Vec<(Vec<&HostName>, &HostPlanOutcome)> {
    let mut groups: Vec<(Vec<&HostName>, &HostPlanOutcome)> = Vec::new();
    for host in hosts {
        match groups.iter_mut().find(|(_, outcome)| **outcome == host.outcome) {
            Some((names, _)) => names.push(&host.host),
            None => groups.push((vec![&host.host], &host.outcome)),
        }
    }
    groups
}

fn host_text(out: &mut String, names: &str, outcome: &HostPlanOutcome) {
    match outcome {
        HostPlanOutcome::Planned(plan) => {
            line(out, &format!("{}: {}", names.bold(), headline(plan)));
            for refusal in &plan.refusals {
                refusal_text(out, refusal);
            }
            for warning in &plan.warnings {
                warning_text(out, warning);
            }
            // Gate and commit alone change nothing, and would only look as if something were to be done.
            if plan.refusals.is_empty() && plan.has_changes() {
                for (index, step) in plan.steps.iter().enumerate() {
                    step_text(out, index + 1, step);
                }
            }
        }
        HostPlanOutcome::Unknown(why) => {
            line(out, &format!("{}: {} {}", names.bold(), "unknown:".yellow(), plain(why)));
            line(out, "  It is skipped by a rollout, and converges when it is back.");
        }
        HostPlanOutcome::Error(why) => {
            line(out, &format!("{}: {} {}", names.bold(), "could not plan:".red(), plain(why)));
        }
    }
    out.push('\n');
}

fn headline(plan: &Plan) -> String {
    let change = match (&plan.from, &plan.to) {
        (None, Some(to)) => format!("new, {to}"),
        (Some(from), Some(to)) if from == to => format!("stays {to}"),
        (Some(from), Some(to)) => format!("{from} becomes {to}"),
        (Some(from), None) => format!("{from} is removed"),
        (None, None) => "is removed".to_owned(),
    };
    if !plan.refusals.is_empty() {
        format!("{change}; {}", "refused, nothing would be touched".red())
    } else if plan.has_changes() {
        change
    } else {
        format!("{change}; nothing to do")
    }
}

fn refusal_text(out: &mut String, refusal: &Refusal) {
    let what = format!("refused[{}] {}:", refusal.code, plain(&refusal.part));
    line(out, &format!("  {} {}", what.red(), plain(&refusal.message)));
}

fn warning_text(out: &mut String, warning: &Refusal) {
    let what = format!("warning[{}] {}:", warning.code, plain(&warning.part));
    line(out, &format!("  {} {}", what.yellow(), plain(&warning.message)));
}

fn step_text(out: &mut String, number: usize, step: &Step) {
    let reason = format!("({})", step.reason);
    line(out, &format!("  {number:>2}. {}  {}", plain(&words(&step.action)), reason.dimmed()));
    match &step.action {
        Action::WriteFile { diff, .. } => diff_text(out, diff),
        Action::Build { run, .. } => {
            for argv in run {
                line(out, &format!("        {}", plain(&argv_text(argv))));
            }
        }
        _ => {}
    }
}

fn diff_text(out: &mut String, diff: &str) {
    // The two lines with file names say what the step has said.
    for text in diff.lines().filter(|l| !l.starts_with("--- ") && !l.starts_with("+++ ")) {
        let text = plain(text);
        let coloured = match text.chars().next() {
            Some('+') => text.green().to_string(),
            Some('-') => text.red().to_string(),
            Some('@') => text.cyan().to_string(),
            _ => text,
        };
        line(out, &format!("        {coloured}"));
    }
}

/// A step as a person would say it.
#[must_use]
pub fn words(action: &Action) -> String {
    match action {
        Action::InstallPackages(names) => format!("install packages {}", listed(names)),
        Action::CreateUser(user) => {
            format!("create system user {} (home {}, shell {})", user.name, user.home, user.shell)
        }
        Action::MakeSwap { size_bytes } => format!("make /swapfile of {} and use it as swap", size(*size_bytes)),
        Action::EnsureDirectory(d) => format!("directory {} ({}:{} {:04o})", d.path, d.owner, d.group, d.mode),
        Action::Fetch { digest, from: Some(from), .. } => format!("fetch artifact {} from {from}", digest.short()),
        Action::Fetch { digest, size_bytes, from: None } => {
            format!("fetch artifact {} ({})", digest.short(), size(*size_bytes))
        }
        Action::Unpack { digest, directory } => format!("unpack artifact {} into {directory}", digest.short()),
        Action::Build { directory, user, timeout, .. } => format!("build in {directory} as {user}, at most {timeout}"),
        Action::Hook { when, run, user, name, run_once, .. } => {
            let when = match when {
                HookPoint::BeforeSwitch => "before",
                HookPoint::AfterSwitch => "after",
            };
            let name = name.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
            let once = if *run_once { ", on this host only" } else { "" };
            format!("hook {name}{when} the switch, as {user}{once}: {}", argv_text(run))
        }
        Action::WriteFile { path, owner, group, mode, diff, keep_original, digest } => {
            let verb = if diff.is_empty() && digest.is_some() { "set owner and mode of" } else { "write" };
            let keep = if *keep_original { ", keeping the original to put back later" } else { "" };
            format!("{verb} {path} ({owner}:{group} {mode:04o}){keep}")
        }
        Action::Validate { path, run, staged: true } => format!("check a staged copy of {path}: {}", argv_text(run)),
        Action::Validate { path, run, staged: false } => format!("check {path} in its place: {}", argv_text(run)),
        Action::RemoveFile { path, restore_original: true } => format!("put the original {path} back"),
        Action::RemoveFile { path, restore_original: false } => format!("remove {path}"),
        Action::DaemonReload => "systemd reads its unit files again".to_owned(),
        Action::Enable(unit) => format!("enable {unit}"),
        Action::Disable(unit) => format!("disable {unit}"),
        Action::Stop(unit) => format!("stop {unit}"),
        Action::Start(unit) => format!("start {unit}"),
        Action::Restart(unit) => format!("restart {unit}"),
        Action::Reload(unit) => format!("reload {unit}"),
        Action::MakeNetwork(network) => format!("make network {network}"),
        Action::PullImage(image) => format!("fetch image {}", image.short()),
        Action::RunContainer { name, image } => format!("run container {name} of {}", image.short()),
        Action::StartContainer(name) => format!("start container {name}"),
        Action::AdoptContainer(name) => format!("take container {name} over as it is, without a restart"),
        Action::ReturnContainer(name) => format!("bring container {name} back as it was before drover"),
        Action::RemoveContainer(name) => format!("stop and remove container {name}; its volumes stay"),
        Action::BuildProject(name) => format!("build the images of compose project {name}"),
        Action::UpProject { name, recreate: false } => format!("bring compose project {name} up"),
        Action::UpProject { name, recreate: true } => format!("make all containers of compose project {name} anew"),
        Action::AdoptProject(name) => format!("take compose project {name} over as it runs"),
        Action::LeaveProject(name) => format!("let compose project {name} run on by itself, as it was taken over"),
        Action::RemoveProject(name) => {
            format!("stop and remove the containers and networks of compose project {name}; its volumes stay")
        }
        Action::Gate { min_healthy_time, healthy_deadline, .. } => {
            let whose = waited_for(action).join(", ");
            format!("wait until healthy for {min_healthy_time}, at most {healthy_deadline}: {whose}")
        }
        Action::Prove { instance, port, checks, min_healthy_time } => {
            let checks: String = checks.iter().map(|check| format!(", check {check}")).collect();
            format!("wait until {instance} is healthy on port {port} for {min_healthy_time}{checks}")
        }
        Action::Drain { instance, at_most, .. } => format!("wait for what {instance} has begun, at most {at_most}"),
        Action::Commit => "commit the release".to_owned(),
    }
}

/// What a gate looks at.
fn waited_for(action: &Action) -> Vec<String> {
    let Action::Gate { units, containers, projects, checks, .. } = action else { return Vec::new() };
    let units = units.iter().map(ToString::to_string);
    let containers = containers.iter().map(|name| format!("container {name}"));
    let projects = projects.iter().map(|name| format!("compose project {name}"));
    units.chain(containers).chain(projects).chain(checks.iter().map(|check| format!("check {check}"))).collect()
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// An argv so that a person can tell its words apart.
fn argv_text(argv: &[String]) -> String {
    let word = |w: &String| {
        let simple = !w.is_empty() && !w.chars().any(|c| c.is_whitespace() || "'\"\\$".contains(c));
        if simple { w.clone() } else { format!("{w:?}") }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Bytes for people: `3.4 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
mod tests;
