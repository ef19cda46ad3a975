//! `/metrics` beside Debian's own node_exporter, read by a real Prometheus: the same names, types and labels; what is left out is
//! what docs/METRICS.md says. The rules and dashboards that are shipped are tried on that Prometheus, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually},
    tiny::Tiny,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const DOCUMENT: &str = include_str!("../../../docs/METRICS.md");

const PROMETHEUS: &str = "\
global: { scrape_interval: 1s }
scrape_configs:
  - { job_name: drover, static_configs: [{ targets: ['127.0.0.1:7444'] }] }
  - { job_name: node, static_configs: [{ targets: ['127.0.0.1:9100'] }] }
";

const UPSTREAM: &str = "ARGS=\"--collector.diskstats.device-exclude=^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme[0-9]+n[0-9]+p)[0-9]+$ \
    --collector.filesystem.mount-points-exclude=^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/) \
    --collector.filesystem.fs-types-exclude=^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$ \
    --collector.netdev.device-exclude= --collector.netclass.ignored-devices=^$ \
    --collector.systemd.unit-exclude=.+[.](automount|device|mount|scope|slice)\"\n";

/// What was read of one scrape.
#[derive(Default)]
struct Scrape {
    /// By family.
    types: BTreeMap<String, String>,
    /// The labels of every sample, by name.
    samples: BTreeMap<String, BTreeSet<String>>,
}

fn scrape(host: &Host, port: u16) -> Scrape {
    let text = host.exec(&["curl", "-fsS", &format!("http://127.0.0.1:{port}/metrics")]).ok();
    let mut scrape = Scrape::default();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            scrape.types.insert(name.to_owned(), kind.to_owned());
        } else if let Some((sample, _)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) {
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            scrape.samples.entry(name.to_owned()).or_default().insert(labels.to_owned());
        }
    }
    scrape
}

/// The names between backquotes in the document's table of what is left out; `*` at the end of one stands for anything.
fn left_out() -> Vec<String> {
    let section = DOCUMENT.split("## Left out").nth(1).unwrap_or_else(|| panic!("what is left out is not documented"));
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

/// What belongs to the exporter rather than to the host.
fn is_own(name: &str) -> bool {
    ["go_", "process_", "promhttp_", "node_exporter_", "node_scrape_collector_"].iter().any(|own| name.starts_with(own))
}

/// What Prometheus answers; `Null` while it does not.
pub fn ask(host: &Host, query: &str) -> Value {
    let asked =
        ["curl", "-fsS", "-G", "--data-urlencode", &format!("query={query}"), "http://127.0.0.1:9090/api/v1/query"];
    let answer = host.exec(&asked).stdout;
    serde_json::from_str::<Value>(&answer).unwrap_or_default()["data"]["result"].clone()
}

#[test]
fn prometheus_reads_of_drover_what_it_reads_of_node_exporter() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let app = Tiny::new();
    fleet.alice.apply(&app.manifest()).ok();
    // With cgroups of version 1 systemd does not count it by itself.
    host.exec(&["systemctl", "set-property", "--runtime", "tiny.service", "CPUAccounting=yes"]).ok();
    fleet.lab.internet();
    host.exec(&["apt-get", "update", "-qq"]).ok();
    let install =
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "-y", "--no-install-recommends"];
    host.exec(&[&install[..], &["prometheus", "prometheus-node-exporter"]].concat()).ok();
    host.write_file("/etc/prometheus/prometheus.yml", PROMETHEUS.as_bytes());
    // As its authors have it: Debian leaves out more.
    host.write_file("/etc/default/prometheus-node-exporter", UPSTREAM.as_bytes());
    host.exec(&["systemctl", "restart", "prometheus", "prometheus-node-exporter"]).ok();

    eventually("Prometheus has read both", SOON, || {
        let up = ask(host, "up == 1");
        if up.as_array().is_some_and(|up| up.len() == 2) { Ok(()) } else { Err(format!("{up:#}")) }
    });
    let text = host.sh(
        "curl -fsS http://127.0.0.1:7444/metrics > /tmp/metrics; promtool check metrics < /tmp/metrics 2>&1 && echo 0 || echo $?",
    );
    // 3: it parses, and some names are not as Prometheus would have them today; those are node_exporter's.
    assert!(matches!(text.lines().last(), Some("0" | "3")), "{text}");
    let own = text.lines().filter(|line| line.starts_with("drover_"));
    assert_eq!(own.collect::<Vec<_>>(), [""; 0], "{text}");

    let patterns = left_out();
    let is_left_out = |name: &str| {
        patterns
            .iter()
            .any(|pattern| pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start)))
    };
    // Units and interfaces may come and go between the two.
    let (shared, all) = eventually("both say the same", SOON, || {
        let (ours, theirs) = (scrape(host, 7444), scrape(host, 9100));
        let (mut shared, mut all) = (0, 0);
        for (name, samples) in theirs.samples.iter().filter(|(name, _)| !is_own(name)) {
            all += 1;
            let Some(own) = ours.samples.get(name) else {
                if is_left_out(name) {
                    continue;
                }
                return Err(format!("{name} is missing, and docs/METRICS.md does not say why"));
            };
            shared += 1;
            if ours.types.get(name) != theirs.types.get(name) {
                return Err(format!("the types of {name}: {:?} {:?}", ours.types.get(name), theirs.types.get(name)));
            }
            if own != samples {
                let (more, less): (Vec<_>, Vec<_>) =
                    (own.difference(samples).collect(), samples.difference(own).collect());
                return Err(format!("the labels of {name}: more {more:?}, less {less:?}"));
            }
        }
        Ok((shared, all))
    });
    println!("{shared} of {all} names");
    assert_eq!(undocumented(host, 7444), [""; 0]);
    assert!(shared > 200, "{shared}");

    // A rule of the node mixin sees the same on both.
    for query in [
        "node_filesystem_avail_bytes{fstype!=\"\",mountpoint!=\"\"} / node_filesystem_size_bytes{fstype!=\"\",mountpoint!=\"\"}",
        "rate(node_cpu_seconds_total{mode!=\"idle\"}[15s])",
        "node_timex_sync_status == 0 and node_timex_maxerror_seconds >= 16",
        "increase(node_network_receive_errs_total[15s])",
    ] {
        let by_job =
            |job: &str| ask(host, &format!("count(({query}) and on(job) up{{job=\"{job}\"}})"))[0]["value"][1].clone();
        eventually(query, SOON, || {
            let (ours, theirs) = (by_job("drover"), by_job("node"));
            // A clock that is kept well answers nothing to the third.
            let is_told = theirs.is_string() || query.contains("timex");
            if is_told && ours == theirs { Ok(()) } else { Err(format!("{ours} {theirs}")) }
        });
    }
    shipped_rules_hold(host);
    shipped_dashboards_show_something(host);
    let release = ask(host, "drover_release_info{app=\"tiny\"}");
    assert_eq!(release[0]["metric"]["release"], "tiny/1", "{release:#}");
    assert_eq!(ask(host, "drover_app_state{app=\"tiny\",state=\"healthy\"}")[0]["value"][1], "1");
    let committed = "drover_events_total{app=\"tiny\",kind=\"activation-committed\"}";
    assert_eq!(ask(host, committed)[0]["value"][1], "1");
    // One may just be on its way.
    eventually("the coordinator has all events", SOON, || {
        let waits = ask(host, "drover_outbox_events + drover_outbox_dropped_events");
        if waits[0]["value"][1] == "0" { Ok(()) } else { Err(format!("{waits:#}")) }
    });
    let left = ask(host, "drover_certificate_not_after_timestamp_seconds > time() + 86400");
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left:#}");
}

