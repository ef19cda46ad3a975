//! What only planning a release asks: room on the file systems concerned, who listens on the ports that it wants, whether systemd
//! knows the times of its timers. Too
//! dear for every look at a host at rest. Beside `observe`; `plan/preflight` judges.

use std::{collections::BTreeSet, path::PathBuf};

use drover_proto::{name::UnitName, plan::Extent, port::Port};

use super::{ObserveError, failed};
use crate::{
    host::{
        calendar,
        listeners::{self, Listener},
        room::{self, Room},
        swap::{self, Swap},
    },
    render::{FileKind, Layout, Rendered},
};

/// What a release writes there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// The archive of the artifact.
    Blobs,
    /// The unpacked artifact.
    Releases,
    /// The env file.
    Env,
    /// Unit files and the app's files: `/etc` stands for all of them.
    Files,
    /// The swap file.
    Swap,
    /// Debian packages: `/var` stands for all that they bring.
    Packages,
}

/// The answers; empty where nobody asked.
#[derive(Clone, Debug, Default)]
pub struct Preflight {
    /// Room by place, with the path that was looked at.
    pub rooms: Vec<(Place, PathBuf, Room)>,
    /// What listens where the release wants to.
    pub listeners: Vec<Listener>,
    /// What swap there is, if the release wants some.
    pub swap: Option<Swap>,
    /// The archive is on this host already.
    pub archive_is_here: bool,
    /// How large the artifact is when unpacked, if the one who asks has said so.
    pub extent: Option<Extent>,
    /// Times that systemd does not know.
    pub bad_times: Vec<BadTime>,
}

/// A time of a timer that systemd does not know.
#[derive(Clone, Debug)]
pub struct BadTime {
    /// Whose.
    pub timer: UnitName,
    /// As the unit says it.
    pub expression: String,
    /// systemd's words.
    pub why: String,
}

/// Looks for one release.
pub async fn preflight(
    rendered: &Rendered,
    layout: &Layout,
    extent: Option<Extent>,
    of_projects: BTreeSet<Port>,
) -> Result<Preflight, ObserveError> {
    let mut rooms = Vec::new();
    let places = [
        (Place::Blobs, layout.state_dir.clone()),
        (Place::Releases, layout.releases_dir.clone()),
        (Place::Env, layout.env_dir.clone()),
        (Place::Files, layout.units_dir.clone()),
        (Place::Swap, PathBuf::from("/")),
        (Place::Packages, PathBuf::from("/var")),
    ];
    for (place, path) in places {
        let room = room::at(&path).map_err(|e| failed(path.display(), e))?;
        rooms.push((place, path, room));
    }
    let of_units = rendered.units.values().flat_map(|unit| &unit.ports).copied();
    let published = rendered.containers.values().flat_map(|container| &container.spec.ports);
    let ports: BTreeSet<Port> = of_units.chain(published.map(|publish| publish.host)).chain(of_projects).collect();
    let listeners = if ports.is_empty() {
        Vec::new()
    } else {
        // Every open file of every process is looked at.
        let look = tokio::task::spawn_blocking(move || listeners::on(&ports)).await;
        look.map_err(|e| failed("open ports", e))?.map_err(|e| failed("open ports", e))?
    };
    let archive = rendered.tree.as_ref().map(|tree| layout.blob(&rendered.app, &tree.digest));
    let archive_is_here = archive.is_some_and(|archive| archive.exists());
    let swap = rendered.needs.swap_bytes.map(|_| swap::look()).transpose().map_err(|e| failed("swap", e))?;
    let mut bad_times = Vec::new();
    for (timer, expression) in times(rendered) {
        if let Some(why) = calendar::refused(&expression).await {
            bad_times.push(BadTime { timer, expression, why });
        }
    }
    Ok(Preflight { rooms, listeners, swap, archive_is_here, extent, bad_times })
}

/// Every `OnCalendar=` of the release's timers, typed or verbatim.
fn times(rendered: &Rendered) -> Vec<(UnitName, String)> {
    let mut all = Vec::new();
    for file in &rendered.files {
        let FileKind::Unit(name) = &file.kind else { continue };
        let text = String::from_utf8_lossy(file.bytes.expose());
        let value = |line: &str| {
            Some(line.trim().strip_prefix("OnCalendar")?.trim_start().strip_prefix('=')?.trim().to_owned())
        };
        // An empty one takes back those before it.
        let values = text.lines().filter_map(value).filter(|value| name.kind() == "timer" && !value.is_empty());
        all.extend(values.map(|value| (name.clone(), value)));
    }
    all
}

#[cfg(test)]
mod tests {
    //! Which times are asked about.
    use super::*;
    use crate::render::tests::{desired, rendered, unit};

    #[test]
    fn every_time_of_every_timer_is_asked_about() {
        let mut desired = desired();
        let timer = unit("[Timer]\n OnCalendar = daily\nOnCalendar=\nOnCalendar=*:0/5\n#OnCalendar=no\nOnBootSec=1h\n");
        desired.spec.units.insert("a.timer".parse().unwrap(), timer);
        desired.spec.units.insert("a.service".parse().unwrap(), unit("[Service]\nOnCalendar=no\n"));
        let asked = times(&rendered(&desired));
        assert!(asked.iter().all(|(timer, _)| timer.as_str() == "a.timer"));
        assert_eq!(asked.iter().map(|(_, time)| time.as_str()).collect::<Vec<_>>(), ["daily", "*:0/5"]);
    }
}
