//! Rules that span fields.

use super::*;
use crate::template::{Hole, Segment};

mod checks;

fn minimal() -> AppSpec {
    AppSpec {
        app: "mono".parse().unwrap(),
        targets: BTreeMap::from([("role".parse().unwrap(), "web".parse().unwrap())]),
        strategy: Strategy::default(),
        host: HostNeeds::default(),
        artifact: None,
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        units: BTreeMap::from([(
            "mono.service".parse().unwrap(),
            Unit {
                text: Template::literal("[Service]\nExecStart=/bin/true\n"),
                enable: true,
                start: true,
                adopt: false,
                instances: BTreeSet::new(),
                ports: BTreeSet::new(),
                drift: Drift::default(),
                restart_budget: None,
                restart_on_change: None,
                handover: None,
            },
        )]),
        containers: BTreeMap::new(),
        compose: BTreeMap::new(),
        files: vec![],
        hooks: vec![],
        checks: BTreeMap::new(),
        restart_budget: None,
        certificates: vec![],
        alerts: BTreeMap::new(),
    }
}

fn file(path: &str, content: Template, mode: u32) -> FilePart {
    let root: UserName = "root".parse().unwrap();
    FilePart {
        path: path.parse().unwrap(),
        content: Content::Text(content),
        owner: root.clone(),
        group: root,
        mode,
        validate: None,
        reload: BTreeSet::new(),
        restart: BTreeSet::new(),
        adopt: false,
        drift: Drift::default(),
    }
}

#[test]
fn what_uses_no_newer_field_is_written_as_it_always_was() {
    let mut app = minimal();
    app.files.push(file("/etc/mono.conf", Template::literal("x"), 0o644));
    let text = serde_json::to_string(&app).unwrap();
    assert!(!text.contains("drift") && !text.contains("restart_budget"), "{text}");
    app.files[0].drift = Drift::Report;
    app.restart_budget = Some(RestartBudget { attempts: 1000, ..RestartBudget::default() });
    let text = serde_json::to_string(&app).unwrap();
    assert_eq!(serde_json::from_str::<AppSpec>(&text).unwrap(), app);
    assert_eq!(app.check()[0].field, "restart_budget.attempts");
}

#[test]
fn a_watch_names_what_a_part_may_read() {
    let mut app = minimal();
    let unit = app.units.values_mut().next().unwrap();
    let watch = |paths: &[&str], debounce| Watch {
        paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
        signal: Some(Signal::Hup),
        debounce: Span::from_ms(debounce),
    };
    unit.restart_on_change = Some(watch(&["/srv/library"], 2000));
    assert_eq!(app.check(), vec![]);
    let text = serde_json::to_string(&app).unwrap();
    assert_eq!(serde_json::from_str::<AppSpec>(&text).unwrap(), app);
    for protocol in [1, 2] {
        let unknown = app.unknown_to(protocol);
        assert_eq!(unknown.as_deref(), Some("units.mono.service.restart_on_change"), "{protocol}");
    }
    assert_eq!(app.unknown_to(3), None);
    let table: [(&[&str], u64, &str); 4] = [
        (&[], 2000, "paths"),
        (&["/proc/1"], 2000, "paths"),
        (&["/var/lib/drover/releases"], 2000, "paths"),
        (&["/srv"], 1, "debounce"),
    ];
    for (paths, debounce, field) in table {
        app.units.values_mut().next().unwrap().restart_on_change = Some(watch(paths, debounce));
        let found: Vec<String> = app.check().into_iter().map(|error| error.field).collect();
        assert_eq!(found, [format!("units.mono.service.restart_on_change.{field}")], "{paths:?} {debounce}");
    }
}

