//! What is refused unless the host's owner allows it.
use drover_proto::{
    app::{Mount, MountSource},
    template::Template,
};

use super::*;
use crate::render::tests::{container, layout};

fn mount(path: &str, target: &str, read_only: bool) -> Mount {
    let source = MountSource::Path(Template::literal(path));
    Mount { source, target: target.parse().unwrap(), read_only }
}

fn judged(policy: &str, change: impl FnOnce(&mut RenderedContainer), places: &[(&str, &str)]) -> Vec<String> {
    let mut container = container();
    change(&mut container);
    for (index, (path, _)) in places.iter().enumerate() {
        container.spec.volumes.push(mount(path, &format!("/m{index}"), false));
    }
    let places = places.iter().map(|(path, real)| ((*path).to_owned(), Ok((*real).to_owned()))).collect();
    refusals(&toml::from_str(policy).unwrap(), &"mono".parse().unwrap(), &container, &places, &layout())
}

fn paths(policy: &str, path: &str, real: &str) -> String {
    judged(policy, |_| {}, &[(path, real)]).join("; ")
}

#[test]
fn by_default_a_container_gets_nothing_of_the_host() {
    let words = judged(
        "",
        |container| {
            let rights = &mut container.spec.rights;
            rights.privileged = true;
            rights.host_namespaces = [Namespace::Network, Namespace::Pid].into();
            rights.devices = ["/dev/fuse".parse().unwrap()].into();
            rights.cap_add = ["NET_ADMIN".to_owned(), "CHOWN".to_owned()].into();
        },
        &[],
    );
    let said = words.join("; ");
    for part in ["privileged", "host's network", "host's pid", "/dev/fuse", "capability NET_ADMIN"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("CHOWN") && words.len() == 5, "{said}");
}

#[test]
fn the_owner_of_the_host_may_allow_it() {
    let policy = "[containers]\nprivileged = true\nhost_namespaces = ['network']\ncapabilities = ['CAP_NET_ADMIN']\n\
                  devices = ['/dev/net']\nbind_sources = ['/home']\ndocker_socket = true";
    let words = judged(
        policy,
        |container| {
            let rights = &mut container.spec.rights;
            rights.privileged = true;
            rights.host_namespaces = [Namespace::Network].into();
            rights.devices = ["/dev/net/tun".parse().unwrap()].into();
            rights.cap_add = ["NET_ADMIN".to_owned()].into();
        },
        &[("/home/x", "/home/x")],
    );
    assert!(words.is_empty(), "{words:?}");
    assert!(paths(policy, "/srv/x", "/srv/x").contains("none of the directories"), "the list is theirs");
}

#[test]
fn a_path_is_judged_by_where_it_leads() {
    for (path, real, words) in [
        ("/srv/shop", "/srv/shop", ""),
        ("/srv/shop", "/etc", "which leads to /etc,"),
        ("/etc/passwd", "/etc/passwd", "bind_sources"),
        ("/srvx", "/srvx", "bind_sources"),
        ("/srv/sock", "/run/docker.sock", "Docker's socket"),
        ("/run", "/run", "Docker's socket"),
        ("/", "/", "Docker's socket"),
    ] {
        let said = paths("", path, real);
        assert!(said.is_empty() == words.is_empty() && said.contains(words), "{path}: {said}");
    }
    let all = "[containers]\nbind_sources = ['/']\ndocker_socket = true";
    assert!(paths(all, "/srv", layout().state_dir.to_str().unwrap()).contains("drover's own state"));
    assert!(paths(all, "/etc", "/etc").is_empty());
}

#[test]
fn links_are_followed_and_what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
    let mut container = container();
    let (link, none) = (format!("{}/link", dir.path().display()), format!("{}/none", dir.path().display()));
    container.spec.volumes = vec![mount(&link, "/a", true), mount(&none, "/b", true)];
    let places_of = |container: &_, layout: &Layout| places(container, layout);
    let places = places_of(&container, &layout());
    assert_eq!(places[&link], Ok("/etc".to_owned()));
    let moved = Layout { state_dir: link.clone().into(), ..layout() };
    container.spec.volumes = vec![mount("/etc/passwd", "/a", true)];
    assert_eq!(places_of(&container, &moved)["/etc/passwd"], Ok(format!("{link}/passwd")), "by drover's own name");
    assert!(places[&none].as_ref().unwrap_err().contains("is not there"));
}

#[test]
fn a_policy_that_cannot_be_read_allows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    assert_eq!(read(&file), Ok(Policy::default()));
    std::fs::write(&file, "[containers]\nprivilegd = true\n").unwrap();
    let error = read(&file).unwrap_err();
    assert!(error.contains("privilegd") && error.contains("policy.toml"), "{error}");
}

#[test]
fn of_drovers_own_files_a_container_gets_its_secrets_and_its_release_to_read() {
    let container = container();
    assert!(container.secrets.contains("/var/lib/drover/env/mono/shop/KEY") && container.binds().next().is_none());
    let all = "[containers]\nbind_sources = ['/']\ndocker_socket = true";
    for path in [
        "/var/lib/drover/env",
        "/var/lib/drover/env/mono/shop",
        "/var/lib/drover/env/other/db/KEY",
        "/var/lib/drover/agent/desired.json",
        "/var/lib/drover/releases/other/0123",
        "/var/lib/drover/releases/mono",
        "/var/lib",
    ] {
        assert!(paths(all, path, path).contains("drover's own state"), "{path}");
    }
    let release = "/var/lib/drover/releases/mono/0123/conf";
    assert!(paths("", release, release).contains("add :ro"), "nobody writes there");
    let mut readable = container.clone();
    readable.spec.volumes = vec![mount(release, "/conf", true)];
    let places = [(release.to_owned(), Ok(release.to_owned()))].into();
    let policy = Policy::default();
    assert_eq!(refusals(&policy, &"mono".parse().unwrap(), &readable, &places, &layout()), <[String; 0]>::default());
}

#[test]
fn output_goes_nowhere_that_the_host_does_not_allow() {
    let logging = |driver: &str| Some(drover_proto::app::Logging { driver: driver.to_owned(), options: [].into() });
    assert!(judged("", |c| c.spec.logging = logging("journald"), &[]).is_empty());
    assert!(judged("", |c| c.spec.logging = logging("syslog"), &[])[0].contains("log_drivers"));
    assert!(judged("[containers]\nlog_drivers = ['syslog']", |c| c.spec.logging = logging("syslog"), &[]).is_empty());
}

#[test]
fn a_path_of_the_policy_is_absolute() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    std::fs::write(&file, "[containers]\nbind_sources = ['/srv', '']\n").unwrap();
    assert!(read(&file).unwrap_err().contains("no absolute path"));
}
