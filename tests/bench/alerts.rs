//! From a condition that has come true on a host to the webhook that hears of it, over agent and coordinator: events (a unit that
//! fails, a container that dies) and a rule that is looked at each second. All clocks are this machine's.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, RUNNER, eventually},
    tiny::Tiny,
};
use serde_json::Value;

use crate::{containers, figure::Samples, setting};

const RULES: &str = r#"
[rules.failed]
when = "unit failed"

[rules.died]
when = "container gone"

[rules.full]
when = "disk /mnt/bench > 50%"
clear = "40%"
every = "1s"

[notifiers.hook]
type = "webhook"
url = "http://HOOK/"

[[routes]]
notify = ["hook"]
group_by = ["alert", "subject"]
group_interval = "1s"

[limits]
per_minute = 1000
"#;
/// Until a group may be told again.
const APART: Duration = Duration::from_millis(1200);
const PATIENCE: Duration = Duration::from_secs(60);

/// What a webhook heard: when (Unix s), and alert, subject and status of one alert.
struct Heard {
    at: f64,
    alert: String,
    subject: String,
    status: String,
}

/// `BENCH_ROUNDS`: how often each becomes true.
pub fn measure() -> String {
    let rounds = setting("BENCH_ROUNDS", 30);
    let (fleet, _registry, image) = containers::fleet();
    let host = fleet.host("w1");
    let heard = configured(&fleet);
    let app = Tiny::new();
    // One that is left as it is found: otherwise it is back before anybody has missed it.
    let left = "    stop_grace_period: 2s\n    restart: \"no\"\n    drift: report\n";
    app.write("drover.yaml", &containers::one(&image).replace("    stop_grace_period: 2s\n", left));
    fleet.alice.apply(&app.manifest()).ok();
    host.sh("mkdir -p /mnt/bench && mount -t tmpfs -o size=8m tmpfs /mnt/bench");
    // Its place among the file systems is known before it counts.
    std::thread::sleep(Duration::from_secs(3));

    let [mut failed, mut died, mut said, mut full] = std::array::from_fn(|_| Samples::default());
    for round in 0..rounds {
        let unit = format!("bench-{round}");
        host.sh(&format!("systemd-run -q --unit={unit} sh -c 'date +%s.%N > /run/at; exit 1'"));
        failed.add((wait(&heard, "failed", &unit, "firing") - at(host)) * 1000.0);
        host.exec(&["systemctl", "reset-failed", &unit]).ok();

        host.docker(&["kill", "ours"]).ok();
        let told = wait(&heard, "died", "ours", "firing");
        host.sh("date -d \"$(docker inspect -f '{{.State.FinishedAt}}' ours)\" +%s.%N > /run/at");
        died.add((told - at(host)) * 1000.0);
        said.add((told - die_event(host)) * 1000.0);
        host.docker(&["start", "ours"]).ok();
        wait(&heard, "died", "ours", "resolved");

        host.sh("head -c 6M /dev/zero > /mnt/bench/fill; date +%s.%N > /run/at");
        full.add((wait(&heard, "full", "/mnt/bench", "firing") - at(host)) * 1000.0);
        host.sh("rm /mnt/bench/fill");
        wait(&heard, "full", "/mnt/bench", "resolved");
        std::thread::sleep(APART);
    }
    let row = |name: &str, s: &Samples| format!("| {name} | {} | {:.0} |\n", s.spread(0), s.percentile(99.0));
    format!(
        "Condition true -> webhook received, {rounds} of each\n\n| ms | median (least-most) | p99 |\n|---|---|---|\n{}{}{}{}",
        row("a unit fails", &failed),
        row("a container dies: Docker's event", &said),
        row("a container dies: the end of its process, of which Docker tells later", &died),
        row("a disk, looked at each second", &full)
    )
}

/// Has the coordinator tell this program.
fn configured(fleet: &Fleet) -> Receiver<Heard> {
    let listener = TcpListener::bind((RUNNER, 0)).expect("an address");
    let address = listener.local_addr().expect("an address").to_string();
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || serve(&stream, &sender));
        }
    });
    let coordinator = &fleet.coordinator;
    coordinator.write_file("/etc/drover/alerting.toml", RULES.replace("HOOK", &address).as_bytes());
    coordinator.exec(&["drover-coordinator", "check-alerting"]).ok();
    coordinator.exec(&["systemctl", "reload", "drover-coordinator"]).ok();
    eventually("the webhook is known", PATIENCE, || {
        let tested = fleet.alice.run(&["notify", "test", "hook"]);
        if tested.status == 0 { Ok(()) } else { Err(tested.to_string()) }
    });
    heard
}

/// One connection, which may bring several.
fn serve(stream: &TcpStream, sender: &Sender<Heard>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.trim_end().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let at = now();
        let mut answer = stream;
        answer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        for alert in body["alerts"].as_array().into_iter().flatten() {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (labels, status) = (&alert["labels"], word(&alert["status"]));
            let heard = Heard { at, alert: word(&labels["alert"]), subject: word(&labels["subject"]), status };
            if sender.send(heard).is_err() {
                return;
            }
        }
    }
}

/// When it was heard; what else is heard meanwhile is passed over.
fn wait(heard: &Receiver<Heard>, alert: &str, subject: &str, status: &str) -> f64 {
    loop {
        let one =
            heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{alert} of {subject} was not told as {status}"));
        if one.alert == alert && one.subject.trim_end_matches(".service") == subject && one.status == status {
            return one.at;
        }
    }
}

/// When the host made it true.
fn at(host: &Host) -> f64 {
    host.sh("cat /run/at").trim().parse().expect("a time")
}

/// When Docker told that a container has died; the last time.
fn die_event(host: &Host) -> f64 {
    let events = host.sh(
        "docker events --since 60s --until \"$(date +%s.%N)\" --filter event=die --format '{{.TimeNano}}' | tail -n 1",
    );
    events.trim().parse::<f64>().expect("a time") / 1e9
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
