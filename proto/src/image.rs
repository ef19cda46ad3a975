//! The name of a container image, as Docker's tools write it: `redis:7-alpine`, `10.0.0.5:5000/shop/api@sha256:…`, or with
//! both a tag, for people, and a digest, which is what counts. Beside `name`; held by `app::Container`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A reference to an image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    /// Registry, if it is not Docker Hub, and path: `redis`, `registry.example.org/team/api`.
    pub repository: String,
    /// What it is called there; may come to mean another image.
    pub tag: Option<String>,
    /// What it is, for good.
    pub digest: Option<Digest>,
}

/// Why a text is no name of an image.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is no image: {why}")]
pub struct ImageError {
    text: String,
    why: &'static str,
}

impl ImageRef {
    /// What is asked of an engine: by digest if there is one, else by tag, `latest` unless said.
    #[must_use]
    pub fn pullable(&self) -> String {
        match self.digest {
            Some(digest) => format!("{}@{digest}", self.repository),
            None => format!("{}:{}", self.repository, self.tag.as_deref().unwrap_or("latest")),
        }
    }
    /// The registry that has it, as Docker names it in its credentials.
    #[must_use]
    pub fn registry(&self) -> &str {
        match self.repository.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
            _ => "https://index.docker.io/v1/",
        }
    }
    /// For tables: `redis:7-alpine (4f53cda18c2b)`.
    #[must_use]
    pub fn short(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.map(|digest| format!(" ({})", digest.short())).unwrap_or_default();
        format!("{}{tag}{digest}", self.repository)
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, ImageError> {
        let wrong = |why| ImageError { text: text.chars().take(80).collect(), why };
        if text.len() > 512 {
            return Err(wrong("at most 512 characters"));
        }
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                (name, Some(digest.parse().map_err(|_| wrong("after the @ comes sha256: and 64 hex digits"))?))
            }
        };
        // A colon before the last slash is a registry's port.
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (name, None),
        };
        if !tag.is_none_or(is_tag) {
            return Err(wrong("a tag has letters, digits, '_', '.' and '-', at most 128"));
        }
        if !is_repository(repository) {
            return Err(wrong("write name:tag, registry/name:tag or name@sha256:…, the name in lower case"));
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.map(str::to_owned), digest })
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_repository(repository: &str) -> bool {
    let (registry, path) = match repository.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, repository),
    };
    let is_host = |text: &str| {
        let (host, port) = text.rsplit_once(':').filter(|_| !text.ends_with(']')).unwrap_or((text, "0"));
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
            && host.chars().all(plain)
            && port.parse::<u16>().is_ok()
    };
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_component = |part: &str| {
        part.starts_with(edge) && part.ends_with(edge) && part.chars().all(|c| edge(c) || "._-".contains(c))
    };
    registry.is_none_or(is_host) && path.split('/').all(is_component)
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.to_string()
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ImageError;
    fn try_from(text: String) -> Result<Self, ImageError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    //! What is a name of an image, and what is asked for.
    use super::*;

    #[test]
    fn names_as_docker_writes_them() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, pulled, registry) in [
            ("redis", "redis:latest".to_owned(), "https://index.docker.io/v1/"),
            ("redis:7-alpine", "redis:7-alpine".to_owned(), "https://index.docker.io/v1/"),
            ("team/api:1.4_2", "team/api:1.4_2".to_owned(), "https://index.docker.io/v1/"),
            ("10.77.0.1:5000/shop", "10.77.0.1:5000/shop:latest".to_owned(), "10.77.0.1:5000"),
            ("localhost/a/b:x", "localhost/a/b:x".to_owned(), "localhost"),
            (
                &format!("registry.example.org/a:1@{digest}"),
                format!("registry.example.org/a@{digest}"),
                "registry.example.org",
            ),
        ] {
            let image: ImageRef = text.parse().unwrap();
            assert_eq!((image.to_string(), image.pullable(), image.registry()), (text.to_owned(), pulled, registry));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "Redis",
            "redis:",
            "redis:a b",
            "redis@sha256:12",
            "redis@md5:00",
            "-a",
            "a/",
            "/a",
            "a//b",
            "a\nb",
            "--help",
            "reg.example.org/",
            ":tag",
            "a:../b",
            "../b",
            "..:80/b",
            "re$g.example/a",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text:?}");
        }
    }
}
