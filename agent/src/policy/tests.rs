//! What is refused unless the host's owner allows it.
use drover_proto::{
    app::{Mount, MountSource},
    template::Template,
};

use super::*;
use crate::render::tests::{container, layout};

fn judged(policy: &str, change: impl FnOnce(&mut RenderedContainer), places: &[(&str, &str)]) -> Vec<String> {
    let mut container = container();
    change(&mut container);
    let places = places.iter().map(|(path, real)| ((*path).to_owned(), Ok((*real).to_owned()))).collect();
    refusals(&toml::from_str(policy).unwrap(), &container, &places, &layout())
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
    let mount = |path: String, target: &str| Mount {
        source: MountSource::Path(Template::literal(path)),
        target: target.parse().unwrap(),
        read_only: true,
    };
    let (link, none) = (format!("{}/link", dir.path().display()), format!("{}/none", dir.path().display()));
    container.spec.volumes = vec![mount(link.clone(), "/a"), mount(none.clone(), "/b")];
    let places = places(&container, &layout());
    assert_eq!(places[&link], Ok("/etc".to_owned()));
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
