//! What was made by hand, as a manifest says it; and that such a manifest takes it over.

use serde_json::json;

use super::*;
use crate::{
    host::docker::made_tests::{inspected, made},
    policy::Places,
    render::tests::container as rendered,
};

fn read(seen: serde_json::Value) -> Found {
    found(&"web".parse().unwrap(), &made(seen)).unwrap()
}

fn only(found: &Found) -> &Container {
    &found.containers[&"web".parse().unwrap()]
}

#[test]
fn what_the_image_gives_is_not_said_again() {
    let found = read(inspected());
    let container = only(&found);
    assert!(container.image.to_string().starts_with("shop/web:1@sha256:abab"));
    assert_eq!(
        (&container.entrypoint, &container.command, &container.user, &container.working_dir),
        (&None, &None, &None, &None)
    );
    assert_eq!((&container.healthcheck, &container.logging, &container.stop_signal), (&None, &None, &None));
    assert_eq!(container.environment.keys().map(|key| key.as_str()).collect::<Vec<_>>(), ["PORT"]);
    assert!(container.labels.is_empty() && container.limits.is_default() && container.rights.is_default());
    assert_eq!((container.restart, container.adopt, container.volumes.len()), (Restart::Always, true, 2));
    assert_eq!(found.notes, []);
}

#[test]
fn applying_what_was_found_finds_no_difference() {
    for (place, value) in [
        ("/Config/Cmd", json!(["other", "--port", "80"])),
        ("/Config/Cmd", json!([])),
        ("/Config/Entrypoint", json!(["/bin/sh", "-c"])),
        ("/Config/Entrypoint", json!(null)),
        ("/Config/User", json!("root")),
        ("/Config/Healthcheck", json!({ "Test": ["NONE"] })),
        ("/Config/Healthcheck", json!({ "Test": ["CMD", "a"], "Retries": 7 })),
        ("/Config/StopSignal", json!("SIGTERM")),
        ("/Config/StopTimeout", json!(30)),
        ("/Config/Labels", json!({ "maintainer": "us", "team": "shop", "com.docker.compose.project": "x" })),
        ("/Config/Env", json!(["PORT=81", "PATH=/x", "LANG=C", "BACK=x\\"])),
        ("/HostConfig/CapAdd", json!(["CAP_SYS_TIME"])),
        ("/HostConfig/NetworkMode", json!("host")),
        ("/HostConfig/Memory", json!(64 << 20)),
        ("/HostConfig/LogConfig", json!({ "Type": "journald", "Config": { "tag": "x" } })),
        ("/HostConfig/RestartPolicy", json!({ "Name": "" })),
    ] {
        let mut seen = inspected();
        *seen.pointer_mut(place).unwrap_or(&mut json!(null)) = value.clone();
        if seen.pointer(place).is_none() {
            let (above, key) = place.rsplit_once('/').unwrap();
            seen.pointer_mut(above).unwrap()[key] = value;
        }
        if place.ends_with("NetworkMode") {
            seen["HostConfig"]["PortBindings"] = json!({});
        }
        let (made, found) = (made(seen.clone()), read(seen));
        let mut wanted = rendered();
        wanted.spec = only(&found).clone();
        wanted.digest = wanted.spec.image.digest.unwrap();
        let own = wanted.spec.environment.iter().map(|(key, value)| (key.to_string(), value.plain_text()));
        let shared = found.env.iter().map(|(key, value)| (key.to_string(), value.clone()));
        wanted.env = drover_proto::secret::Secret::new(own.chain(shared).collect());
        assert_eq!(made.differences(&wanted, &Places::new()), [""; 0], "{place}");
    }
}

#[test]
fn secrets_stay_on_the_host_and_what_cannot_be_said_is_told() {
    let mut seen = inspected();
    seen["Config"]["Env"] = json!(["DB_PASSWORD=hunter2", "PORT=80", "PATH=/bin", "LANG=C"]);
    seen["Config"]["Cmd"] = json!(["serve", "--token=x"]);
    seen["HostConfig"]["Dns"] = json!(["1.1.1.1"]);
    seen["HostConfig"]["SecurityOpt"] = json!(["seccomp=unconfined"]);
    seen["HostConfig"]["AutoRemove"] = json!(true);
    seen["Config"]["Labels"]["com.docker.compose.project"] = json!("shop");
    seen["Config"]["Labels"]["com.docker.compose.config-hash"] = json!("0");
    let found = read(seen);
    assert!(!serde_json::to_string(&found).unwrap().contains("hunter2"));
    assert_eq!(found.secrets, ["DB_PASSWORD".parse().unwrap()].into());
    let fields: Vec<&str> = found.notes.iter().map(|note| note.field.as_str()).collect();
    assert_eq!(fields, ["compose", "--rm", "security_opt", "dns", "command"]);
}

#[test]
fn an_image_that_no_registry_has_is_told() {
    let of = |called: &str, known: &[&str]| {
        let known = known.iter().map(|text| (*text).to_owned()).collect();
        let mut found = Found::default();
        let made = Made { image: called.to_owned(), repo_digests: known, ..Made::default() };
        (image(&made, &mut found).map(|image| image.to_string()), found.notes.len())
    };
    let digest = format!("sha256:{}", "cd".repeat(32));
    let at = |name: &str| format!("{name}@{digest}");
    assert_eq!(of("a:1", &[&at("b"), &at("a")]), (Ok(at("a:1")), 0));
    assert_eq!(of("a:1", &[&at("b")]), (Ok(at("b")), 0));
    assert_eq!(of(&digest, &[&at("b")]), (Ok(at("b")), 0));
    assert_eq!(of("0123456789ab", &[&at("b")]), (Ok(at("b")), 0));
    assert_eq!(of("a:1", &[]), (Ok("a:1".to_owned()), 1));
    assert!(of(&digest, &[]).0.is_err());
}
