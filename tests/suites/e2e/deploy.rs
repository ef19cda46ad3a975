//! The main path: plan, apply, again, the next release, and what an operator sees of it.

use drover_tests::{fleet::Fleet, tiny::Tiny};

use crate::{assert_serving, newest_rollout, tiny_says};

#[test]
fn a_release_reaches_three_hosts_and_the_next_follows() {
    let fleet = Fleet::start(&["web-1", "web-2", "web-3"]);
    let tiny = Tiny::new();
    let manifest = tiny.manifest().display().to_string();

    let plan = fleet.alice.run(&["plan", "-f", &manifest]);
    assert_eq!(plan.status, 2, "changes are 2: {plan}");
    assert!(plan.stdout.contains("tiny.service") && plan.stdout.contains("web-3"), "{plan}");
    assert!(!fleet.hosts[0].exists("/etc/systemd/system/tiny.service"), "a plan touches nothing");

    let applied = fleet.alice.apply(&tiny.manifest()).ok();
    assert!(applied.contains("healthy"), "{applied}");
    assert_serving(&fleet, "1");
    assert_eq!(newest_rollout(&fleet.alice, "tiny")["state"]["state"], "succeeded");
    assert_eq!(newest_rollout(&fleet.alice, "tiny")["started_by"], "alice");

    let again = fleet.alice.run(&["plan", "-f", &manifest]);
    assert_eq!(again.status, 0, "nothing to do is 0: {again}");
    let pids: Vec<u32> = fleet.hosts.iter().map(|h| h.main_pid("tiny.service")).collect();
    fleet.alice.apply(&tiny.manifest()).ok();
    let after: Vec<u32> = fleet.hosts.iter().map(|h| h.main_pid("tiny.service")).collect();
    assert_eq!(pids, after, "applying the same again restarts nothing");

    let tiny = tiny.version("2");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_serving(&fleet, "2");
    let releases = fleet.alice.json(&["releases", "tiny"]);
    assert_eq!(releases.as_array().map(Vec::len), Some(2), "{releases}");
    let status = fleet.alice.run(&["status", "tiny"]).ok();
    assert!(status.contains("web-2") && status.contains("tiny.service"), "{status}");
    let why = fleet.alice.run(&["why", "web-1"]).ok();
    assert!(why.contains("tiny/2"), "{why}");
}

#[test]
fn only_a_changed_setting_restarts_and_secrets_are_never_shown() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = Tiny::new().edit(
        "env:\n  values: { PORT: \"8000\", GREETING: hello }",
        "env:\n  values: { PORT: \"8000\", GREETING: hello }\n  secrets: { KEY: { generate: 32 }, API: { secret: provider } }",
    );
    let server = std::fs::read_to_string(tiny.path().join("app/server.py")).expect("the server");
    tiny.write("app/server.py", &format!("import os\nprint('my key:', os.environ['API'], flush=True)\n{server}"));
    let manifest = tiny.manifest().display().to_string();
    let missing = fleet.alice.run(&["apply", "-f", &manifest]).fails();
    assert!(missing.contains("drover secret set provider"), "{missing}");

    fleet.alice.run_with_stdin(&["secret", "set", "provider"], b"s3cr3t-of-the-provider").ok();
    fleet.alice.apply(&tiny.manifest()).ok();
    let env = String::from_utf8(host.read_file("/var/lib/drover/env/tiny.env")).expect("text");
    assert!(env.contains("s3cr3t-of-the-provider") && env.contains("KEY="), "the unit gets its secrets");
    assert_eq!(host.sh("stat -c %a /var/lib/drover/env/tiny.env").trim(), "600");
    assert_eq!(host.sh("stat -c %a /var/lib/drover/agent/desired.json").trim(), "600");
    let key = env.lines().find_map(|l| l.strip_prefix("KEY=")).unwrap_or_default().trim_matches('"').to_owned();
    assert_eq!(key.len(), 64, "32 random bytes in hex");

    let changed = tiny.edit("GREETING: hello", "GREETING: good day");
    let plan = fleet.alice.run(&["plan", "-f", &manifest]);
    assert_eq!(plan.status, 2);
    assert!(plan.stdout.contains("GREETING"), "the diff is shown: {plan}");
    fleet.alice.apply(&changed.manifest()).ok();
    assert_eq!(tiny_says(host)["greeting"], "good day");
    let env = String::from_utf8(host.read_file("/var/lib/drover/env/tiny.env")).expect("text");
    assert!(env.contains(&key), "a generated secret stays the same over releases");

    assert!(host.journal("tiny").contains("my key: s3cr3t-of-the-provider"), "the program says it itself");
    let logs = fleet.alice.run(&["logs", "tiny"]).ok();
    assert!(logs.contains("my key: [secret]"), "{logs}");
    let everywhere = [
        plan.stdout,
        logs,
        fleet.alice.run(&["status", "tiny", "-o", "json"]).ok(),
        fleet.alice.run(&["secret", "list", "-o", "json"]).ok(),
        host.sh("journalctl --no-pager -u drover-agent"),
        fleet.coordinator.sh("journalctl --no-pager -u drover-coordinator"),
        host.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        fleet.coordinator.sh("strings -n 8 /var/lib/drover-coordinator/coordinator.db* || grep -a -o '[[:print:]]*' /var/lib/drover-coordinator/coordinator.db*"),
    ];
    for (i, text) in everywhere.iter().enumerate() {
        assert!(!text.contains("s3cr3t-of-the-provider") && !text.contains(&key), "a secret shows in place {i}");
    }
}

