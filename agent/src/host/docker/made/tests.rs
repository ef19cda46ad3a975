//! What was made by hand, against what a manifest says of it. The engine's answers are as dockerd gives them.

use bollard::models::{ContainerInspectResponse, ImageInspect};
use drover_proto::app::Restart;
use serde_json::{Value, json};

use super::*;
use crate::{
    policy::Places,
    render::{RenderedContainer, tests::container},
};

const DIGEST: &str = "sha256:abababababababababababababababababababababababababababababababab";

fn image() -> Value {
    json!({
        "Id": "sha256:1", "RepoDigests": [format!("shop/web@{DIGEST}")],
        "Config": {
            "Env": ["PATH=/bin", "LANG=C"], "Entrypoint": ["/entry"], "Cmd": ["serve"], "WorkingDir": "/app", "User": "web",
            "Labels": { "maintainer": "them" }, "Volumes": { "/data": {} }, "StopSignal": "SIGINT",
            "Healthcheck": { "Test": ["CMD-SHELL", "check it"], "Interval": 5_000_000_000_u64 },
        },
    })
}

/// As `docker run -d --name web -e PORT=80 -p 8080:80 -v data:/srv --restart always shop/web:1` makes it.
pub(crate) fn inspected() -> Value {
    json!({
        "Id": "0123456789abcdef", "Name": "/web", "Image": "sha256:1",
        "State": { "Running": true, "Status": "running" },
        "Config": {
            "Hostname": "0123456789ab", "Image": "shop/web:1", "Env": ["PORT=80", "PATH=/bin", "LANG=C"], "Entrypoint": ["/entry"],
            "Cmd": ["serve"], "WorkingDir": "/app", "User": "web", "Labels": { "maintainer": "them" }, "StopSignal": "SIGINT",
            "Healthcheck": { "Test": ["CMD-SHELL", "check it"], "Interval": 5_000_000_000_u64 },
        },
        "HostConfig": {
            "NetworkMode": "default", "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] },
            "RestartPolicy": { "Name": "always", "MaximumRetryCount": 0 }, "ShmSize": 67_108_864, "IpcMode": "private",
            "LogConfig": { "Type": "json-file", "Config": {} }, "Memory": 0, "NanoCpus": 0, "PidsLimit": null,
            "MaskedPaths": ["/proc/acpi"], "ReadonlyPaths": ["/proc/bus"], "Runtime": "runc", "CgroupnsMode": "private",
        },
        "Mounts": [
            { "Type": "volume", "Name": "data", "Source": "/var/lib/docker/volumes/data/_data", "Destination": "/srv", "RW": true,
              "Driver": "local", "Mode": "z", "Propagation": "" },
            { "Type": "volume", "Name": "ab".repeat(32), "Destination": "/data", "RW": true },
        ],
        "NetworkSettings": { "Networks": { "bridge": { "IPAddress": "172.17.0.2" } } },
    })
}

pub(crate) fn made(seen: Value) -> Made {
    let seen: ContainerInspectResponse = serde_json::from_value(seen).unwrap();
    let image: ImageInspect = serde_json::from_value(image()).unwrap();
    let mut state = ContainerState::from(seen.clone());
    state.digests = [DIGEST.parse().unwrap()].into();
    Made::of(state, seen, image)
}

/// The container of a manifest that says just that.
fn wanted() -> RenderedContainer {
    let mut wanted = container();
    let spec = json!({ "image": format!("shop/web:1@{DIGEST}"), "restart": "always", "stop_grace_period": "10s" });
    (wanted.spec, wanted.digest) = (serde_json::from_value(spec).unwrap(), DIGEST.parse().unwrap());
    wanted.spec.ports = ["8080:80".parse().unwrap()].into();
    wanted.spec.volumes = vec![drover_proto::app::Mount {
        source: drover_proto::app::MountSource::Volume("data".parse().unwrap()),
        target: "/srv".parse().unwrap(),
        read_only: false,
    }];
    wanted.spec.restart = Restart::Always;
    wanted.env = drover_proto::secret::Secret::new([("PORT".to_owned(), "80".to_owned())].into());
    wanted
}

#[track_caller]
fn differ(seen: Value, change: impl FnOnce(&mut RenderedContainer), expected: &[&str]) {
    let mut wanted = wanted();
    change(&mut wanted);
    assert_eq!(made(seen).differences(&wanted, &Places::new()), expected);
}

fn with(place: &str, value: Value) -> Value {
    let mut seen = inspected();
    *seen
        .pointer_mut(place.rsplit_once('/').unwrap().0)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .entry(place.rsplit_once('/').unwrap().1)
        .or_insert(Value::Null) = value;
    seen
}

#[test]
fn one_that_was_made_just_so_does_not_differ() {
    differ(inspected(), |_| {}, &[]);
    differ(inspected(), |wanted| wanted.spec.user = Some("web".to_owned()), &[]);
    differ(inspected(), |wanted| wanted.spec.entrypoint = Some(vec![]), &["entrypoint"]);
    let explicit = |wanted: &mut RenderedContainer| {
        wanted.spec.command = Some(vec![drover_proto::template::Template::literal("serve")]);
        wanted.spec.working_dir = Some("/app".parse().unwrap());
        wanted.spec.limits.shm_bytes = Some(64 << 20);
    };
    differ(inspected(), explicit, &[]);
}

