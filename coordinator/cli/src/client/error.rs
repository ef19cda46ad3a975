//! Errors of the connection in plain words: which gRPC status, TLS alert or refused connection means what, and what to do.
//! Used by every call of `client`; `cmd/watch` asks it what is worth trying again.

use std::error::Error;

use drover_proto::{code::Code, tls::TlsError};
use tonic::Status;

use crate::fault::{Fault, Word};

/// The coordinator's answer, or the lack of one.
#[must_use]
pub fn of_status(status: &Status, address: &str) -> Fault {
    if is_unknown_call(status) {
        return Fault::new(Code::Protocol, "the coordinator does not know this request")
            .hint("it is older than this command; upgrade drover-coordinator");
    }
    match drover_proto::code::of_status(status) {
        Some(code) => {
            let fault = Fault::new(code, status.message());
            match hint(code) {
                Some(hint) => fault.hint(hint),
                None => fault,
            }
        }
        None => of_connection(&chain(status), address).unwrap_or_else(|| of_bare(status, address)),
    }
}

/// A connection that did not come about.
#[must_use]
pub fn of_dial(error: &TlsError, address: &str) -> Fault {
    match error {
        TlsError::Identity(_) => Fault::word(Word::Config, format!("{}: {}", error, causes(error)))
            .hint("log in again: `drover login HOST:PORT`"),
        TlsError::Address(_) => Fault::new(Code::Invalid, error.to_string()),
        TlsError::Key(_) => Fault::new(Code::Internal, format!("{error}: {}", causes(error))),
        TlsError::Connect { .. } => of_connection(&chain(error), address)
            .unwrap_or_else(|| Fault::word(Word::Connect, format!("cannot connect to {address}: {}", causes(error)))),
    }
}

/// Whether a watch should be taken up again: the connection failed, not the request.
#[must_use]
pub fn is_lost_connection(status: &Status) -> bool {
    if drover_proto::code::of_status(status).is_some() {
        return false;
    }
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Internal | tonic::Code::Cancelled => {
            // A refused certificate stays refused.
            !is_certificate_trouble(&chain(status))
        }
        tonic::Code::Ok
        | tonic::Code::InvalidArgument
        | tonic::Code::DeadlineExceeded
        | tonic::Code::NotFound
        | tonic::Code::AlreadyExists
        | tonic::Code::PermissionDenied
        | tonic::Code::ResourceExhausted
        | tonic::Code::FailedPrecondition
        | tonic::Code::Aborted
        | tonic::Code::OutOfRange
        | tonic::Code::Unimplemented
        | tonic::Code::DataLoss
        | tonic::Code::Unauthenticated => false,
    }
}

/// Whether the coordinator is of an older version, which has no such call.
#[must_use]
pub fn is_unknown_call(status: &Status) -> bool {
    match status.code() {
        tonic::Code::Unimplemented => true,
        // As older versions said it.
        tonic::Code::PermissionDenied => status.message() == "no such call",
        _ => false,
    }
}

fn is_certificate_trouble(text: &str) -> bool {
    text.contains("invalid peer certificate") || text.contains("received fatal alert")
}

/// The errors of TCP and TLS, by the words of rustls and the standard library.
pub(super) fn of_connection(text: &str, address: &str) -> Option<Fault> {
    const AGAIN: &str =
        "get a new login: `drover-coordinator operator add NAME` on the coordinator's machine, then `drover login`";
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let fault = |word: Word, message: String, hint: &str| Some(Fault::word(word, message).hint(hint));
    if has(&["its CA has another fingerprint"]) {
        let message =
            format!("the coordinator at {address} is not the one that made this token: its CA has another fingerprint");
        return fault(Word::WrongCoordinator, message, "check the address, and that the token is this coordinator's");
    }
    if has(&["invalid peer certificate: Expired", "invalid peer certificate: certificate expired", "not valid yet"]) {
        let message = format!("the certificate of the coordinator at {address} is out of its time");
        return fault(
            Word::CoordinatorCertificate,
            message,
            "check both clocks; restarting the coordinator renews its certificate",
        );
    }
    if has(&["invalid peer certificate"]) {
        let message =
            format!("what answers at {address} is not the coordinator that this machine logged in to (another CA)");
        return fault(
            Word::WrongCoordinator,
            message,
            "check the address; if the coordinator was made anew, log in again",
        );
    }
    if has(&["CertificateExpired"]) {
        return fault(Word::CertificateExpired, "your certificate has expired".to_owned(), AGAIN);
    }
    if has(&["CertificateRevoked"]) {
        return Some(Fault::new(Code::Revoked, "your certificate has been revoked").hint(AGAIN));
    }
    if has(&[
        "UnknownCA",
        "DecryptError",
        "BadCertificate",
        "CertificateUnknown",
        "AccessDenied",
        "CertificateRequired",
    ]) {
        let message = format!("the coordinator at {address} does not accept your certificate");
        return fault(Word::Certificate, message, AGAIN);
    }
    if has(&["Connection refused"]) {
        let message = format!("nothing listens at {address}");
        return fault(
            Word::Connect,
            message,
            "is drover-coordinator running there? (systemctl status drover-coordinator)",
        );
    }
    if has(&["failed to lookup address", "Name or service not known", "Temporary failure in name resolution"]) {
        return fault(Word::Connect, format!("the name in {address} is not known"), "check the address");
    }
    if has(&["No route to host", "Network is unreachable", "timed out", "deadline has elapsed", "Timeout"]) {
        let message = format!("no answer from {address}");
        return fault(Word::Connect, message, "check the address, the network and the firewall (TCP port 7443)");
    }
    if has(&["InvalidContentType", "HandshakeFailure", "ProtocolVersion", "received corrupt message"]) {
        let message = format!("what listens at {address} does not speak drover's protocol");
        return fault(
            Word::Connect,
            message,
            "check the address and port; the coordinator's is 7443 unless configured otherwise",
        );
    }
    None
}

