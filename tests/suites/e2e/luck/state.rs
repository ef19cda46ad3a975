//! State files of the agent that are damaged, cut off or another's: put aside, said, and known again.

use drover_tests::{fleet::Fleet, tiny::Tiny};

use super::{Plain, SOON, STATE, connected, healthy, while_stopped};
use crate::tiny_says;

#[test]
fn a_state_that_is_damaged_or_anothers_comes_back_by_itself() {
    let fleet = Fleet::start(&["web-1"]);
    let (tiny, plain) = (Tiny::new(), Plain::new());
    fleet.alice.apply(&tiny.manifest()).ok();
    fleet.alice.apply(&plain.app("plain", "one")).ok();
    let host = &fleet.hosts[0];
    let pids = || [host.main_pid("tiny.service"), host.main_pid("plain.service")];
    let before = pids();
    let agent_says = |words: &[&str]| {
        drover_tests::lab::eventually(&format!("the agent says {words:?}"), SOON, || {
            let said = host.journal("drover-agent");
            if words.iter().all(|word| said.contains(word)) { Ok(()) } else { Err(said) }
        });
    };

    // Cut off, of another app, and no JSON at all.
    while_stopped(
        host,
        "truncate -s 300 ledger/tiny.json desired.json; cp ledger/tiny.json ledger/none.json; echo x > status.json",
    );
    agent_says(&["the desired state on disk", "a ledger is damaged", "tiny/1 has it, and is this app's again"]);
    connected(&fleet);
    healthy(&fleet.alice, "tiny", "web-1");
    healthy(&fleet.alice, "plain", "web-1");
    assert_eq!(pids(), before, "nothing is started anew");
    let events = fleet.alice.run(&["events", "--host", "web-1"]).ok();
    assert!(events.contains("state-set-aside") && events.contains("state-recovered"), "{events}");

    // The ledger of one app in the place of another's, and the desired state of another host, which has fewer apps.
    while_stopped(
        host,
        "cp ledger/tiny.json ledger/plain.json; \
         python3 -c \"import json; d=json.load(open('desired.json')); d['host']='h-00000000000000ff'; del d['apps']['plain']; \
         json.dump(d, open('desired.json','w'))\"",
    );
    agent_says(&["it is of app tiny", "it is of host h-00000000000000ff", "plain/1 has it, and is this app's again"]);
    connected(&fleet);
    healthy(&fleet.alice, "plain", "web-1");
    healthy(&fleet.alice, "tiny", "web-1");
    assert_eq!(pids(), before, "nothing is started anew, and nothing is removed");

    // What is known again is as good as before: the next release, and a removal that leaves nothing.
    let tiny = tiny.version("2");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_eq!(tiny_says(host)["version"], "2");
    fleet.alice.run(&["remove", "plain", "--yes"]).ok();
    assert!(!host.exists("/etc/plain.conf") && !host.exists("/etc/systemd/system/plain.service"));

    // Somebody has changed a file: then nobody can say whose the rest is, and that is said.
    while_stopped(host, "truncate -s 0 ledger/tiny.json; echo '# mine' >> /etc/systemd/system/tiny.service");
    connected(&fleet);
    let pid = host.main_pid("tiny.service");
    let tiny = tiny.version("3");
    let said = fleet.alice.apply(&tiny.manifest()).fails();
    assert!(said.contains("adopt: true") && said.contains("was damaged and lies in"), "{said}");
    assert_eq!((host.main_pid("tiny.service"), &tiny_says(host)["version"]), (pid, &"2".into()));
}

#[test]
fn a_damaged_identity_and_a_damaged_download_are_said_and_survived() {
    let fleet = Fleet::start(&["web-1"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let host = &fleet.hosts[0];
    let pid = host.main_pid("tiny.service");
    while_stopped(host, "cp -p identity.json /root/; truncate -s 100 identity.json");
    drover_tests::lab::eventually("the agent says it", SOON, || {
        let said = host.journal("drover-agent");
        if said.contains("identity.json is damaged; enroll this host again") { Ok(()) } else { Err(said) }
    });
    drover_tests::lab::eventually("the status says it, and what runs", SOON, || {
        let status = host.exec(&["drover-agent", "status"]).ok();
        if status.contains("not enrolled") && status.contains("\"tiny\"") { Ok(()) } else { Err(status) }
    });
    let aside = host.sh(&format!("ls {STATE}"));
    assert!(aside.contains("identity.json.damaged-"), "{aside}");
    // It is looked for while the agent runs.
    host.sh(&format!("cp -p /root/identity.json {STATE}/"));
    connected(&fleet);
    assert_eq!(host.main_pid("tiny.service"), pid);

    // What a broken disk left of a download: other content, and more than there is.
    let tiny = tiny.version("2");
    for (version, garbage) in [("2", "head -c 100 /dev/urandom"), ("3", "head -c 10000000 /dev/urandom")] {
        let tiny = Tiny::new().version(version);
        let plan = fleet.alice.run(&["plan", "-o", "json", "-f", &tiny.manifest().display().to_string()]).stdout;
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("a plan");
        let steps = plan["hosts"][0]["outcome"]["planned"]["steps"].as_array().cloned().unwrap_or_default();
        let digest = steps.iter().find_map(|step| step["action"]["fetch"]["digest"].as_str().map(str::to_owned));
        let digest = digest.unwrap_or_else(|| panic!("{plan:#}"));
        let part = format!("{STATE}/blobs/tiny/{}.part", digest.trim_start_matches("sha256:"));
        host.sh(&format!("mkdir -p {STATE}/blobs/tiny; {garbage} > {part}"));
        fleet.alice.apply(&tiny.manifest()).ok();
        assert_eq!(tiny_says(host)["version"], version);
    }
    drop(tiny);
}