#[test]
fn a_certificate_names_who_reads_it() {
    let mut app = minimal();
    let good = Certificate {
        path: "/etc/letsencrypt/live/a/fullchain.pem".parse().unwrap(),
        key: Some("/etc/letsencrypt/live/a/privkey.pem".parse().unwrap()),
        validate: Some(vec![Template::literal("nginx"), Template::literal("-t")]),
        reload: ["nginx.service".parse().unwrap()].into(),
    };
    app.certificates.push(good.clone());
    assert_eq!(app.check(), vec![]);
    assert_eq!(app.unknown_to(2).as_deref(), Some("certificates"));
    let text = serde_json::to_string(&app).unwrap();
    assert_eq!(serde_json::from_str::<AppSpec>(&text).unwrap(), app);
    type Change = fn(&mut Certificate);
    let table: [(&str, Change); 4] = [
        ("key", |c| c.key = Some("/dev/mem".parse().unwrap())),
        ("reload", |c| c.reload.clear()),
        ("validate", |c| c.validate = Some(vec![])),
        ("validate", |c| c.validate = Some(vec![Template(vec![Segment::Hole(Hole::Path)])])),
    ];
    for (field, change) in table {
        app.certificates = vec![good.clone()];
        change(&mut app.certificates[0]);
        assert_eq!(app.check()[0].field, format!("certificates[0].{field}"));
    }
    app.certificates = vec![good.clone(), good];
    assert_eq!(app.check()[0].field, "certificates[1].path");
}

#[test]
fn a_good_app_passes_and_survives_json() {
    let app = minimal();
    assert_eq!(app.check(), vec![]);
    let text = serde_json::to_string(&app).unwrap();
    assert_eq!(serde_json::from_str::<AppSpec>(&text).unwrap(), app);
    let unknown = text.replacen('{', "{\"canary\":1,", 1);
    assert!(serde_json::from_str::<AppSpec>(&unknown).unwrap_err().to_string().contains("canary"));
}

#[test]
fn secrets_stay_in_files_only_their_owner_reads() {
    let mut app = minimal();
    let secret = Template(vec![Segment::Hole(Hole::Secret("KEY".parse().unwrap()))]);
    app.secrets.insert("KEY".parse().unwrap(), SecretSource::Generate(32));
    app.files = vec![file("/etc/mono.conf", secret.clone(), 0o644)];
    app.units.values_mut().for_each(|u| u.text = secret.clone());
    let said: Vec<String> = app.check().into_iter().map(|e| e.field).collect();
    assert_eq!(said, ["units.mono.service", "files[0].mode"]);
}

#[test]
fn paths_of_system_and_agent_are_out_of_reach() {
    let mut app = minimal();
    app.files = ["/var/lib/drover/agent/desired.json", "/proc/sys/x", "/etc/ok"]
        .map(|p| file(p, Template::literal("x"), 0o644))
        .to_vec();
    assert_eq!(app.check().len(), 2);
}

#[test]
fn nothing_changes_how_drover_itself_runs() {
    let refused = [
        "/var/lib/drover-coordinator/secret.key",
        "/var/run/systemd/system/x.service",
        "/run/drover-agent/x",
        "/run/drover/x",
        "/var/run/drover/x",
        "/etc/systemd/system/drover-agent.service",
        "/etc/systemd/system/drover-agent.service.d/10-exec.conf",
        "/etc/systemd/system/drover-.service.d/10-exec.conf",
        "/etc/systemd/system/service.d/10-exec.conf",
        "/usr/local/lib/systemd/system/drover-coordinator.service",
        "/lib/systemd/system/drover-coordinator.service",
        "/usr/lib/systemd/system/drover-agent.service.d/x.conf",
    ];
    let allowed = [
        "/run/mono/drover-x",
        "/etc/systemd/system/mono-drover.service",
        "/etc/systemd/system/nginx.service.d/drover-mono.conf",
        "/var/lib/droverx/x",
    ];
    let mut app = minimal();
    app.files = refused.iter().chain(&allowed).map(|p| file(p, Template::literal("x"), 0o644)).collect();
    let said: Vec<String> = app.check().into_iter().map(|e| e.field).collect();
    let wanted: Vec<String> = (0..refused.len()).map(|i| format!("files[{i}].path")).collect();
    assert_eq!(said, wanted);
    app.files.clear();
    let unit = app.units.values().next().unwrap().clone();
    app.units.insert("drover-run.service".parse().unwrap(), unit);
    assert_eq!(app.check()[0].field, "units.drover-run.service");
}

