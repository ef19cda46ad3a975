//! Containers as parts of a release: fetched, switched, gated, reverted and looked after like everything else.

mod misfortune;
mod prune;
mod refused;

use std::{path::PathBuf, time::Duration};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, Image, Registry, eventually},
};
use serde_json::Value;

/// A fleet whose hosts have Docker, a registry, and an app with the container `shop-web`, of which tests change the manifest.
struct Shop {
    fleet: Fleet,
    registry: Registry,
    folder: tempfile::TempDir,
    text: String,
}

const MANIFEST: &str = "\
version: 1
app: shop
targets: { labels: { role: web } }
strategy: { min_healthy_time: 2s, healthy_deadline: 30s, progress_deadline: 2m }
env:
  values: { GREETING: hello }
  secrets: { KEY: { generate: 32 } }
containers:
  shop-web:
    image: IMAGE
    ports: [\"8080:8080\"]
    env: [GREETING]
    secrets: [KEY]
    volumes: [\"shop-data:/data\", \"/srv/shop:/srv:ro\"]
    networks: [shop]
    limits: { memory: 32M, pids: 50, cpus: 0.5, ulimits: { nofile: \"1000:2000\" } }
    healthcheck: { test: [wget, -q, -O, /dev/null, \"http://127.0.0.1:8080/health\"], interval: 1s, timeout: 2s, retries: 2 }
    logging: { driver: json-file, options: { max-size: 1m } }
    stop_grace_period: 2s
    cap_drop: [ALL]
    read_only: true
    tmpfs: [/tmp]
    labels: { team: shop }
host:
  directories: [{ path: /srv/shop }]
checks:
  web: { http: \"http://127.0.0.1:8080/\", interval: 500ms }
";

impl Shop {
    /// Nothing deployed yet; `shop/web:1` is in the registry.
    fn open(hosts: &[&str]) -> Shop {
        let fleet = Fleet::start_with(hosts, |lab, name| lab.docker_host(name));
        let registry = Registry::start();
        registry.push("shop/web:1", &Image::web("one"));
        let text = MANIFEST.replace("IMAGE", &registry.name("shop/web:1"));
        let folder = tempfile::tempdir().expect("a temporary directory");
        Shop { fleet, registry, folder, text }
    }

    /// With version one healthy on every host.
    fn running(hosts: &[&str]) -> Shop {
        let shop = Shop::open(hosts);
        shop.fleet.alice.apply(&shop.manifest(|text| text)).ok();
        shop.serves("one");
        shop
    }

    fn host(&self) -> &Host {
        &self.fleet.hosts[0]
    }

    /// The manifest with a change.
    fn manifest(&self, change: impl FnOnce(String) -> String) -> PathBuf {
        let number = std::fs::read_dir(self.folder.path()).expect("the folder").count();
        let path = self.folder.path().join(format!("{number}.yaml"));
        std::fs::write(&path, change(self.text.clone())).expect("a manifest");
        path
    }

    /// The manifest with one text in the place of another.
    #[track_caller]
    fn with(&self, from: &str, to: &str) -> PathBuf {
        assert!(self.text.contains(from), "the manifest has no {from:?}");
        self.manifest(|text| text.replacen(from, to, 1))
    }

    #[track_caller]
    fn serves(&self, version: &str) {
        for host in &self.fleet.hosts {
            let said = host.exec(&["curl", "-s", "-m", "5", "http://127.0.0.1:8080/"]).stdout;
            assert_eq!(said.trim(), version, "{}", host.name());
        }
    }

    /// Of the container: its id and when it was started.
    fn container(&self) -> String {
        self.host().docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", "shop-web"]).ok()
    }

    fn inspect(&self) -> Value {
        let text = self.host().docker(&["inspect", "shop-web"]).ok();
        serde_json::from_str::<Value>(&text).expect("docker speaks JSON")[0].clone()
    }

    /// Applies, expects a failure told with these words, and version one untouched.
    #[track_caller]
    fn fails(&self, manifest: &std::path::Path, words: &[&str], untouched: bool) {
        let before = self.container();
        let output = self.fleet.alice.apply(manifest);
        assert_eq!(output.status, 1, "{output}");
        let said = output.fails();
        for word in words {
            assert!(said.contains(word), "{word:?} is not said:\n{said}");
        }
        if untouched {
            assert_eq!(self.container(), before, "the old container was never touched");
        }
        self.serves("one");
    }
}

#[test]
fn a_container_is_deployed_upgraded_and_removed() {
    let shop = Shop::open(&["web-1", "web-2"]);
    let (alice, host) = (&shop.fleet.alice, shop.host());
    let plan = alice.run(&["plan", "-f", shop.manifest(|text| text).to_str().expect("text")]);
    assert_eq!(plan.status, 2, "{plan}");
    for words in ["make network shop", "fetch image", "run container shop-web", "container shop-web, check web"] {
        assert!(plan.stdout.contains(words), "{words}: {plan}");
    }
    alice.apply(&shop.manifest(|text| text)).ok();
    shop.serves("one");
    as_the_manifest_says(&shop.inspect());
    let key = host.docker(&["exec", "shop-web", "cat", "/run/secrets/KEY"]).ok();
    assert_eq!(key.trim().len(), 64);
    assert!(!shop.inspect().to_string().contains(key.trim()), "a secret file is not in the container's configuration");
    let status = alice.app_on("shop", "web-1");
    let part =
        status["status"]["parts"].as_array().into_iter().flatten().find(|part| part["kind"] == "container").cloned();
    let part = part.unwrap_or_else(|| panic!("no container in {status:#}"));
    assert!(
        part["in_sync"] == true && part["observed"].as_str().is_some_and(|text| text.contains("running (healthy)"))
    );
    let logs = alice.run(&["logs", "shop", "--host", "web-1"]).ok();
    assert!(logs.contains("serving one"), "{logs}");

    let before = shop.container();
    host.exec(&["systemctl", "restart", "drover-agent"]).ok();
    shop.fleet.coordinator.exec(&["systemctl", "restart", "drover-coordinator"]).ok();
    eventually("the host is back", Duration::from_secs(30), || {
        alice.json(&["hosts"]).as_array().into_iter().flatten().all(|host| host["connected"] == true)
    });
    let again = alice.apply(&shop.manifest(|text| text)).ok();
    assert!(again.contains("nothing to do"), "{again}");
    assert_eq!(shop.container(), before, "nobody restarts a workload");

    // The tag comes to mean another image: what runs stays until somebody applies.
    let two = shop.registry.push("shop/web:1", &Image::web("two"));
    let plan = alice.run(&["plan", "-f", shop.manifest(|text| text).to_str().expect("text")]);
    assert!(plan.stdout.contains("another image") && plan.stdout.contains(&two[7..19]), "{plan}");
    shop.serves("one");
    alice.apply(&shop.manifest(|text| text)).ok();
    shop.serves("two");
    alice.run(&["rollback", "shop"]).ok();
    shop.serves("one");

    host.docker(&["exec", "shop-web", "sh", "-c", "echo kept > /data/file || true"]).ok();
    alice.run(&["remove", "shop", "--yes"]).ok();
    assert!(!host.docker(&["inspect", "shop-web"]).success(), "it is gone");
    host.docker(&["volume", "inspect", "shop-data"]).ok();
    assert!(!host.exists("/var/lib/drover/env/shop/shop-web/KEY"), "and so is its secret");
}

/// What Docker has of the manifest's fields.
#[track_caller]
fn as_the_manifest_says(seen: &Value) {
    let (config, host) = (&seen["Config"], &seen["HostConfig"]);
    let env = config["Env"].as_array().into_iter().flatten().any(|value| value == "GREETING=hello");
    assert!(env && !config["Env"].to_string().contains("KEY="), "{config:#}");
    assert_eq!(host["Memory"], 32 << 20);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["PidsLimit"], 50);
    assert_eq!(host["Ulimits"][0]["Hard"], 2000);
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["CapDrop"][0], "ALL");
    assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped");
    assert_eq!(host["LogConfig"]["Config"]["max-size"], "1m");
    assert_eq!(config["StopTimeout"], 2);
    assert_eq!(config["Labels"]["team"], "shop");
    assert!(seen["NetworkSettings"]["Networks"]["shop"].is_object(), "{seen:#}");
    assert!(config["Image"].as_str().is_some_and(|image| image.contains("@sha256:")), "{config:#}");
    let mounts: Vec<&str> =
        seen["Mounts"].as_array().into_iter().flatten().filter_map(|m| m["Destination"].as_str()).collect();
    for place in ["/data", "/srv", "/run/secrets/KEY"] {
        assert!(mounts.contains(&place), "{place}: {mounts:?}");
    }
}

#[test]
fn what_is_done_to_a_container_by_hand_is_put_right() {
    let shop = Shop::running(&["web-1"]);
    let host = shop.host();
    let repaired = |what: &str, words: &str, seconds: u64| {
        eventually(what, Duration::from_secs(seconds), || {
            let events = shop.fleet.alice.run(&["events", "--app", "shop"]).ok();
            if events.contains(words) { Ok(()) } else { Err(events) }
        });
        shop.serves("one");
    };
    host.docker(&["stop", "shop-web"]).ok();
    // Docker tells of it: nobody waits for the next look, but for the second repair its pause.
    repaired("it is started again", "container shop-web was not running: container shop-web started", 15);
    host.docker(&["rm", "-f", "shop-web"]).ok();
    repaired("it is made again", "container shop-web was removed: container shop-web run anew", 90);
    host.docker(&["rm", "-f", "shop-web"]).ok();
    host.docker(&["run", "-d", "--name", "shop-web", &shop.registry.name("shop/web:1")]).ok();
    eventually("a stranger in its place is reported", Duration::from_secs(60), || {
        let why = shop.fleet.alice.run(&["why", "web-1", "shop"]).ok();
        if why.contains("is there already and is not drover's") { Ok(()) } else { Err(why) }
    });
    host.docker(&["rm", "-f", "shop-web"]).ok();
    eventually("it is made again", Duration::from_secs(90), || host.docker(&["exec", "shop-web", "true"]).success());

    host.docker(&["rm", "-f", "shop-web"]).ok();
    host.docker(&["run", "-d", "--name", "shop-web", &shop.registry.name("shop/web:1")]).ok();
    shop.fleet.alice.run(&["remove", "shop", "--yes"]).ok();
    host.docker(&["exec", "shop-web", "true"]).ok();
}
