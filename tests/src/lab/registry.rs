//! An image registry of a test's own: Debian's docker-registry, reached by the hosts through a `front` that can misbehave.
//!
//! Images are pushed by its HTTP API, so this machine needs no Docker. What `tests/lab/registry` starts goes with the test,
//! storage and all.

mod front;

pub use front::Fault;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::{Host, Image, Reply, http, image::digest, lab_home};
use front::Front;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// A running registry. Dropping it ends it.
pub struct Registry {
    front: Front,
    upstream: SocketAddr,
    server: Child,
}

impl Registry {
    /// Who may pull from a registry made by [`Registry::with_login`].
    pub const USER: &'static str = "puller";
    /// The password of [`Registry::USER`].
    pub const PASSWORD: &'static str = "let-me-pull";
    /// Both as the registry has them, with bcrypt at its lowest cost.
    const HTPASSWD: &'static str = "puller:$2b$04$a35RrfWgCu7auwbLkwG/keO00tIchklBoEU8Ft.vVqSUZT/jFB9WS";

    /// An empty registry that everybody may pull from. The lab must have been started.
    pub fn start() -> Registry {
        Registry::run(None)
    }

    /// An empty registry that answers 401 to whoever does not log in.
    pub fn with_login() -> Registry {
        Registry::run(Some(Registry::HTPASSWD))
    }

    fn run(htpasswd: Option<&str>) -> Registry {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/registry");
        let mut command = Command::new(script);
        // In a group of its own: what kills the test's group leaves it the time to clean up.
        let command = command.args(htpasswd).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut server = command.spawn().expect("tests/lab/registry starts");
        let mut port = String::new();
        let stdout = server.stdout.as_mut().expect("standard output is a pipe");
        BufReader::new(stdout).read_line(&mut port).expect("tests/lab/registry says its port");
        let port = port.trim().parse().unwrap_or_else(|_| panic!("tests/lab/registry gave no port but {port:?}"));
        let upstream = front::loopback(port);
        Registry { front: Front::start(upstream), upstream, server }
    }

    /// `HOST:PORT`, as the hosts reach it.
    pub fn address(&self) -> String {
        self.front.address().to_string()
    }

