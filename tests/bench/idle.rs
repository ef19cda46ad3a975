//! Memory and CPU of an idle agent (one app, three units, a check, stream up) beside prometheus-node-exporter and monit,
//! which a small team would have in its place. All run on one host at the same time and are looked at in turn.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drover_tests::{fleet::Fleet, tiny::Tiny};

use crate::{
    figure::Samples,
    setting,
    subject::{Subject, install_peers, versions},
};

const PEERS: [&str; 2] = ["prometheus-node-exporter", "monit"];
/// As Prometheus does unless it is told otherwise.
const SCRAPE_EVERY: Duration = Duration::from_secs(15);

const MANIFEST: &str = "\
version: 1
app: idle
targets: { labels: { role: web } }
strategy: { min_healthy_time: 1s, healthy_deadline: 30s, progress_deadline: 60s }
units:
  idle-a.service: { description: a, exec: /bin/sleep infinity }
  idle-b.service: { description: b, exec: /bin/sleep infinity }
  idle-c.service: { description: c, exec: /bin/sleep infinity }
";

const MONIT: &str = "\
set daemon 30
check program a with path \"/bin/systemctl is-active idle-a.service\" if status != 0 then alert
check system host if memory usage > 85% then alert
check filesystem root with path / if space usage > 90% then alert
";

/// `BENCH_IDLE_SECONDS`: how long, in windows of a sixth of it.
pub fn measure() -> String {
    let fleet = Fleet::start(&["w1"]);
    let host = fleet.host("w1");
    fleet.lab.internet();
    install_peers(host, &PEERS);
    host.write_file("/etc/monit/conf.d/bench", MONIT.as_bytes());
    host.exec(&["systemctl", "restart", "monit.service"]).ok();
    let app = Tiny::new();
    app.write("drover.yaml", MANIFEST);
    fleet.alice.apply(&app.manifest()).ok();

    let agent = Subject::new(host, "drover-agent.service", "drover-agent");
    let peers = [
        Subject::new(host, "prometheus-node-exporter.service", "prometheus-node"),
        Subject::new(host, "monit.service", "monit"),
    ];
    let window = Duration::from_secs(setting("BENCH_IDLE_SECONDS", 360) / 6);
    wait(host, window.min(Duration::from_secs(20)));
    let mut figures = [Samples::default(), Samples::default(), Samples::default()];
    let mut peer_figures = [Samples::default(), Samples::default(), Samples::default()];
    for _ in 0..6 {
        let before = (agent.cpu_seconds(), peers.iter().map(Subject::cpu_seconds).sum::<f64>());
        let began = Instant::now();
        wait(host, window);
        let passed = began.elapsed().as_secs_f64();
        let after = (agent.cpu_seconds(), peers.iter().map(Subject::cpu_seconds).sum::<f64>());
        figures[2].add((after.0 - before.0) / passed * 100.0);
        peer_figures[2].add((after.1 - before.1) / passed * 100.0);
        let memory = agent.memory();
        figures[0].add(memory.rss);
        figures[1].add(memory.pss);
        let memory: Vec<_> = peers.iter().map(Subject::memory).collect();
        peer_figures[0].add(memory.iter().map(|one| one.rss).sum());
        peer_figures[1].add(memory.iter().map(|one| one.pss).sum());
    }
    let mut table = format!(
        "Idle, 6 windows of {} s; peers: {}, scraped every {} s, monit every 30 s\n\n\
         | measure | drover-agent | peers together | ratio |\n|---|---|---|---|\n",
        window.as_secs(),
        versions(host, &PEERS),
        SCRAPE_EVERY.as_secs()
    );
    let rows = [("RSS, MiB", 1), ("PSS, MiB", 1), ("CPU, % of a core", 3)];
    for ((name, decimals), (ours, theirs)) in rows.into_iter().zip(figures.iter().zip(&peer_figures)) {
        let ratio = ours.median() / theirs.median();
        table.push_str(&format!("| {name} | {} | {} | {ratio:.2} |\n", ours.spread(decimals), theirs.spread(decimals)));
    }
    table
}

/// Lets time pass as it does on a host that Prometheus watches.
fn wait(host: &drover_tests::lab::Host, time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let scrape = format!("curl -fsS -o /dev/null http://{}:9100/metrics", host.ip());
        // A scrape that fails costs the peer less, and shows in its figures.
        if !std::process::Command::new("bash").args(["-c", &scrape]).status().is_ok_and(|status| status.success()) {
            eprintln!("node-exporter did not answer a scrape");
        }
        sleep(SCRAPE_EVERY.min(left));
    }
}
