//! What is said before anything is touched: images that are not to be had, and what the host does not allow.

use std::time::{Duration, Instant};

use drover_tests::lab::{Fault, Image, Registry};

use super::Shop;

#[test]
fn a_registry_that_says_no_hangs_or_breaks_off_leaves_the_old_one_running() {
    let shop = Shop::running(&["web-1"]);
    let registry = &shop.registry;
    shop.fails(&shop.with("shop/web:1", "shop/web:nope"), &["image", "shop/web:nope", "manifest"], true);
    for (fault, words) in
        [(Fault::Unauthorized, "no basic auth credentials"), (Fault::TooManyRequests, "toomanyrequests")]
    {
        registry.misbehave(fault);
        let output = shop.fleet.alice.apply(&shop.with("shop/web:1", "shop/web:2"));
        registry.heal();
        let said = output.fails();
        assert!(said.contains(words), "{fault:?}: {said}");
        shop.serves("one");
    }
    registry.misbehave(Fault::Hang);
    let begun = Instant::now();
    shop.fails(&shop.with("shop/web:1", "shop/web:2"), &["shop/web:2"], true);
    assert!(begun.elapsed() < Duration::from_secs(60), "nobody waits for ever: {:?}", begun.elapsed());
    registry.heal();

    let two = registry.push("shop/web:2", &Image::web("two").ballast(3 << 20));
    let by_digest = format!("shop/web@{two}");
    registry.misbehave(Fault::LayerBreaks);
    shop.fails(&shop.with("shop/web:1", &by_digest), &["could not be fetched"], true);
    registry.heal();
    shop.fleet.alice.apply(&shop.with("shop/web:1", "shop/web:2")).ok();
    shop.serves("two");
}

#[test]
fn a_registry_gets_its_credentials_and_nobody_else_does() {
    let shop = Shop::running(&["web-1"]);
    let private = Registry::with_login();
    private.push("shop/web:1", &Image::web("private"));
    let image = private.name("shop/web:1");
    let open = shop.registry.name("shop/web:1");
    shop.fails(&shop.with(&open, &image), &["image", &image], true);

    let login = format!("{image}\n    credentials: {{ username: {}, secret: registry }}", Registry::USER);
    let set = |value: &str| shop.fleet.alice.run_with_stdin(&["secret", "set", "registry"], value.as_bytes()).ok();
    set("wrong");
    shop.fails(&shop.with(&open, &login), &[&image], true);
    set(Registry::PASSWORD);
    shop.fleet.alice.apply(&shop.with(&open, &login)).ok();
    shop.serves("private");
    let host = shop.host();
    assert!(!host.exec(&["grep", "-rq", Registry::PASSWORD, "/root/.docker"]).success());
    let journal = host.journal("drover-agent.service");
    assert!(!journal.contains(Registry::PASSWORD), "the password is in the agent's log");
    assert!(!shop.inspect().to_string().contains(Registry::PASSWORD));
}

#[test]
fn what_the_host_does_not_allow_is_refused_by_the_plan() {
    let shop = Shop::running(&["web-1"]);
    let host = shop.host();
    host.sh("mkdir -p /srv/shop/out; ln -sfn /etc /srv/shop/out/etc; ln -sfn /var/run/docker.sock /srv/shop/sock");
    let field = |line: &str| shop.with("    read_only: true\n", &format!("    read_only: true\n    {line}\n"));
    let mount = |source: &str| shop.with("/srv/shop:/srv:ro", &format!("{source}:/srv:ro"));
    for (manifest, words) in [
        (field("privileged: true"), "it would be privileged"),
        (field("devices: [/dev/kmsg]"), "/dev/kmsg"),
        (field("cap_add: [SYS_ADMIN]"), "SYS_ADMIN"),
        (mount("/etc"), "bind_sources"),
        (mount("/srv/shop/out/etc"), "which leads to /etc,"),
        (mount("/srv/shop/sock"), "Docker's socket"),
        (mount("/var/run/docker.sock"), "Docker's socket"),
        (mount("/srv/none"), "is not there"),
    ] {
        let output = shop.fleet.alice.run(&["plan", "-f", manifest.to_str().expect("text")]);
        assert!(output.stdout.contains("refused[policy]") && output.stdout.contains(words), "{words}: {output}");
        shop.fails(&manifest, &[words], true);
    }
    let namespaces = shop.manifest(|text| {
        text.replace("    ports: [\"8080:8080\"]\n", "    host_namespaces: [network]\n")
            .replace("    networks: [shop]\n", "")
    });
    shop.fails(&namespaces, &["host's network namespace"], true);

    host.write_file("/etc/drover/policy.toml", b"[containers]\nbind_sources = [\"/srv\", \"/etc\"]\n");
    shop.fleet.alice.apply(&mount("/srv/shop/out/etc")).ok();
    host.write_file("/etc/drover/policy.toml", b"[containers]\nbind_source = []\n");
    shop.fails(&shop.with("GREETING: hello", "GREETING: again"), &["policy", "bind_source"], true);
}

#[test]
fn names_and_ports_of_others_are_refused_by_the_plan() {
    let shop = Shop::running(&["web-1"]);
    let host = shop.host();
    host.docker(&["run", "-d", "--name", "theirs", "-p", "8090:8080", &shop.registry.name("shop/web:1")]).ok();
    let name = shop.manifest(|text| format!("{}\n", text.replace("  shop-web:", "  theirs:")));
    shop.fails(&name, &["theirs", "is not drover's"], true);
    shop.fails(&shop.with("8080:8080", "8090:8080"), &["8090"], true);
    host.docker(&["inspect", "theirs"]).ok();
}
