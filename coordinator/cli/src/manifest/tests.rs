//! Manifests as users write them, good and bad.

use std::{fs, path::PathBuf};

use drover_proto::app::{Content, Probe};

use super::*;

mod documents;
mod hostile;
mod mistakes;
mod typed;
mod watched;

/// The manifests that ship with drover.
fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// A folder with a manifest and what it may name.
pub(super) fn folder(manifest: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("drover.yaml"), manifest).unwrap();
    fs::create_dir(dir.path().join("app")).unwrap();
    fs::write(dir.path().join("app/run"), "#!/bin/sh\n").unwrap();
    fs::write(dir.path().join("site.conf"), "server_name {{ domain }};\nlisten {{ prot }};\n").unwrap();
    dir
}

pub(super) fn loaded(manifest: &str) -> Loaded {
    match load(folder(manifest).path(), None) {
        Ok(loaded) => loaded,
        Err(all) => panic!("{}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

/// `line: field: message` of each, and the hints.
fn faults(manifest: &str) -> (Vec<String>, Vec<String>) {
    let dir = folder(manifest);
    let all = load(dir.path(), None).expect_err("it was let through");
    let hints = all.iter().filter_map(|d| d.hint.clone()).collect();
    (all.into_iter().map(|d| format!("{}: {}: {}", d.line, d.field, d.message)).collect(), hints)
}

/// The smallest manifest, to add to.
const HEAD: &str = "version: 1\napp: mono\ntargets: { labels: { role: web } }\n";

fn minimal(more: &str) -> String {
    format!("{HEAD}{more}")
}

fn env(name: &str) -> EnvironmentName {
    name.parse().unwrap()
}

fn shown(template: &drover_proto::template::Template) -> String {
    template.render(|hole| Ok::<_, ()>(format!("<{hole:?}>"))).unwrap()
}

#[test]
fn the_example_loads_as_it_is_and_for_staging() {
    let plain = load(&example("mono/drover.yaml"), None).unwrap_or_else(|all| panic!("{all:#?}"));
    let spec = &plain.spec;
    assert_eq!(spec.app.as_str(), "mono");
    assert_eq!(spec.check(), vec![]);
    let packed = plain.artifact.unwrap();
    assert_eq!(spec.artifact.as_ref().unwrap().digest, packed.digest);
    assert_eq!(shown(&spec.env[&"PORT".parse().unwrap()]), "5000");
    assert_eq!(shown(&spec.env[&"SECRET_KEY".parse().unwrap()]), "<Secret(\"SECRET_KEY\")>");
    let Content::Text(site) = &spec.files[0].content else { panic!("not text") };
    assert!(shown(site).contains("server_name example.test api.example.test;"), "{site:?}");
    let Probe::Http(http) = &spec.checks[&"api".parse().unwrap()].probe else { panic!("not http") };
    assert_eq!(http.json, [("$[\"status\"]".to_owned(), serde_json::json!("ok"))].into());

    let staging = load(&example("mono/drover.yaml"), Some(&env("staging"))).unwrap();
    assert_eq!(staging.spec.app.as_str(), "mono@staging");
    assert_eq!(shown(&staging.spec.env[&"LOG_LEVEL".parse().unwrap()]), "DEBUG");
    assert!(shown(&staging.spec.env[&"CORS_ORIGINS".parse().unwrap()]).starts_with("https://staging.example.test,"));
    assert_eq!(staging.spec.artifact, spec.artifact, "an environment changes no artifact");
}

#[test]
fn swap_is_a_size() {
    let swap = |text: &str| {
        loaded(&minimal(&format!("host: {{ swap: {text} }}\nfiles: [{{ path: /etc/x, content: a }}]\n")))
            .spec
            .host
            .swap_bytes
    };
    assert_eq!((swap("2G"), swap("512M"), swap("33554432")), (Some(2 << 30), Some(512 << 20), Some(32 << 20)));
    for bad in ["lots", "1M", "+2G", "2Gi", "99999999T", "\"\""] {
        let (said, _) =
            faults(&minimal(&format!("host: {{ swap: {bad} }}\nfiles: [{{ path: /etc/x, content: a }}]\n")));
        assert_eq!(said.len(), 1, "{bad}: {said:?}");
    }
}

#[test]
fn the_workers_load() {
    let spec = load(&example("worker/drover.yaml"), None).unwrap_or_else(|all| panic!("{all:#?}")).spec;
    assert_eq!(spec.check(), vec![]);
    assert_eq!(spec.units[&"worker@.service".parse().unwrap()].instances.len(), 2);
    assert!(!spec.units[&"worker-report.service".parse().unwrap()].start);
}

#[test]
fn an_environment_lies_over_the_manifest_field_by_field() {
    let manifest = minimal(
        "env: { values: { A: \"1\", B: \"2\" }, secrets: { KEY: { generate: 32 } } }\n\
         strategy: { max_parallel: 2, healthy_deadline: 1m }\n\
         files: [{ path: /etc/x, content: \"{{ environment }} {{ app }}\" }]\n\
         environments:\n  staging:\n    targets: { labels: { env: staging } }\n    \
         env: { values: { B: \"3\", KEY: plain } }\n    strategy: { max_parallel: 50% }\n",
    );
    let dir = folder(&manifest);
    let spec = load(dir.path(), Some(&env("staging"))).unwrap_or_else(|all| panic!("{all:#?}")).spec;
    assert_eq!(spec.targets.len(), 2);
    let values: Vec<String> = spec.env.iter().map(|(k, v)| format!("{k}={}", shown(v))).collect();
    assert_eq!(values, ["A=1", "B=3", "KEY=plain"]);
    assert!(spec.secrets.is_empty());
    assert_eq!(spec.strategy.max_parallel.to_string(), "50%");
    assert_eq!(spec.strategy.healthy_deadline.to_string(), "1m");
    assert_eq!(spec.files[0].content, Content::Text(drover_proto::template::Template::literal("staging mono")));

    let unknown = load(dir.path(), Some(&env("stagin"))).unwrap_err();
    assert_eq!(unknown[0].hint.as_deref(), Some("did you mean staging?"));
    let none = load(dir.path(), None).unwrap_err();
    assert!(none[0].message.contains("no environment was chosen"), "{none:?}");
}

#[test]
fn defaults_come_from_the_table_and_agree_with_the_contract() {
    let spec =
        loaded(&minimal("files: [{ path: /etc/x, content: a, owner: www-data }]\nchecks: { a: { tcp: \"h:1\" } }\n"))
            .spec;
    assert_eq!(spec.strategy, drover_proto::strategy::Strategy::default());
    let file = &spec.files[0];
    assert_eq!((file.owner.as_str(), file.group.as_str(), file.mode), ("www-data", "www-data", 0o644));
    let check = &spec.checks[&"a".parse().unwrap()];
    assert_eq!((check.interval.to_string(), check.timeout.to_string()), ("2s".into(), "5s".into()));
}
