//! What runs on a host already and is not drover's, in the words of a manifest: the answer to `drover import`. The agent
//! reads it off the host, the CLI writes the manifest.
//!
//! Whatever a manifest can say is in the spec's own types; the rest is told in notes, for the person who takes it over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    app::{Container, FilePart, Project, Unit},
    name::{AbsPath, ContainerName, EnvKey, NameError, ProjectName, UnitName},
};

/// What may be asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A Docker container.
    Container(ContainerName),
    /// A unit of systemd.
    Unit(UnitName),
    /// A compose project.
    Compose(ProjectName),
}

/// A text that names nothing that can be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Another version may know it.
    #[error("{0:?} cannot be imported: only a container, a unit or a compose project can")]
    Kind(String),
    /// No name of its kind.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Subject {
    /// From the two words that travel.
    pub fn parse(kind: &str, name: &str) -> Result<Self, SubjectError> {
        match kind {
            "container" => Ok(Self::Container(name.parse()?)),
            "unit" => Ok(Self::Unit(name.parse()?)),
            "compose" => Ok(Self::Compose(name.parse()?)),
            other => Err(SubjectError::Kind(other.chars().take(40).collect())),
        }
    }

    /// The first of the two words.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Container(_) => "container",
            Self::Unit(_) => "unit",
            Self::Compose(_) => "compose",
        }
    }

    /// The other one.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Container(name) => name.as_str(),
            Self::Unit(name) => name.as_str(),
            Self::Compose(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// What a manifest has to say so that what runs is taken over as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Containers, with `adopt`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<ContainerName, Container>,
    /// Units, with `adopt`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<UnitName, Unit>,
    /// Compose projects, with `adopt`. Their files are in `texts`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub compose: BTreeMap<ProjectName, Project>,
    /// What their files say, as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub texts: BTreeMap<AbsPath, String>,
    /// Other files, with `adopt`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FilePart>,
    /// Of the app.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<EnvKey, String>,
    /// Of the app, too; their values look like secrets, and have not left the host.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<EnvKey>,
    /// The files in which those stand that stand in one, as `KEY=value`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets_in: BTreeMap<EnvKey, AbsPath>,
    /// What a person must look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// Something that the manifest cannot say, or should not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// What is concerned, such as `dns` of a container.
    pub field: String,
    /// One sentence.
    pub text: String,
}

impl Found {
    /// Adds a note.
    pub fn note(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.notes.push(Note { field: field.into(), text: text.into() });
    }
}

#[cfg(test)]
mod tests {
    //! What can be asked for.
    use super::*;

    #[test]
    fn a_subject_is_a_known_kind_and_a_good_name() {
        let good = Subject::parse("container", "web").unwrap();
        assert_eq!((good.kind(), good.name(), good.to_string().as_str()), ("container", "web", "container web"));
        assert!(matches!(Subject::parse("unit", "a.service"), Ok(Subject::Unit(_))));
        assert!(matches!(Subject::parse("compose", "shop"), Ok(Subject::Compose(_))));
        for (kind, name) in
            [("container", "../x"), ("container", ""), ("unit", "a"), ("unit", "/etc/passwd"), ("file", "a")]
        {
            assert!(Subject::parse(kind, name).is_err(), "{kind} {name}");
        }
        assert!(Subject::parse("container", "web.drover-before").is_err(), "drover's own");
    }
}
