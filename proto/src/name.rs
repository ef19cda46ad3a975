//! The words that name things. Each type refuses a bad value at construction, so that what holds one need not look again.
//!
//! They arrive from manifests, the network and state files alike, always through `FromStr` or serde.

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
    AppName, "app name", check_app
);
name!(
    /// An environment of an app, e.g. `staging`.
    EnvironmentName, "environment name", check_word
);
name!(
    /// The name by which people know a host, e.g. `web-1`; unique among enrolled hosts.
    HostName, "host name", check_host
);
name!(
    /// The coordinator's own name for a host, random, never used twice: `h-` and 16 hex digits.
    HostId, "host id", check_host_id
);
name!(
    /// A person with an operator's certificate.
    OperatorName, "operator name", check_operator
);
name!(
    /// The key of a host's label, e.g. `role`.
    LabelKey, "label key", check_label_key
);
name!(
    /// The value of a host's label, e.g. `web`.
    LabelValue, "label value", check_label_value
);
name!(
    /// A systemd unit with its suffix, e.g. `mono-api.service`.
    UnitName, "unit name", check_unit
);
name!(
    /// What stands between `@` and the suffix in the name of a template's instance, e.g. `1` in `worker@1.service`.
    InstanceName, "instance name", check_instance
);
name!(
    /// An absolute path in its shortest form: no `.`, `..`, double or trailing slash, no control character.
    AbsPath, "absolute path", check_abs_path
);
name!(
    /// The name of an environment variable.
    EnvKey, "environment variable", check_env_key
);
name!(
    /// The name of a secret, e.g. `siliconflow`.
    SecretName, "secret name", check_secret
);
name!(
    /// A Unix user or group.
    UserName, "user or group name", check_user
);
name!(
    /// A check of a manifest, e.g. `api`.
    CheckName, "check name", check_word
);
name!(
    /// A hook of a manifest, e.g. `migrate`.
    HookName, "hook name", check_word
);
name!(
    /// A Docker container, e.g. `shop-api`.
    ContainerName, "container name", check_docker
);
name!(
    /// A Docker volume.
    VolumeName, "volume name", check_docker
);
name!(
    /// A Docker network.
    NetworkName, "network name", check_docker
);
name!(
    /// An upstream of nginx that drover writes, e.g. `mono-api`.
    UpstreamName, "upstream name", check_word
);
name!(
    /// A Debian package, optionally `name=version`.
    PackageName, "package name", check_package
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

type Checked = Result<(), &'static str>;

fn only(text: &str, max_chars: usize, first: fn(char) -> bool, rest: fn(char) -> bool, why: &'static str) -> Checked {
    let mut chars = text.chars();
    let fits = chars.next().is_some_and(first) && chars.all(rest) && text.len() <= max_chars;
    if fits { Ok(()) } else { Err(why) }
}

fn lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn check_word(text: &str) -> Checked {
    only(
        text,
        40,
        |c| c.is_ascii_lowercase(),
        |c| lower_or_digit(c) || c == '-' || c == '_',
        "use a lower-case letter, then letters, digits, '-' and '_', at most 40",
    )
}

fn check_app(text: &str) -> Checked {
    const RULE: &str = "use a lower-case letter, then letters, digits and '-', at most 40, and perhaps '@environment'";
    let (base, environment) = text.split_once('@').map_or((text, None), |(b, e)| (b, Some(e)));
    only(base, 40, |c| c.is_ascii_lowercase(), |c| lower_or_digit(c) || c == '-', RULE)?;
    environment.map_or(Ok(()), |e| check_word(e).map_err(|_| RULE))
}

fn check_host(text: &str) -> Checked {
    only(
        text,
        63,
        |c| c.is_ascii_alphanumeric(),
        |c| c.is_ascii_alphanumeric() || c == '-' || c == '.',
        "use letters, digits, '-' and '.', at most 63, beginning with a letter or digit",
    )
}

fn check_host_id(text: &str) -> Checked {
    let hex = text.strip_prefix("h-").unwrap_or_default();
    let fits = hex.len() == 16 && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    if fits { Ok(()) } else { Err("a host id is 'h-' and 16 hex digits") }
}

fn check_operator(text: &str) -> Checked {
    only(
        text,
        64,
        |c| c.is_ascii_alphanumeric(),
        |c| c.is_ascii_alphanumeric() || "-_.@".contains(c),
        "use letters, digits, '-', '_', '.' and '@', at most 64",
    )
}

fn check_label_key(text: &str) -> Checked {
    only(
        text,
        63,
        |c| c.is_ascii_alphabetic(),
        |c| c.is_ascii_alphanumeric() || "-_./".contains(c),
        "use a letter, then letters, digits, '-', '_', '.' and '/', at most 63",
    )
}

fn check_label_value(text: &str) -> Checked {
    only(
        text,
        63,
        |c| c.is_ascii_alphanumeric(),
        |c| c.is_ascii_alphanumeric() || "-_.".contains(c),
        "use letters, digits, '-', '_' and '.', at most 63, beginning with a letter or digit",
    )
}

fn check_unit(text: &str) -> Checked {
    const SUFFIXES: [&str; 7] = [".service", ".socket", ".timer", ".path", ".target", ".mount", ".swap"];
    only(
        text,
        200,
        |c| c.is_ascii_alphanumeric() || c == '-' || c == '_',
        |c| c.is_ascii_alphanumeric() || "-_.@:\\".contains(c),
        "use letters, digits, '-', '_', '.', '@', ':' and '\\', at most 200",
    )?;
    let named = SUFFIXES.iter().any(|suffix| text.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty()));
    if named { Ok(()) } else { Err("end it in .service, .socket, .timer, .path, .target, .mount or .swap") }
}

