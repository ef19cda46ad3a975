//! Trading a login token for a certificate. The key is made here and never leaves this machine; the coordinator is known by
//! the fingerprint in the token. Called by `cmd/login`.

use drover_proto::{
    code::Code,
    digest::Digest,
    name::OperatorName,
    tls::{self, Trust},
    token::{Token, TokenKind},
    wire::{self, enrolment_client::EnrolmentClient},
};

use super::{
    credentials::{Config, Credentials},
    error,
};
use crate::fault::Fault;

/// Logs in at `address` with the token's word.
pub async fn login(address: &str, word: &str) -> Result<Credentials, Fault> {
    let token = Token::parse(token_in(word), TokenKind::Login).map_err(|e| Fault::new(Code::Token, e.to_string()))?;
    let dial = |e: &tls::TlsError| error::of_dial(e, address);
    let key = tls::new_key().map_err(|e| dial(&e))?;
    let config = tls::client_config(&Trust::Fingerprint(token.ca_fingerprint), None).map_err(|e| dial(&e))?;
    let channel = tls::dial(address, config).await.map_err(|e| dial(&e))?;
    let request = wire::LoginOperatorRequest {
        token_id: token.id.clone(),
        token_secret: token.secret.expose().clone(),
        csr_der: key.csr_der,
        protocol_version: drover_proto::PROTOCOL_VERSION,
    };
    let reply = EnrolmentClient::new(channel).login_operator(request).await;
    let certificate = reply.map_err(|e| error::of_status(&e, address))?.into_inner();
    if Digest::of(&certificate.ca_der) != token.ca_fingerprint {
        return Err(Fault::new(Code::Token, "the coordinator sent a CA that is not the one in the token"));
    }
    let operator: OperatorName = certificate
        .subject_id
        .parse()
        .map_err(|e| Fault::new(Code::Protocol, format!("the coordinator sent a name that is none: {e}")))?;
    Ok(Credentials {
        config: Config {
            coordinator: address.to_owned(),
            operator,
            certificate_not_after_unix_ms: certificate.not_after_unix_ms,
        },
        identity: tls::Identity { certificate_der: certificate.certificate_der, key_der: key.key_der },
        ca_ders: std::iter::once(certificate.ca_der).chain(certificate.ca_der_more).collect(),
    })
}

/// The token in what was pasted or piped: perhaps with the sentence in which it was printed.
fn token_in(text: &str) -> &str {
    let is_token = |word: &&str| word.starts_with("drover-login-") || word.starts_with("drover-join-");
    text.split_whitespace().find(is_token).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    //! What may surround a token.
    use super::*;

    #[test]
    fn a_token_is_found_in_what_was_pasted() {
        assert_eq!(token_in("drover-login-abc\n"), "drover-login-abc");
        assert_eq!(token_in("Log in with:\n  drover login H:7443 --token drover-login-abc\n"), "drover-login-abc");
        assert_eq!(token_in("nonsense"), "nonsense");
    }
}
