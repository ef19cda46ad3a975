//! What units and containers use, as `/metrics` has it and as systemd and Docker count it; a process that is killed for want of memory
//! is an alert. Whichever version of cgroups the host has: `make lab-cgroup2` runs this with the second.

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    lab::{Host, Image, Registry, eventually},
    tiny::Tiny,
};

use crate::alerts_host::firing;

/// A machine that is emulated takes its time.
const SOON: Duration = Duration::from_secs(60);
const MIB: f64 = 1_048_576.0;
const CONTAINER: &str = "
containers:
  tiny-web:
    image: IMAGE
    limits: { memory: 48M }
";

/// The value of the only sample of this name that has this in its labels.
#[track_caller]
fn sample(host: &Host, name: &str, label: &str) -> f64 {
    let text = host.exec(&["curl", "-fsS", "http://127.0.0.1:7444/metrics"]).ok();
    let start = format!("{name}{{");
    let mut samples = text.lines().filter(|line| line.starts_with(&start) && line.contains(label));
    let (Some(one), None) = (samples.next(), samples.next()) else {
        panic!("{name} with {label} is not told once:\n{text}")
    };
    one.rsplit_once(' ').and_then(|(_, value)| value.parse().ok()).unwrap_or_else(|| panic!("{one}"))
}

/// Both counts, until they are as near to each other as two looks at a moving thing can be.
#[track_caller]
fn agree(what: &str, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64, by: f64) {
    eventually(what, SOON, || {
        let (ours, theirs) = (ours(), theirs());
        if ours > 0.0 && (ours - theirs).abs() <= by { Ok(()) } else { Err(format!("{ours} and {theirs}")) }
    });
}

/// A property of a unit that is a number.
#[track_caller]
fn counted(host: &Host, property: &str) -> f64 {
    let said = host.exec(&["systemctl", "show", "--value", "-p", property, "tiny.service"]).ok();
    said.trim().parse().unwrap_or_else(|error| panic!("{property}: {error}: {said}"))
}

/// What `docker stats` says that the container has in use, bytes.
#[track_caller]
fn docker_counts(host: &Host) -> f64 {
    let said = host.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "tiny-web"]).ok();
    let used = said.split_once('/').map_or(&*said, |(used, _)| used).trim();
    let number = |unit: &str| used.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    let bytes = number("MiB").map(|number| number * MIB).or_else(|| number("KiB").map(|number| number * 1024.0));
    bytes.unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn units_and_containers_are_counted_as_systemd_and_docker_count_them() {
    let fleet = Fleet::start_with(&["web-1"], |lab, name| lab.docker_host(name));
    let (host, registry) = (&fleet.hosts[0], Registry::start());
    registry.push("tiny/web:1", &Image::web("1"));
    let app = Tiny::new()
        .edit("healthy_deadline: 12s, progress_deadline: 60s", "healthy_deadline: 2m, progress_deadline: 5m")
        .append(&CONTAINER.replace("IMAGE", &registry.name("tiny/web:1")));
    fleet.alice.apply(&app.manifest()).ok();
    println!("cgroups: {}", host.exec(&["stat", "-fc", "%T", "/sys/fs/cgroup"]).ok());

    // With cgroups of version 1 systemd does not count CPU by itself.
    host.exec(&["systemctl", "set-property", "--runtime", "tiny.service", "CPUAccounting=yes"]).ok();
    let (unit, container) = ("unit=\"tiny.service\"", "name=\"tiny-web\"");
    let of_unit = |name: &str| sample(host, name, unit);
    agree("memory of the unit", || of_unit("drover_unit_memory_bytes"), || counted(host, "MemoryCurrent"), MIB);
    let by_systemd = || counted(host, "CPUUsageNSec") / 1e9;
    agree("CPU of the unit", || of_unit("drover_unit_cpu_seconds_total"), by_systemd, 0.5);
    let of_container = |name: &str| sample(host, name, container);
    let in_use = || of_container("container_memory_working_set_bytes");
    agree("memory of the container", in_use, || docker_counts(host), MIB);
    let all = of_container("container_memory_usage_bytes");
    assert!(all >= in_use() && all <= 48.0 * MIB, "{all}");

    let before = of_container("container_cpu_usage_seconds_total");
    host.docker(&["exec", "tiny-web", "timeout", "2", "sh", "-c", "while :; do :; done"]);
    let burnt = of_container("container_cpu_usage_seconds_total") - before;
    assert!((0.5..4.0).contains(&burnt), "{burnt} s of CPU in 2 s of work");

    // More than the container may have: what asks for it is killed, and only that.
    let started = host.docker(&["inspect", "-f", "{{.State.StartedAt}}", "tiny-web"]).ok();
    let hungry = host.docker(&["exec", "tiny-web", "tail", "/dev/zero"]);
    assert_eq!(hungry.status, 137, "{hungry}");
    let alert = firing(host, "oom", SOON);
    assert_eq!(alert["severity"], "warning", "{alert}");
    assert_eq!(host.docker(&["inspect", "-f", "{{.State.StartedAt}}", "tiny-web"]).ok(), started);
    assert_eq!(of_container("drover_container_restarts_total"), 0.0);
}
