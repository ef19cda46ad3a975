//! A host that looks after itself: drift put right, units started again, budgets, and the coordinator gone all along.

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually},
    tiny::Tiny,
};

/// Longer than from one look to the next.
const A_LOOK: Duration = Duration::from_secs(45);
const SOON: Duration = Duration::from_secs(10);

/// Two idle services beside the web server, and a site of nginx.
const MORE: &str = "
files:
  - { path: /etc/nginx/sites-enabled/tiny, content: \"server { listen 81; return 204; }\\n\", validate: [nginx, -t], reload: nginx.service }
  - { path: /etc/tiny.conf, content: \"one\\n\", mode: \"0640\" }
";

fn idle(tiny: Tiny, name: &str, more: &str) -> Tiny {
    tiny.edit("units:\n", &format!("units:\n  {name}: {{ exec: /usr/bin/sleep infinity{more} }}\n"))
}

fn events(host: &Host) -> String {
    host.journal("drover-agent")
}

#[track_caller]
fn wait_for_event(host: &Host, kind: &str, words: &str, within: Duration) {
    eventually(&format!("{kind}: {words}"), within, || {
        let journal = events(host);
        let said = journal.lines().any(|line| line.contains(&format!("kind={kind}")) && line.contains(words));
        if said { Ok(()) } else { Err(journal) }
    });
}

#[track_caller]
fn problems(fleet: &Fleet, host: &str) -> String {
    fleet.alice.app_on("tiny", host)["status"]["phase"].to_string()
}

#[test]
fn drift_is_put_right_with_the_coordinator_gone_and_restarts_nothing() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = idle(idle(Tiny::new(), "one.service", ""), "two.service", "").append(MORE);
    fleet.alice.apply(&tiny.manifest()).ok();
    fleet.coordinator.exec(&["systemctl", "stop", "drover-coordinator"]).ok();
    let pids = ["tiny.service", "one.service"].map(|unit| host.main_pid(unit));
    let unit = host.read_file("/etc/systemd/system/tiny.service");
    let (nginx, site) = (host.main_pid("nginx.service"), host.read_file("/etc/nginx/sites-enabled/tiny"));

    host.sh("rm /etc/systemd/system/tiny.service
         echo '# edited' >> /etc/systemd/system/one.service; systemctl daemon-reload
         echo 'this is no site' > /etc/nginx/sites-enabled/tiny
         echo two > /etc/tiny.conf; chmod 666 /etc/tiny.conf
         systemctl disable one.service");
    // One that is stopped, or masked over a stop, does not wait for a look.
    host.exec(&["systemctl", "stop", "two.service"]).ok();
    eventually("two.service is started again", SOON, || host.is_active("two.service"));
    host.sh("ln -sf /dev/null /etc/systemd/system/two.service; systemctl daemon-reload; systemctl kill two.service");
    eventually("it is unmasked and started", A_LOOK, || host.is_active("two.service"));

    wait_for_event(host, "drift-repaired", "/etc/nginx/sites-enabled/tiny was changed", A_LOOK);
    wait_for_event(host, "drift-repaired", "/etc/systemd/system/tiny.service was removed", A_LOOK);
    wait_for_event(host, "drift-repaired", "two.service was masked", A_LOOK);
    wait_for_event(host, "unit-restarted", "two.service", SOON);
    assert_eq!(host.read_file("/etc/systemd/system/tiny.service"), unit);
    assert!(!String::from_utf8_lossy(&host.read_file("/etc/systemd/system/one.service")).contains("edited"));
    assert_eq!(host.read_file("/etc/nginx/sites-enabled/tiny"), site);
    assert_eq!(host.sh("cat /etc/tiny.conf; stat -c %a /etc/tiny.conf").trim(), "one\n640");
    assert_eq!(host.sh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:81/").trim(), "204");
    for name in ["tiny.service", "one.service", "two.service"] {
        assert_eq!(host.property(name, "UnitFileState"), "enabled", "{name}");
        assert_eq!(host.property(name, "NeedDaemonReload"), "no", "{name}");
    }
    assert_eq!(
        ["tiny.service", "one.service"].map(|unit| host.main_pid(unit)),
        pids,
        "nothing that runs was restarted"
    );
    assert_eq!(host.main_pid("nginx.service"), nginx);

    // Drift while the agent is down is put right when it is back, and nothing else happens then.
    host.sh(
        "systemctl stop drover-agent; rm /etc/tiny.conf /etc/systemd/system/one.service; systemctl start drover-agent",
    );
    eventually("it is put right", SOON, || {
        host.exists("/etc/tiny.conf") && host.exists("/etc/systemd/system/one.service")
    });
    assert_eq!(["tiny.service", "one.service"].map(|unit| host.main_pid(unit)), pids);

    fleet.coordinator.exec(&["systemctl", "start", "drover-coordinator"]).ok();
    eventually("all is well for the coordinator", A_LOOK, || {
        let phase = fleet.alice.app_on("tiny", "web-1")["status"]["phase"].clone();
        if phase["state"] == "healthy" { Ok(()) } else { Err(phase.to_string()) }
    });
}

#[test]
fn a_process_that_read_what_was_wrong_is_restarted() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = idle(Tiny::new(), "one.service", "");
    fleet.alice.apply(&tiny.manifest()).ok();
    let bystander = host.main_pid("tiny.service");
    host.sh("sed -i 's/sleep infinity/sleep 12345/' /etc/systemd/system/one.service
         systemctl daemon-reload; systemctl restart one.service");
    let wrong = host.main_pid("one.service");
    eventually("it runs what the release says", A_LOOK, || {
        let line = host.exec(&["ps", "-o", "args=", "-p", &host.main_pid("one.service").to_string()]).stdout;
        if line.contains("infinity") { Ok(()) } else { Err(line) }
    });
    assert_ne!(host.main_pid("one.service"), wrong);
    assert_eq!(host.main_pid("tiny.service"), bystander);
    wait_for_event(host, "drift-repaired", "one.service restarted", SOON);
}

#[test]
fn what_says_report_or_ignore_is_left_as_it_is() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = idle(Tiny::new(), "one.service", ", drift: report");
    let tiny = idle(tiny, "two.service", ", drift: ignore").append(
        "files:
  - { path: /etc/reported, content: a, drift: report }
  - { path: /etc/ignored, content: a, drift: ignore }",
    );
    fleet.alice.apply(&tiny.manifest()).ok();
    host.sh("echo b > /etc/reported; echo b > /etc/ignored; systemctl stop one.service two.service");
    wait_for_event(host, "drift-found", "/etc/reported was changed", A_LOOK);
    wait_for_event(host, "drift-found", "one.service was not running", SOON);
    eventually("it is reported", SOON, || {
        let phase = problems(&fleet, "web-1");
        let (reported, ignored) = (["/etc/reported", "one.service"], ["/etc/ignored", "two.service"]);
        let good = reported.iter().all(|w| phase.contains(w)) && !ignored.iter().any(|w| phase.contains(w));
        if good { Ok(()) } else { Err(phase) }
    });
    assert_eq!(host.sh("cat /etc/reported /etc/ignored").trim(), "b\nb");
    assert!(!host.is_active("one.service") && !host.is_active("two.service"));
    let told = |line: &str| line.contains("kind=drift") && line.contains("/etc/ignored");
    assert!(!events(host).lines().any(told), "it is not even told");
}

#[test]
fn a_unit_that_systemd_gave_up_on_is_started_within_its_budget() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = idle(Tiny::new(), "one.service", ", restart_budget: { attempts: 2, window: 5m, backoff: 500ms }");
    fleet.alice.apply(&tiny.manifest()).ok();
    let bystander = host.main_pid("tiny.service");
    let again = |what: &str| {
        let pid = host.main_pid("one.service");
        host.exec(&["kill", "-KILL", &pid.to_string()]).ok();
        eventually(what, SOON, || host.main_pid("one.service") != pid && host.is_active("one.service"));
    };
    again("the first start");
    // An agent that dies forgets nothing of it.
    host.exec(&["systemctl", "kill", "-s", "KILL", "drover-agent"]).ok();
    eventually("the agent is back", SOON, || host.is_active("drover-agent"));
    again("the second start");
    host.exec(&["kill", "-KILL", &host.main_pid("one.service").to_string()]).ok();
    wait_for_event(host, "restarts-spent", "one.service", SOON);
    eventually("the reason is in the status", SOON, || {
        let phase = problems(&fleet, "web-1");
        if phase.contains("started again 2 times") { Ok(()) } else { Err(phase) }
    });
    assert!(!host.is_active("one.service"), "it is left");
    assert_eq!(events(host).matches("kind=unit-restarted").count(), 2, "{}", events(host));
    assert_eq!(host.main_pid("tiny.service"), bystander);

    // The next activation begins anew.
    let tiny = tiny.edit("GREETING: hello", "GREETING: again");
    fleet.alice.apply(&tiny.manifest()).ok();
    again("the first start after that");
}

#[test]
fn what_cannot_be_put_right_is_left_with_the_reason_and_tried_again() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = Tiny::new().append(MORE);
    fleet.alice.apply(&tiny.manifest()).ok();
    let nginx = host.main_pid("nginx.service");
    host.sh("echo broken > /etc/nginx/sites-enabled/by-hand
         echo 'server { listen 82; return 204; }' > /etc/nginx/sites-enabled/tiny");
    wait_for_event(host, "drift-left", "/etc/nginx/sites-enabled/tiny", A_LOOK);
    let found = host.read_file("/etc/nginx/sites-enabled/tiny");
    assert!(String::from_utf8_lossy(&found).contains("82"), "what nginx refuses is not left there");
    eventually("the reason is in the status", SOON, || {
        let phase = problems(&fleet, "web-1");
        if phase.contains("could not be put right") && phase.contains("by-hand") { Ok(()) } else { Err(phase) }
    });
    assert_eq!(host.main_pid("nginx.service"), nginx);
    host.exec(&["rm", "/etc/nginx/sites-enabled/by-hand"]).ok();
    wait_for_event(host, "drift-repaired", "/etc/nginx/sites-enabled/tiny", A_LOOK);
    assert_eq!(host.sh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:81/").trim(), "204");
}

#[test]
fn an_agent_killed_in_a_repair_goes_on_with_it() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = idle(Tiny::new(), "one.service", ", exec_reload: /usr/bin/touch /run/reloaded").append(
        "files:
  - { path: /etc/slow, content: a, validate: [/bin/sh, -c, \"until test -e /run/go; do sleep 0.1; done\"], reload: one.service }",
    );
    host.sh("touch /run/go");
    fleet.alice.apply(&tiny.manifest()).ok();
    let pid = host.main_pid("one.service");
    host.sh("rm -f /run/reloaded /run/go; echo b > /etc/slow; systemctl restart drover-agent");
    eventually("it is written and being checked", SOON, || host.read_file("/etc/slow") == b"a");
    host.exec(&["systemctl", "kill", "-s", "KILL", "drover-agent"]).ok();
    assert!(!host.exists("/run/reloaded"), "it was not that far");
    host.sh("touch /run/go");
    eventually("the reload is made up for", A_LOOK, || host.exists("/run/reloaded"));
    assert_eq!(host.read_file("/etc/slow"), b"a");
    assert_eq!(host.main_pid("one.service"), pid);
}

#[test]
fn a_release_that_is_gone_is_fetched_again_under_what_runs() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let (pid, tree) = (host.main_pid("tiny.service"), host.property("tiny.service", "WorkingDirectory"));
    fleet.coordinator.exec(&["systemctl", "stop", "drover-coordinator"]).ok();
    host.sh(&format!("rm -rf {tree}; systemctl restart drover-agent"));
    wait_for_event(host, "drift-left", "the coordinator cannot be reached", A_LOOK);
    fleet.coordinator.exec(&["systemctl", "start", "drover-coordinator"]).ok();
    eventually("it is there again", A_LOOK, || host.exists(&format!("{tree}/server.py")));
    wait_for_event(host, "drift-repaired", "unpacked again", SOON);
    assert_eq!(host.main_pid("tiny.service"), pid);
}
