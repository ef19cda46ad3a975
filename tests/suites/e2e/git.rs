//! Artifacts from a git repository: real commits, a real server (`git http-backend` behind nginx, with TLS), and what goes
//! wrong on the way.

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    lab::eventually,
    servers::{GIT_TOKEN as TOKEN, GitServer, git_server, web_server},
    tiny::Tiny,
};

use crate::{assert_serving, newest_rollout};

const SOON: Duration = Duration::from_secs(60);

/// A fleet of one, which trusts the server on the coordinator's host.
fn fleet_with_server() -> (Fleet, GitServer) {
    let fleet = Fleet::start(&["web-1"]);
    let ca = web_server(&fleet.coordinator);
    let server = git_server(&fleet.coordinator);
    fleet.hosts[0].write_file("/usr/local/share/ca-certificates/test.crt", &ca);
    fleet.hosts[0].exec(&["update-ca-certificates"]).ok();
    (fleet, server)
}

/// Writes the manifest with this artifact: its path.
fn with(artifact: &str) -> Tiny {
    Tiny::new().edit("path: ./app", artifact)
}

#[track_caller]
fn refused_in_the_plan(fleet: &Fleet, artifact: &str, words: &str) {
    let tiny = with(artifact);
    let said = fleet.alice.run(&["plan", "-f", &tiny.manifest().display().to_string()]);
    assert!(said.to_string().contains(words), "{words:?} is not said:\n{said}");
}

#[test]
fn a_commit_is_deployed_as_it_is_and_the_next_one_after_it() {
    let (fleet, server) = fleet_with_server();
    let host = &fleet.hosts[0];
    let open = |commit: &str| server.artifact("/open/mono.git", commit);

    // What the plan finds out.
    let first = &server.first;
    refused_in_the_plan(&fleet, &server.artifact("/open/none.git", first), "none.git is no git repository");
    refused_in_the_plan(&fleet, &server.artifact("/private/mono.git", first), "check artifact.credentials");
    refused_in_the_plan(&fleet, &server.artifact("/moved/mono.git", first), "answers 302; redirects are not followed");
    host.sh("mv /usr/bin/git /usr/bin/git.away");
    refused_in_the_plan(&fleet, &open(first), "there is no git on this host; add git to host.packages");
    host.sh("mv /usr/bin/git.away /usr/bin/git");

    // What the agent starts as git has no rights, and where the kernel has Landlock it writes nowhere but in its place.
    let said = host.exec(&["drover-agent", "git", "version"]).fails();
    assert!(said.contains("it runs as root"), "{said}");
    host.sh("install -d -o drover-unpack /srv/place /srv/other");
    let init = |into: &str| {
        let there = format!("cd /srv/place && HOME=/ exec runuser -u drover-unpack -- drover-agent git init -q {into}");
        host.exec(&["sh", "-c", &there]).success()
    };
    let landlock = !host.journal("drover-agent").contains("this kernel has no Landlock");
    assert!(init("/srv/place/x") && init("/srv/other/x") != landlock, "with Landlock ({landlock}) only its own place");

    // From a server that gives only what branches lead to, an older commit, whole: no attribute of it counts.
    let old = with(&server.artifact("/old/mono.git", first));
    let shown = fleet.alice.run(&["plan", "-f", &old.manifest().display().to_string()]);
    let from = format!("from {}/old/mono.git at {}, folder services/app", server.base, &first[..12]);
    assert!(shown.stdout.contains(&from), "{from:?} is not said:\n{shown}");
    fleet.alice.apply(&old.manifest()).ok();
    assert_serving(&fleet, "$Format:%H$");
    fleet.alice.apply(&with(&open(&server.second)).manifest()).ok();
    assert_serving(&fleet, "2");

    // Nothing is touched by what does not come, or must not.
    for (commit, words) in
        [("2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", "has no commit 2fd4e1c67a2d"), (server.hostile.as_str(), "evil")]
    {
        let said = fleet.alice.apply(&with(&open(commit)).manifest()).fails();
        assert!(said.contains(words), "{words:?} is not said:\n{said}");
        assert_serving(&fleet, "2");
    }
    let said = fleet.alice.apply(&with(&open(first).replace("services/app", "services/none")).manifest()).fails();
    assert!(said.contains("has no folder services/none"), "{said}");
    assert_serving(&fleet, "2");
    assert_eq!(
        host.sh("ls -A /var/lib/drover/releases /var/lib/drover/agent/blobs | grep -v '^[a-z/]*:*$' || true"),
        ""
    );
}

