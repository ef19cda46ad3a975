//! What this host says of itself: one status, published whenever it changes. `reconcile` writes it, `link` sends it up.

mod redact;
mod timer;
mod within;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use drover_proto::{
    alert::AlertStatus,
    app::Drift,
    name::{AppName, CheckName, ContainerName, Generation, UnitName, UserName},
    status::{AppStatus, HostStatus, PartStatus, Phase},
};
use tokio::sync::watch;

pub use redact::Redactor;
pub(crate) use timer::failing;
pub use within::within;

use crate::{
    drift::Part,
    gate::{
        compose, containers,
        verdict::{self, Standing},
    },
    host::{files::FileState, systemd::UnitState},
    observe::{Observed, Seen},
    plan::at_boot,
    render::{Instance, Rendered, RenderedContainer, RenderedFile, RenderedUnit},
};

/// The status of the host, for everybody to look at: without the values of secrets.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

struct Inner {
    status: watch::Sender<Arc<HostStatus>>,
    secrets: Mutex<BTreeMap<AppName, Redactor>>,
}

impl Board {
    /// Nothing known yet.
    #[must_use]
    pub fn new(boot_id: String) -> Self {
        let status = HostStatus { boot_id, observed_unix_ms: now_unix_ms(), ..HostStatus::default() };
        let status = watch::Sender::new(Arc::new(status));
        Self(Arc::new(Inner { status, secrets: Mutex::default() }))
    }
    /// The newest status, and every one after it.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<HostStatus>> {
        self.0.status.subscribe()
    }
    /// From now on the values that `redactor` knows are shown nowhere in what is said of the app.
    pub fn conceal(&self, app: &AppName, redactor: Redactor) {
        self.0.secrets.lock().unwrap_or_else(PoisonError::into_inner).insert(app.clone(), redactor);
    }
    /// A host spec was accepted.
    pub fn generation(&self, generation: Generation) {
        self.change(|status| status.generation = generation);
    }
    /// Changes what is said of one app.
    pub fn app(&self, app: &AppName, change: impl FnOnce(&mut AppStatus)) {
        let redactor = self.0.secrets.lock().unwrap_or_else(PoisonError::into_inner).get(app).cloned();
        // One app among many: the others are copied only when it has changed.
        self.0.status.send_if_modified(|held| {
            let mut now = held.apps.get(app).cloned().unwrap_or_else(unknown);
            change(&mut now);
            if let Some(redactor) = redactor {
                redactor.status(&mut now);
            }
            if held.apps.get(app) == Some(&now) {
                return false;
            }
            let status = Arc::make_mut(held);
            status.apps.insert(app.clone(), now);
            status.observed_unix_ms = now_unix_ms();
            true
        });
    }
    /// The alerts that are pending or fire.
    pub fn alerts(&self, alerts: Vec<AlertStatus>) {
        self.change(|status| status.alerts = alerts);
    }
    /// Where one app is.
    pub fn phase(&self, app: &AppName, phase: Phase) {
        self.app(app, |status| status.phase = phase);
    }

    fn change(&self, change: impl FnOnce(&mut HostStatus)) {
        self.0.status.send_if_modified(|held| {
            let mut status = HostStatus::clone(held);
            change(&mut status);
            if status == **held {
                return false;
            }
            status.observed_unix_ms = now_unix_ms();
            *held = Arc::new(status);
            true
        });
    }
}

fn unknown() -> AppStatus {
    AppStatus {
        desired: None,
        rollout: 0,
        running: None,
        phase: Phase::Pending,
        parts: Vec::new(),
        failure: None,
        checks: BTreeMap::new(),
    }
}

