//! A project that somebody has brought up by hand: taken over as it runs, left as it was, and drover's once a release has
//! changed it.

use super::{COMPOSE, MANIFEST, OVERRIDE, Shop};

/// Leaves the host as it found it, but for volumes and files beside those of the project.
pub fn adopted(shop: &Shop) {
    let host = shop.host();
    shop.version("1");
    let own = MANIFEST
        .replace("UNUSED: one }", "KEY: of-somebody }")
        .replace("  secrets: { KEY: { generate: 32 } }\n", "")
        .replace("    profiles: [cache]\n", "    profiles: [cache]\n    adopt: true\n");
    let env = format!("REGISTRY={}\nVERSION=1\n", shop.registry.address());
    for (name, text) in [("docker-compose.yml", COMPOSE), ("prod.yml", OVERRIDE), ("prod.env", &env)] {
        host.write_file(&format!("/srv/shop/{name}"), text.as_bytes());
    }
    let by_hand = "cd /srv/shop; export GREETING=hello KEY=of-somebody; compose=docker-compose; \
                   docker compose version >/dev/null 2>&1 && compose='docker compose'; \
                   $compose --env-file prod.env -f docker-compose.yml -f prod.yml --profile cache up -d";
    host.sh(by_hand);
    let before = shop.containers();
    assert!(before.len() >= 3, "{before:?}");

    // What is not as it runs is refused, and says what.
    shop.refused("drover.yaml", &own.replace("    adopt: true\n", ""), &["not-owned", "adopt: true takes it over"]);
    shop.refused("drover.yaml", &own.replace("hello", "bye"), &["not-owned", "web", "was made of something else"]);
    shop.refused("drover.yaml", &own.replace("    profiles: [cache]\n", ""), &["service cache runs there"]);
    shop.write("drover.yaml", &own);
    shop.refused(
        "prod.yml",
        &format!("{OVERRIDE}# changed\n"),
        &["/srv/shop/prod.yml on the host is not as the release has it"],
    );

    // A release that fails leaves it as it was.
    let ill = own.replace("8080/", "8080/nowhere").replace("healthy_deadline: 60s", "healthy_deadline: 15s");
    shop.write("drover.yaml", &ill);
    shop.fails(&["404"]);
    assert_eq!(shop.containers(), before, "nothing was touched");
    assert_eq!(host.read_file("/srv/shop/prod.yml"), OVERRIDE.as_bytes());

    imported(shop, &before);
    shop.write("drover.yaml", &own);
    shop.apply();
    let cache = shop.container("cache");
    shop.version("2");
    shop.apply();
    shop.serves("2");
    assert_eq!(shop.container("cache"), cache, "only what differs is made anew");
    shop.fleet.alice.run(&["rollback", "shop"]).ok();
    shop.serves("1");
    shop.fleet.alice.run(&["remove", "shop", "--yes"]).ok();
    assert_eq!(shop.containers(), <[&str; 0]>::default(), "what drover has made goes with the app");
    host.sh("rm -rf /srv/shop/*.yml /srv/shop/prod.env");
    shop.as_it_was();
}

/// What `drover import` writes of it takes it over, and gives it back.
fn imported(shop: &Shop, before: &[String]) {
    let (alice, host, folder) = (&shop.fleet.alice, shop.host(), tempfile::tempdir().expect("a temporary directory"));
    let manifest = folder.path().join("drover.yaml");
    let file = manifest.to_str().expect("text");
    let said = alice.run(&["import", "compose", "shop", "--host", "web-1", "-f", file]);
    for words in ["GREETING, KEY", "stood in the environment of whoever brought it up", "drover.yaml is written"] {
        assert!(said.stderr.contains(words), "{words}: {said}");
    }
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    assert_eq!(std::fs::read_to_string(folder.path().join("prod.yml")).expect("its file"), OVERRIDE);
    // 1.29 does not say which file of variables it was given.
    let env = format!(
        "env: {{ values: {{ GREETING: hello, KEY: of-somebody, VERSION: \"1\", REGISTRY: \"{}\" }} }}\n\
         strategy: {{ min_healthy_time: 1s }}\n",
        shop.registry.address()
    );
    std::fs::write(&manifest, format!("{text}{env}")).expect("the manifest");
    let plan = alice.run(&["plan", "-f", file]);
    assert!(plan.stdout.contains("take compose project shop over as it runs"), "{plan}\n{text}");
    alice.apply(&manifest).ok();
    assert_eq!(shop.containers(), before, "the same containers, started when they were");
    assert!(alice.apply(&manifest).ok().contains("nothing to do"));
    assert_eq!(alice.app_on("shop", "web-1")["status"]["phase"]["state"], "healthy");
    alice.run(&["remove", "shop", "--yes"]).ok();
    assert_eq!(shop.containers(), before, "it runs on as it was taken over");
    assert_eq!(host.read_file("/srv/shop/docker-compose.yml"), COMPOSE.as_bytes(), "so do its files");
}
