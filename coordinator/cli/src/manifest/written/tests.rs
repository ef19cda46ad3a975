//! Whatever a host says, the manifest that is written of it is read back as the same.

use drover_proto::app::{Container, Content, FilePart, Project};
use serde_json::json;

use super::*;
use crate::manifest::tests::{folder, loaded};

fn read_back(found: &Found, remarks: &[String]) -> drover_proto::app::AppSpec {
    let (app, targets) = ("web".parse().unwrap(), [("role".parse().unwrap(), "web".parse().unwrap())].into());
    loaded(&written(&Draft { app: &app, targets: &targets, remarks, found })).spec
}

fn container(fields: serde_json::Value) -> Container {
    let mut whole = json!({ "image": format!("r.example:5000/a/b:1@sha256:{}", "ab".repeat(32)), "restart": "no",
                            "stop_grace_period": "10s", "adopt": true });
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

#[track_caller]
fn comes_back(fields: serde_json::Value) {
    let container = container(fields);
    let found = Found { containers: [("web".parse().unwrap(), container.clone())].into(), ..Found::default() };
    assert_eq!(read_back(&found, &[]).containers[&"web".parse().unwrap()], container);
}

#[test]
fn a_container_comes_back_field_by_field() {
    comes_back(json!({}));
    comes_back(json!({
        "entrypoint": [], "command": [[{ "text": "serve" }], [{ "text": "--x=a b: {c}" }], []],
        "environment": { "A": [{ "text": "no" }], "B": [{ "text": "5" }], "C": [], "D": [{ "text": "a #b: 'c\"" }] },
        "ports": ["127.0.0.1:8080:80", "[::1]:53:53/udp", "8081:80"], "networks": ["back"],
        "volumes": [{ "source": { "volume": "data" }, "target": "/data" },
                    { "source": { "path": [{ "text": "/srv/a b" }] }, "target": "/srv", "read_only": true }],
        "limits": { "memory_bytes": 7_000_000, "cpu_millis": 1050, "pids": 9, "shm_bytes": 1000, "ulimits": { "nofile": [5, -1] } },
        "rights": { "privileged": true, "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"], "read_only": true, "tmpfs": ["/tmp"],
                    "host_namespaces": ["pid", "ipc"], "devices": ["/dev/fuse"] },
        "user": "1000:1000", "working_dir": "/on", "restart": "on_failure", "stop_signal": "SIGINT", "stop_grace_period": "1m30s",
        "healthcheck": { "test": [[{ "text": "/bin/sh" }], [{ "text": "-c" }], [{ "text": "a || exit 1\n" }]], "interval": "5s",
                         "timeout": "250ms", "retries": 2, "start_period": "0s" },
        "logging": { "driver": "json-file", "options": { "max-size": "10m", "tag": "{{.Name}}" } },
        "labels": { "traefik.http.routers.web.rule": "Host(`a.b`)", "x y": "1.10", "n": "~" },
    }));
    comes_back(
        json!({ "healthcheck": { "test": [], "interval": "30s", "timeout": "30s", "retries": 3, "start_period": "0s" } }),
    );
}

#[test]
fn what_looks_like_yaml_or_a_hole_is_text() {
    for text in [
        "{{ release }}",
        "{{{ x }}",
        "{{",
        "}}",
        "\"{{ env_file }}\"",
        "- a",
        "a: b",
        "&x",
        "*x",
        "!!str",
        "%",
        "@",
        "`",
        "|",
        "> x",
        "? y",
        "#no",
        " #",
        "a\tb",
        "\u{7f}\u{85}\u{2028}\u{202e}\u{feff}\u{1b}[2J",
        "日本",
        "\u{1f600}",
        "'",
        "\\",
        "\\n",
        "null",
        "0x1f",
        "1e3",
    ] {
        let command = json!([[{ "text": text }]]);
        let parts: Container = container(json!({ "command": command }));
        let found = Found { containers: [("web".parse().unwrap(), parts)].into(), ..Found::default() };
        let spec = read_back(&found, &[]);
        let argv = spec.containers[&"web".parse().unwrap()].command.clone().unwrap();
        assert_eq!(argv[0].plain_text(), text, "{text:?}");
        assert_eq!(argv[0].holes().count(), 0, "{text:?}");
    }
}

