//! Hosts with Docker: both versions, and what containers there can do.

use std::time::Duration;

use drover_tests::lab::{Debian, Host, Image, Lab, Registry, eventually};

const SOON: Duration = Duration::from_secs(20);

/// One host of each Debian, in the order of the names.
fn both(lab: &Lab) -> [Host; 2] {
    lab.boot(["bookworm", "trixie"], |name| {
        lab.docker_host_on(if name == "trixie" { Debian::Trixie } else { Debian::Bookworm }, name)
    })
}

/// A value of `docker inspect`.
#[track_caller]
fn inspect(host: &Host, what: &str, format: &str) -> String {
    host.docker(&["inspect", "--format", format, what]).ok()
}

#[track_caller]
fn page(host: &Host, port: u16, path: &str) -> String {
    eventually("the container answers", SOON, || host.http_get(port, path)).text()
}

#[test]
fn docker_runs_on_both_debians_and_only_where_it_was_asked_for() {
    let lab = Lab::start();
    let [bookworm, trixie] = both(&lab);
    let plain = lab.host("plain");
    let version =
        |host: &Host| host.docker(&["version", "--format", "{{.Server.Version}} {{.Server.APIVersion}}"]).ok();
    let (old, new) = (version(&bookworm), version(&trixie));
    assert!(old.starts_with("20.10.") && old.ends_with(" 1.41"), "{old}");
    assert!(new.starts_with("26."), "{new}");
    assert!(bookworm.sh("docker-compose version --short").starts_with("1.29."));
    assert!(trixie.sh("docker compose version --short").starts_with("2."));
    assert!(trixie.sh("docker-compose version --short").starts_with("2."));
    for host in [&bookworm, &trixie] {
        assert_eq!(host.wait_running(), "running", "no unit failed on {}", host.name());
        assert_eq!(host.docker(&["info", "--format", "{{.Driver}}"]).ok(), "overlay2");
    }
    assert!(!plain.is_active("docker.socket") && !plain.is_active("docker.service") && !plain.is_active("containerd"));
    assert!(!plain.exists("/run/docker.sock"));
    plain.exec(&["systemctl", "start", "docker"]).ok();
    plain.docker(&["info"]).ok();
}

