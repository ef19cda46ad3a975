//! A compose project as a part of an app: the user's own files, which are files of the app like others, and how compose is
//! called with them. Beside `app`; docs/decisions/0006-compose.md says why it is so.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Drift;
use crate::{name::AbsPath, source::Credentials};

/// A project; its key in the manifest is its name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Where its files lie on the host, as they lie beside the manifest. What is built is built from the artifact as if it
    /// lay there.
    pub directory: AbsPath,
    /// The compose files, the later over the earlier. Each is among the app's files. What is relative in them is so to the
    /// directory of the first.
    pub files: Vec<AbsPath>,
    /// What `${…}` in them is filled in from, after the app's env. It is among the app's files, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<AbsPath>,
    /// Services with one of these profiles run, beside those that have none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub profiles: BTreeSet<String>,
    /// What the registries of its images want to know, by their names in images; `docker.io` for Docker Hub.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registries: BTreeMap<String, Credentials>,
    /// One of that name that runs on the host already is taken over as it runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
    /// When a service is stopped, removed or not what was started.
    #[serde(default, skip_serializing_if = "Drift::is_default")]
    pub drift: Drift,
}
