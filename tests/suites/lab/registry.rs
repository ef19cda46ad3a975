//! Where images come from: a registry of the test's own, plain or with a login, whole or misbehaving.

use std::time::Duration;

use drover_tests::lab::{Debian, Fault, Image, Lab, Registry, eventually, http};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn images_are_pulled_by_tag_and_by_digest_and_tags_move() {
    let lab = Lab::start();
    let registry = Registry::start();
    let host = lab.docker_host("web-1");
    let one = registry.push("shop/web:1", &Image::web("1"));
    let two = registry.push("shop/web:2", &Image::web("2"));
    assert_ne!(one, two);
    assert_eq!(registry.push("shop/web:again", &Image::web("1")), one, "an image's digest depends on its content only");

    let content = |name: &str| {
        host.docker(&["pull", "-q", name]).ok();
        host.docker(&["run", "--rm", name, "cat", "/www/index.html"]).ok()
    };
    let by_digest = |digest: &str| registry.name(&format!("shop/web@{digest}"));
    assert_eq!(content(&registry.name("shop/web:1")), "1");
    assert_eq!(content(&by_digest(&two)), "2");
    let digests = host.docker(&["inspect", "--format", "{{.RepoDigests}}", &registry.name("shop/web:1")]).ok();
    assert_eq!(digests, format!("[{}]", by_digest(&one)));

    registry.tag("shop/web:1", &two);
    assert_eq!(content(&registry.name("shop/web:1")), "2");
    let asked = registry.asked();
    assert!(asked.iter().any(|line| line.ends_with(" /v2/shop/web/manifests/1")), "{asked:#?}");

    // One that the host has never seen: of those it has, it also keeps the manifests.
    let gone = registry.push("shop/web:3", &Image::web("3"));
    registry.remove("shop/web", &gone);
    for name in [registry.name("shop/web:3"), by_digest(&gone)] {
        let said = host.docker(&["pull", &name]).fails();
        assert!(said.contains("manifest unknown"), "{said}");
    }
}

#[test]
fn an_image_for_several_architectures_has_the_digest_of_its_list() {
    let lab = Lab::start();
    let registry = Registry::start();
    let host = lab.docker_host_on(Debian::Trixie, "web-1");
    let (here, there) = (Image::web("here"), Image::web("there"));
    let ours = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let list = registry.push_for("web:1", &[(ours, &here), ("s390x", &there)]);
    let name = registry.name("web:1");
    assert_eq!(host.docker(&["run", "--rm", &name, "cat", "/www/index.html"]).ok(), "here");
    let digests = host.docker(&["inspect", "--format", "{{.RepoDigests}}", &name]).ok();
    assert_eq!(digests, format!("[{}]", registry.name(&format!("web@{list}"))));
    let alone = registry.push("web:alone", &here);
    assert_ne!(alone, list);
    registry.tag("web:alone", &list);
    host.docker(&["pull", &registry.name("web:alone")]).ok();
}

#[test]
fn a_registry_with_a_login_answers_nobody_else() {
    let lab = Lab::start();
    let registry = Registry::with_login();
    let host = lab.docker_host("web-1");
    registry.push("web:1", &Image::web("1"));
    let name = registry.name("web:1");
    let bare = http::ask(registry.address().parse().expect("an address"), "GET", "/v2/", &[], b"").expect("an answer");
    assert_eq!(bare.status, 401);
    let said = host.docker(&["pull", &name]).fails();
    assert!(said.contains("no basic auth credentials"), "{said}");
    let wrong = ["docker", "login", "-u", Registry::USER, "--password-stdin", &registry.address()];
    host.exec_with_stdin(&wrong, b"wrong").fails();
    registry.log_in(&host);
    host.docker(&["pull", &name]).ok();
}

