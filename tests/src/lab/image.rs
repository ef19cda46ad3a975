//! Small container images, made without Docker: each layer is a tar archive whose bytes depend on nothing but its files, so
//! that the same image has the same digest in every run.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use drover_proto::digest::Digest;
use serde_json::{Map, Value, json};

use super::output;

/// What [`Image::web`] runs.
const START: &str = include_str!("../../fixtures/web/start");
/// Who is known inside of [`Image::busybox`].
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1000:\n";

/// An image; [`super::Registry::push`] gives it a name.
#[derive(Clone)]
pub struct Image {
    architecture: String,
    layers: Vec<Arc<[u8]>>,
    config: Map<String, Value>,
}

impl Image {
    /// No file at all.
    pub fn scratch() -> Image {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Image { architecture: architecture.to_owned(), layers: Vec::new(), config: Map::new() }
    }

    /// A shell with the usual commands, 2 MB. There is a user `app` (1000).
    pub fn busybox() -> Image {
        let program = rootfs().join("bin/busybox");
        let bytes = std::fs::read(&program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let names = output::run(Command::new(&program).arg("--list"), None).ok();
        let mut layer = Layer::default();
        for directory in ["bin", "etc", "root", "tmp"] {
            layer.directory(directory, if directory == "tmp" { 0o1777 } else { 0o755 });
        }
        layer.file("bin/busybox", 0o755, &bytes);
        for name in names.lines().filter(|name| *name != "busybox") {
            layer.link(&format!("bin/{name}"), "busybox");
        }
        layer.file("etc/passwd", 0o644, PASSWD.as_bytes());
        layer.file("etc/group", 0o644, GROUP.as_bytes());
        Image::scratch().layer(layer).env("PATH", "/bin").set("Cmd", json!(["sh"]))
    }

    /// A web server on port 8080: `/` is `version`, `/health` is `ok`. Variables change what it does: `BEHAVIOUR`
    /// (`serve`, `sick`, `deaf`, `crash`, `hungry`), `PORT`, `START_AFTER`; see tests/fixtures/web/start.
    pub fn web(version: &str) -> Image {
        Image::busybox()
            .files(&[
                ("start", 0o755, START),
                ("www/index.html", 0o644, version),
                ("www/health", 0o644, "ok"),
                ("sick/index.html", 0o644, version),
            ])
            .set("Cmd", json!(["/start"]))
            .set("ExposedPorts", json!({ "8080/tcp": {} }))
    }

    /// What `tests/lab/images/NAME` makes of Debian's packages: `redis`, `postgres`, `nginx`, `python`, `node`.
    /// It takes half a minute the first time that the machine sees the recipe.
    pub fn debian(name: &str) -> Image {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/mkimage");
        let archive = PathBuf::from(output::run(Command::new(script).arg(name), None).ok());
        let read = |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut image = Image::scratch();
        image.layers.push(read(&archive).into());
        image.config =
            serde_json::from_slice(&read(&archive.with_extension("json"))).expect("the recipe's config is JSON");
        image
    }

    /// Adds a layer of files: path, mode, content. Their directories are made.
    #[must_use]
    pub fn files(self, files: &[(&str, u32, &str)]) -> Image {
        let mut layer = Layer::default();
        for (path, mode, content) in files {
            layer.file(path, *mode, content.as_bytes());
        }
        self.layer(layer)
    }

    /// Adds a layer of that many bytes which do not compress, for pulls that take their time.
    #[must_use]
    pub fn ballast(self, bytes: usize) -> Image {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let mut content = Vec::with_capacity(bytes + 8);
        while content.len() < bytes {
            content.extend(next());
        }
        content.truncate(bytes);
        let mut layer = Layer::default();
        layer.file("ballast", 0o644, &content);
        self.layer(layer)
    }

    /// Sets a key of the image's configuration (`Cmd`, `User`, `Healthcheck`, `StopSignal`, …).
    #[must_use]
    pub fn set(mut self, key: &str, value: Value) -> Image {
        self.config.insert(key.to_owned(), value);
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Image {
        let env = self.config.entry("Env").or_insert_with(|| json!([]));
        env.as_array_mut().expect("Env is a list").push(json!(format!("{name}={value}")));
        self
    }

    pub(super) fn for_architecture(mut self, architecture: &str) -> Image {
        architecture.clone_into(&mut self.architecture);
        self
    }

    pub(super) fn layers(&self) -> impl Iterator<Item = &[u8]> {
        self.layers.iter().map(AsRef::as_ref)
    }

    /// The file whose digest is the image's id.
    pub(super) fn config_file(&self) -> String {
        let created = "2000-01-01T00:00:00Z";
        let history: Vec<Value> =
            self.layers.iter().map(|_| json!({ "created": created, "created_by": "tests" })).collect();
        let layers: Vec<String> = self.layers().map(digest).collect();
        json!({
            "architecture": self.architecture, "os": "linux", "created": created, "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": layers }, "history": history,
        })
        .to_string()
    }

    fn layer(mut self, layer: Layer) -> Image {
        self.layers.push(layer.finish().into());
        self
    }
}

/// `sha256:` and 64 digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

fn rootfs() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/mkrootfs");
    output::run(Command::new(script).arg("--path"), None).ok().into()
}

/// A tar archive in the making: root's files, of no particular time.
struct Layer(tar::Builder<Vec<u8>>);

impl Default for Layer {
    fn default() -> Self {
        Layer(tar::Builder::new(Vec::new()))
    }
}

impl Layer {
    fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    }

    fn directory(&mut self, path: &str, mode: u32) {
        let mut header = Layer::header(tar::EntryType::Directory, mode, 0);
        self.0.append_data(&mut header, format!("{path}/"), std::io::empty()).expect("memory takes it");
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let mut header = Layer::header(tar::EntryType::Regular, mode, content.len());
        self.0.append_data(&mut header, path, content).expect("memory takes it");
    }

    fn link(&mut self, path: &str, to: &str) {
        let mut header = Layer::header(tar::EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, to).expect("memory takes it");
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Image {
        Image::scratch().files(&[("etc/motd", 0o644, text)]).env("A", "b").set("User", json!("1000"))
    }

    #[test]
    fn the_same_files_make_the_same_digests_and_others_make_others() {
        let id = |image: &Image| digest(image.config_file().as_bytes());
        assert_eq!(id(&image("hello")), id(&image("hello")));
        assert_ne!(id(&image("hello")), id(&image("hullo")));
        assert_ne!(id(&image("hello")), id(&image("hello").env("C", "d")));
        assert_ne!(id(&image("hello")), id(&image("hello").for_architecture("s390x")));
    }

    #[test]
    fn the_configuration_names_each_layer_by_its_digest() {
        let image = image("hello").ballast(100_000);
        let config: Value = serde_json::from_str(&image.config_file()).expect("JSON");
        let layers: Vec<String> = image.layers().map(digest).collect();
        assert_eq!(config["rootfs"]["diff_ids"], json!(layers));
        assert_eq!(config["config"], json!({ "Env": ["A=b"], "User": "1000" }));
        assert!(image.layers().nth(1).is_some_and(|layer| layer.len() > 100_000));
    }
}