#[test]
fn a_strategy_that_can_never_make_progress_is_refused() {
    let mut app = minimal();
    app.strategy.min_healthy_time = Span::from_secs(300);
    assert_eq!(app.check()[0].field, "strategy.min_healthy_time");
}

#[test]
fn only_templates_have_instances_and_each_is_a_unit_of_its_own() {
    let mut app = minimal();
    let unit = app.units[&"mono.service".parse().unwrap()].clone();
    let text = serde_json::to_string(&unit).unwrap();
    assert!(!text.contains("instances") && !text.contains("ports"), "as older agents read it: {text}");
    let instances: BTreeSet<InstanceName> = ["1", "eu:2"].map(|name| name.parse().unwrap()).into();
    let template = Unit { instances: instances.clone(), ..unit.clone() };
    let name: UnitName = "worker@.service".parse().unwrap();
    let names: Vec<String> = template.runs_as(&name).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["worker@1.service", "worker@eu:2.service"]);
    app.units.insert(name.clone(), template.clone());
    assert_eq!(app.check(), vec![]);
    app.units.insert("worker@1.service".parse().unwrap(), unit.clone());
    app.units.insert("plain.service".parse().unwrap(), template);
    app.units.insert("bare@.service".parse().unwrap(), unit);
    let said: Vec<String> = app.check().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[0].starts_with("units.bare@.service: ") && said[1].starts_with("units.plain.service.instances: "));
    assert!(said[2].contains("worker@1.service is declared under units: already"), "{said:#?}");
}

#[test]
fn an_older_protocol_does_not_know_later_fields() {
    let mut app = minimal();
    app.files = vec![file("/etc/mono.conf", Template::literal("x"), 0o644)];
    assert_eq!(app.unknown_to(1), None, "protocol 1 has all of it");
    let unit = app.units.get_mut(&"mono.service".parse().unwrap()).unwrap();
    unit.ports = ["80".parse().unwrap()].into();
    assert_eq!(app.unknown_to(1).as_deref(), Some("units.mono.service.ports"));
    assert_eq!(app.unknown_to(2), None);
    let unit = handing_over("mono-api");
    app.units.insert("mono.service".parse().unwrap(), unit);
    assert_eq!(app.unknown_to(2).as_deref(), Some("units.mono.service.handover"));
    assert_eq!(app.unknown_to(3), None);
    let container = serde_json::json!({ "image": "a", "restart": "no", "stop_grace_period": "1s", "adopt": true });
    app.containers.insert("web".parse().unwrap(), serde_json::from_value(container).unwrap());
    assert_eq!(app.unknown_to(3).as_deref(), Some("containers.web.adopt"));
    assert_eq!(app.unknown_to(4), None);
}

fn handing_over(upstream: &str) -> Unit {
    let mut unit = minimal().units.into_values().next().unwrap();
    unit.text.0.push(Segment::Hole(Hole::Port));
    unit.handover =
        Some(BlueGreen { upstream: upstream.parse().unwrap(), drain: Span::from_secs(30), container_port: None });
    unit
}

