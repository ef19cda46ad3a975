//! A very small real application for tests of rollouts: an HTTP server in Python that does what its files say, so that a
//! test can make it healthy, broken, slow or dying. No build, unless a test adds one.

use std::path::{Path, PathBuf};

/// A manifest folder of a test's own.
pub struct Tiny {
    directory: tempfile::TempDir,
}

/// Reads `behaviour` beside itself: ok | 500 | ok-then-500 | exit-after-3s | never-notify; answers its `version`.
const SERVER: &str = include_str!("../fixtures/tiny/server.py");

/// The manifest as it begins; tests change text in it.
pub const MANIFEST: &str = include_str!("../fixtures/tiny/drover.yaml");

impl Tiny {
    /// A healthy version 1.
    pub fn new() -> Tiny {
        Tiny::of(SERVER, MANIFEST)
    }

    /// A healthy version 1 of an app behind nginx, `shop`, which is replaced by another instance beside it. It is quick, knows
    /// ok | 500 and is rude when it is stopped.
    pub fn shop() -> Tiny {
        Tiny::of(include_str!("../fixtures/shop/server.py"), include_str!("../fixtures/shop/drover.yaml"))
    }

    /// A healthy version 1 of an app that takes its socket from systemd, `door`. It knows ok | 500, and ends what it has begun.
    pub fn door() -> Tiny {
        Tiny::of(include_str!("../fixtures/door/server.py"), include_str!("../fixtures/door/drover.yaml"))
    }

    fn of(server: &str, manifest: &str) -> Tiny {
        let tiny = Tiny { directory: tempfile::tempdir().expect("a temporary directory") };
        std::fs::create_dir(tiny.path().join("app")).expect("a new directory");
        tiny.write("app/server.py", server);
        tiny.write("drover.yaml", manifest);
        tiny.version("1").behave("ok")
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Its manifest.
    pub fn manifest(&self) -> PathBuf {
        self.path().join("drover.yaml")
    }

    /// Writes a file in the folder.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// What `/` answers.
    #[must_use]
    pub fn version(self, version: &str) -> Self {
        self.write("app/version", version);
        self
    }

    /// How it behaves.
    #[must_use]
    pub fn behave(self, behaviour: &str) -> Self {
        self.write("app/behaviour", behaviour);
        self
    }

    /// Replaces text of the manifest, which must be there.
    #[must_use]
    #[track_caller]
    pub fn edit(self, from: &str, to: &str) -> Self {
        let text = std::fs::read_to_string(self.manifest()).expect("the manifest");
        assert!(text.contains(from), "the manifest has no {from:?}");
        self.write("drover.yaml", &text.replacen(from, to, 1));
        self
    }

    /// Adds text to the end of the manifest.
    #[must_use]
    pub fn append(self, more: &str) -> Self {
        let text = std::fs::read_to_string(self.manifest()).expect("the manifest");
        self.write("drover.yaml", &format!("{text}\n{more}"));
        self
    }
}

impl Default for Tiny {
    fn default() -> Self {
        Self::new()
    }
}
