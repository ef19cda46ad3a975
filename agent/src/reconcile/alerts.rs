//! What `alert` is told of apps: what they have, which are in flight, that something has turned; and which alerts count in a gate.
//! Beside `reconcile`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use drover_proto::{
    alert::{AlertState, AlertStatus, Severity},
    name::{AppName, ContainerName, ProjectName},
};

use super::{Handle, Shared, Work};
use crate::{
    alert::scene::Scope,
    ledger::{AppLedger, Stage},
    render::Rendered,
};

/// Something that alerts may be about has happened.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stir {
    /// A check has turned, or was asked for the first time.
    Checks,
    /// An app has begun or ended to be activated, or has other parts.
    App(AppName),
    /// Docker tells of an app's containers.
    Containers(AppName),
}

/// Whether alerts may have to do with the difference.
fn is_news(before: &AppLedger, now: &AppLedger) -> bool {
    is_in_flight(before) != is_in_flight(now)
        || before.current.as_ref().map(|current| &current.spec) != now.current.as_ref().map(|current| &current.spec)
        || before.owned_units != now.owned_units
        || before.owned_containers != now.owned_containers
        || !before.projects.keys().eq(now.projects.keys())
}

/// From the journal to the commit, or to the end of the way back.
fn is_in_flight(ledger: &AppLedger) -> bool {
    ledger.activation.as_ref().is_some_and(|activation| activation.touched || activation.stage != Stage::Preparing)
}

fn scope(ledger: &AppLedger) -> Scope {
    let spec = ledger.current.as_ref().map(|current| &current.spec);
    Scope {
        rules: spec.map(|spec| spec.alerts.clone()).unwrap_or_default(),
        checks: spec.map(|spec| spec.checks.keys().cloned().collect()).unwrap_or_default(),
        units: ledger.owned_units.keys().cloned().collect(),
        containers: ledger.owned_containers.clone(),
        projects: ledger.projects.keys().cloned().collect(),
        certificates: spec.iter().flat_map(|spec| &spec.certificates).map(|its| its.path.to_string()).collect(),
        in_flight: is_in_flight(ledger),
    }
}

impl Handle {
    /// What each app has on this host.
    #[must_use]
    pub fn scopes(&self) -> BTreeMap<AppName, Scope> {
        self.shared().with_apps(|apps| apps.iter().map(|(app, ledger)| (app.clone(), scope(ledger))).collect())
    }

    /// Waits until something has happened that alerts may be about.
    pub async fn stirred(&self) -> BTreeSet<Stir> {
        self.shared().stirs.take().await
    }

    /// From now on these alerts are reported.
    pub fn report_alerts(&self, alerts: Vec<AlertStatus>) {
        self.shared().board.alerts(alerts);
    }

    /// The names of all containers of an app's projects, with the id, the number of starts, and how each is; `None`: the engine does
    /// not say.
    pub async fn containers_seen(&self, scope: &Scope) -> Option<Vec<Looked>> {
        let mut all = Vec::new();
        for name in &scope.containers {
            all.push(self.container_seen(name).await);
        }
        for project in &scope.projects {
            all.extend(self.project_seen(project).await?);
        }
        Some(all)
    }

    async fn container_seen(&self, name: &ContainerName) -> Looked {
        let name_of = name.to_string();
        match self.engine().container(name).await {
            Ok(Some(state)) => Looked::of(name_of, &state),
            Ok(None) => {
                Looked { is_running: Some(false), words: "it is not there".to_owned(), ..Looked::unknown(name_of) }
            }
            Err(error) => {
                tracing::debug!(%name, %error, "it is not known how the container is");
                Looked::unknown(name_of)
            }
        }
    }

    async fn project_seen(&self, project: &ProjectName) -> Option<Vec<Looked>> {
        let members = self.engine().project(project).await.inspect_err(|error| {
            tracing::debug!(%project, %error, "it is not known how the project is");
        });
        let stays = |member: &&crate::host::docker::Member| !(member.one_off || member.runs_once);
        Some(members.ok()?.iter().filter(stays).map(|member| Looked::of(member.name.clone(), &member.state)).collect())
    }
}

/// How the engine says that a container is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Looked {
    /// Its name.
    pub name: String,
    /// Which one has it, and how often the engine has started it.
    pub starts: Option<(String, i64)>,
    /// `None`: it is not known, or it is just being started again.
    pub is_running: Option<bool>,
    /// In words.
    pub words: String,
}

impl Looked {
    fn unknown(name: String) -> Self {
        Self { name, starts: None, is_running: None, words: String::new() }
    }

    fn of(name: String, state: &crate::host::docker::ContainerState) -> Self {
        // One that is restarted by the engine is down for a moment; that it is again and again is another rule.
        let is_running = if state.status == "restarting" { None } else { Some(state.running) };
        let words = crate::gate::containers::line(state);
        Self { name, starts: Some((state.id.clone(), state.restart_count)), is_running, words }
    }
}