#[test]
fn a_container_hands_over_behind_a_check_that_asks_it() {
    let said = |change: &dyn Fn(&mut Container), check: &str| -> Vec<String> {
        let mut app = minimal();
        app.units.clear();
        let mut container: Container = serde_json::from_value(serde_json::json!({
            "image": "shop:1", "restart": "always", "stop_grace_period": Span::from_secs(10),
            "handover": { "upstream": "web", "drain": Span::from_secs(30), "container_port": 8080 },
        }))
        .unwrap();
        change(&mut container);
        app.containers.insert("web".parse().unwrap(), container.clone());
        if check == "twin" {
            app.containers.insert("web-20001".parse().unwrap(), Container { handover: None, ..container });
        }
        let hole = if check.is_empty() { Segment::Text("1".into()) } else { Segment::Hole(Hole::Port) };
        let run = vec![Template::literal("/bin/asks"), Template(vec![hole])];
        let probe = Probe::Command { run, user: "nobody".parse().unwrap() };
        let (interval, timeout) = (Span::from_secs(1), Span::from_secs(1));
        app.checks.insert("web".parse().unwrap(), Check::new(probe, interval, timeout));
        app.check().into_iter().map(|error| error.field).collect()
    };
    let nothing = |_: &mut Container| {};
    assert_eq!("web".parse::<ContainerName>().unwrap().on_port(20001).unwrap().as_str(), "web-20001");
    assert_eq!(said(&nothing, "asks"), [""; 0]);
    assert_eq!(said(&nothing, ""), ["containers.web.handover"], "Docker accepts for it");
    assert_eq!(said(&nothing, "twin"), ["containers.web.handover"]);
    let of = |field: &str| vec![format!("containers.web.{field}")];
    assert_eq!(said(&|c| c.handover.as_mut().unwrap().container_port = None, "asks"), of("container_port"));
    assert_eq!(said(&|c| c.ports = ["80:80".parse().unwrap()].into(), "asks"), of("ports"));
    assert_eq!(said(&|c| c.restart = Restart::No, "asks"), of("restart"));
    assert_eq!(
        said(&|c| c.rights.host_namespaces = [Namespace::Network].into(), "asks"),
        of("host_namespaces"),
        "two would listen on one port"
    );
}

#[test]
fn what_two_instances_at_once_cannot_have_is_refused() {
    let name = |text: &str| text.parse::<UnitName>().unwrap();
    assert_eq!(name("mono-api.service").on_port(20001), Some(name("mono-api@20001.service")));
    let said = |change: &dyn Fn(&mut AppSpec)| -> Vec<String> {
        let mut app = minimal();
        app.units = [(name("mono.service"), handing_over("mono"))].into();
        change(&mut app);
        app.check().into_iter().map(|error| error.field).collect()
    };
    let unit = |change: fn(&mut Unit)| said(&|app| app.units.values_mut().for_each(change));
    let port = |hole: Hole| Template(vec![Segment::Text("http://127.0.0.1:".into()), Segment::Hole(hole)]);
    let check = |app: &mut AppSpec, hole: Hole| {
        let http = HttpProbe {
            url: port(hole),
            method: "GET".into(),
            headers: BTreeMap::new(),
            status: None,
            expect_headers: BTreeMap::new(),
            body_contains: None,
            json: BTreeMap::new(),
        };
        let (interval, timeout) = (Span::from_secs(1), Span::from_secs(1));
        app.checks.insert("api".parse().unwrap(), Check::new(Probe::Http(http), interval, timeout));
    };
    let of = |upstream: &str| Hole::PortOf(upstream.parse().unwrap());
    assert_eq!(said(&|app| check(app, Hole::Port)), [""; 0]);
    assert_eq!(unit(|unit| unit.adopt = true), ["units.mono.service.adopt"]);
    assert_eq!(unit(|unit| unit.start = false), ["units.mono.service.start"]);
    assert_eq!(unit(|unit| unit.ports = ["80".parse().unwrap()].into()), ["units.mono.service.ports"]);
    const WATCH: &str = r#"{"paths": ["/srv/x"], "debounce": "2s"}"#;
    let watched = unit(|unit| unit.restart_on_change = Some(serde_json::from_str(WATCH).unwrap()));
    assert_eq!(watched, ["units.mono.service.restart_on_change"]);
    assert_eq!(unit(|unit| drop(unit.text.0.pop())), ["units.mono.service"]);
    let drain =
        |span: Span| said(&|app| app.units.values_mut().for_each(|u| u.handover.as_mut().unwrap().drain = span));
    assert_eq!(drain(Span::from_secs(300)), ["units.mono.service.drain"], "with healthy_deadline it is too long");
    let hasty = said(&|app| app.strategy.min_healthy_time = Span::from_secs(200));
    assert_eq!(hasty, ["units.mono.service.handover"], "twice that is more than healthy_deadline");
    let two = |app: &mut AppSpec, upstream: &str| {
        app.units.insert(name("web.service"), handing_over(upstream));
    };
    assert_eq!(said(&|app| two(app, "mono")), ["units.web.service.upstream"]);
    assert_eq!(said(&|app| (two(app, "web"), check(app, Hole::Port)).0), ["checks.api.http"], "whose");
    assert_eq!(said(&|app| (two(app, "web"), check(app, of("web"))).0), [""; 0]);
    assert_eq!(said(&|app| check(app, of("other"))), ["checks.api.http"]);
    assert_eq!(said(&|app| app.files = vec![file("/etc/x", port(Hole::Port), 0o644)]), ["files[0].content"]);
    let plain = minimal().units.into_values().next().unwrap();
    assert_eq!(
        said(&|app| drop(app.units.insert(name("mono@a.service"), plain.clone()))),
        ["units.mono.service.handover"]
    );
}

