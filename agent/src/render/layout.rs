//! Where everything of drover's lies on a host. Made from the settings; beside `render`, read by everything behind it.

use std::path::{Path, PathBuf};

use drover_proto::{
    digest::Digest,
    name::{AbsPath, AppName, ContainerName, NameError, SecretName, UnitName, UpstreamName},
};

use crate::config::Config;

/// The directories of one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The agent's private state, 0700.
    pub state_dir: PathBuf,
    /// Unpacked and built artifacts, 0755.
    pub releases_dir: PathBuf,
    /// Env files, 0700.
    pub env_dir: PathBuf,
    /// Where unit files are written.
    pub units_dir: PathBuf,
    /// Where upstreams of nginx are written, which includes all of them.
    pub upstreams_dir: PathBuf,
}

impl From<&Config> for Layout {
    fn from(config: &Config) -> Self {
        Self {
            state_dir: config.state_dir.clone(),
            releases_dir: config.releases_dir.clone(),
            env_dir: config.env_dir.clone(),
            units_dir: "/etc/systemd/system".into(),
            upstreams_dir: "/etc/nginx/conf.d".into(),
        }
    }
}

impl Layout {
    /// The directory of a release's tree.
    pub fn release(&self, app: &AppName, key: &str) -> Result<AbsPath, NameError> {
        text(&self.releases_dir.join(app.as_str()).join(key)).parse()
    }
    /// The directory with all trees of an app.
    #[must_use]
    pub fn releases_of(&self, app: &AppName) -> PathBuf {
        self.releases_dir.join(app.as_str())
    }
    /// Present when the tree is complete and sealed.
    #[must_use]
    pub fn seal_marker(&self, app: &AppName, key: &str) -> PathBuf {
        self.state_dir.join("releases").join(app.as_str()).join(key)
    }
    /// An app's env file.
    pub fn env_file(&self, app: &AppName) -> Result<AbsPath, NameError> {
        text(&self.env_dir.join(format!("{app}.env"))).parse()
    }
    /// A secret that a container finds as a file.
    pub fn secret_file(&self, app: &AppName, name: &ContainerName, secret: &SecretName) -> Result<AbsPath, NameError> {
        text(&self.secrets_of(app).join(name.as_str()).join(secret.as_str())).parse()
    }
    /// The directory with all of an app's.
    #[must_use]
    pub fn secrets_of(&self, app: &AppName) -> PathBuf {
        self.env_dir.join(app.as_str())
    }
    /// A unit's file.
    pub fn unit_file(&self, unit: &UnitName) -> Result<AbsPath, NameError> {
        text(&self.units_dir.join(unit.as_str())).parse()
    }
    /// The file of an upstream.
    pub fn upstream(&self, app: &AppName, name: &UpstreamName) -> Result<AbsPath, NameError> {
        text(&self.upstreams_dir.join(format!("drover-{app}-{name}.conf"))).parse()
    }
    /// Whether `path` lies in a directory that is drover's alone, wherever the settings put it.
    #[must_use]
    pub fn reserves(&self, path: &AbsPath) -> bool {
        [&self.state_dir, &self.releases_dir, &self.env_dir].iter().any(|own| path.as_path().starts_with(own))
    }
    /// Downloaded artifacts.
    #[must_use]
    pub fn blobs_dir(&self) -> PathBuf {
        self.state_dir.join("blobs")
    }
    /// The downloaded artifact of an app. Two apps with the same one do not share it: each lets go of its own.
    #[must_use]
    pub fn blob(&self, app: &AppName, digest: &Digest) -> PathBuf {
        self.blobs_dir().join(app.as_str()).join(digest.hex())
    }
    /// Where the full output of an app's programs is kept.
    #[must_use]
    pub fn output_of(&self, app: &AppName) -> PathBuf {
        self.state_dir.join("output").join(app.as_str())
    }
    /// Where what stood at `path` before an app took it over is kept.
    #[must_use]
    pub fn original_of(&self, app: &AppName, path: &AbsPath) -> PathBuf {
        self.state_dir.join("originals").join(app.as_str()).join(Digest::of(path.as_str().as_bytes()).hex())
    }
    /// Staged copies and build homes, emptied after use. Below it each use makes its own directory.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.state_dir.join("work")
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
