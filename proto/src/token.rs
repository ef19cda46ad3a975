//! Join and login tokens: an id, a secret and the fingerprint of the coordinator's CA, in one word that can be pasted.
//!
//! `drover-join-…` enrols hosts, `drover-login-…` an operator. The fingerprint lets the newcomer know the coordinator
//! before it has any certificate.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{digest::Digest, secret::Secret};

/// What a token is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// Enrols hosts.
    Join,
    /// Logs an operator in, once.
    Login,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Join => "drover-join-",
            Self::Login => "drover-login-",
        }
    }
}

/// A token taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is for.
    pub kind: TokenKind,
    /// 8 bytes in hex; public.
    pub id: String,
    /// 24 random bytes.
    pub secret: Secret<Vec<u8>>,
    /// SHA-256 of the CA certificate's DER.
    pub ca_fingerprint: Digest,
}

const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 24;

/// A text that is no token of the kind wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Of the other kind.
    #[error("this is a token for {0}")]
    OtherKind(&'static str),
    /// Cut off or mistyped.
    #[error("this is not a whole token: copy all of it, from 'drover-' to the end")]
    Malformed,
}

impl Token {
    /// A new one; `random` fills a buffer with random bytes.
    pub fn generate<E>(
        kind: TokenKind,
        ca_fingerprint: Digest,
        random: impl Fn(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (mut id, mut secret) = ([0; ID_BYTES], vec![0; SECRET_BYTES]);
        random(&mut id)?;
        random(&mut secret)?;
        Ok(Self { kind, id: hex::encode(id), secret: Secret::new(secret), ca_fingerprint })
    }
    /// The word to be handed over; keep it out of logs.
    #[must_use]
    pub fn reveal(&self) -> String {
        let mut bytes = hex::decode(&self.id).unwrap_or_default();
        bytes.extend_from_slice(self.secret.expose());
        bytes.extend_from_slice(self.ca_fingerprint.as_bytes());
        format!("{}{}", self.kind.prefix(), URL_SAFE_NO_PAD.encode(bytes))
    }
    /// Reads a word that was handed over.
    pub fn parse(text: &str, kind: TokenKind) -> Result<Self, TokenError> {
        let text = text.trim();
        let Some(body) = text.strip_prefix(kind.prefix()) else {
            return Err(match kind {
                TokenKind::Join if text.starts_with(TokenKind::Login.prefix()) => {
                    TokenError::OtherKind("operators; a host needs one of `drover token create`")
                }
                TokenKind::Login if text.starts_with(TokenKind::Join.prefix()) => {
                    TokenError::OtherKind("hosts; an operator needs one of `drover-coordinator operator add`")
                }
                TokenKind::Join | TokenKind::Login => TokenError::Malformed,
            });
        };
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError::Malformed)?;
        if bytes.len() != ID_BYTES + SECRET_BYTES + 32 {
            return Err(TokenError::Malformed);
        }
        let (id, rest) = bytes.split_at(ID_BYTES);
        let (secret, fingerprint) = rest.split_at(SECRET_BYTES);
        let ca_fingerprint =
            format!("sha256:{}", hex::encode(fingerprint)).parse().map_err(|_| TokenError::Malformed)?;
        Ok(Self { kind, id: hex::encode(id), secret: Secret::new(secret.to_vec()), ca_fingerprint })
    }
}

#[cfg(test)]
mod tests {
    //! A token comes back as it went, and anything else is refused.
    use super::*;

    #[test]
    fn a_token_survives_being_pasted() {
        let token = Token::generate(TokenKind::Join, Digest::of(b"ca"), |b| {
            b.fill(7);
            Ok::<(), ()>(())
        })
        .unwrap();
        let word = token.reveal();
        assert_eq!(Token::parse(&format!(" {word}\n"), TokenKind::Join), Ok(token.clone()));
        assert_eq!(Token::parse(&word[..word.len() - 3], TokenKind::Join), Err(TokenError::Malformed));
        assert!(matches!(Token::parse(&word, TokenKind::Login), Err(TokenError::OtherKind(_))));
        assert!(format!("{token:?}").contains("[secret]"), "a token's secret shows in Debug");
    }
}
