//! Checks and alerts: which are good, which are for newer agents only.

use serde_json::json;

use super::*;

fn with(check: serde_json::Value) -> AppSpec {
    let mut app = minimal();
    app.checks.insert("web".parse().unwrap(), serde_json::from_value(check).unwrap());
    app
}

fn check(probe: serde_json::Value, more: &[(&str, serde_json::Value)]) -> AppSpec {
    let mut document = json!({ "probe": probe, "interval": "2s", "timeout": "5s" });
    more.iter().for_each(|(key, value)| document[*key] = value.clone());
    with(document)
}

fn said(app: &AppSpec) -> Vec<String> {
    app.check().into_iter().map(|error| error.to_string()).collect()
}

#[test]
fn a_check_without_newer_fields_is_written_as_it_always_was() {
    let app = check(json!({ "unit": "mono.service" }), &[]);
    let written = serde_json::to_value(&app).unwrap();
    let old = json!({ "web": { "probe": { "unit": "mono.service" }, "interval": "2s", "timeout": "5s" } });
    assert_eq!(written["checks"], old);
    assert_eq!(written.get("alerts"), None);
    assert_eq!((app.unknown_to(1), said(&app)), (None, vec![]));
    let said_all = [("rise", json!(1)), ("fall", json!(2)), ("start_period", json!("0s"))];
    assert_eq!(check(json!({ "unit": "mono.service" }), &said_all), app);
}

#[test]
fn newer_fields_and_probes_are_for_newer_agents() {
    let unit = json!({ "unit": "mono.service" });
    let rows = [
        (check(unit.clone(), &[("rise", json!(3))]), "checks.web.rise"),
        (check(unit.clone(), &[("fall", json!(1))]), "checks.web.fall"),
        (check(unit.clone(), &[("start_period", json!("1m"))]), "checks.web.start_period"),
        (check(unit, &[("restart", json!({ "unit": "mono.service" }))]), "checks.web.restart"),
        (check(json!({ "container": "shop" }), &[]), "checks.web.probe.container"),
        (
            check(json!({ "certificate": { "at": { "file": "/etc/x.pem" }, "min_left": "14d" } }), &[]),
            "checks.web.probe.certificate",
        ),
        (check(json!({ "file": { "path": "/srv/dump", "max_age": "26h" } }), &[]), "checks.web.probe.file"),
        (check(json!({ "disk": { "path": "/", "max_used": 90 } }), &[]), "checks.web.probe.disk"),
    ];
    for (app, field) in rows {
        assert_eq!((app.unknown_to(4).as_deref(), app.unknown_to(5)), (Some(field), None));
        assert_eq!(said(&app), [""; 0], "{field}");
        let bytes = serde_json::to_vec(&app).unwrap();
        assert_eq!(serde_json::from_slice::<AppSpec>(&bytes).unwrap(), app, "{field}");
    }
    let mut app = minimal();
    app.alerts.insert("cpu".parse().unwrap(), AlertRule::new("cpu > 80% for 5m".parse().unwrap()));
    assert_eq!((app.unknown_to(4).as_deref(), app.unknown_to(5)), (Some("alerts"), None));
}

#[test]
fn odd_checks_are_refused() {
    let unit = json!({ "unit": "mono.service" });
    let endpoint = |address: &str, name: &str| json!({ "certificate": { "min_left": "1d", "at": { "endpoint": { "address": address, "server_name": name } } } });
    let file = |path: &str, age: &str| json!({ "file": { "path": path, "max_age": age } });
    let restart = |of: &str, name: &str| [("restart", json!({ of: name }))];
    let rows = [
        (check(unit.clone(), &[("rise", json!(0))]), "checks.web.rise: 1 to 100"),
        (check(unit.clone(), &[("fall", json!(101))]), "checks.web.fall: 1 to 100"),
        (check(unit.clone(), &[("start_period", json!("2h"))]), "checks.web.start_period: at most 1h"),
        (check(unit.clone(), &restart("unit", "other.service")), "checks.web.restart: other.service is no unit"),
        (check(unit, &restart("container", "shop")), "checks.web.restart: shop is no unit or container"),
        (check(endpoint("example.org", "a"), &[]), "checks.web.certificate.endpoint: write host:port"),
        (check(endpoint("example.org:443", "a b"), &[]), "checks.web.certificate.server_name: write a host's name"),
        (check(file("/srv/*/dump", "1h"), &[]), "checks.web.file.path: only its last part"),
        (check(file("/srv/dump", "0s"), &[]), "checks.web.file.max_age: more than 0s"),
        (check(json!({ "disk": { "path": "/", "max_used": 0 } }), &[]), "checks.web.disk.max_used: 1% to 100%"),
    ];
    for (app, begins) in rows {
        let said = said(&app);
        assert!(said.len() == 1 && said[0].starts_with(begins), "{begins}: {said:?}");
    }
    let mut idle = check(json!({ "unit": "mono.service" }), &restart("unit", "mono.service"));
    assert_eq!(said(&idle), [""; 0]);
    idle.units.values_mut().for_each(|unit| unit.start = false);
    assert!(said(&idle)[0].starts_with("checks.web.restart: mono.service is started by others"), "{:?}", said(&idle));
}

#[test]
fn the_rules_of_an_app_are_about_the_app_and_the_host() {
    let with = |when: &str| {
        let mut app = check(json!({ "unit": "mono.service" }), &[]);
        app.alerts.insert("it".parse().unwrap(), AlertRule::new(when.parse().unwrap()));
        said(&app)
    };
    for good in [
        "cpu > 80%",
        "check web failing for 1m",
        "unit mono.service failed",
        "unit failed",
        "certificate expires in < 7d",
    ] {
        assert_eq!(with(good), [""; 0], "{good}");
    }
    for (bad, begins) in [
        ("check api failing", "alerts.it.when: api is no check of this app"),
        ("unit ssh.service failed", "alerts.it.when: ssh.service is no unit of this app"),
        ("container shop gone", "alerts.it.when: shop is no container of this app"),
        ("host unreachable", "alerts.it.when: only the coordinator can tell that"),
        ("clock skew > 1s", "alerts.it.when: only the coordinator can tell that"),
    ] {
        let said = with(bad);
        assert!(said.len() == 1 && said[0].starts_with(begins), "{bad}: {said:?}");
    }
    let mut app = minimal();
    let rule = AlertRule { every: Span::from_ms(1), ..AlertRule::new("cpu > 80%".parse().unwrap()) };
    app.alerts.insert("it".parse().unwrap(), rule.clone());
    assert!(said(&app)[0].starts_with("alerts.it.every: must be"), "{:?}", said(&app));
    app.alerts = (0..=crate::limits::MAX_ALERT_RULES)
        .map(|n| (format!("r{n}").parse().unwrap(), AlertRule::new(rule.when.clone())))
        .collect();
    assert!(said(&app)[0].starts_with("alerts: at most"), "{:?}", said(&app));
}
