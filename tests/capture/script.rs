//! The run that is captured: an operator and a host from their first to their last word, with every verb of the one and every
//! field, job and event of the other that is practical.

use std::{path::PathBuf, process::Stdio, time::Duration};

use drover_proto::digest::Digest;
use drover_tests::{
    fleet::{Cli, install},
    lab::{self, Host, Lab, Output, eventually},
    recorder::{Keys, Recorder, Said},
    servers::{git_server, publish, web_server},
    tiny::Tiny,
};

const SOON: Duration = Duration::from_secs(40);

/// The machines, and who speaks through the recorder.
struct Scene {
    recorder: Recorder,
    coordinator: Host,
    host: Host,
    alice: Cli,
    /// Looks how far it is, unrecorded: how often depends on the machine.
    watcher: Cli,
    _lab: Lab,
}

/// All that was said.
pub fn run() -> Said {
    let scene = Scene::start();
    scene.first_words();
    scene.releases();
    scene.by_itself();
    scene.steering();
    scene.sources();
    scene.jobs_of_its_own();
    scene.broken_off();
    scene.away_and_back();
    scene.certificates();
    scene.last_words()
}

impl Scene {
    fn start() -> Scene {
        let lab = Lab::start();
        let [coordinator, host] = lab.hosts(["coordinator", "web-1"]);
        install(&coordinator, "drover-coordinator");
        install(&host, "drover-agent");
        let watcher = Cli::login(&coordinator, "watcher");
        let recorder = Recorder::start(&coordinator);
        let identity = format!("/proc/{}/root/var/lib/drover/agent/identity.json", host.leader());
        recorder.speak_for(Keys::Agent(identity.into()));
        let alice = operator(&recorder, &coordinator, "alice");
        Scene { recorder, coordinator, host, alice, watcher, _lab: lab }
    }

    fn drover(&self, args: &[&str]) -> Output {
        self.alice.run(args)
    }

    fn wait_for_event(&self, word: &str) {
        eventually(word, SOON, || self.watcher.run(&["events", "-n", "200"]).ok().contains(word));
    }

    fn connected(&self) {
        eventually("the host is connected", SOON, || {
            let hosts = self.watcher.json(&["hosts"]);
            if hosts[0]["connected"] == true { Ok(()) } else { Err(format!("{hosts:#}")) }
        });
    }

    /// The phase of an app on the host.
    fn healthy(&self, app: &str) {
        eventually("it is healthy", SOON, || {
            let status = self.watcher.app_on(app, "web-1");
            if status["status"]["phase"]["state"] == "healthy" { Ok(()) } else { Err(format!("{status:#}")) }
        });
    }

    /// Runs a command that goes on until it is interrupted.
    fn interrupted(&self, args: &[&str]) {
        let mut child = self.alice.command(args).stdout(Stdio::null()).spawn().expect("the command runs");
        std::thread::sleep(Duration::from_secs(2));
        child.kill().and_then(|()| child.wait()).expect("it ends");
    }

    /// Tokens, enrolment, labels, secrets.
    fn first_words(&self) {
        let spare = self.alice.token("role=db", 1);
        let tokens = self.alice.json(&["token", "list"]);
        let id = tokens[0]["id"].as_str().expect("a token's id").to_owned();
        self.drover(&["token", "revoke", &id]).ok();
        drop(spare);
        let token = self.alice.token("role=web", 1);
        let enroll = ["drover-agent", "enroll", "--coordinator", &self.recorder.address(), "--token", &token];
        self.host.exec(&enroll).ok();
        self.connected();
        // One label at a time: a map has no order on the wire.
        self.drover(&["hosts", "label", "web-1", "zone=a"]).ok();
        self.drover(&["hosts", "label", "web-1", "old=yes"]).ok();
        self.drover(&["hosts", "label", "web-1", "old-"]).ok();
        self.drover(&["hosts"]).ok();
        self.drover(&["hosts", "show", "web-1"]).ok();
        self.alice.run_with_stdin(&["secret", "set", "download-token"], b"let-me-in\n").ok();
        self.alice.run_with_stdin(&["secret", "set", "spare"], b"not used\n").ok();
        self.drover(&["secret", "list"]).ok();
        self.drover(&["secret", "remove", "spare"]).ok();
    }

