//! Rules that span fields.

use super::*;
use crate::template::{Hole, Segment};

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
            },
        )]),
        files: vec![],
        hooks: vec![],
        checks: BTreeMap::new(),
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
    }
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
