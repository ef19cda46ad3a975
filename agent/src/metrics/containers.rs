//! What containers use, under cAdvisor's names: from their control groups, which are there as long as they run. The engine is asked
//! once for each that has been started, not at each scrape.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt as _, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    cgroup::{Usage, Version},
    node::Root,
    text::{Kind, Text},
};
use crate::host::docker::{DockerError, Engine, RunningContainer};

/// Where the engine puts the groups: below one of systemd's slices, or below its own.
const PLACES: [&str; 2] = ["system.slice", "docker"];
/// For what it is asked at one scrape; what it has not said by then is asked later.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Containers that are told, at most.
const MAX_CONTAINERS: usize = 500;

/// Knows which containers there are.
pub(super) struct Containers {
    engine: Engine,
    known: BTreeMap<String, Known>,
    /// It did not answer: it is not asked before.
    silent_until: Option<Instant>,
}

struct Known {
    /// Of its control group's directory, which is made anew at each start.
    inode: u64,
    /// `None`: the engine does not know it.
    container: Option<RunningContainer>,
}

/// One that runs.
struct Group {
    id: String,
    path: String,
    inode: u64,
}

/// What one look found: paths of control groups, and whose they are.
pub(super) struct Seen(Vec<(String, RunningContainer)>);

impl Containers {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, known: BTreeMap::new(), silent_until: None }
    }

    /// Looks at those that run.
    pub(super) async fn look(&mut self, root: &Root, version: Version) -> Seen {
        // The kernel lists them from its memory: quicker than a thread is woken.
        let groups = groups(root, version);
        self.known.retain(|id, known| groups.iter().any(|group| group.id == *id && group.inode == known.inode));
        self.learn(&groups).await;
        let name = |group: Group| Some((group.path, self.known.get(&group.id)?.container.clone()?));
        Seen(groups.into_iter().filter_map(name).collect())
    }

    /// Asks for those that have been started since the last look.
    async fn learn(&mut self, groups: &[Group]) {
        let now = Instant::now();
        if self.silent_until.is_some_and(|until| now < until) {
            return;
        }
        self.silent_until = None;
        for group in groups {
            if self.known.contains_key(&group.id) {
                continue;
            }
            let answer = timeout_at(now + ANSWERS_WITHIN, self.engine.running(&group.id)).await;
            let container = match answer.unwrap_or(Err(DockerError::Silent("no answer in time".to_owned()))) {
                Ok(container) => container,
                Err(error @ (DockerError::Absent | DockerError::Silent(_))) => {
                    tracing::debug!(%error, id = group.id, "what a container is called is not known yet");
                    self.silent_until = Some(now + ASKED_AGAIN_AFTER);
                    return;
                }
                Err(DockerError::Refused(_) | DockerError::NotFound(_)) => None,
            };
            self.known.insert(group.id.clone(), Known { inode: group.inode, container });
        }
    }
}

/// The control groups of containers, in the order of their ids.
fn groups(root: &Root, version: Version) -> Vec<Group> {
    let [hierarchy, _] = version.hierarchies();
    let mut groups = Vec::new();
    for place in PLACES {
        let names = root.names(format!("{hierarchy}/{place}")).unwrap_or_default();
        let found = names.into_iter().filter_map(|name| {
            let id = match place {
                "docker" => name.as_str(),
                _ => name.strip_prefix("docker-")?.strip_suffix(".scope")?,
            };
            let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            let path = format!("/{place}/{name}");
            let inode = root.metadata(format!("{hierarchy}{path}")).ok()?.ino();
            is_id.then(|| Group { id: id.to_owned(), path, inode })
        });
        groups.extend(found);
    }
    groups.sort_by(|a, b| a.id.cmp(&b.id));
    groups.truncate(MAX_CONTAINERS);
    groups
}

/// Path of the control group, whose it is, what it uses.
type Row<'s> = (&'s str, &'s RunningContainer, Usage);

fn labels<'r>((path, container, _): &'r Row<'_>) -> [(&'static str, &'r str); 3] {
    [("id", path), ("image", &container.image), ("name", &container.name)]
}

pub(super) fn write(root: &Root, version: Version, seen: &Seen, text: &mut Text) {
    let rows: Vec<Row<'_>> =
        seen.0.iter().map(|(path, container)| (path.as_str(), container, version.usage(root, path))).collect();
    let mut column = |kind, name, help, value: fn(&Row<'_>) -> Option<f64>| {
        text.column((kind, name, help), &rows, labels, value);
    };
    let help = "Cumulative cpu time consumed in seconds.";
    column(Kind::Counter, "container_cpu_usage_seconds_total", help, |(_, _, usage)| usage.cpu_seconds);
    let help = "Current memory usage in bytes, including all memory regardless of when it was accessed";
    column(Kind::Gauge, "container_memory_usage_bytes", help, |(_, _, usage)| Some(usage.memory_bytes? as f64));
    let help = "Current working set in bytes.";
    column(Kind::Gauge, "container_memory_working_set_bytes", help, |(_, _, usage)| {
        Some(usage.working_set_bytes? as f64)
    });
    let help = "Start time of the container since unix epoch in seconds.";
    column(Kind::Gauge, "container_start_time_seconds", help, |(_, container, _)| {
        Some(container.started_unix_ms as f64 / 1000.0)
    });
    let help = "How often the engine has restarted the container since it was made.";
    column(Kind::Counter, "drover_container_restarts_total", help, |(_, container, _)| Some(container.restarts as f64));
}

#[cfg(test)]
mod tests {
    //! Which groups are containers.
    use super::*;

    #[test]
    fn groups_of_both_drivers_are_found_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        for group in [
            format!("docker/{b}"),
            format!("system.slice/docker-{a}.scope"),
            "system.slice/docker-short.scope".to_owned(),
            "system.slice/nginx.service".to_owned(),
            "docker/buildkit".to_owned(),
        ] {
            std::fs::create_dir_all(dir.path().join("sys/fs/cgroup").join(group)).unwrap();
        }
        std::fs::write(dir.path().join("sys/fs/cgroup/cgroup.controllers"), "cpu memory\n").unwrap();
        let found: Vec<_> =
            groups(&Root::new(dir.path()), Version::Two).into_iter().map(|group| (group.id, group.path)).collect();
        let expected = [(a.clone(), format!("/system.slice/docker-{a}.scope")), (b.clone(), format!("/docker/{b}"))];
        assert_eq!(found, expected);
    }
}