    /// One that works, one that does not, one with all that a manifest may say, and back.
    fn releases(&self) {
        let tiny = Tiny::new();
        self.drover(&["plan", "-f", &path(&tiny)]);
        self.alice.apply(&tiny.manifest()).ok();
        self.alice.apply(&Tiny::new().version("2").behave("500").manifest()).fails();
        self.drover(&["rollout", "list", "tiny"]).ok();
        self.drover(&["rollout", "status"]).ok();
        self.drover(&["why", "web-1"]).ok();
        // Refused on the host; where it is not, it is not carried out either.
        let swap = everything().edit("host: {", "host: { swap: 64M,");
        self.drover(&["plan", "-f", &path(&swap)]);
        self.alice.apply(&everything().manifest()).ok();
        self.drover(&["logs", "tiny", "--hook", "migrate"]).ok();
        self.drover(&["logs", "tiny", "-n", "5"]).ok();
        self.interrupted(&["logs", "tiny", "-f"]);
        self.drover(&["prune", "--plan"]).ok();
        self.drover(&["import", "unit", "nginx.service", "--host", "web-1"]).ok();
        self.drover(&["status"]).ok();
        self.drover(&["status", "tiny"]).ok();
        self.drover(&["releases", "tiny"]).ok();
        self.drover(&["rollback", "tiny"]).ok();
        self.drover(&["rollback", "tiny", "--to", "3"]).ok();
    }

    /// What the agent puts right, and what it only tells.
    fn by_itself(&self) {
        self.host.sh("rm /etc/tiny.conf && echo other > /etc/tiny.reported");
        self.wait_for_event("drift-repaired");
        self.wait_for_event("drift-found");
        self.host.exec(&["systemctl", "kill", "-s", "KILL", "drover-agent"]).ok();
        self.connected();
        self.host.sh("systemctl stop tiny.service");
        self.wait_for_event("unit-restarted");
        self.drover(&["events", "--host", "web-1", "--since", "1h"]).ok();
        self.interrupted(&["events", "-f", "--app", "tiny"]);
        self.drover(&["why", "web-1", "tiny"]).ok();
        self.drover(&["restart", "tiny", "--rolling"]).ok();
    }

    /// A rollout that is paused, goes on, and is aborted.
    fn steering(&self) {
        let slow = everything().version("4").edit("min_healthy_time: 1s", "min_healthy_time: 8s");
        self.drover(&["apply", "--detach", "-f", &path(&slow)]).ok();
        let list = self.alice.json(&["rollout", "list", "tiny"]);
        let newest = list.as_array().into_iter().flatten().filter_map(|rollout| rollout["id"].as_u64()).max();
        let id = newest.expect("a rollout").to_string();
        for verb in ["pause", "resume", "abort"] {
            self.drover(&["rollout", verb, &id]).ok();
        }
        self.drover(&["rollout", "watch", &id]);
    }

    /// Artifacts that the host fetches from elsewhere.
    fn sources(&self) {
        let ca = web_server(&self.coordinator);
        self.host.write_file("/usr/local/share/ca-certificates/test.crt", &ca);
        self.host.exec(&["update-ca-certificates"]).ok();
        let sha256 = publish(&self.coordinator, &Tiny::new().version("5"), 1);
        let base = format!("https://{}:8443", self.coordinator.ip());
        let url =
            |path: &str| format!("url: {base}{path}\n  sha256: {sha256}\n  credentials: {{ secret: download-token }}");
        let unreachable = everything().edit("path: ./app", &url("/none.tar"));
        self.drover(&["plan", "-f", &path(&unreachable)]).fails();
        self.alice.apply(&everything().edit("path: ./app", &url("/limited/app.tar")).manifest()).ok();
        let git = git_server(&self.coordinator);
        let commit = git.artifact("/open/mono.git", &git.second);
        self.alice.apply(&everything().edit("path: ./app", &commit).manifest()).ok();
    }

    /// Instances and a timer.
    fn jobs_of_its_own(&self) {
        let worker = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/worker/drover.yaml"));
        self.alice.apply(&worker).ok();
        self.drover(&["status", "worker"]).ok();
    }

