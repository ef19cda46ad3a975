//! What hosts do by themselves is told: once, in order, with the time at which it happened, whatever is cut or killed.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::mpsc,
    time::Duration,
};

use drover_tests::{
    fleet::{Cli, Fleet},
    lab::{Host, eventually},
    tiny::Tiny,
};
use serde_json::Value;

use crate::tiny_says;

const SOON: Duration = Duration::from_secs(40);

/// What is known of a host, oldest first.
#[track_caller]
fn events(cli: &Cli, host: &str) -> Vec<Value> {
    let all = cli.json(&["events", "--host", host, "-n", "10000"]);
    all.as_array().cloned().unwrap_or_default()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["kind"].as_str()).collect()
}

fn at(event: &Value) -> i64 {
    event["at_unix_ms"].as_i64().unwrap_or_default()
}

/// What the agent has logged as events since the host's first boot: `(kind, message)` in order.
fn logged(host: &Host) -> Vec<String> {
    host.journal("drover-agent").lines().filter(|line| line.contains("kind=")).map(str::to_owned).collect()
}

/// systemd starts it again.
#[track_caller]
fn end_agent(host: &Host, signal: &str) {
    let starts = || logged(host).iter().filter(|line| line.contains("agent-started")).count();
    let before = starts();
    host.exec(&["systemctl", "kill", "-s", signal, "drover-agent"]).ok();
    eventually("the agent runs again", SOON, || starts() > before);
}

#[test]
fn events_of_a_host_that_was_cut_off_arrive_once_in_order_with_their_times() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let before = events(&fleet.alice, "web-1");
    let first = kinds(&before);
    assert!(first.starts_with(&["host-enrolled"]) && first.contains(&"agent-started"), "{before:#?}");
    assert!(first.ends_with(&["activation-started", "activation-committed"]), "{before:#?}");

    // Somebody follows, over all that comes.
    let mut follower = fleet.alice.command(&["events", "-f", "-o", "json", "-n", "1"]);
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the command runs");
    let (sender, followed) = mpsc::channel();
    let lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    followed.recv_timeout(SOON).expect("the newest event to begin with");

    // A release that fails is on its way when the host is cut off; its agent is killed and stopped, and the coordinator, too.
    let tiny = tiny.version("2").behave("500").edit("healthy_deadline: 12s", "healthy_deadline: 15s");
    fleet.alice.run(&["apply", "--detach", "-f", &tiny.manifest().display().to_string()]).ok();
    eventually("the release is on the host", SOON, || {
        let activation = logged(host).iter().filter(|line| line.contains("activation-started")).count();
        // With its artifact: what is still to be fetched from a coordinator that is cut off is waited for.
        let trees = host.sh("ls /var/lib/drover/releases/tiny | wc -l");
        if activation == 2 && trees.trim() == "2" { Ok(()) } else { Err(host.journal("drover-agent")) }
    });
    host.cut(&fleet.coordinator);
    end_agent(host, "KILL");
    eventually("it is reverted", SOON, || {
        let says = tiny_says(host);
        let told = logged(host).iter().any(|line| line.contains("activation-reverted"));
        if says["version"] == "1" && told { Ok(()) } else { Err(says.to_string()) }
    });
    end_agent(host, "TERM");
    end_agent(host, "KILL");
    fleet.coordinator.exec(&["systemctl", "restart", "drover-coordinator"]).ok();
    let healed_unix_ms = host.exec(&["date", "+%s%3N"]).ok().trim().parse::<i64>().expect("a time");
    host.heal(&fleet.coordinator);

    let all = eventually("everything has arrived", SOON, || {
        let all = events(&fleet.alice, "web-1");
        let starts = kinds(&all).iter().filter(|kind| **kind == "agent-started").count();
        if starts == 4 { Ok(all) } else { Err(format!("{all:#?}")) }
    });
    let came = &all[before.len()..];
    let told: Vec<&Value> = all.iter().filter(|event| event["kind"] != "host-enrolled").collect();
    // What the coordinator asks for as the host is back may be logged already, and told later: it is awaited below.
    let expected = logged(host);
    assert!(told.len() <= expected.len(), "each once: {told:#?}\n{expected:#?}");
    for (event, line) in told.iter().zip(&expected) {
        assert!(line.contains(event["message"].as_str().expect("a message")), "{event:#}\n{line}");
    }
    assert!(came.is_sorted_by_key(at), "{came:#?}");
    let reverted = came.iter().find(|event| event["kind"] == "activation-reverted").expect("it is told");
    assert!(at(reverted) < healed_unix_ms && reverted["received_unix_ms"].as_i64() >= Some(healed_unix_ms));
    // One more, after which nothing of what went before is on its way.
    end_agent(host, "TERM");
    let more = eventually("one more has arrived", SOON, || {
        let more = events(&fleet.alice, "web-1");
        let starts = kinds(&more).iter().filter(|kind| **kind == "agent-started").count();
        if starts == 5 { Ok(more) } else { Err(format!("{more:#?}")) }
    });
    assert!(more.starts_with(&all), "nothing comes twice later: {more:#?}");
    eventually("each has arrived once", SOON, || {
        let (logged, told) = (logged(host), events(&fleet.alice, "web-1"));
        let same = logged.len() == told.len() - 1;
        if same { Ok(()) } else { Err(format!("{logged:#?} {told:#?}")) }
    });

    // The follower has seen the same, over the coordinator's restart.
    let mut seen: Vec<String> = Vec::new();
    let last = all.last().expect("events")["id"].as_i64();
    while seen.last().map(|line| id(line)) < Some(last) {
        seen.push(followed.recv_timeout(SOON).expect("the follower goes on"));
    }
    follower.kill().expect("it runs");
    follower.wait().expect("it ends");
    let of_host: Vec<Option<i64>> =
        seen.iter().filter(|line| line.contains("\"web-1\"")).map(|line| id(line)).collect();
    assert_eq!(of_host, came.iter().map(|event| event["id"].as_i64()).collect::<Vec<_>>());

    // Tables, filters, and the rollouts among them.
    let table = fleet.alice.run(&["events", "--app", "tiny", "--since", "1h"]).ok();
    assert!(table.starts_with("TIME") && !table.contains("agent-started"), "{table}");
    assert!(table.contains("rollout-started") && table.contains("activation-reverted"), "{table}");
    eventually("nothing is kept that has arrived", SOON, || {
        host.sh("cat /var/lib/drover/agent/events/*.jsonl | wc -c").trim() == "0"
    });
}