#[test]
fn the_operators_command_speaks_json_and_finishes_words() {
    let fleet = Fleet::start(&["web-1"]);
    let tiny = Tiny::new();
    let view = fleet.alice.json(&["apply", "-f", &tiny.manifest().display().to_string()]);
    assert_eq!(view["state"]["state"], "succeeded", "{view:#}");
    for args in [
        &["hosts"][..],
        &["status"],
        &["releases", "tiny"],
        &["rollout", "list"],
        &["token", "list"],
        &["operator", "list"],
        &["audit"],
    ] {
        assert!(fleet.alice.json(args).is_array(), "{args:?}");
    }
    assert_eq!(fleet.alice.json(&["hosts", "show", "web-1"])["name"], "web-1");
    let audit = fleet.alice.run(&["audit"]).ok();
    assert!(audit.contains("alice") && audit.contains("token"), "{audit}");
    let bash = fleet.alice.run(&["completion", "bash"]).ok();
    assert!(bash.contains("rollout"), "completion of the shell");
}

#[test]
fn every_mistake_is_told_at_once_and_nothing_is_sent() {
    let fleet = Fleet::start(&["web-1"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let pid = fleet.hosts[0].main_pid("tiny.service");
    let mistakes = r#"version: 1
app: Tiny
targets: { labels: { role: web } }
strategy: { max_paralel: 1, canary: 1, min_healthy_time: 10m, healthy_deadline: 5m }
artifact: { path: ../outside }
env: { values: { PORT: "80\n00" } }
units:
  tiny.service: { exec: "/bin/true\nExecStartPost=/bin/evil", user: www-data }
  tiny: { exec: /bin/true }
files:
  - { path: /etc/../passwd, content: x, mode: "4755" }
  - { path: /etc/b, from: no-such-file }
checks:
  web: { http: "ftp://x/", timeout: soon }
"#;
    tiny.write("drover.yaml", mistakes);
    let output = fleet.alice.apply(&tiny.manifest());
    assert_eq!(output.status, 1, "{output}");
    let said = output.fails();
    let each = [
        ("Tiny", 2),
        ("max_paralel", 4),
        ("canary", 4),
        ("../outside", 5),
        ("PORT", 6),
        ("exec", 8),
        ("tiny", 9),
        ("/etc/../passwd", 11),
        ("4755", 11),
        ("no-such-file", 12),
        ("soon", 14),
    ];
    for (word, line) in each {
        assert!(said.contains(word) && said.contains(&format!("drover.yaml:{line}:")), "{word} in line {line}: {said}");
    }
    assert!(said.contains("max_parallel"), "a hint for what was mistyped: {said}");
    assert_eq!(fleet.alice.json(&["releases", "tiny"]).as_array().map(Vec::len), Some(1), "nothing was sent");
    assert_eq!(fleet.hosts[0].main_pid("tiny.service"), pid);
}
