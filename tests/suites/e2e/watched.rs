//! Files that a unit or a container reads and that drover does not write: a change restarts it or tells it, once; and a
//! certificate that is renewed is put to use if it is good.

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    lab::{Host, Image, Registry, eventually},
    tiny::Tiny,
};

const SOON: Duration = Duration::from_secs(15);
/// Longer than from one look of the agent to the next.
const A_LOOK: Duration = Duration::from_secs(45);

/// Beside the web server: one unit that is restarted, and one that is told, when the library changes.
const UNITS: &str = "units:
  one.service:
    exec: /usr/bin/sleep infinity
    restart_on_change: { paths: [/srv/library, /srv/later/on/file], debounce: 500ms }
    restart_budget: { attempts: 4, window: 5m, backoff: 100ms }
  two.service:
    exec: [/usr/bin/python3, -c, \"import signal; signal.signal(signal.SIGHUP, lambda *_: open('/run/told', 'a').write('x')); [signal.pause() for _ in iter(int, 1)]\"]
    restart_on_change: { paths: /srv/library, signal: SIGHUP, debounce: 500ms }
    restart_budget: { attempts: 20, window: 5m, backoff: 100ms }
";

/// What was told about watched files of one part.
fn told(host: &Host, part: &str) -> Vec<String> {
    let journal = host.journal("drover-agent");
    let of_part = |line: &&str| line.contains("kind=files-changed") && line.contains(part);
    journal.lines().filter(of_part).map(str::to_owned).collect()
}

/// From here on a change counts.
#[track_caller]
fn wait_until_watched(host: &Host, app: &str, parts: &[&str]) {
    eventually(&format!("{parts:?} are watched"), SOON, || {
        let known = host.sh(&format!("cat /var/lib/drover/agent/upkeep/{app}.json || true"));
        let watched = known.split_once("\"watched\"").map(|(_, watched)| watched).unwrap_or_default();
        if parts.iter().all(|part| watched.contains(part)) { Ok(()) } else { Err(known) }
    });
}

/// Waits until the part has been told of so many times in all, the last time for this path.
#[track_caller]
fn wait_until_told(host: &Host, part: &str, count: usize, path: &str) {
    eventually(&format!("{part} is told of {path}"), SOON, || {
        let all = told(host, part);
        let good = all.len() == count && all.last().is_some_and(|line| line.contains(path));
        if good { Ok(()) } else { Err(format!("{all:#?}")) }
    });
}

#[test]
fn a_change_restarts_or_tells_the_part_that_reads_it_once() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = Tiny::new().edit("units:\n", UNITS);
    host.sh("mkdir -p /srv/library; echo 1 > /srv/library/a.lsp");
    fleet.alice.apply(&tiny.manifest()).ok();
    wait_until_watched(host, "tiny", &["unit one.service", "unit two.service"]);
    let bystander = host.main_pid("tiny.service");
    let (one, two) = (host.main_pid("one.service"), host.main_pid("two.service"));

    // Many at once.
    host.sh("mkdir /srv/new; for n in 1 2 3 4 5 6 7 8; do echo $n > /srv/new/$n.lsp; done; mv /srv/new /srv/library/");
    wait_until_told(host, "unit one.service restarted (1 of 4)", 1, "/srv/library/new was added, and 8 more");
    wait_until_told(host, "unit two.service sent SIGHUP", 1, "/srv/library/new was added, and 8 more");
    eventually("it is restarted", SOON, || host.main_pid("one.service") != one && host.is_active("one.service"));
    eventually("it is told", SOON, || host.exists("/run/told"));
    assert_eq!((host.main_pid("two.service"), host.read_file("/run/told").as_slice()), (two, &b"x"[..]));
    host.sh("echo 9 > /srv/library/new/9.lsp");
    wait_until_told(host, "one.service", 2, "/srv/library/new/9.lsp was added");
    wait_until_told(host, "two.service", 2, "/srv/library/new/9.lsp was added");
    // What was not there.
    host.sh("mkdir -p /srv/later/on; echo 1 > /srv/later/on/file");
    wait_until_told(host, "one.service", 3, "/srv/later/on/file was added");
    // While nobody looks; and the units go on.
    host.sh("systemctl stop drover-agent; rm /srv/library/new/3.lsp; systemctl start drover-agent");
    wait_until_told(host, "one.service", 4, "/srv/library/new was changed");
    wait_until_told(host, "two.service", 3, "/srv/library/new was changed");

    // The budget is spent: it is left, and said.
    let one = host.main_pid("one.service");
    host.sh("echo 2 > /srv/library/a.lsp");
    eventually("it is left", A_LOOK, || {
        let phase = fleet.alice.app_on("tiny", "web-1")["status"]["phase"].to_string();
        let good =
            ["/srv/library/a.lsp was changed", "restart budget is spent"].iter().all(|word| phase.contains(word));
        if good { Ok(()) } else { Err(phase) }
    });
    let spent = host.journal("drover-agent");
    assert_eq!(spent.matches("kind=restarts-spent").count(), 1, "{spent}");
    assert_eq!(host.main_pid("one.service"), one);

    // A release that writes there, and restarts one of them itself: each counts the change once. What was left is made up
    // for by that restart.
    let file = "files:\n  - { path: /srv/library/own.lsp, content: own, restart: one.service }\n";
    fleet.alice.apply(&tiny.append(file).manifest()).ok();
    assert_ne!(host.main_pid("one.service"), one);
    let one = host.main_pid("one.service");
    eventually("two.service is told of it", SOON, || {
        told(host, "two.service").last().is_some_and(|line| line.contains("/srv/library/own.lsp was added"))
    });
    host.sh("echo 3 > /srv/library/a.lsp");
    wait_until_told(host, "one.service", 5, "/srv/library/a.lsp was changed: unit one.service restarted (1 of 4)");
    eventually("it is restarted", SOON, || host.main_pid("one.service") != one && host.is_active("one.service"));
    assert_eq!(host.main_pid("tiny.service"), bystander);
}

