//! From the death of a process that its manager does not start again by itself (systemd has given up on it) to its next
//! start: by the agent, beside supervisor and monit with a program of theirs. The three take turns on one host.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drover_tests::{fleet::Fleet, lab::Host, tiny::Tiny};

use crate::{
    figure::Samples,
    setting,
    subject::{install_peers, versions},
};

const PEERS: [&str; 2] = ["supervisor", "monit"];

/// Says when it started, to the nanosecond, and stays.
const PROGRAM: &str = "#!/bin/sh\ndate +%s%N >> \"$1\"\nexec sleep infinity\n";

const MANIFEST: &str = "\
version: 1
app: phoenix
targets: { labels: { role: web } }
strategy: { min_healthy_time: 1s, healthy_deadline: 30s, progress_deadline: 60s }
restart_budget: { attempts: 5, window: 1s, backoff: 100ms }
units:
  phoenix.service: { description: dies, exec: /usr/local/bin/bench-phoenix /run/bench-drover, restart: \"no\" }
";

const SUPERVISOR: &str = "\
[program:phoenix]
command=/usr/local/bin/bench-phoenix /run/bench-supervisor
autorestart=true
startsecs=0
";

const MONIT: &str = "\
set daemon 1
check process phoenix matching \"bench-monit-phoenix\"
  start program = \"/usr/local/bin/bench-monit-start\"
";

/// `BENCH_ROUNDS`: how many deaths of each.
pub fn measure() -> String {
    let rounds = setting("BENCH_ROUNDS", 100);
    let fleet = Fleet::start(&["w1"]);
    let host = fleet.host("w1");
    fleet.lab.internet();
    install_peers(host, &PEERS);
    put_program(host, "/usr/local/bin/bench-phoenix", PROGRAM);
    let start = "#!/bin/sh\ndate +%s%N >> /run/bench-monit\n\
                 exec setsid -f sh -c 'exec -a bench-monit-phoenix sleep infinity' </dev/null >/dev/null 2>&1\n";
    put_program(host, "/usr/local/bin/bench-monit-start", &start.replace("sh -c", "bash -c"));
    host.write_file("/etc/supervisor/conf.d/phoenix.conf", SUPERVISOR.as_bytes());
    host.write_file("/etc/monit/conf.d/bench", MONIT.as_bytes());
    host.exec(&["systemctl", "restart", "supervisor.service", "monit.service"]).ok();
    let app = Tiny::new();
    app.write("drover.yaml", MANIFEST);
    fleet.alice.apply(&app.manifest()).ok();

    let pids = ["drover", "supervisor", "monit"];
    let find = [
        "systemctl show --value -p MainPID phoenix.service",
        "supervisorctl pid phoenix",
        "pgrep -xf 'bench-monit-phoenix infinity'",
    ];
    let mut samples = [Samples::default(), Samples::default(), Samples::default()];
    for _ in 0..rounds {
        for (index, (name, find)) in pids.iter().zip(find).enumerate() {
            samples[index].add(one_death(host, &format!("/run/bench-{name}"), find));
        }
    }
    let [ours, supervisor, monit] = &samples;
    let mut table = format!(
        "Process dead -> started again, {} deaths each; peers: {} (monit looks every second)\n\n\
         | ms | drover-agent (systemd had given up) | supervisor | monit |\n|---|---|---|---|\n",
        ours.len(),
        versions(host, &PEERS)
    );
    let row = |name: &str, of: &dyn Fn(&Samples) -> String| {
        format!("| {name} | {} | {} | {} |\n", of(ours), of(supervisor), of(monit))
    };
    table.push_str(&row("median (least-most)", &|samples| samples.spread(1)));
    table.push_str(&row("p99", &|samples| format!("{:.1}", samples.percentile(99.0))));
    table
}

fn put_program(host: &Host, path: &str, text: &str) {
    host.write_file(path, text.as_bytes());
    host.exec(&["chmod", "0755", path]).ok();
}

/// Kills what `find` finds and waits until `log` has another start; ms from the kill.
fn one_death(host: &Host, log: &str, find: &str) -> f64 {
    let starts = |text: &str| text.lines().filter_map(|line| line.parse::<f64>().ok()).collect::<Vec<_>>();
    let until = Instant::now() + Duration::from_secs(30);
    let before = starts(&host.sh(&format!("cat {log} || true"))).len();
    // The clock is read and the process killed in one breath, by one shell.
    let killed = host.sh(&format!("pid=$({find}); date +%s%N; kill -9 $pid"));
    let killed: f64 = killed.trim().parse().unwrap_or(f64::NAN);
    loop {
        let now = starts(&host.sh(&format!("cat {log} || true")));
        if now.len() > before {
            // Long enough for every manager to call it running.
            sleep(Duration::from_millis(100));
            return (now[before] - killed) / 1e6;
        }
        assert!(Instant::now() < until, "{log}: not started again within 30 s");
        sleep(Duration::from_millis(20));
    }
}
