//! Where an artifact comes from that was not pushed to the coordinator: the host fetches it itself. Part of `app`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    app::{AppError, AppSpec},
    name::SecretName,
};

pub use git::{Commit, CommitError, GitSource};

mod git;

/// The longest URL taken.
const MAX_URL_BYTES: usize = 2000;

/// Where an artifact comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// The coordinator, to which it was pushed.
    #[default]
    Pushed,
    /// A web server.
    Url(UrlSource),
    /// A git repository.
    Git(GitSource),
}

/// An archive on a web server. What it is, the artifact's digest says; its size is not known before (0), but is limited as
/// that of every artifact.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlSource {
    /// `https://…`, without user and password.
    pub url: String,
    /// Said to that server and to no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}

/// What a server wants to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// With a user the secret is the password (Basic). Without it is a token: Bearer for a web server, and for git, which
    /// knows no such thing, the password of the user `oauth2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// One of the app's secrets.
    pub secret: SecretName,
}

impl Source {
    /// Whether the coordinator has it.
    #[must_use]
    pub fn is_pushed(&self) -> bool {
        *self == Self::Pushed
    }

    /// The server's credentials, if it wants any.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        match self {
            Self::Pushed => None,
            Self::Url(source) => source.credentials.as_ref(),
            Self::Git(source) => source.credentials.as_ref(),
        }
    }

    /// What is wrong with the source of `app`.
    pub(crate) fn check(&self, app: &AppSpec) -> Vec<AppError> {
        let mut found = Vec::new();
        let mut say = |field: &str, what: String| found.push(AppError { field: field.to_owned(), what });
        match self {
            Self::Pushed => {}
            Self::Url(source) => {
                if let Some(what) = wrong_with(&source.url) {
                    say("artifact.url", what.to_owned());
                }
            }
            Self::Git(source) => {
                if let Some((field, what)) = source.wrong() {
                    say(&format!("artifact.{field}"), what.to_owned());
                }
                if app.artifact.as_ref().is_some_and(|artifact| artifact.digest != source.digest()) {
                    say("artifact.commit", "the artifact's digest is not that of the commit".to_owned());
                }
            }
        }
        if let Some(credentials) = self.credentials() {
            if !app.secrets.contains_key(&credentials.secret) {
                say("artifact.credentials.secret", format!("secret {} is not declared", credentials.secret));
            }
            let user = credentials.username.as_deref().unwrap_or("x");
            if user.is_empty() || user.len() > 256 || user.contains(':') || user.chars().any(char::is_control) {
                say("artifact.credentials.username", "a user name of 1 to 256 characters without ':'".to_owned());
            }
        }
        found
    }
}

fn wrong_with(url: &str) -> Option<&'static str> {
    let Some(rest) = url.strip_prefix("https://") else { return Some("begin the URL with https://") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Some("the URL names no server");
    }
    if authority.contains('@') {
        return Some("a URL is shown to everyone: put user and password under credentials");
    }
    if url.contains('#') {
        return Some("a URL of an artifact has no #");
    }
    let plain = |c: char| c.is_ascii_graphic() && !"\"'\\`<>{}|^".contains(c);
    if url.len() > MAX_URL_BYTES || !url.chars().all(plain) {
        return Some("the URL is too long, or holds characters that must be written as %XX");
    }
    None
}

/// For people: without what follows a `?`, which may be a key.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pushed => f.write_str("the coordinator"),
            Self::Url(source) => f.write_str(source.url.split('?').next().unwrap_or_default()),
            Self::Git(source) => source.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    //! What a URL may be.
    use super::*;

    #[test]
    fn only_a_plain_https_url_will_do() {
        assert_eq!(wrong_with("https://example.org/mono-1.2.tar.zst?sig=a%20b"), None);
        assert_eq!(wrong_with("https://[2001:db8::1]:8443/a.tar"), None);
        for (url, words) in [
            ("http://example.org/a.tar", "https://"),
            ("https:///a.tar", "no server"),
            ("https://alice:secret@example.org/a.tar", "under credentials"),
            ("https://example.org/a.tar#b", "no #"),
            ("https://example.org/a b", "%XX"),
            ("https://example.org/\u{e4}", "%XX"),
            ("https://example.org/\n", "%XX"),
        ] {
            assert!(wrong_with(url).is_some_and(|what| what.contains(words)), "{url}");
        }
    }

    #[test]
    fn it_is_shown_without_its_query() {
        let url = "https://example.org/a.tar?key=1".to_owned();
        assert_eq!(Source::Url(UrlSource { url, credentials: None }).to_string(), "https://example.org/a.tar");
    }
}
