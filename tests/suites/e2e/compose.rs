//! Compose projects as parts of a release, with both versions of compose: refused by plan, brought up, gated, reverted, put
//! right and removed.

mod adopted;
mod images;

use std::{path::PathBuf, time::Duration};

use drover_tests::{
    fleet::Fleet,
    lab::{Debian, Host, Image, Registry, eventually},
};

/// A host, a registry with `shop/web:1` and `shop/web:2`, and an app whose files tests change.
struct Shop {
    fleet: Fleet,
    registry: Registry,
    folder: tempfile::TempDir,
}

const MANIFEST: &str = "\
version: 1
app: shop
targets: { labels: { role: web } }
strategy: { min_healthy_time: 1s, healthy_deadline: 60s, progress_deadline: 2m }
env:
  values: { GREETING: hello, UNUSED: one }
  secrets: { KEY: { generate: 32 } }
compose:
  shop:
    files: [docker-compose.yml, prod.yml]
    env_file: prod.env
    profiles: [cache]
checks:
  web: { http: \"http://127.0.0.1:8080/\", interval: 500ms }
";

const COMPOSE: &str = "\
version: '3.8'
services:
  web:
    image: ${REGISTRY}/shop/web:${VERSION}
    environment:
      GREETING: ${GREETING}
      KEY: ${KEY}
    env_file: [prod.env]
    volumes: ['data:/data', './shared:/shared']
    depends_on: [init]
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1:8080/health']
      interval: 1s
      timeout: 2s
      retries: 5
  init:
    image: ${REGISTRY}/shop/web:1
    command: ['true']
  cache:
    image: ${REGISTRY}/shop/web:1
    profiles: [cache]
    restart: always
    stop_grace_period: 1s
  debug:
    image: ${REGISTRY}/shop/none:1
    profiles: [debug]
volumes:
  data: {}
";

const OVERRIDE: &str = "\
version: '3.8'
services:
  web:
    ports: ['8080:8080']
    restart: unless-stopped
    stop_grace_period: 2s
";

impl Shop {
    fn open(debian: Debian) -> Shop {
        let fleet = Fleet::start_with(&["web-1"], |lab, name| lab.docker_host_on(debian, name));
        let registry = Registry::start();
        for version in ["1", "2"] {
            registry.push(&format!("shop/web:{version}"), &Image::web(version));
        }
        let shop = Shop { fleet, registry, folder: tempfile::tempdir().expect("a temporary directory") };
        shop.as_it_was();
        shop
    }

    /// Manifest and files of version one.
    fn as_it_was(&self) {
        self.write("drover.yaml", MANIFEST);
        self.write("docker-compose.yml", COMPOSE);
        self.write("prod.yml", OVERRIDE);
        self.version("1");
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
    }

    fn version(&self, version: &str) {
        self.write("prod.env", &format!("REGISTRY={}\nVERSION={version}\n", self.registry.address()));
    }

    fn manifest(&self) -> PathBuf {
        self.folder.path().join("drover.yaml")
    }

    fn apply(&self) -> String {
        self.fleet.alice.apply(&self.manifest()).ok()
    }

    fn host(&self) -> &Host {
        &self.fleet.hosts[0]
    }

    #[track_caller]
    fn serves(&self, version: &str) {
        let said = self.host().exec(&["curl", "-s", "-m", "5", "http://127.0.0.1:8080/"]).stdout;
        assert_eq!(said.trim(), version);
    }

    /// Of each container of the project: its service, its id and when it was started.
    fn containers(&self) -> Vec<String> {
        let filter = "label=com.docker.compose.project=shop";
        let ids = self.host().docker(&["ps", "-aq", "--no-trunc", "--filter", filter]).ok();
        let format = "{{index .Config.Labels \"com.docker.compose.service\"}} {{.Id}} {{.State.StartedAt}}";
        let of = |id: &str| self.host().docker(&["inspect", "-f", format, id]).ok();
        let mut all: Vec<String> = ids.lines().map(of).collect();
        all.sort();
        all
    }

    fn container(&self, service: &str) -> String {
        let all = self.containers();
        let mut own = all.iter().filter(|text| text.starts_with(&format!("{service} ")));
        own.next().unwrap_or_else(|| panic!("no {service} in {all:?}")).clone()
    }

    fn id(&self, service: &str) -> String {
        self.container(service).split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// Plans with other files and expects to be refused with these words; nothing is touched, and the files are as before.
    #[track_caller]
    fn refused(&self, name: &str, text: &str, words: &[&str]) {
        let path = self.folder.path().join(name);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        self.write(name, text);
        let output = self.fleet.alice.run(&["plan", "-f", self.manifest().to_str().expect("text")]);
        self.write(name, &before);
        for word in words.iter().chain(&["refused"]) {
            assert!(output.stdout.contains(word), "{word:?} is not said: {output}");
        }
    }

    /// Applies and expects a failure told with these words.
    #[track_caller]
    fn fails(&self, words: &[&str]) {
        let output = self.fleet.alice.apply(&self.manifest());
        let said = output.fails();
        for word in words {
            assert!(said.contains(word), "{word:?} is not said:\n{said}");
        }
    }

    #[track_caller]
    fn told(&self, what: &str, words: &str) {
        eventually(what, Duration::from_secs(60), || {
            let events = self.fleet.alice.run(&["events", "--app", "shop"]).ok();
            if events.contains(words) { Ok(()) } else { Err(events) }
        });
    }
}

/// Nobody has a registry, a variable or a right that he was not given, and it is said before anything is touched.
fn refused_by_plan(shop: &Shop) {
    let with = |from: &str, to: &str| {
        assert!(COMPOSE.contains(from), "{from:?}");
        COMPOSE.replacen(from, to, 1)
    };
    let yml = "docker-compose.yml";
    shop.refused(yml, &with("  web:\n", "  web: [\n"), &["/srv/shop/docker-compose.yml"]);
    shop.refused(yml, &with("    image:", "    imag:"), &["imag"]);
    shop.refused(yml, &with("[init]", "[nope]"), &["nope"]);
    shop.refused(yml, &with("${GREETING}", "${SALUTE}"), &["/srv/shop/docker-compose.yml line 6", "SALUTE"]);
    shop.refused(yml, &with("[prod.env]", "[/etc/shadow]"), &["/etc/shadow"]);
    shop.refused(
        yml,
        &with("    depends_on:", "    privileged: true\n    depends_on:"),
        &["service web", "privileged"],
    );
    shop.refused(yml, &with("'./shared:", "'/var/run/docker.sock:"), &["docker_socket"]);
    shop.refused(yml, &with("    depends_on:", "    build: .\n    depends_on:"), &["no artifact to build"]);
    shop.refused("drover.yaml", &MANIFEST.replace("[cache]", "[cash]"), &["no service has the profile cash"]);
    assert!(!shop.host().exists("/srv/shop"), "nothing was touched");
}

/// From nothing to version one, with all that is shown of it.
fn deployed(shop: &Shop) {
    let plan = shop.fleet.alice.run(&["plan", "-f", shop.manifest().to_str().expect("text")]);
    for words in ["fetch image", "shop/web:1", "write /srv/shop/docker-compose.yml", "bring compose project shop up"] {
        assert!(plan.stdout.contains(words), "{words}: {plan}");
    }
    shop.apply();
    shop.serves("1");
    let status = shop.fleet.alice.app_on("shop", "web-1");
    for service in ["shop/web", "shop/init", "shop/cache"] {
        let parts = status["status"]["parts"].as_array().into_iter().flatten();
        let part = parts.filter(|part| part["kind"] == "service").find(|part| part["name"] == service);
        let part = part.unwrap_or_else(|| panic!("no {service} in {status:#}"));
        assert!(part["in_sync"] == true && part["desired"].to_string().contains("shop/web:1"), "{part}");
        let seen = part["observed"].as_str().unwrap_or_default();
        assert!(seen.contains(if service == "shop/web" { "running (healthy)" } else { "" }), "{part}");
    }
    let logs = shop.fleet.alice.run(&["logs", "shop", "--host", "web-1"]).ok();
    assert!(logs.contains("serving 1"), "{logs}");
    let seen = shop.host().docker(&["exec", &shop.id("web"), "env"]).ok();
    assert!(seen.contains("GREETING=hello") && seen.contains("VERSION=1"), "{seen}");
    let key = seen.lines().find_map(|line| line.strip_prefix("KEY=")).unwrap_or_default();
    assert_eq!(key.len(), 64);
    assert!(!status.to_string().contains(key) && !logs.contains(key), "a secret is shown");
}

/// Another version and back, with everything in between that touches nothing.
fn switched(shop: &Shop) {
    let before = shop.containers();
    assert!(shop.apply().contains("nothing to do"));
    // Another release in which nothing of it differs.
    shop.write("drover.yaml", &MANIFEST.replace("UNUSED: one", "UNUSED: two"));
    shop.apply();
    assert_eq!(shop.containers(), before, "nothing is made anew for that");
    shop.write("drover.yaml", MANIFEST);

    // Not to be had: nothing is stopped.
    shop.version("none");
    shop.fails(&["could not be fetched", "shop/web:none"]);
    assert_eq!(shop.containers(), before, "the old ones were never touched");

    // Ill: it goes back, with its cause.
    shop.version("2");
    shop.write("prod.yml", &format!("{OVERRIDE}    environment: {{ BEHAVIOUR: crash }}\n"));
    shop.fails(&["service shop/web exited with code 3"]);
    shop.serves("1");
    let why = shop.fleet.alice.run(&["why", "web-1", "shop"]).ok();
    assert!(why.contains("crashing, as BEHAVIOUR says"), "{why}");
    shop.write("prod.yml", OVERRIDE);

    let cache = shop.container("cache");
    shop.apply();
    shop.serves("2");
    assert_eq!(shop.container("cache"), cache, "only what differs is made anew");
    shop.fleet.alice.run(&["rollback", "shop"]).ok();
    shop.serves("1");
    let web = shop.id("web");
    shop.fleet.alice.run(&["restart", "shop", "--rolling"]).ok();
    assert_ne!(shop.id("web"), web);
    shop.serves("1");
}

/// What is done to it by hand.
fn put_right(shop: &Shop) {
    let (host, cache) = (shop.host(), shop.id("cache"));
    host.docker(&["stop", "-t", "1", &cache]).ok();
    shop.told(
        "it is started again",
        "compose project shop had a service that was not running: compose project shop brought up",
    );
    eventually("it runs", Duration::from_secs(20), || {
        host.docker(&["inspect", "-f", "{{.State.Running}}", &cache]).ok().trim() == "true"
    });
    let before = shop.containers();
    host.sh("echo '# edited' >> /srv/shop/prod.yml");
    shop.told("its file is put right", "file /srv/shop/prod.yml was changed: written as the release says");
    assert_eq!(host.read_file("/srv/shop/prod.yml"), OVERRIDE.as_bytes());
    assert_eq!(shop.containers(), before, "and nothing is made anew for that");
    host.docker(&["rm", "-f", &cache]).ok();
    // What was seen of it first, its end or that it is gone, nobody can say.
    eventually("it is made again", Duration::from_secs(60), || {
        let all = shop.containers();
        if all.iter().any(|text| text.starts_with("cache ") && !text.contains(&cache)) {
            Ok(())
        } else {
            Err(all.join("\n"))
        }
    });
    shop.serves("1");
}

fn removed(shop: &Shop) {
    let host = shop.host();
    host.docker(&["exec", &shop.id("web"), "sh", "-c", "echo kept > /data/file; echo kept > /shared/file"]).ok();
    shop.fleet.alice.run(&["remove", "shop", "--yes"]).ok();
    assert_eq!(shop.containers(), <[&str; 0]>::default());
    host.docker(&["network", "inspect", "shop_default"]).fails();
    host.docker(&["volume", "inspect", "shop_data"]).ok();
    assert!(!host.exists("/srv/shop/docker-compose.yml"));
    assert_eq!(host.read_file("/srv/shop/shared/file"), b"kept\n");
}

#[test]
fn a_project_is_deployed_switched_and_removed_with_docker_compose_1_29() {
    let shop = Shop::open(Debian::Bookworm);
    deployed(&shop);
    switched(&shop);
    removed(&shop);
}

#[test]
fn what_is_wrong_is_refused_by_plan_and_what_is_done_by_hand_is_put_right_with_docker_compose_1_29() {
    let shop = Shop::open(Debian::Bookworm);
    refused_by_plan(&shop);
    adopted::adopted(&shop);
    let host = shop.host();
    // Somebody else's is left alone.
    let image = shop.registry.name("shop/web:1");
    let label = "com.docker.compose.project=shop";
    host.docker(&["run", "-d", "--name", "stranger", "--label", label, &image, "sleep", "1000"]).ok();
    let output = shop.fleet.alice.run(&["plan", "-f", shop.manifest().to_str().expect("text")]);
    assert!(output.stdout.contains("refused[not-owned]"), "{output}");
    host.docker(&["rm", "-f", "stranger"]).ok();
    shop.apply();
    put_right(&shop);
}

#[test]
fn images_are_built_with_docker_compose_1_29() {
    images::built(&Shop::open(Debian::Bookworm));
}

#[test]
fn a_project_lives_with_compose_2_as_well() {
    let shop = Shop::open(Debian::Trixie);
    refused_by_plan(&shop);
    deployed(&shop);
    switched(&shop);
    removed(&shop);
    adopted::adopted(&shop);
}

#[test]
fn images_are_built_and_what_is_done_by_hand_is_put_right_with_compose_2() {
    let shop = Shop::open(Debian::Trixie);
    images::built(&shop);
    images::cleaned_up(&shop);
    shop.as_it_was();
    shop.apply();
    put_right(&shop);
    images::logged_in(&shop);
}