#[test]
fn a_unit_and_its_env_come_back() {
    let texts = [
        "[Service]\nExecStart=/bin/a --x \"{{ y }}\"\n\n# ü\n[Install]\nWantedBy=multi-user.target\n",
        " [Service]\nExecStart=/bin/a\n[Install]",
        "[Service]\r\nExecStart=/bin/a\r\n[Install]\r\n\n\n",
        "[Service]\n\tExecStart=/bin/\u{1b}[2J\n[Install]\n",
    ];
    for text in texts {
        let unit: Unit = serde_json::from_value(json!({
            "text": [{ "text": text }, { "hole": "env_file" }, { "text": "\n" }], "enable": true, "start": false, "adopt": true,
        }))
        .unwrap();
        let found = Found {
            units: [("a.service".parse().unwrap(), unit.clone())].into(),
            env: [("A".parse().unwrap(), "b {{ c }} \\".to_owned())].into(),
            secrets: ["KEY".parse().unwrap()].into(),
            ..Found::default()
        };
        let spec = read_back(&found, &["a\nversion: 2\u{2028}x\u{85}".to_owned()]);
        let back = &spec.units[&"a.service".parse().unwrap()];
        let holes = |unit: &Unit| unit.text.render(|hole| Ok::<_, ()>(format!("<{hole:?}>"))).unwrap();
        assert_eq!(holes(back), holes(&unit));
        assert!(back.adopt && back.enable && !back.start);
        assert_eq!(spec.env[&"A".parse().unwrap()].plain_text(), "b {{ c }} \\");
        let stored = drover_proto::app::SecretSource::Stored("web-KEY".parse().unwrap());
        assert_eq!(spec.secrets[&"KEY".parse().unwrap()], stored);
    }
}

#[test]
fn a_compose_project_and_its_files_come_back() {
    let project: Project = serde_json::from_value(json!({
        "directory": "/srv/else", "files": ["/srv/else/a/docker-compose.yml", "/srv/else/b.yml"], "env_file": "/srv/else/.env",
        "profiles": ["p", "no"], "adopt": true,
    }))
    .unwrap();
    let part: FilePart = serde_json::from_value(json!({
        "path": "/srv/else/web.env", "owner": "root", "group": "root", "mode": 0o600, "adopt": true, "reload": [], "restart": [],
        "content": { "text": [{ "text": "A={{ b }}\nTOKEN=" }, { "hole": { "secret": "TOKEN" } }, { "text": "\n" }] },
    }))
    .unwrap();
    let found = Found {
        compose: [("shop".parse().unwrap(), project.clone())].into(),
        files: vec![part.clone()],
        secrets: ["TOKEN".parse().unwrap()].into(),
        ..Found::default()
    };
    let (app, targets) = ("shop".parse().unwrap(), [("role".parse().unwrap(), "web".parse().unwrap())].into());
    let dir = folder(&written(&Draft { app: &app, targets: &targets, remarks: &[], found: &found }));
    for path in project.files.iter().chain(&project.env_file) {
        let place = dir.path().join(beside(&project, path));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, "services: {}\n").unwrap();
    }
    let spec = crate::manifest::load(dir.path(), None).unwrap_or_else(|all| panic!("{all:?}")).spec;
    assert_eq!(spec.compose[&"shop".parse().unwrap()], project);
    let texts = |part: &FilePart| match &part.content {
        Content::Text(content) => content.render(|hole| Ok::<_, ()>(format!("<{hole:?}>"))).unwrap(),
        Content::Base64(_) => panic!("text"),
    };
    let back = spec.files.iter().find(|it| it.path == part.path).unwrap();
    assert_eq!((back.mode, back.adopt, texts(back)), (0o600, true, texts(&part)));
    assert!(spec.files.iter().all(|it| it.adopt), "those of the project, too");
}

#[test]
fn nothing_is_written_outside_of_the_manifests_folder() {
    let good = ["a.yml", "a/b.yaml", ".env", "x/.env.prod", "prod.env"];
    let bad = [
        "/etc/a.yml",
        "../a.yml",
        "a/../../b.yml",
        "",
        ".git/config",
        ".git/a.yml",
        "HEAD",
        ".a.yml",
        ".bashrc",
        "config",
    ];
    for (path, good) in good.into_iter().map(|path| (path, true)).chain(bad.into_iter().map(|path| (path, false))) {
        assert_eq!(is_beside(path.as_ref()), good, "{path}");
    }
}