#[test]
fn a_token_is_told_to_the_server_and_to_nobody_else_and_a_fetch_that_breaks_off_is_taken_up_again() {
    let (fleet, server) = fleet_with_server();
    let host = &fleet.hosts[0];
    fleet.alice.apply(&with(&server.artifact("/open/mono.git", &server.first)).manifest()).ok();
    let private = server.artifact("/private/mono.git", &server.second);
    let artifact = format!("{private}\n  credentials: {{ secret: git-token }}");

    fleet.alice.run_with_stdin(&["secret", "set", "git-token"], b"not-the-one\n").ok();
    refused_in_the_plan(&fleet, &artifact, "check artifact.credentials and the secret that it names");
    assert_serving(&fleet, "$Format:%H$");

    fleet.alice.run_with_stdin(&["secret", "set", "git-token"], format!("{TOKEN}\n").as_bytes()).ok();
    let tiny = with(&artifact);
    let file = tiny.manifest().display().to_string();
    let shown = fleet.alice.run(&["plan", "-f", &file]);
    assert!(shown.stdout.contains("1 host changes") && !shown.to_string().contains(TOKEN), "{shown}");
    fleet.alice.run(&["apply", "--detach", "-f", &file]).ok();
    let header = host.sh(&format!("printf oauth2:{TOKEN} | base64"));
    let header = header.trim();
    let coming = |name: &str, size: &str, count: usize| {
        let find = ["find", "/var/lib/drover/releases", "-path", "*/.git-*", "-name", name, "-size", size];
        eventually("a part has come", SOON, || host.exec(&find).stdout.lines().count() >= count);
    };

    // The agent goes away in the middle. Meanwhile everybody may look.
    coming("tmp_pack*", "+2M", 1);
    let seen = host.sh("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'");
    assert!(seen.contains("fetch") && !seen.contains(TOKEN) && !seen.contains(header), "{seen}");
    let users = host.sh("ps -eo user:20,args | grep '[g]it.*fetch'");
    assert!(users.lines().all(|line| line.starts_with("drover-unpack")) && !users.is_empty(), "{users}");
    assert!(!host.exec(&["runuser", "-u", "nobody", "--", "sh", "-c", "ls /var/lib/drover/releases/.git-*"]).success());
    host.exec(&["systemctl", "kill", "-s", "KILL", "drover-agent"]).ok();

    // Then the server, twice. The second time some pieces are there, and come no more.
    for (times, name, size, count) in [(1, "tmp_pack*", "+2M", 1), (2, "pack-*.pack", "+1M", 3)] {
        coming(name, size, count);
        fleet.coordinator.exec(&["systemctl", "kill", "-s", "KILL", "nginx"]).ok();
        let tried = || host.journal("drover-agent").lines().filter(|line| line.contains("trying again")).count();
        eventually("it is said", SOON, || tried() >= times);
        fleet.coordinator.sh(": > /var/log/nginx/sent.log; systemctl restart nginx");
    }
    eventually("it ends well", SOON, || newest_rollout(&fleet.alice, "tiny")["state"]["state"] == "succeeded");
    assert_serving(&fleet, "2");
    let sent = fleet.coordinator.sh("cat /var/log/nginx/sent.log");
    let sent: u64 = sent.lines().filter_map(|line| line.parse::<u64>().ok()).sum();
    assert!((1 << 20..12 << 20).contains(&sent), "16 MiB and what was there before: {sent} bytes");

    // Only the desired state, which the host must have, still knows it.
    let places = "/var/lib/drover /etc /tmp /run/systemd";
    let found = host.sh(&format!("grep -rlaF -e {TOKEN} -e {header} {places} 2>/dev/null || true"));
    let known = ["/var/lib/drover/agent/desired.json", "/var/lib/drover/agent/ledger/tiny.json"];
    assert!(found.lines().all(|path| known.contains(&path)) && found.contains(known[0]), "{found}");
    let journal = host.sh("journalctl --no-pager -o cat");
    let swept = journal.lines().any(|line| line.contains("removed what was left behind") && line.contains("/.git-"));
    assert!(swept, "the agent was killed in a fetch, and nothing was there to be removed");
    assert!(!journal.contains(TOKEN) && !journal.contains(header), "the token is in the journal");
    assert_eq!(host.sh("find /var/lib/drover/releases -name '.git-*'"), "");
}
