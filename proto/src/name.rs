//! The words that name things. Each type refuses a bad value at construction, so that what holds one need not look again.
//!
//! They arrive from manifests, the network and state files alike, always through `FromStr` or serde.

mod rules;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not a name of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?}: {why}")]
pub struct NameError {
    /// The kind of name wanted, as a person would say it.
    pub kind: &'static str,
    /// The text that was given, shortened to 80 characters.
    pub text: String,
    /// The rule it breaks.
    pub why: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(why) => Err(NameError { kind: $kind, text: text.chars().take(80).collect(), why }),
                }
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// An app, e.g. `mono`; deployed to a named environment it is `mono@staging`.
    AppName, "app name", rules::app
);
name!(
    /// An environment of an app, e.g. `staging`.
    EnvironmentName, "environment name", rules::word
);
name!(
    /// The name by which people know a host, e.g. `web-1`; unique among enrolled hosts.
    HostName, "host name", rules::host
);
name!(
    /// The coordinator's own name for a host, random, never used twice: `h-` and 16 hex digits.
    HostId, "host id", rules::host_id
);
name!(
    /// A person with an operator's certificate.
    OperatorName, "operator name", rules::operator
);
name!(
    /// The key of a host's label, e.g. `role`.
    LabelKey, "label key", rules::label_key
);
name!(
    /// The value of a host's label, e.g. `web`.
    LabelValue, "label value", rules::label_value
);
name!(
    /// A systemd unit with its suffix, e.g. `mono-api.service`.
    UnitName, "unit name", rules::unit
);
name!(
    /// What stands between `@` and the suffix in the name of a template's instance, e.g. `1` in `worker@1.service`.
    InstanceName, "instance name", rules::instance
);
name!(
    /// An absolute path in its shortest form: no `.`, `..`, double or trailing slash, no control character.
    AbsPath, "absolute path", rules::abs_path
);
name!(
    /// Where a file system is mounted: an absolute path, or `/`.
    MountPoint, "mount point", rules::mount_point
);
name!(
    /// The name of an environment variable.
    EnvKey, "environment variable", rules::env_key
);
name!(
    /// The name of a secret, e.g. `siliconflow`.
    SecretName, "secret name", rules::secret
);
name!(
    /// A Unix user or group.
    UserName, "user or group name", rules::user
);
name!(
    /// A check of a manifest, e.g. `api`.
    CheckName, "check name", rules::word
);
name!(
    /// An alert's rule, e.g. `disk-full`.
    AlertName, "alert name", rules::word
);
name!(
    /// A notifier of the coordinator, e.g. `ops-mail`.
    NotifierName, "notifier name", rules::word
);
name!(
    /// A hook of a manifest, e.g. `migrate`.
    HookName, "hook name", rules::word
);
name!(
    /// A Docker container, e.g. `shop-api`.
    ContainerName, "container name", rules::docker
);
name!(
    /// A Docker volume.
    VolumeName, "volume name", rules::docker
);
name!(
    /// A Docker network.
    NetworkName, "network name", rules::docker
);
name!(
    /// An upstream of nginx that drover writes, e.g. `mono-api`.
    UpstreamName, "upstream name", rules::word
);
name!(
    /// A compose project, as `-p` names it.
    ProjectName, "project name", rules::word
);
name!(
    /// A Debian package, optionally `name=version`.
    PackageName, "package name", rules::package
);

impl AppName {
    /// The name of this app in `environment`: `mono` becomes `mono@staging`.
    pub fn in_environment(&self, environment: &EnvironmentName) -> Result<Self, NameError> {
        format!("{}@{environment}", self.0).parse()
    }
    /// The part before `@`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }
    /// The environment after `@`, if it names one.
    #[must_use]
    pub fn environment(&self) -> Option<EnvironmentName> {
        self.0.split_once('@').and_then(|(_, environment)| environment.parse().ok())
    }
}

impl UnitName {
    /// Whether it is a pattern for units (`worker@.service`), which has no state itself.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.0.contains("@.")
    }
    /// The unit of this template for an instance: `worker@.service` and `1` make `worker@1.service`.
    pub fn instance(&self, name: &InstanceName) -> Result<Self, NameError> {
        self.0.replacen("@.", &format!("@{name}."), 1).parse()
    }
    /// `service`, `timer` …
    #[must_use]
    pub fn kind(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, kind)| kind)
    }
}

impl AbsPath {
    /// The path for the file system's calls.
    #[must_use]
    pub fn as_path(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
    /// This path with one plain file name appended.
    pub fn join(&self, name: &str) -> Result<Self, NameError> {
        format!("{}/{name}", self.0.trim_end_matches('/')).parse()
    }
}

/// The number of a release of one app: 1, 2, 3 …
pub type ReleaseNumber = u64;
/// The number of a rollout, counted over the whole coordinator: 1, 2, 3 …
pub type RolloutId = u64;
/// The number of a host's desired state; it only grows. 0 = none yet.
pub type Generation = u64;

/// A release: `mono/17`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ReleaseId {
    /// The app.
    pub app: AppName,
    /// Its number.
    pub number: ReleaseNumber,
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.number)
    }
}

#[cfg(test)]
mod tests;
