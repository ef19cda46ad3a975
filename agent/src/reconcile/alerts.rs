//! What `alert` is told of apps: what they have, which are in flight, that something has turned; and which alerts count in a gate.
//! Beside `reconcile`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use drover_proto::{
    alert::{AlertState, AlertStatus, Severity, Test},
    app::AppSpec,
    name::{AlertName, AppName, CheckName, ContainerName, ProjectName},
};

use super::{Handle, Shared, Work};
use crate::{
    alert::{
        self,
        scene::{Checked, Scope},
    },
    check::standing::Standing,
    host::docker::{ContainerState, Member},
    ledger::{AppLedger, Stage},
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

    /// How checks stand, without the values of secrets.
    #[must_use]
    pub fn checked(&self) -> BTreeMap<(AppName, CheckName), Checked> {
        let all = self.standings().into_iter();
        all.map(|(key, Standing { ok, answer, took, .. })| {
            let answer = if ok { String::new() } else { self.redactor(&key.0).text(&answer) };
            (key, Checked { ok, answer, took })
        })
        .collect()
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

    /// Whether a member runs once is not asked: compose lets all do so of which nobody says otherwise.
    async fn project_seen(&self, project: &ProjectName) -> Option<Vec<Looked>> {
        let members = self.engine().project(project).await.inspect_err(|error| {
            tracing::debug!(%project, %error, "it is not known how the project is");
        });
        let looked = |member: &Member| Looked {
            service: Some(format!("{project}/{}", member.service)),
            ..Looked::of(member.name.clone(), &member.state)
        };
        Some(members.ok()?.iter().filter(|member| !member.one_off).map(looked).collect())
    }
}

/// How the engine says that a container is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Looked {
    /// Its name.
    pub name: String,
    /// Which one has it, and how often the engine has started it.
    pub starts: Option<(String, i64)>,
    /// Or it has ended well, where it was to end. `None`: it is not known, or it is just being started again.
    pub is_running: Option<bool>,
    /// In words.
    pub words: String,
    /// Of which service of which project; `None`: it is one by itself.
    pub service: Option<String>,
}

impl Looked {
    fn unknown(name: String) -> Self {
        Self { name, starts: None, is_running: None, words: String::new(), service: None }
    }

    fn of(name: String, state: &ContainerState) -> Self {
        let is_running = match state.status.as_str() {
            // One that is restarted by the engine is down for a moment; that it is again and again is another rule.
            "restarting" => None,
            "exited" => Some(state.exit_code == 0 && matches!(state.restart.0.as_str(), "" | "no" | "on-failure")),
            _ => Some(state.running),
        };
        let words = crate::gate::containers::line(state);
        Self { name, starts: Some((state.id.clone(), state.restart_count)), is_running, words, service: None }
    }
}

impl Work<'_> {
    /// Tells the critical alerts that count in the gate of what is `wanted`, again and again. On the way back none does: what is gone
    /// back to has run under them.
    pub(super) fn alerts_of(&self, wanted: &AppSpec) -> impl Fn() -> Vec<(String, String)> + Send + Sync + use<> {
        let board = self.shared.board.subscribe();
        let activation = self.ledger.activation.as_ref();
        let begun = activation.map_or(0, |activation| activation.started_unix_ms);
        let goes_back = activation.is_some_and(|activation| matches!(activation.stage, Stage::Reverting(_)));
        let current = self.ledger.current.as_ref().map(|current| &current.spec);
        let counting = Counting::of(&self.app, wanted, current);
        let redactor = self.redactor();
        move || {
            if goes_back {
                return Vec::new();
            }
            let status = board.borrow().clone();
            let sentence = |alert: &AlertStatus| (alert.key.alert.to_string(), redactor.text(&sentence(alert, begun)));
            status.alerts.iter().filter(|alert| counting.has(alert)).map(sentence).collect()
        }
    }
}

/// Which alerts keep an app from being healthy in its gate: those of the host, and of what the gate does not look at for itself.
struct Counting {
    app: AppName,
    /// The release's own about numbers of the host. Until it is committed they are looked at as the release before has them: those that
    /// it has otherwise, or not at all, say nothing of this one.
    rules: BTreeSet<AlertName>,
    /// Paths that it reads certificates from.
    certificates: BTreeSet<String>,
    /// Its rules that the release before has otherwise, or not at all, and those of the release before that it does without: of what
    /// they are about they say nothing, either.
    changed: BTreeSet<AlertName>,
}

