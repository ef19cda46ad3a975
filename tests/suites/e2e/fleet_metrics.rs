//! What the coordinator tells: a real Prometheus finds the agents of a fleet through it, also behind a password, and `drover top`
//! shows what hosts are doing.

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually},
    tiny::Tiny,
};
use serde_json::Value;

use crate::metrics::{ask, shipped_dashboard_shows_something, undocumented};

const SOON: Duration = Duration::from_secs(60);
const PROMETHEUS: &str = include_str!("../../../packaging/prometheus/prometheus.example.yml");
/// Of `U*U`, which is how crypt_blowfish tests itself.
const PASSWORD: &str =
    "basic_auth_users: { prometheus: $2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW }\n";

fn figures(top: &Value, host: &str) -> Value {
    let rows = top["hosts"].as_array().into_iter().flatten();
    rows.into_iter().find(|row| row["host"] == host).cloned().unwrap_or_default()
}

#[test]
fn prometheus_finds_the_fleet_through_the_coordinator() {
    let fleet = Fleet::start(&["web-1", "web-2", "web-3"]);
    let host = &fleet.coordinator;
    for agent in &fleet.hosts[..2] {
        agent.write_file("/etc/drover/agent.toml", b"[metrics]\nlisten = \"0.0.0.0:7444\"\n");
        agent.exec(&["systemctl", "restart", "drover-agent"]).ok();
    }
    fleet.alice.apply(&Tiny::new().manifest()).ok();
    fleet.lab.internet();
    host.exec(&["apt-get", "update", "-qq"]).ok();
    let install =
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "-y", "--no-install-recommends"];
    host.exec(&[&install[..], &["prometheus"]].concat()).ok();
    let config = PROMETHEUS.replace("rule_files: [/usr/share/drover/prometheus/drover.rules.yml]", "");
    let config = format!("global: {{ scrape_interval: 1s }}\n{}", config.replace("30s", "1s"));
    host.write_file("/etc/prometheus/prometheus.yml", config.as_bytes());
    host.exec(&["systemctl", "restart", "prometheus"]).ok();

    // The third is reached by nobody but itself, and dropped.
    eventually("Prometheus reads both agents and the coordinator", SOON, || {
        let up = ask(host, "up == 1");
        let mut seen: Vec<_> = up.as_array().into_iter().flatten().map(|row| &row["metric"]).collect();
        seen.sort_by_key(|metric| metric.to_string());
        let hosts: Vec<_> = seen.iter().filter_map(|metric| metric["host"].as_str()).collect();
        let roles = seen.iter().filter(|metric| metric["role"] == "web").count();
        let is_all = hosts == ["web-1", "web-2"] && roles == 2 && seen.len() == 3;
        if is_all { Ok(()) } else { Err(format!("{up:#}")) }
    });
    let down = ask(host, "up == 0");
    assert_eq!(down.as_array().map(Vec::len), Some(0), "{down:#}");
    let text = host.sh("curl -fsS http://127.0.0.1:7445/metrics | promtool check metrics 2>&1; echo");
    assert_eq!(text.trim(), "", "promtool has nothing to say");
    assert_eq!(undocumented(host, 7445), [""; 0]);
    shipped_dashboard_shows_something(host, "rollouts");
    assert_eq!(ask(host, "drover_rollout_state{app=\"tiny\"}")[0]["metric"]["state"], "succeeded");
    assert_eq!(ask(host, "sum(drover_host_connected)")[0]["value"][1], "3");

    // An agent that is gone stays a target.
    fleet.hosts[1].exec(&["systemctl", "stop", "drover-agent"]).ok();
    eventually("the agent that is gone is told", SOON, || {
        let (down, offline) = (ask(host, "up == 0"), ask(host, "drover_host_connected == 0"));
        let is_told = down[0]["metric"]["host"] == "web-2" && offline[0]["metric"]["host"] == "web-2";
        if is_told { Ok(()) } else { Err(format!("{down:#} {offline:#}")) }
    });
    a_password_is_asked_for(host);
}

fn a_password_is_asked_for(host: &Host) {
    host.write_file("/etc/drover/web.yml", PASSWORD.as_bytes());
    host.write_file("/etc/drover/coordinator.toml", b"[metrics]\nweb_config = \"/etc/drover/web.yml\"\n");
    host.exec(&["systemctl", "restart", "drover-coordinator"]).ok();
    for path in ["metrics", "sd"] {
        let url = format!("http://127.0.0.1:7445/{path}");
        eventually("a password is asked for", SOON, || {
            let status = |user: &str| {
                host.exec(&["curl", "-sS", "-u", user, "-o", "/dev/null", "-w", "%{http_code}", &url]).stdout
            };
            let (known, unknown) = (status("prometheus:U*U"), status("prometheus:"));
            if (known.as_str(), unknown.as_str()) == ("200", "401") {
                Ok(())
            } else {
                Err(format!("{known} {unknown}"))
            }
        });
    }
}

#[test]
fn top_and_the_last_day_show_what_hosts_do() {
    let fleet = Fleet::start(&["web-1", "web-2"]);
    let shown = eventually("both hosts have told", SOON, || {
        let top = fleet.alice.json(&["top", "--once"]);
        let is_all = ["web-1", "web-2"].iter().all(|host| figures(&top, host)["figures"].is_object());
        if is_all { Ok(top) } else { Err(format!("{top:#}")) }
    });
    for host in ["web-1", "web-2"] {
        let row = figures(&shown, host);
        let number = |name: &str| row["figures"][name].as_f64().unwrap_or(-1.0);
        for share in ["cpu", "memory", "disk", "swap"] {
            assert!((0.0..=100.0).contains(&number(share)), "{share}: {row:#}");
        }
        assert!(number("memory") > 0.0 && number("load1") >= 0.0 && number("received") >= 0.0, "{row:#}");
        assert!(row["cores"].as_u64() > Some(0) && row["memory_bytes"].as_u64() > Some(1 << 20), "{row:#}");
    }
    let detail = fleet.alice.json(&["hosts", "show", "web-1"]);
    let told = detail["history"]["points"].as_array().map_or(0, Vec::len);
    assert!(told > 0, "{detail:#}");

    // A restart of the coordinator keeps the day.
    fleet.coordinator.exec(&["systemctl", "restart", "drover-coordinator"]).ok();
    let table = eventually("the coordinator is back", SOON, || {
        let shown = fleet.alice.run(&["hosts", "show", "web-1"]);
        if shown.success() { Ok(shown.stdout) } else { Err(shown.to_string()) }
    });
    assert!(table.contains("24 HOURS") && table.contains("memory  "), "{table}");
    let table = fleet.alice.run(&["top", "--sort", "name"]).ok();
    assert!(table.starts_with("HOST") && table.lines().count() == 3, "{table}");
}
