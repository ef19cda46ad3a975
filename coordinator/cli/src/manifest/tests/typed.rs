//! Typed units as the text that they become.

use super::*;

fn unit_text(manifest: &str, unit: &str) -> String {
    shown(&loaded(manifest).spec.units[&unit.parse().unwrap()].text)
}

#[test]
fn every_typed_field_has_its_place_in_the_text() {
    let manifest = minimal(
        "artifact: { path: app }
env: { values: { A: b } }
units:
  api.service:
    description: 100% API
    after: [network-online.target, redis-server.service]
    wants: network-online.target
    requires: redis-server.service
    type: notify
    user: www-data
    group: adm
    environment: { WORKER: \"a b%\" }
    exec_start_pre: [/bin/one, -/bin/two]
    exec: [\"{{ release }}/run\", --name, two words, \"$HOME 5%\", \"q\\\"\", \"\"]
    exec_reload: /bin/kill -HUP $MAINPID
    restart: on-failure
    restart_sec: 10s
    timeout_start: 1m30s
    timeout_stop: 250ms
    kill_signal: SIGINT
    watchdog: 30s
    limits: { memory_max: 512M, cpu_quota: 150%, nofile: 65536, tasks_max: 512 }
    options:
      Service: { PrivateTmp: true, SystemCallFilter: [\"@system-service\", ~@mount] }
      Install: { WantedBy: graphical.target }
",
    );
    let expected = r#"[Unit]
Description=100%% API
After=network-online.target redis-server.service
Wants=network-online.target
Requires=redis-server.service

[Service]
Type=notify
User=www-data
Group=adm
WorkingDirectory=<Release>
EnvironmentFile=<EnvFile>
Environment="WORKER=a b%%"
ExecStartPre=/bin/one
ExecStartPre=-/bin/two
ExecStart=<Release>/run --name "two words" "$$HOME 5%%" "q\"" ""
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=10000ms
TimeoutStartSec=90000ms
TimeoutStopSec=250ms
WatchdogSec=30000ms
KillSignal=SIGINT
MemoryMax=512M
CPUQuota=150%
LimitNOFILE=65536
TasksMax=512
PrivateTmp=true
SystemCallFilter=@system-service
SystemCallFilter=~@mount

[Install]
WantedBy=graphical.target
"#;
    assert_eq!(unit_text(&manifest, "api.service"), expected);
}

#[test]
fn other_kinds_of_units_take_options() {
    let manifest = minimal(
        "units:\n  n.timer: { options: { Timer: { OnCalendar: daily } } }\n  \
         n.service: { type: oneshot, exec: /bin/n, enable: false, start: false }\n",
    );
    let timer = "[Unit]\nDescription=mono\n\n[Timer]\nOnCalendar=daily\n\n[Install]\nWantedBy=timers.target\n";
    assert_eq!(unit_text(&manifest, "n.timer"), timer);
    assert_eq!(
        unit_text(&manifest, "n.service"),
        "[Unit]\nDescription=mono\n\n[Service]\nType=oneshot\nExecStart=/bin/n\n"
    );
}

#[test]
fn a_timer_has_fields_of_its_own_and_its_service_waits_for_it() {
    let manifest = minimal(
        "units:
  n.timer: { on_calendar: [daily, \"Sat 03:00\"], on_boot_sec: 5m, persistent: true, randomized_delay_sec: 90s }
  n.service: { exec: /bin/n }
  v.timer: { on_unit_active_sec: 1h, unit: other.service }
  other.service: { exec: /bin/o, start: true }
",
    );
    let timer = "[Unit]\nDescription=mono\n\n[Timer]\nOnCalendar=daily\nOnCalendar=Sat 03:00\nOnBootSec=300000ms\n\
                 RandomizedDelaySec=90000ms\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n";
    assert_eq!(unit_text(&manifest, "n.timer"), timer);
    assert!(unit_text(&manifest, "v.timer").contains("OnUnitActiveSec=3600000ms\nUnit=other.service\n"));
    let service = unit_text(&manifest, "n.service");
    assert!(service.contains("Type=oneshot") && !service.contains("[Install]"), "{service}");
    let spec = loaded(&manifest).spec;
    let course = |name: &str| spec.units.get(&name.parse().unwrap()).map(|unit| (unit.enable, unit.start));
    assert_eq!(course("n.timer"), Some((true, true)));
    assert_eq!(course("n.service"), Some((false, false)));
    assert_eq!(course("other.service"), Some((false, true)), "what is said counts");
}

#[test]
fn instances_and_ports_go_with_every_form_of_a_unit() {
    let manifest = minimal(
        "units:
  w@.service: { exec: /bin/w %i, instances: [1, eu], ports: 80 }
  v@.service: { text: \"[Service]\", enable: false, instances: [a], ports: [\"[::1]:53/udp\", 99] }
",
    );
    let spec = loaded(&manifest).spec;
    let unit = |name: &str| spec.units[&name.parse().unwrap()].clone();
    let names: Vec<String> =
        unit("w@.service").runs_as(&"w@.service".parse().unwrap()).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["w@1.service", "w@eu.service"]);
    assert_eq!(unit("v@.service").ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["99", "[::1]:53/udp"]);
    let (said, _) = faults(&minimal(
        "units:
  a.service: { exec: /bin/a, instances: [1] }
  b@.service: { exec: /bin/b, instances: [../x] }
  c@.service: { exec: /bin/c }
  d.service: { exec: /bin/d, ports: [http] }
  e.service: { exec: /bin/e, on_calendar: daily }
  f.timer: { persistent: true }
",
    ));
    let at: Vec<&str> = said.iter().map(|s| s.split(": ").next().unwrap()).collect();
    assert_eq!(at, ["5", "6", "7", "8", "9", "10"], "{said:#?}");
}

#[test]
fn what_is_restarted_for_files_names_them() {
    let manifest = minimal(
        "vars: { library: /srv/library }
units:
  a.service: { exec: /bin/a, restart_on_change: { paths: \"{{ library }}\" } }
  b.service: { text: \"[Service]\", enable: false, restart_on_change: { paths: [/b, /c], signal: SIGHUP, debounce: 5s } }
containers:
  cc: { image: \"redis:7\", restart_on_change: { paths: /d } }
",
    );
    let spec = loaded(&manifest).spec;
    let watch = |unit: &str| spec.units[&unit.parse().unwrap()].restart_on_change.clone().unwrap();
    let (a, b) = (watch("a.service"), watch("b.service"));
    assert_eq!(
        (a.paths.into_iter().next().unwrap().as_str(), a.signal, a.debounce.as_ms()),
        ("/srv/library", None, 2000)
    );
    assert_eq!((b.paths.len(), b.signal, b.debounce.as_ms()), (2, Some(drover_proto::app::Signal::Hup), 5000));
    assert!(spec.containers.values().all(|container| container.restart_on_change.is_some()));
    let (said, _) = faults(&minimal(
        "units:
  a.service: { exec: /bin/a, restart_on_change: { signal: SIGHUP } }
  b.service: { exec: /bin/a, restart_on_change: { paths: srv } }
  c.service: { exec: /bin/a, restart_on_change: { paths: /srv, signal: SIGKILL } }
  d.service: { exec: /bin/a, restart_on_change: { paths: /proc/1 } }
  e.service: { exec: /bin/a, restart_on_change: { paths: /srv, debounce: 1ms } }
",
    ));
    let at: Vec<&str> = said.iter().map(|s| s.split(": ").next().unwrap()).collect();
    assert_eq!(at, ["5", "6", "7", "8", "9"], "{said:#?}");
}

#[test]
fn certificates_of_others_are_read() {
    let manifest = minimal(
        "vars: { domain: example.org }
files: [{ path: /etc/a, content: a }]
certificates:
  - path: /etc/letsencrypt/live/{{ domain }}/fullchain.pem
    key: /etc/letsencrypt/live/{{ domain }}/privkey.pem
    validate: [nginx, -t]
    reload: nginx.service
",
    );
    let certificates = loaded(&manifest).spec.certificates;
    let [certificate] = certificates.as_slice() else { panic!("{certificates:?}") };
    assert_eq!(certificate.path.as_str(), "/etc/letsencrypt/live/example.org/fullchain.pem");
    assert_eq!(certificate.validate.iter().flatten().map(shown).collect::<Vec<_>>(), ["nginx", "-t"]);
    assert!(certificate.key.is_some() && certificate.reload.len() == 1);
    let (said, _) = faults(&minimal(
        "files: [{ path: /etc/a, content: a }]
certificates:
  - { path: /a, key: b, reload: x.service }
  - { path: /b }
  - { path: /c, reload: x.service, validate: [nginx, \"{{ path }}\"] }
",
    ));
    let at: Vec<&str> = said.iter().map(|s| s.split(": ").next().unwrap()).collect();
    assert_eq!(at, ["6", "7", "8"], "{said:#?}");
}

#[test]
fn verbatim_units_are_taken_as_they_are() {
    let text = "[Service]\n# {{ \"{{\" }}\nExecStart={{ release }}/run %i\n[Install]\nWantedBy=x.target\n";
    let indented = text.replace('\n', "\n      ");
    let manifest =
        minimal(&format!("artifact: {{ path: app }}\nunits:\n  a.service:\n    text: |\n      {indented}\n"));
    assert_eq!(
        unit_text(&manifest, "a.service").trim_end(),
        text.replace("{{ \"{{\" }}", "{{").replace("{{ release }}", "<Release>").trim_end()
    );
}

#[test]
fn combinations_that_cannot_be_are_refused() {
    let (said, _) = faults(&minimal(
        "units:
  a.service: { text: \"[Service]\", exec: /bin/a }
  b.service: { user: x }
  c.timer: { exec: /bin/c }
  d.service: { exec: /bin/d, options: { Service: { ExecStart: /bin/e } } }
  e.service: { exec: /bin/e, kill_signal: kill, limits: { memory_max: lots } }
  f: { exec: /bin/f }
  g.service: { exec: [+/bin/g] }
  h.service: { text: a, from: b }
  i.service: { exec: \"{{ release }}/run\" }
  j.service: { exec: bin/j }
checks:
  Bad: { tcp: \"h:1\" }
  cmd: { command: [/bin/x] }
  shell: { command: curl localhost, user: nobody }
  cross: { tcp: \"h:1\", expect: { status: 200 } }
  port: { tcp: h }
  path: { http: \"http://h/\", expect: { json: { \"$[\": 1 } } }
",
    ));
    let at: Vec<&str> = said.iter().map(|s| s.split(": ").next().unwrap()).collect();
    let expected =
        ["5", "5", "6", "7", "8", "9", "9", "10", "11", "12", "13", "14", "16", "17", "18", "19", "20", "21"];
    assert_eq!(at, expected, "{said:#?}");
}

#[test]
fn a_unit_that_hands_over_names_its_port_and_has_an_upstream() {
    let manifest = |unit: &str, more: &str| {
        let unit =
            format!("{{ exec: [/bin/a, \"{{{{ port }}}}\"], environment: {{ PORT: \"{{{{ port }}}}\" }}, {unit} }}");
        minimal(&format!("units:\n  mono-api.service: {unit}\n{more}"))
    };
    let check = "checks:\n  a: { http: \"http://127.0.0.1:{{ port }}/\" }\n  \
                 b: { command: [/bin/b, \"{{ port.mono-api }}\"], user: nobody }\n";
    let read = loaded(&manifest("handover: blue_green", check));
    let unit = &read.spec.units[&"mono-api.service".parse().unwrap()];
    let handover = unit.handover.clone().unwrap();
    assert_eq!((handover.upstream.as_str(), handover.drain.to_string().as_str()), ("mono-api", "30s"));
    assert!(shown(&unit.text).contains("ExecStart=/bin/a <Port>\n"), "{}", shown(&unit.text));
    assert!(shown(&unit.text).contains("Environment=PORT=<Port>\n"), "{}", shown(&unit.text));
    let said = |unit: &str, more: &str| faults(&manifest(unit, more)).0.join("; ");
    loaded(&manifest("handover: blue_green, upstream: api, drain: 2m", ""));
    assert!(said("upstream: api", "").contains("upstream: upstream belongs to handover: blue_green"));
    assert!(said("drain: 2m, handover: recreate", "").contains("drain belongs to handover: blue_green"));
    assert!(said("handover: recreate", "").contains("{{ port }} means something only in a unit with handover"));
    assert!(said("handover: blue_green, upstream: Mono", "").contains("upstream name \"Mono\""));
    assert!(said("handover: green", "").contains("\"green\" is not one of its values"));
    let files = "files:\n  - { path: /etc/a, content: \"{{ port }}\" }\n";
    assert!(said("handover: blue_green", files).contains("files[0].content: {{ port }} means something only"));
    let hidden = said("handover: blue_green", "vars: { port: 80 }\n");
    assert!(hidden.contains("a variable of that name would hide it"), "{hidden}");
    let (odd, _) = faults(&minimal("units:\n  Mono.service: { exec: \"/bin/a {{ port }}\", handover: blue_green }\n"));
    assert!(odd.join("").contains("Mono is no name for an upstream of nginx"), "{odd:?}");
}

#[test]
fn compose_files_become_files_of_the_app() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("docker-compose.yml", "services: {}\n# {{ not a hole }}\n");
    write("prod.env", "A=b\n");
    std::fs::create_dir(dir.path().join("deploy")).unwrap();
    write("deploy/prod.yml", "services: {}\n");
    let manifest = |more: &str| {
        write(
            "drover.yaml",
            &minimal(&format!("compose:\n  shop:\n    files: [./docker-compose.yml, deploy/prod.yml]\n{more}")),
        );
        load(&dir.path().join("drover.yaml"), None)
    };
    let spec = manifest("    env_file: prod.env\n    profiles: [web]\n    drift: report\n").unwrap().spec;
    assert_eq!(spec.check(), vec![]);
    let project = &spec.compose[&"shop".parse().unwrap()];
    let files: Vec<&str> = project.files.iter().map(|path| path.as_str()).collect();
    assert_eq!(files, ["/srv/shop/docker-compose.yml", "/srv/shop/deploy/prod.yml"]);
    assert_eq!(project.env_file.as_ref().map(|path| path.as_str()), Some("/srv/shop/prod.env"));
    let held: Vec<(&str, u32)> = spec.files.iter().map(|file| (file.path.as_str(), file.mode)).collect();
    assert_eq!(held, [(files[0], 0o644), (files[1], 0o644), ("/srv/shop/prod.env", 0o600)]);
    let Content::Text(text) = &spec.files[0].content else { panic!("not text") };
    assert!(text.plain_text().contains("{{ not a hole }}"), "unchanged");

    let spec = manifest("    directory: /opt/shop\n").unwrap().spec;
    assert_eq!(spec.files[0].path.as_str(), "/opt/shop/docker-compose.yml");
    for bad in [
        "    env_file: none.env\n",
        "    directory: srv\n",
        "    directory: /\n",
        "    handover: blue_green\n",
        "    env_file: ../x\n",
    ] {
        assert!(manifest(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_container_that_hands_over_says_where_it_listens() {
    let manifest = |container: &str, more: &str| {
        minimal(&format!("containers:\n  web: {{ image: \"web:1\", {container} }}\n{more}"))
    };
    let check = "checks:\n  a: { http: \"http://127.0.0.1:{{ port }}/\" }\n";
    let read = loaded(&manifest("handover: blue_green, container_port: 8000", check));
    let handover = read.spec.containers[&"web".parse().unwrap()].handover.clone().unwrap();
    assert_eq!((handover.upstream.as_str(), handover.container_port), ("web", Some(8000)));
    let said = |container: &str, more: &str| faults(&manifest(container, more)).0.join("; ");
    assert!(said("handover: blue_green", check).contains("say where in the container its program listens"));
    assert!(said("handover: blue_green, container_port: 8000", "").contains("a check that names its {{ port }}"));
    assert!(said("container_port: 8000", "").contains("container_port belongs to handover: blue_green"));
}