/// A status without a code: from the libraries or something in between.
fn of_bare(status: &Status, address: &str) -> Fault {
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled => {
            Fault::word(Word::ConnectionLost, format!("the connection to {address} was lost: {}", status.message()))
        }
        code => Fault::word(Word::Answer, format!("{code:?}: {}", status.message())),
    }
}

/// What to do about an error of the coordinator, where its own sentence cannot say.
fn hint(code: Code) -> Option<&'static str> {
    match code {
        Code::Revoked => Some("if that is a mistake: `drover-coordinator operator add NAME`, then `drover login`"),
        Code::PlanChanged => Some("look at the new plan with `drover plan`, then apply that one"),
        Code::NoTargets => Some("compare the manifest's targets with `drover hosts`; `drover hosts label` sets labels"),
        Code::Protocol => Some("install the same version of drover on both sides"),
        Code::HostOffline => Some("`drover hosts` shows who is connected"),
        Code::PlanFailed => Some("`drover plan` shows what each host answers"),
        Code::Manifest
        | Code::Invalid
        | Code::NotFound
        | Code::Exists
        | Code::Forbidden
        | Code::Token
        | Code::SecretMissing
        | Code::ArtifactMissing
        | Code::DigestMismatch
        | Code::RolloutState
        | Code::Limit
        | Code::HostTimeout
        | Code::JobExpired
        | Code::OwnedByOther
        | Code::NotOwned
        | Code::UnsafePath
        | Code::NoSuchUser
        | Code::PortTaken
        | Code::Disk
        | Code::ClockSkew
        | Code::CertificateExpiring
        | Code::HostNeed
        | Code::Fetch
        | Code::Archive
        | Code::Build
        | Code::Validate
        | Code::Hook
        | Code::Write
        | Code::Systemd
        | Code::Docker
        | Code::Image
        | Code::Compose
        | Code::Policy
        | Code::Gate
        | Code::Interrupted
        | Code::Revert => None,
        Code::Store | Code::Internal => Some("the coordinator's journal says more: journalctl -u drover-coordinator"),
    }
}

/// An error and all its causes, without repetitions.
fn chain(error: &dyn Error) -> String {
    let causes = causes(error);
    if causes.is_empty() { error.to_string() } else { format!("{error}: {causes}") }
}

fn causes(error: &dyn Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last().is_none_or(|last| *last != text) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    //! Which words of the libraries become which sentence.
    use super::*;

    #[test]
    fn an_older_coordinator_is_told_from_one_that_forbids() {
        for said in [Status::unimplemented("no such call"), Status::permission_denied("no such call")] {
            assert!(is_unknown_call(&said), "{said:?}");
            assert_eq!(of_status(&said, "c:7443").code, Code::Protocol.as_str());
        }
        assert!(!is_unknown_call(&Status::permission_denied("a host may not do what operators do")));
    }

    #[test]
    fn tls_and_tcp_errors_are_said_in_plain_words() {
        for (text, code) in [
            ("transport error: received fatal alert: CertificateExpired", "certificate-expired"),
            ("received fatal alert: CertificateRevoked", "revoked"),
            ("received fatal alert: UnknownCA", "certificate"),
            ("invalid peer certificate: UnknownIssuer", "wrong-coordinator"),
            (
                "invalid peer certificate: certificate not valid yet: verification time 1795178436 (UNIX), but …",
                "coordinator-certificate",
            ),
            ("unexpected error: the coordinator is not the one …: its CA has another fingerprint", "wrong-coordinator"),
            ("tcp connect error: Connection refused (os error 111)", "connect"),
        ] {
            assert_eq!(of_connection(text, "c:7443").map(|f| f.code), Some(code), "{text}");
        }
        assert_eq!(of_connection("something else", "c:7443"), None);
    }

    #[test]
    fn codes_come_with_hints_and_are_never_retried() {
        let status = drover_proto::code::status(Code::PlanChanged, "host web-1 changed");
        let fault = of_status(&status, "c:7443");
        assert_eq!((fault.code, fault.message.as_str()), ("plan-changed", "host web-1 changed"));
        assert!(fault.hint.unwrap().contains("drover plan"));
        assert!(!is_lost_connection(&drover_proto::code::status(Code::HostOffline, "gone")));
        assert!(is_lost_connection(&Status::unavailable("transport error")));
        assert!(!is_lost_connection(&Status::unavailable("received fatal alert: CertificateRevoked")));
        assert!(!is_lost_connection(&Status::not_found("x")));
    }

    #[tokio::test]
    async fn nobody_listening_is_said_so() {
        drover_proto::tls::install();
        // Bound and dropped at once: nothing listens there any more.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let trust = drover_proto::tls::Trust::Fingerprint(drover_proto::digest::Digest::of(b"ca"));
        let config = drover_proto::tls::client_config(&trust, None).unwrap();
        let error = drover_proto::tls::dial(&address, config).await.unwrap_err();
        assert_eq!(of_dial(&error, &address).message, format!("nothing listens at {address}"));
    }
}
