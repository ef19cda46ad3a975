//! The fields of a container, each only if it says something. Part of `written`.

use drover_proto::app::{Container, Healthcheck, Limits, MountSource, Namespace, Restart, Rights};

use super::{argv, as_it_is, page::Page, template};

pub(super) fn fields(page: &mut Page, container: &Container) {
    page.text("image", &container.image.to_string());
    if container.adopt {
        page.field("adopt", "true");
    }
    for (key, list) in [("entrypoint", &container.entrypoint), ("command", &container.command)] {
        match list {
            Some(list) if list.is_empty() => page.field(key, "[]"),
            Some(list) => page.list(key, argv(list)),
            None => {}
        }
    }
    page.map("environment", container.environment.iter().map(|(key, value)| (key.as_str(), template(value))));
    page.list("ports", container.ports.iter().map(ToString::to_string));
    page.list(
        "volumes",
        container.volumes.iter().map(|mount| {
            let source = match &mount.source {
                MountSource::Volume(name) => name.to_string(),
                MountSource::Path(path) => template(path),
            };
            format!("{source}:{}{}", as_it_is(mount.target.as_str()), if mount.read_only { ":ro" } else { "" })
        }),
    );
    page.list("networks", container.networks.iter().map(ToString::to_string));
    limits(page, &container.limits);
    for (key, text) in [
        ("user", container.user.clone()),
        ("working_dir", container.working_dir.as_ref().map(ToString::to_string)),
        ("stop_signal", container.stop_signal.clone()),
    ] {
        text.iter().for_each(|text| page.text(key, &as_it_is(text)));
    }
    let restart = match container.restart {
        Restart::No => "no",
        Restart::OnFailure => "on-failure",
        Restart::Always => "always",
        Restart::UnlessStopped => "unless-stopped",
    };
    page.text("restart", restart);
    container.healthcheck.iter().for_each(|check| health(page, check));
    if let Some(logging) = &container.logging {
        page.open("logging");
        page.text("driver", &as_it_is(&logging.driver));
        page.map("options", logging.options.iter().map(|(key, value)| (key.as_str(), as_it_is(value))));
        page.close();
    }
    page.text("stop_grace_period", &container.stop_grace_period.to_string());
    page.map("labels", container.labels.iter().map(|(key, value)| (key.as_str(), as_it_is(value))));
    rights(page, &container.rights);
}

fn limits(page: &mut Page, limits: &Limits) {
    if limits.is_default() {
        return;
    }
    page.open("limits");
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    for (key, value) in [
        ("memory", number(limits.memory_bytes)),
        ("cpus", limits.cpu_millis.map(|millis| format!("{}.{:03}", millis / 1000, millis % 1000))),
        ("pids", number(limits.pids.map(u64::from))),
        ("shm", number(limits.shm_bytes)),
    ] {
        value.iter().for_each(|value| page.field(key, value));
    }
    page.map("ulimits", limits.ulimits.iter().map(|(name, (soft, hard))| (name.as_str(), format!("{soft}:{hard}"))));
    page.close();
}

fn health(page: &mut Page, check: &Healthcheck) {
    page.open("healthcheck");
    if check.test.is_empty() {
        page.field("test", "[]");
    } else {
        page.list("test", argv(&check.test));
        page.text("interval", &check.interval.to_string());
        page.text("timeout", &check.timeout.to_string());
        page.field("retries", &check.retries.to_string());
        page.text("start_period", &check.start_period.to_string());
    }
    page.close();
}

fn rights(page: &mut Page, rights: &Rights) {
    for (key, set) in [("read_only", rights.read_only), ("privileged", rights.privileged)] {
        if set {
            page.field(key, "true");
        }
    }
    page.list("tmpfs", rights.tmpfs.iter().map(ToString::to_string));
    page.list("cap_drop", rights.cap_drop.iter().cloned());
    page.list("cap_add", rights.cap_add.iter().cloned());
    let word = |space: &Namespace| match space {
        Namespace::Network => "network".to_owned(),
        Namespace::Pid => "pid".to_owned(),
        Namespace::Ipc => "ipc".to_owned(),
    };
    page.list("host_namespaces", rights.host_namespaces.iter().map(word));
    page.list("devices", rights.devices.iter().map(ToString::to_string));
}
