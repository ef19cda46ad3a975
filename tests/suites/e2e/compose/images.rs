//! Where the images of a project come from: built on the host, or from a registry that wants to know who asks.

use drover_tests::lab::{Image, Registry};

use super::{COMPOSE, MANIFEST, Shop};

/// A project whose image is built on the host, from the artifact.
pub(super) fn built(shop: &Shop) {
    let source = |text: &str, more: &str| {
        std::fs::create_dir_all(shop.folder.path().join("src/backend")).expect("a folder");
        shop.write("src/backend/index.html", text);
        let from = shop.registry.name("shop/web:1");
        shop.write("src/backend/Dockerfile", &format!("FROM {from}\nCOPY index.html /www/index.html\n{more}"));
    };
    let compose = "\
version: '3.8'
services:
  web:
    build: { context: ./backend, args: { A: '${GREETING}' } }
    ports: ['8080:8080']
    stop_grace_period: 1s
    environment: { BEHAVIOUR: '${BEHAVIOUR:-serve}' }
";
    let manifest = MANIFEST
        .replace(
            "[docker-compose.yml, prod.yml]\n    env_file: prod.env\n    profiles: [cache]",
            "[docker-compose.yml]",
        )
        .replace("compose:\n", "artifact: { path: src }\ncompose:\n");
    shop.write("docker-compose.yml", compose);
    shop.write("drover.yaml", &manifest);
    // BuildKit knows no insecure registries by their network, as the lab has them: the image that it begins with is here.
    shop.host().docker(&["pull", &shop.registry.name("shop/web:1")]).ok();
    source("one", "");
    let plan = shop.fleet.alice.run(&["plan", "-f", shop.manifest().to_str().expect("text")]);
    assert!(plan.stdout.contains("build the images of compose project shop"), "{plan}");
    shop.apply();
    shop.serves("one");
    let before = shop.containers();
    assert!(shop.apply().contains("nothing to do"));
    source("two", "RUN false\n");
    shop.fails(&["could not be built"]);
    assert_eq!(shop.containers(), before, "the old one was never touched");
    source("two", "");
    shop.apply();
    shop.serves("two");
    // The name of the image is taken by another build, and comes back with the release.
    source("three", "");
    shop.write("drover.yaml", &manifest.replace("UNUSED: one", "BEHAVIOUR: crash"));
    shop.fails(&["service shop/web"]);
    shop.serves("two");
    shop.fleet.alice.run(&["rollback", "shop"]).ok();
    shop.serves("one");
    shop.fleet.alice.run(&["remove", "shop", "--yes"]).ok();
}

/// A registry gets its credentials, and nothing is stopped before it has taken them.
pub(super) fn logged_in(shop: &Shop) {
    let private = Registry::with_login();
    private.push("shop/web:2", &Image::web("private"));
    let before = shop.containers();
    let compose = COMPOSE.replacen("${REGISTRY}/shop/web:${VERSION}", &private.name("shop/web:2"), 1);
    shop.write("docker-compose.yml", &compose);
    shop.fails(&["could not be fetched", &private.address()]);
    assert_eq!(shop.containers(), before);
    let login = format!(
        "    registries: {{ \"{}\": {{ username: {}, secret: registry }} }}\nchecks:",
        private.address(),
        Registry::USER
    );
    shop.write("drover.yaml", &MANIFEST.replace("checks:", &login));
    let set = ["secret", "set", "registry"];
    shop.fleet.alice.run_with_stdin(&set, Registry::PASSWORD.as_bytes()).ok();
    shop.apply();
    shop.serves("private");
    let host = shop.host();
    assert!(!host.exec(&["grep", "-rq", Registry::PASSWORD, "/root/.docker", "/srv/shop"]).success());
    assert!(!host.journal("drover-agent.service").contains(Registry::PASSWORD), "the password is in the agent's log");
    shop.as_it_was();
    shop.apply();
}