#[test]
fn each_field_is_told_by_its_name() {
    type Change = fn(&mut RenderedContainer);
    let rows: [(Change, &str); 13] = [
        (
            |w| w.digest = "sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd".parse().unwrap(),
            "image",
        ),
        (|w| w.spec.command = Some(vec![drover_proto::template::Template::literal("other")]), "command"),
        (|w| w.spec.user = Some("root".to_owned()), "user"),
        (|w| w.spec.working_dir = Some("/other".parse().unwrap()), "working_dir"),
        (|w| w.spec.ports.clear(), "ports"),
        (|w| w.spec.volumes[0].read_only = true, "volumes"),
        (|w| w.spec.networks = ["shop".parse().unwrap()].into(), "networks"),
        (|w| w.spec.limits.memory_bytes = Some(64 << 20), "limits"),
        (|w| w.spec.restart = Restart::No, "restart"),
        (|w| w.spec.stop_grace_period = drover_proto::duration::Span::from_secs(9), "stop_grace_period"),
        (|w| drop(w.spec.labels.insert("a".to_owned(), "b".to_owned())), "labels"),
        (|w| w.spec.rights.privileged = true, "privileged"),
        (|w| w.spec.stop_signal = Some("SIGTERM".to_owned()), "stop_signal"),
    ];
    for (change, field) in rows {
        differ(inspected(), change, &[field]);
    }
    let secret = |wanted: &mut RenderedContainer| {
        wanted.env = drover_proto::secret::Secret::new([("PORT".to_owned(), "81".to_owned())].into());
    };
    differ(inspected(), secret, &["environment (PORT)"]);
}

#[test]
fn what_a_container_may_do_beyond_any_manifest_makes_it_another_one() {
    differ(with("/HostConfig/SecurityOpt", json!(["seccomp=unconfined"])), |_| {}, &["security_opt"]);
    differ(with("/HostConfig/SecurityOpt", json!(["no-new-privileges"])), |_| {}, &[]);
    differ(with("/HostConfig/MaskedPaths", json!([])), |_| {}, &["security_opt"]);
    differ(with("/HostConfig/PidMode", json!("container:x")), |_| {}, &["pid"]);
    differ(with("/HostConfig/PidMode", json!("host")), |_| {}, &["host_namespaces"]);
    differ(with("/HostConfig/UsernsMode", json!("host")), |_| {}, &["userns"]);
    differ(with("/HostConfig/Privileged", json!(true)), |_| {}, &["privileged"]);
    differ(with("/HostConfig/CapAdd", json!(["CAP_NET_ADMIN"])), |_| {}, &["cap_add"]);
    let may = |wanted: &mut RenderedContainer| wanted.spec.rights.cap_add = ["NET_ADMIN".to_owned()].into();
    differ(with("/HostConfig/CapAdd", json!(["CAP_NET_ADMIN"])), may, &[]);
    let device = json!([{ "PathOnHost": "/dev/sda", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm" }]);
    differ(with("/HostConfig/Devices", device), |_| {}, &["devices"]);
    differ(with("/HostConfig/NetworkMode", json!("container:x")), |_| {}, &["network"]);
    let random = json!({ "80/tcp": [{ "HostIp": "", "HostPort": "" }] });
    differ(with("/HostConfig/PortBindings", random), |_| {}, &["ports"]);
    let odd = json!({ "80/tcp": [{ "HostIp": "", "HostPort": "8080" }], "53/sctp": [{ "HostPort": "53" }] });
    differ(with("/HostConfig/PortBindings", odd), |_| {}, &["ports"]);
}

#[test]
fn what_would_only_be_lost_is_told_and_no_difference() {
    for (place, value, field) in [
        ("/HostConfig/Dns", json!(["1.1.1.1"]), "dns"),
        ("/HostConfig/ExtraHosts", json!(["a:1.2.3.4"]), "extra_hosts"),
        ("/HostConfig/Init", json!(true), "init"),
        ("/Config/Hostname", json!("web"), "hostname"),
        ("/Config/Tty", json!(true), "tty"),
    ] {
        let seen = with(place, value);
        assert!(made(seen.clone()).odd.iter().any(|odd| odd.field == field && !odd.counts), "{field}");
        differ(seen, |_| {}, &[]);
    }
    assert_eq!(made(inspected()).odd, []);
    let seen = with("/Config/Env", json!(["PORT=80", "PATH=/bin", "LANG=C", "a.b=c", "X=line\nbreak", "nothing"]));
    assert_eq!(made(seen.clone()).odd.len(), 1);
    differ(seen, |_| {}, &[]);
}

#[test]
fn a_link_leads_to_what_was_mounted() {
    let bind =
        json!([{ "Type": "bind", "Source": "/real", "Destination": "/srv", "RW": true, "Propagation": "rprivate" }]);
    let mut wanted = wanted();
    wanted.spec.volumes[0].source =
        drover_proto::app::MountSource::Path(drover_proto::template::Template::literal("/link"));
    let made = made(with("/Mounts", bind));
    assert_eq!(made.differences(&wanted, &Places::new()), ["volumes"]);
    assert_eq!(made.differences(&wanted, &[("/link".to_owned(), Ok("/real".to_owned()))].into()), [""; 0]);
}