#[test]
fn a_registry_misbehaves_and_heals() {
    let lab = Lab::start();
    let registry = Registry::start();
    let host = lab.docker_host("web-1");
    registry.push("web:1", &Image::web("1"));
    let name = registry.name("web:1");
    let refusals = [
        (Fault::Unauthorized, "no basic auth credentials"),
        (Fault::TooManyRequests, "toomanyrequests"),
        (Fault::LayerBreaks, "EOF"),
    ];
    for (fault, words) in refusals {
        registry.misbehave(fault);
        let said = host.docker(&["pull", &name]).fails();
        assert!(said.contains(words), "{fault:?}: {said}");
        assert_eq!(host.docker(&["image", "ls", "-q"]).ok(), "", "nothing of it is left");
    }
    for (fault, reached) in [(Fault::Hang, "GET /v2/"), (Fault::LayerStalls, "/blobs/")] {
        registry.misbehave(fault);
        let before = registry.asked().len();
        let ended = host.exec(&["timeout", "3", "docker", "pull", &name]);
        assert_eq!(ended.status, 124, "{fault:?} lets it wait: {ended}");
        let asked = registry.asked();
        assert!(asked[before..].iter().any(|line| line.contains(reached)), "{fault:?}: {asked:#?}");
    }
    registry.heal();
    host.docker(&["pull", &name]).ok();
    assert_eq!(host.docker(&["run", "--rm", &name, "cat", "/www/index.html"]).ok(), "1");
}

#[test]
fn registries_are_apart_and_leave_nothing() {
    let _lab = Lab::start();
    let (one, two) = (Registry::start(), Registry::start());
    let digest = one.push("web:1", &Image::scratch());
    let status = |registry: &Registry| {
        let to = registry.address().parse().expect("an address");
        http::ask(to, "HEAD", &format!("/v2/web/manifests/{digest}"), &[], b"").map(|reply| reply.status)
    };
    assert_eq!(status(&one).expect("an answer"), 200);
    assert_eq!(status(&two).expect("an answer"), 404);
    let storage = one.storage();
    assert!(storage.is_dir());
    let address = one.address().parse().expect("an address");
    drop(one);
    assert!(!storage.exists());
    http::ask(address, "GET", "/v2/", &[], b"").expect_err("nobody listens");
}

#[test]
fn images_of_debian_packages_do_what_public_ones_do() {
    let lab = Lab::start();
    let registry = Registry::start();
    let host = lab.docker_host("web-1");
    registry.stand_in_for_hub(&host);
    for (name, recipe) in [("redis:7-alpine", "redis"), ("postgres:15", "postgres"), ("nginx:alpine", "nginx")] {
        registry.push(&format!("library/{name}"), &Image::debian(recipe));
    }
    let password = ["-e", "POSTGRES_PASSWORD=secret", "-e", "POSTGRES_DB=shop"];
    host.docker(&["network", "create", "back"]).ok();
    let run = |args: &[&str]| host.docker(&[&["run", "-d", "--network", "back"], args].concat()).ok();
    run(&["--name", "cache", "-v", "cache:/data", "redis:7-alpine", "redis-server", "--appendonly", "yes"]);
    run(&[&["--name", "db", "-v", "db:/var/lib/postgresql/data"], &password[..], &["postgres:15"]].concat());
    run(&["--name", "web", "-p", "80:80", "nginx:alpine"]);

    let query = ["run", "--rm", "--network", "back", "-e", "PGPASSWORD=secret", "postgres:15"];
    let query = [&query[..], &["psql", "-h", "db", "-U", "postgres", "-d", "shop", "-Atc", "select 6 * 7"]].concat();
    eventually("the database answers", SOON, || {
        let said = host.docker(&query);
        if said.stdout == "42\n" { Ok(()) } else { Err(said.to_string()) }
    });
    host.docker(&["exec", "db", "pg_isready"]).ok();
    let ping = ["run", "--rm", "--network", "back", "redis:7-alpine", "redis-cli", "-h", "cache", "ping"];
    eventually("the cache answers", SOON, || host.docker(&ping).stdout == "PONG\n");
    let page = eventually("the web server answers", SOON, || host.http_get(80, "/"));
    assert_eq!((page.status, page.text().as_str()), (200, "Welcome to nginx!\n"));
    host.docker(&["stop", "cache", "db", "web"]).ok();
    let codes = host.docker(&["inspect", "-f", "{{.State.ExitCode}}", "cache", "db", "web"]).ok();
    assert_eq!(codes, "0\n0\n0", "each ends by itself when told to");
}