#[test]
fn a_container_is_restarted_or_told() {
    let fleet = Fleet::start_with(&["web-1"], |lab, name| lab.docker_host(name));
    let host = &fleet.hosts[0];
    let registry = Registry::start();
    registry.push("shop/web:1", &Image::web("one"));
    let folder = tempfile::tempdir().expect("a temporary directory");
    let manifest = folder.path().join("drover.yaml");
    let container = |command: &str, signal: &str| {
        let image = registry.name("shop/web:1");
        format!(
            "{{ image: \"{image}\", command: [sh, -c, \"{command}\"], stop_grace_period: 1s, restart_on_change: {{ paths: /srv/library{signal}, debounce: 500ms }} }}"
        )
    };
    let text = format!(
        "version: 1\napp: shop\ntargets: {{ labels: {{ role: web }} }}\nstrategy: {{ min_healthy_time: 1s }}\ncontainers:\n  shop-one: {}\n  shop-two: {}\n",
        container("sleep 100000", ""),
        container("trap 'echo told' HUP; while :; do sleep 0.2; done", ", signal: SIGHUP"),
    );
    std::fs::write(&manifest, text).expect("a manifest");
    fleet.alice.apply(&manifest).ok();
    wait_until_watched(host, "shop", &["container shop-one", "container shop-two"]);
    let state = |name: &str| host.docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", name]).ok();
    let (one, two) = (state("shop-one"), state("shop-two"));
    host.sh("mkdir /srv/new; echo 1 > /srv/new/a.lsp; mv /srv/new /srv/library");
    wait_until_told(host, "container shop-one restarted (1 of 5)", 1, "/srv/library was added, and 1 more");
    wait_until_told(host, "container shop-two sent SIGHUP (1 of 5)", 1, "/srv/library was added, and 1 more");
    let now = state("shop-one");
    assert!(now != one && now.split(' ').next() == one.split(' ').next(), "the same one, started anew: {one} {now}");
    assert_eq!(state("shop-two"), two);
    eventually("it has heard", SOON, || host.docker(&["logs", "shop-two"]).stdout.contains("told"));
    eventually("all is well", A_LOOK, || {
        let phase = fleet.alice.app_on("shop", "web-1")["status"]["phase"].clone();
        if phase["state"] == "healthy" { Ok(()) } else { Err(phase.to_string()) }
    });
}

