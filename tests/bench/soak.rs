//! The agent's memory over an hour at a hundred times the normal rate of events: is there a slope?
//!
//! A host whose units never die tells a few events a day; one in ten seconds is taken as normal for a busy one. Here nine units
//! die about ten times a second together, with ever other exit codes; each is started again at once, and each time is an event.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drover_tests::{fleet::Fleet, tiny::Tiny};

use crate::{setting, subject::Subject};

const MANIFEST: &str = "\
version: 1
app: mayfly
targets: { labels: { role: web } }
strategy: { min_healthy_time: 1ms, healthy_deadline: 30s, progress_deadline: 60s }
restart_budget: { attempts: 100, window: 1s, backoff: 100ms }
files:
  - path: /usr/local/bin/bench-mayfly
    mode: \"0755\"
    content: |
      #!/bin/bash
      until [ -e /run/mayflies ]; do sleep 0.2; done
      sleep 0.$((RANDOM % 10))
      exit $((RANDOM % 200 + 1))
units:
  mayfly-a.service: { description: dies, exec: /usr/local/bin/bench-mayfly, restart: \"no\" }
  mayfly-b.service: { description: dies, exec: /usr/local/bin/bench-mayfly, restart: \"no\" }
  mayfly-c.service: { description: dies, exec: /usr/local/bin/bench-mayfly, restart: \"no\" }
  mayfly-d.service: { description: dies, exec: /usr/local/bin/bench-mayfly, restart: \"no\" }
  mayfly-e.service: { description: dies, exec: /usr/local/bin/bench-mayfly, restart: \"no\" }
  mayfly-f.service: { description: dies, exec: /usr/local/bin/bench-mayfly, restart: \"no\" }
  mayfly-g.service: { description: dies, exec: /usr/local/bin/bench-mayfly, restart: \"no\" }
  mayfly-h.service: { description: dies, exec: /usr/local/bin/bench-mayfly, restart: \"no\" }
  mayfly-i.service: { description: dies, exec: /usr/local/bin/bench-mayfly, restart: \"no\" }
";

/// `BENCH_SOAK_MINUTES`: how long; the memory is read every twentieth of it.
pub fn measure() -> String {
    let minutes = setting("BENCH_SOAK_MINUTES", 60);
    let fleet = Fleet::start(&["w1"]);
    let host = fleet.host("w1");
    let app = Tiny::new();
    app.write("drover.yaml", MANIFEST);
    fleet.alice.apply(&app.manifest()).ok();
    // They live until the release has proven itself.
    host.write_file("/run/mayflies", b"");
    let agent = Subject::new(host, "drover-agent.service", "drover-agent");
    let (began, pid) = (Instant::now(), host.main_pid("drover-agent.service"));
    let events = || fleet.alice.json(&["events", "-n", "1"]);
    let mut rows = format!(
        "Memory at ten events a second; first {}\n\n| minute | RSS, MiB | PSS, MiB |\n|---|---|---|\n",
        events()
    );
    for _ in 0..20 {
        sleep(Duration::from_secs(minutes * 60 / 20));
        let memory = agent.memory();
        let minute = began.elapsed().as_secs() / 60;
        rows.push_str(&format!("| {minute} | {:.2} | {:.2} |\n", memory.rss, memory.pss));
    }
    assert_eq!(host.main_pid("drover-agent.service"), pid, "the agent was started again meanwhile");
    format!("{rows}\nlast {}\n", events())
}