    /// An artifact of which half is there already, from a push and from a fetch that broke off.
    fn broken_off(&self) {
        let tiny = everything().version("6");
        let archive = tiny.path().join("app.tar");
        let mut tar = std::process::Command::new("tar");
        tar.arg("-C").arg(tiny.path().join("app")).arg("-cf").arg(&archive).arg(".");
        lab::run(&mut tar, None).ok();
        let bytes = std::fs::read(&archive).expect("an archive");
        let (half, digest) = (&bytes[..bytes.len() / 2], Digest::of(&bytes));
        let incoming = "/var/lib/drover-coordinator/blobs/incoming";
        let pushed = format!("{incoming}/{}", digest.hex());
        self.coordinator.write_file(&pushed, half);
        self.coordinator.exec(&["chown", &format!("--reference={incoming}"), &pushed]).ok();
        self.host.write_file(&format!("/var/lib/drover/agent/blobs/tiny/{}.part", digest.hex()), half);
        self.alice.apply(&tiny.edit("path: ./app", "path: app.tar").manifest()).ok();
    }

    /// A host that is left alone, emptied, and filled again; events that wait for a coordinator.
    fn away_and_back(&self) {
        self.drover(&["hosts", "cordon", "web-1"]).ok();
        self.drover(&["plan", "-f", &path(&everything())]);
        self.drover(&["hosts", "uncordon", "web-1"]).ok();
        self.drover(&["hosts", "drain", "web-1"]).ok();
        self.drover(&["hosts", "uncordon", "web-1"]).ok();
        self.healthy("tiny");
        self.healthy("worker");
        self.drover(&["remove", "worker", "--yes"]).ok();
        self.coordinator.exec(&["systemctl", "stop", "drover-coordinator"]).ok();
        self.host.sh("systemctl stop tiny.service");
        eventually("it is started again", SOON, || self.host.is_active("tiny.service"));
        self.coordinator.exec(&["systemctl", "start", "drover-coordinator"]).ok();
        self.connected();
    }

    /// A CA that is about to take over from another: everybody gets a new certificate.
    fn certificates(&self) {
        self.coordinator.exec(&["drover-coordinator", "ca", "rotate"]).ok();
        self.coordinator.exec(&["systemctl", "restart", "drover-coordinator"]).ok();
        self.connected();
        self.wait_for_event("certificate-renewed");
    }

    /// Whoever may go goes.
    fn last_words(self) -> Said {
        drop(operator(&self.recorder, &self.coordinator, "bob"));
        self.drover(&["operator", "list"]).ok();
        self.drover(&["operator", "revoke", "bob"]).ok();
        self.drover(&["audit", "-n", "200"]).ok();
        self.drover(&["events", "-n", "200"]).ok();
        self.drover(&["hosts", "revoke", "web-1"]).ok();
        self.drover(&["hosts", "remove", "web-1"]).ok();
        self.host.exec(&["systemctl", "stop", "drover-agent"]).ok();
        self.recorder.end()
    }
}

/// Somebody who logs in through the recorder.
fn operator(recorder: &Recorder, coordinator: &Host, name: &str) -> Cli {
    let cli = Cli::nobody();
    recorder.speak_for(Keys::Operator(cli.config_dir().to_owned()));
    cli.login_at(coordinator, &recorder.address(), name)
}

/// The app with whatever else a manifest may say.
fn everything() -> Tiny {
    let more = "\
restart_budget: { attempts: 4, window: 5m, backoff: 5s }
host: { packages: [curl], directories: [{ path: /var/log/tiny, owner: www-data }] }
files:
  - { path: /etc/tiny.conf, content: \"on {{ host.name }} in {{ host.label.zone }}\\n\", validate: [/bin/true] }
  - { path: /etc/tiny.reported, content: \"as it was\\n\", drift: report }
hooks:
  before_switch:
    - { name: migrate, run_once: true, user: www-data, env: [KEY], timeout: 1m, run: [/bin/echo, migrated] }
";
    Tiny::new()
        .version("3")
        .edit("GREETING: hello }", "GREETING: hello }\n  secrets: { KEY: { generate: 32 } }")
        .edit("    restart_sec: 1s", "    restart_sec: 1s\n    ports: [8000]\n    restart_budget: { attempts: 3 }")
        .append(more)
}

fn path(tiny: &Tiny) -> String {
    tiny.manifest().display().to_string()
}