#[test]
fn containers_have_ports_networks_limits_and_health() {
    let lab = Lab::start();
    let registry = Registry::start();
    registry.push("web:1", &Image::web("version 1"));
    let image = registry.name("web:1");
    for host in both(&lab) {
        let run = |args: &[&str]| host.docker(&[&["run", "-d"], args, &[&image]].concat()).ok();
        host.docker(&["network", "create", "back"]).ok();
        let limits = ["-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "--ulimit", "nofile=100:100"];
        let health = ["--health-cmd", "wget -qO- http://127.0.0.1:8080/health", "--health-interval", "1s"];
        let safe = ["--read-only", "--cap-drop", "ALL", "--user", "app"];
        run(&[&["--name", "good", "--network", "back", "-p", "80:8080"], &limits[..], &health, &safe].concat());
        run(&[&["--name", "sick", "-e", "BEHAVIOUR=sick", "--health-retries", "1"], &health[..]].concat());
        run(&["--name", "hungry", "-e", "BEHAVIOUR=hungry", "-m", "32m"]);
        run(&["--name", "crash", "-e", "BEHAVIOUR=crash", "--restart", "on-failure:2"]);
        run(&["--name", "deaf", "-e", "BEHAVIOUR=deaf", "-p", "81:8080"]);

        assert_eq!(page(&host, 80, "/"), "version 1");
        assert_eq!(page(&host, 80, "/health"), "ok");
        let args = ["run", "--rm", "--network", "back", &image, "wget", "-qO-", "http://good:8080/"];
        assert_eq!(host.docker(&args).ok(), "version 1");
        assert_eq!(host.docker(&["exec", "good", "sh", "-c", "id -un; ulimit -n"]).ok(), "app\n100");
        host.docker(&["exec", "good", "touch", "/file"]).fails();
        let half =
            "cat /sys/fs/cgroup/*/docker/*/cpu.cfs_quota_us /sys/fs/cgroup/*/docker-*/cpu.max 2>/dev/null || true";
        assert!(host.sh(half).lines().any(|line| line.starts_with("50000")), "{}", host.sh(half));
        let stats = ["stats", "--no-stream", "--format", "{{.MemUsage}}", "good"];
        assert!(host.docker(&stats).ok().ends_with("/ 64MiB"), "{}", host.docker(&stats));

        let state = |name: &str, wanted: &str, format: &str| {
            eventually(&format!("{name} is {wanted}"), SOON, || {
                let is = inspect(&host, name, format);
                if is == wanted { Ok(()) } else { Err(is) }
            });
        };
        state("good", "healthy", "{{.State.Health.Status}}");
        state("sick", "unhealthy", "{{.State.Health.Status}}");
        state("hungry", "true 137", "{{.State.OOMKilled}} {{.State.ExitCode}}");
        state("crash", "exited 2 3", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}");
        assert_eq!(page(&host, 81, "/"), "version 1");
        host.docker(&["stop", "-t", "1", "good", "deaf"]).ok();
        assert_eq!(inspect(&host, "good", "{{.State.ExitCode}}"), "0", "it listens to SIGTERM");
        assert_eq!(inspect(&host, "deaf", "{{.State.ExitCode}}"), "137", "it does not");
    }
}

#[test]
fn containers_and_images_outlive_a_reboot_and_a_power_cut() {
    let lab = Lab::start();
    let registry = Registry::start();
    registry.push("web:1", &Image::web("1"));
    let host = lab.docker_host("web-1");
    let image = registry.name("web:1");
    host.docker(&["run", "-d", "--restart", "always", "--name", "web", "-v", "kept:/kept", "-p", "80:8080", &image])
        .ok();
    host.docker(&["exec", "web", "sh", "-c", "echo data > /kept/file"]).ok();
    drop(registry);
    host.reboot();
    assert_eq!(page(&host, 80, "/"), "1");
    host.power_cut();
    host.boot();
    assert_eq!(page(&host, 80, "/"), "1");
    assert_eq!(host.docker(&["exec", "web", "cat", "/kept/file"]).ok(), "data");
}

#[test]
fn compose_projects_come_up_on_both_debians_with_names_of_docker_hub() {
    let lab = Lab::start();
    let registry = Registry::start();
    registry.push("library/web:7-small", &Image::web("from the hub"));
    let compose = "services:
  web: { image: 'web:7-small', ports: ['80:8080'] }
  built: { build: ., ports: ['81:8080'], depends_on: [web], stop_grace_period: 1s }\n";
    let hosts = both(&lab);
    for host in &hosts {
        registry.stand_in_for_hub(host);
        // 1.29 wants the version that 2 has forgotten
        host.write_file("/srv/shop/docker-compose.yml", format!("version: '3.7'\n{compose}").as_bytes());
        host.write_file("/srv/shop/Dockerfile", b"FROM web:7-small\nRUN echo built here > /www/index.html\n");
        host.sh("cd /srv/shop && docker-compose up -d --build 2>&1");
        assert_eq!(page(host, 80, "/"), "from the hub");
        assert_eq!(page(host, 81, "/").trim(), "built here");
    }
}

#[test]
fn images_fill_up_a_small_disk() {
    let lab = Lab::start();
    let registry = Registry::start();
    registry.push("web:1", &Image::web("1"));
    registry.push("large:1", &Image::web("1").ballast(100 << 20));
    let host = lab.docker_host_with_disk("small", "128m");
    let said = host.docker(&["pull", &registry.name("large:1")]).fails();
    assert!(said.contains("no space left on device"), "{said}");
    host.docker(&["pull", &registry.name("web:1")]).ok();
}
