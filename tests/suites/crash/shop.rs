//! The app of this suite: something of every kind that an activation does, in two releases that differ in all of it, a
//! third that fails late, and a bystander that nothing may touch.

use std::path::PathBuf;

use drover_tests::{lab::Registry, shop, tiny::Tiny};

/// Where the hooks write what they did, on the host.
pub const HOOKS_LOG: &str = "/var/tmp/shop-hooks";

/// One of its releases.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Release {
    /// With a worker, and a file that is adopted.
    Red,
    /// Without them.
    Blue,
    /// Like `Blue`; its last hook fails.
    Broken,
    /// Of another kind: a service that is replaced by another instance beside it, behind nginx.
    North,
    /// The same in another version.
    South,
    /// Of a third kind: the same service as a container.
    East,
    /// That in another version.
    West,
}

/// Appends what happens to a log: `shop.py NAME`; it fails when there is a file `fails` beside it.
const HOOK: &str = r#"
import os, pathlib, sys
here = pathlib.Path(__file__).resolve().parent
def say(word):
    with open("/var/tmp/shop-hooks", "a") as log:
        log.write(f"{word} {sys.argv[1]}\n")
say("begin")
fails = (here / "fails").exists() and sys.argv[1] == "after"
say("end")
sys.exit(3 if fails else 0)
"#;

const PARTS: &str = r#"
host:
  users: [{ name: shop }]
  directories: [{ path: /srv/shop, owner: shop, group: shop, mode: "0750" }]
files:
  - path: /etc/nginx/sites-enabled/shop
    content: "server { listen 127.0.0.1:8088; location / { return 200 COLOUR; } }"
    validate: [nginx, -t]
    reload: nginx.service
  - { path: /etc/shop/deep/shop.conf, content: "colour=COLOUR", owner: shop, group: shop, mode: "0640" }
MORE_FILES
hooks:
  before_switch: [{ run: [/usr/bin/python3, "{{ release }}/shop.py", before], user: root, timeout: 20s }]
  after_switch: [{ run: [/usr/bin/python3, "{{ release }}/shop.py", after], user: root, timeout: 20s }]
"#;

const WORKER: &str = r#"
  tiny-worker.service:
    user: shop
    exec: /bin/sleep infinity
    restart: always
checks:"#;

/// The manifest folder of a release; the image of a container goes into the registry.
pub fn release(release: Release, registry: &Registry) -> Tiny {
    let name = format!("{release:?}").to_lowercase();
    match release {
        Release::Red | Release::Blue | Release::Broken => colourful(release),
        Release::North | Release::South => handing_over(&name),
        Release::East | Release::West => of_container(&name, registry),
    }
}

fn of_container(version: &str, registry: &Registry) -> Tiny {
    let image = format!("shop/web:{version}");
    registry.push(&image, &shop::image(version, "ok", 0));
    let tiny = Tiny::new();
    tiny.write("drover.yaml", shop::CONTAINER);
    tiny.edit("IMAGE", &registry.name(&image))
        .edit("app: shop", "app: tiny")
        .edit("min_healthy_time: 1s, healthy_deadline: 25s", "min_healthy_time: 200ms, healthy_deadline: 30s")
        .edit("  shop:\n    image", "  tiny:\n    image")
        .edit("http://shop;", "http://tiny;")
        .edit("interval: 500ms", "interval: 100ms")
}

fn handing_over(version: &str) -> Tiny {
    Tiny::shop()
        .version(version)
        .edit("app: shop", "app: tiny")
        .edit("min_healthy_time: 1s, healthy_deadline: 20s", "min_healthy_time: 200ms, healthy_deadline: 30s")
        .edit("shop.service:", "tiny.service:")
        .edit("http://shop;", "http://tiny;")
        .edit("{{ port }} 1", "{{ port }} 0")
        .edit("interval: 500ms", "interval: 100ms")
}

fn colourful(release: Release) -> Tiny {
    let colour = format!("{release:?}").to_lowercase();
    let worker = release == Release::Red;
    let more = if worker { "  - { path: /etc/motd, content: \"the shop is red\\n\", adopt: true }" } else { "" };
    let tiny = Tiny::new()
        .version(&colour)
        .edit("min_healthy_time: 1s, healthy_deadline: 12s", "min_healthy_time: 200ms, healthy_deadline: 30s")
        .edit("interval: 500ms", "interval: 100ms")
        .edit("GREETING: hello", &format!("GREETING: {colour}"))
        .edit("  path: ./app", "  path: ./app\n  build: { user: www-data, run: [[/bin/cp, version, built]] }")
        .edit("checks:", if worker { WORKER } else { "checks:" })
        .append(&PARTS.replace("COLOUR", &colour).replace("MORE_FILES", more));
    tiny.write("app/shop.py", HOOK);
    if release == Release::Broken {
        tiny.write("app/fails", "");
    }
    tiny
}

/// Another app on the same host.
pub fn bystander() -> (Tiny, PathBuf) {
    let tiny = Tiny::new();
    tiny.write(
        "drover.yaml",
        "version: 1\napp: bystander\ntargets: { labels: { role: web } }\n\
         strategy: { min_healthy_time: 200ms, healthy_deadline: 30s, progress_deadline: 60s }\n\
         units: { bystander.service: { exec: /bin/sleep infinity } }\n",
    );
    let manifest = tiny.manifest();
    (tiny, manifest)
}
