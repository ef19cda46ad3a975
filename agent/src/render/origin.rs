//! Who has an artifact, with all that is needed to ask, secrets included. Part of `render`; `blob` asks.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use drover_proto::{
    secret::Secret,
    source::{Commit, Credentials, Source},
    template::Hole,
};

use super::{RenderError, fill::Filler};

/// Whose password a token is when the manifest says nothing: GitHub, GitLab and Gitee take it so.
const TOKEN_USER: &str = "oauth2";

/// Who has an artifact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Whoever is connected.
    Coordinator,
    /// A web server.
    Web {
        /** `https://…`. */
        url: String,
        /** The whole header. */
        authorization: Option<Secret<String>>,
        /** The URL for people. */
        shown: String,
    },
    /// A git repository.
    Git {
        /** Which, and what of it. */
        tree: GitTree,
        /** The whole header. */
        authorization: Option<Secret<String>>,
        /** For people. */
        shown: String,
    },
}

/// What a commit holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GitTree {
    /// `https://…`.
    pub url: String,
    /// Which.
    pub commit: Commit,
    /// Only that folder.
    pub directory: Option<String>,
}

impl Origin {
    /// For people; `None` = the coordinator, which goes without saying.
    #[must_use]
    pub fn shown(&self) -> Option<&str> {
        match self {
            Self::Coordinator => None,
            Self::Web { shown, .. } | Self::Git { shown, .. } => Some(shown),
        }
    }
}

impl Filler<'_> {
    pub(super) fn origin(&self, source: &Source) -> Result<Origin, RenderError> {
        let shown = source.to_string();
        Ok(match source {
            Source::Pushed => Origin::Coordinator,
            Source::Url(from) => {
                let authorization = self.authorization(from.credentials.as_ref(), |token| format!("Bearer {token}"))?;
                Origin::Web { url: from.url.clone(), authorization, shown }
            }
            Source::Git(from) => {
                let as_password = |token: &str| basic(TOKEN_USER, token);
                let authorization = self.authorization(from.credentials.as_ref(), as_password)?;
                let (url, commit, directory) = (from.url.clone(), from.commit.clone(), from.directory.clone());
                Origin::Git { tree: GitTree { url, commit, directory }, authorization, shown }
            }
        })
    }

    fn authorization(
        &self,
        credentials: Option<&Credentials>,
        token: impl Fn(&str) -> String,
    ) -> Result<Option<Secret<String>>, RenderError> {
        let Some(credentials) = credentials else { return Ok(None) };
        let value = self.hole("artifact.credentials", &Hole::Secret(credentials.secret.clone()))?;
        let value = value.trim_end();
        Ok(Some(Secret::new(match &credentials.username {
            Some(user) => basic(user, value),
            None => token(value),
        })))
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    //! Which header each kind of credentials becomes.
    use drover_proto::source::{GitSource, UrlSource};

    use super::*;
    use crate::render::tests::{desired, rendered};

    fn header(source: Source) -> String {
        let mut desired = desired();
        desired.spec.artifact.as_mut().unwrap().source = source;
        match rendered(&desired).tree.unwrap().origin {
            Origin::Web { authorization, .. } | Origin::Git { authorization, .. } => {
                authorization.unwrap().expose().clone()
            }
            Origin::Coordinator => panic!("not the coordinator"),
        }
    }

    #[test]
    fn a_token_is_a_bearers_for_a_web_server_and_a_password_for_git() {
        let credentials = |username: Option<&str>| {
            Some(Credentials { username: username.map(str::to_owned), secret: "KEY".parse().unwrap() })
        };
        let web = |username| {
            let url = "https://example.org/a.tar".to_owned();
            header(Source::Url(UrlSource { url, credentials: credentials(username) }))
        };
        let git = |username| {
            let (url, commit) = ("https://example.org/a.git".to_owned(), "ab".repeat(20).parse().unwrap());
            header(Source::Git(GitSource { url, commit, directory: None, credentials: credentials(username) }))
        };
        let basic = |text: &str| format!("Basic {}", BASE64.encode(text));
        assert_eq!((web(None), web(Some("me"))), ("Bearer hunter2".to_owned(), basic("me:hunter2")));
        assert_eq!((git(None), git(Some("me"))), (basic("oauth2:hunter2"), basic("me:hunter2")));
    }
}
