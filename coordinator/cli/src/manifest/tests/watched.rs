//! Checks with all their fields, and alerts.

use drover_proto::{
    alert::Severity,
    app::{CertificateAt, RestartOf},
};

use super::*;

const UNIT: &str = "units: { mono.service: { exec: /bin/x } }\n";

fn with(more: &str) -> String {
    minimal(&format!("{UNIT}{more}\n"))
}

#[test]
fn a_check_says_what_it_looks_at_and_what_follows() {
    let text = "vars: { domain: a.test }
containers: { cache: { image: \"redis:7@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\" } }
checks:
  a: { unit: mono.service, rise: 2, fall: 3, start_period: 30s, restart: mono.service }
  b: { container: cache, restart: cache }
  c: { certificate: { endpoint: \"{{ domain }}:443\" } }
  d: { certificate: { file: /etc/x.pem, min_left: 1d } }
  e: { file: { path: \"/srv/*.gz\", max_age: 26h, min_size: 1K } }
  f: { disk: { path: /, max_used: 85% } }";
    let spec = loaded(&with(text)).spec;
    let check = |name: &str| spec.checks[&name.parse().unwrap()].clone();
    let a = check("a");
    assert_eq!((a.rise, a.fall, a.start_period.to_string()), (2, 3, "30s".into()));
    assert_eq!(a.restart, Some(RestartOf::Unit("mono.service".parse().unwrap())));
    let b = check("b");
    assert_eq!((b.rise, b.fall, b.restart), (1, 2, Some(RestartOf::Container("cache".parse().unwrap()))));
    assert_eq!(b.probe, Probe::Container("cache".parse().unwrap()));
    let Probe::Certificate(c) = check("c").probe else { panic!("{:?}", check("c")) };
    assert_eq!(c.min_left.to_string(), "14d");
    assert_eq!(c.at, CertificateAt::Endpoint { address: "a.test:443".into(), server_name: None });
    assert!(matches!(check("d").probe, Probe::Certificate(d) if matches!(d.at, CertificateAt::File(_))));
    assert!(matches!(check("e").probe, Probe::File(e) if e.min_size_bytes == Some(1024)));
    assert!(matches!(check("f").probe, Probe::Disk(f) if f.max_used == 85));
}

#[test]
fn odd_checks_are_told_at_their_line() {
    for (check, expected) in [
        ("{ certificate: {} }", "5: checks.a.certificate: says no certificate"),
        ("{ certificate: { file: /x, endpoint: \"a:1\" } }", "5: checks.a.certificate: has file and endpoint"),
        ("{ certificate: { file: /x, server_name: a } }", "server_name belongs to endpoint"),
        ("{ certificate: { endpoint: a } }", "5: checks.a.certificate.endpoint: write host:port"),
        ("{ file: { path: /x } }", "5: checks.a.file.max_age: max_age is missing"),
        ("{ file: { path: /x, max_age: 1h, min_size: lots } }", "5: checks.a.file.min_size: \"lots\" is no size"),
        ("{ disk: { path: /, max_used: \"90\" } }", "5: checks.a.disk.max_used: \"90\" is no percentage"),
        ("{ unit: mono.service, restart: \"mno service\" }", "\"mno service\" is no unit or container of this app"),
        ("{ unit: mono.service, restart: other.service }", "5: checks.a.restart: other.service is no unit of this app"),
        ("{ unit: mono.service, fall: 0 }", "5: checks.a.fall: should be a whole number from 1 to 100"),
        ("{ unit: mono.service, disk: { path: / } }", "5: checks.a: has unit and disk"),
    ] {
        let (said, _) = faults(&with(&format!("checks: {{ a: {check} }}")));
        assert!(said.len() == 1 && said[0].contains(expected), "{check}: {said:?}");
    }
}

#[test]
fn alerts_are_a_list_or_a_map() {
    let names = |text: &str| -> Vec<String> {
        let rules = loaded(&with(text)).spec.alerts;
        rules.iter().map(|(name, rule)| format!("{name}: {}", rule.when)).collect()
    };
    assert_eq!(
        names(
            "alerts: [cpu > 80% for 5m, memory > 85% for 5m, disk > 90%, disk /srv/data > 90%, unit mono.service failed]"
        ),
        [
            "cpu: cpu > 80% for 5m",
            "disk: disk > 90%",
            "disk-srv-data: disk /srv/data > 90%",
            "memory: memory > 85% for 5m",
            "unit-mono-service: unit mono.service failed",
        ]
    );
    let text = "vars: { much: 80% }
alerts:
  a: cpu > {{ much }}
  b: { when: memory > 90% for 5m, clear: 80%, every: 30s, severity: critical, labels: { team: shop }, annotations: { runbook: x } }";
    assert_eq!(names(text), ["a: cpu > 80%", "b: memory > 90% for 5m"]);
    let b = loaded(&with(text)).spec.alerts[&"b".parse().unwrap()].clone();
    assert_eq!((b.clear, b.every.to_string(), b.severity), ("80%".parse().ok(), "30s".into(), Severity::Critical));
    assert_eq!((b.labels.len(), b.annotations.len()), (1, 1));
}

#[test]
fn odd_alerts_are_told_at_their_line_with_a_hint() {
    for (alerts, expected, hint) in [
        ("[cpuu > 80%]", "5: alerts[0]: \"cpuu > 80%\" is not understood", "did you mean cpu?"),
        ("[pressure memry > 80%]", "5: alerts[0]: ", "did you mean pressure memory?"),
        ("[unit faild]", "5: alerts[0]: ", "did you mean unit failed?"),
        ("[cpu > 80]", "5: alerts[0]: \"80\" is not understood", "write it with %"),
        ("[wind > 5]", "5: alerts[0]: ", "metrics are cpu"),
        ("[cpu > 80%, cpu > 90%]", "5: alerts[1]: there is a rule cpu already", "instead of a list"),
        ("[host unreachable]", "5: alerts[0]: only the coordinator can tell that", ""),
        ("{ a: check web failing }", "5: alerts.a: web is no check of this app", ""),
        ("{ a: { when: cpu > 80%, clear: 90% } }", "5: alerts.a.clear: must be at most 80%", ""),
        ("{ a: { when: cpu > 80%, clear: low } }", "5: alerts.a.clear: \"low\" is no number", "write a number"),
        ("{ a: { clear: 90% } }", "5: alerts.a.when: when is missing", "for example"),
        ("{ a: { when: cpu > 80%, severty: info } }", "5: alerts.a.severty: ", "did you mean severity?"),
        ("{ A: cpu > 80% }", "5: alerts.A: ", ""),
        ("cpu > 80%", "5: alerts: should be a list or a map", ""),
    ] {
        let (said, hints) = faults(&with(&format!("alerts: {alerts}")));
        assert!(said.len() == 1 && said[0].contains(expected), "{alerts}: {said:?}");
        assert!(hint.is_empty() || hints.iter().any(|other| other.contains(hint)), "{alerts}: {hints:?}");
    }
}