/// One event of an earlier run, as the agent keeps it.
fn kept(number: i64) -> String {
    format!(
        "{{\"seq\":{number},\"event\":{{\"at_unix_ms\":{},\"kind\":\"drift-repaired\",\"message\":\"number {number}\"}}}}\n",
        1_700_000_000_000 + number
    )
}

#[test]
fn what_was_too_much_is_dropped_and_told_and_damage_costs_one_file() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    // Its own first event would count among those that are dropped.
    eventually("its first event has arrived", SOON, || {
        kinds(&events(&fleet.alice, "web-1")).contains(&"agent-started")
    });
    host.exec(&["systemctl", "stop", "drover-agent"]).ok();
    host.sh("rm -f /var/lib/drover/agent/events/*.jsonl");
    host.write_file("/etc/drover/agent.toml", b"[events]\nmax_bytes = 16384\n");
    // As if it had been cut off for long: 30 files of 20 events, more than the limit; one damaged, and the last one torn.
    for file in 0..30_i64 {
        let mut text: String = (1..=20).map(|n| kept(file * 20 + n)).collect();
        if file == 25 {
            text = text.replacen("seq", "s\u{7}q", 1);
        }
        if file == 29 {
            text.truncate(text.len() - 5);
        }
        host.write_file(&format!("/var/lib/drover/agent/events/{file:012}-earlier.jsonl"), text.as_bytes());
    }
    host.exec(&["systemctl", "start", "drover-agent"]).ok();
    let all = eventually("they arrive", SOON, || {
        let all = events(&fleet.alice, "web-1");
        if kinds(&all).contains(&"events-dropped") { Ok(all) } else { Err(format!("{:?}", kinds(&all))) }
    });
    let numbers: Vec<i64> =
        all.iter().filter(|e| e["kind"] == "drift-repaired").map(|e| at(e) - 1_700_000_000_000).collect();
    let expected: Vec<i64> = (numbers[0]..=599).filter(|n| !(501..=520).contains(n)).collect();
    assert_eq!(numbers, expected, "the newest, in order, but those of the damaged file and the torn one");
    let told = |kind: &str| -> Vec<&str> {
        all.iter().filter(|event| event["kind"] == kind).filter_map(|event| event["message"].as_str()).collect()
    };
    let dropped: i64 =
        told("events-dropped").iter().filter_map(|text| text.split(' ').next()?.parse::<i64>().ok()).sum();
    assert_eq!(dropped, numbers[0] - 1, "{:?}", told("events-dropped"));
    let damaged = told("state-set-aside");
    assert!(damaged.len() == 1 && damaged[0].contains("000000000025-earlier.jsonl.damaged-"), "{damaged:?}");
}

#[test]
fn a_full_disk_costs_no_event_while_the_coordinator_is_there() {
    let fleet = Fleet::start_empty(&[]);
    let host = fleet.lab.host_with_disk("web-1", "300m");
    drover_tests::fleet::install(&host, "drover-agent");
    fleet.enroll(&host, &fleet.alice.token("role=web", 1));
    let starts = || kinds(&events(&fleet.alice, "web-1")).iter().filter(|kind| **kind == "agent-started").count();
    eventually("its first event arrives", SOON, || starts() == 1);
    host.cut(&fleet.coordinator);
    host.exec(&["sh", "-c", "cat /dev/zero > /var/lib/fill"]).fails();
    let before = host.main_pid("drover-agent.service");
    host.exec(&["systemctl", "kill", "-s", "KILL", "drover-agent"]).ok();
    eventually("it runs without a disk", SOON, || {
        let pid = host.main_pid("drover-agent.service");
        pid != 0 && pid != before && host.is_active("drover-agent.service")
    });
    let spooled = host.sh("cat /var/lib/drover/agent/events/*.jsonl | wc -c");
    assert_eq!(spooled.trim(), "0", "there is no room for it");
    host.heal(&fleet.coordinator);
    eventually("its event arrives from memory", SOON, || starts() == 2);
    host.exec(&["rm", "/var/lib/fill"]).ok();
    host.exec(&["systemctl", "restart", "drover-agent"]).ok();
    eventually("it spools again", SOON, || starts() == 3);
}

fn id(line: &str) -> Option<i64> {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    event["id"].as_i64()
}
