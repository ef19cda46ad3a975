//! Alerts of what an app has, on a real host: its containers, its checks of units, containers and certificates; held while a
//! rollout works on the app there, and counted again after it.

use std::time::Duration;

use drover_tests::{
    fleet::{Cli, Fleet},
    lab::{Host, Image, Registry, eventually},
    tiny::Tiny,
};
use serde_json::Value;

use crate::alerts_host::{firing, told};

/// Checks are asked every ten seconds, and confirmed after one.
const SOON: Duration = Duration::from_secs(60);
const PARTS: &str = "
alerts:
  gone: container tiny-web gone
  ended: check certificate failing
containers:
  tiny-web:
    image: IMAGE
    healthcheck: { test: [test, -e, /www/health], interval: 1s, timeout: 2s, retries: 1 }
checks:
  unit: { unit: other.service }
  container: { container: tiny-web }
  certificate: { certificate: { file: /etc/tiny.pem, min_left: 1d } }
";

/// A certificate that ends so many days from now.
fn certificate(host: &Host, days: u32) {
    host.sh(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {days} -subj /CN=tiny -keyout /root/key.pem \
         -out /root/tiny.pem 2>/dev/null && mv /root/tiny.pem /etc/tiny.pem"
    ));
}

/// Which checks of the app fail, with what they said.
fn failing(cli: &Cli) -> Vec<(String, String)> {
    let said = cli.run(&["checks", "tiny", "--failing", "-o", "json"]);
    let rows: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let word = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    rows.as_array().into_iter().flatten().map(|row| (word(row, "check"), word(row, "answer"))).collect()
}

#[track_caller]
fn fails(cli: &Cli, check: &str) {
    eventually(&format!("check {check} fails, and no other"), SOON, || {
        let now = failing(cli);
        if now.len() == 1 && now[0].0 == check { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[track_caller]
fn all_pass(cli: &Cli) {
    eventually("all checks pass", SOON, || {
        let now = failing(cli);
        if now.is_empty() { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

fn runs(host: &Host) -> bool {
    host.docker(&["inspect", "-f", "{{.State.Running}} {{.State.Health.Status}}", "tiny-web"]).stdout.trim()
        == "true healthy"
}

#[test]
fn what_becomes_of_an_apps_containers_and_checks_is_told() {
    let fleet = Fleet::start_with(&["web-1"], |lab, name| lab.docker_host(name));
    let (host, registry, alice) = (&fleet.hosts[0], Registry::start(), &fleet.alice);
    registry.push("tiny/web:1", &Image::web("1"));
    host.write_file("/etc/systemd/system/other.service", b"[Service]\nExecStart=/bin/sleep infinity\n");
    host.sh("systemctl daemon-reload; systemctl start other");
    certificate(host, 30);
    let app = Tiny::new()
        .edit("healthy_deadline: 12s", "healthy_deadline: 30s")
        .edit("\nchecks:\n", &PARTS.replace("IMAGE", &registry.name("tiny/web:1")));
    alice.apply(&app.manifest()).ok();
    assert_eq!(failing(alice), []);

    host.sh("systemctl stop other");
    fails(alice, "unit");
    host.sh("systemctl start other");
    all_pass(alice);
    // One that another took its place, and ends too soon.
    certificate(host, 1);
    fails(alice, "certificate");
    assert_eq!(firing(host, "ended", SOON)["subject"], "certificate");
    certificate(host, 30);
    all_pass(alice);

    // Stopped by hand: told at once, and put right by the agent.
    host.docker(&["kill", "tiny-web"]).ok();
    let of_it = |kind: &str, start: &str| told(&fleet).iter().any(|(k, said)| k == kind && said.starts_with(start));
    eventually("that it is gone is told, and that it is back", SOON, || {
        let is_told =
            of_it("alert-firing", "alert gone (warning): ") && of_it("alert-resolved", "alert gone of tiny-web");
        if is_told && runs(host) { Ok(()) } else { Err(format!("{:#?}", told(&fleet))) }
    });
    // It ends again and again, and Docker starts it each time.
    for _ in 0..3 {
        host.docker(&["exec", "tiny-web", "killall", "-9", "httpd"]).ok();
        eventually("Docker has started it", SOON, || runs(host));
    }
    assert_eq!(firing(host, "container-restarting", SOON)["subject"], "tiny-web");
    assert!(!of_it("alert-firing", "alert container-gone"), "{:#?}", told(&fleet));
    // It runs, and is not well.
    host.docker(&["exec", "tiny-web", "rm", "/www/health"]).ok();
    eventually("check container fails", SOON, || {
        let now = failing(alice);
        let says = now.iter().any(|(check, said)| check == "container" && said.contains("unhealthy"));
        if says { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn an_alert_of_an_app_is_held_while_a_rollout_works_on_it_and_counts_again_after_it() {
    let fleet = Fleet::start(&["web-1"]);
    let alice = &fleet.alice;
    // One that always fires.
    let app = Tiny::new().append("alerts: { used: { when: memory > 0%, every: 1s } }\n");
    alice.apply(&app.manifest()).ok();
    let used = || {
        let listed: Value = serde_json::from_str(&alice.run(&["alerts", "-o", "json"]).stdout).ok()?;
        listed["alerts"].as_array()?.iter().find(|alert| alert["alert"] == "used" && alert["app"] == "tiny").cloned()
    };
    let fires = |is_muted: bool| {
        let now = used();
        match &now {
            Some(alert) if alert["state"] == "firing" && alert["muted"].is_string() == is_muted => Ok(alert.clone()),
            _ => Err(format!("{now:?}")),
        }
    };
    let before = eventually("it fires", SOON, || fires(false));
    let next = app.edit("min_healthy_time: 1s", "min_healthy_time: 8s").version("2");
    std::thread::scope(|scope| {
        let rollout = scope.spawn(|| alice.apply(&next.manifest()).ok());
        let held = eventually("it is held", SOON, || fires(true));
        assert!(held["muted"].as_str().unwrap_or_default().contains("rollout"), "{held}");
        assert_eq!(held["since_unix_ms"], before["since_unix_ms"], "it is the same one");
        rollout.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    });
    let after = eventually("it counts again", SOON, || fires(false));
    assert_eq!(after["since_unix_ms"], before["since_unix_ms"]);
}
