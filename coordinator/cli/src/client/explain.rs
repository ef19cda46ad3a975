//! Why a connection was closed right away. In TLS 1.3 a server refuses a client's certificate only after the client has
//! finished its handshake, so the first call may see nothing but a closed connection. Then this looks once more, with
//! nothing but TLS, and reads the alert. Called by `cmd` when a command failed without a reason.

use std::{
    io::Read as _,
    net::{TcpStream, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use drover_proto::tls::{self, Trust};
use rustls::{ClientConnection, pki_types::ServerName};

use super::{credentials, error};
use crate::fault::{Fault, Word};

const PATIENCE: Duration = Duration::from_secs(3);

/// The same fault, or a better one when TLS says why.
pub async fn explain(fault: Fault) -> Fault {
    if fault.code != Word::ConnectionLost.as_str() {
        return fault;
    }
    // A thread that panicked or was cancelled explains nothing.
    tokio::task::spawn_blocking(look).await.ok().flatten().unwrap_or(fault)
}

fn look() -> Option<Fault> {
    let credentials = credentials::load(&credentials::own_directory().ok()?).ok()?;
    let address = credentials.config.coordinator;
    let config = tls::client_config(&Trust::Roots(credentials.ca_ders), Some(&credentials.identity)).ok()?;
    let name = ServerName::try_from(tls::SERVER_NAME).ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut tcp = TcpStream::connect_timeout(&address.to_socket_addrs().ok()?.next()?, PATIENCE).ok()?;
    tcp.set_read_timeout(Some(PATIENCE)).ok()?;
    tcp.set_write_timeout(Some(PATIENCE)).ok()?;
    // A server that accepts begins HTTP/2 by itself, so there is something to read either way.
    let refused = rustls::Stream::new(&mut connection, &mut tcp).read(&mut [0; 1]).err()?;
    error::of_connection(&refused.to_string(), &address)
}
