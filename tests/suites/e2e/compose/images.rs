//! Where the images of a project come from: built on the host, or from a registry that wants to know who asks.

use std::collections::BTreeSet;

use drover_tests::lab::{Image, Registry};
use serde_json::Value;

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

/// The records of builds that the engine keeps.
fn cache(shop: &Shop) -> BTreeSet<String> {
    let url = "http://docker/v1.44/system/df?type=build-cache";
    let said = shop.host().exec(&["curl", "-sf", "--unix-socket", "/run/docker.sock", url]).ok();
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let records = said["BuildCache"].as_array().into_iter().flatten();
    records.map(|record| record["ID"].as_str().expect("an id").to_owned()).collect()
}

/// What the engine kept of drover's builds goes; what it kept of somebody else's stays.
pub(super) fn cleaned_up(shop: &Shop) {
    let (host, alice) = (shop.host(), &shop.fleet.alice);
    let drovers = cache(shop);
    assert!(!drovers.is_empty());
    let dockerfile = format!("FROM {}\nRUN echo mine > /mine\n", shop.registry.name("shop/web:1"));
    host.write_file("/srv/mine/Dockerfile", dockerfile.as_bytes());
    host.write_file("/srv/mine/compose.yml", b"services: { mine: { build: . } }\n");
    host.sh("cd /srv/mine; docker compose build");
    let own: BTreeSet<String> = cache(shop).difference(&drovers).cloned().collect();
    assert!(!own.is_empty());
    let items = |view: &Value| {
        let items = view["hosts"][0]["outcome"]["pruned"]["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().filter(|item| item["kind"] == "build-cache").collect::<Vec<Value>>()
    };
    let planned = items(&alice.json(&["prune", "--plan"]));
    assert!(planned.len() == 2 && planned[0]["app"] == "shop" && planned[0]["verdict"] == "goes", "{planned:#?}");
    assert_eq!(items(&alice.json(&["prune"]))[0]["verdict"], "gone");
    let left = cache(shop);
    assert!(own.is_subset(&left), "somebody else's is still there: {own:?} {left:?}");
    // What that was made of, too.
    assert!(left.len() < own.len() + drovers.len(), "drover's has gone: {drovers:?} {left:?}");
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
