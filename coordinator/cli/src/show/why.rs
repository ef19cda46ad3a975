//! `drover why HOST`: the plain story of each app on a host: what it should run, what it runs, where it stands, what failed
//! and what was seen. Used by `cmd/fleet`.

use std::collections::BTreeMap;

use drover_proto::{
    name::{AppName, ReleaseNumber},
    status::{AppStatus, Phase},
    view::HostDetail,
};
use owo_colors::OwoColorize as _;

use super::{
    checks::asked,
    fleet::{pairs, refused},
    plain,
    rollout::failure_text,
    status::detail,
    table::paint,
    time::relative,
};

/// What units said last, a line each, by app and unit.
pub type Journals = BTreeMap<AppName, BTreeMap<String, Vec<String>>>;

/// The apps whose journal belongs to the story: units of theirs are not as they should be, and the host can be asked.
#[must_use]
pub fn untold<'a>(detail: &'a HostDetail, only: Option<&AppName>) -> Vec<&'a AppName> {
    let asked = |app: &AppName| detail.host.connected && only.is_none_or(|only| only == app);
    let down = |status: &AppStatus| status.parts.iter().any(|part| !part.in_sync && part.kind == "unit");
    detail.apps_status.iter().filter(|(app, status)| asked(app) && down(status)).map(|(app, _)| app).collect()
}

/// The story; of one app, or of all that the host has or should have.
#[must_use]
pub fn text(detail: &HostDetail, only: Option<&AppName>, journals: &Journals, now_unix_ms: i64) -> String {
    let mut out = String::new();
    let host = &detail.host;
    push(&mut out, &format!("{} {}", host.name.bold(), connection(detail, now_unix_ms)));
    if host.generation_accepted < host.generation {
        let (accepted, written) = (host.generation_accepted, host.generation);
        push(
            &mut out,
            &format!("It has desired state {accepted}; the coordinator has written {written} for it since."),
        );
    }
    if let Some(at) = host.revoked_unix_ms {
        let at = relative(at, now_unix_ms);
        let back = "a new token and `drover-agent enroll --replace` on it bring it back";
        push(&mut out, &format!("It was revoked {at}: nothing is sent to it, and nothing is heard of it; {back}."));
    }
    if let Some(cordoned) = &host.cordoned {
        let (by, at) = (plain(&cordoned.by), relative(cordoned.at_unix_ms, now_unix_ms));
        let until = format!("until `drover hosts uncordon {}`", host.name);
        push(&mut out, &format!("It was cordoned by {by}, {at}: rollouts skip it, and it is given no app, {until}."));
    }
    if let Some(refused) = refused(host.refused.as_ref()) {
        push(&mut out, &format!("{}: it takes up no later change until it accepts one.", refused.red()));
    }
    let mut names: Vec<&AppName> = detail.apps_status.keys().chain(detail.desired.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| only.is_none_or(|o| o == *name));
    if names.is_empty() {
        let what = only.map_or_else(|| "no app".to_owned(), |app| format!("no app {app}"));
        push(&mut out, &format!("It has {what}, and should have none."));
        if host.revoked_unix_ms.is_none() && host.cordoned.is_none() {
            push(&mut out, &not_meant(detail, only));
        }
    }
    for name in names {
        push(&mut out, "");
        app_text(&mut out, detail, name, journals, now_unix_ms);
    }
    out
}

/// Why a host to which nobody has said no is given nothing.
fn not_meant(detail: &HostDetail, only: Option<&AppName>) -> String {
    let host = &detail.host;
    if host.labels.is_empty() {
        return format!("It has no labels, so no app is meant for it: `drover hosts label {} KEY=VALUE`.", host.name);
    }
    let labels = pairs(&host.labels);
    let none = match only {
        None => "No app has a good release that is meant for its labels".to_owned(),
        Some(app) => format!("{app} has no good release that is meant for its labels"),
    };
    format!("{none} ({labels}): compare them with `targets:` of the manifest.")
}

fn connection(detail: &HostDetail, now_unix_ms: i64) -> String {
    let reported = match detail.reported_unix_ms {
        Some(at) => format!("its last report came {}", relative(at, now_unix_ms)),
        None => "it has not reported yet".to_owned(),
    };
    if detail.host.connected {
        format!("is {}; {reported}.", "connected".green())
    } else {
        let seen = detail
            .host
            .last_seen_unix_ms
            .map_or_else(|| "never seen".to_owned(), |at| format!("last seen {}", relative(at, now_unix_ms)));
        format!("is {} ({seen}); {reported}. It goes on by itself, and what follows may be old.", "not connected".red())
    }
}