    /// The whole name of an image: `name("shop/web:1")` is `10.77.0.1:PORT/shop/web:1`.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address())
    }

    // ---- what is in it

    /// Pushes an image as `REPOSITORY:TAG`, which then is this one and no other: the digest of its manifest.
    #[track_caller]
    pub fn push(&self, name: &str, image: &Image) -> String {
        let (repository, tag) = split(name);
        let manifest = self.upload(repository, image);
        self.put_manifest(repository, tag, MANIFEST, &manifest)
    }

    /// Pushes one image for several architectures (`amd64`, `arm64`), as public images are: the digest of the list.
    #[track_caller]
    pub fn push_for(&self, name: &str, images: &[(&str, &Image)]) -> String {
        let (repository, tag) = split(name);
        let entries: Vec<Value> = images
            .iter()
            .map(|(architecture, image)| {
                let manifest = self.upload(repository, &Image::clone(image).for_architecture(architecture));
                let digest = self.put_manifest(repository, &digest(&manifest), MANIFEST, &manifest);
                let platform = json!({ "architecture": architecture, "os": "linux" });
                json!({ "mediaType": MANIFEST, "digest": digest, "size": manifest.len(), "platform": platform })
            })
            .collect();
        let list = json!({ "schemaVersion": 2, "mediaType": MANIFEST_LIST, "manifests": entries }).to_string();
        self.put_manifest(repository, tag, MANIFEST_LIST, list.as_bytes())
    }

    /// Moves a tag to a digest that was pushed to the same repository.
    #[track_caller]
    pub fn tag(&self, name: &str, digest: &str) {
        let (repository, tag) = split(name);
        let path = format!("/v2/{repository}/manifests/{digest}");
        let accept = format!("{MANIFEST}, {MANIFEST_LIST}");
        let reply = self.request("GET", &path, &[("Accept", &accept)], b"", 200);
        self.put_manifest(repository, tag, &reply.headers["content-type"], &reply.body);
    }

    /// Removes what a repository has under this digest; its tags lead nowhere then.
    #[track_caller]
    pub fn remove(&self, repository: &str, digest: &str) {
        self.request("DELETE", &format!("/v2/{repository}/manifests/{digest}"), &[], b"", 202);
    }

    /// Uploads layers and configuration: the manifest that names them.
    fn upload(&self, repository: &str, image: &Image) -> Vec<u8> {
        let config = image.config_file();
        let layers: Vec<Value> = image.layers().map(|layer| self.put_blob(repository, LAYER, layer)).collect();
        let config = self.put_blob(repository, CONFIG, config.as_bytes());
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
            .to_string()
            .into_bytes()
    }

    /// Uploads a blob unless it is there: what a manifest says of it.
    fn put_blob(&self, repository: &str, media_type: &str, blob: &[u8]) -> Value {
        let digest = digest(blob);
        let there = self.ask("HEAD", &format!("/v2/{repository}/blobs/{digest}"), &[], b"");
        if there.status != 200 {
            let begun = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"", 202);
            let location = &begun.headers["location"];
            let path = location.find("/v2/").map_or(location.as_str(), |at| &location[at..]);
            let kind = ("Content-Type", "application/octet-stream");
            self.request("PUT", &format!("{path}&digest={digest}"), &[kind], blob, 201);
        }
        json!({ "mediaType": media_type, "size": blob.len(), "digest": digest })
    }

    fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, manifest: &[u8]) -> String {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.request("PUT", &path, &[("Content-Type", media_type)], manifest, 201);
        digest(manifest)
    }

    #[track_caller]
    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8], expected: u16) -> Reply {
        let reply = self.ask(method, path, headers, body);
        assert_eq!(reply.status, expected, "{method} {path}: {}", reply.text());
        reply
    }

    /// Asks the real registry, past the front and its faults.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let login = format!("Basic {}", BASE64.encode(format!("{}:{}", Registry::USER, Registry::PASSWORD)));
        let headers = [headers, &[("Authorization", &login)]].concat();
        http::ask(self.upstream, method, path, &headers, body)
            .unwrap_or_else(|error| panic!("{method} {path} of the registry: {error}"))
    }

    // ---- what it does

    /// From now on it misbehaves in this way.
    pub fn misbehave(&self, fault: Fault) {
        self.front.set(Some(fault));
    }

    /// It works again; requests that a fault held up end without an answer.
    pub fn heal(&self) {
        self.front.set(None);
    }

    /// Every request so far, as `GET /v2/shop/web/manifests/1`, those that were refused among them.
    pub fn asked(&self) -> Vec<String> {
        self.front.asked()
    }

    /// Where all of it is kept, until the registry ends.
    pub fn storage(&self) -> PathBuf {
        lab_home().join("registries").join(self.server.id().to_string())
    }

    // ---- hosts

    /// `docker login` on a host with the right password.
    #[track_caller]
    pub fn log_in(&self, host: &Host) {
        let argv = ["docker", "login", "-u", Registry::USER, "--password-stdin", &self.address()];
        host.exec_with_stdin(&argv, Registry::PASSWORD.as_bytes()).ok();
    }

    /// Lets a host take this registry for Docker Hub, so that `redis:7` is what was pushed as `library/redis:7`.
    #[track_caller]
    pub fn stand_in_for_hub(&self, host: &Host) {
        let path = "/etc/docker/daemon.json";
        let mut config: Value = serde_json::from_slice(&host.read_file(path)).expect("daemon.json is JSON");
        config["registry-mirrors"] = json!([format!("http://{}", self.address())]);
        host.write_file(path, config.to_string().as_bytes());
        host.exec(&["systemctl", "reload", "docker"]).ok();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.server.stdin.take());
        self.server.wait().ok();
    }
}

/// `shop/web:1` is a repository and a tag.
#[track_caller]
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once(':').unwrap_or_else(|| panic!("{name:?} has no tag"))
}
