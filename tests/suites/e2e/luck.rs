//! Bad luck: state files damaged or taken from elsewhere, backups older than the hosts, disks that are full or broken,
//! a bus that goes away, a second agent. Whatever happens, what runs goes on.

mod bus;
mod disk;
mod many;
mod restored;
mod state;

use std::{path::PathBuf, time::Duration};

use drover_tests::{
    fleet::{Cli, Fleet},
    lab::{Host, eventually},
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(40);

/// Manifests of small apps: one unit that sleeps, one file. No artifact.
struct Plain(tempfile::TempDir);

impl Plain {
    fn new() -> Plain {
        Plain(tempfile::tempdir().expect("a temporary directory"))
    }

    /// The manifest of app `name`, whose file holds `content` and is named by its unit.
    fn app(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(format!("{name}.yaml"));
        let text = format!(
            "version: 1\napp: {name}\ntargets: {{ labels: {{ role: web }} }}\n\
             strategy: {{ min_healthy_time: 100ms, healthy_deadline: 20s, progress_deadline: 60s }}\n\
             files:\n  - {{ path: /etc/{name}.conf, content: \"{content}\" }}\n\
             units:\n  {name}.service: {{ exec: /bin/sleep infinity, environment: {{ CONF: /etc/{name}.conf }} }}\n"
        );
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

/// What the agent keeps in a file of its own.
const STATE: &str = "/var/lib/drover/agent";

/// Waits until the coordinator sees an app healthy on a host, and answers its state.
#[track_caller]
fn healthy(cli: &Cli, app: &str, host: &str) -> Value {
    let mut seen = Value::Null;
    eventually(&format!("{app} is healthy on {host}"), SOON, || {
        seen = cli.app_on(app, host);
        let up = seen["connected"] == true && seen["status"]["phase"]["state"] == "healthy";
        if up { Ok(()) } else { Err(format!("{seen:#}")) }
    });
    seen
}

/// Waits until all hosts are connected.
#[track_caller]
fn connected(fleet: &Fleet) {
    eventually("every host is connected", SOON, || {
        let hosts = fleet.alice.run(&["hosts", "-o", "json"]);
        let up = hosts.stdout.matches("\"connected\": true").count();
        if up == fleet.hosts.len() { Ok(()) } else { Err(hosts.to_string()) }
    });
}

/// Does something to the agent's state while the agent is stopped.
#[track_caller]
fn while_stopped(host: &Host, script: &str) {
    host.sh(&format!("systemctl stop drover-agent; cd {STATE}; {script}; systemctl start drover-agent"));
}