impl Counting {
    fn of(app: &AppName, wanted: &AppSpec, current: Option<&AppSpec>) -> Self {
        let before = |name: &AlertName| current.and_then(|current| current.alerts.get(name));
        let names = wanted.alerts.keys().chain(current.iter().flat_map(|current| current.alerts.keys()));
        let changed = names.filter(|name| before(name) != wanted.alerts.get(*name)).cloned().collect();
        let same = wanted.alerts.iter().filter(|(name, rule)| before(name) == Some(*rule));
        let is_of_host = |test: &Test| matches!(test, Test::Level(_) | Test::DiskFull { .. } | Test::OomKill);
        let rules = same.filter(|(_, rule)| is_of_host(&rule.when.test)).map(|(name, _)| name.clone()).collect();
        let certificates = wanted.certificates.iter().map(|its| its.path.to_string()).collect();
        Self { app: app.clone(), rules, certificates, changed }
    }

    fn has(&self, alert: &AlertStatus) -> bool {
        let key = &alert.key;
        alert.severity == Severity::Critical
            && alert.state == AlertState::Firing
            && match &key.app {
                // What stands for many may stand for those of other apps.
                None => key.alert.as_str() != alert::REST,
                Some(app) => {
                    let is_of_certificate =
                        self.certificates.contains(&key.subject) && !self.changed.contains(&key.alert);
                    *app == self.app && (self.rules.contains(&key.alert) || is_of_certificate)
                }
            }
    }
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

    use drover_proto::{
        alert::{AlertKey, AlertRule},
        app::Certificate,
    };

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
    fn critical_alerts_of_the_host_and_of_the_wanted_release_count() {
        let critical = alert("disk-critical", None, "/");
        let counting = Counting {
            app: "mono".parse().unwrap(),
            rules: ["hot".parse().unwrap()].into(),
            certificates: ["/etc/a.pem".to_owned()].into(),
            changed: ["relaxed".parse().unwrap()].into(),
        };
        let rows = [
            (critical.clone(), true),
            (alert("hot", Some("mono"), ""), true),
            (alert("certificate", Some("mono"), "/etc/a.pem"), true),
            (alert("certificate", Some("mono"), "/etc/gone.pem"), false),
            (alert("relaxed", Some("mono"), "/etc/a.pem"), false),
            (alert("of-before", Some("mono"), ""), false),
            (alert("check", Some("mono"), "api"), false),
            (alert("hot", Some("shop"), ""), false),
            (alert(alert::REST, None, ""), false),
            (AlertStatus { severity: Severity::Warning, ..critical.clone() }, false),
            (AlertStatus { state: AlertState::Pending, ..critical.clone() }, false),
        ];
        for (alert, wanted) in rows {
            assert_eq!(counting.has(&alert), wanted, "{alert:?}");
        }
        assert_eq!(
            sentence(&critical, 1001),
            "the critical alert disk-critical of the host fires, already before this activation began: disk / is 98.0% full, more \
             than 97% for 1m"
        );
        assert!(sentence(&alert("hot", Some("mono"), ""), 1000).starts_with("the critical alert hot fires: disk /"));
    }

    #[test]
    fn a_release_is_not_kept_back_by_a_rule_about_its_certificates_that_it_mends_or_drops() {
        let release = |when: &[&str]| {
            let mut spec = crate::render::tests::desired().spec;
            let path = "/etc/a.pem".parse().unwrap();
            spec.certificates = vec![Certificate { path, key: None, validate: None, reload: BTreeSet::new() }];
            spec.alerts = when.iter().map(|when| ("soon".parse().unwrap(), rule(when))).collect();
            spec
        };
        fn rule(when: &str) -> AlertRule {
            AlertRule { severity: Severity::Critical, ..AlertRule::new(when.parse().unwrap()) }
        }
        let (strict, none) = (release(&["certificate expires in < 30d"]), release(&[]));
        let rows = [
            (release(&["certificate expires in < 30d"]), Some(&strict), true),
            (release(&["certificate expires in < 3d"]), Some(&strict), false),
            (release(&[]), Some(&strict), false),
            // The host's rule of that name is looked at in any case.
            (release(&[]), Some(&none), true),
            (release(&[]), None, true),
        ];
        for (wanted, current, counts) in rows {
            let counting = Counting::of(&wanted.app, &wanted, current);
            let firing = alert("soon", Some("mono"), "/etc/a.pem");
            assert_eq!(counting.has(&firing), counts, "{:?} after {:?}", wanted.alerts, current.map(|it| &it.alerts));
        }
    }
}
