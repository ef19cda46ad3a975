//! Artifacts that hosts fetch themselves, pushes that break off, and who unpacks.

use std::{process::Stdio, time::Duration};

use drover_tests::{
    fleet::Fleet,
    lab::eventually,
    servers::{publish, web_server},
    tiny::Tiny,
};

use crate::{assert_serving, newest_rollout};

const SOON: Duration = Duration::from_secs(40);

#[test]
fn an_archive_is_fetched_from_a_web_server_and_from_nowhere_else() {
    let fleet = Fleet::start(&["web-1"]);
    let (server, host) = (&fleet.coordinator, &fleet.hosts[0]);
    let ca = web_server(server);
    host.write_file("/usr/local/share/ca-certificates/test.crt", &ca);
    host.exec(&["update-ca-certificates"]).ok();
    let tiny = Tiny::new();
    let sha256 = publish(server, &tiny, 24);
    let base = format!("https://{}:8443", server.ip());
    let artifact = |path: &str, sha256: &str| format!("url: {base}{path}\n  sha256: {sha256}");
    let open = artifact("/open/app.tar", &sha256);
    let tiny = tiny.edit("path: ./app", &open);
    let refused = |tiny: &Tiny, words: &str| {
        let said = fleet.alice.run(&["plan", "-f", &tiny.manifest().display().to_string()]);
        assert!(said.to_string().contains(words), "{words:?} is not said:\n{said}");
    };

    // What the plan finds out.
    let mut from = open.clone();
    let mut tiny = tiny;
    for (path, words) in [
        ("/to-metadata", "redirects to https://169.254.169.254/latest/meta-data, inside a network"),
        ("/to-loopback", "redirects to https://127.0.0.1:8443/open/app.tar, inside a network"),
        ("/to-http", "which is not https"),
        ("/round", "redirects more than 5 times"),
        ("/none.tar", "answers 404"),
        ("/limited/app.tar", "answers 403"),
    ] {
        let to = artifact(path, &sha256);
        tiny = tiny.edit(&from, &to);
        refused(&tiny, words);
        from = to;
    }

    // How large it is only the server knows.
    server.sh("truncate -s 3G /srv/files/open/huge.tar");
    for (path, words) in [("/open/huge.tar", "an artifact has 2147483648 at most"), ("/open/app.tar", "MiB are free")] {
        let to = artifact(path, &sha256);
        tiny = tiny.edit(&from, &to);
        host.sh("mount -t tmpfs -o size=16m,mode=0755 tmpfs /var/lib/drover/releases");
        refused(&tiny, words);
        host.sh("umount /var/lib/drover/releases");
        from = to;
    }
    let to = artifact("/limited/app.tar", &sha256);
    tiny = tiny.edit(&from, &to);
    from = to;

    // With a token, which goes to that server only; the agent is killed on the way and goes on.
    fleet.alice.run_with_stdin(&["secret", "set", "download-token"], b"let-me-in\n").ok();
    let to = format!("{from}\n  credentials: {{ secret: download-token }}");
    let tiny = tiny.edit(&from, &to);
    let file = tiny.manifest().display().to_string();
    let shown = fleet.alice.run(&["plan", "-f", &file]);
    assert!(shown.stdout.contains(&format!("from {base}/limited/app.tar")), "{shown}");
    fleet.alice.run(&["apply", "--detach", "-f", &file]).ok();
    let part = "find /var/lib/drover/agent/blobs -name '*.part' -size +3M | grep .";
    eventually("a part has come", SOON, || host.exec(&["sh", "-c", part]).success());
    host.exec(&["systemctl", "kill", "-s", "KILL", "drover-agent"]).ok();
    eventually("it ends well", SOON, || newest_rollout(&fleet.alice, "tiny")["state"]["state"] == "succeeded");
    assert_serving(&fleet, "1");
    let asked = server.sh("cat /var/log/nginx/asked.log");
    let resumed = asked.lines().any(|line| line.contains(" 206 ") && !line.contains("bytes=0-0"));
    assert!(resumed, "it goes on where it was:\n{asked}");
    assert!(!host.journal("drover-agent").contains("let-me-in"), "the token is in the log");

    // To another origin no credentials go; and what comes must be what was said.
    let elsewhere = to.replace("/limited/app.tar", "/elsewhere");
    server.sh(": > /var/log/nginx/asked.log");
    let tiny = tiny.edit(&to, &elsewhere.replace(&sha256, &"0".repeat(64)));
    let said = fleet.alice.apply(&tiny.manifest()).fails();
    assert!(said.contains("other content"), "{said}");
    let asked = server.sh("cat /var/log/nginx/asked.log");
    let (first, second): (Vec<&str>, Vec<&str>) = asked.lines().partition(|line| line.contains("/elsewhere"));
    assert!(first.iter().all(|line| line.ends_with("auth=Bearer let-me-in")) && !first.is_empty(), "{asked}");
    assert!(second.iter().all(|line| line.ends_with("auth=-")) && !second.is_empty(), "{asked}");
    assert_serving(&fleet, "1");
}

#[test]
fn a_push_goes_on_when_the_coordinator_is_back_and_nobody_unpacks_as_root() {
    let fleet = Fleet::start(&["web-1"]);
    let tiny = Tiny::new();
    let ballast = std::fs::File::create(tiny.path().join("app/ballast")).expect("a file");
    let size = 200_u64 << 20;
    let copied = std::io::copy(
        &mut std::io::Read::take(std::fs::File::open("/dev/urandom").expect("random bytes"), size),
        &mut &ballast,
    );
    assert_eq!(copied.expect("a large file"), size);
    let mut apply = fleet.alice.command(&["apply", "-f", &tiny.manifest().display().to_string()]);
    let apply = apply.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command runs");
    let incoming = "/var/lib/drover-coordinator/blobs/incoming";
    let begun = format!("find {incoming} -type f -size +8M | grep .");
    eventually("a part has come", SOON, || fleet.coordinator.exec(&["sh", "-c", &begun]).success());
    fleet.coordinator.exec(&["systemctl", "kill", "-s", "KILL", "drover-coordinator"]).ok();
    let output = apply.wait_with_output().expect("the command ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let journal = fleet.coordinator.journal("drover-coordinator");
    let line = journal.lines().find(|line| line.contains("artifact pushed")).expect("the push is told");
    let from = line.split("from=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(from.is_some_and(|from| from >= 8 << 20), "it went on from {from:?}: {line}");
    assert_eq!(fleet.coordinator.exec(&["find", incoming, "-type", "f"]).ok(), "");
    assert_serving(&fleet, "1");
    let host = &fleet.hosts[0];
    let others = "find /var/lib/drover/releases -not -user root -o -perm /022 -not -type l | grep . && exit 1 || true";
    host.exec(&["sh", "-c", others]).ok();
    assert_eq!(host.exec(&["getent", "passwd", "drover-unpack"]).ok().split(':').nth(6), Some("/usr/sbin/nologin"));
}