fn app_text(out: &mut String, host: &HostDetail, app: &AppName, journals: &Journals, now_unix_ms: i64) {
    let desired = host.desired.get(app).copied();
    let Some(status) = host.apps_status.get(app) else {
        let wanted = desired.map_or_else(|| "nothing".to_owned(), |n| format!("{app}/{n}"));
        push(out, &format!("{}: should run {wanted}; the host has not reported on it yet.", app.bold()));
        return;
    };
    push(out, &format!("{}: {}", app.bold(), headline(app, desired, status)));
    push(out, &format!("  {}", story(status, now_unix_ms)));
    let off: Vec<_> = status.parts.iter().filter(|p| !p.in_sync).collect();
    if !off.is_empty() {
        push(out, "  Not as desired:");
        for part in &off {
            let text = format!("{} {}: is {}, should be {}", part.kind, part.name, part.observed, part.desired);
            push(out, &format!("    {}", plain(&text)));
            if let Some(check) = asked(status, part) {
                let (at, took) = (relative(check.at_unix_ms, now_unix_ms), check.took_ms);
                let failures = check.failures;
                push(out, &format!("      asked {at}, answered in {took} ms; not as wanted {failures} times in a row"));
            }
        }
    }
    for part in off.iter().filter(|part| part.kind == "unit") {
        if let Some(lines) = journals.get(app).and_then(|units| units.get(&part.name)) {
            push(out, &format!("  What {} said last:", plain(&part.name)));
            lines.iter().for_each(|line| push(out, &format!("    {}", plain(line))));
        }
    }
    if let Some(failure) = &status.failure {
        let when = relative(failure.at_unix_ms, now_unix_ms);
        // A removal, and what a host goes on with by itself, belong to no rollout that it knows of.
        let rollout = if failure.rollout == 0 { String::new() } else { format!(", in rollout {}", failure.rollout) };
        push(out, &format!("  The last failure, {when}{rollout}:"));
        for text in failure_text(host.host.name.as_str(), failure).lines() {
            push(out, &format!("    {text}"));
        }
    }
    let name = &host.host.name;
    if status.failure.is_some() || matches!(status.phase, Phase::Degraded { .. }) {
        push(out, "  Next:");
        if matches!(status.phase, Phase::Degraded { .. }) {
            push(out, "    drover apply -f drover.yaml    puts it back as its manifest says");
        }
        push(out, &format!("    drover logs {app} --host {name}"));
        let of_failure = status.failure.as_ref().map(|failure| failure.rollout);
        if let Some(rollout) = [Some(status.rollout), of_failure].into_iter().flatten().find(|rollout| *rollout != 0) {
            push(out, &format!("    drover rollout status {rollout}"));
        }
    }
}

fn headline(app: &AppName, desired: Option<ReleaseNumber>, status: &AppStatus) -> String {
    let running = status.running.as_ref().map(|r| r.number);
    let state = paint(status.phase.word(), status.phase.word());
    match (desired, running) {
        (Some(wanted), Some(runs)) if wanted == runs => format!("should run {app}/{wanted}, and does; {state}."),
        (Some(wanted), Some(runs)) => format!("should run {app}/{wanted}, but runs {app}/{runs}; {state}."),
        (Some(wanted), None) => format!("should run {app}/{wanted}, but nothing of it has been committed; {state}."),
        (None, Some(runs)) => format!("should be gone, but {app}/{runs} is still there; {state}."),
        (None, None) => format!("should be gone, and is; {state}."),
    }
}

fn story(status: &AppStatus, now_unix_ms: i64) -> String {
    let detail = plain(&detail(&status.phase));
    match &status.phase {
        Phase::Pending => "The desired state has been accepted; the host has not begun yet.".to_owned(),
        Phase::Fetching { .. } => format!("It is fetching: {detail}."),
        Phase::Staging { .. } => {
            format!("It is unpacking, building or checking: {detail}. Nothing that runs has been touched.")
        }
        Phase::Activating { .. } => format!("It is switching: {detail}."),
        Phase::Gating { .. } => format!("It has switched, and waits to be seen healthy: {detail}."),
        Phase::Healthy { since_unix_ms } => {
            format!("It was seen healthy and committed {}.", relative(*since_unix_ms, now_unix_ms))
        }
        Phase::Degraded { .. } => format!("It was healthy once, and is not now: {detail}."),
        Phase::Reverting { .. } => format!("The new release failed, and the one before is coming back: {detail}."),
        Phase::Reverted { to: Some(to), .. } if status.desired.as_ref() == Some(to) => {
            format!("{to} failed when it was applied again, and runs as before: {detail}")
        }
        Phase::Reverted { to: Some(to), .. } => format!("The new release failed, and {to} is back: {detail}"),
        Phase::Reverted { to: None, .. } => format!("The new release failed and was taken off again: {detail}"),
        Phase::Failed { .. } => format!("It failed: {detail}"),
        Phase::Removing { .. } => format!("It is being removed: {detail}."),
        Phase::Removed => "It has been removed; its directories, users and packages are left.".to_owned(),
    }
}

