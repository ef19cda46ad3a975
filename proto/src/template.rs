//! Text with holes that only the host can fill: `{{ release }}`, `{{ host.name }}`, `{{ secret.X }}` …
//!
//! The CLI parses it once and fills in the manifest's own variables; what is left travels as segments, so that no value
//! is ever parsed again and none can smuggle a hole in. The agent renders it.

use serde::{Deserialize, Serialize};

use crate::name::{LabelKey, SecretName, UpstreamName};

/// What a hole asks for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hole {
    /// The directory of the unpacked and built artifact.
    Release,
    /// The path of the app's env file (mode 0600, root).
    EnvFile,
    /// The host's drover name.
    HostName,
    /// The value of one of the host's labels.
    HostLabel(LabelKey),
    /// The value of one of the app's secrets; only in files and env values.
    Secret(SecretName),
    /// The staged copy of the file being checked; only in that file's `validate:`.
    Path,
    /// The port of an instance that stands beside the one before: in such a part its own, in a check that of the only one.
    Port,
    /// The same, of the part behind that upstream; only in checks.
    PortOf(UpstreamName),
}

/// A piece of a template.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// Text to be taken as it is.
    Text(String),
    /// A hole.
    Hole(Hole),
}

/// Text with holes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub Vec<Segment>);

impl Template {
    /// A template with no hole.
    #[must_use]
    pub fn literal(text: impl Into<String>) -> Self {
        Self(vec![Segment::Text(text.into())])
    }
    /// The holes, in order.
    pub fn holes(&self) -> impl Iterator<Item = &Hole> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Hole(hole) => Some(hole),
            Segment::Text(_) => None,
        })
    }
    /// The secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.holes().filter_map(|hole| if let Hole::Secret(name) = hole { Some(name) } else { None })
    }
    /// Its pieces of plain text joined; what a check for control characters looks at.
    #[must_use]
    pub fn plain_text(&self) -> String {
        self.0.iter().filter_map(|s| if let Segment::Text(t) = s { Some(t.as_str()) } else { None }).collect()
    }
    /// The text with every hole filled by `fill`; the first error ends it.
    pub fn render<E>(&self, mut fill: impl FnMut(&Hole) -> Result<String, E>) -> Result<String, E> {
        let mut text = String::new();
        for segment in &self.0 {
            match segment {
                Segment::Text(plain) => text.push_str(plain),
                Segment::Hole(hole) => text.push_str(&fill(hole)?),
            }
        }
        Ok(text)
    }
}

/// A program and its arguments; no shell is ever between.
pub type Argv = Vec<Template>;
