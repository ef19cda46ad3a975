//! Tokens, certificates, and hosts that claim to be others.

use std::time::Duration;

use drover_tests::{
    fleet::{Cli, Fleet, install},
    lab::eventually,
    tiny::Tiny,
};

#[test]
fn a_token_is_good_for_what_it_says_and_no_more() {
    let fleet = Fleet::start_empty(&["web-1", "web-2"]);
    let (first, second) = (&fleet.hosts[0], &fleet.hosts[1]);
    let enroll = |host: &drover_tests::lab::Host, token: &str| {
        host.exec(&["drover-agent", "enroll", "--coordinator", &fleet.address(), "--token", token])
    };

    let once = fleet.alice.token("role=web", 1);
    enroll(first, &once).ok();
    let used = enroll(second, &once).fails();
    assert!(used.contains("used up"), "{used}");

    let short = fleet.alice.run(&["token", "create", "--labels", "role=web", "--ttl", "1s", "--uses", "1"]).ok();
    let short = short.split_whitespace().find(|w| w.starts_with("drover-join-")).expect("a token").to_owned();
    std::thread::sleep(Duration::from_millis(1500));
    let expired = enroll(second, &short).fails();
    assert!(expired.contains("expired"), "{expired}");

    let cut = enroll(second, &once[..once.len() - 4]).fails();
    assert!(cut.contains("whole token"), "{cut}");

    let revoked = fleet.alice.token("role=web", 1);
    let list = fleet.alice.json(&["token", "list"]);
    let newest = list
        .as_array()
        .into_iter()
        .flatten()
        .filter(|t| t["state"] == "valid")
        .map(|t| t["id"].to_string())
        .next()
        .expect("a valid token");
    fleet.alice.run(&["token", "revoke", newest.trim_matches('"')]).ok();
    let refused = enroll(second, &revoked).fails();
    assert!(refused.contains("revoked"), "{refused}");

    let name_taken = second
        .exec(&[
            "drover-agent",
            "enroll",
            "--coordinator",
            &fleet.address(),
            "--name",
            "web-1",
            "--token",
            &fleet.alice.token("role=web", 1),
        ])
        .fails();
    assert!(name_taken.contains("web-1"), "{name_taken}");
    assert_eq!(fleet.alice.json(&["hosts"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn another_coordinators_word_counts_for_nothing() {
    let fleet = Fleet::start(&["web-1"]);
    let foreign = fleet.lab.host("foreign");
    install(&foreign, "drover-coordinator");
    let mallory = Cli::login(&foreign, "mallory");

    // A token of the other coordinator: its fingerprint does not fit this one.
    let web = fleet.lab.host("web-2");
    install(&web, "drover-agent");
    let token = mallory.token("role=web", 5);
    let said = web.exec(&["drover-agent", "enroll", "--coordinator", &fleet.address(), "--token", &token]).fails();
    assert!(said.contains("fingerprint"), "{said}");
    assert!(!web.exists("/var/lib/drover/agent/identity.json"), "nothing was written");

    // Credentials of the other coordinator, pointed at this one: neither side accepts the other.
    let config = std::fs::read_to_string(mallory.config_dir().join("config.toml")).expect("the login");
    let pointed = config.replace(&foreign.ip().to_string(), &fleet.coordinator.ip().to_string());
    assert_ne!(config, pointed);
    std::fs::write(mallory.config_dir().join("config.toml"), &pointed).expect("the login");
    std::fs::copy(fleet.alice.config_dir().join("ca.crt"), mallory.config_dir().join("ca.crt")).expect("the CA");
    let said = mallory.run(&["hosts"]).fails();
    assert!(said.contains("certificate") && !said.contains("web-1"), "{said}");
    assert_eq!(fleet.alice.json(&["hosts"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_host_speaks_only_for_itself() {
    let fleet = Fleet::start(&["web-1", "web-2"]);
    let (first, second) = (&fleet.hosts[0], &fleet.hosts[1]);
    // The second host claims the first one's id, with its own certificate.
    let of_first = String::from_utf8(first.read_file("/var/lib/drover/agent/identity.json")).expect("text");
    let of_second = String::from_utf8(second.read_file("/var/lib/drover/agent/identity.json")).expect("text");
    let id = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).expect("json")["host"].as_str().expect("an id").to_owned()
    };
    let posing = of_second.replace(&id(&of_second), &id(&of_first));
    second.exec_with_stdin(&["tee", "/var/lib/drover/agent/identity.json"], posing.as_bytes()).ok();
    second.exec(&["systemctl", "restart", "drover-agent"]).ok();
    eventually("the second host is still the second", Duration::from_secs(20), || {
        let hosts = fleet.alice.json(&["hosts"]);
        let up = hosts.as_array().into_iter().flatten().filter(|h| h["connected"] == true).count();
        if up == 2 { Ok(()) } else { Err(format!("{hosts:#}")) }
    });
    // What it reports is filed under the host of its certificate, and a spec made for the first host never reaches it.
    let tiny = Tiny::new().edit("on_failure: rollback", "on_failure: continue");
    fleet.alice.apply(&tiny.manifest()).fails();
    let state = |host: &str| fleet.alice.app_on("tiny", host)["status"]["phase"]["state"].clone();
    assert_eq!(state("web-1"), "healthy", "the honest host is served");
    assert_ne!(state("web-2"), "healthy", "the one that poses refuses a spec that is not for the id it claims");
    assert!(!second.exists("/etc/systemd/system/tiny.service"));
    second.exec_with_stdin(&["tee", "/var/lib/drover/agent/identity.json"], of_second.as_bytes()).ok();
    second.exec(&["systemctl", "restart", "drover-agent"]).ok();

    // A host's certificate opens no operator's door.
    let own: serde_json::Value = serde_json::from_str(&of_first).expect("json");
    let der = |field: &str| hex(own[field].as_str().expect("hex"));
    let thief = Cli::with_credentials(&fleet.alice, &der("key"), &der("certificate"), &der("ca"));
    let said = thief.run(&["hosts"]).fails();
    assert!(said.contains("[forbidden]"), "{said}");

    // An operator who is revoked is out at once.
    let bob = Cli::login(&fleet.coordinator, "bob");
    bob.run(&["hosts"]).ok();
    fleet.alice.run(&["operator", "revoke", "bob"]).ok();
    let said = bob.run(&["hosts"]).fails();
    assert!(said.contains("revoked"), "{said}");

    fleet.alice.run(&["hosts", "remove", "web-1"]).ok();
    eventually("a removed host is turned away", Duration::from_secs(20), || {
        let log = first.journal("drover-agent");
        if log.contains("refuses this host") { Ok(()) } else { Err(log) }
    });
}

#[test]
fn a_revoked_host_is_cut_off_and_comes_back_with_nothing() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let pid = host.main_pid("tiny");
    let row = || fleet.alice.json(&["hosts"])[0].clone();
    let before = row()["id"].clone();

    let mut following = fleet.alice.command(&["logs", "tiny", "-f"]);
    let following = following.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut following = following.spawn().expect("drover logs");
    fleet.alice.run(&["hosts", "revoke", "web-1"]).ok();
    eventually("nobody follows its logs any more", Duration::from_secs(10), || {
        following.try_wait().expect("a child").map(drop).ok_or_else(|| "it goes on".to_owned())
    });
    assert!(row()["revoked_unix_ms"].is_i64() && row()["connected"] == false, "{:#}", row());
    assert!(fleet.alice.run(&["hosts"]).ok().contains("revoked"));
    eventually("the agent is told", Duration::from_secs(20), || {
        let log = host.journal("drover-agent");
        if log.contains("removed or revoked") { Ok(()) } else { Err(log) }
    });
    let said = fleet.alice.apply(&tiny.version("2").manifest()).fails();
    assert!(said.contains("[no-targets]"), "{said}");

    // It comes back under its name, with what the token says and nothing else.
    let token = fleet.alice.token("role=other", 1);
    host.exec(&["drover-agent", "enroll", "--coordinator", &fleet.address(), "--token", &token, "--replace"]).ok();
    eventually("it is back", Duration::from_secs(20), || {
        if row()["connected"] == true { Ok(()) } else { Err(format!("{:#}", row())) }
    });
    let now = row();
    assert_ne!(now["id"], before);
    assert!(now["labels"]["role"] == "other" && now["labels"].as_object().map(|l| l.len()) == Some(1), "{now:#}");
    assert!(now["apps"].as_object().is_some_and(|apps| apps.is_empty()), "{now:#}");
    assert!(now["revoked_unix_ms"].is_null(), "{now:#}");
    assert_eq!(host.main_pid("tiny"), pid, "what ran goes on running");
    // Labelled into the app's targets, it gets the app as any host does; nothing is restarted for that.
    fleet.alice.run(&["hosts", "label", "web-1", "role=web"]).ok();
    eventually("it has the app again", Duration::from_secs(20), || {
        let app = fleet.alice.app_on("tiny", "web-1");
        if app["status"]["phase"]["state"] == "healthy" { Ok(()) } else { Err(format!("{app:#}")) }
    });
    assert_eq!(host.main_pid("tiny"), pid, "it runs the same release, so it was not restarted");

    // One's own access is not taken away by a slip.
    let said = fleet.alice.run(&["operator", "revoke", "alice"]).fails();
    assert!(said.contains("[not-confirmed]"), "{said}");
    fleet.alice.run(&["operator", "revoke", "alice", "--yes"]).ok();
    assert!(fleet.alice.run(&["hosts"]).fails().contains("[revoked]"));
}

fn hex(text: &str) -> Vec<u8> {
    let digits = |i: usize| u8::from_str_radix(&text[i..i + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digits).collect()
}
