//! The rules of checks, and of the alerts that an app brings. Part of `check`.

use super::Found;
use crate::{
    alert::Test,
    app::{AppSpec, CertificateAt, Check, Probe, RestartOf},
    duration::Span,
    limits,
};

/// Answers in a row.
const IN_A_ROW: std::ops::RangeInclusive<u32> = 1..=100;
/// For `start_period`.
const LONGEST_START: Span = Span::from_secs(3600);

impl Found {
    pub(in crate::app) fn checks(&mut self, app: &AppSpec) {
        for (name, check) in &app.checks {
            let field = format!("checks.{name}");
            if check.interval.as_ms() < 100 {
                self.say(format!("{field}.interval"), "at least 100ms");
            }
            if check.timeout.as_ms() == 0 {
                self.say(format!("{field}.timeout"), "more than 0s");
            }
            for (key, times) in [("rise", check.rise), ("fall", check.fall)] {
                if !IN_A_ROW.contains(&times) {
                    self.say(format!("{field}.{key}"), format!("{} to {}", IN_A_ROW.start(), IN_A_ROW.end()));
                }
            }
            if check.start_period > LONGEST_START {
                self.say(format!("{field}.start_period"), format!("at most {LONGEST_START}"));
            }
            self.probe(&field, &check.probe);
            self.restarted(app, &field, check);
        }
    }

    fn probe(&mut self, field: &str, probe: &Probe) {
        match probe {
            Probe::Http(http) => {
                let url = http.url.plain_text();
                if !url.starts_with("http://") && !url.starts_with("https://") {
                    self.say(format!("{field}.http"), "begin the URL with http:// or https://");
                }
                if !http.method.bytes().all(|b| b.is_ascii_uppercase()) || http.method.is_empty() {
                    self.say(format!("{field}.method"), "an HTTP method is upper-case letters");
                }
            }
            Probe::Command { run, .. } => self.argv(&format!("{field}.command"), run),
            Probe::Tcp(address) if !is_endpoint(address) => self.say(format!("{field}.tcp"), "write host:port"),
            Probe::Certificate(certificate) => {
                if let CertificateAt::Endpoint { address, server_name } = &certificate.at {
                    if !is_endpoint(address) {
                        self.say(format!("{field}.certificate.endpoint"), "write host:port");
                    }
                    if server_name.as_ref().is_some_and(|name| !is_host(name)) {
                        self.say(
                            format!("{field}.certificate.server_name"),
                            "write a host's name, such as example.org",
                        );
                    }
                }
            }
            Probe::File(file) => {
                let pattern = file.path.as_str().rsplit_once('/').map_or("", |(directory, _)| directory);
                if pattern.contains(['*', '?']) {
                    self.say(format!("{field}.file.path"), "only its last part may have * or ?");
                }
                if file.max_age.as_ms() == 0 {
                    self.say(format!("{field}.file.max_age"), "more than 0s");
                }
            }
            Probe::Disk(disk) if !(1..=100).contains(&disk.max_used) => {
                self.say(format!("{field}.disk.max_used"), "1% to 100%");
            }
            Probe::Tcp(_) | Probe::Disk(_) | Probe::Unit(_) | Probe::Container(_) => {}
        }
    }

    fn restarted(&mut self, app: &AppSpec, field: &str, check: &Check) {
        let what = match &check.restart {
            None => return,
            Some(RestartOf::Container(name)) if app.containers.contains_key(name) => return,
            Some(RestartOf::Container(name)) => format!("{name} is no unit or container of this app"),
            Some(RestartOf::Unit(unit)) => {
                let own = app.units.iter().find(|(name, own)| *name == unit || own.runs_as(name).contains(unit));
                match own {
                    None => format!("{unit} is no unit of this app"),
                    Some(_) if unit.is_template() => format!("{unit} is a template: name one of its instances"),
                    Some((_, own)) if !own.start => {
                        format!("{unit} is started by others (start: false): a restart would start it")
                    }
                    Some(_) => return,
                }
            }
        };
        self.say(format!("{field}.restart"), what);
    }

    pub(in crate::app) fn alerts(&mut self, app: &AppSpec) {
        if app.alerts.len() > limits::MAX_ALERT_RULES {
            self.say("alerts", format!("at most {} rules", limits::MAX_ALERT_RULES));
        }
        for (name, rule) in &app.alerts {
            let field = format!("alerts.{name}");
            for (of, what) in rule.check() {
                self.say(format!("{field}.{of}"), what);
            }
            if rule.when.test.is_of_coordinator() {
                let what = "only the coordinator can tell that: put the rule into its alerting file";
                self.say(format!("{field}.when"), what);
            }
            if let Some(what) = stranger(app, &rule.when.test) {
                self.say(format!("{field}.when"), what);
            }
        }
    }
}

/// What a rule names that is not the app's.
fn stranger(app: &AppSpec, test: &Test) -> Option<String> {
    let (of, is_own) = match test {
        Test::CheckFailing(Some(of)) => (of, app.checks.keys().any(|name| name.as_str() == of)),
        Test::UnitFailed(Some(of)) => {
            let own = |(name, unit): (&_, &crate::app::Unit)| {
                let runs = unit.runs_as(name);
                std::iter::once(name).chain(&runs).any(|name| name.as_str() == of)
            };
            (of, app.units.iter().any(own))
        }
        Test::ContainerRestarting(Some(of)) | Test::ContainerGone(Some(of)) => {
            // Compose names the containers of a project after it.
            let of_project = |project: &str| of.strip_prefix(project).is_some_and(|rest| rest.starts_with(['-', '/']));
            let is_own = app.containers.keys().any(|name| name.as_str() == of)
                || app.compose.keys().any(|project| of_project(project.as_str()));
            (of, is_own)
        }
        Test::Level(_)
        | Test::DiskFull { .. }
        | Test::CheckFailing(None)
        | Test::UnitFailed(None)
        | Test::ContainerRestarting(None)
        | Test::ContainerGone(None)
        | Test::OomKill
        | Test::CertificateExpires(_)
        | Test::ClockSkew(_)
        | Test::HostUnreachable
        | Test::VersionSkew => return None,
    };
    let kind = match test {
        Test::CheckFailing(_) => "check",
        Test::UnitFailed(_) => "unit",
        _ => "container",
    };
    (!is_own).then(|| format!("{of} is no {kind} of this app"))
}

/// `host:port`.
fn is_endpoint(address: &str) -> bool {
    let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
    port.and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port != 0)
}

/// A host's name, or an IP address.
fn is_host(name: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    !name.is_empty() && name.len() <= 253 && name.chars().all(is_good)
}