/// Now, in ms, on this host's clock.
#[must_use]
pub fn now_unix_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Desired beside observed, part by part. `failing`: the jobs whose last run failed; `answers`: the checks' last answers.
#[must_use]
pub fn parts(
    rendered: &Rendered,
    observed: &Observed,
    failing: &BTreeMap<UnitName, String>,
    answers: &BTreeMap<CheckName, (bool, String)>,
) -> Vec<PartStatus> {
    let mut parts = Vec::new();
    if let Some(tree) = &rendered.tree {
        let seen = if observed.tree_sealed { tree.key.clone() } else { "missing".to_owned() };
        parts.push(part("artifact", tree.directory.as_str(), tree.key.clone(), seen, observed.tree_sealed));
    }
    for (name, unit) in &rendered.units {
        if let Some(state) = observed.units.get(name).filter(|_| !name.is_template()) {
            let mut part = unit_part(name, unit, state);
            part.in_sync &= !failing.contains_key(name);
            part.desired.push_str(&serves(rendered, &Instance::Unit(name.clone())));
            if name.kind() == "timer" {
                let job = state.triggers.parse().ok().and_then(|job: UnitName| observed.units.get_key_value(&job));
                part.observed.push_str(&timer::runs(state, job, timer::Now::read()));
            }
            parts.push(part);
        }
    }
    for (name, container) in &rendered.containers {
        let mut part = container_part(name, container, observed);
        part.desired.push_str(&serves(rendered, &Instance::Container(name.clone())));
        parts.push(part);
    }
    parts.extend(service_parts(rendered, observed));
    for file in &rendered.files {
        let (seen, in_sync) = match observed.files.get(&file.path).map(|seen| &seen.seen) {
            Some(Seen::Is(FileState::File { digest, uid, gid, mode, .. })) if *digest == Some(file.digest) => {
                match owned_as_said(file, observed, (*uid, *gid, *mode)) {
                    true => ("as written".to_owned(), true),
                    false => (format!("another owner or mode ({uid}:{gid}, {mode:04o})"), false),
                }
            }
            Some(Seen::Is(FileState::File { .. })) => ("changed by somebody else".to_owned(), false),
            None | Some(Seen::Is(FileState::Missing)) => ("missing".to_owned(), false),
            Some(Seen::Is(FileState::Directory { .. } | FileState::Symlink | FileState::Other)) => {
                ("not a regular file".to_owned(), false)
            }
            Some(Seen::Unsafe(why)) => (why.clone(), false),
        };
        parts.push(part("file", file.path.as_str(), "as written".to_owned(), seen, in_sync));
    }
    for name in rendered.checks.keys() {
        if let Some((ok, text)) = answers.get(name) {
            parts.push(part("check", name.as_str(), "passes".to_owned(), text.clone(), *ok));
        }
    }
    parts
}

fn part(kind: &str, name: &str, desired: String, observed: String, in_sync: bool) -> PartStatus {
    PartStatus { kind: kind.to_owned(), name: name.to_owned(), desired, observed, in_sync }
}

fn owned_as_said(file: &RenderedFile, observed: &Observed, (uid, gid, mode): (u32, u32, u32)) -> bool {
    // Of an account that is gone nothing can be said.
    let is = |accounts: &BTreeMap<UserName, Option<u32>>, name, id| {
        accounts.get(name).copied().flatten().is_none_or(|wanted| wanted == id)
    };
    mode == file.mode && is(&observed.users, &file.owner, uid) && is(&observed.groups, &file.group, gid)
}

fn unit_part(name: &UnitName, unit: &RenderedUnit, state: &UnitState) -> PartStatus {
    let standing = verdict::judge(name, state);
    let mut seen = verdict::line(state);
    if let Ok(since) = jiff::Timestamp::from_microsecond(i64::try_from(state.active_enter_us).unwrap_or(0))
        && state.active_state == "active"
        && state.active_enter_us > 0
    {
        seen.push_str(&format!(" since {}", since.strftime("%Y-%m-%d %H:%M:%S UTC")));
    }
    // A job that is not running has ended: its timer says how.
    if unit.start && !matches!(standing, Standing::Healthy(_)) && state.exec_main_code != 0 {
        seen.push_str(&format!(", {}", verdict::ended_line(state)));
    }
    let boot = at_boot(unit, state, false);
    match boot {
        Some(true) => seen.push_str(", not started at boot"),
        Some(false) => seen.push_str(", started at boot"),
        None => {}
    }
    let in_sync = boot.is_none() && (!unit.start || matches!(standing, Standing::Healthy(_)));
    let desired = if unit.start { "active" } else { "started by others" };
    part("unit", name.as_str(), desired.to_owned(), seen, in_sync)
}

/// Of an instance: whom it serves.
fn serves(rendered: &Rendered, instance: &Instance) -> String {
    let own = rendered.handovers.iter().find(|(_, its)| its.instance == *instance);
    own.map(|(upstream, its)| format!(", serves {upstream} on port {}", its.port)).unwrap_or_default()
}