impl Work<'_> {
    /// Tells the critical alerts that count in a gate of this app, again and again. On the way back none does: what is gone back to
    /// has run under them.
    pub(super) fn alerts_of(&self, wanted: &Rendered) -> impl Fn() -> Vec<(String, String)> + Send + Sync + use<> {
        let board = self.shared.board.subscribe();
        let activation = self.ledger.activation.as_ref();
        let begun = activation.map_or(0, |activation| activation.started_unix_ms);
        let goes_back = activation.is_some_and(|activation| matches!(activation.stage, Stage::Reverting(_)));
        // What the gate looks at for itself is not older there.
        let checks = wanted.checks.keys().map(ToString::to_string);
        let units = wanted.units.keys().map(ToString::to_string);
        let own: BTreeSet<String> =
            checks.chain(units).chain(wanted.containers.keys().map(ToString::to_string)).collect();
        let (app, redactor) = (self.app.clone(), self.redactor());
        move || {
            if goes_back {
                return Vec::new();
            }
            let status = board.borrow().clone();
            let counts = |alert: &&AlertStatus| counts(alert, &app, &own);
            let sentence = |alert: &AlertStatus| (alert.key.alert.to_string(), redactor.text(&sentence(alert, begun)));
            status.alerts.iter().filter(counts).map(sentence).collect()
        }
    }
}

/// Whether an alert keeps an app from being healthy in its gate, which looks at `own` for itself.
fn counts(alert: &AlertStatus, app: &AppName, own: &BTreeSet<String>) -> bool {
    let is_of_gate = alert.key.app.as_ref() == Some(app) && own.contains(&alert.key.subject);
    alert.severity == Severity::Critical
        && alert.state == AlertState::Firing
        && alert.key.app.as_ref().is_none_or(|of| of == app)
        && !is_of_gate
}

fn sentence(alert: &AlertStatus, begun_unix_ms: i64) -> String {
    let before = if alert.since_unix_ms < begun_unix_ms { ", already before this activation began" } else { "" };
    let whose = if alert.key.app.is_some() { "" } else { " of the host" };
    format!("the critical alert {}{whose} fires{before}: {}", alert.key.alert, alert.summary)
}

impl Shared {
    pub(super) fn remember(&self, ledger: &AppLedger) {
        let before =
            self.apps.lock().unwrap_or_else(PoisonError::into_inner).insert(ledger.app.clone(), ledger.clone());
        if before.is_none_or(|before| is_news(&before, ledger)) {
            self.stirs.ask(Stir::App(ledger.app.clone()));
        }
    }
    pub(super) fn forget(&self, app: &AppName) {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).remove(app);
        self.stirs.ask(Stir::App(app.clone()));
    }

    fn with_apps<T>(&self, look: impl FnOnce(&BTreeMap<AppName, AppLedger>) -> T) -> T {
        look(&self.apps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    //! Which alerts count in a gate, and with which words.
    use std::collections::BTreeMap;

    use drover_proto::alert::AlertKey;

    use super::*;

    fn alert(name: &str, app: Option<&str>, subject: &str) -> AlertStatus {
        AlertStatus {
            key: AlertKey {
                alert: name.parse().unwrap(),
                app: app.map(|app| app.parse().unwrap()),
                subject: subject.to_owned(),
            },
            state: AlertState::Firing,
            severity: Severity::Critical,
            since_unix_ms: 1000,
            summary: "disk / is 98.0% full, more than 97% for 1m".to_owned(),
            held: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn critical_alerts_of_the_host_and_the_app_count() {
        let (mono, own) = ("mono".parse().unwrap(), BTreeSet::from(["api".to_owned()]));
        let critical = alert("disk-critical", None, "/");
        let rows = [
            (critical.clone(), true),
            (alert("hot", Some("mono"), ""), true),
            (alert("check", Some("mono"), "api"), false),
            (alert("check", Some("mono"), "other"), true),
            (alert("hot", Some("shop"), ""), false),
            (AlertStatus { severity: Severity::Warning, ..critical.clone() }, false),
            (AlertStatus { state: AlertState::Pending, ..critical.clone() }, false),
        ];
        for (alert, wanted) in rows {
            assert_eq!(counts(&alert, &mono, &own), wanted, "{alert:?}");
        }
        assert_eq!(
            sentence(&critical, 1001),
            "the critical alert disk-critical of the host fires, already before this activation began: disk / is 98.0% full, more \
             than 97% for 1m"
        );
        assert!(sentence(&alert("hot", Some("mono"), ""), 1000).starts_with("the critical alert hot fires: disk /"));
    }
}
