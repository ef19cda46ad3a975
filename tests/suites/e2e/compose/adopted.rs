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
    shop.write("drover.yaml", &own.replace("8080/", "8080/nowhere"));
    shop.fails(&["404"]);
    assert_eq!(shop.containers(), before, "nothing was touched");
    assert_eq!(host.read_file("/srv/shop/prod.yml"), OVERRIDE.as_bytes());

    shop.write("drover.yaml", &own);
    let plan = shop.fleet.alice.run(&["plan", "-f", shop.manifest().to_str().expect("text")]);
    assert!(plan.stdout.contains("take compose project shop over as it runs"), "{plan}");
    shop.apply();
    assert_eq!(shop.containers(), before, "the same containers, started when they were");
    assert!(shop.apply().contains("nothing to do"));
    assert_eq!(shop.fleet.alice.app_on("shop", "web-1")["status"]["phase"]["state"], "healthy");
    shop.fleet.alice.run(&["remove", "shop", "--yes"]).ok();
    assert_eq!(shop.containers(), before, "it runs on as it was taken over");
    assert_eq!(host.read_file("/srv/shop/docker-compose.yml"), COMPOSE.as_bytes(), "so do its files");

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