fn check_instance(text: &str) -> Checked {
    only(
        text,
        40,
        |c| c.is_ascii_alphanumeric() || c == '_',
        |c| c.is_ascii_alphanumeric() || "-_.:".contains(c),
        "use letters, digits, '-', '_', '.' and ':', at most 40, beginning with a letter or digit",
    )
}

fn check_abs_path(text: &str) -> Checked {
    if text.len() > 4000 {
        return Err("a path is at most 4000 bytes");
    }
    let Some(rest) = text.strip_prefix('/') else { return Err("begin it with '/'") };
    if text.chars().any(char::is_control) {
        return Err("a path has no control characters");
    }
    if rest.is_empty() {
        return Err("the root directory itself is not allowed");
    }
    if rest.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("write it without '.', '..', double or trailing slashes");
    }
    Ok(())
}

fn check_env_key(text: &str) -> Checked {
    only(
        text,
        128,
        |c| c.is_ascii_alphabetic() || c == '_',
        |c| c.is_ascii_alphanumeric() || c == '_',
        "use letters, digits and '_', not beginning with a digit",
    )
}

fn check_secret(text: &str) -> Checked {
    only(
        text,
        128,
        |c| c.is_ascii_alphabetic() || c == '_',
        |c| c.is_ascii_alphanumeric() || "-_.".contains(c),
        "use a letter, then letters, digits, '-', '_' and '.', at most 128",
    )
}

fn check_user(text: &str) -> Checked {
    only(
        text,
        32,
        |c| c.is_ascii_lowercase() || c == '_',
        |c| lower_or_digit(c) || c == '-' || c == '_',
        "use a lower-case letter or '_', then letters, digits, '-' and '_', at most 32",
    )
}

fn check_docker(text: &str) -> Checked {
    const RULE: &str = "use a letter or digit, then letters, digits, '-', '_' and '.', 2 to 128";
    let rest = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    only(text, 128, |c| c.is_ascii_alphanumeric(), rest, RULE)?;
    if text.ends_with(".drover-next") {
        return Err("that ending is drover's own");
    }
    if text.len() < 2 { Err(RULE) } else { Ok(()) }
}

fn check_package(text: &str) -> Checked {
    let (name, version) = text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v)));
    only(
        name,
        100,
        lower_or_digit,
        |c| lower_or_digit(c) || "+-.:".contains(c),
        "use lower-case letters, digits, '+', '-' and '.', perhaps '=version'",
    )?;
    version.map_or(Ok(()), |v| {
        only(
            v,
            100,
            |c| c.is_ascii_alphanumeric(),
            |c| c.is_ascii_alphanumeric() || "+-.:~".contains(c),
            "a version has letters, digits, '+', '-', '.', ':' and '~'",
        )
    })
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