fn shipped_rules_hold(host: &Host) {
    for file in ["drover.rules.yml", "drover.rules.test.yml"] {
        let path = format!("{}/../packaging/prometheus/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        host.write_file(&format!("/tmp/rules/{file}"), &text);
    }
    host.exec(&["promtool", "check", "rules", "/tmp/rules/drover.rules.yml"]).ok();
    host.exec(&["promtool", "test", "rules", "/tmp/rules/drover.rules.test.yml"]).ok();
}

/// Names of drover's own that docs/METRICS.md does not have.
pub fn undocumented(host: &Host, port: u16) -> Vec<String> {
    let own = scrape(host, port).samples.into_keys().filter(|name| name.starts_with("drover_"));
    own.filter(|name| !DOCUMENT.contains(&format!("`{name}"))).collect()
}

fn shipped_dashboards_show_something(host: &Host) {
    shipped_dashboard_shows_something(host, "host");
    shipped_dashboard_shows_something(host, "fleet");
}

/// Every question of every panel, as Grafana would ask it.
pub fn shipped_dashboard_shows_something(host: &Host, name: &str) {
    let path = format!("{}/../packaging/grafana/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let board: Value = serde_json::from_slice(&std::fs::read(&path).expect("a dashboard")).expect("JSON");
    let panels = board["panels"].as_array().into_iter().flatten();
    let asked: Vec<String> = panels
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .filter_map(|target| target["expr"].as_str())
        .map(|text| text.replace("$instance", "127.0.0.1:7444").replace("$app", ".*"))
        .map(|text| text.replace("$__rate_interval", "15s"))
        .collect();
    assert!(asked.len() > 10, "{name}: {asked:?}");
    // This host has no containers.
    for query in asked.iter().filter(|query| !query.contains("container")) {
        // A rate is there once Prometheus has read twice.
        eventually(&format!("{name}: {query}"), SOON, || {
            let told = ask(host, query);
            if told.as_array().is_some_and(|told| !told.is_empty()) { Ok(()) } else { Err(told.to_string()) }
        });
    }
}
