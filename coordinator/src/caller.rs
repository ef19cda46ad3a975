//! Who is calling, read from the certificate that `listen` has verified and from nothing else. `rpc` asks it of every
//! request; whether the caller is still welcome is the store's to say.

use std::net::SocketAddr;

use drover_proto::{
    name::{HostId, OperatorName},
    tls::{HOST_URI_PREFIX, OPERATOR_URI_PREFIX},
};
use tokio_util::sync::CancellationToken;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// What a connection's certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Caller {
    /// No certificate: may only enrol or log in.
    Anonymous,
    /// An enrolled host.
    Host {
        /** Which. */
        id: HostId,
        /** Of its certificate, lower-case hex. */
        serial: String,
    },
    /// A person.
    Operator {
        /** Who. */
        name: OperatorName,
        /** Of the certificate, lower-case hex. */
        serial: String,
    },
}

/// The other end of a connection: tonic puts it into each request's extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who.
    pub caller: Caller,
    /// From where.
    pub address: SocketAddr,
    /// Cancelled, the connection is cut.
    pub line: CancellationToken,
    /// Cancelled when the certificate was found to be good no more: the connection is cut once the answer is there.
    pub refused: CancellationToken,
}

/// A certificate of our CA that names nobody. That cannot happen unless the CA is misused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the certificate names neither one host nor one operator")]
pub struct NobodyError;

impl Caller {
    /// Reads a certificate (DER) that has been verified already: exactly one URI, in one of our two forms.
    pub fn from_certificate(der: &[u8]) -> Result<Self, NobodyError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| NobodyError)?;
        let names = certificate.subject_alternative_name().map_err(|_| NobodyError)?.ok_or(NobodyError)?;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return Err(NobodyError) };
        let serial = serial_hex(certificate.raw_serial());
        if let Some(id) = uri.strip_prefix(HOST_URI_PREFIX) {
            Ok(Self::Host { id: id.parse().map_err(|_| NobodyError)?, serial })
        } else if let Some(name) = uri.strip_prefix(OPERATOR_URI_PREFIX) {
            Ok(Self::Operator { name: name.parse().map_err(|_| NobodyError)?, serial })
        } else {
            Err(NobodyError)
        }
    }
}

/// A serial number as the store keeps it; DER may put a zero byte before it.
#[must_use]
pub fn serial_hex(bytes: &[u8]) -> String {
    hex::encode(bytes.strip_prefix(&[0]).unwrap_or(bytes))
}