fn container_part(name: &ContainerName, container: &RenderedContainer, observed: &Observed) -> PartStatus {
    let desired = container.image.short();
    let (seen, in_sync) = match (&observed.containers.engine, observed.containers.states.get(name)) {
        (Err(why), _) => (why.clone(), false),
        (Ok(()), None) => ("missing".to_owned(), false),
        (Ok(()), Some(state)) => {
            let good = matches!(containers::judge(name, container, Some(state)), Standing::Healthy(_));
            let image =
                if state.digests.contains(&container.digest) { desired.clone() } else { "another image".to_owned() };
            (format!("{}, {image}", containers::line(state)), good)
        }
    };
    part("container", name.as_str(), desired, seen, in_sync)
}

/// The services of compose projects, one by one.
fn service_parts(rendered: &Rendered, observed: &Observed) -> Vec<PartStatus> {
    let (seen, mut parts) = (&observed.projects, Vec::new());
    for name in rendered.compose.keys() {
        let Some(Some(brought)) = seen.brought.get(name) else {
            let words = "not brought up".to_owned();
            parts.push(part("compose project", name.as_str(), "up".to_owned(), words, false));
            continue;
        };
        let members = seen.members.get(name).map(Vec::as_slice).unwrap_or_default();
        for (service, record) in &brought.services {
            let shown = format!("{name}/{service}");
            let desired = record.image_name.clone();
            let (words, good) = match &seen.engine {
                Err(why) => (why.clone(), false),
                Ok(()) => {
                    let standing = compose::judge(&shown, record, members, service);
                    let image = compose::image_of(record, members, service);
                    let words = format!("{}, {image}", compose::service_line(members, service));
                    (words, matches!(standing, Standing::Healthy(_)))
                }
            };
            parts.push(part("service", &shown, desired, words, good));
        }
    }
    parts
}

/// What is not as it should be, one line each; `notes` say more of some parts, or of what is no part.
#[must_use]
pub fn problems(rendered: &Rendered, parts: &[PartStatus], notes: &BTreeMap<Part, String>) -> Vec<String> {
    let ignored: BTreeSet<(&str, &str)> = {
        let units = rendered.units.iter().filter(|(_, unit)| unit.drift == Drift::Ignore);
        let files = rendered.files.iter().filter(|file| file.drift == Drift::Ignore);
        let boxes = rendered.containers.iter().filter(|(_, container)| container.spec.drift == Drift::Ignore);
        let boxes = boxes.map(|(name, _)| ("container", name.as_str()));
        let projects = rendered.compose.iter().filter(|(_, project)| project.drift == Drift::Ignore);
        let projects: BTreeSet<&str> = projects.map(|(name, _)| name.as_str()).collect();
        let of_project = |part: &&PartStatus| part.name.split('/').next().is_some_and(|name| projects.contains(name));
        let services = parts.iter().filter(|part| part.kind == "service" || part.kind == "compose project");
        let services = services.filter(of_project).map(|part| (part.kind.as_str(), part.name.as_str()));
        units
            .map(|(name, _)| ("unit", name.as_str()))
            .chain(boxes)
            .chain(services)
            .chain(files.map(|f| ("file", f.path.as_str())))
            .collect()
    };
    let wrong = parts.iter().filter(|part| !part.in_sync && !ignored.contains(&(&part.kind, &part.name)));
    let mut notes: BTreeMap<(&str, &str), &str> =
        notes.iter().map(|(part, note)| (part.names(), note.as_str())).collect();
    let mut problems: Vec<String> = Vec::new();
    for part in wrong {
        let note = notes.remove(&(part.kind.as_str(), part.name.as_str())).map(|note| format!("; {note}"));
        problems.push(format!("{} {}: {}{}", part.kind, part.name, part.observed, note.unwrap_or_default()));
    }
    problems.extend(notes.into_iter().map(|((kind, name), note)| format!("{kind} {name}: {note}")));
    problems
}

#[cfg(test)]
mod tests {
    //! The board publishes changes, and only changes.
    use super::*;

    #[test]
    fn the_board_wakes_its_readers_only_for_changes() {
        let board = Board::new("boot".to_owned());
        let mut reader = board.subscribe();
        let app: AppName = "mono".parse().unwrap();
        board.phase(&app, Phase::Staging { step: "building".to_owned() });
        assert!(reader.has_changed().unwrap());
        reader.mark_unchanged();
        board.phase(&app, Phase::Staging { step: "building".to_owned() });
        board.generation(0);
        assert!(!reader.has_changed().unwrap());
        board.generation(4);
        assert_eq!(reader.borrow_and_update().generation, 4);
    }
}
