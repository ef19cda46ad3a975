//! What the services of compose projects mean for the gate, and what goes up when one is to blame. Beside `gate`; `report`
//! uses the words too.

use drover_proto::name::ProjectName;

use super::{
    containers::{self, LOOP_RESTARTS, ended, line, running},
    verdict::Standing,
};
use crate::{
    exec::StepFailure,
    host::docker::{Engine, Member, of_service},
    ledger::{Projects, ServiceRecord},
    plan::compose::{is_as_recorded, is_done},
    render::Rendered,
};

/// What the engine said of each project; why it did not.
pub(super) type Seen = Vec<(ProjectName, Result<Vec<Member>, String>)>;

/// Asks for all of a release.
pub(super) async fn seen(wanted: &Rendered, engine: &Engine) -> Seen {
    let mut all = Seen::new();
    for name in wanted.compose.keys() {
        all.push((name.clone(), engine.project(name).await.map_err(|error| error.to_string())));
    }
    all
}

/// How each service stands, by the name that people know it by.
pub(super) fn standings(brought: &Projects, seen: &Seen) -> Vec<(String, Standing)> {
    let mut all = Vec::new();
    for (name, members) in seen {
        let of = format!("compose project {name}");
        match (brought.get(name).and_then(Option::as_ref), members) {
            (None, _) => all.push((of.clone(), Standing::Ended(format!("{of} has not been brought up")))),
            (Some(_), Err(error)) => all.push((of, Standing::Waiting(error.clone()))),
            (Some(brought), Ok(members)) => {
                let services = brought.services.iter();
                all.extend(services.map(|(service, record)| {
                    let shown = shown(name, service);
                    let standing = judge(&shown, record, members, service);
                    (shown, standing)
                }));
            }
        }
    }
    all
}

/// `service shop/web`
fn shown(project: &ProjectName, service: &str) -> String {
    format!("service {project}/{service}")
}

/// Judges one that should be running: as the worst of its containers.
#[must_use]
pub fn judge(shown: &str, record: &ServiceRecord, members: &[Member], service: &str) -> Standing {
    let own: Vec<&Member> = of_service(members, service).collect();
    if own.len() < record.count {
        return Standing::Ended(format!("{shown} is not there"));
    }
    let mut identities = Vec::new();
    for member in own {
        match of_member(shown, record, member) {
            Standing::Healthy(identity) => identities.push(identity),
            other => return other,
        }
    }
    Standing::Healthy(identities.join(" "))
}

fn of_member(shown: &str, record: &ServiceRecord, member: &Member) -> Standing {
    let state = &member.state;
    if !is_as_recorded(member, record) {
        return Standing::Ended(format!("{shown} is not what drover brought up"));
    }
    if !state.error.is_empty() && !state.running {
        return Standing::GaveUp(format!("Docker could not start {shown}: {}", state.error));
    }
    if is_done(member) {
        return Standing::Healthy(format!("{} {}", state.id, state.started_at));
    }
    match state.status.as_str() {
        "restarting" if state.restart_count >= LOOP_RESTARTS => {
            let again = state.restart_count;
            Standing::GaveUp(format!("{}; Docker has started it again {again} times", ended(shown, state)))
        }
        "restarting" => Standing::Broken(format!("{}; Docker starts it again and again", ended(shown, state))),
        "running" => running(shown, state),
        "created" => Standing::Waiting(format!("{shown} is about to start")),
        "paused" => Standing::Waiting(format!("{shown} is paused; docker unpause {} lets it go on", member.name)),
        "exited" | "dead" if member.runs_once => Standing::GaveUp(ended(shown, state)),
        _ => Standing::Ended(ended(shown, state)),
    }
}

/// One line with a service's state, for status.
#[must_use]
pub fn service_line(members: &[Member], service: &str) -> String {
    let lines: Vec<String> = of_service(members, service).map(|member| line(&member.state)).collect();
    if lines.is_empty() { "missing".to_owned() } else { lines.join(" | ") }
}

/// The image that a service runs, as people know it: its name with the digest, or what it is instead.
#[must_use]
pub fn image_of(record: &ServiceRecord, members: &[Member], service: &str) -> String {
    match of_service(members, service).find(|member| member.state.image_id != record.image) {
        Some(_) => "another image".to_owned(),
        None => {
            let digest = of_service(members, service).find_map(|member| member.state.digests.iter().next());
            let digest = digest.map(|digest| format!(" ({})", digest.short()));
            format!("{}{}", record.image_name, digest.unwrap_or_default())
        }
    }
}

/// State and log of those that are to blame.
pub(super) async fn evidence(
    mut failure: StepFailure,
    seen: &Seen,
    blamed: impl Fn(&str) -> bool,
    since_unix_ms: i64,
    engine: &Engine,
) -> StepFailure {
    for (project, members) in seen {
        for member in members.iter().flatten() {
            if member.one_off || !blamed(&shown(project, &member.service)) {
                continue;
            }
            let Ok(name) = member.name.parse() else { continue };
            failure = containers::evidence_of(failure, &name, &member.state, since_unix_ms, engine).await;
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    //! What counts as well.
    use super::*;
    use crate::host::docker::{ContainerState, Health};

    fn member(change: impl FnOnce(&mut Member)) -> Member {
        let state = ContainerState {
            image_id: "sha256:1".to_owned(),
            status: "running".to_owned(),
            running: true,
            ..ContainerState::default()
        };
        let mut member = Member { service: "web".to_owned(), hash: "h".to_owned(), state, ..Member::default() };
        change(&mut member);
        member
    }

    fn word(members: &[Member]) -> &'static str {
        let record =
            ServiceRecord { hash: "h".to_owned(), image: "sha256:1".to_owned(), image_name: String::new(), count: 1 };
        match judge("service shop/web", &record, members, "web") {
            Standing::Healthy(_) => "healthy",
            Standing::Waiting(_) => "waiting",
            Standing::Broken(_) => "broken",
            Standing::Ended(_) => "ended",
            Standing::GaveUp(_) => "gave up",
        }
    }

    #[test]
    fn a_service_is_as_well_as_the_worst_of_its_containers() {
        let ended = |code| {
            move |member: &mut Member| {
                (member.state.status, member.state.running, member.state.exit_code) =
                    ("exited".to_owned(), false, code);
            }
        };
        let health = |status: &str| Health { status: status.to_owned(), ..Health::default() };
        let table = [
            (vec![member(|_| {})], "healthy"),
            (vec![], "ended"),
            (vec![member(|it| it.one_off = true)], "ended"),
            (vec![member(|it| it.service = "db".to_owned())], "ended"),
            (vec![member(|it| it.hash = "other".to_owned())], "ended"),
            (vec![member(|it| it.state.image_id = "sha256:2".to_owned())], "ended"),
            (vec![member(|_| {}), member(ended(1))], "ended"),
            (vec![member(|it| it.state.health = Some(health("starting")))], "waiting"),
            (vec![member(|it| it.state.health = Some(health("unhealthy")))], "broken"),
            (vec![member(|it| it.state.health = Some(health("healthy")))], "healthy"),
        ];
        for (i, (members, expected)) in table.into_iter().enumerate() {
            assert_eq!(word(&members), expected, "row {i}");
        }
        let once = |code| {
            let mut member = member(ended(code));
            member.runs_once = true;
            word(&[member])
        };
        assert_eq!((once(0), once(3)), ("healthy", "gave up"));
    }
}
