//! A change of one container, from the start of the command to its health, by `drover apply` and by `docker compose up -d --wait`,
//! in turn on one host with one image that is there already; and an agent that looks after ten containers.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drover_tests::{
    fleet::Fleet,
    lab::{Debian, Host, Image, Registry},
    tiny::Tiny,
};

use crate::{figure::Samples, setting, subject::Subject};

/// What both are told of the container, each in its own words.
const OURS: &str = "\
version: 1
app: ours
targets: { labels: { role: web } }
strategy: { min_healthy_time: 1ms, healthy_deadline: 30s, progress_deadline: 60s }
containers:
  ours:
    image: IMAGE
    ports: [\"8080:8080\"]
    env: [ROUND]
    healthcheck: { test: [wget, -q, -O, /dev/null, \"http://127.0.0.1:8080/health\"], interval: 1s, timeout: 2s, retries: 5 }
    stop_grace_period: 2s
env: { values: { ROUND: \"round 0\" } }
";
const THEIRS: &str = "\
services:
  theirs:
    image: IMAGE
    ports: ['8081:8080']
    environment: { ROUND: 'round 0' }
    healthcheck: { test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1:8080/health'], interval: 1s, timeout: 2s, retries: 5 }
    stop_grace_period: 2s
";
const COMPOSE_FILE: &str = "/root/theirs/docker-compose.yml";

/// `BENCH_ROUNDS`: how many changes, by each.
pub fn changes() -> String {
    let rounds = setting("BENCH_ROUNDS", 20);
    let (fleet, registry, image) = fleet();
    let host = fleet.host("w1");
    let app = Tiny::new();
    host.exec(&["mkdir", "-p", "/root/theirs"]).ok();
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for round in 0..=rounds {
        let change = |text: &str| text.replace("IMAGE", &image).replace("round 0", &format!("round {round}"));
        app.write("drover.yaml", &change(OURS));
        host.write_file(COMPOSE_FILE, change(THEIRS).as_bytes());
        let took = |command: &dyn Fn()| {
            let began = Instant::now();
            command();
            began.elapsed().as_secs_f64()
        };
        let apply = took(&|| drop(fleet.alice.apply(&app.manifest()).ok()));
        let up = took(&|| drop(host.docker(&["compose", "-f", COMPOSE_FILE, "up", "-d", "--wait"]).ok()));
        // The first one also pulls the image.
        if round > 0 {
            ours.add(apply);
            theirs.add(up);
        }
    }
    drop(registry);
    let version = host.docker(&["compose", "version", "--short"]).ok();
    format!(
        "A change of one container, its image on the host, from the start of the command to healthy, {} by each in turn; \
         peer: docker compose {} up -d --wait\n\n\
         | s | drover apply | docker compose | ratio |\n|---|---|---|---|\n| median (least-most) | {} | {} | {:.2} |\n",
        ours.len(),
        version.trim(),
        ours.spread(2),
        theirs.spread(2),
        ours.median() / theirs.median()
    )
}

/// `BENCH_IDLE_SECONDS`: how long, in windows of a sixth of it.
pub fn watched() -> String {
    let (fleet, _registry, image) = fleet();
    let host = fleet.host("w1");
    let app = Tiny::new();
    let container = |n: u32| {
        let test = "[wget, -q, -O, /dev/null, \"http://127.0.0.1:8080/health\"]";
        format!("  watched-{n}: {{ image: \"{image}\", healthcheck: {{ test: {test}, interval: 30s }} }}\n")
    };
    let ten: String = (0..10).map(container).collect();
    let head = "version: 1\napp: watched\ntargets: { labels: { role: web } }\n";
    let strategy = "strategy: { min_healthy_time: 1s, healthy_deadline: 120s, progress_deadline: 180s }\n";
    app.write("drover.yaml", &format!("{head}{strategy}containers:\n{ten}"));
    fleet.alice.apply(&app.manifest()).ok();
    let agent = Subject::new(host, "drover-agent.service", "drover-agent");
    let window = Duration::from_secs(setting("BENCH_IDLE_SECONDS", 360) / 6);
    sleep(window.min(Duration::from_secs(20)));
    let (mut rss, mut pss, mut cpu) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..6 {
        let (before, began) = (agent.cpu_seconds(), Instant::now());
        sleep(window);
        cpu.add((agent.cpu_seconds() - before) / began.elapsed().as_secs_f64() * 100.0);
        let memory = agent.memory();
        rss.add(memory.rss);
        pss.add(memory.pss);
    }
    let (rss, pss, cpu) = (rss.spread(1), pss.spread(1), cpu.spread(3));
    format!(
        "An agent that looks after ten containers, 6 windows of {} s\n\n\
         | RSS, MiB | PSS, MiB | CPU, % of a core |\n|---|---|---|\n| {rss} | {pss} | {cpu} |\n",
        window.as_secs()
    )
}

/// An app that is one container, `ours`.
pub fn one(image: &str) -> String {
    OURS.replace("IMAGE", image)
}

/// A host with Docker, a registry, and the image's name there.
pub fn fleet() -> (Fleet, Registry, String) {
    let boot = |lab: &drover_tests::lab::Lab, name: &str| -> Host { lab.docker_host_on(Debian::Trixie, name) };
    let fleet = Fleet::start_with(&["w1"], boot);
    let registry = Registry::start();
    registry.push("bench/web:1", &Image::web("one"));
    let image = registry.name("bench/web:1");
    (fleet, registry, image)
}