fn push(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    //! The stories of a host whose new release was reverted, of one on which nothing happens, and of a unit that is down.
    use drover_proto::{
        code::Code,
        name::ReleaseId,
        status::{Evidence, Failure},
        view::{Cordoned, RefusedSpec},
    };

    use super::*;
    use crate::show::{fleet::tests::host, status::tests::status, tests::bare};

    fn detail(app: Option<(AppName, AppStatus)>) -> HostDetail {
        HostDetail {
            host: host("web-1", true),
            enrolled_unix_ms: 0,
            enrolled_by: "ada".to_owned(),
            certificate_not_after_unix_ms: 0,
            desired: app.iter().map(|(name, _)| (name.clone(), 17)).collect(),
            apps_status: app.into_iter().collect(),
            reported_unix_ms: Some(95_000),
        }
    }

    #[test]
    fn a_reverted_release_is_explained() {
        let release = |number| ReleaseId { app: "mono".parse().unwrap(), number };
        let cause = "check api answered 500".to_owned();
        let mut app = status(Phase::Reverted { to: Some(release(16)), cause: cause.clone() }, false);
        app.failure = Some(Failure {
            code: Code::Gate,
            release: release(17),
            rollout: 7,
            at_unix_ms: 40_000,
            step: "gate".to_owned(),
            cause,
            evidence: vec![Evidence { title: "check api".to_owned(), lines: vec!["HTTP 500".to_owned()] }],
        });
        let detail = detail(Some(("mono".parse().unwrap(), app)));
        let expected = "\
web-1 is connected; its last report came 5s ago.

mono: should run mono/17, but runs mono/16; reverted.
  The new release failed, and mono/16 is back: check api answered 500
  Not as desired:
    unit mono.service: is failed, should be active
  The last failure, 60s ago, in rollout 7:
    web-1: check api answered 500
      mono/17 failed at step: gate [gate]
      check api
        HTTP 500
  Next:
    drover logs mono --host web-1
    drover rollout status 7
";
        assert_eq!(bare(&text(&detail, None, &Journals::new(), 100_000)), expected);
        let mut again = detail.clone();
        let status = again.apps_status.values_mut().next().unwrap();
        status.desired = Some(release(16));
        let said = bare(&text(&again, None, &Journals::new(), 100_000));
        assert!(said.contains("mono/16 failed when it was applied again, and runs as before"), "{said}");
        // What no rollout has asked for leads to none.
        let mut unasked = detail.clone();
        let status = unasked.apps_status.values_mut().next().unwrap();
        status.rollout = 0;
        assert!(bare(&text(&unasked, None, &Journals::new(), 100_000)).contains("drover rollout status 7"));
        let status = unasked.apps_status.values_mut().next().unwrap();
        status.failure.as_mut().unwrap().rollout = 0;
        let said = bare(&text(&unasked, None, &Journals::new(), 100_000));
        assert!(said.contains("The last failure, 60s ago:") && !said.contains("drover rollout status"), "{said}");
        let mut refusing = detail.clone();
        refusing.host.refused = Some(RefusedSpec { generation: 47, message: "a is claimed by x and y".to_owned() });
        let said = bare(&text(&refusing, None, &Journals::new(), 100_000));
        assert!(said.contains("the host refused desired state 47: a is claimed by x and y"), "{said}");
    }

    #[test]
    fn it_is_said_why_nothing_happens_on_a_host() {
        let name: AppName = "mono".parse().unwrap();
        let (mut empty, missing): (_, AppName) = (detail(None), "other".parse().unwrap());
        let said = |detail: &HostDetail, only| bare(&text(detail, only, &Journals::new(), 100_000));
        let other = said(&detail(Some((name.clone(), status(Phase::Pending, true)))), Some(&missing));
        assert!(other.contains("It has no app other") && other.contains("other has no good release"), "{other}");
        assert!(said(&empty, None).contains("meant for its labels (role=web)"));
        empty.host.labels.clear();
        assert!(said(&empty, None).contains("no labels, so no app is meant for it: `drover hosts label web-1"));
        empty.host.cordoned = Some(Cordoned { by: "ada".to_owned(), at_unix_ms: 40_000 });
        let cordoned = said(&empty, None);
        assert!(cordoned.contains("cordoned by ada, 60s ago") && cordoned.contains("uncordon web-1"), "{cordoned}");
        assert!(!cordoned.contains("labels"), "{cordoned}");
        empty.host.revoked_unix_ms = Some(40_000);
        assert!(said(&empty, None).contains("It was revoked 60s ago"));
    }

    #[test]
    fn a_unit_that_is_down_says_what_it_said_last() {
        let name: AppName = "mono".parse().unwrap();
        let problems = vec!["unit mono.service: failed".to_owned()];
        let mut down = detail(Some((name.clone(), status(Phase::Degraded { problems }, false))));
        assert_eq!(untold(&down, None), [&name]);
        let lines = vec!["10:58:03 no \u{1b}[2J database".to_owned()];
        let journals: Journals = [(name.clone(), [("mono.service".to_owned(), lines)].into())].into();
        let said = bare(&text(&down, None, &journals, 100_000));
        let expected = "should be active\n  What mono.service said last:\n    10:58:03 no \\u{1b}[2J database\n  Next:";
        assert!(said.contains(expected), "{said}");
        assert!(untold(&down, Some(&"other".parse().unwrap())).is_empty());
        down.host.connected = false;
        assert!(untold(&down, None).is_empty(), "nobody can be asked");
        assert!(untold(&detail(Some((name, status(Phase::Pending, true)))), None).is_empty(), "all is well");
    }
}
