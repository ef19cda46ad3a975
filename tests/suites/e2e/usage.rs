//! What units and containers use, as `/metrics` has it and as systemd and Docker count it; a process that is killed for want of memory
//! is an alert. Whichever version of cgroups the host has: `make lab-cgroup2` runs this with the second.

use std::time::{Duration, Instant};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, Image, Registry, eventually},
    tiny::Tiny,
};

use crate::alerts_host::firing;

/// A machine that is emulated takes its time, and what systemd or Docker say too late is left out of a page.
const SOON: Duration = Duration::from_secs(90);
const MIB: f64 = 1_048_576.0;
/// With cgroups of version 1 systemd does not count it by itself.
const COUNTED: &[u8] = b"[Service]\nCPUAccounting=yes\n";
/// Works for three seconds, of which the very first are not counted yet, keeps 16 MiB, and waits.
const BUSY: &str = "\
import time
kept = b'x' * (16 << 20)
while time.process_time() < 3: pass
while True: time.sleep(3600)
";
const PARTS: &str = "
  busy.service:
    user: www-data
    exec: /usr/bin/python3 -u {{ release }}/busy.py
containers:
  tiny-web:
    image: IMAGE
    limits: { memory: 48M }
checks:";

/// What the agent tells at one moment.
struct Page(String);

impl Page {
    fn of(host: &Host) -> Page {
        Page(host.exec(&["curl", "-sS", "http://127.0.0.1:7444/metrics"]).stdout)
    }
    /// The value of the only sample of this name that has this in its labels.
    fn sample(&self, name: &str, label: &str) -> Result<f64, String> {
        let start = format!("{name}{{");
        let mut samples = self.0.lines().filter(|line| line.starts_with(&start) && line.contains(label));
        let (Some(one), None) = (samples.next(), samples.next()) else {
            return Err(format!("{name} with {label} is not told once:\n{}", self.0));
        };
        one.rsplit_once(' ').and_then(|(_, value)| value.parse().ok()).ok_or_else(|| one.to_owned())
    }
    fn of_unit(&self, name: &str) -> Result<f64, String> {
        self.sample(name, "unit=\"busy.service\"")
    }
    fn of_container(&self, name: &str) -> Result<f64, String> {
        self.sample(name, "name=\"tiny-web\"")
    }
}

/// A property of the unit that is a number.
fn systemd_counts(host: &Host, property: &str) -> Result<f64, String> {
    let said = host.exec(&["systemctl", "show", "--value", "-p", property, "busy.service"]).stdout;
    said.trim().parse().map_err(|error| format!("{property}: {error}: {said}"))
}

/// What `docker stats` says that the container has in use, bytes.
fn docker_counts(host: &Host) -> Result<f64, String> {
    let said = host.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "tiny-web"]).stdout;
    let used = said.split_once("MiB").and_then(|(used, _)| used.trim().parse::<f64>().ok());
    used.map(|used| used * MIB).ok_or(said)
}

fn is_near(ours: f64, theirs: f64, least: f64) -> Result<(), String> {
    let is_near = ours >= least && (ours - theirs).abs() <= MIB;
    if is_near { Ok(()) } else { Err(format!("{ours} and {theirs}, of at least {least}")) }
}

#[test]
fn units_and_containers_are_counted_as_systemd_and_docker_count_them() {
    let fleet = Fleet::start_with(&["web-1"], |lab, name| lab.docker_host(name));
    let (host, registry) = (&fleet.hosts[0], Registry::start());
    registry.push("tiny/web:1", &Image::web("1"));
    host.write_file("/etc/systemd/system/service.d/counted.conf", COUNTED);
    let app = Tiny::new()
        .edit("healthy_deadline: 12s, progress_deadline: 60s", "healthy_deadline: 2m, progress_deadline: 5m")
        .edit("\nchecks:", &PARTS.replace("IMAGE", &registry.name("tiny/web:1")));
    app.write("app/busy.py", BUSY);
    fleet.alice.apply(&app.manifest()).ok();
    println!("cgroups: {}", host.exec(&["stat", "-fc", "%T", "/sys/fs/cgroup"]).ok());

    eventually("the unit's memory is what systemd counts", SOON, || {
        let ours = Page::of(host).of_unit("drover_unit_memory_bytes")?;
        is_near(ours, systemd_counts(host, "MemoryCurrent")?, 16.0 * MIB)
    });
    eventually("the unit's CPU is what systemd counts", SOON, || {
        let by_systemd = || systemd_counts(host, "CPUUsageNSec").map(|ns| ns / 1e9);
        let (before, ours) = (by_systemd()?, Page::of(host).of_unit("drover_unit_cpu_seconds_total")?);
        let after = by_systemd()?;
        let is_between = ours >= 2.0 && ours >= before - 1e-6 && ours <= after + 1e-6;
        if is_between { Ok(()) } else { Err(format!("{before} <= {ours} <= {after}")) }
    });

    host.docker(&["exec", "tiny-web", "dd", "if=/dev/zero", "of=/dev/shm/kept", "bs=1M", "count=16"]).ok();
    eventually("the container's memory is what Docker counts", SOON, || {
        let page = Page::of(host);
        let in_use = page.of_container("container_memory_working_set_bytes")?;
        let all = page.of_container("container_memory_usage_bytes")?;
        if all < in_use || all > 48.0 * MIB {
            return Err(format!("{in_use} of {all}"));
        }
        is_near(in_use, docker_counts(host)?, 16.0 * MIB)
    });
    let cpu = || Page::of(host).of_container("container_cpu_usage_seconds_total");
    let (begun, before) = (Instant::now(), eventually("the container's CPU is told", SOON, cpu));
    host.docker(&["exec", "-d", "tiny-web", "timeout", "60", "sh", "-c", "while :; do :; done"]).ok();
    eventually("a second of work is counted", SOON, || {
        let (risen, passed) = (cpu()? - before, begun.elapsed().as_secs_f64());
        assert!(risen <= passed + 0.5, "{risen} s in {passed} s");
        if risen >= 1.0 { Ok(()) } else { Err(format!("{risen} s")) }
    });
    host.docker(&["exec", "tiny-web", "pkill", "-f", "while"]);

    // More than the container may have: what asks for it is killed, and only that.
    let started = host.docker(&["inspect", "-f", "{{.State.StartedAt}}", "tiny-web"]).ok();
    let hungry = host.docker(&["exec", "tiny-web", "tail", "/dev/zero"]);
    assert_eq!(hungry.status, 137, "{hungry}");
    let alert = firing(host, "oom", SOON);
    assert_eq!(alert["severity"], "warning", "{alert}");
    assert_eq!(host.docker(&["inspect", "-f", "{{.State.StartedAt}}", "tiny-web"]).ok(), started);
    let restarts =
        eventually("restarts are told", SOON, || Page::of(host).of_container("drover_container_restarts_total"));
    assert_eq!(restarts, 0.0);
}