/// As certbot keeps them: links in `live` that lead to numbered files.
const ISSUE: &str = "set -e; mkdir -p /etc/letsencrypt/live/a /etc/letsencrypt/archive/a; cd /etc/letsencrypt/archive/a
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=a -set_serial NUM -keyout privkeyNUM.pem -out fullchainNUM.pem 2>/dev/null";
const USE_CHAIN: &str = "ln -sfn ../../archive/a/fullchainNUM.pem /etc/letsencrypt/live/a/fullchain.pem";
const USE_KEY: &str = "ln -sfn ../../archive/a/privkeyNUM.pem /etc/letsencrypt/live/a/privkey.pem";

const SITE: &str = "
files:
  - path: /etc/nginx/sites-enabled/secure
    content: \"server { listen 8443 ssl; ssl_certificate /etc/letsencrypt/live/a/fullchain.pem; ssl_certificate_key /etc/letsencrypt/live/a/privkey.pem; return 204; }\"
    validate: [nginx, -t]
    reload: nginx.service
certificates:
  - path: /etc/letsencrypt/live/a/fullchain.pem
    key: /etc/letsencrypt/live/a/privkey.pem
    validate: [nginx, -t]
    reload: nginx.service
";

#[test]
fn a_renewed_certificate_is_put_to_use_if_it_is_good() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let run = |scripts: &[&str], number: u32| host.sh(&scripts.join("\n").replace("NUM", &number.to_string()));
    let renew = |number| run(&[ISSUE, USE_CHAIN, USE_KEY], number);
    let serves = |number: u32| {
        let said = host.sh(
            "openssl s_client -connect 127.0.0.1:8443 </dev/null 2>/dev/null | openssl x509 -noout -serial || true",
        );
        if said.trim() == format!("serial={number:02X}") { Ok(()) } else { Err(said) }
    };
    let phase = || fleet.alice.app_on("tiny", "web-1")["status"]["phase"].to_string();
    renew(1);
    fleet.alice.apply(&Tiny::new().append(SITE).manifest()).ok();
    serves(1).expect("the first one");
    wait_until_watched(host, "tiny", &["certificate /etc/letsencrypt/live/a/fullchain.pem"]);
    let nginx = host.main_pid("nginx.service");

    renew(2);
    eventually("the second is put to use", SOON, || serves(2));
    // A new certificate whose key is still to come.
    run(&[ISSUE, USE_CHAIN], 3);
    eventually("it is refused", A_LOOK, || {
        if phase().contains("its key is another certificate's") { Ok(()) } else { Err(phase()) }
    });
    serves(2).expect("what is not good is not put to use");
    run(&[USE_KEY], 3);
    eventually("with its key it is put to use", SOON, || serves(3));
    eventually("all is well", A_LOOK, || if phase().contains("healthy") { Ok(()) } else { Err(phase()) });
    // nginx would not take it now.
    host.sh("echo broken > /etc/nginx/sites-enabled/by-hand");
    renew(4);
    eventually("it is refused", A_LOOK, || {
        if phase().contains("nginx -t failed") && phase().contains("by-hand") { Ok(()) } else { Err(phase()) }
    });
    serves(3).expect("what nginx refuses is not put to use");
    host.sh("rm /etc/nginx/sites-enabled/by-hand; systemctl stop drover-agent");
    renew(5);
    host.sh("systemctl start drover-agent");
    eventually("what came while nobody looked is put to use", SOON, || serves(5));
    assert_eq!(host.main_pid("nginx.service"), nginx, "it was only reloaded");
    let told = |kind: &str| host.journal("drover-agent").matches(&format!("kind={kind}")).count();
    assert_eq!((told("certificate-reloaded"), told("certificate-refused")), (3, 2), "{}", host.journal("drover-agent"));
}
