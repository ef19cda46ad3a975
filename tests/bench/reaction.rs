//! From the instant at which the coordinator has accepted an instruction (its rollout is in the store) to the agent's first
//! action on the host: in between it is made durable on both sides. Both clocks are this machine's.

use std::time::Duration;

use drover_tests::{fleet::Fleet, lab::Host, tiny::Tiny};
use serde_json::Value;

use crate::{figure::Samples, setting};

const MANIFEST: &str = "\
version: 1
app: note
targets: { labels: { role: web } }
strategy: { min_healthy_time: 1ms, healthy_deadline: 30s, progress_deadline: 60s }
files:
  - { path: /etc/drover-bench-note, content: \"round 0\\n\" }
";

/// `BENCH_ROUNDS`: how many releases.
pub fn measure() -> String {
    let rounds = setting("BENCH_ROUNDS", 100);
    let fleet = Fleet::start(&["w1"]);
    let host = fleet.host("w1");
    let app = Tiny::new();
    let mut samples = Samples::default();
    for round in 0..=rounds {
        app.write("drover.yaml", &MANIFEST.replace("round 0", &format!("round {round}")));
        fleet.alice.apply(&app.manifest()).ok();
        // The first one also makes what is only made once.
        if round > 0 {
            samples.add(first_action(host) - accepted(&fleet));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    format!(
        "Instruction accepted -> first action on the host, {} releases; peer: CodeDeploy's agent asks every 30 s\n\n\
         | | ms |\n|---|---|\n| median (least-most) | {} |\n| p99 | {:.1} |\n",
        samples.len(),
        samples.spread(1),
        samples.percentile(99.0)
    )
}

/// When the newest rollout was stored; Unix ms.
fn accepted(fleet: &Fleet) -> f64 {
    let rollouts = fleet.alice.json(&["rollout", "list"]);
    let newest = rollouts.as_array().into_iter().flatten().filter_map(|r| r["started_unix_ms"].as_f64());
    newest.fold(f64::NAN, f64::max)
}

/// When the journal had the last "writing …", which the agent says just before it does it; Unix ms.
fn first_action(host: &Host) -> f64 {
    let lines = host.sh("journalctl -u drover-agent.service -o json -n 40 --no-pager");
    let said: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let first =
        said.iter().rev().find(|line| line["MESSAGE"].as_str().is_some_and(|text| text.contains("writing /etc/")));
    let us = first.and_then(|line| line["__REALTIME_TIMESTAMP"].as_str()).and_then(|text| text.parse::<f64>().ok());
    us.unwrap_or(f64::NAN) / 1000.0
}
