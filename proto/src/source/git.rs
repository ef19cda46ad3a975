//! A commit of a git repository as the source of an artifact. Beside `source`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Credentials, wrong_with};
use crate::digest::Digest;

/// The longest path of a folder in a repository.
const MAX_DIRECTORY_BYTES: usize = 1000;

/// A commit of a repository. Its name says what is in it, so that no other digest is needed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitSource {
    /// `https://…`, without user, password and query.
    pub url: String,
    /// Which.
    pub commit: Commit,
    /// Only this folder of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Said to that server and to no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}

impl GitSource {
    /// The artifact's digest: of what pins its content, and of nothing else. The same commit from another server is the
    /// same artifact.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(format!("git\n{}\n{}", self.commit, self.directory.as_deref().unwrap_or_default()).as_bytes())
    }

    /// The field and what is wrong with it.
    pub(super) fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let url = wrong_with_repository(&self.url).map(|what| ("git", what));
        url.or_else(|| Some(("path", wrong_with_directory(self.directory.as_deref()?)?)))
    }
}

impl fmt::Display for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.url, self.commit.short())?;
        self.directory.iter().try_for_each(|directory| write!(f, ", folder {directory}"))
    }
}

/// The full name of a commit: SHA-1 or SHA-256, in lower-case hex digits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Commit(String);

/// A text that is no full name of a commit, such as a branch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a commit is named by all of its 40 (or 64) lower-case hex digits")]
pub struct CommitError;

impl Commit {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The first 12 of them, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
    /// Whether it is of a repository whose objects are named by SHA-256.
    #[must_use]
    pub fn is_sha256(&self) -> bool {
        self.0.len() == 64
    }
}

impl FromStr for Commit {
    type Err = CommitError;
    fn from_str(text: &str) -> Result<Self, CommitError> {
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && [40, 64].contains(&text.len()) { Ok(Self(text.to_owned())) } else { Err(CommitError) }
    }
}
impl TryFrom<String> for Commit {
    type Error = CommitError;
    fn try_from(text: String) -> Result<Self, CommitError> {
        text.parse()
    }
}
impl From<Commit> for String {
    fn from(commit: Commit) -> Self {
        commit.0
    }
}
impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn wrong_with_repository(url: &str) -> Option<&'static str> {
    // `git@example.org:team/mono.git` is the short form of ssh.
    let short = !url.contains("://")
        && (url.starts_with("git@") || url.split_once(':').is_some_and(|(server, _)| !server.contains('/')));
    if short || url.starts_with("ssh://") || url.starts_with("git+ssh://") {
        return Some("git over ssh is not taken: write the https:// URL, and a read-only token under credentials");
    }
    if url.contains('?') {
        return Some("the URL of a repository has no ?");
    }
    wrong_with(url)
}

fn wrong_with_directory(directory: &str) -> Option<&'static str> {
    let named = |part: &str| !["", ".", ".."].contains(&part);
    let plain = directory.split('/').all(named) && !directory.chars().any(|c| c.is_control() || c == '\\');
    if plain && directory.len() <= MAX_DIRECTORY_BYTES {
        return None;
    }
    Some("with git, a folder of the repository: names with / between them, without '.' and '..'")
}

#[cfg(test)]
mod tests {
    //! What is taken for a repository, a commit and a folder.
    use super::*;

    const COMMIT: &str = "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12";

    fn source(directory: Option<&str>) -> GitSource {
        GitSource {
            url: "https://example.org/mono.git".to_owned(),
            commit: COMMIT.parse().unwrap(),
            directory: directory.map(str::to_owned),
            credentials: None,
        }
    }

    #[test]
    fn only_https_leads_to_a_repository() {
        assert_eq!(wrong_with_repository("https://git.example.org:8443/team/mono.git"), None);
        for (url, words) in [
            ("ssh://git@example.org/mono.git", "ssh is not taken"),
            ("git@example.org:team/mono.git", "ssh is not taken"),
            ("example.org:mono", "ssh is not taken"),
            ("git@example.org/mono.git", "ssh is not taken"),
            ("git://example.org/mono.git", "https://"),
            ("http://example.org/mono.git", "https://"),
            ("file:///srv/mono.git", "https://"),
            ("/srv/mono.git", "https://"),
            ("--upload-pack=x", "https://"),
            ("https://oauth2:token@example.org/mono.git", "under credentials"),
            ("https://example.org/mono.git?token=x", "no ?"),
            ("https://example.org/mono\"\n[core]", "%XX"),
        ] {
            assert!(wrong_with_repository(url).is_some_and(|what| what.contains(words)), "{url}");
        }
    }

    #[test]
    fn a_commit_has_its_full_name() {
        for bad in ["", "main", "v1.2", "2fd4e1c", &COMMIT.to_uppercase(), &format!("{COMMIT}0"), &"g".repeat(40)] {
            assert_eq!(bad.parse::<Commit>(), Err(CommitError), "{bad}");
        }
        assert!("ab".repeat(32).parse::<Commit>().unwrap().is_sha256());
        assert!(!COMMIT.parse::<Commit>().unwrap().is_sha256());
    }

    #[test]
    fn a_folder_stays_in_the_repository() {
        for good in ["app", "services/web api", ".config/x"] {
            assert_eq!(wrong_with_directory(good), None, "{good}");
        }
        for bad in ["", "/app", "app/", "..", "app/../x", "./app", "a//b", "a\nb", "a\\b", &"a/".repeat(600)] {
            assert!(wrong_with_directory(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_content_and_not_of_the_server() {
        let other = GitSource { url: "https://mirror.example.org/x.git".to_owned(), ..source(None) };
        assert_eq!(other.digest(), source(None).digest());
        assert_ne!(source(Some("app")).digest(), source(None).digest());
        assert_eq!(source(Some("app")).to_string(), "https://example.org/mono.git at 2fd4e1c67a2d, folder app");
    }
}