#[test]
fn an_artifact_of_a_repository_has_the_digest_of_its_commit_and_is_not_for_an_older_protocol() {
    let mut app = minimal();
    let source = crate::source::GitSource {
        url: "https://example.org/mono.git".to_owned(),
        commit: "ab".repeat(20).parse().unwrap(),
        directory: None,
        credentials: None,
    };
    let artifact = Artifact { digest: source.digest(), size_bytes: 0, build: None, source: Source::Git(source) };
    app.artifact = Some(artifact.clone());
    assert_eq!(app.check(), vec![]);
    assert_eq!(app.unknown_to(1).as_deref(), Some("artifact.source"));
    app.artifact = Some(Artifact { digest: Digest::of(b"another"), ..artifact });
    assert_eq!(app.check()[0].field, "artifact.commit");
}

#[test]
fn a_project_has_files_that_are_the_apps() {
    let mut good = minimal();
    let path: crate::name::AbsPath = "/srv/shop/docker-compose.yml".parse().unwrap();
    good.files.push(file(path.as_str(), Template::literal("services: {}"), 0o644));
    let profiles = ["web".to_owned()].into();
    let directory: crate::name::AbsPath = "/srv/shop".parse().unwrap();
    let project = Project {
        directory,
        files: vec![path],
        env_file: None,
        profiles,
        registries: BTreeMap::new(),
        adopt: false,
        drift: Drift::default(),
    };
    good.compose.insert("shop".parse().unwrap(), project.clone());
    assert_eq!(good.check(), vec![]);
    assert_eq!((good.unknown_to(1), good.unknown_to(2)), (Some("compose".into()), Some("compose".into())));
    assert_eq!(good.unknown_to(3), None);
    for wrong in [
        Project { files: vec![], ..project.clone() },
        Project { files: vec!["/srv/shop/none.yml".parse().unwrap()], ..project.clone() },
        Project { directory: "/srv/shop/docker".parse().unwrap(), ..project.clone() },
        Project { env_file: Some("/srv/none.env".parse().unwrap()), ..project.clone() },
        Project { profiles: ["--all".to_owned()].into(), ..project },
    ] {
        let mut bad = good.clone();
        bad.compose.insert("shop".parse().unwrap(), wrong.clone());
        assert_eq!(bad.check().len(), 1, "{wrong:?}");
    }
}
